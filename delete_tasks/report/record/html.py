"""record.html: the record as one self-contained page with its pictures."""

import base64
import html
import mimetypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...audit.pictures import BARS, CURVES, TSNE
from ...audit.verdict import CANNOT_TELL, FORGOTTEN, HIDDEN, NOT_FORGOTTEN, WEAKENED
from ...errors import require
from ...fileio.inputs import read_bytes
from ...runner.done import sentences
from .figures import few, number
from .files import ATTENTION, UNKNOWN

PLAIN = {  # answers to "Can it still be recognised?" by the verdict's word
    FORGOTTEN: "No better than by a model that never saw it.",
    WEAKENED: "Yes, though less well than before.",
    HIDDEN: "Yes: the model no longer names it, and its features show it as before.",
    NOT_FORGOTTEN: "Yes: the model itself still names it.",
    CANNOT_TELL: "Not known: the measurements do not decide it.",
}
TEMPLATE = Path(__file__).with_name("template.html")
_NAMES = {
    "steps": "Maximum number of optimizer steps",
    "steps_done": "Number of optimizer steps",
    "optimizer": "Optimizer",
    "schedule": "Learning rate",
    "batch_size": "Samples per step and process",
    "accumulation": "Batches per step",
    "directions": "Directions projected out, for each person",
    "resumed": "Resumed from a saved state",
    "teacher": "Original, if not the loaded model",
    "checkpoint_interval": "Steps between saved states",
    "masking": "Masked classes",
    "locations": "Locations of the forget set in the loss",
    "select": "Selection of the forget set",
    "norm_eval": "Running statistics of normalization layers",
    "stop": "Stops early",
    "teacher_temperature": "Divisor of the original's logits",
    "temperature": "Divisor of the logits of both models",
    "forgetting_only": "Only the forgetting term on the forget set",
    "avoid": "Classes that must not replace the forgotten ones",
    "fill": "Replacement of a forgotten class",
    "into": "Class that takes the place of the forgotten ones",
    "balance": "Exponent of the weight of rare classes",
    "readout": "Weight of the loss on a linear readout",
    "public": "Public data, read without labels",
    "likeness": "Weight of the loss that brings features of forgotten samples close to others",
    "earlier": "Weight of the same loss on the preceding stage",
    "feature_distillation": "Weight of the loss that preserves features of other samples",
    "lr": "learning rate",
}
_VALUES = {
    ("schedule", "cosine"): "cosine decay to 0",
    ("schedule", "warmup_cosine"): "warm-up over the first tenth of the steps, then cosine decay to 0",
    ("masking", "all"): "all forgotten classes",
    ("masking", "own"): "the location's own label",
    ("locations", "forgotten"): "those of a forgotten class",
    ("select", "labels"): "by the data's labels",
    ("select", "teacher"): "by the original's predictions",
    ("fill", "auto"): "the original's second choice, mostly among its predictions at neighbouring locations",
    ("fill", "second"): "the original's second choice",
    ("fill", "surroundings"): "the original's predictions at neighbouring locations",
    ("norm_eval", True): "frozen",
    ("norm_eval", False): "updated",
}


def render(record: Mapping[str, Any], folder: Path) -> str:
    """Render a record as HTML without scripts, whose content security policy forbids all requests."""
    pictures = []
    for picture in record["pictures"]:
        path = folder / picture["path"]
        if path.is_file():
            content = base64.b64encode(read_bytes(path)).decode()
            pictures.append({**picture, "data": f"data:{mimetypes.guess_type(path)[0]};base64,{content}"})
    audit = record["audit"] or {"attacks": ()}
    unread: dict[str, list[str]] = {}
    for attack in audit["attacks"]:
        if attack["erased"] is None:
            unread.setdefault(attack["note"] or "unknown reason", []).append(attack["title"])
    settings = record["method"]["settings"].items()
    jinja2: Any = require("jinja2", "record")
    strict = jinja2.StrictUndefined
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=strict)
    environment.filters |= {"number": number, "few": few}
    # What stands in backticks.
    environment.filters["code"] = lambda text: re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(text))
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        r=record,
        pictures=pictures,
        first=next((one for one in pictures if one["path"] not in (BARS, CURVES, TSNE, ATTENTION)), None),
        plain=PLAIN,
        places=sum(item["where"] != UNKNOWN for item in record["residue"]),
        unread=unread,
        done=sentences(record["done"]),
        settings=dict(setting(name, value) for name, value in settings if value is not None and name != "classes"),
    )


def setting(name: str, value: Any) -> tuple[str, str]:
    """Describe a setting of a run and its value in words; an unknown setting keeps its name."""
    title = _title(name)
    if isinstance(value, (str, bool)) and (name, value) in _VALUES:
        return title, _VALUES[name, value]
    if name == "stop" and value is not None:
        stop = value if isinstance(value, Mapping) else {"ratio": value}
        window = f", over {stop['window']} steps" if "window" in stop else ""
        return title, f"when the forgotten classes keep {stop.get('ratio')} of the original's probability{window}"
    return title, _value(value)


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        rest = (f"{_title(key)} {_value(item)}" for key, item in value.items() if key != "type")
        return ", ".join(filter(None, [str(value.get("type", "")), *rest]))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    return str(value)


def _title(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " "))
