"""Faces in photos of people, one folder each, framed for a network; and the photos that cannot be used, by name."""

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from delete_images.data.opening import ImageData, open_data
from delete_images.data.sources import FolderSource
from delete_images.data.strings import parse_spec
from delete_images.models.spec import Preprocessing
from delete_tasks.display.progress import track
from delete_tasks.errors import USER_ERRORS, RequestError, list_names, require
from delete_tasks.request.classes import UNKNOWN_CLASS, NameIndex
from delete_tasks.request.ranges import number

from .align import detector, frame_face

NESTED = 8  # folders of photos in a person's folder, from which they may be people
BATCH = 8  # photos that a process returns at a time; for fewer, a process is not worth its start

T = TypeVar("T")


@dataclass(frozen=True)
class Framing:
    """Framing of faces in photos."""

    preprocessing: Preprocessing  # the network's; its size is the size of a face
    framing: str = "points"  # see delete_faces.align.frame_face
    aligned: bool = False  # the photos are framed faces already; no detector runs
    largest_face: bool = False  # take the largest central face of a photo with several, instead of leaving it out
    device: str = "cpu"  # of the detector
    processes: int | None = None  # at most, that detect faces on a CPU; None: one per core

    def each(self, do: Callable[[int], T], count: int) -> Iterator[T]:
        """Yield ``do(i)``, which detects faces, for each of ``count`` photos, in order; see :func:`do_each`."""
        detector(self.device)  # read once, before processes are forked
        return do_each(do, count, self.processes if self.device == "cpu" else 1)


@dataclass(frozen=True)
class Photos:
    """Faces of people."""

    data: ImageData  # faces with labels (indices into the people) and names
    no_face: list[str] = field(default_factory=list)  # names of photos without a face
    several: dict[str, int] = field(default_factory=dict)  # numbers of faces, by name, of photos with several
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # name and reason of files that are no intact image
    largest_face: bool = False  # the photos in `several` are among the faces

    @property
    def searched(self) -> int:
        """Number of photos that could be read."""
        return len(self.data) + len(self.no_face) + (0 if self.largest_face else len(self.several))

    def left_out(self) -> dict[str, Any]:
        """List the photos that cannot be used, for results.json."""
        return {"no_face": self.no_face, "several_faces": self.several, "unreadable": self.unreadable}

    def notes(self) -> list[str]:
        """Describe the photos that were left out, a line for each reason."""
        total = self.searched + len(self.unreadable)
        lines = []
        if self.unreadable:
            named = [f"{name} ({reason})" for name, reason in self.unreadable]
            lines.append(f"Skipped, damaged image: {list_names(named, longest=None)} ({len(named)} of {total})")
        if self.no_face:
            lines.append(f"Skipped, no face found: {list_names(self.no_face)} ({len(self.no_face)} of {total})")
        if self.several:
            named = [f"{name} ({count} faces)" for name, count in self.several.items()]
            done = "Largest central face taken" if self.largest_face else "Skipped, several faces"
            fix = "" if self.largest_face else "; --largest-face takes the largest central one"
            lines.append(f"{done}: {list_names(named)} ({len(named)} of {total}){fix}")
        return lines


@dataclass(frozen=True)
class Templates:
    """Stored templates in place of photos, of any length (``faces remove --from-templates``, ``--retain``)."""

    embeddings: Tensor  # float32 (n, D)
    labels: np.ndarray  # (n,)
    names: list[str]  # of each, for messages and the list of samples
    lacking: Sequence[int]  # people without any

    def warnings(self, classes: Sequence[str]) -> list[str]:
        """Describe people, by indices into ``classes``, with no template or a single one."""
        single = [classes[i] for i, count in enumerate(np.bincount(self.labels, minlength=1)) if count == 1]
        none = "no template of {} in the store: class weights and name go, but two photos of the person match as before"
        one = "a single template of {}, hence one direction: more photos may still match than with several templates"
        return [*(none.format(classes[i]) for i in self.lacking), *map(one.format, single)]


def person_folders(text: str, split: str) -> tuple[str, ...]:
    """List the people's folders in the place that a data string names; refuse a place without any."""
    request = parse_spec(text, split)
    root = Path(os.path.expanduser(request.path or ""))
    if not os.path.isdir(root):
        problem = "a file" if os.path.exists(root) else "nothing there"
        raise RequestError(f"no photos at '{root}' ({problem}); expected one folder of photos for each person")
    return FolderSource(root, request.split, explicit=request.split_given, label_given=False).class_names


def of_people(text: str, people: Sequence[str], split: str) -> str:
    """Make a data string of the folders of ``people`` alone; refuse people without a folder."""
    request = parse_spec(text, split)
    if request.classes or request.label is not None:
        return text
    folders = person_folders(text, split)
    matches = NameIndex(folders).match(people)
    missing = [name for name, position in zip(people, matches, strict=True) if position == UNKNOWN_CLASS]
    if missing:
        raise RequestError(
            f"'{text}' has no folder for {list_names(missing)}; expected one for each person: {list_names(folders)}"
        )
    return request.compose({"class": people})


def open_photos(
    text: str,
    split: str,
    framing: Framing,
    people: Sequence[str] | None = None,
    title: str = "Finding faces",
    console: Console | None = None,
) -> Photos:
    """Read photos as ``open_data`` and frame the face on each; refuse a person without any face. Print the photos left out to a
    ``console``. ``split`` is that of a folder with train/ and test/; ``people`` the model's class names, None the folders'."""
    return frame_photos(open_data(text, split, people), framing, text, title, console)


def frame_photos(
    data: ImageData, framing: Framing, text: str, title: str = "Finding faces", console: Console | None = None
) -> Photos:
    """Frame the face on each of the opened photos, see :func:`open_photos`; ``text`` names them in messages."""
    if console is not None:
        _warn_of_nested(data, text, console)
    photos = Photos(data, unreadable=data.skipped) if framing.aligned else _find_faces(data, framing, text, title)
    if console is not None:
        for note in photos.notes():
            console.print(note)
    return photos


def _warn_of_nested(data: ImageData, text: str, console: Console) -> None:
    """Warn of a folder one level too high, whose people are folders of people; this is seen before any face is looked for."""
    inside = {tuple(name.split("/")[:2]) for name in data.names if name.count("/") > 1}
    (person, count), *_ = [*Counter(person for person, _ in inside).most_common(1), ("", 0)]
    if count >= NESTED:
        console.print(
            f"Warning: '{text}' holds {len(set(data.labels.tolist()))} people, and '{person}' has {count} folders of photos; if "
            f"these are the people, give '{Path(parse_spec(text).path or '') / person}'"
        )


def _find_faces(data: ImageData, framing: Framing, text: str, title: str) -> Photos:
    side = framing.preprocessing.size[0]
    faces = np.empty((len(data), side, side, 3), np.uint8)  # its memory is taken as it is filled
    indices: list[int] = []
    no_face: list[str] = []
    several: dict[str, int] = {}
    results = framing.each(partial(_frame_one, data, framing), len(data))
    for i, (count, face) in enumerate(track(results, len(data), title)):
        if count > 1:
            several[data.names[i]] = count
        if face is not None:
            faces[len(indices)] = face
            indices.append(i)
        elif not count:
            no_face.append(data.names[i])
    chosen = data.subset(indices)
    framed = ImageData.from_arrays(faces[: len(indices)], chosen.labels, data.class_names, chosen.names)
    photos = Photos(framed, no_face, several, data.skipped, framing.largest_face)
    empty = np.setdiff1d(data.labels, framed.labels)
    if len(empty):
        people = list_names([data.class_names[i] for i in empty])
        raise RequestError(
            f"'{text}': no photo of {people} is left of {int(np.isin(data.labels, empty).sum())}. {'; '.join(photos.notes())}. "
            "Give photos with one face each, turned to the camera; or --aligned, for photos that are cropped to the face"
        )
    return photos


def _frame_one(data: ImageData, framing: Framing, index: int) -> tuple[int, np.ndarray | None]:
    """Count the faces on a photo, and frame one; None if there is none, or several of which none may be chosen."""
    image = data[index][0]
    faces = detector(framing.device).find(image)
    if len(faces) == 0 or (len(faces) > 1 and not framing.largest_face):
        return len(faces), None
    return len(faces), frame_face(image, faces, 0, framing.framing, framing.preprocessing.size[0])


def hold_out(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Hold out at random about ``share``, in [0, 1), of the photos of each int64 label ``(N,)``, never all: bool ``(N,)``."""
    number("held_out", share, 0, 1, below=True)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        count = min(round(share * len(places)), len(places) - 1)
        held[np.random.default_rng((seed, int(label))).permutation(places)[:count]] = True
    return held


def _do_batch(do: Callable[[int], Any], indices: Sequence[int]) -> list[Any] | BaseException:
    """Compute a batch; a user error is returned, since a DataLoader would raise it with the worker's traceback."""
    try:
        return list(map(do, indices))
    except USER_ERRORS as error:
        return error


def _begin(_: int) -> None:
    """Prepare a worker: Ctrl-C is left to the main process, which ends the workers; OpenCV computes in one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    require("cv2", "faces").setNumThreads(1)


def do_each(do: Callable[[int], T], count: int, processes: int | None = None) -> Iterator[T]:
    """Yield ``do(0)``, ``do(1)``, ... of ``count`` photos in order, by at most so many processes (None: one per core; few photos:
    this one). Without fork ``do`` must be picklable. RequestError says that a process was killed; errors of ``do`` are raised."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = min(cores if processes is None else processes, count // BATCH)
    if wanted < 2 or multiprocessing.current_process().daemon:  # a daemon may not have processes of its own
        return map(do, range(count))
    photos, cv2 = cast(Any, range(count)), require("cv2", "faces")
    loader = DataLoader(photos, BATCH, num_workers=wanted, collate_fn=partial(_do_batch, do), worker_init_fn=_begin)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # ends the others: a fork copies their pool without the threads, and would wait for these
    # Started here, not when the first result is needed: by then a progress bar's thread may hold a lock, which a fork copies.
    results = iter(loader)
    cv2.setNumThreads(threads)
    return _results(results)


def _results(batches: Iterator[list[Any] | BaseException]) -> Iterator[Any]:
    try:
        for batch in batches:
            if isinstance(batch, BaseException):
                raise batch
            yield from batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RequestError(
            f"a process that detects faces has ended ({error}), perhaps for lack of memory; use fewer --processes"
        ) from error
