"""Command tree: the core's own commands and those of installed plugins, each loaded when its name is used; shell completion."""

import os
from types import SimpleNamespace
from typing import Any

import click
from click.shell_completion import shell_complete
from rich_click import RichOption
from rich_click.rich_panel import construct_panels

from ..methods.registry import method_groups
from ..plugins import load_commands, plugin_modules
from .command import SETTINGS, Command, Group, command

VARIABLE = "_DELETE_TASKS_COMPLETE"

# Where the core declares a command: a module, and its attribute.
CORE_COMMANDS = {
    "attention": "delete_tasks.attention.command:COMMAND",
    "audit": "delete_tasks.audit.command:COMMAND",
    "benchmark": "delete_tasks.benchmark.command:COMMAND",
    "card": "delete_tasks.report.commands:card",
    "compare": "delete_tasks.report.commands:compare",
    "export": "delete_tasks.report.commands:export",
    "methods": "delete_tasks.cli.tree:methods",
    "record": "delete_tasks.report.commands:record",
}


@command("methods", "List the unlearning methods, and when to use each.")
def methods(args: SimpleNamespace) -> None:
    for heading, lines in method_groups().items():
        print(f"{heading}:")
        for name, text in lines.items():
            print(f"  {name:<20} {text}")
    print("Commands take --method NAME, configs unlearn = dict(type='NAME', ...).")
    print("backdoor clean takes DELETE, FineTune; its own: InversionDELETE, FTSAM, IBAU.")
    print("Per task: docs/reference/methods.md.")


def load_command(name: str) -> click.Command:
    """Load the command of a name from the module that declares it; a plugin's is ``COMMAND`` of its commands.py."""
    module, attribute = (CORE_COMMANDS.get(name) or f"{plugin_modules()[name]}.commands:COMMAND").split(":")
    found: click.Command = getattr(load_commands(*module.rsplit(".", 1)), attribute)
    return found


class Root(Group):
    """Root command ``delete-tasks``, whose help lists the commands of all groups, one per line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*sorted(plugin_modules()), *sorted(CORE_COMMANDS)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return load_command(name) if name in self.list_commands(ctx) else None

    def format_options(self, ctx: Any, formatter: Any) -> None:
        single = []
        for name in self.list_commands(ctx):
            try:
                command = load_command(name)
            except Exception as error:  # of one plugin; list the others' commands
                command = click.Command(name, help=f"(cannot be loaded: {error})")
            if isinstance(command, Group):
                _write_panels(command, ctx, formatter)
            else:
                single.append(command)
        _write_panels(Group("for all tasks", "", single), ctx, formatter)
        options = Command(name=self.name, params=self.params)
        options.format_options(self.context_class(options, info_name=self.name, **SETTINGS), formatter)


def _write_panels(group: Group, ctx: Any, formatter: Any) -> None:
    inner = group.context_class(group, info_name=group.name, parent=ctx)
    for panel in construct_panels(group, inner, formatter):
        if panel.name == formatter.config.commands_panel_title:
            panel.name, panel.help = str(group.name), group.help
            formatter.write(panel.render(group, inner, formatter))


def complete(root: click.Command) -> int | None:
    """Answer a shell that requests completions; return the exit status, or None without a request."""
    instruction = os.environ.get(VARIABLE)
    return shell_complete(root, {}, "delete-tasks", VARIABLE, instruction) if instruction else None


def make_root() -> Root:
    """Make the whole command line."""
    root = Root("delete-tasks", "Make a trained vision model forget a class, and measure the result.", [])
    root.epilog = "Run 'delete-tasks COMMAND --help' for details."
    version: dict[str, Any] = {"cls": RichOption, "panel": None, "help": "Print the version."}
    click.version_option(package_name="delete-tasks", message="%(prog)s %(version)s", **version)(root)
    return root
