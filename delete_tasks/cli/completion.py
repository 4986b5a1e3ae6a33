"""Shell completion, as click makes it, in the file where each shell looks for it."""

import os
from pathlib import Path

import click

VARIABLE = "_DELETE_TASKS_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


def install(shell: str, root: click.Command) -> str:
    """Write a shell's completion file; no file of the user is changed.

    Returns:
        What was written, and what is left to do.

    Raises:
        OSError: It cannot be written.
    """
    from click.shell_completion import get_completion_class

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
    maker = get_completion_class(shell)
    if maker is None:
        raise OSError(f"no completion for {shell}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(maker(root, {}, "delete-tasks", VARIABLE).source() + "\n", encoding="utf-8")
    return f"Written: {path}. Open a new terminal to use it. {todo}".rstrip()


def complete(root: click.Command) -> int | None:
    """Answer a shell that requests completions; the exit status, or None without a request."""
    instruction = os.environ.get(VARIABLE)
    if not instruction:
        return None
    from click.shell_completion import shell_complete

    return shell_complete(root, {}, "delete-tasks", VARIABLE, instruction)
