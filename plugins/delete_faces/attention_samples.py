"""Face networks and photos as ``delete-tasks attention`` and the erasure record look at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from delete_images.attention_samples import open_network, sample_of
from delete_images.classifier import ImageClassifier
from delete_images.spec import ModelSpec
from delete_tasks.errors import RequestError
from delete_tasks.task import OpenModels, Sample

from .align import detector
from .datasets import framing_of
from .heads import CosineHead
from .network import FaceNetwork
from .photos import of_people, open_photos, person_folders

KEPT = 6  # people who are looked at beside the removed one, unless the user names them
BORDER = 28  # pixels around a framed face: the detector misses faces that fill the picture


def open_face_networks(paths: Mapping[str, str], options: Mapping[str, Any]) -> OpenModels | None:
    """Model folders of face networks; None where the original is something else.

    A person whose row was taken out has no logit in the erased model. The original's head then stands on the erased embedder:
    the person's own template, asked what it still sees.

    Raises:
        RequestError: A model that is no face network, or whose people are not the original's.
    """
    first = open_network(paths["original"], options)
    if first is None or not isinstance(first[0], FaceNetwork):
        return None
    network: Any = first[0]
    spec = first[1]
    models: dict[str, Any] = {"original": network}
    notes = []
    for name in (name for name in paths if name != "original"):
        opened = open_network(paths[name], options)
        if opened is None or not isinstance(opened[0], FaceNetwork):
            raise RequestError(
                f"the {name} model '{paths[name]}' is no face network; make one with: delete-tasks faces enroll"
            )
        other: Any = opened[0]
        own = opened[1]
        if len(own.classes) != len(spec.classes):
            if name != "erased":
                raise RequestError(
                    f"the {name} model knows {len(own.classes)} people, the original {len(spec.classes)}"
                )
            other = FaceNetwork(other.embedder, network.head)
            notes.append("The erased model has no row for the person; the original's head stands on its embedder.")
        models[name] = other
    for other in models.values():
        if isinstance(other.head, CosineHead):
            # Through the scaling to length 1 a shorter embedding has larger gradients, which would pass for attention.
            other.head.hold_length = True
    wrapped = {name: ImageClassifier(other, num_classes=len(spec.classes)).eval() for name, other in models.items()}
    return OpenModels(dict(wrapped), spec.classes, tuple(notes), context=spec)


def iter_samples(
    opened: OpenModels, inputs: Sequence[str], class_id: int, kept: Sequence[int], options: Mapping[str, Any]
) -> Iterator[Sample]:
    """Held-out photos of the person, then of kept people, each looked at for the person it shows.

    Args:
        opened: See :func:`open_face_networks`.
        inputs: Folders with one folder of photos for each person.
        class_id: The removed person.
        kept: Others; none takes a few, spread over all.
        options: ``aligned`` and ``largest_face``, as of the faces commands.

    Raises:
        RequestError: No photos.
    """
    if not inputs:
        raise RequestError("no photos: give a folder with one folder of photos for each person")
    spec, names = opened.context, opened.class_names
    framing = framing_of(
        spec, aligned=bool(options.get("aligned")), largest_face=bool(options.get("largest_face", True))
    )
    for text in inputs:
        folders = set(person_folders(text, "test"))
        others = list(kept) or [i for i in range(len(names)) if i != class_id and names[i] in folders]
        step = max(1, len(others) // KEPT) if not kept else 1
        for person in (class_id, *others[::step][: len(kept) or KEPT]):
            photos = open_photos(of_people(text, [names[person]], "test"), "test", framing, names).data
            for index in range(len(photos)):
                yield sample_of(spec, photos, index, person, person == class_id, **face_region(photos[index][0], spec))


def face_region(face: np.ndarray, spec: ModelSpec) -> dict[str, Any]:
    """``region`` and ``region_is`` of a framed face, RGB ``(side, side, 3)``: the detector's box in it."""
    padded = np.pad(face, [(BORDER, BORDER), (BORDER, BORDER), (0, 0)])
    found = detector().find(padded)
    height, width = spec.preprocessing.size
    if not len(found) or face.shape[:2] != (height, width):
        return {"region": None, "region_is": "whole picture, no face box found"}
    left, top, right, bottom = np.rint(found.boxes[0] - BORDER).astype(int)
    region = np.zeros((height, width), bool)
    region[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return {"region": region, "region_is": "face box"}
