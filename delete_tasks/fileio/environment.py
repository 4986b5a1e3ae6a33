"""Code, packages and machine of a run, without the names of the machine and its user."""

import contextlib
import functools
import math
import os
import platform
import re
import resource
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution, entry_points, version
from pathlib import Path
from typing import Any

import torch


@functools.cache
def code_version() -> dict[str, Any]:
    """Find the version of the package and, in a git checkout, the commit and whether files differ from it."""
    try:
        installed: str | None = version("delete-tasks")
    except PackageNotFoundError:
        installed = None
    root = Path(__file__).resolve().parents[2]
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    changed = None if commit is None else bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    return {"package": "delete-tasks", "version": installed, "commit": commit, "changed_since_commit": changed}


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def environment(device: torch.device) -> dict[str, Any]:
    """Describe Python, the system, the processor and the versions of packages."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "packages": _packages(),
    }


@functools.cache
def _packages() -> dict[str, str]:
    """Find the versions of the installed packages that the distributions with a task, this one included, require."""
    with_tasks = [point.dist for point in entry_points(group="delete_tasks.tasks") if point.dist is not None]
    versions = {}
    for requirement in {line for package in with_tasks for line in package.requires or ()}:
        name = re.match(r"[\w.-]+", requirement)
        with contextlib.suppress(PackageNotFoundError):
            if name and "extra == 'dev'" not in requirement.replace('"', "'"):
                required = distribution(name[0])
                versions[required.metadata["Name"]] = required.version
    return dict(sorted(versions.items()))


def peak_memory_mb() -> int:
    """Return the peak memory in MB of the GPU if it was used, else of the process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def plain(value: Any) -> Any:
    """Convert a config value to JSON: mappings, lists and scalars stay, nan and infinity become None, other values text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
