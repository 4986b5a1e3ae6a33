"""What a record says of the run's surroundings: code, environment, and where the original still is."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..workdir import claimed
from .digests import is_temporary
from .people import Hider

PACKAGES = ("torch", "torchvision", "numpy", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation", "albumentations",
            "opencv-python-headless", "opencv-contrib-python-headless", "scikit-learn",
            "grad-cam", "facenet-pytorch", "safetensors")  # fmt: skip
# Files of a record, which are no residue.
OWN = (
    "record.json",
    "record.html",
    "record.sha256",
    "record.sha256.sig",
    "record.salt",
    "samples.txt",
    "attention.jpg",
)


def code_version() -> dict[str, Any]:
    """Version of the package and, where it runs from a git checkout, its commit and whether files differ from it."""
    try:
        own: str | None = version("delete-tasks")
    except PackageNotFoundError:
        own = None
    root = Path(__file__).resolve().parents[2]
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
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "packages": found,
    }


def residue(folder: Path, original: str, erased: str | None, hider: Hider) -> list[dict[str, Any]]:
    """Where the original, states on the way to the result, and names of what was forgotten still are.

    Args:
        folder: The run's work dir.
        original: The original's file.
        erased: What was published, which is no residue.
        hider: For the paths.

    Returns:
        ``what`` and ``where`` of each, inside the work dir as paths relative to it.
    """
    found = [{"what": "the original model, as it was before", "where": hider.path(original)}]
    owner = claimed(folder)
    passing = owner.passing() if owner is not None else set()
    published = None if erased is None else Path(erased).resolve()
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        inside = published is not None and (path.resolve() == published or published in path.resolve().parents)
        if not is_temporary(path) and (inside or (path.parent == folder and path.name in OWN)):
            continue
        if path.resolve() in passing:
            continue
        found.append({"what": _kind(path), "where": hider.path(path)})
    found.append(
        {"what": "the samples of the forget set, and copies of them in caches", "where": "where they were read from"}
    )
    found.append(
        {
            "what": "copies elsewhere: backups, other machines, models made from the original",
            "where": "not known",
        }
    )
    return found


def _kind(path: Path) -> str:
    if is_temporary(path):
        return "temporary file that a run left when it was stopped, perhaps with weights in it"
    if path.suffix in (".pth", ".pt", ".safetensors"):
        return "state of the run: weights on the way, and the optimizer's state"
    if path.suffix in (".log", ".jsonl") or "vis_data" in path.parts:
        return "log of the run, which names what was forgotten"
    if path.suffix == ".py":
        return "config of the run, which names what was forgotten"
    if path.suffix in (".png", ".jpg"):
        return "picture made from test data"
    return "file of the run, which may name what was forgotten"


def plain(value: Any) -> Any:
    """Any config value as JSON: mappings, lists and scalars stay, the rest becomes text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
