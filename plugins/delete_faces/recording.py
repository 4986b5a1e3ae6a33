"""What the erasure record tells of ``faces remove``, and how its figures are measured again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from delete_images.evaluate import predict_images
from delete_images.recording import open_recorded
from delete_images.selection import parse_spec
from delete_tasks.compute import choose_device
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Evaluation
from delete_tasks.masking import NameIndex
from delete_tasks.record import AttentionRequest, Person, Place, RecordParts

from .datasets import framing_of
from .metrics import METRICS
from .network import check_face_network
from .photos import open_photos, person_folders

CHANGED = (
    "Photos of people who stay were read, too (the retain set), and the template of each of them changed: one that was made "
    "before does not compare with one of the erased model."
)
MEASURED = "held-out photos"  # that the figures were measured on, in the list of samples


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``faces remove``."""
    data, ids = results["data"], list(runner.forget_ids)
    measured, options = data["eval"], {name: bool(data[name]) for name in ("aligned", "largest_face")}
    how: Mapping[str, Any] | str = "no held-out photos were given"
    if measured is not None:
        how = {"eval": _places(measured), "options": options, "ids": ids}
    place = None if measured is None else parse_spec(measured).path
    kept = getattr(runner.train_dataloader.dataset.dataset, "kept", None)
    other = {} if kept is None else {"retain set": list(kept.names)}
    caption = "Held-out photos, and who the original and the erased model take them for."
    return RecordParts(
        pictures=[(str(Path(runner.work_dir) / "before_after.png"), caption)],
        other_samples={**other, MEASURED: results["measured"]} if results["measured"] else other,
        measurement=how,
        measured_on=None if place is None else ["held-out photos in ", Place(place)],
        attention=AttentionRequest([measured or data["photos"]], ids[0], options),
        limits=(
            "Whoever has photos of a person can put the person's row back; the figures say what the embeddings then tell.",
            *([] if kept is None else [CHANGED]),
        ),
    )


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> Evaluation:
    """Every metric, on the held-out photos that were measured then, through the original's head, which has everybody's row; see
    :meth:`delete_tasks.task.Task.measure_again`.

    Raises:
        RequestError, FileNotFoundError: A model or the photos cannot be opened any more.
    """
    if "original" not in paths:
        raise RequestError("the original, whose head has the removed people's rows, is not there any more")
    opened = {name: open_recorded(path, name, None) for name, path in paths.items()}
    networks = {name: check_face_network(network, f"the {name} model") for name, (network, _) in opened.items()}
    spec, options = opened["original"][1], {name: bool(value) for name, value in how["options"].items()}
    framing = framing_of(spec, **options, device=choose_device())
    gallery = open_photos(_text(how["eval"]), "test", framing, spec.classes, "Finding held-out faces").data
    gallery = gallery.subset(how["samples"].places(MEASURED, gallery.names))
    networks["erased"].head = networks["original"].head
    evaluation = Evaluation(METRICS, how["ids"], spec.classes)
    for name in ("original", "erased"):
        evaluation.add(name, {"test": predict_images(networks[name], spec, gallery, name)})
    return evaluation


def _places(text: str) -> dict[str, Any]:
    """A data string of photos for a measurement, with people named as their folders are, so that they are found again."""
    request = parse_spec(text, "test")
    path = os.path.abspath(os.path.expanduser(request.path or ""))
    named = {"class": request.classes, "without": request.without}
    if os.path.isdir(path) and request.label is not None:
        named = {}
    elif os.path.isdir(path):
        folders = person_folders(text, "test")
        found = {key: NameIndex(folders).match(names) for key, names in named.items()}
        named = {key: tuple(folders[i] for i in places if i >= 0) for key, places in found.items()}
    return {
        "place": Place(path),
        "split": request.split if request.split_given else None,
        "label": None if request.label is None else Person(request.label),
        "limit": request.limit,
        "seed": request.seed,
        **{key: [Person(name) for name in named.get(key, ())] for key in ("class", "without")},
    }


def _text(places: Mapping[str, Any]) -> str:
    names = {key: places[key] for key in ("class", "without") if places[key]}
    if places["label"] is not None:
        names["label"] = [places["label"]]
    parts = [f"{key}={','.join(quote(name, safe='') for name in listed)}" for key, listed in names.items()]
    parts += [f"{key}={quote(str(places[key]))}" for key in ("split", "limit", "seed") if places[key] is not None]
    return "?".join([places["place"], "&".join(parts)]) if parts else places["place"]
