"""The record's options on every erasing command."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import Any

from ..errors import RequestError


def add_record_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the group 'erasure record' to a command's parser."""
    group = parser.add_argument_group("erasure record", "DIR/record.json and DIR/record.html, see docs/record.md")
    group.add_argument("--reference", help="reference of the request, e.g. a ticket's number")
    group.add_argument("--requested", metavar="YYYY-MM-DD", help="date of the request")
    group.add_argument(
        "--show-names", action="store_true", help="people's names and pictures in clear (default: hashed)"
    )
    group.add_argument(
        "--accept", nargs="+", default=[], metavar="FIGURE=MOST", help="limits of utility figures, e.g. forget_acc=1"
    )
    group.add_argument("--sign", metavar="KEY", help="sign the record with an Ed25519 key (PEM, private)")
    group.add_argument(
        "--record-log", metavar="FILE", help="append-only log (default: records.jsonl beside the work dir)"
    )
    group.add_argument("--no-record", action="store_true", help="write no record")


def record_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options as JSON values, checked before a run begins.

    Raises:
        RequestError: A date that is none, or a limit that cannot be read.
        FileNotFoundError: The key is not there.
    """
    requested = getattr(args, "requested", None)
    if requested is not None:
        try:
            date.fromisoformat(requested)
        except ValueError as error:
            raise RequestError(f"--requested is '{requested}'; expected a date such as 2026-11-24") from error
    accept = {}
    for pair in getattr(args, "accept", None) or ():
        name, equals, value = pair.partition("=")
        try:
            accept[name] = float(value)
        except ValueError:
            equals = ""
        if not name or not equals:
            raise RequestError(f"--accept takes FIGURE=MOST, e.g. forget_acc=1; got '{pair}'")
    key = getattr(args, "sign", None)
    if key is not None and not Path(key).is_file():
        raise FileNotFoundError(f"no key at '{key}'; make one with: delete-tasks record keygen")
    return {
        "reference": getattr(args, "reference", None),
        "requested": requested,
        "show_names": bool(getattr(args, "show_names", False)),
        "accept": accept,
        "sign": key,
        "log": getattr(args, "record_log", None),
        "skip": bool(getattr(args, "no_record", False)),
    }
