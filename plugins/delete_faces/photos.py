"""Photos of people, one folder each, as faces in the frame of a network; and what could not be used, by name."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console

from delete_images.data.opening import ImageData, open_data
from delete_images.data.sources import FolderSource
from delete_images.data.strings import parse_spec
from delete_images.models.spec import Preprocessing
from delete_tasks.display.terminal import track
from delete_tasks.errors import RequestError, list_names
from delete_tasks.request.classes import UNKNOWN_CLASS, NameIndex

from .align import detector, frame_face
from .workers import do_each

T = TypeVar("T")


@dataclass(frozen=True)
class Framing:
    """Framing of faces in photos.

    Attributes:
        preprocessing: Of the network; its size is the size of a face.
        framing: See :func:`delete_faces.align.frame_face`.
        aligned: The photos are faces in that frame already; no detector runs.
        largest_face: Where a photo shows several faces, take the largest central one instead of leaving the photo out.
        device: Where the detector runs.
        processes: How many find faces, where the device is the CPU; None: as many as there are cores for this process.
    """

    preprocessing: Preprocessing
    framing: str = "points"
    aligned: bool = False
    largest_face: bool = False
    device: str = "cpu"
    processes: int | None = None

    def each(self, do: Callable[[int], T], count: int) -> Iterator[T]:
        """``do(i)`` for each of ``count`` photos that faces are to be found on, in order; see :func:`do_each`."""
        detector(self.device)  # its networks, read once, are what processes are forked with
        return do_each(do, count, self.processes if self.device == "cpu" else 1)


@dataclass(frozen=True)
class Photos:
    """Faces of people.

    Attributes:
        data: Faces with labels (indices into the people) and names.
        no_face: Names of photos in which no face was found.
        several: Names of photos with several faces, and how many.
        unreadable: Names of files that are no whole image, and why.
        largest_face: Photos of ``several`` are among the faces.
    """

    data: ImageData
    no_face: list[str] = field(default_factory=list)
    several: dict[str, int] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    largest_face: bool = False

    def tell(self, console: Console) -> None:
        """Print what was left out and why."""
        for text in self.notes():
            console.print(text)

    def notes(self) -> list[str]:
        """Describe the photos that were left out, a line for each reason."""
        total = len(self.data) + len(self.no_face) + len(self.unreadable)
        total += 0 if self.largest_face else len(self.several)
        found = []
        if self.unreadable:
            named = [f"{name} ({reason})" for name, reason in self.unreadable]
            found.append(f"Skipped, no whole image: {list_names(named, longest=None)} ({len(named)} of {total})")
        if self.no_face:
            found.append(f"Skipped, no face found: {list_names(self.no_face)} ({len(self.no_face)} of {total})")
        if self.several:
            named = [f"{name} ({count} faces)" for name, count in self.several.items()]
            done = "Largest central face taken" if self.largest_face else "Skipped, several faces"
            fix = "" if self.largest_face else "; --largest-face takes the largest central one"
            found.append(f"{done}: {list_names(named)} ({len(named)} of {total}){fix}")
        return found


def person_folders(text: str, split: str) -> tuple[str, ...]:
    """List the folders in a data string's place, one for each person.

    Raises:
        RequestError: There is no such folder, or it holds no folders of photos.
    """
    request = parse_spec(text, split)
    root = Path(os.path.expanduser(request.path or ""))
    if not os.path.isdir(root):
        found = "a file" if os.path.exists(root) else "nothing there"
        raise RequestError(
            f"no photos at '{root}' ({found}); expected a folder with one folder of photos for each person"
        )
    return FolderSource(root, request.split, explicit=request.split_given, label_given=False).class_names


def of_people(text: str, people: Sequence[str], split: str) -> str:
    """Make a data string that reads the folders of ``people`` alone; other folders are not opened.

    Raises:
        RequestError: One of them has no folder.
    """
    request = parse_spec(text, split)
    if request.classes or request.label is not None:
        return text
    folders = person_folders(text, split)
    matched = NameIndex(folders).match(people)
    missing = [name for name, position in zip(people, matched, strict=True) if position == UNKNOWN_CLASS]
    if missing:
        raise RequestError(
            f"'{text}' has no folder for {list_names(missing)}; expected one folder of photos for each person, there are: "
            f"{list_names(folders)}"
        )
    return request.compose({"class": people})


def open_photos(
    text: str, split: str, framing: Framing, people: Sequence[str] | None = None, title: str = "Finding faces"
) -> Photos:
    """Read photos and bring each face into the network's frame. ``people`` are the model's class names; None takes the
    folders' own. ``split`` is used where the folder has train/ and test/.

    Raises:
        RequestError: As :func:`delete_images.data.opening.open_data`; no face in any photo; a person without any face.
    """
    return frame_photos(open_data(text, split, people), framing, text, title)


def frame_photos(data: ImageData, framing: Framing, text: str, title: str = "Finding faces") -> Photos:
    """Frame photos that are read already; ``text`` names them in messages."""
    if framing.aligned:
        return Photos(data, unreadable=data.skipped)
    side = framing.preprocessing.size[0]
    faces = np.empty((len(data), side, side, 3), np.uint8)  # pages of it are taken as they are filled
    kept: list[int] = []
    no_face: list[str] = []
    several: dict[str, int] = {}
    results = framing.each(partial(_find_face, data, framing), len(data))
    for i, (found, face) in enumerate(track(results, len(data), title)):
        if found > 1:
            several[data.names[i]] = found
        if face is not None:
            faces[len(kept)] = face
            kept.append(i)
        elif not found:
            no_face.append(data.names[i])
    names = [data.names[i] for i in kept]
    framed = ImageData.from_arrays(faces[: len(kept)], data.labels[kept], data.class_names, names)
    done = Photos(framed, no_face, several, data.skipped, framing.largest_face)
    _check_someone_left(data, done, text)
    return done


def _find_face(data: ImageData, framing: Framing, index: int) -> tuple[int, np.ndarray | None]:
    """Count the faces in a photo and choose one; None if there is none, or there are several and none is to be taken."""
    image = data[index][0]
    found = detector(framing.device).find(image)
    if len(found) == 0 or (len(found) > 1 and not framing.largest_face):
        return len(found), None
    return len(found), frame_face(image, found, 0, framing.framing, framing.preprocessing.size[0])


def _check_someone_left(data: ImageData, done: Photos, text: str) -> None:
    empty = sorted(set(data.labels.tolist()) - set(done.data.labels.tolist()))
    if empty:
        who = list_names([data.class_names[i] for i in empty])
        reasons = "; ".join(done.notes())
        raise RequestError(
            f"'{text}': no photo of {who} is left of {int(np.isin(data.labels, empty).sum())}. {reasons}. Give photos that "
            "show one face each, turned to the camera; or, for photos that are cut to the face already, --aligned"
        )


def hold_out(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Choose the photos to hold out: boolean ``(N,)``, about ``share`` of each person's; at least one remains for training.

    Args:
        labels: int64 ``(N,)``.
        share: In [0, 1).
        seed: Of the choice.

    Raises:
        RequestError: ``share`` is outside of its range.
    """
    if not 0 <= share < 1:
        raise RequestError(f"the held-out share is {share}; expected 0 or more and below 1, e.g. 0.3")
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        count = min(round(share * len(places)), len(places) - 1)
        held[np.random.default_rng((seed, int(label))).permutation(places)[:count]] = True
    return held
