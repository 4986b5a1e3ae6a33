"""The errors a user can cause. Each message says what came, what was expected and the fix."""

from __future__ import annotations

import importlib
from types import ModuleType


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
        if "libGL" in str(error) or "libgthread" in str(error):
            raise MissingExtraError(
                f"cannot import {module}: {error}. An OpenCV built with a GUI lies over the headless one; run: "
                "pip install --force-reinstall --no-deps opencv-python-headless"
            ) from error
        raise MissingExtraError(
            f"cannot import {module} ({error}), which the '{extra}' part of delete-tasks needs; run: "
            f"pip install 'delete-tasks[{extra}]'"
        ) from error
