"""record.html: the record as one page for reading and printing, with its pictures inside and nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import require
from .figures import FEW, few, number
from .readability import is_hidden, is_measured

TEMPLATE = Path(__file__).with_name("template.html")
_KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
_NAMES = {
    "steps": "Optimizer steps, at most",
    "steps_done": "Optimizer steps done",
    "optimizer": "Optimizer",
    "schedule": "Learning rate",
    "batch_size": "Samples a step and process",
    "accumulation": "Batches a step",
    "resumed": "Resumed from a saved state",
    "teacher": "Original, where it was not the model that was loaded",
    "checkpoint_interval": "Steps between saved states",
    "masking": "Masked at a location",
    "locations": "Locations of the forget set that take part",
    "select": "How the forget set was found",
    "norm_eval": "Running statistics of normalization layers",
    "stop": "Stops early",
    "teacher_temperature": "Teacher's logits are divided by",
    "temperature": "Teacher temperature",
    "forgetting_only": "Forgetting term alone on the forget set",
    "avoid": "Never in a forgotten class's place",
    "fill": "What takes a forgotten class's place",
    "balance": "Exponent of the weight of rare classes",
    "readout": "Weight of the loss on what a linear readout tells",
    "public": "Public data, read without labels",
    "likeness": "Weight of the loss that makes forgotten samples' features like others'",
    "earlier": "Weight of the same loss on the stage before",
    "feature_distillation": "Weight of the loss that holds other samples' features",
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "momentum": "momentum",
}
_VALUES = {
    ("schedule", "constant"): "the same at all steps",
    ("schedule", "cosine"): "falls to 0 over the steps, as a cosine",
    ("schedule", "warmup_cosine"): "rises over the first tenth of the steps, then falls to 0, as a cosine",
    ("masking", "all"): "every class to be forgotten",
    ("masking", "own"): "the location's own label alone",
    ("locations", "all"): "all",
    ("locations", "forgotten"): "those of a forgotten class alone",
    ("select", "labels"): "by the data's labels",
    ("select", "teacher"): "by the original's predictions",
    ("fill", "second"): "the original's second choice",
    ("fill", "surroundings"): "what the original says of the places around",
    ("norm_eval", True): "kept as they were",
    ("norm_eval", False): "trained",
}


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


def setting(name: str, value: Any) -> tuple[str, str]:
    """Describe a setting of a run and its value for a reader who does not know the program; an unknown setting keeps its name."""
    title = _NAMES.get(name, name.replace("_", " "))
    if isinstance(value, (str, bool)) and (name, value) in _VALUES:
        return title, _VALUES[name, value]
    if name == "stop" and isinstance(value, Mapping):
        over = f", over {value['window']} steps" if "window" in value else ""
        return title, f"when the forgotten classes keep {value.get('ratio')} of the original's probability{over}"
    if name == "stop" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return title, f"when the forgotten classes keep {value} of the original's probability"
    return title, _value(value)


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        named = {"type": "", **value}
        parts = [str(named.pop("type"))] + [
            f"{_NAMES.get(key, key.replace('_', ' '))} {_value(item)}" for key, item in named.items()
        ]
        return ", ".join(part for part in parts if part)
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item) for item in value)
    return str(value)
