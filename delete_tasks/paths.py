"""Where the configs are that come with the package."""

from __future__ import annotations

from pathlib import Path

from .errors import RequestError


def config_path(name: str) -> Path:
    """Path of a config, e.g. ``'segmentation/cgnet_camvid_forget-car.py'``.

    Raises:
        RequestError: There is no such config; the message lists those there are.
    """
    here = Path(__file__).resolve().parent
    folder = here / "configs" if (here / "configs").is_dir() else here.parent / "configs"  # wheel, or source tree
    if not (folder / name).is_file():
        known = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.py"))
        raise RequestError(f"no config '{name}'; there are: {', '.join(known)}")
    return folder / name
