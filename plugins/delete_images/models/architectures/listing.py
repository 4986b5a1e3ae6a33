"""List of architectures, a line each, without building large ones."""

import functools
import importlib.util
import inspect
import re
import textwrap
from dataclasses import dataclass
from typing import Any

import torch

from delete_tasks.errors import require

from .registry import ARCHITECTURES, architecture_names, torchvision_names, unknown_architecture

CLASSES = 10  # that the parameters of registered ones are counted with


@dataclass(frozen=True)
class Entry:
    """An architecture.

    Attributes:
        name: As ``--architecture`` takes it.
        parameters: With 10 classes; torchvision's, as it says itself, with 1,000. None: not known without building it.
        text: What it is, in words.
        arguments: What ``--arguments`` may give it.
    """

    name: str
    parameters: int | None
    text: str
    arguments: tuple[str, ...] = ()

    def lines(self, width: int = 80) -> list[str]:
        """Write a line of at most ``width`` characters, and another if there are arguments."""
        size = "" if self.parameters is None else f"{self.parameters / 1e6:.1f} M"
        start = f"{self.name:<19} {size:>7}  "
        text = textwrap.shorten(self.text, width - len(start), placeholder="\N{HORIZONTAL ELLIPSIS}")
        takes = [f"    --arguments: {', '.join(self.arguments)}"] if self.arguments else []
        return [f"{start}{text}".rstrip(), *takes]


def entries(pattern: str | None = None) -> list[Entry]:
    """Registered architectures, then torchvision's, then, for a pattern, timm's if it is installed.

    Raises:
        RequestError: No name contains the pattern; the message lists the closest.
    """
    names = [*sorted(ARCHITECTURES), *(name for name in torchvision_names() if name not in ARCHITECTURES)]
    found = [_entry(name) for name in names if pattern is None or pattern.lower() in name]
    timm = _timm_names() if pattern is not None else []
    found += [Entry(f"timm:{name}", None, "") for name in timm if pattern and pattern.lower() in f"timm:{name}".lower()]
    if not found:
        raise unknown_architecture(pattern or "", architecture_names())
    return found


def footer() -> list[str]:
    """Describe what the list leaves out."""
    names = _timm_names()
    timm = f"{len(names)} of timm (timm:NAME)" if names else "timm's, once it is installed (timm:NAME)"
    return [
        "Parameters with 10 classes; torchvision's, named by their papers, with 1,000.",
        "torchvision's ResNets and VGGs take stem=cifar, for images of 32 pixels.",
        f"Also: {timm}",
        "and package.module:Class, with --allow-import.",
    ]


def _entry(name: str) -> Entry:
    if name in ARCHITECTURES:
        builder: Any = ARCHITECTURES[name]
        with torch.device("meta"):
            model = builder(num_classes=CLASSES)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        text = _sentence(builder.func if isinstance(builder, functools.partial) else builder)
        arguments = tuple(
            key for key in inspect.signature(builder).parameters if key not in ("num_classes", "arguments")
        )
        return Entry(name, parameters, text, arguments)
    models = require("torchvision.models", "images")
    text = _sentence(models.get_model_builder(name))
    title = re.search(r"`+([^<`]+?)\s*<https?://arxiv", text)
    weights = next(iter(models.get_model_weights(name)), None)
    return Entry(
        name,
        weights and weights.meta["num_params"],
        title[1] if title else re.sub(r"`+([^<`]+?)\s*<[^>]*>`+_*", r"\1", text),
    )


def _sentence(builder: Any) -> str:
    """Put the first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(builder) or "").partition("\n\n")[0].split()).rstrip(".")


def _timm_names() -> list[str]:
    return list(require("timm", "images").list_models()) if importlib.util.find_spec("timm") else []
