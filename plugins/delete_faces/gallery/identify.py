"""The command ``faces identify``: who is on a photo, or nobody."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from delete_images.data.sources import SUFFIXES, read_image
from delete_images.data.transforms import eval_transform
from delete_images.models.model_file import load_model
from delete_tasks.errors import RequestError, first_line
from delete_tasks.fileio.compute import choose_device, flush_subnormals

from ..align import detector, frame_face
from ..checks import check_numbers
from ..datasets import framing_for
from ..network import check_face_network
from ..photos import Framing
from .enroll import stranger_threshold


def identify(options: Mapping[str, Any], console: Console) -> list[dict[str, Any]]:
    """Print who is on each photo, with scores.

    A score is the cosine of embedding and row for a cosine head, the logit for a linear one. Who scores below the threshold
    is nobody the model knows; the model's own threshold is what one in a hundred strangers reached when it was enrolled.
    For a model that has none, it is taken from all scores of these photos but the best of each face.

    Args:
        options: ``model, photos (files, or folders that are searched), threshold, top, aligned, largest_face, allow_import,
            device, processes``, as on the command line.
        console: To print to.

    Returns:
        For each face ``photo``, ``box`` (None if aligned), ``name`` (None for nobody) and ``scores`` by name, best first.

    Raises:
        RequestError: ``top`` or ``threshold`` out of range, no photo that can be read, no face on any.
    """
    check_numbers(options, "threshold", "top")
    flush_subnormals()
    network, spec = load_model(options["model"], options["allow_import"])
    network = check_face_network(network, f"'{options['model']}'")
    paths = find_photos(options["photos"])
    device = choose_device(options["device"])
    network = network.to(device)
    framing = framing_for(spec, options, device)
    transform, side = eval_transform(spec), spec.preprocessing.size[0]

    def scored() -> Iterator[tuple[Path, Any, Tensor]]:
        for path, box, face in _faces(paths, framing, side, console):
            with torch.no_grad():
                yield path, box, network.head.scores(network(transform(face)[None].to(device)))[0].cpu()

    threshold = options["threshold"] if options["threshold"] is not None else spec.extra.get("threshold")
    faces: Any = scored()
    if threshold is None:
        faces = list(faces)
        threshold = _measured_threshold([scores for *_, scores in faces], console)
    found: list[dict[str, Any]] = []
    for path, box, scores in faces:
        best = scores.topk(min(options["top"], len(scores)))
        listed = {
            spec.classes[i]: round(s, 4) for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        }
        first = next(iter(listed))
        who = first if threshold is not None and listed[first] >= threshold else None
        found.append({"photo": str(path), "box": box, "name": who, "scores": listed})
        place = "" if box is None else f" at {box}"
        told = ", ".join(f"{person} {score:.3f}" for person, score in listed.items())
        limit = "" if threshold is None else f" (threshold {threshold:.3f})"
        console.print(f"{path}{place}: {who or 'nobody'}: {told}{limit}", soft_wrap=True)
    if not found:
        raise RequestError(f"no face found on any of {len(paths)} photos; give photos turned to the camera")
    return found


def find_photos(given: Sequence[str]) -> list[Path]:
    """Files as they are, and of folders all images in them, also in folders within.

    Raises:
        RequestError: A folder without images.
    """
    paths: list[Path] = []
    for path in map(Path, given):
        if not path.is_dir():
            paths.append(path)
            continue
        named = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        inside = sorted(filter(Path.is_file, named))
        if not inside:
            raise RequestError(f"'{path}' holds no images ({', '.join(SUFFIXES[:4])}, ...)")
        paths += inside
    return paths


def _faces(
    paths: Sequence[Path], framing: Framing, side: int, console: Console
) -> Iterator[tuple[Path, list[int] | None, np.ndarray]]:
    """Path, box and framed face of each face; what cannot be read, or shows none, is said.

    Raises:
        RequestError: Nothing can be read.
    """
    unread = []
    look = partial(_look, paths, framing, side)
    looked = (look(i) for i in range(len(paths))) if framing.aligned else framing.each(look, len(paths))
    for path, (reason, faces) in zip(paths, looked, strict=True):
        if reason is not None:
            unread.append(f"'{path}' ({reason})")
            console.print(f"Warning: skipped, no photo that can be read: {unread[-1]}", soft_wrap=True)
        elif not faces:
            console.print(f"{path}: no face found", soft_wrap=True)
        yield from ((path, box, face) for box, face in faces)
    if len(unread) == len(paths):
        raise RequestError(f"no photo that can be read: {', '.join(unread[:5])}; give whole JPEG or PNG files")


def _look(
    paths: Sequence[Path], framing: Framing, side: int, index: int
) -> tuple[str | None, list[tuple[list[int] | None, np.ndarray]]]:
    """Why a photo cannot be read, or None; and box and framed face of each face on it."""
    path = paths[index]
    try:
        image = read_image(path)
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        return first_line(error) if path.exists() else "nothing there", []
    if framing.aligned:
        return None, [(None, image)]
    seen = detector(framing.device).find(image)
    wanted = range(min(1, len(seen)) if framing.largest_face else len(seen))
    boxes = [seen.boxes[i].round().astype(int).tolist() for i in wanted]
    return None, [
        (box, frame_face(image, seen, i, framing.framing, side)) for i, box in zip(wanted, boxes, strict=True)
    ]


def _measured_threshold(scores: Sequence[Tensor], console: Console) -> float | None:
    # A face is of one person at most, so all scores but its best are of impostor pairs.
    others = torch.cat([row.sort().values[:-1] for row in scores]) if scores else torch.zeros(0)
    threshold = stranger_threshold(others, len(scores[0])) if scores else None
    if threshold is None:
        console.print(
            "The model has no threshold, and these photos are too few to set one, so nobody is named: give --threshold"
        )
    else:
        console.print(
            f"The model has no threshold; these photos give {threshold:.3f}, from {len(others)} scores that are no face's best"
        )
    return threshold
