"""All commands: the core's own and those of installed plugins, each loaded when it is asked for."""

from __future__ import annotations

from typing import Any

import click
from rich_click.rich_panel import construct_panels

from ..plugins import load_commands, plugin_modules
from .command import SETTINGS, Command, Group, option

# Packages of the core that have a command.py.
CORE_COMMANDS = {
    "attention": "delete_tasks.attention",
    "audit": "delete_tasks.audit",
    "benchmark": "delete_tasks.benchmark",
    "compare": "delete_tasks.compare",
    "record": "delete_tasks.record",
}


def load_command(name: str) -> click.Command:
    """The command of a name: what the module that declares it holds under ``COMMAND``.

    Raises:
        KeyError: There is none.
    """
    core = CORE_COMMANDS.get(name)
    return (load_commands(core, "command") if core else load_commands(plugin_modules()[name])).COMMAND


class Root(Group):
    """``delete-tasks``. Its help lists the commands of all groups, a line each."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*sorted(plugin_modules()), *sorted(CORE_COMMANDS)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return load_command(name) if name in self.list_commands(ctx) else None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        alone = []
        for name in self.list_commands(ctx):
            try:
                command = load_command(name)
            except Exception as error:  # of one plugin: the others' commands are there
                command = click.Command(name, help=f"(cannot be loaded: {error})")
            if isinstance(command, Group):
                _write_panels(command, ctx, formatter)
            else:
                alone.append(command)
        _write_panels(Group("for all tasks", "", alone), ctx, formatter)
        own = Command(name=self.name, params=self.params)
        own.format_options(self.context_class(own, info_name=self.name, **SETTINGS), formatter)


def _write_panels(group: Group, ctx: Any, formatter: Any) -> None:
    inner = group.context_class(group, info_name=group.name, parent=ctx)
    for panel in construct_panels(group, inner, formatter):
        if panel.name == formatter.config.commands_panel_title:
            panel.name, panel.help = str(group.name), group.help
            formatter.write(panel.render(group, inner, formatter))


def _version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"delete-tasks {version('delete-tasks')}")
        ctx.exit()


def _completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:
    if shell is not None:
        from .completion import install

        print(install(shell))
        ctx.exit()


def make_root() -> Root:
    """The command line as a whole."""
    from .completion import SHELLS

    root = Root("delete-tasks", "Make a trained vision model forget a class, and show what it did.", [])
    root.epilog = "'delete-tasks COMMAND --help' tells more."
    eager: dict[str, Any] = {"is_eager": True, "expose_value": False}
    root.params = [
        option("--version", panel="Options", is_flag=True, callback=_version, help="Print the version.", **eager),
        option(
            "--install-completion",
            panel="Options",
            type=click.Choice(SHELLS),
            callback=_completion,
            help="Let a shell complete commands and options.",
            **eager,
        ),
    ]
    return root
