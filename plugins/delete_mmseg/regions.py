"""Places of forgotten pixels: whether the class that replaces a region stands beside it in the original's prediction."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from delete_tasks.evaluation.functional import percent
from delete_tasks.evaluation.metric import Measured, Metric, NotMeasured, Row
from delete_tasks.evaluation.metrics import dependent

# A class is beside a region if it has this share of the region's border: a tree nearly always touches a pole somewhere.
LEAST_SHARE = 0.02
LIMIT = 4.0  # percent, see docs/notes/segmentation.md


def count_misplaced(original: Tensor, predicted: Tensor, ids: Sequence[int], classes: int) -> tuple[int, int]:
    """Count the forgotten pixels, and those that became a class from elsewhere. A region is a connected (8 neighbours) part of
    the pixels that the ``original`` model assigns to one of ``ids``. A class is beside it if :data:`LEAST_SHARE` or more of the
    region's border, in sides of pixels, is its. Regions without a border do not count. Both predictions are integers ``(H, W)``.
    Return the number of pixels in regions, and of those whose new class is neither one of ``ids`` nor beside their region."""
    before, after = (labels.cpu().numpy().astype(np.intp) for labels in (original, predicted))
    forgotten = np.isin(before, list(ids))
    count, region = cv2.connectedComponents(forgotten.astype(np.uint8), connectivity=8)
    sides = np.zeros(count * classes, np.intp)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        for inside, outside in ((one, other), (other, one)):
            edge = forgotten[inside] & ~forgotten[outside]
            sides += np.bincount(region[inside][edge] * classes + before[outside][edge], minlength=len(sides))
    border = sides.reshape(count, classes)
    length = border.sum(1, keepdims=True)
    where = forgotten & (length > 0)[region, 0]
    beside = border >= np.maximum(LEAST_SHARE * length, 1)
    beside[:, list(ids)] = True
    return int(where.sum()), int((~beside[region[where], after[where]]).sum())


def misplaced(data: str, of: str) -> Metric:
    """Define the share of forgotten pixels that became a class from elsewhere, without labels: see :func:`count_misplaced`."""

    def compute(row: Row) -> Measured:
        counts = row.data.get(data)
        if counts is None:
            raise NotMeasured
        if counts.compared is None:
            return Measured(note="it was not compared with the original")
        pixels, wrong = counts.compared
        value = percent(wrong, pixels)
        note = "the original predicts none of these classes" if value is None else dependent(pixels)
        return Measured(value, counts.showing, note=note)

    title = "pixels of the forgotten classes, as the original predicts them, that became a class from elsewhere"
    return Metric("misplaced", title, "percent", compute, limit=LIMIT, of=of, column="misplaced", relative=True)
