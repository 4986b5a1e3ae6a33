"""What the classes in files declare, read without running the files: help lists them without torch, or an extra."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Declared:
    """A class, as its file writes it or as it is.

    Attributes:
        help: The first line of its docstring.
        parameters: Of its constructor, without ``self``. Annotations are text, such as ``'str | None'``.
        values: Attributes that are plain values, of its bases, too.
        decorators: Each decorator and the texts that it is called with: ``{'register_trigger': ('badnets',)}``; none where the
            class is loaded.
        bases: Names of the classes that it is made from, directly or not.
    """

    help: str
    parameters: Mapping[str, inspect.Parameter]
    values: Mapping[str, Any]
    decorators: Mapping[str, tuple[str, ...]]
    bases: frozenset[str]


def describe(cls: Any) -> Declared:
    """A class that is loaded."""
    found = {}
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        written = parameter.annotation
        text = written if isinstance(written, str) else inspect.formatannotation(written)
        found[name] = parameter.replace(annotation=text)
    bases = frozenset(base.__name__ for base in cls.__mro__[1:])
    return Declared(_first_line(cls.__doc__), found, {name: getattr(cls, name) for name in dir(cls)}, {}, bases)


def read_declared(folder: Path) -> dict[str, Declared]:
    """The classes at the top of a folder's .py files, by name; of a base from elsewhere no more than its name is known."""
    trees = (ast.parse(file.read_bytes()) for file in sorted(folder.glob("*.py")))
    nodes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    found: dict[str, Declared] = {}

    def read(node: ast.ClassDef) -> Declared:
        if node.name not in found:
            bases = [ast.unparse(base) for base in node.bases]
            above = [read(nodes[base]) for base in bases if base in nodes]
            values = {name: value for base in reversed(above) for name, value in base.values.items()}
            parameters: Mapping[str, inspect.Parameter] = above[0].parameters if above else {}
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    parameters = _parameters(item.args)
                elif isinstance(item, (ast.Assign, ast.AnnAssign)) and _is_literal(item.value):
                    target = item.targets[0] if isinstance(item, ast.Assign) else item.target
                    values[ast.unparse(target)] = ast.literal_eval(item.value)  # type: ignore[arg-type]
            decorators = {
                ast.unparse(call.func): tuple(
                    word.value for word in call.args if isinstance(word, ast.Constant) and isinstance(word.value, str)
                )
                for call in node.decorator_list
                if isinstance(call, ast.Call)
            }
            names = frozenset(bases).union(*(base.bases for base in above))
            found[node.name] = Declared(_first_line(ast.get_docstring(node)), parameters, values, decorators, names)
        return found[node.name]

    return {name: read(node) for name, node in nodes.items()}


def _parameters(args: ast.arguments) -> dict[str, inspect.Parameter]:
    positional = [*args.posonlyargs, *args.args][1:]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    pairs = [
        *zip(positional, [*missing, *args.defaults], strict=True),
        *zip(args.kwonlyargs, args.kw_defaults, strict=True),
    ]
    return {
        given.arg: inspect.Parameter(
            given.arg,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if default is None else _value(default),
            annotation="" if given.annotation is None else ast.unparse(given.annotation),
        )
        for given, default in pairs
    }


def _value(written: ast.expr) -> Any:
    """The value; of what is no literal, as it is written."""
    return ast.literal_eval(written) if _is_literal(written) else ast.unparse(written)


def _is_literal(value: ast.expr | None) -> bool:
    try:
        ast.literal_eval(value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
    return True


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]
