"""``delete-tasks COMMAND ...``: each installed task plugin brings the command of its name."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from .errors import (
    CheckpointMismatchError,
    MissingExtraError,
    RequestError,
    UnsafeCheckpointError,
    UnsupportedModelError,
)
from .task import plugin_modules

USER_ERRORS = (
    RequestError,
    UnsupportedModelError,
    UnsafeCheckpointError,
    CheckpointMismatchError,
    MissingExtraError,
    FileNotFoundError,
)


# Commands of the core's own, imported when asked for, like those of plugins.
CORE_COMMANDS = {
    "attention": "delete_tasks.attention.command",
    "compare": "delete_tasks.compare.command",
    "record": "delete_tasks.record.command",
}


def use_device(device: str | None) -> None:
    """Make torch see the wanted device (cpu, cuda or cuda:N) alone; call it before anything touches CUDA."""
    if device is None or device == "cuda":
        return
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif device.startswith("cuda:") and device[5:].isdigit():
        os.environ["CUDA_VISIBLE_DEVICES"] = device[5:]
    else:
        raise RequestError(f"--device takes cpu, cuda or cuda:N, got '{device}'")


def parse_options(pairs: list[str] | None) -> dict[str, object]:
    """``key=value`` words to a dict, values read as mmengine's DictAction reads them."""
    from mmengine.config import DictAction

    reader = argparse.ArgumentParser()
    reader.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    return reader.parse_args(["--cfg-options", *pairs]).cfg_options if pairs else {}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake is one message on standard error and exit status 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    modules = {**{name: f"{module}.commands" for name, module in plugin_modules().items()}, **CORE_COMMANDS}
    parser = argparse.ArgumentParser(
        prog="delete-tasks",
        description="Make a trained vision model forget a class, and show what it did.",
        epilog="'delete-tasks COMMAND --help' tells more.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    try:
        for name, module in sorted(modules.items()):
            # Only the command that is asked for is imported: the others may need extras that are not installed.
            if words and words[0] == name:
                plugin = importlib.import_module(module)
                plugin.add_arguments(commands.add_parser(name, help=plugin.DESCRIPTION, description=plugin.DESCRIPTION))
                return plugin.run(parser.parse_args(words))
            commands.add_parser(name)
        parser.parse_args(words)
        return 2
    except USER_ERRORS as error:
        print(f"delete-tasks: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
