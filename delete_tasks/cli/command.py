"""Parts of every command: options in panels, short and full help, options with several values, closest matches."""

import difflib
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import click
from rich_click import RichArgument, RichCommand, RichGroup, RichOption

from ..fileio.inputs import refuse_inputs, refuse_special
from ..fileio.workdir import check_folder

PANELS = ("Data", "Recipe", "Evaluation", "Record", "Machine")
DATA, RECIPE, EVALUATION, RECORD, MACHINE = PANELS
SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "show_default": True,
    "rich_help_config": {"text_markup": None, "max_width": 120},
}
Run = Callable[[SimpleNamespace], "int | None"]


class File(click.Path):
    """Nonempty name of a file or folder that is read; the command checks texts that may name something else (``any_text``)."""

    def __init__(self, metavar: str, any_text: bool = False) -> None:
        super().__init__(readable=False)
        self.metavar, self.any_text = metavar, any_text

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self.metavar if isinstance(param, click.Option) else None

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value.strip():
            self.fail(f"expected a path, got {value!r}", param, ctx)
        return value

    def check(self, text: str, source: str) -> None:
        """Raise FileNotFoundError or :class:`RequestError` if what a text names is missing; called before a command's function
        imports anything, and only light modules are imported here. ``source`` is the option."""
        if not self.any_text and _place(text) is None:
            kind = {"DIR": "folder", "MODEL": "model"}.get(self.metavar.rstrip("."), "file")
            raise FileNotFoundError(f"{source} '{text}': nothing there; give the path of an existing {kind}".lstrip())


class Output(File):
    """Name of a file or folder that is written."""


FILE, DIR, MODEL_FOLDER, DATA_SET = File("FILE"), File("DIR"), File("MODEL"), File("DATA", any_text=True)
OUT = Output("FILE")


def _place(text: str) -> str | None:
    """Find the path with which a text such as ``cifar10:ROOT?class=deer`` begins; None if nothing is there."""
    texts = (text, text.partition("?")[0], re.sub("^[a-z0-9]+:", "", text.partition("?")[0]))
    return next((path for path in map(os.path.expanduser, texts) if os.path.exists(path)), None)


def option(*names: str, panel: str | None, many: bool = False, **settings: Any) -> RichOption:
    """Make an option ``--name``, with the name of its value if that differs, in one of :data:`PANELS` (None: next to ``--help``).
    One for ``many`` values takes several words, and can be repeated: ``--classes a b --classes c``."""
    return RichOption(names, panel=panel, multiple=many, **settings)


data, recipe, evaluation, record, machine = (partial(option, panel=panel) for panel in PANELS)


def argument(name: str, *, help: str, **settings: Any) -> RichArgument:
    """Make a positional argument; for ``settings`` see ``click.Argument``."""
    return RichArgument([name], panel=DATA, help=help, **settings)


def _is_option(word: str) -> bool:
    """Return True if a word is an option; ``-1`` and text with a space are values."""
    try:
        float(word)
    except ValueError:
        return word.startswith("-") and word != "-" and " " not in word
    return False


def _show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Show the help with its colours, which ``print`` would escape, and with hidden options for ``--help-all``."""
    if value and not ctx.resilient_parsing:
        ctx.meta[HELP_ALL.name] = param.name == HELP_ALL.name
        click.echo(ctx.get_help(), file=getattr(sys.stdout, "rich_proxied_file", None), color=ctx.color)
        ctx.exit()


HELP_ALL = option(
    "--help-all",
    panel=None,
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_help,
    help="Show all options and exit.",
)


class Command(RichCommand):
    """Command whose function takes its options as a namespace, with ``command`` and ``action``, the names of its group and
    itself. ``short`` names the options in ``--help``, besides required ones (empty: all); ``--help-all`` shows all."""

    def __init__(self, *args: Any, short: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.short = short.split()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *params, shown = super().get_params(ctx)
        shown.callback = _show_help
        return [*params, shown, HELP_ALL]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        hidden: list[Any] = [HELP_ALL]
        if self.short and not ctx.meta.get(HELP_ALL.name):
            options = [param for param in self.params if isinstance(param, click.Option)]
            hidden = [param for param in options if not param.required and param.opts[0] not in self.short]
        for param in hidden:
            param.hidden = True
        try:
            super().format_options(ctx, formatter)
        finally:
            for param in hidden:
                param.hidden = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if ctx.resilient_parsing else self._spread(ctx, args))

    def _spread(self, ctx: click.Context, words: list[str]) -> list[str]:
        """Convert ``--classes a b`` to ``--classes=a --classes=b``, as click needs; raise UsageError if one has no value."""
        params = (param for param in self.get_params(ctx) if isinstance(param, click.Option))
        options = {name: param for param in params for name in param.opts}
        spread: list[str] = []
        rest = deque(words)
        while rest and rest[0] != "--":
            word = rest.popleft()
            param = options.get(word)
            if param is None or param.is_flag:
                spread.append(word)
                continue
            if not rest or _is_option(rest[0]):
                hint = f"; a value that begins with '-' is written {word}=VALUE" if rest else ""
                raise click.UsageError(f"Option {word} expects a value{hint}.", ctx)
            spread.append(f"{word}={rest.popleft()}")
            while param.multiple and rest and not _is_option(rest[0]):
                spread.append(f"{word}={rest.popleft()}")
        return [*spread, *rest]

    def invoke(self, ctx: click.Context) -> Any:
        """Call ``ctx.obj`` with the command's function and its options, and the paths that are read, as ``reads``."""
        _, command, *action = ctx.command_path.split(" ")
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in ctx.params.items()}
        named = {"command": command, "action": action[0] if action else None, "reads": self._check_paths(values)}
        return ctx.obj(self._run, SimpleNamespace(**named, **values))

    def _run(self, args: SimpleNamespace) -> Any:
        """Call the command's function, unless an input is missing or the work dir cannot be used whatever the request."""
        values = vars(args)
        if not values.get("resume"):  # a finished run may have lost its inputs
            for kind, source, text in self._paths(values):
                if not isinstance(kind, Output):
                    kind.check(text, source)
        if values.get("work_dir") is not None and "overwrite" in values:
            check_folder(values["work_dir"], values["overwrite"] or values.get("resume", False))
        return self.callback(args) if self.callback else None

    def _paths(self, values: dict[str, Any]) -> Iterator[tuple[File, str, str]]:
        """Iterate over type, option (empty for an argument) and text of each path."""
        for param in self.params:
            value, source = values.get(str(param.name)), param.opts[0] if isinstance(param, click.Option) else ""
            for text in value if isinstance(value, list) else filter(None, [value]):
                if isinstance(param.type, File):
                    yield param.type, source, text

    def _check_paths(self, values: dict[str, Any]) -> list[str]:
        """Refuse inputs that are no regular files or folders, and outputs in the place of an input; return the inputs."""
        reads: dict[bool, list[str]] = {False: [], True: []}  # by whether the path is a model's
        outputs = []
        for kind, source, text in self._paths(values):
            if isinstance(kind, Output):
                outputs.append((source, text))
            elif (path := _place(text)) is not None:
                refuse_special(path, source)
                reads[kind.metavar.startswith("MODEL")].append(path)
        for source, text in outputs:
            refuse_inputs(text, reads[False], reads[True], source)
        return [*reads[False], *reads[True]]


class Group(RichGroup):
    """Commands of a task. ``default`` is the name of the command that runs if the first word is not a command's name."""

    command_class = Command

    def __init__(self, name: str, help: str, commands: Sequence[click.Command], default: str | None = None) -> None:
        super().__init__(name=name, commands=commands, help=help, context_settings=SETTINGS, no_args_is_help=False)
        self.default = default

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *params, shown = super().get_params(ctx)
        shown.callback = _show_help
        return [*params, shown]

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
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            names = self.list_commands(ctx)
            close = difflib.get_close_matches(args[0], names, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(names)}."
            raise click.UsageError(f"No such command '{args[0]}'; {hint}", ctx)
        return super().resolve_command(ctx, args)


def in_words(error: click.ClickException) -> str:
    """Describe an error of a command line, and how to get help."""
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "delete-tasks"
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        message = f"No such option '{error.option_name}'; did you mean '{error.possibilities[0]}'?"
    if isinstance(error, click.BadParameter) and error.param is not None and error.ctx is not None:
        name = error.param.opts[0] if isinstance(error.param, click.Option) else error.param.make_metavar(error.ctx)
        missing = isinstance(error, click.MissingParameter)
        message = f"{name} is missing." if missing else f"{name}: {error.message.removesuffix('.')}."
    return f"{message} Try '{path} --help' for help."


def command(name: str, help: str, *params: click.Parameter, **settings: Any) -> Callable[[Run], Command]:
    """Decorate a function to make it a :class:`Command`, with its options in the order of their panels."""

    def make(run: Run) -> Command:
        ordered = sorted(params, key=lambda param: PANELS.index(getattr(param, "panel", MACHINE)))
        return Command(name, params=ordered, callback=run, help=help, context_settings=SETTINGS, **settings)

    return make
