"""Registers the task, its model and its datasets with mmengine; what runs a Runner imports it."""

import delete_tasks.hooks
import delete_tasks.runner  # noqa: F401
from delete_tasks.task import register_task

from . import classifier, datasets  # noqa: F401
from .dense.task import DenseTask
from .task import ImagesTask

TASK = register_task(ImagesTask())
DENSE_TASK = register_task(DenseTask())
