"""Command ``delete-tasks methods``."""

from types import SimpleNamespace

from ..methods.registry import method_groups
from .command import command


@command("methods", "List the unlearning methods, and when to use each.")
def COMMAND(args: SimpleNamespace) -> None:
    for heading, methods in method_groups().items():
        print(f"{heading}:")
        for name, text in methods.items():
            print(f"  {name:<20} {text}")
    print("Commands take --method NAME, configs unlearn = dict(type='NAME', ...).")
    print("backdoor clean takes DELETE, FineTune; its own: InversionDELETE, FTSAM, IBAU.")
    print("Per task: docs/reference/methods.md.")
