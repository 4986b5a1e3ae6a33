"""enrolment.json beside a model: where the photos are that it was made from, and which of them were held out."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delete_images.data.opening import ImageData, open_data
from delete_images.data.sources import SPLITS
from delete_images.data.strings import parse_spec
from delete_tasks.errors import RequestError

NAME = "enrolment.json"


@dataclass(frozen=True)
class Enrolment:
    """Content of enrolment.json: a model's photos.

    Attributes:
        photos: The folder of photos that the model was made from, with a query perhaps; None where nobody noted it.
        tested: The same of the photos that were held out.
        held_out: Their names.
        aligned, largest_face: How faces were taken from them.
    """

    photos: str | None = None
    tested: str | None = None
    held_out: frozenset[str] = frozenset()
    aligned: bool = False
    largest_face: bool = False


def describe_photos(photos: str, tested: str, split: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the photos' places for enrolment.json.

    Args:
        photos: Data string of those that the model was made from.
        tested: Of those that were held out.
        split: Of ``tested``, where its folder has several and it names none.
        options: Of the command, with ``aligned`` and ``largest_face``.
    """
    if is_divided(tested) and not parse_spec(tested).split_given:
        tested = parse_spec(tested).compose({"split": split})
    flags = {key: bool(options[key]) for key in ("aligned", "largest_face")}
    return {"photos": parse_spec(photos).absolute, "tested": parse_spec(tested).absolute, **flags}


def is_divided(text: str) -> bool:
    """Return True if a data string's folder has train/ and test/ (or val/) rather than people."""
    root = Path(parse_spec(text).path or "").expanduser()
    folders = {path.name for path in root.iterdir() if path.is_dir()} if root.is_dir() else set()
    return bool(folders) and folders <= set(SPLITS)


def read_enrolment(model: str | os.PathLike[str]) -> Enrolment:
    """Read what a model folder notes of its photos: nothing, if the model is from elsewhere or the file cannot be read."""
    try:
        content = json.loads((Path(model) / NAME).read_text(encoding="utf-8"))
        source, held_out = content["source"], frozenset(map(str, content["held_out"]))
        photos, tested = source["photos"], source["tested"]
    except (OSError, ValueError, KeyError, TypeError):
        return Enrolment()
    if not isinstance(photos, str) or not isinstance(tested, str):
        return Enrolment()
    flags = {key: source.get(key) is True for key in ("aligned", "largest_face")}
    return Enrolment(photos, tested, held_out, **flags)


def complete_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``faces remove`` with what enrolment knows in the place of photos that were not given.

    Without ``photos`` they are those that the model was made from, without ``eval`` those that were held out then; 'none' for
    ``eval`` measures nothing. ``held_out_alone`` is added: of ``eval`` only these names, or None for all.

    Raises:
        RequestError: No ``photos``, and nobody noted where they are.
    """
    known, given = read_enrolment(options["model"]), dict(options)
    given["held_out_alone"] = None
    if given["photos"] is None:
        if known.photos is None:
            raise RequestError(
                f"no --photos, and no {NAME} in '{options['model']}' says where the people's photos are; give --photos DIR"
            )
        given["photos"] = known.photos
        given["aligned"], given["largest_face"] = known.aligned, known.largest_face
    if given["eval"] == "none":
        given["eval"] = None
    elif given["eval"] is None and _can_measure(known, given):
        given["eval"], given["held_out_alone"] = known.tested, known.held_out
    return given


def _can_measure(known: Enrolment, given: Mapping[str, Any]) -> bool:
    """Return True if the photos that enrolment held out are still there, and framed like those to unlearn."""
    there = known.tested is not None and Path(parse_spec(known.tested).path or "").is_dir()
    return there and bool(known.held_out) and bool(given["aligned"]) == known.aligned


def open_tested(options: Mapping[str, Any], classes: Sequence[str]) -> ImageData | None:
    """Open the photos to measure on, from options that :func:`complete_options` made; None without any."""
    if options["eval"] is None:
        return None
    data, alone = open_data(options["eval"], "test", classes), options["held_out_alone"]
    return data if alone is None else data.subset([i for i, name in enumerate(data.names) if name in alone])
