"""Errors that a user can cause. Each message states what was given, what was expected and the fix."""

import difflib
import errno
import importlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

LISTED = 10  # names in a message
LONGEST = 80  # characters of a name in a message; class names may come from any file


class RequestError(ValueError):
    """Invalid request, e.g. an unknown class or an empty forget set."""


class FinishedError(RequestError):
    """Request to resume a run that is finished; nothing is changed, and the command succeeds."""


class UnsupportedModelError(TypeError):
    """Model without class logits per location, or with outputs that cannot be distinguished."""


class UnsafeCheckpointError(RuntimeError):
    """Checkpoint that cannot be loaded without running code from it."""


class CheckpointMismatchError(RuntimeError):
    """Weights that do not fit the model, or a teacher other than the one that a run began with."""


class OutputError(OSError):
    """File or folder that cannot be written: the disk is full or read-only, or the path is taken."""


class MissingExtraError(ImportError):
    """Missing optional dependency; the message names the ``pip install`` to run."""


OWN_ERRORS = (RequestError, UnsupportedModelError, UnsafeCheckpointError, CheckpointMismatchError)
USER_ERRORS = (*OWN_ERRORS, OSError)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def not_written(path: Path, error: OSError, size: int = 0) -> OutputError:
    """Make the error of a file that cannot be written; on a full disk it states the free and, if known, the required ``size``."""
    text = f"cannot write '{path}': {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(next(part for part in path.resolve().parents if part.exists())).free
        needed = f"about {max(size / 2**20, 0.1):.1f} MiB are needed, " if size else ""
        text += f" ({needed}{free / 2**20:.1f} MiB are free); free some space, or give another folder"
    return OutputError(text)


def list_names(names: Sequence[str], most: int = LISTED, separator: str = ", ", longest: int | None = LONGEST) -> str:
    """Join the first ``most`` names, each cut as by :func:`shorten`, and the number of further names."""
    more = [f"... and {len(names) - most} more"] if len(names) > most else []
    return separator.join([*(shorten(name, longest) for name in names[:most]), *more])


def shorten(name: str, longest: int | None = LONGEST) -> str:
    """Cut a name after ``longest`` characters; None keeps all."""
    return name if longest is None or len(name) <= longest else f"{name[:longest]}..."


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """End a sentence with a question about the closest of the names, ``; did you mean 'name'?``, or with a full stop."""
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else "."


def require(module: str, extra: str) -> ModuleType:
    """Import ``module`` (e.g. ``'mmseg'``), which an ``extra`` of delete-tasks (e.g. ``'segmentation'``) installs; raise
    :class:`MissingExtraError` if it, or a module that it requires, cannot be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if _opencv_does_not_load():
            raise MissingExtraError(
                f"cannot import {module}: {error}. The installed OpenCV cannot be loaded here (opencv-python needs libGL and X "
                "libraries of the system); run: pip install --force-reinstall --no-deps opencv-python-headless"
            ) from error
        reason = f"cannot import {module} ({error}), which the extra '{extra}' of delete-tasks requires"
        raise MissingExtraError(f"{reason}; run: pip install 'delete-tasks[{extra}]'") from error


def _opencv_does_not_load() -> bool:
    """Return True if OpenCV is installed and a library that it needs is missing."""
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        return not isinstance(error, ModuleNotFoundError)
    return False
