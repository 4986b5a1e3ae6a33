"""List of architectures, a line each, without building large ones."""

import functools
import importlib.util
import inspect
import re
import textwrap
from typing import Any

import torch

from delete_tasks.errors import require
from delete_tasks.plugins import offered

from . import registry
from .registry import ARCHITECTURES, architecture_names, builder_arguments, torchvision_names, unknown_architecture

CLASSES = 10  # with which the parameters of registered architectures are counted
WIDTH = 80  # of a line


def list_architectures(pattern: str | None = None) -> list[str]:
    """List registered architectures, torchvision's and, for a pattern, timm's. Raises RequestError if none contains it."""
    for name in offered(registry.GROUP):
        registry.builder_of(name)  # registers it
    names = [*sorted(ARCHITECTURES), *(name for name in torchvision_names() if name not in ARCHITECTURES)]
    there = importlib.util.find_spec("timm") is not None
    timm = [f"timm:{name}" for name in require("timm", "images").list_models()] if there else []
    if pattern is None:
        return [
            *(line for name in names for line in _lines(name)),
            "",
            "Parameters with 10 classes; torchvision's, named by their papers, with 1,000.",
            "torchvision's ResNets and VGGs take stem=cifar, for images of 32 pixels.",
            f"Also: {f'{len(timm)} of timm' if timm else 'those of timm, once it is installed'} (timm:NAME)",
            "and package.module:Class, with --allow-import.",
        ]
    matches = [name for name in names if pattern.lower() in name]
    lines = [line for name in matches for line in _lines(name)]
    lines += [name for name in timm if pattern and pattern.lower() in name.lower()]
    if not lines:
        raise unknown_architecture(pattern, architecture_names())
    return lines


def _lines(name: str) -> list[str]:
    """Describe an architecture: name, number of parameters, text; and a second line for its arguments."""
    if name in ARCHITECTURES:
        builder: Any = ARCHITECTURES[name]
        with torch.device("meta"):
            model = builder(num_classes=CLASSES)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        text = _first_paragraph(builder.func if isinstance(builder, functools.partial) else builder)
        arguments = builder_arguments(builder)
    else:
        models = require("torchvision.models", "images")
        text = _first_paragraph(models.get_model_builder(name))
        title = re.search(r"`+([^<`]+?)\s*<https?://arxiv", text)
        text = title[1] if title else re.sub(r"`+([^<`]+?)\s*<[^>]*>`+_*", r"\1", text)
        weights = next(iter(models.get_model_weights(name)), None)
        parameters, arguments = weights and weights.meta["num_params"], ()
    size = "" if parameters is None else f"{parameters / 1e6:.1f} M"
    start = f"{name:<19} {size:>7}  "
    text = textwrap.shorten(text, WIDTH - len(start), placeholder="\N{HORIZONTAL ELLIPSIS}")
    takes = [f"    --arguments: {', '.join(arguments)}"] if arguments else []
    return [f"{start}{text}".rstrip(), *takes]


def _first_paragraph(builder: Any) -> str:
    """Put the first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(builder) or "").partition("\n\n")[0].split()).rstrip(".")
