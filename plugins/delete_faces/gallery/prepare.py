"""The command ``faces align``: detect faces once and write them as pictures, for commands without a detector."""

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
from delete_tasks.fileio.atomic import replacing, save_json
from delete_tasks.fileio.compute import choose_device

from ..backbones import backbone_defaults
from ..photos import Framing, hold_out, open_photos

LEFT_OUT = "left_out.json"


def align(options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Write the face on each photo to ``OUT/train/PERSON/`` or ``OUT/test/PERSON/`` as PNG, in the subfolder of its photo; return
    the summary's figures. Refuse a non-empty folder, no photos, no faces, and a person's name that cannot be a folder's."""
    image_module = require("PIL.Image", "faces")
    out = Path(options["out"])
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"--out '{out}' is not empty; give a new folder, so that no other held-out photos are in it")
    default = backbone_defaults(options["backbone"])
    flags = (False, options["largest_face"], choose_device(options["device"]), options.get("processes"))
    framing = Framing(default.preprocessing, default.framing, *flags)
    begin = time.monotonic()
    photos = open_photos(options["photos"], "train", framing, console=console)
    seconds = time.monotonic() - begin
    data, total, found = photos.data, photos.searched, photos.searched - len(photos.no_face)
    held_out = hold_out(data.labels, options["held_out"], options["seed"])
    for i, path in enumerate(_places(data, out, held_out)):
        with replacing(path) as temporary:
            image_module.fromarray(data[i][0]).save(temporary, "PNG")
    if any(photos.left_out().values()):
        save_json(photos.left_out(), out / LEFT_OUT)
        console.print(f"All photos that were left out are listed in {out / LEFT_OUT}")
    several, unreadable, tested = len(photos.several), len(photos.unreadable), int(held_out.sum())
    each = round(seconds / max(1, total), 4)
    console.print(
        f"A face found on {found} of {total} photos ({100 * found / total:.1f}%), {1000 * each:.0f} ms a photo\nWritten: {out} "
        f"({len(data) - tested} faces in train, {tested} in test)"
    )
    counts = {"photos": total, "found": found, "several": several, "unreadable": unreadable, "held_out": tested}
    return {**counts, "seconds_a_photo": each}


def _places(data: ImageData, out: Path, held_out: NDArray[np.bool_]) -> list[Path]:
    """Choose a file for each photo's face."""
    places = []
    for i, name in enumerate(data.names):
        person = data.class_names[int(data.labels[i])]
        if person in (".", "..") or "/" in person or os.sep in person or "\0" in person:
            raise RequestError(f"'{person}' cannot be the name of a person's folder; give the photos another name")
        within = Path(name.removeprefix(f"{person}/"))
        places.append(out / ("test" if held_out[i] else "train") / person / within.with_name(f"{within.name}.png"))
    taken = Counter([*places, *{parent for path in places for parent in path.parents}])
    twice = [path for path in places if taken[path] > 1]
    if twice:
        raise RequestError(f"several photos would be written to '{twice[0]}'; rename them")
    return places
