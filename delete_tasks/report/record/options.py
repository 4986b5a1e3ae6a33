"""Options of the record on erasing commands, see :func:`delete_tasks.cli.options.record_panel`."""

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...display.terminal import printable
from ...errors import RequestError, did_you_mean, require
from .files import check_log
from .sign import read_key

LARGEST = 1e6  # largest limit, in percent or points
# Percent of the forgotten locations that may be predicted as other classes than --expect, or as those of --avoid.
REPLACED_MOST = {"expect": ("unexpected", 10.0), "avoid": ("avoided", 10.0)}


def record_options(args: SimpleNamespace) -> dict[str, Any]:
    """Convert the options of the command line to JSON values, and check them before the run; write nothing. ``args.command`` is
    the task, whose figures ``--accept`` may name. Raise :class:`RequestError` for an invalid date or limit, a limit of an unknown
    figure, a key that cannot sign, or a log that cannot be written, :class:`FileNotFoundError` if the key is missing,
    :class:`MissingExtraError` if a package that records need is not installed."""
    values = vars(args)
    reference = values.get("reference")
    limits = dict(limit for option, limit in REPLACED_MOST.items() if values.get(option))
    options: dict[str, Any] = {
        "reference": None if reference is None else printable(reference),
        "requested": values.get("requested"),
        "show_names": bool(values.get("show_names")),
        "accept": limits | _limits(values.get("accept") or ()),
        "expect": list(values.get("expect") or ()),
        "sign": values.get("sign"),
        "log": values.get("record_log"),
        "skip": bool(values.get("no_record")),
        "fail_on_limit": bool(values.get("fail_on_limit")),
        "audit": values.get("audit") or "quick",
    }
    requested = options["requested"]
    if requested is not None:
        try:
            if date.fromisoformat(requested).isoformat() != requested:
                raise ValueError  # 20261124 is also ISO 8601, but a record has one form
        except ValueError as error:
            raise RequestError(f"--requested is '{requested}'; expected a date such as 2026-11-24") from error
    if options["accept"] and values.get("command") is not None:
        from ...task import load_task

        names = [metric.name for metric in load_task(values["command"]).metrics if metric.lower_is_better]
        for name in options["accept"]:
            if name not in names:
                hint = did_you_mean(name, names)
                raise RequestError(f"--accept names '{name}', which is no figure{hint} There are: {', '.join(names)}")
    if options["skip"]:
        return options
    for name, path in (("--sign", options["sign"]), ("--record-log", options["log"])):
        if path is not None and printable(path) != path:
            raise RequestError(f"{name} names a file whose name is not plain UTF-8 ({printable(path)}); rename it")
    require("jinja2", "record")
    require("jsonschema", "record")
    if options["sign"] is not None:  # refuse "" as well, e.g. of an unset variable
        read_key(options["sign"], private=True)
    if options["log"] is not None:
        check_log(Path(options["log"]))
    return options


def _limits(pairs: Sequence[str]) -> dict[str, float]:
    limits: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        value = math.nan
        with suppress(ValueError):
            value = float(text)
        if not name or not equals or not abs(value) <= LARGEST:
            numbers = f"a number from {-LARGEST:g} to {LARGEST:g}"
            raise RequestError(f"--accept takes FIGURE=MOST with {numbers}, e.g. forget_acc=1; got '{pair}'")
        if name in limits:
            raise RequestError(f"--accept names '{name}' twice; pass one limit")
        limits[name] = value
    return limits
