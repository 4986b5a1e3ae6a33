"""Strings that name a trigger, ``NAME[:KEY=VALUE,KEY=VALUE...]``: keys, types and defaults are those of its constructor."""

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

from delete_tasks.plugins import offered

# Types of a trigger's options beside int, float and str.
File = Annotated[str, "name of a file"]
Place = tuple[int, int]  # row and column

GROUP = "triggers"  # of entry points: delete_tasks.triggers
# Every trigger of this package: its options, those with a default in brackets, and its effect on an image x. Help shows them
# without loading the triggers; a test compares them with the constructors.
USAGES = {
    "badnets": (
        "[:size=3,pos=-4,-4,value=255]",
        "a one-coloured square; pos: row,column of its corner, negative from the far edge",
    ),
    "grid": ("[:pos=-3,-3]", "the 3x3 pattern of BadNets"),
    "blended": (":image=FILE[,alpha=0.2]", "(1 - alpha) x + alpha image"),
    "sig": ("[:delta=20,f=6]", "x + delta sin(2 pi j f / W) in column j"),
    "trojan": (":image=FILE[,strength=1]", "x + strength image"),
    "l0": (":image=FILE[,mask=FILE]", "x (1 - mask) + image"),
    "l2": (":image=FILE[,strength=1]", "x + strength image, of the samples' size and signed if a .npy file"),
    "estimated": (":file=FILE", "scale x + shift, in a file of backdoor find"),
    "wanet": ("[:k=4,s=0.5,seed=0]", "a smooth warp"),
}


def _read_place(value: str) -> Place:
    row, column = value.split(",")
    return int(row), int(column)


# Type -> how its text is read, the text that is expected, and its form in help if there is no default.
READERS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "int": (int, "a whole number", "N"),
    "float": (float, "a number", "X"),
    "str": (str, "text", "TEXT"),
    "File": (str, "a file", "FILE"),
    "Place": (_read_place, "ROW,COLUMN", "ROW,COLUMN"),
    "tuple[int, int]": (_read_place, "ROW,COLUMN", "ROW,COLUMN"),
}


def type_of(annotation: Any) -> str:
    """Name the type of an annotation, without ``| None``; :data:`READERS` may lack it."""
    if annotation in (File, File | None):  # written out, they are Annotated[...]
        return "File"
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"^Optional\[(.*)\]$|( \| None)$", r"\1", text)


def parameters_of(trigger: Any) -> dict[str, inspect.Parameter]:
    """List the parameters of a trigger's constructor by name."""
    return dict(list(inspect.signature(trigger.__init__).parameters.items())[1:])


def trigger_table() -> str:
    """Describe every trigger in a paragraph; those of other packages are named, not loaded."""
    others = [f"{name} (of {module})." for name, module in offered(GROUP).items() if name not in USAGES]
    return "\n\n".join([*(f"{name}{options} - {text}." for name, (options, text) in USAGES.items()), *others])
