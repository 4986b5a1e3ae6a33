"""Face networks and photos, opened once for the table, a record's rerun, the audit and attention."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any

import numpy as np
from torch import nn

from delete_images.data.opening import ImageData
from delete_images.data.strings import parse_spec
from delete_images.look import sample_of
from delete_images.models.spec import ModelSpec
from delete_images.opened import Networks, check_classes, forgotten_ids, make_opened, open_attacked, open_networks
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.opened import Opened, Person, Place, Sample, Text
from delete_tasks.fileio.compute import choose_device
from delete_tasks.request.classes import NameIndex

from .align import detector
from .datasets import framing_of
from .enrolment import without_removed
from .network import CosineHead, FaceNetwork, check_face_network
from .photos import Framing, of_people, open_photos, person_folders

OTHERS = 6  # other people in attention pictures, unless the user names them
BORDER = 28  # pixels around a framed face: the detector misses faces that fill the picture
MEASURED = "held-out photos"  # their heading in the list of samples
NO_WEIGHTS = "The erased model has no class weights of the person; the original's head is used on its embedder."
LIMIT = "With photos of a person, the class weights can be made again; the figures show how well they then identify the person."
PROJECTED = (
    "The erased weights show which directions were projected out: with the original embedder, they tell whether a given photo is "
    "of the removed person."
)
UNCHANGED = (
    "No stored template was given of {} of {} people to forget, so for these the embedder was not changed: two photos of such a "
    "person match as before. Only class weights and names were removed."
)
CHANGED = "Photos of people who stay (the retain set) were read and their templates changed: compare templates of one model only."


def open_faces(paths: Mapping[str, str], data: Mapping[str, Any], options: Mapping[str, Any]) -> Opened | None:
    """Open model folders and folders of photos, see :attr:`delete_tasks.task.Task.open`; None if the original is no face network.
    If the erased model has no class weights of the person: for attacks, the person's logit is minus infinity; for figures and
    attention, the original's head is put on it. Refuse models or photos that cannot be opened or run, and unknown people."""
    recorded = bool(options.get("recorded"))
    if recorded and "original" not in paths:
        raise RequestError("the original, whose head has the class weights of the removed people, is missing")
    networks = open_networks(paths, options)
    if networks is None or not (recorded or isinstance(networks["original"][0], FaceNetwork)):
        return None
    for row, (network, _) in networks.items():
        check_face_network(network, f"the {row} model '{paths[row]}'")
    spec = networks["original"][1]
    flags = {name: bool(options.get(name, name != "aligned")) for name in ("aligned", "largest_face")}
    if not data or recorded:
        notes = _give_heads(networks, always=recorded)
        ids = options["forgotten"](spec.classes) if recorded else list(options.get("classes") or ())
        opened = make_opened(networks, spec.classes, of="photos", notes=notes, ids=ids)
        if recorded:
            framing = framing_of(spec, **flags, device=choose_device())
            tested = without_removed(data["test"], "test", spec)
            held_out = open_photos(tested, "test", framing, spec.classes, "Finding held-out faces").data
            opened.samples = {"test": held_out.subset(options["samples"].places(MEASURED, held_out.names))}
        return attentive(opened, spec, framing_of(spec, **flags))
    framing = framing_of(spec, aligned=flags["aligned"], largest_face=True, device=choose_device())
    photos = {
        split: open_photos(without_removed(text, each, spec), each, framing, spec.classes).data
        for split, text in data.items()
        for each in ["test" if split == "test" else "train"]
    }
    ids = forgotten_ids(options.get("classes") or (), photos["forget"], spec.classes, data["forget"])
    return open_attacked(networks, photos, ids, paths, "photos")


def open_run(original: FaceNetwork, spec: ModelSpec, ids: Sequence[int], options: Mapping[str, Any]) -> Opened:
    """Open what ``faces remove`` measures; ``options`` are those of the command line."""
    flags = {name: bool(options.get(name)) for name in ("aligned", "largest_face")}
    networks: Networks = {"original": (original, spec)}
    opened = make_opened(networks, spec.classes, of="photos", ids=ids, limits=[LIMIT])
    photos = [options["eval"] or options["photos"]]  # None with stored templates alone
    opened.reopen, opened.look_at = "no held-out photos were given", [*filter(None, photos)]
    if options["eval"] is not None:
        opened.reopen = {"data": {"test": located_photos(options["eval"])}, "options": flags}
        path = parse_spec(options["eval"]).path
        opened.measured_on = None if path is None else Text(["held-out photos in ", Place(path)])
    return attentive(opened, spec, framing_of(spec, **flags))


def attentive(opened: Opened, spec: ModelSpec, framing: Framing) -> Opened:
    """Add attention on photos."""
    opened.elementwise = True  # MobileFaceNet ends in a depthwise convolution over the whole map
    opened.look = partial(look_at_people, opened, spec, framing)
    return opened


def _give_heads(networks: Networks, always: bool) -> list[str]:
    """Put the original's head on embedders without all class weights, or on all, in place; return notes. Refuse other people."""
    notes = []
    network, spec = networks["original"]
    head: Any = network.head
    for row, (other, description) in list(networks.items())[1:]:
        embedder: Any = other.embedder
        fewer = len(description.classes) != len(spec.classes)
        if fewer and not row.startswith("erased"):
            counts = len(description.classes), len(spec.classes)
            raise RequestError(f"the {row} model has {counts[0]} people, the original {counts[1]}")
        if fewer:
            notes.append(NO_WEIGHTS)
        else:
            check_classes(description.classes, spec.classes, (), f"{row} model", row.startswith("erased"))
        if fewer or always:
            networks[row] = FaceNetwork(embedder, head).eval(), spec
    return notes


def located_photos(text: str) -> Text:
    """Split a data string of photos into text, places and people, so that a record can be moved and can hide names."""
    request = parse_spec(text, "test")
    path = os.path.abspath(os.path.expanduser(request.path or ""))
    named = {"class": request.classes, "without": request.without}
    if request.label is not None:
        named = {**({} if os.path.isdir(path) else named), "label": (request.label,)}
    elif os.path.isdir(path):
        folders = person_folders(text, "test")
        matches = {key: NameIndex(folders).match(names) for key, names in named.items()}
        named = {key: tuple(folders[i] for i in places if i >= 0) for key, places in matches.items()}
    pieces: list[Any] = [Place(path)]
    marks = chain("?", repeat("&"))  # before each option
    for key, names in named.items():
        for number, name in enumerate(names):
            pieces += [("," if number else f"{next(marks)}{key}="), Person(name)]
    split = request.split if request.split_given else None
    for key, value in (("split", split), ("limit", request.limit), ("seed", request.seed)):
        if value is not None:
            pieces.append(f"{next(marks)}{key}={value}")
    return Text(pieces)


def look_at_people(
    opened: Opened, spec: ModelSpec, framing: Framing, inputs: Sequence[Any], class_id: int, others: Sequence[int]
) -> Iterator[Sample]:
    """Give held-out photos of the removed person ``class_id``, then of ``others`` (if empty, :data:`OTHERS` evenly spaced ones),
    each for the attention of the person on it; refuse no photos. ``inputs`` are folders of people's folders, or opened photos."""
    if not inputs:
        raise RequestError("no photos: give a folder with one folder of photos for each person")
    for model in opened.models.values():
        head: Any = next((one for one in model.module.modules() if isinstance(one, CosineHead)), nn.Module())
        # Normalising to length 1 gives shorter embeddings larger gradients, which would look like attention.
        head.hold_length = True
    names = opened.names
    for source in inputs:
        if isinstance(source, ImageData):
            present = set(source.labels.tolist())
        else:
            folders = set(person_folders(source, "test"))
            present = {i for i, name in enumerate(names) if name in folders}
        chosen = list(others) or [i for i in range(len(names)) if i != class_id and i in present]
        step = max(1, len(chosen) // OTHERS) if not others else 1
        for person in (class_id, *chosen[::step][: len(others) or OTHERS]):
            if isinstance(source, ImageData):
                photos = source.subset(source.labels == person)
            else:
                photos = open_photos(of_people(source, [names[person]], "test"), "test", framing, names).data
            for index in range(len(photos)):
                yield sample_of(spec, photos, index, person, person == class_id, **face_region(photos[index][0], spec))


def face_region(face: np.ndarray, spec: ModelSpec) -> dict[str, Any]:
    """Detect the face box in a cropped face, RGB ``(side, side, 3)``: ``region`` and ``region_is`` of a sample."""
    faces = detector().find(np.pad(face, [(BORDER, BORDER), (BORDER, BORDER), (0, 0)]))
    height, width = spec.preprocessing.size
    if not len(faces) or face.shape[:2] != (height, width):
        return {"region": None, "region_is": "whole picture, no face box found"}
    left, top, right, bottom = np.rint(faces.boxes[0] - BORDER).astype(int)
    region = np.zeros((height, width), bool)
    region[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return {"region": region, "region_is": "face box"}
