"""The errors a user can cause. Each message says what came, what was expected and the fix."""

import errno
import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

LISTED = 10  # names in a message
LONGEST = 80  # characters of a name in a message; class names can come from any file


class RequestError(ValueError):
    """A request that cannot be carried out as it was written (unknown class, empty forget set, ...)."""


class UnsupportedModelError(TypeError):
    """A model that has no per-location class logits, or whose outputs cannot be told apart."""


class UnsafeCheckpointError(RuntimeError):
    """A checkpoint that cannot be read without running code from it."""


class CheckpointMismatchError(RuntimeError):
    """Weights that do not fit the model, or a teacher that is not the one a run began with."""


class OutputError(OSError):
    """A file or folder that cannot be written: the disk is full, read-only, or something else is in its place."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the message names the ``pip install`` to run."""


OWN_ERRORS = (RequestError, UnsupportedModelError, UnsafeCheckpointError, CheckpointMismatchError)
USER_ERRORS = (*OWN_ERRORS, OSError)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def not_written(path: Path, error: OSError, size: int = 0) -> OutputError:
    """Return the error of a file that cannot be written. If the disk is full, it says how much is free, and needed: ``size``, in
    bytes, if that is known."""
    text = f"cannot write '{path}': {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        there = next(part for part in path.resolve().parents if part.exists())
        needed = f"about {max(size / 2**20, 0.1):.1f} MiB are needed, " if size else ""
        text += (
            f" ({needed}{shutil.disk_usage(there).free / 2**20:.1f} MiB are free); make room, or give another folder"
        )
    return OutputError(text)


def list_names(names: Sequence[str], most: int = LISTED, separator: str = ", ", longest: int | None = LONGEST) -> str:
    """Join the first ``most`` names, each cut after ``longest`` characters (None: whole), and say how many more there are."""
    more = [f"... and {len(names) - most} more"] if len(names) > most else []
    return separator.join([*(shorten(name, longest) for name in names[:most]), *more])


def shorten(name: str, longest: int | None = LONGEST) -> str:
    """Cut a name after ``longest`` characters; None leaves it whole."""
    return name if longest is None or len(name) <= longest else f"{name[:longest]}..."


def require(module: str, extra: str) -> ModuleType:
    """Import ``module``, or say which extra of this package brings it.

    Args:
        module: Import name, e.g. ``'mmseg'``.
        extra: The extra of delete-tasks that installs it, e.g. ``'segmentation'``.

    Raises:
        MissingExtraError: The module, or something it needs, cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if _opencv_does_not_load():
            raise MissingExtraError(
                f"cannot import {module}: {error}. The installed OpenCV cannot be loaded here (opencv-python needs libGL and X "
                "libraries of the system); run: pip install --force-reinstall --no-deps opencv-python-headless"
            ) from error
        raise MissingExtraError(
            f"cannot import {module} ({error}), which the '{extra}' part of delete-tasks needs; run: "
            f"pip install 'delete-tasks[{extra}]'"
        ) from error


def _opencv_does_not_load() -> bool:
    """Return True if OpenCV is installed and a library that it needs is missing."""
    try:
        importlib.import_module("cv2")
    except ModuleNotFoundError:
        return False
    except ImportError:
        return True
    return False
