"""Shell completion by click, in the file that each shell reads."""

import os
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class, shell_complete

from ..fileio.atomic import save_text

VARIABLE = "_DELETE_TASKS_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


def install(shell: str, root: click.Command) -> str:
    """Write a shell's completion file, without changing the user's own files; return its path and the steps left to the user."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    path, todo = {
        "bash": (data / "bash-completion/completions/delete-tasks", "Needs the package bash-completion."),
        "zsh": (
            home / ".zfunc/_delete-tasks",
            "Put this into ~/.zshrc: fpath+=~/.zfunc; autoload -Uz compinit; compinit",
        ),
        "fish": (config / "fish/completions/delete-tasks.fish", ""),
    }[shell]
    completion: Any = get_completion_class(shell)
    save_text(completion(root, {}, "delete-tasks", VARIABLE).source() + "\n", path)
    return f"Written: {path}. Open a new terminal to use it. {todo}".rstrip()


def complete(root: click.Command) -> int | None:
    """Answer a shell that requests completions; return the exit status, or None without a request."""
    instruction = os.environ.get(VARIABLE)
    return shell_complete(root, {}, "delete-tasks", VARIABLE, instruction) if instruction else None
