"""Code, packages and machine of a run; nothing that names the machine or its user."""

import math
import os
import platform
import re
import resource
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import torch

GROUP = "delete_tasks.tasks"  # of the entry points


def code_version() -> dict[str, Any]:
    """Version of the package and, where it runs from a git checkout, its commit and whether files differ from it."""
    try:
        own: str | None = version("delete-tasks")
    except PackageNotFoundError:
        own = None
    root = Path(__file__).resolve().parents[1]
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    changed = None if commit is None else bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    return {"package": "delete-tasks", "version": own, "commit": commit, "changed_since_commit": changed}


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def environment(device: torch.device) -> dict[str, Any]:
    """Python, system, processor and versions of what computes; nothing that names the machine or its user."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "packages": _packages(),
    }


def _packages() -> dict[str, str]:
    """Versions of the installed packages that this one, and every distribution that brings a task, asks for."""
    installed = {_normal(each.metadata["Name"] or ""): each for each in distributions()}
    found = {}
    for own in installed.values():
        if not any(point.group == GROUP for point in own.entry_points):
            continue
        for requirement in own.requires or ():
            asked = re.match(r"[\w.-]+", requirement)
            needed = installed.get(_normal(asked[0])) if asked else None
            if needed is not None and "extra == 'dev'" not in requirement.replace('"', "'"):
                found[needed.metadata["Name"]] = needed.version
    return dict(sorted(found.items()))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def peak_memory_mb() -> int:
    """Read the peak memory in MB of the GPU if it was used, else of the process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def plain(value: Any) -> Any:
    """Convert any config value to JSON: mappings, lists and scalars stay, everything else becomes text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
