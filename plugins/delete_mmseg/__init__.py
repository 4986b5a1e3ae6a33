"""MMSegmentation: forget a class per pixel. Importing this package registers the task, UnlearnRunner and datasets."""

from delete_tasks.display.terminal import without_chatter
from delete_tasks.errors import require

with without_chatter():
    require("mmseg", "segmentation")
    require("cv2", "segmentation")
    import delete_tasks.methods.builtin
    import delete_tasks.runner.unlearn_runner  # noqa: F401
    from delete_tasks.task import register_task

    from . import datasets, labels  # noqa: F401
    from .task import SegmentationTask

TASK = register_task(SegmentationTask())
