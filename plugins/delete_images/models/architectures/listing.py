"""List of architectures, a line each, without building large ones."""

import importlib.util

import torch

from delete_tasks.errors import require
from delete_tasks.plugins import offered

from . import registry
from .registry import ARCHITECTURES, architecture_names, builder_arguments, torchvision_names, unknown_architecture

CLASSES = 10  # with which the parameters of registered architectures are counted


def list_architectures(pattern: str | None = None) -> list[str]:
    """List registered architectures, torchvision's and, for a pattern, timm's. Raises RequestError if none contains it."""
    for name in offered(registry.GROUP):
        registry.builder_of(name)  # registers it
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
            model = ARCHITECTURES[name](num_classes=CLASSES)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        arguments = builder_arguments(ARCHITECTURES[name])
    else:
        weights = require("torchvision.models", "images").get_model_weights(name)
        parameters = next(iter(weights)).meta["num_params"]
    takes = [f"    --arguments: {', '.join(arguments)}"] if arguments else []
    return [f"{name:<19} {parameters / 1e6:>7.1f} M", *takes]
