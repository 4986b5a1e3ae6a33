"""What every command is made of: options in panels, options with several values, old names, closest matches."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any

import click
from rich_click import RichArgument, RichCommand, RichGroup, RichOption

PANELS = ("Data", "Recipe", "Evaluation", "Record", "Machine")
DATA, RECIPE, EVALUATION, RECORD, MACHINE = PANELS
SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "show_default": True,
    "rich_help_config": {"text_markup": None, "max_width": 120},
}
Run = Callable[[SimpleNamespace], "int | None"]


class File(click.ParamType):
    """A file, a folder, or a word that begins with one: text as it is, which shells complete as a path."""

    name = "path"

    def __init__(self, metavar: str) -> None:
        self.metavar = metavar

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self.metavar if isinstance(param, click.Option) else None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


FILE, DIR, MODEL_FOLDER, DATA_SET = map(File, ("FILE", "DIR", "MODEL", "DATA"))


class _Option(RichOption):
    """An option whose help is made when it is shown."""

    make_help: Callable[[], str]

    @property
    def help(self) -> str:
        return self.make_help()

    @help.setter
    def help(self, _: Any) -> None: ...


def option(
    *names: str, panel: str, many: bool = False, help: str | Callable[[], str] | None = None, **settings: Any
) -> RichOption:
    """An option.

    Args:
        names: ``--name``, and where it differs the name of the value.
        panel: One of :data:`PANELS`.
        many: It takes several words, and may be given several times: ``--classes a b --classes c``.
        help: What it is for; a function, called when help is shown, where that lists what is registered by then.
        settings: As for ``click.Option``.
    """
    if not callable(help):
        return RichOption(names, panel=panel, multiple=many, help=help, **settings)
    made = _Option(names, panel=panel, multiple=many, **settings)
    made.make_help = help
    return made


data, recipe, evaluation, record, machine = (partial(option, panel=panel) for panel in PANELS)


def argument(name: str, *, help: str, **settings: Any) -> RichArgument:
    """A word without an option; ``settings`` as for ``click.Argument``."""
    return RichArgument([name], panel=DATA, help=help, **settings)


def _is_option(word: str) -> bool:
    """Whether a word is an option rather than a value: ``-1`` and a text with a space are values."""
    if not word.startswith("-") or word == "-" or " " in word:
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


class Command(RichCommand):
    """A command whose function gets its options as a namespace, with ``command`` and ``action``, the names it was called by."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if ctx.resilient_parsing else self._spread(ctx, args))

    def _spread(self, ctx: click.Context, words: list[str]) -> list[str]:
        """``--classes a b`` as ``--classes=a --classes=b``: click's own options take a fixed number of words.

        Raises:
            click.UsageError: An option has no value.
        """
        known = {
            name: param for param in self.get_params(ctx) if isinstance(param, click.Option) for name in param.opts
        }
        found: list[str] = []
        place = 0
        while place < len(words):
            word = words[place]
            place += 1
            if word == "--":
                return [*found, *words[place - 1 :]]
            param = known.get(word)
            if param is None or param.is_flag:
                found.append(word)
                continue
            begin = place
            while place < len(words) and not _is_option(words[place]) and (place == begin or param.multiple):
                found.append(f"{word}={words[place]}")
                place += 1
            if place == begin:
                hint = f"; a value that begins with '-' is written {word}=VALUE" if place < len(words) else ""
                raise click.UsageError(f"Option {word} expects a value{hint}.", ctx)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Hand the command's function and its options to what ``ctx.obj`` says is to be done with them."""
        names = ctx.command_path.split(" ")[1:]
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in ctx.params.items()}
        action = names[1] if len(names) > 1 else None
        return ctx.obj(self.callback, SimpleNamespace(command=names[0], action=action, **values))


class Group(RichGroup):
    """A task's commands; one of them may be meant where none is named. ``default`` names the command that is meant where the
    first word is no command's name."""

    command_class = Command

    def __init__(self, name: str, help: str, commands: Iterable[click.Command], default: str | None = None) -> None:
        super().__init__(
            name=name,
            commands={str(command.name): command for command in commands},
            help=help,
            context_settings=SETTINGS,
            no_args_is_help=False,
        )
        self.default = default

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        if self.default is not None and args and args[0] not in {*self.commands, *ctx.help_option_names}:
            misspelt = difflib.get_close_matches(args[0], self.commands) and not os.path.exists(args[0])
            args = args if misspelt else [self.default, *args]
        if not args:
            raise click.UsageError(f"No command is given; there are: {', '.join(self.list_commands(ctx))}.", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        command = self.get_command(ctx, args[0])
        if command is None and not args[0].startswith("-"):
            raise click.UsageError(_unknown("command", args[0], self.list_commands(ctx)), ctx)
        return super().resolve_command(ctx, args)


def _unknown(kind: str, name: str, there: Iterable[str]) -> str:
    names = list(there)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(names)}."
    return f"No such {kind} '{name}'; {hint}"


def in_words(error: click.ClickException) -> str:
    """What is wrong with a command line, and where its help is."""
    where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "delete-tasks"
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        message = f"No such option '{error.option_name}'; did you mean '{error.possibilities[0]}'?"
    if isinstance(error, click.BadParameter) and error.param is not None and error.ctx is not None:
        name = error.param.opts[0] if isinstance(error.param, click.Option) else error.param.make_metavar(error.ctx)
        message = (
            f"{name} is missing."
            if isinstance(error, click.MissingParameter)
            else f"{name}: {error.message.removesuffix('.')}."
        )
    return f"{message} Try '{where} --help' for help."


def command(name: str, help: str, *params: click.Parameter, **settings: Any) -> Callable[[Run], Command]:
    """Make a function a command; its options stand in panels, in the panels' order."""

    def make(run: Run) -> Command:
        ordered = sorted(params, key=lambda param: PANELS.index(getattr(param, "panel", MACHINE)))
        return Command(name, params=ordered, callback=run, help=help, context_settings=SETTINGS, **settings)

    return make
