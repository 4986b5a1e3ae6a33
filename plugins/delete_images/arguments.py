"""Types of options that name model folders and data, and class names, checked before torch is imported."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from delete_tasks.cli.command import File
from delete_tasks.errors import RequestError
from delete_tasks.request.classes import ForgetRequest, resolve_expected


class ModelFolder(File):
    """Model folder, whose description is read."""

    def check(self, text: str, source: str) -> None:
        from .models.spec import load_spec

        load_spec(text)


class DataSet(File):
    """Data string: what it names is there, or can be downloaded. ``other`` is the suffix of files that are data as well."""

    def __init__(self, name: str, other: str = "") -> None:
        super().__init__(name)
        self.other = other

    def check(self, text: str, source: str) -> None:
        from .data.strings import parse_spec

        spec = parse_spec(text)
        if not (self.other and os.path.isfile(spec.path or "") and str(spec.path).endswith(self.other)):
            spec.check_place()


MODEL_FOLDER, DATA_SET = ModelFolder("MODEL"), DataSet("DATA")
DATA_HELP = (
    "folder of class folders, .npz file, cifar10[:ROOT] or cifar100[:ROOT] (by default in $DELETE_TASKS_DATA); "
    "'?class=deer&limit=500' selects"
)


def check_given(options: Mapping[str, Any], *names: str) -> None:
    """Raise RequestError if neither ``--config`` nor all options of these names are given."""
    missing = [f"--{name}" for name in names if not options[name]]
    if missing and options["config"] is None:
        *first, last = [f"--{name}" for name in names]
        raise RequestError(f"{', '.join(missing)} missing: give {', '.join(first)} and {last}, or --config")


def check_classes(model: str, classes: Sequence[str], avoid: Sequence[str] = (), expect: Sequence[str] = ()) -> None:
    """Raise RequestError for a class to forget, to avoid or to expect that a model folder lacks."""
    from .models.spec import load_spec

    names = load_spec(model).classes
    resolve_expected(expect, ForgetRequest(classes, avoid=avoid).resolve(names), names)
