"""Networks with random weights, built from a name and JSON arguments without fetching or reading a file; and the last linear
layer of any classifier, found by shape."""

import difflib
import importlib.util
import inspect
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import MissingExtraError, RequestError, UnsupportedModelError, first_line, require
from delete_tasks.model.head import ClassLayer
from delete_tasks.plugins import import_offered, offered

Builder = Callable[..., nn.Module]

GROUP = "architectures"  # entry points: delete_tasks.architectures
ARCHITECTURES: dict[str, Builder] = {}
"""Registered builders by name; each takes ``num_classes`` and keyword arguments. Names of torchvision, timm and the entry point
group ``delete_tasks.architectures`` are resolved in :func:`build`, so that importing this module stays cheap."""

LISTED = 10  # with which the parameters of registered architectures are counted
TIMM, TRANSFORMERS = "timm:", "transformers:"
STEMS = ("imagenet", "cifar")  # of torchvision's networks
# Arguments with which torchvision, timm and transformers fetch or read files; a model.json must not set them.
_FILE_ARGUMENTS = ("weights", "pretrained", "checkpoint", "cache_dir", "use_pretrained")


def register(name: str) -> Callable[[Builder], Builder]:
    """Make a decorator that registers a builder, called with ``num_classes`` and keywords, under a new name without a colon."""

    def add(builder: Builder) -> Builder:
        if ":" in name or name in ARCHITECTURES:
            raise RequestError(f"architecture '{name}': the name is taken or holds a ':'; choose another")
        ARCHITECTURES[name] = builder
        return builder

    return add


def is_import_path(architecture: str) -> bool:
    """Return True if an architecture is ``package.module:Class`` rather than a registered name."""
    return ":" in architecture and not architecture.startswith((TIMM, TRANSFORMERS))


def import_and_call(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Make a network by calling ``package.module:Class``, which runs the module's code; raises RequestError if that fails."""
    module_name, _, attribute = path.partition(":")
    try:
        factory = operator.attrgetter(attribute)(importlib.import_module(module_name))
    except (ImportError, AttributeError, ValueError) as error:
        raise RequestError(
            f"cannot import architecture '{path}': {error}. Expected 'package.module:Class', its folder on PYTHONPATH"
        ) from error
    if not callable(factory):
        raise RequestError(f"architecture '{path}' is a {type(factory).__name__}; expected a class or function")
    try:
        model = factory(**arguments)
    except TypeError as error:
        raise RequestError(f"architecture '{path}' cannot be built with {dict(arguments)}: {error}") from error
    if not isinstance(model, nn.Module):
        raise RequestError(f"architecture '{path}' returned a {type(model).__name__}; expected a torch.nn.Module")
    return model


def torchvision_names() -> list[str]:
    """List torchvision's classifiers."""
    models = require("torchvision.models", "images")
    return list(models.list_models(module=models))


def architecture_names() -> list[str]:
    """List the names that :func:`build` accepts, without timm's (``timm:NAME``), which are over a thousand."""
    return sorted({*ARCHITECTURES, *offered(GROUP), *torchvision_names()})


def unknown_architecture(name: str, known: Iterable[str]) -> RequestError:
    """Make the error for a name that is not among ``known``, with the closest of those."""
    known = sorted(known)
    name = name if len(name) <= 200 else f"{name[:200]}..."
    plain = name.removeprefix("torchvision.").removeprefix(TIMM)
    close = difflib.get_close_matches(plain, known, n=5, cutoff=0.5)
    hint = f"closest: {', '.join(close)}" if close else f"known: {', '.join(known[:12])}, ..."
    return RequestError(
        f"unknown architecture '{name}'; {hint}. Expected a registered name, torchvision's, 'timm:NAME', "
        "'transformers:MODEL_TYPE', or an import path 'package.module:Class'; `delete-tasks images architectures` lists them"
    )


def _build_torchvision(name: str, num_classes: int, stem: str = "imagenet", **arguments: Any) -> nn.Module:
    """Build torchvision's model; refuse an unknown stem, or one that the family lacks. With the stem ``'cifar'`` a ResNet has a
    first convolution of 3x3 with stride 1 and no max pool; a VGG has a single linear layer on 1x1 maps after its features."""
    if stem not in STEMS:
        raise RequestError(f"unknown stem '{stem}' for {name}; choose one of: {', '.join(STEMS)}")
    models = require("torchvision.models", "images")
    if name in ("googlenet", "inception_v3"):
        arguments.setdefault("aux_logits", False)  # one set of logits, as for other models
        arguments.setdefault("init_weights", True)  # torchvision's default, which warns unless it is explicit
    model = models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    if stem == "imagenet":
        return model
    if isinstance(model, models.ResNet):
        model.conv1 = nn.Conv2d(3, model.conv1.out_channels, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    elif isinstance(model, models.VGG):
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        model.classifier = nn.Linear(512, num_classes)
    else:
        raise RequestError(f"{name} has no stem 'cifar' (ResNets and VGGs do); leave stem out, and enlarge the images")
    return model


def library(package: str, name: str) -> Any:
    """Import a package that no extra installs, for an architecture or a folder, ``name``."""
    try:
        return require(package, "images")
    except MissingExtraError as error:
        raise MissingExtraError(f"'{name}' needs {package} ({error.__cause__}); run: pip install {package}") from error


def _build_transformers(transformers: Any, kind: str, num_classes: int, **config: Any) -> nn.Module:
    """Build the image classifier of a ``model_type`` from the fields of its configuration, on transformers' own code alone."""
    described = transformers.AutoConfig.for_model(kind, num_labels=num_classes, **config)
    return transformers.AutoModelForImageClassification.from_config(described, trust_remote_code=False)


def builder_of(name: str) -> Builder:
    """Find the builder of a name; raises as :func:`build`."""
    if name in ARCHITECTURES or import_offered("architecture", name, GROUP, ARCHITECTURES):
        return ARCHITECTURES[name]
    if name.startswith(TRANSFORMERS):
        return partial(_build_transformers, library("transformers", name), name.removeprefix(TRANSFORMERS))
    if name.startswith(TIMM):
        timm = library("timm", name)
        plain = name.removeprefix(TIMM).partition(".")[0]  # without the tag of weights, as in resnet18.a1_in1k
        if plain not in timm.list_models():  # also refuses 'hf-hub:...' and 'local-dir:...'
            raise unknown_architecture(name, timm.list_models())
        return partial(timm.create_model, name.removeprefix(TIMM), pretrained=False)
    plain = name.removeprefix("torchvision.")
    if plain in torchvision_names():
        return partial(_build_torchvision, plain)
    raise unknown_architecture(name, architecture_names())


def builder_arguments(builder: Builder) -> tuple[str, ...]:
    """List the arguments of a builder, without the number of classes."""
    return tuple(key for key in inspect.signature(builder).parameters if key not in ("num_classes", "arguments"))


def check_arguments(what: str, builder: Builder, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a builder does not take; ``what`` names it in the message."""
    try:
        inspect.signature(builder).bind(**arguments)
    except TypeError as error:
        takes = ", ".join(builder_arguments(builder)) or "no arguments"
        raise RequestError(f"{what}: {error}; it takes: {takes}") from error


def build(name: str, *, num_classes: int, **arguments: Any) -> nn.Module:
    """Build a classifier with random weights: a module in training mode that maps float images (N, 3, H, W) to logits (N, C),
    C = ``num_classes``; one of transformers to an output with ``logits``. (GoogLeNet and Inception with ``aux_logits=True``
    return more while training, as in torchvision.)

    The name is a registered one (``'cifar_resnet20'``), one of torchvision with or without the prefix ``torchvision.``
    (``'resnet18'``), ``'timm:NAME'`` or ``'transformers:MODEL_TYPE'``; a registered name takes precedence over torchvision's.
    ``arguments`` are the builder's, e.g. ``stem='cifar'`` for torchvision's ResNets, or the fields of a transformers config.
    Refuse an unknown name (the message lists the closest), an unknown or file-reading argument, and fewer than two classes;
    raise MissingExtraError if the name's library is not installed.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise RequestError(f"architecture '{name}' was given {num_classes!r} classes; expected an integer of 2 or more")
    reading = [key for key in arguments if key.startswith(_FILE_ARGUMENTS)]
    if reading:
        raise RequestError(
            f"architecture '{name}' was given '{reading[0]}', which would fetch or read other weights; leave it out and "
            "import the weights file instead"
        )
    builder = builder_of(name)
    check_arguments(f"architecture '{name}'", builder, {"num_classes": num_classes, **arguments})
    try:
        return builder(num_classes=num_classes, **arguments)
    except (RequestError, MissingExtraError):
        raise
    except Exception as error:  # any kind, since a model.json may hold any arguments
        raise RequestError(
            f"architecture '{name}' cannot be built with {reprlib.repr(arguments)}: {first_line(error)[:500]}; correct them"
        ) from error


def list_architectures(pattern: str | None = None) -> list[str]:
    """List registered architectures, torchvision's and, for a pattern, timm's. Raises RequestError if none contains it."""
    for name in offered(GROUP):
        builder_of(name)  # registers it
    names = [*sorted(ARCHITECTURES), *(name for name in torchvision_names() if name not in ARCHITECTURES)]
    listed = require("timm", "images").list_models() if importlib.util.find_spec("timm") else []
    timm = [f"timm:{name}" for name in listed]
    lines = [line for name in names if (pattern or "").lower() in name for line in _lines(name)]
    if pattern is None:
        return [
            *lines,
            "",
            "Parameters with 10 classes, torchvision's with 1,000.",
            "torchvision's ResNets and VGGs take stem=cifar, for images of 32 pixels.",
            f"Also: {f'{len(timm)} of timm' if timm else 'timm, once installed'} (timm:NAME), transformers (transformers:TYPE),",
            "and package.module:Class, with --allow-import.",
        ]
    lines += [name for name in timm if pattern and pattern.lower() in name.lower()]
    if not lines:
        raise unknown_architecture(pattern, architecture_names())
    return lines


def _lines(name: str) -> list[str]:
    """Describe an architecture: name and number of parameters; and a second line for its arguments."""
    arguments: tuple[str, ...] = ()
    if name in ARCHITECTURES:
        with torch.device("meta"):
            model = ARCHITECTURES[name](num_classes=LISTED)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        arguments = builder_arguments(ARCHITECTURES[name])
    else:
        parameters = next(iter(require("torchvision.models", "images").get_model_weights(name))).meta["num_params"]
    takes = [f"    --arguments: {', '.join(arguments)}"] if arguments else []
    return [f"{name:<19} {parameters / 1e6:>7.1f} M", *takes]


def _is_linear_map(module: nn.Module) -> bool:
    # By shape rather than by class, to include cosine heads and timm's linear layers.
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return False
    return weight.dim() == 2 or (weight.dim() == 4 and weight.shape[2:] == (1, 1) and getattr(module, "groups", 1) == 1)


def classifier_of(model: nn.Module, num_classes: int | None = None) -> ClassLayer:
    """Find the layer that gives the logits: the last in order of registration whose output size is ``num_classes``: a linear
    layer, 1x1 convolution (SqueezeNet) or module whose ``weight`` is (C, D). Without ``num_classes`` it is the last matrix-shaped
    layer or else 1x1 convolution. Raise UnsupportedModelError, with the last few candidates, if there is no such layer."""
    candidates: Any = [ClassLayer(name, module) for name, module in model.named_modules() if _is_linear_map(module)]
    if num_classes is None:
        matches = [layer for layer in candidates if layer.module.weight.dim() == 2] or candidates
    else:
        matches = [layer for layer in candidates if len(layer.module.weight) == num_classes]
    if matches:
        return matches[-1]
    shapes = [(layer.name, *layer.module.weight.shape[:2]) for layer in candidates[-5:]]
    listed = ", ".join(f"{name} ({features} -> {classes})" for name, classes, features in shapes)
    wanted = "" if num_classes is None else f" with {num_classes} outputs"
    raise UnsupportedModelError(
        f"{type(model).__name__} has no linear layer{wanted} that could be its classifier; candidates: {listed or 'none'}. "
        "Check the number of classes, or give the model a linear last layer"
    )
