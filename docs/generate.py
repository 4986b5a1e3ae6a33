"""Parts of the reference that are made from the code: options, config keys, metrics, keys of results.json, docstrings.

``python docs/generate.py`` writes them into the pages, between ``<!-- generate: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

ROLE = re.compile(r":(?:func|class|data|meth|mod|attr):`~?")  # of reStructuredText, which docstrings use
PROPERTIES = (property, functools.cached_property)
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
    flag, values = (
        getattr(param, "is_flag", False),
        f"`{param.make_metavar(context)}`".replace("|", "/"),
    )  # a bar ends a cell
    names = [f"`{name}`" for name in (*param.opts, *param.secondary_opts) if name.startswith("-")]
    said, plain = DEFAULT.search(param.help or ""), isinstance(param.default, (str, int, float)) and not flag
    default = "required" if param.required else text(said[1]) if said else f"`{param.default}`" if plain else ""
    words = getattr(param.type, "words", "")
    span = f" {words.capitalize()}." if words.startswith("a number") else ""
    return [" ".join(names if flag else [*names, values]), default, text(DEFAULT.sub("", param.help or "") + span)]


def config() -> str:
    """Keys of ``unlearn``: the run's, those of all methods, and each method's own."""
    from mmengine.registry import HOOKS

    import delete_backdoor.defences  # noqa: F401 - registers methods
    import delete_detection.method  # noqa: F401 - registers methods
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
            base = f" Also takes the keys of {above[0]}." if above else ""
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


def api(*names: str) -> str:
    """Docstrings of objects, or of what modules define: all that is public, or ``MODULE:NAME,NAME``."""
    parts = []
    for name in names:
        place, _, chosen = name.partition(":")
        try:
            owner: Any = importlib.import_module(place)
        except ModuleNotFoundError:
            module, _, attribute = place.rpartition(".")
            parts += entry(attribute, getattr(importlib.import_module(module), attribute), 2)
            continue
        mine = (key for key, value in vars(owner).items() if getattr(value, "__module__", None) == place)
        members = chosen.split(",") if chosen else [key for key in mine if not key.startswith("_")]
        parts += [f"## {place}\n", prose(owner.__doc__ or "")]
        parts += [line for key in members for line in entry(key, getattr(owner, key), 3)]
    return "\n".join(parts)


def entry(name: str, member: Any, level: int) -> Iterator[str]:
    """Heading, signature without types, and docstring of a function or class, and of its public methods."""
    doc = member.__doc__  # its own: inherited ones are of libraries
    if not doc or not (callable(member) or isinstance(member, PROPERTIES)):
        return
    yield f"{'#' * level} {name}\n"
    if callable(member) and not (inspect.isclass(member) and issubclass(member, Exception)):
        signature = inspect.signature(member)
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name not in ("self", "cls")]
        called = f"{name.rpartition('.')[2]}{signature.replace(parameters=bare, return_annotation=signature.empty)}"
        called = re.sub(r"<(?:function|class) '?([\w.]+)[^>]*>", r"\1", called)
        yield f"```text\n{textwrap.fill(called, 100, subsequent_indent='    ', break_long_words=False)}\n```\n"
    yield prose(doc)
    for key, value in vars(member).items() if inspect.isclass(member) else ():
        if not key.startswith("_") and (inspect.isroutine(value) or isinstance(value, PROPERTIES)):
            yield from entry(f"{name}.{key}", getattr(member, key), min(level + 1, 4))


def prose(doc: str) -> str:
    """A docstring as Markdown: sections become lists, examples code."""

    def section(match: re.Match[str]) -> str:
        title, body = match[1], textwrap.dedent(match[2]).strip()
        if title.startswith("Example"):
            return f"**{title}:**\n\n```python\n{body}\n```\n\n"
        if title in ("Returns", "Yields"):
            return f"**{title}:** {body}\n\n"
        items = re.findall(r"^(\S[^:\n]*): ((?:.*\n?)(?: +.*\n?)*)", body, re.M)
        return f"**{title}:**\n\n" + "".join(f"- `{name}`: {' '.join(words.split())}\n" for name, words in items) + "\n"

    titles = "Args|Attributes|Raises|Returns|Yields|Examples?"
    plain = re.sub(r"``+", "`", ROLE.sub("`", f"{inspect.cleandoc(doc)}\n"))
    plain = re.sub(rf"^({titles}):\n((?:(?: +.*)?\n)+)", section, plain, flags=re.M)
    return re.sub(r"::$", ":", plain, flags=re.M).strip() + "\n"


PARTS = {"cli": cli, "config": config, "metrics": metrics, "results": results, "api": api}
MARKER = re.compile(r"^(<!-- generate: (\w+)(.*?) -->)$.*?^<!-- end -->$", re.M | re.S)


def render(page: str) -> str:
    """A page with its generated parts as the code is now."""
    return MARKER.sub(lambda match: f"{match[1]}\n\n{PARTS[match[2]](*match[3].split()).strip()}\n\n<!-- end -->", page)


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.rglob("*.md")):
        before = path.read_text(encoding="utf-8")
        if render(before) != before:
            path.write_text(render(before), encoding="utf-8")
            print(f"Written: {path}")
