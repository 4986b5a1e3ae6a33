"""The command ``faces identify``: who is on a photo, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from delete_images.model_file import load_model
from delete_images.sources import read_image
from delete_images.transforms import eval_transform
from delete_tasks.errors import RequestError

from .align import detector, frame_face
from .datasets import framing_of
from .network import check_face_network


def identify(options: Mapping[str, Any], console: Console) -> list[dict[str, Any]]:
    """Print who is on each photo, with scores.

    A score is the cosine of embedding and row for a cosine head, the logit for a linear one. Who scores below the threshold
    is nobody the model knows; the model's own threshold is what one in a hundred strangers reached when it was enrolled.

    Args:
        options: ``model, photos, threshold, top, aligned, largest_face, allow_import, device``, as on the command line.
        console: To print to.

    Returns:
        For each face ``photo``, ``box`` (None if aligned), ``name`` (None for nobody) and ``scores`` by name, best first.

    Raises:
        RequestError: A photo that is not there or not whole, no threshold, no face on any photo.
    """
    torch.set_flush_denormal(True)  # see UnlearnRunner.setup_env
    network, spec = load_model(options["model"], options["allow_import"])
    network = check_face_network(network, f"'{options['model']}'")
    threshold = options["threshold"] if options["threshold"] is not None else spec.extra.get("threshold")
    if threshold is None:
        console.print("The model has no threshold (it takes 100 held-out photos to set one): the best is always named")
    device = "cuda" if torch.cuda.is_available() and options["device"] != "cpu" else "cpu"
    network = network.to(device)
    framing = framing_of(spec, aligned=options["aligned"], largest_face=options["largest_face"], device=device)
    transform = eval_transform(spec)
    found: list[dict[str, Any]] = []
    for name in options["photos"]:
        try:
            image = read_image(Path(name))
        except Exception as error:  # Pillow raises a dozen kinds for damaged files
            raise RequestError(f"'{name}' is no photo that can be read: {error}; give a whole JPEG or PNG") from error
        faces: list[tuple[Any, Any]] = [(None, image)]
        if not framing.aligned:
            seen = detector(device).find(image)
            count = min(1, len(seen)) if framing.largest_face else len(seen)
            side = spec.preprocessing.size[0]
            faces = [
                (seen.boxes[i].round().astype(int).tolist(), frame_face(image, seen, i, framing.framing, side))
                for i in range(count)
            ]
        if not faces:
            console.print(f"{name}: no face found")
        for box, face in faces:
            with torch.no_grad():
                scores = network.head.scores(network(transform(face)[None].to(device)))[0].cpu()
            best = scores.topk(min(options["top"], len(scores)))
            listed = {
                spec.classes[i]: round(s, 4) for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            }
            first = next(iter(listed))
            who = first if threshold is None or listed[first] >= threshold else None
            found.append({"photo": str(name), "box": box, "name": who, "scores": listed})
            place = "" if box is None else f" at {box}"
            told = ", ".join(f"{person} {score:.3f}" for person, score in listed.items())
            limit = "" if threshold is None else f" (threshold {threshold:.3f})"
            console.print(f"{name}{place}: {who or 'nobody'}: {told}{limit}")
    if not found:
        raise RequestError(f"no face found on any of {len(options['photos'])} photos; give photos turned to the camera")
    return found
