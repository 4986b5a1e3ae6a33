"""Faces found in photos and brought into the frame that a network was trained on."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from delete_tasks.errors import RequestError, require
from delete_tasks.fileio.compute import flush_subnormals

from .face_cache import FaceCache, digest_of

FRAMINGS = ("points", "box")
LEAST_PROBABILITY = 0.9  # of a face, else it is left out; MTCNN itself passes on boxes from 0.7
# Two eyes, nose and corners of the mouth in a 112x112 picture: the reference that ArcFace (arXiv 1801.07698) and most
# published face networks were trained with.
REFERENCE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
REFERENCE_SIDE = 112
# Of the photo's shorter side: who is smaller stands in the background, unless there is nobody else.
LEAST_SHARE = 1 / 6
LEAST_PIXELS = 20


@dataclass(frozen=True)
class Found:
    """Faces that a detector found in one photo, the largest central one first.

    Attributes:
        boxes: ``(n, 4)`` left, top, right, bottom in pixels.
        points: ``(n, 5, 2)`` x, y of eyes, nose and corners of the mouth, left to right as seen.
        probabilities: ``(n,)``.
    """

    boxes: NDArray[np.float64]
    points: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.boxes)


class Detector:
    """MTCNN (Zhang et al., arXiv 1604.02878) of facenet-pytorch, whose weights come in its wheel."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        facenet = require("facenet_pytorch", "faces")
        with torch.random.fork_rng(devices=[]):  # its networks draw random weights before they load their own
            self.mtcnn = facenet.MTCNN(keep_all=True, device=torch.device(device)).eval()
        self.cache = FaceCache(f"mtcnn-{LEAST_PROBABILITY:g}-{LEAST_SHARE:.4f}-{torch.device(device).type}")

    def find(self, image: NDArray[np.uint8]) -> Found:
        """Faces in one RGB photo ``(H, W, 3)``; from the cache, if it was searched before."""
        digest = digest_of(image)
        known = self.cache.get(digest)
        if known is not None:
            return Found(**known)
        found = self._search(image)
        self.cache.put(digest, boxes=found.boxes, points=found.points, probabilities=found.probabilities)
        return found

    def _search(self, image: NDArray[np.uint8]) -> Found:
        from PIL import Image

        flush_subnormals()  # for callers from Python: commands have done it
        photo, shorter = Image.fromarray(image), min(image.shape[:2])
        threads = torch.get_num_threads()
        torch.set_num_threads(
            1
        )  # its networks are small; and sums have the same bits, however many processes and cores there are
        try:
            found = self._find(photo, max(LEAST_PIXELS, round(shorter * LEAST_SHARE)))
            return found if len(found) or shorter < LEAST_PIXELS else self._find(photo, LEAST_PIXELS)
        finally:
            torch.set_num_threads(threads)

    def _find(self, photo: Any, least: int) -> Found:
        nothing = Found(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0))
        if min(photo.size) < least:
            return nothing  # MTCNN fails on these
        self.mtcnn.min_face_size = least
        try:
            boxes, probabilities, points = self.mtcnn.detect(photo, landmarks=True)
        except (RuntimeError, ValueError):
            return nothing  # MTCNN stacks an empty list where no window passes a stage
        if boxes is None:
            return nothing
        likely = np.asarray(probabilities, float) >= LEAST_PROBABILITY
        boxes, points = np.asarray(boxes, float)[likely], np.asarray(points, float)[likely]
        order = _largest_central_first(boxes, *photo.size)
        return Found(boxes[order], points[order], np.asarray(probabilities, float)[likely][order])


_DETECTORS = threading.local()


def detector(device: str = "cpu") -> Detector:
    """Return the process's detector, made at the first call."""
    if getattr(_DETECTORS, "device", None) != device:
        _DETECTORS.found, _DETECTORS.device = Detector(device), device
    return _DETECTORS.found


def _largest_central_first(boxes: NDArray[np.float64], width: int, height: int) -> NDArray[np.int64]:
    # MTCNN's own 'center_weighted_size': area minus twice the squared distance of the box's centre from the picture's.
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 - np.array([width / 2, height / 2])
    return np.argsort(-(area - 2 * (centre**2).sum(1)), kind="stable")


def fit_similarity(points: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Fit the rotation, scale and shift from ``points`` to ``targets`` (both ``(n, 2)``), as a ``(2, 3)`` matrix.

    Least squares over x' = a x - b y + c, y' = b x + a y + d, which cannot mirror a face.
    """
    x, y = np.asarray(points, float).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    (a, b, c, d), *_ = np.linalg.lstsq(rows, np.asarray(targets, float).T.reshape(-1), rcond=None)
    return np.array([[a, -b, c], [b, a, d]])


def frame_face(image: NDArray[np.uint8], found: Found, number: int, framing: str, side: int) -> NDArray[np.uint8]:
    """Cut one face out of a photo.

    Args:
        image: RGB ``(H, W, 3)``.
        found: What the detector saw.
        number: Which of the faces.
        framing: 'points' turns and scales the face so that eyes, nose and mouth lie where ArcFace's reference has them; 'box'
            takes the detector's box as facenet-pytorch does.
        side: Of the result, in pixels.

    Returns:
        RGB ``(side, side, 3)``.

    Raises:
        RequestError: Unknown framing.
    """
    if framing not in FRAMINGS:
        raise RequestError(f"framing is '{framing}'; expected one of {', '.join(FRAMINGS)}")
    if framing == "box":
        facenet = require("facenet_pytorch", "faces")
        from PIL import Image

        face = facenet.extract_face(Image.fromarray(image), found.boxes[number].copy(), side, 0)
        return face.permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    cv2 = require("cv2", "faces")
    matrix = fit_similarity(found.points[number], REFERENCE * (side / REFERENCE_SIDE))
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=0)
