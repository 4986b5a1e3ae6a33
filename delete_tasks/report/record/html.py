"""record.html: the record as one self-contained page with its pictures, for reading and printing."""

import base64
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import require
from .figures import FEW, few, number
from .parts import FAIL, NOT_MEASURED, STATUSES
from .readability import is_hidden, is_measured

TEMPLATE = Path(__file__).with_name("template.html")
_NAMES = {
    "steps": "Optimizer steps, at most",
    "steps_done": "Optimizer steps done",
    "optimizer": "Optimizer",
    "schedule": "Learning rate",
    "batch_size": "Samples a step and process",
    "accumulation": "Batches a step",
    "resumed": "Resumed from a saved state",
    "teacher": "Original, if not the model that was loaded",
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
    """Render a record as HTML without scripts, whose content security policy forbids all requests."""
    jinja2: Any = require("jinja2", "record")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "few": few}
    pictures = []
    for picture in record["pictures"]:
        path = folder / picture["path"]
        if path.is_file():
            content = base64.b64encode(path.read_bytes()).decode()
            pictures.append({**picture, "data": f"data:{mimetypes.guess_type(path)[0]};base64,{content}"})
    titles = {status: [row["title"] for row in record["figures"] if row["status"] == status] for status in STATUSES}
    audit = record["audit"] or {"verdict": None, "attacks": ()}
    unread: dict[str, list[str]] = {}
    for attack in audit["attacks"]:
        if attack["erased"] is None:
            unread.setdefault(attack["note"] or "the reason is unknown", []).append(attack["title"])
    settings = record["method"]["settings"].items()
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        r=record,
        pictures=pictures,
        failed=titles[FAIL],
        unmeasured=titles[NOT_MEASURED],
        weak=sum(few(row) for row in record["figures"]),
        least=FEW,
        hidden=is_hidden(audit["verdict"]),
        readable=is_measured(audit["verdict"]),
        unread=unread,
        settings=dict(setting(name, value) for name, value in settings if value is not None and name != "classes"),
    )


def setting(name: str, value: Any) -> tuple[str, str]:
    """Describe a setting of a run and its value in words; an unknown setting keeps its name."""
    title = _NAMES.get(name, name.replace("_", " "))
    if isinstance(value, (str, bool)) and (name, value) in _VALUES:
        return title, _VALUES[name, value]
    if name == "stop" and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = {"ratio": value}
    if name == "stop" and isinstance(value, Mapping):
        over = f", over {value['window']} steps" if "window" in value else ""
        return title, f"when the forgotten classes keep {value.get('ratio')} of the original's probability{over}"
    return title, _value(value)


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        rest = (
            f"{_NAMES.get(key, key.replace('_', ' '))} {_value(item)}" for key, item in value.items() if key != "type"
        )
        return ", ".join(filter(None, [str(value.get("type", "")), *rest]))
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item) for item in value)
    return str(value)
