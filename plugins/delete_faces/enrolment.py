"""Photos of a model as enrolment.json notes them, and their division into photos to forget and photos to measure on; and people
whom earlier requests removed: known by salted digests of their names, and left out of all photos."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from delete_images.data.opening import ImageData, open_data
from delete_images.data.sources import SPLITS
from delete_images.data.strings import parse_spec
from delete_images.models.spec import ModelSpec
from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import save_json
from delete_tasks.fileio.checkpoint import tensors_sha256
from delete_tasks.fileio.validate import read_json
from delete_tasks.request.classes import SPELLINGS

from .photos import of_people, person_folders

NAME = "enrolment.json"
REMOVED = "removed"  # people, in a model.json's extra
GALLERY, BESIDE = "gallery.npz", "gallery"  # file of a model folder, and its name on the command line
SHARE = 0.3  # share of a person's photos that is held out if enrolment held out none
LEAST = 2  # held-out photos if possible: without a pair nothing is verified
MOST_LOGITS = 2**26  # of a row of the table, 256 MB


class Source(msgspec.Struct, frozen=True):
    """Places of a model's photos, as data strings; flags as of :class:`delete_faces.photos.Framing`."""

    photos: str  # that the model was made from
    tested: str  # the held-out ones
    aligned: bool = False
    largest_face: bool = False


class Enrolment(msgspec.Struct, frozen=True):
    """Part of enrolment.json that ``faces remove`` reads; ``held_out`` are names of photos."""

    source: Source
    held_out: frozenset[str]


def describe_photos(photos: str, tested: str, split: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Make enrolment.json's :class:`Source` from the command's ``options``; ``split`` is that of ``tested`` if it names none."""
    if is_divided(tested) and not parse_spec(tested).split_given:
        tested = parse_spec(tested).compose({"split": split})
    flags = {key: bool(options[key]) for key in ("aligned", "largest_face")}
    return msgspec.to_builtins(Source(parse_spec(photos).absolute, parse_spec(tested).absolute, **flags))


def is_divided(text: str) -> bool:
    """Return True if a data string's folder has train/ and test/ (or val/) rather than people."""
    root = Path(parse_spec(text).path or "").expanduser()
    folders = {path.name for path in root.iterdir() if path.is_dir()} if root.is_dir() else set()
    return bool(folders) and folders <= set(SPLITS)


def read_enrolment(model: str | Path) -> Enrolment | None:
    """Read a model folder's enrolment.json; None if there is none, or it is damaged."""
    try:
        return msgspec.convert(read_json(Path(model, NAME)), Enrolment)
    except (OSError, ValueError):
        return None


def pass_on_enrolment(model: str | Path, erased: str | Path, people: Sequence[str]) -> None:
    """Write a model's enrolment.json beside the erased model, without the people removed from it; nothing without one."""
    enrolment, spell = read_enrolment(model), SPELLINGS[-1]
    if enrolment is None:
        return
    source, gone = dict(msgspec.to_builtins(enrolment.source)), set(map(spell, people))
    for key in ("photos", "tested"):
        request = parse_spec(source[key])
        named = [[name for name in names if spell(name) not in gone] for names in (request.classes, request.without)]
        source[key] = request.named(*named)
    held_out = [name for name in sorted(enrolment.held_out) if spell(name.partition("/")[0]) not in gone]
    save_json({"held_out": held_out, "source": source}, Path(erased, NAME))


def hint(model: str) -> str:
    """Tell users who deleted the photos that stored templates are enough."""
    place = BESIDE if Path(model, GALLERY).is_file() else "STORE.npz"
    return f"; if the photos were deleted, stored templates will do: --from-templates {place}"


def complete_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the options of ``faces remove`` from the model's enrolment; refuse options without photos if there is none.
    ``photos`` default to those that the model was made from, ``eval`` to those that enrolment held out, if still there and framed
    alike; 'none' measures nothing. ``held_out_alone`` is added: names to which ``eval`` is limited, or None for all."""
    enrolment, options = read_enrolment(options["model"]), {**options, "held_out_alone": None}
    stored = options.get("templates") is not None
    beside = str(Path(options["model"], GALLERY))
    options |= {name: beside for name in ("templates", "retain") if options.get(name) == BESIDE}
    if options["photos"] is None and (enrolment is not None or not stored):
        if enrolment is None:
            raise RequestError(
                f"no --photos, and no {NAME} in '{options['model']}' says where the people's photos are; give --photos DIR"
                f"{hint(options['model'])}"
            )
        source = enrolment.source
        if not stored or options["eval"] is None:
            options |= {"aligned": source.aligned, "largest_face": source.largest_face}
        options["photos"] = None if stored else source.photos
    if options["eval"] == "none":
        options["eval"] = None
    elif options["eval"] is None and enrolment is not None and enrolment.held_out:
        source = enrolment.source
        if bool(options["aligned"]) == source.aligned and Path(parse_spec(source.tested).path or "").is_dir():
            options |= {"eval": source.tested, "held_out_alone": enrolment.held_out}
    return options


def open_own(options: Mapping[str, Any], people: Sequence[str], classes: Sequence[str]) -> ImageData:
    """Open the photos of ``people``, from options that :func:`complete_options` made."""
    try:
        return open_data(of_people(options["photos"], people, "train"), "train", classes)
    except RequestError as error:
        raise RequestError(f"{error}{hint(options['model'])}") from error


def open_tested(options: Mapping[str, Any], spec: ModelSpec) -> ImageData | None:
    """Open the photos to measure on, from options that :func:`complete_options` made; None without any."""
    if options["eval"] is None:
        return None
    data = open_data(without_removed(options["eval"], "test", spec), "test", spec.classes)
    names = options["held_out_alone"]
    return data if names is None else data.subset([name in names for name in data.names])


def divide(
    photos: ImageData, tested: ImageData, ids: Sequence[int], model: str, seed: int
) -> tuple[ImageData, ImageData, list[str]]:
    """Hold out some ``photos`` to forget of each person in ``ids`` whose photos to measure on are all among them: those that
    ``tested``, photos of everyone to measure on, has; if it has all, those that the enrolment of the ``model`` folder held out,
    or a random share. Photos are the same if their pixels are. Return what remains of both, and a line for each division."""
    enrolment = read_enrolment(model)
    enrolled = frozenset[str]() if enrolment is None else enrolment.held_out
    notes: list[str] = []
    forget, measure = np.ones(len(photos), bool), np.ones(len(tested), bool)
    by_enrolment = False
    for person in ids:
        candidates, measured = (np.flatnonzero(data.labels == person) for data in (photos, tested))
        digests, measured_digests = photos.subset(candidates).digests, tested.subset(measured).digests
        if len(candidates) < 2 or not len(measured) or not np.isin(measured_digests, digests).all():
            continue  # nothing to divide, nothing to measure on, or other photos to measure on
        at_enrolment = candidates[[photos.names[i] in enrolled for i in candidates]]
        held_out = candidates[np.isin(digests, measured_digests)]
        why = "those that enrolment held out" if np.isin(held_out, at_enrolment).all() else "those of --test"
        if len(held_out) == len(candidates):
            held_out, why = at_enrolment, "those that enrolment held out"
            if 0 < len(held_out) < len(candidates):
                by_enrolment = True
            else:
                count = max(LEAST if len(candidates) >= 2 * LEAST else 1, round(SHARE * len(candidates)))
                held_out = np.random.default_rng((seed, person)).permutation(candidates)[:count]
                why = f"by chance, seed {seed}"
        forget[held_out] = False
        measure[measured] = np.isin(measured_digests, photos.subset(held_out).digests)
        notes.append(
            f"{len(held_out)} of {len(candidates)} photos of {photos.class_names[person]} are held out for the figures ({why}), "
            f"{len(candidates) - len(held_out)} are forgotten"
        )
    others = np.flatnonzero(measure & ~np.isin(tested.labels, list(ids)))
    untrained = np.array([tested.names[i] in enrolled for i in others], bool)
    if by_enrolment and untrained.any() and not untrained.all():
        measure[others[~untrained]] = False
        notes.append(f"Measured on {untrained.sum()} of others' {len(others)} photos: those that enrolment held out")
    return photos.subset(forget), tested.subset(measure), notes


def limit_photos(tested: ImageData, ids: Sequence[int], people: int) -> tuple[ImageData, str | None]:
    """Limit the photos to :data:`MOST_LOGITS` scores of ``people``: those of ``ids`` first, then a random choice; say so."""
    count = max(16, MOST_LOGITS // people)  # 16 are rehearsed with
    if len(tested) <= count:
        return tested, None
    order = np.random.default_rng(0).permutation(len(tested))
    removed = np.isin(tested.labels[order], list(ids))
    text = f"Measured on a random {count:,} of {len(tested):,} photos, for the memory that {people:,} people take"
    return tested.subset(np.sort(np.r_[order[removed], order[~removed]][:count])), text


def _digest(salt: str, name: str) -> str:
    """Compute the digest of a name in any spelling. It is no secret: a guessed name can be compared."""
    return hashlib.sha256(f"{salt} {SPELLINGS[-1](name)}".encode("utf-8", "surrogatepass")).hexdigest()


def with_removed(extra: Mapping[str, Any], people: Sequence[str], network: Any) -> dict[str, Any]:
    """Add people to those that a model's description notes as removed; the erased network's digest is the salt of the first."""
    noted = extra.get(REMOVED) or {"salt": tensors_sha256(network.state_dict())[:32], "sha256": []}
    digests = {*noted["sha256"], *(_digest(noted["salt"], name) for name in people)}
    return {**extra, REMOVED: {"salt": noted["salt"], "sha256": sorted(digests)}}


def was_removed(name: str, spec: ModelSpec) -> bool:
    """Return True if an earlier request removed a person, in any spelling."""
    noted = spec.extra.get(REMOVED)
    return noted is not None and _digest(noted["salt"], name) in noted["sha256"]


def removed_folders(text: str, split: str, spec: ModelSpec) -> list[str]:
    """List the folders of a data string that are of people removed before, none if it names no folder of people."""
    request = parse_spec(text, split)
    divided = request.label is None and os.path.isdir(os.path.expanduser(request.path or ""))
    named = person_folders(text, split) if divided and spec.extra.get(REMOVED) else ()
    return [name for name in named if was_removed(name, spec)]


def without_removed(text: str, split: str, spec: ModelSpec) -> str:
    """Leave the photos of people removed before out of a data string."""
    gone, request = removed_folders(text, split, spec), parse_spec(text, split)
    return request.named(request.classes, [*request.without, *gone]) if gone and not request.classes else text


def open_removed(text: str, spec: ModelSpec) -> ImageData | None:
    """Open the photos to measure on of people removed before; None without any, or if the string chooses people itself."""
    gone, request = removed_folders(text, "test", spec), parse_spec(text, "test")
    if not gone or request.classes or request.without or request.limit:
        return None
    return open_data(request.compose({"class": gone}), "test")
