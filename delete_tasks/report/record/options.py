"""The record's options on every erasing command, see :func:`delete_tasks.cli.options.record_panel`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...display.terminal import printable
from ...errors import RequestError, require
from ...evaluation.metric import Metric
from .figures import check_names
from .log import check_log
from .sign import check_private_key

LARGEST = 1e6  # of a limit, in percent or points
UNEXPECTED_MOST = 10.0  # percent of the forgotten locations that may go elsewhere than --expect says


def record_options(args: SimpleNamespace) -> dict[str, Any]:
    """The options as JSON values. All that could keep a record from being written is refused here, before a run begins; nothing
    is written.

    Args:
        args: Of the command line. ``command`` names the task, whose figures ``--accept`` may name.

    Raises:
        RequestError: A date that is none; a limit that is no number, or of no figure; a key that cannot sign; a log that is
            none, or cannot be written.
        FileNotFoundError: The key is not there.
        MissingExtraError: What writes a record is not installed.
    """
    reference = getattr(args, "reference", None)
    expect = list(getattr(args, "expect", None) or ())
    options = {
        "reference": None if reference is None else printable(reference),
        "requested": getattr(args, "requested", None),
        "show_names": bool(getattr(args, "show_names", False)),
        "accept": {
            **({"unexpected": UNEXPECTED_MOST} if expect else {}),
            **_limits(getattr(args, "accept", None) or ()),
        },
        "expect": expect,
        "sign": getattr(args, "sign", None),
        "log": getattr(args, "record_log", None),
        "skip": bool(getattr(args, "no_record", False)),
        "fail_on_limit": bool(getattr(args, "fail_on_limit", False)),
        "audit": getattr(args, "audit", None) or "quick",
    }
    command = getattr(args, "command", None)
    figures: Sequence[Metric] = ()
    if options["accept"] and command is not None:
        from ...task import load_task

        figures = load_task(command).metrics
    check_record_options(options, figures)
    return options


def check_record_options(options: Mapping[str, Any], figures: Sequence[Metric] = ()) -> None:
    """Refuse options with which a finished run would have no record; nothing is written. Without ``figures`` the limits' names
    are not checked.

    Raises:
        As :func:`record_options`.
    """
    if options.get("requested") is not None:
        try:
            if date.fromisoformat(options["requested"]).isoformat() != options["requested"]:
                raise ValueError  # 20261124 is ISO 8601, too, but a record has one form
        except ValueError as error:
            raise RequestError(
                f"--requested is '{options['requested']}'; expected a date such as 2026-11-24"
            ) from error
    if figures:
        check_names(options.get("accept") or {}, figures)
    if options.get("skip"):
        return
    for name, path in (("--sign", options.get("sign")), ("--record-log", options.get("log"))):
        if path is not None and printable(path) != path:
            raise RequestError(f"{name} names a file whose name is not plain UTF-8 ({printable(path)}); rename it")
    require("jinja2", "record")
    require("jsonschema", "record")
    if options.get("sign") is not None:  # "" too: of a variable that is not set, say
        check_private_key(options["sign"])
    if options.get("log") is not None:
        check_log(Path(options["log"]))


def _limits(pairs: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not name or not equals or not abs(value) <= LARGEST:
            raise RequestError(
                f"--accept takes FIGURE=MOST with a number from {-LARGEST:g} to {LARGEST:g}, e.g. forget_acc=1; got '{pair}'"
            )
        if name in found:
            raise RequestError(f"--accept names '{name}' twice; give one limit")
        found[name] = value
    return found
