"""record.html: the record as one page for reading and printing, with its pictures inside and nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import require
from .figures import FEW, few, number
from .readability import is_hidden, is_measured
from .words import setting

TEMPLATE = Path(__file__).with_name("template.html")
_KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


def render(record: Mapping[str, Any], folder: Path) -> str:
    """The page of a record.

    Returns:
        HTML without scripts; its policy forbids every request.
    """
    jinja2: Any = require("jinja2", "record")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = number
    environment.filters["few"] = few
    pictures = [
        {**picture, "data": _data_address(folder / picture["path"])}
        for picture in record["pictures"]
        if (folder / picture["path"]).is_file()
    ]
    by_status: dict[str, list[str]] = {"PASS": [], "FAIL": [], "NOT MEASURED": []}
    for figure in record["figures"]:
        by_status[figure["status"]].append(figure["title"])
    audit = (record["audit"] or {}).get("verdict")
    unread: dict[str, list[str]] = {}
    for attack in (record["audit"] or {}).get("attacks", ()):
        if attack["erased"] is None:
            unread.setdefault(attack["note"] or "no reason is known", []).append(attack["title"])
    done = {name: value for name, value in record["method"]["settings"].items() if value is not None}
    settings = dict(setting(name, value) for name, value in done.items() if name != "classes")
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        r=record,
        pictures=pictures,
        failed=by_status["FAIL"],
        unmeasured=by_status["NOT MEASURED"],
        weak=sum(few(figure) for figure in record["figures"]),
        least=FEW,
        hidden=is_hidden(audit),
        readable=is_measured(audit),
        unread=unread,
        settings=settings,
    )


def _data_address(path: Path) -> str:
    kind = _KINDS[path.suffix.lower()]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
