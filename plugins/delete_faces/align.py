"""Detection of faces in photos, and their alignment to the frame that a network was trained on."""

import contextlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from delete_images.data.sources import pixels_sha256
from delete_tasks.errors import RequestError, require
from delete_tasks.fileio.atomic import replacing
from delete_tasks.fileio.compute import flush_subnormals
from delete_tasks.fileio.validate import read_json

FRAMINGS = ("points", "box")
LEAST_PROBABILITY = 0.9  # of a detected face; MTCNN itself returns boxes from 0.7
# Eyes, nose and corners of the mouth in a picture of 112x112 pixels: the reference that ArcFace (arXiv 1801.07698) and most
# published face networks were trained with.
REFERENCE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
REFERENCE_SIDE = 112
# Smallest face, as a share of the photo's shorter side: smaller faces are in the background, unless there is no other.
LEAST_SHARE = 1 / 6
LEAST_PIXELS = 20
CACHE_VARIABLE = "DELETE_TASKS_FACE_CACHE"  # another folder of the cache; 'off' disables it


@dataclass(frozen=True)
class Faces:
    """Faces that a detector found in one photo, the largest central one first."""

    boxes: NDArray[np.float64]  # (n, 4): left, top, right, bottom in pixels
    points: NDArray[np.float64]  # (n, 5, 2): x, y of eyes, nose and corners of the mouth, left to right as seen
    probabilities: NDArray[np.float64]  # (n,)

    def __len__(self) -> int:
        return len(self.boxes)


class FaceCache:
    """Cache of detected faces: a JSON file for each photo, named by its digest, with boxes, points and probabilities. A file that
    is damaged, or cannot be read or written, only costs time. ``name`` tells detectors and their settings apart."""

    def __init__(self, name: str) -> None:
        folder = os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "delete-tasks" / "faces"
        self.folder = None if folder == "off" else Path(folder, name)
        self._faces: dict[str, Faces] = {}

    def get(self, digest: str) -> Faces | None:
        """Return the faces in the photo of this SHA-256, or None."""
        if digest not in self._faces and self.folder is not None:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                entry = read_json(self.folder / f"{digest}.json")
                boxes, points, probabilities = (np.asarray(entry[key], float) for key in Faces.__annotations__)
                count = len(probabilities)
                self._faces[digest] = Faces(boxes.reshape(count, 4), points.reshape(count, 5, 2), probabilities)
        return self._faces.get(digest)

    def put(self, digest: str, faces: Faces) -> None:
        """Store the faces in a photo."""
        self._faces[digest] = faces
        if self.folder is not None:
            with contextlib.suppress(OSError), replacing(self.folder / f"{digest}.json") as temporary:
                temporary.touch(0o600)
                temporary.write_text(json.dumps({key: value.tolist() for key, value in vars(faces).items()}))


class Detector:
    """MTCNN (Zhang et al., arXiv 1604.02878) of facenet-pytorch, whose weights come in its wheel."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        facenet = require("facenet_pytorch", "faces")
        with torch.random.fork_rng(devices=[]):  # its networks draw random weights before they load their own
            self.mtcnn = facenet.MTCNN(keep_all=True, device=torch.device(device)).eval()
        self.cache = FaceCache(f"mtcnn-{LEAST_PROBABILITY:g}-{LEAST_SHARE:.4f}-{torch.device(device).type}")

    def find(self, image: NDArray[np.uint8]) -> Faces:
        """Find the faces in an RGB photo ``(H, W, 3)``."""
        digest = pixels_sha256(image)
        faces = self.cache.get(digest)
        if faces is None:
            faces = self._search(image)
            self.cache.put(digest, faces)
        return faces

    def _search(self, image: NDArray[np.uint8]) -> Faces:
        from PIL import Image

        flush_subnormals()  # for callers from Python: commands have done it
        photo, shorter = Image.fromarray(image), min(image.shape[:2])
        threads = torch.get_num_threads()
        # The networks are small; and with one thread, sums have the same bits on any number of cores and processes.
        torch.set_num_threads(1)
        try:
            faces = self._detect(photo, max(LEAST_PIXELS, round(shorter * LEAST_SHARE)))
            return faces if len(faces) or shorter < LEAST_PIXELS else self._detect(photo, LEAST_PIXELS)
        finally:
            torch.set_num_threads(threads)

    def _detect(self, photo: Any, least: int) -> Faces:
        """Find faces of ``least`` or more pixels."""
        boxes = None
        if min(photo.size) >= least:  # MTCNN fails on smaller photos
            self.mtcnn.min_face_size = least
            # MTCNN stacks an empty list if no window passes a stage.
            with contextlib.suppress(RuntimeError, ValueError):
                boxes, probabilities, points = self.mtcnn.detect(photo, landmarks=True)
        if boxes is None:
            return Faces(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))
        boxes, points, probabilities = (np.asarray(array, float) for array in (boxes, points, probabilities))
        likely = np.flatnonzero(probabilities >= LEAST_PROBABILITY)
        # MTCNN's 'center_weighted_size': area minus twice the squared distance from the photo's centre.
        sides = boxes[likely, 2:] - boxes[likely, :2]
        away = (boxes[likely, :2] + boxes[likely, 2:]) / 2 - np.array(photo.size) / 2
        order = likely[np.argsort(2 * (away**2).sum(1) - sides.prod(1), kind="stable")]
        return Faces(boxes[order], points[order], probabilities[order])


_DETECTORS = threading.local()


def detector(device: str = "cpu") -> Detector:
    """Return the thread's detector, made at the first call."""
    if getattr(_DETECTORS, "device", None) != device:
        _DETECTORS.detector, _DETECTORS.device = Detector(device), device
    return _DETECTORS.detector


def fit_similarity(points: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Fit rotation, scale and shift, not mirrored, from ``points`` to ``targets`` ``(n, 2)`` by least squares, as ``(2, 3)``."""
    x, y = np.asarray(points, float).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    (a, b, c, d), *_ = np.linalg.lstsq(rows, np.asarray(targets, float).T.reshape(-1), rcond=None)
    return np.array([[a, -b, c], [b, a, d]])


def frame_face(image: NDArray[np.uint8], faces: Faces, number: int, framing: str, side: int) -> NDArray[np.uint8]:
    """Cut the face of index ``number`` out of an RGB photo ``(H, W, 3)``, as ``(side, side, 3)``; refuse an unknown framing.
    ``framing`` 'points' turns and scales it so that eyes, nose and mouth lie as in ArcFace's; 'box' is facenet-pytorch's."""
    if framing not in FRAMINGS:
        raise RequestError(f"framing is '{framing}'; expected one of {', '.join(FRAMINGS)}")
    if framing == "box":
        facenet = require("facenet_pytorch", "faces")
        from PIL import Image

        face = facenet.extract_face(Image.fromarray(image), faces.boxes[number].copy(), side, 0)
        return face.permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    cv2 = require("cv2", "faces")
    matrix = fit_similarity(faces.points[number], REFERENCE * (side / REFERENCE_SIDE))
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=0)
