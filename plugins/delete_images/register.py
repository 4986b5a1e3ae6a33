"""Registration of the task, its model and its datasets with mmengine."""

import delete_tasks.methods.builtin
import delete_tasks.runner.unlearn_runner  # noqa: F401
from delete_tasks.task import register_task

from .data import datasets  # noqa: F401
from .models import classifier  # noqa: F401
from .task import ImagesTask

TASK = register_task(ImagesTask())
