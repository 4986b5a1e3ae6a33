"""Options that name model folders, data and classes, and options that describe a model, checked before torch is imported."""

import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import click
from click.core import ParameterSource

from delete_tasks.cli.command import File, recipe
from delete_tasks.cli.options import number, whole
from delete_tasks.errors import RequestError
from delete_tasks.fileio.validate import parse_json
from delete_tasks.request.classes import ForgetRequest

from .models.class_names import CLASSES
from .models.spec import ModelSpec, Preprocessing, load_spec


class ModelFolder(File):
    """Model folder, whose description is read."""

    def check(self, text: str, source: str) -> None:
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


def check_classes(model: str, classes: Sequence[str], expect: Sequence[str] = (), **target: Any) -> None:
    """Raise RequestError for a class to forget or to expect, or of ``target`` (``avoid, into``), that a model folder lacks."""
    ForgetRequest(classes, **target).resolve_expected(expect, load_spec(model).classes)


DESCRIPTION: list[click.Option] = [
    recipe("--architecture", metavar="NAME", help="Architecture, e.g. resnet18, cifar_resnet20, package.module:Class."),
    recipe("--arguments", many=True, metavar="KEY=VALUE...", help="Arguments of the architecture, e.g. stem=cifar."),
    recipe("--classes", many=True, metavar="NAME...", help="Class names in order of the logits; or cifar10, cifar100."),
    recipe(
        "--size", type=whole(1, 8192), many=True, default=[32], metavar="N...", help="Input side, or height, width."
    ),
    recipe(
        "--normalization",
        default="imagenet",
        metavar="NAME",
        help="Input normalisation: none, pixels (0 to 255), imagenet, cifar10, cifar100 or half.",
    ),
    recipe("--channels", type=click.Choice(["RGB", "BGR"]), default="RGB", help="Channel order."),
    recipe("--resize", type=click.Choice(["stretch", "crop"]), default="stretch", help="Resizing to the input size."),
    recipe("--crop-fraction", type=number(0, 1, above=True), default=1.0, help="Share of the side that a crop keeps."),
]


def describes_itself(args: SimpleNamespace) -> bool:
    """Return True for a folder of the Hub; refuse options beside it that describe a model, but for its class names."""
    if not os.path.isdir(args.weights):
        return False
    source = click.get_current_context().get_parameter_source
    given = [each.opts[0] for each in DESCRIPTION if source(str(each.name)) is ParameterSource.COMMANDLINE]
    listed = ", ".join(name for name in given if name != "--classes")
    if listed:
        raise RequestError(f"'{args.weights}' states its {listed}; leave that out, or give the weights file in it")
    return True


def read_arguments(pairs: list[str]) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` words; a value that is not JSON is a string."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise RequestError(f"--arguments takes KEY=VALUE; got '{pair}'")
        try:
            arguments[key] = parse_json(value)
        except ValueError:
            arguments[key] = value
    return arguments


def described_spec(args: SimpleNamespace) -> ModelSpec:
    """Make the ModelSpec that the options describe."""
    if not args.architecture or not args.classes:
        raise RequestError("the model is not described: give --architecture and --classes")
    classes = tuple(args.classes)
    if len(classes) == 1:
        classes = CLASSES.get(classes[0], classes)
    if len(args.size) > 2:
        raise RequestError(f"--size takes one side, or height and width; got {len(args.size)} numbers")
    others = {"channels": args.channels, "resize": args.resize, "crop_fraction": args.crop_fraction}
    preprocessing = Preprocessing.named(args.normalization, (args.size[0], args.size[-1]), **others)
    return ModelSpec(args.architecture, classes, preprocessing, read_arguments(args.arguments))
