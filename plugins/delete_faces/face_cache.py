"""Cache of face positions by the photo's digest, so that no photo is searched twice."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARIABLE = "DELETE_TASKS_FACE_CACHE"  # another folder; 'off' keeps nothing
KEYS = ("boxes", "points", "probabilities")


def cache_folder() -> Path | None:
    """Return the folder of the cache; None if it is switched off."""
    given = os.environ.get(VARIABLE)
    if given == "off":
        return None
    return Path(given) if given else Path.home() / ".cache" / "delete-tasks" / "faces"


def digest_of(image: NDArray[np.uint8]) -> str:
    """SHA-256 of a photo's size and pixels, as hex: the same whatever the file is called and wherever it lies."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


class FaceCache:
    """A file with a line of JSON for each photo: its digest, boxes, points and probabilities; no pixel and no name.

    Each line is appended by one write, so that several processes may share the file; a line that is not whole (a process was
    killed, a disk was full) counts as not there. What cannot be read or written costs time alone.

    Args:
        name: Of the detector and how it is set: what another one found is another file.
    """

    def __init__(self, name: str) -> None:
        folder = cache_folder()
        self.path = None if folder is None else folder / f"{name}.jsonl"
        self._found: dict[str, dict[str, Any]] = {}
        self._end = 0  # of the lines that were read

    def get(self, digest: str) -> dict[str, NDArray[np.float64]] | None:
        """``boxes (n, 4)``, ``points (n, 5, 2)`` and ``probabilities (n,)`` of a photo, or None."""
        if digest not in self._found:
            self._read_on()
        entry = self._found.get(digest)
        if entry is None:
            return None
        with contextlib.suppress(ValueError, TypeError):
            count = len(entry["probabilities"])
            shapes = dict(zip(KEYS, ((count, 4), (count, 5, 2), (count,)), strict=True))
            return {key: np.asarray(entry[key], float).reshape(shapes[key]) for key in KEYS}
        return None

    def put(self, digest: str, **found: NDArray[np.float64]) -> None:
        """Keep what was found on a photo."""
        entry = {key: value.tolist() for key, value in found.items()}
        self._found[digest] = entry
        if self.path is None:
            return
        line = json.dumps({"digest": digest, **entry}) + "\n"
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, line.encode())
            finally:
                os.close(handle)

    def _read_on(self) -> None:
        """Lines that this or another process has added since."""
        with contextlib.suppress(OSError):
            if self.path is None or self.path.stat().st_size <= self._end:
                return
            with open(self.path, "rb") as file:
                file.seek(self._end)
                lines = file.read().splitlines(keepends=True)
            if lines and not lines[-1].endswith(b"\n"):  # another process may be writing it
                lines.pop()
            self._end += sum(map(len, lines))
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    self._found[entry["digest"]] = {key: entry[key] for key in KEYS}
