"""Registration of the task, its model, method and dataset with mmengine."""

import delete_tasks.runner.unlearn_runner  # noqa: F401

from . import data, model  # noqa: F401
from .task import TASK as TASK
