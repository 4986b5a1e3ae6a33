"""The command ``faces identify``: name the people on photos."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from delete_images.data.sources import images_in
from delete_images.data.transforms import eval_transform
from delete_tasks.errors import RequestError, first_line
from delete_tasks.fileio.atomic import save_json
from delete_tasks.fileio.compute import choose_device, flush_subnormals
from delete_tasks.fileio.images import SUFFIXES, read_image
from delete_tasks.request.classes import resolve_classes

from ..align import detector, frame_face
from ..datasets import framing_for
from ..network import load_face_network
from ..photos import Framing
from .enroll import stranger_threshold

Face = tuple[list[int] | None, np.ndarray]  # box, None if aligned, and framed face


def identify(options: Mapping[str, Any], console: Console) -> None:
    """Name the person on each face, with scores, see the heads' ``scores``; below the threshold a face is of an unknown person.
    For a model without a threshold, see :func:`stranger_threshold`, one is set on all scores of these photos but each face's
    best. The file ``out`` of the command's ``options`` lists for each face ``photo``, ``box`` (None if aligned), ``name`` (None
    if unknown) and ``scores`` by name, best first. Refuse photos of which none can be read, or without any face."""
    flush_subnormals()
    network, spec = load_face_network(options)
    paths = find_photos(options["photos"])
    device = choose_device(options["device"])
    network = network.to(device)
    framing, transform = framing_for(spec, options, device), eval_transform(spec)

    def score() -> Iterator[tuple[Path, list[int] | None, Tensor]]:
        for path, (box, face) in _find_faces(paths, framing, console):
            with torch.no_grad():
                yield path, box, network.head.scores(network(transform(face)[None].to(device)))[0].cpu()

    wanted = resolve_classes(options["person"], spec.classes) if options["person"] else None
    threshold = options["threshold"] if options["threshold"] is not None else spec.extra.get("threshold")
    faces: Any = score()
    if threshold is None:
        faces = list(faces)
        # A face is of one person at most, so all scores but its best are of impostor pairs.
        others = torch.cat([torch.zeros(0), *(scores.sort().values[:-1] for *_, scores in faces)])
        threshold = stranger_threshold(others, len(spec.classes))
        if threshold is not None:
            text = f"these photos give {threshold:.3f}, from {len(others)} scores that are no face's best"
            console.print(f"The model has no threshold; {text}")
        elif faces:
            console.print("The model has no threshold, and these photos are too few to set one: give --threshold")
    if wanted is not None and threshold is None:
        raise RequestError("--person lists faces above a threshold, and the model has none; give --threshold")
    identified: list[dict[str, Any]] = []
    for path, box, scores in faces:
        order = scores.argsort(descending=True).tolist()
        shown = order[: options["top"]] if wanted is None else [i for i in order if i in wanted]
        listed = {spec.classes[i]: round(float(scores[i]), 4) for i in shown}
        first = next(iter(listed))
        name = first if threshold is not None and listed[first] >= threshold else None
        if wanted is not None and name is None:
            continue
        identified.append({"photo": str(path), "box": box, "name": name, "scores": listed})
        place = "" if box is None else f" at {box}"
        people = ", ".join(f"{person} {score:.3f}" for person, score in listed.items())
        limit = "" if threshold is None else f" (threshold {threshold:.3f})"
        console.print(f"{path}{place}: {name or 'unknown'}: {people}{limit}")
    if wanted is not None:
        console.print(f"{len(identified)} faces on {len({one['photo'] for one in identified})} of {len(paths)} photos")
    elif not identified:
        raise RequestError(f"no face found on any of {len(paths)} photos; give photos turned to the camera")
    if options["out"] is not None:
        save_json(identified, options["out"])
        console.print(f"Written: {options['out']}")


def find_photos(places: Sequence[str]) -> list[Path]:
    """List the files among ``places``, and all images in the folders, at any depth; refuse a folder without images."""
    paths: list[Path] = []
    for path in map(Path, places):
        inside = images_in(path) if path.is_dir() else [path]
        if not inside:
            raise RequestError(f"'{path}' holds no images ({', '.join(SUFFIXES[:4])}, ...)")
        paths += inside
    return paths


def _find_faces(paths: Sequence[Path], framing: Framing, console: Console) -> Iterator[tuple[Path, Face]]:
    """Yield path and face of each face; print which photos cannot be read, or show none. Refuse photos if none can be read."""
    unread = []
    search = partial(_search, paths, framing)
    results = map(search, range(len(paths))) if framing.aligned else framing.each(search, len(paths))
    for path, (problem, faces) in zip(paths, results, strict=True):
        if problem is not None:
            unread.append(f"'{path}' ({problem})")
            console.print(f"Warning: skipped, cannot be read: {unread[-1]}")
        elif not faces:
            console.print(f"{path}: no face found")
        yield from ((path, face) for face in faces)
    if len(unread) == len(paths):
        raise RequestError(f"no photo that can be read: {', '.join(unread[:5])}; give intact JPEG or PNG files")


def _search(paths: Sequence[Path], framing: Framing, index: int) -> tuple[str | None, list[Face]]:
    """Find the faces on a photo; the text, if any, says why it cannot be read."""
    path = paths[index]
    try:
        image = read_image(path)
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        return first_line(error) if path.exists() else "nothing there", []
    if framing.aligned:
        return None, [(None, image)]
    faces = detector(framing.device).find(image)
    side = framing.preprocessing.size[0]
    count = min(1, len(faces)) if framing.largest_face else len(faces)
    return None, [
        (faces.boxes[i].round().astype(int).tolist(), frame_face(image, faces, i, framing.framing, side))
        for i in range(count)
    ]
