"""The command ``faces align``: faces found once and written as pictures, so that later commands need no detector."""

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from delete_images.data.opening import ImageData
from delete_tasks.errors import RequestError, require
from delete_tasks.fileio.compute import choose_device, flush_subnormals

from ..backbones import backbone_defaults
from ..photos import Framing, hold_out, open_photos


def align(options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Write the face on each photo to ``OUT/train/PERSON/`` or ``OUT/test/PERSON/`` as PNG; folders within a person's stay.

    Args:
        options: ``photos, out, backbone, held_out, largest_face, seed, device, processes``, as on the command line.
        console: For the summary.

    Returns:
        ``photos`` looked at, faces ``found``, and ``seconds_a_photo``.

    Raises:
        RequestError: No photos, no faces, faces in the output folder already, or a person's name that is no folder's.
    """
    image_module = require("PIL.Image", "faces")
    flush_subnormals()
    out = Path(options["out"])
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"--out '{out}' is not empty; an older choice of held-out photos would mix with this one")
    default = backbone_defaults(options["backbone"])
    device = choose_device(options["device"])
    how = {"largest_face": options["largest_face"], "device": device, "processes": options.get("processes")}
    framing = Framing(default.preprocessing, default.framing, **how)
    begin = time.monotonic()
    photos = open_photos(options["photos"], "train", framing)
    seconds = time.monotonic() - begin
    data = photos.data
    held = hold_out(data.labels, options["held_out"], options["seed"])
    for i, path in enumerate(_places(data, out, held)):
        path.parent.mkdir(parents=True, exist_ok=True)
        image_module.fromarray(data[i][0]).save(path)
    photos.tell(console)
    total = len(data) + len(photos.no_face) + (0 if photos.largest_face else len(photos.several))
    summary = {
        "photos": total,
        "found": total - len(photos.no_face),
        "several": len(photos.several),
        "unreadable": len(photos.unreadable),
        "held_out": int(held.sum()),
        "seconds_a_photo": round(seconds / max(1, total), 4),
    }
    console.print(
        f"A face found on {summary['found']} of {total} photos ({100 * summary['found'] / total:.1f}%), "
        f"{1000 * summary['seconds_a_photo']:.0f} ms a photo\nWritten: {out} ({len(data) - held.sum()} faces in train, "
        f"{held.sum()} in test)"
    )
    return summary


def _places(data: ImageData, out: Path, held: NDArray[np.bool_]) -> list[Path]:
    """Choose a file for each photo's face."""
    places = []
    for i, name in enumerate(data.names):
        person = data.class_names[int(data.labels[i])]
        if person in (".", "..") or "/" in person or os.sep in person or "\0" in person:
            raise RequestError(f"'{person}' cannot be the name of a person's folder; give the photos another name")
        within = Path(name.removeprefix(f"{person}/"))
        places.append(out / ("test" if held[i] else "train") / person / within.with_name(f"{within.name}.png"))
    taken = Counter([*places, *{parent for path in places for parent in path.parents}])
    twice = [path for path in places if taken[path] > 1]
    if twice:
        raise RequestError(f"several photos would be written to '{twice[0]}'; rename them")
    return places
