"""MMSegmentation: forget a class per pixel. Importing this package registers the task, UnlearnRunner and datasets."""

from delete_tasks.errors import require

require("mmseg", "segmentation")
require("cv2", "segmentation")

import delete_tasks.hooks  # noqa: E402
import delete_tasks.runner  # noqa: E402, F401
from delete_tasks.task import register_task  # noqa: E402

from . import datasets, labels  # noqa: E402, F401
from .task import SegmentationTask  # noqa: E402

TASK = register_task(SegmentationTask())
