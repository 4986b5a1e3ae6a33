"""MMSegmentation: forget a class per pixel. Importing this package registers the task, UnlearnRunner and datasets."""

import sys

from delete_tasks.display.terminal import without_chatter
from delete_tasks.errors import MissingExtraError, require

try:
    with without_chatter():
        require("mmseg", "segmentation")
        require("cv2", "segmentation")
except MissingExtraError as error:
    if sys.argv[:1] != ["-m"]:  # `python -m delete_mmseg.demo` begins with this import: one message, no traceback
        raise
    print(f"delete-tasks: error: {error}", file=sys.stderr)
    raise SystemExit(2) from None

with without_chatter():
    import delete_tasks.methods.builtin
    import delete_tasks.runner.unlearn_runner  # noqa: F401
    from delete_tasks.task import register_task

    from . import datasets, labels  # noqa: F401
    from .task import SegmentationTask

TASK = register_task(SegmentationTask())
