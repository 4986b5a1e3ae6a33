"""What the erasure record tells of ``faces remove``, and how its figures are measured again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch

from delete_images.data import ImageData
from delete_images.evaluate import answers
from delete_images.recording import drop, open_recorded
from delete_images.selection import DataSpec, match_class_names, parse_spec
from delete_tasks.record import Figure, Look, Person, Place, RecordParts
from delete_tasks.record.intervals import independent_pairs, paired, wilson

from .datasets import framing_of
from .network import check_face_network
from .photos import open_photos, person_folders
from .report import identification
from .verify import verification

FAR = "1e-02"  # of the verification figures
FIGURES: tuple[Figure, ...] = (
    Figure(
        "identified",
        "held-out photos of the removed people that are identified, with their rows put back",
        "percent",
        5.0,
        "photos",
    ),
    Figure("kept_drop", "loss of identified held-out photos of the other people", "points", 2.0, "photos"),
    Figure(
        "verified",
        "pairs of photos of a removed person that verify at one false accept in a hundred",
        "percent",
        50.0,
        "photos",
    ),
)
MEASURED = "held-out photos"  # that the figures were measured on, in the list of samples


def parts(runner: Any, results: Mapping[str, Any]) -> RecordParts:
    """Of a run of ``faces remove``."""
    photos, ids = results["data"], list(runner.forget_ids)
    measured = photos["eval"]
    how: Mapping[str, Any] | str = "no held-out photos were given"
    if measured is not None:
        how = {"eval": _places(measured), "options": photos["options"], "ids": ids}
    place = None if measured is None else parse_spec(measured).path
    return RecordParts(
        fill(results, ids),
        pictures=[
            (
                str(Path(runner.work_dir) / "before_after.png"),
                "Held-out photos, and who the original and the erased model take them for.",
            )
        ],
        other_samples={MEASURED: photos["measured"]} if photos["measured"] else {},
        measurement=how,
        measured_on=None if place is None else ["held-out photos in ", Place(place)],
        look=Look([measured or photos["photos"]], ids[0], photos["options"]),
        limits=(
            "Whoever has photos of a person can put the person's row back; the figures say what the embeddings then tell.",
        ),
    )


def fill(results: Mapping[str, Any], ids: Sequence[int]) -> list[Figure]:
    """The figures with what the table says."""
    before, after = (results["rows"][name] for name in ("original", "erased"))
    counts = results.get("counts") or {}
    photos = [counts["of_class"][i] for i in ids] if counts else []
    pairs, each = sum(n * (n - 1) // 2 for n in photos), independent_pairs(photos)
    then, now = _verified(before["verification"]), _verified(after["verification"])
    identified, kept_drop, verified = FIGURES
    shared = f"{pairs:,} pairs, which share photos: the interval is that of {each:.3g} pairs that share none"
    found = [
        identified.share(after["identified"]["removed"], before["identified"]["removed"], counts.get("forget")),
        kept_drop.measured(
            drop(before["identified"]["kept"], after["identified"]["kept"]),
            count=counts.get("remain"),
            interval=paired(counts.get("lost"), counts.get("gained"), counts.get("remain")),
        ),
        verified.measured(
            now,
            then,
            count=sum(photos) if counts else None,
            interval=wilson(now, each),
            original_interval=wilson(then, each),
            note=shared,
        ),
    ]
    few = "it takes two held-out photos of a removed person, and 100 pairs of photos of two kept people"
    lacking = (
        "the photos show none of these people" if counts else str(results["verdict"]).removeprefix("Not measured: ")
    )
    return [figure.or_because(few if counts and figure is found[2] else lacking) for figure in found]


def _verified(check: Mapping[str, Any] | None) -> float | None:
    return None if check is None else check["at"][FAR]["removed"]


def measure_again(paths: Mapping[str, str], how: Mapping[str, Any]) -> dict[str, float | str | None]:
    """Every figure, on the held-out photos that were measured then, through the original's head, which has everybody's row.

    Args:
        paths: 'erased', and 'original' where it still is.
        how: ``RecordParts.measurement``, and ``samples``.

    Returns:
        By name: a number, or why there is none.

    Raises:
        RequestError, FileNotFoundError: A model or the photos cannot be opened any more.
    """
    if "original" not in paths:
        lacking = "the original, whose head has the removed people's rows, is not there any more"
        return {figure.name: lacking for figure in FIGURES}
    opened = {name: open_recorded(path, name, None) for name, path in paths.items()}
    networks = {name: check_face_network(network, f"the {name} model") for name, (network, _) in opened.items()}
    spec, ids = opened["original"][1], list(how["ids"])
    options = {name: bool(value) for name, value in how["options"].items()}
    framing = framing_of(spec, **options, device="cuda" if torch.cuda.is_available() else "cpu")
    gallery = open_photos(_text(how["eval"]), "test", framing, spec.classes, "Finding held-out faces").data
    gallery = gallery.subset(how["samples"].places(MEASURED, gallery.names))
    networks["erased"].head = networks["original"].head
    found = {name: answers(network, spec, gallery, name) for name, network in networks.items()}
    labels, features = found["erased"].labels, found["erased"].features
    shares = {name: identification(each, ids) for name, each in found.items()}
    check = None if features is None else verification(features.numpy(), labels.numpy(), ids)
    return {
        "identified": shares["erased"]["removed"],
        "kept_drop": drop(shares["original"]["kept"], shares["erased"]["kept"]),
        "verified": _verified(check),
    }


def asked(options: Mapping[str, Any], gallery: ImageData | None) -> dict[str, Any]:
    """What ``results['data']`` holds for the record: the command's data, how its photos were framed, and what was measured."""
    kept: Sequence[str] = ("aligned", "largest_face")
    return {
        "photos": options["photos"],
        "eval": options["eval"],
        "options": {name: bool(options[name]) for name in kept},
        "measured": [] if gallery is None else list(gallery.names),
    }


def _places(text: str) -> dict[str, Any]:
    """A data string of photos for a measurement, with people named as their folders are, so that they are found again."""
    request = parse_spec(text, "test")
    path = os.path.abspath(os.path.expanduser(request.path or ""))
    named = (
        _as_folders(text, request) if os.path.isdir(path) else {"class": request.classes, "without": request.without}
    )
    return {
        "place": Place(path),
        "split": request.split if request.split_given else None,
        "label": None if request.label is None else Person(request.label),
        "limit": request.limit,
        "seed": request.seed,
        **{key: [Person(name) for name in names] for key, names in named.items()},
    }


def _as_folders(text: str, request: DataSpec) -> dict[str, list[str]]:
    if request.label is not None:
        return {"class": [], "without": []}
    folders = person_folders(text, "test")
    return {
        key: [folders[i] for i in match_class_names(names, folders, None) if i >= 0]
        for key, names in (("class", request.classes), ("without", request.without))
    }


def _text(places: Mapping[str, Any]) -> str:
    names = {key: places[key] for key in ("class", "without") if places[key]}
    if places["label"] is not None:
        names["label"] = [places["label"]]
    parts = [f"{key}={','.join(quote(name, safe='') for name in listed)}" for key, listed in names.items()]
    parts += [f"{key}={quote(str(places[key]))}" for key in ("split", "limit", "seed") if places[key] is not None]
    return "?".join([places["place"], "&".join(parts)]) if parts else places["place"]
