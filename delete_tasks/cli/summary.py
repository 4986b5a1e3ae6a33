"""What a run tells before and after its own output: what it will do, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from ..processes import process_rank
from ..terminal import announce


def tell_before(
    console: Console, args: SimpleNamespace, names: Sequence[str], model: Any, data: Any, recipe: Mapping[str, Any]
) -> None:
    """Print in two lines what a run will do, and in a third what ``--resume`` found. Of ``recipe``, ``type``, ``steps`` and
    ``batch_size`` are told as far as they are known."""
    if process_rank() > 0:
        return
    how = [str(recipe.get("type", "DELETE"))]
    if recipe.get("steps"):
        each = f" of {recipe['batch_size']} samples" if recipe.get("batch_size") else ""
        how.append(f"at most {recipe['steps']} steps{each}")
    who = ", ".join(map(str, names)) or "the classes of the config"
    lines = [
        f"Makes {model} forget {who} ({', '.join(how)}).",
        f"Reads {data}; writes to {args.work_dir} (log: run.log).",
    ]
    announce(console, lines + resuming(args))


def tell_training(console: Console, args: SimpleNamespace, what: str) -> None:
    """Print in a line what a training run will do, and in another what ``--resume`` found."""
    if process_rank() == 0:
        without = f" without {', '.join(map(str, args.without))}" if args.without else ""
        line = (
            f"Trains {what} for {args.epochs} epochs on {args.data}{without}; writes to {args.work_dir} (log: run.log)."
        )
        announce(console, [line, *resuming(args)])


def resuming(args: SimpleNamespace) -> list[str]:
    """What ``--resume`` found in the work dir, in a line; nothing where it is not given."""
    if not getattr(args, "resume", False):
        return []
    last = Path(args.work_dir, "last_checkpoint")
    state = Path(last.read_text(encoding="utf-8", errors="replace").strip()).name if last.is_file() else None
    return [f"Goes on from {state}." if state else "Nothing to resume there: starts from the beginning."]


def tell_next(console: Console, args: SimpleNamespace, original: Any, results: Mapping[str, Any] | None) -> None:
    """Print what to do after a run. ``results`` are None on processes that have none."""
    if results is None or process_rank() > 0:
        return
    folder = shlex.quote(str(args.work_dir))
    if results.get("withheld") or results.get("written") is False:
        console.print("Next: change the recipe (--steps, --lr) and run the command again with --overwrite.")
        return
    if not args.no_record and Path(args.work_dir, "record.json").is_file():
        console.print(f"Next: delete-tasks record verify {folder}", soft_wrap=True)
    else:
        console.print(f"Next: delete-tasks compare {folder}", soft_wrap=True)
    console.print(
        f"Delete the original ({original}) yourself; {args.work_dir} names what was forgotten.", soft_wrap=True
    )
