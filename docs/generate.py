"""Parts of the reference that are made from the code: options, config keys, metrics and keys of results.json, as Markdown."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

ROLE = re.compile(r":(?:func|class|data|meth|mod|attr):`~?")  # of reStructuredText, which docstrings use
DEFAULT = re.compile(r" ?\[default: (.*?)\]")


def text(words: object) -> str:
    """Words of the code, as they are, for a cell of a table; code in backticks stays code."""
    plain = ROLE.sub("`", " ".join(str(words or "").split())).replace("``", "`")
    parts = re.split(r"(`[^`]+`)", plain)
    parts[::2] = [re.sub(r"[&<>|*\[\]{}~_]", lambda found: f"&#{ord(found[0])};", part) for part in parts[::2]]
    return "".join(parts)


def table(header: str, rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; ``header`` is separated by commas."""
    head = header.split(", ")
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows]) + "\n"


def commands() -> Iterator[tuple[str, click.Command]]:
    """(words that call it, command) of every command, the installed plugins' included."""
    from delete_tasks.cli.tree import make_root

    root = make_root()
    context = click.Context(root)
    yield "delete-tasks", root
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        for word, child in getattr(command, "commands", {"": command}).items():
            yield f"delete-tasks {name} {word}".rstrip(), child


def cli() -> str:
    """Every command with its options, panel by panel."""
    parts = []
    for words, command in commands():
        context, panels = click.Context(command, info_name=words), dict[str, list[list[str]]]()
        for param in command.params:
            panels.setdefault(getattr(param, "panel", "Options"), []).append(parameter(param, context))
        usage = " ".join([words, *command.collect_usage_pieces(context)])
        parts += [f"## {words}\n", f"{text(command.help)}\n", f"```text\n{usage}\n```\n"]
        parts += [table(f"{panel}, default, what it does", rows) for panel, rows in panels.items()]
    return "\n".join(parts)


def parameter(param: Any, context: click.Context) -> list[str]:
    """A row: name and values, default, help."""
    flag, values = getattr(param, "is_flag", False), f"`{param.make_metavar(context)}`"
    names = [f"`{name}`" for name in param.opts if name.startswith("-")]
    said, plain = DEFAULT.search(param.help or ""), isinstance(param.default, (str, int, float)) and not flag
    default = "required" if param.required else text(said[1]) if said else f"`{param.default}`" if plain else ""
    words = getattr(param.type, "words", "")
    span = f" {words.capitalize()}." if words.startswith("a number") else ""
    return [" ".join(names if flag else [*names, values]), default, text(DEFAULT.sub("", param.help or "") + span)]


def config() -> str:
    """Keys of ``unlearn``: the run's, those of all methods, and each method's own."""
    from mmengine.registry import HOOKS

    import delete_tasks.methods.builtin  # noqa: F401 - registers methods
    from delete_tasks.methods.base import UnlearnHook
    from delete_tasks.request.classes import ForgetRequest
    from delete_tasks.request.recipe import Recipe

    parts = ["## Of every run\n", keys(arguments(Recipe), described(Recipe))]
    parts += ["## Of every method\n", keys(arguments(UnlearnHook), described(UnlearnHook) | described(ForgetRequest))]
    parts += ["## Methods\n", "`type` names the method, as `--method` of the commands does.\n"]
    for name, hook in sorted(HOOKS.module_dict.items()):
        if inspect.isclass(hook) and issubclass(hook, UnlearnHook):
            needs = [
                what for what in ("teacher", "labels", "retain set") if getattr(hook, f"needs_{what.replace(' ', '_')}")
            ]
            above = [cls.__name__ for cls in hook.__mro__[1:] if cls.__name__ in HOOKS.module_dict]
            base = f" Takes the keys of {above[0]}, too." if above else ""
            about = text(re.split(r"[.:](?:\s|$)", inspect.getdoc(hook))[0])
            parts += [f"### {name}\n", f"{about}. Needs: {', '.join(needs) or 'nothing else'}.{base}\n"]
            parts += [keys(arguments(hook), described(hook))] if arguments(hook) else []
    return "\n".join(parts)


def arguments(owner: Any) -> dict[str, Any]:
    """Default by name of the arguments that a class itself adds."""
    own = inspect.signature(vars(owner)["__init__"]).parameters.values() if "__init__" in vars(owner) else ()
    made = {name: field.default_factory for name, field in getattr(owner, "__dataclass_fields__", {}).items()}
    return {
        p.name: made[p.name]() if callable(made.get(p.name)) else p.default for p in own if p.default is not p.empty
    }


def described(owner: type) -> dict[str, str]:
    """What the ``Args:`` or ``Attributes:`` of a class's docstring say, by name."""
    block = re.search(r"^(?:Args|Attributes):\n((?:(?: +.*)?\n)+)", f"{inspect.getdoc(owner)}\n", re.M)
    found = re.findall(r"^ {4}([\w, ]+): ((?:.*\n?)(?: {5,}.*\n?)*)", block[1] if block else "", re.M)
    return {name.strip(): words for names, words in found for name in names.split(",")}


def keys(defaults: Mapping[str, Any], says: Mapping[str, str]) -> str:
    """A table of config keys."""
    rows = [[f"`{name}`", f"`{default!r}`", text(says[name])] for name, default in defaults.items()]
    return table("key, default, what it does", rows)


def metrics() -> str:
    """What each installed task measures."""
    from delete_tasks.plugins import plugin_modules
    from delete_tasks.task import load_task

    parts = []
    for name in sorted(plugin_modules()):
        rows = []
        for m in load_task(name).metrics:
            limit, better = "" if m.limit is None else f"{m.limit:g}", "lower" if m.lower_is_better else "higher"
            rows.append([f"`{m.name}`", text(m.title), m.unit, better, limit, text(m.column)])
        parts += [f"## {name}\n", table("name, what it is, unit, better, default limit, column", rows)]
    return "\n".join(parts)


def results() -> str:
    """Keys of results.json, and of each figure in its rows, from the schema."""
    import delete_tasks.report

    schema = json.loads(Path(delete_tasks.report.__file__).with_name("results.schema.json").read_text())
    tables = []
    for part in (schema["properties"], schema["$defs"]["measured"]["properties"]):
        kinds = {
            name: what.get("type") or [one["type"] for one in what.get("anyOf", [])] for name, what in part.items()
        }
        says = {name: what.get("description") or what.get("const") for name, what in part.items()}
        joined = {
            name: kind if isinstance(kind, str) else " or ".join(kind) or "constant" for name, kind in kinds.items()
        }
        tables.append(
            table("key, type, what it holds", [[f"`{name}`", joined[name], text(says[name])] for name in part])
        )
    return "\nEach figure in `rows` holds:\n\n".join(tables)


PARTS = {"cli": cli, "config": config, "metrics": metrics, "results": results}
