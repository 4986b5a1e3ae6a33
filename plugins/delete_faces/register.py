"""Registers the task, its model and its dataset with mmengine; what runs a Runner imports it."""

import delete_tasks.methods.builtin
import delete_tasks.runner.unlearn_runner  # noqa: F401
from delete_tasks.task import register_task

from . import datasets, network, projection  # noqa: F401
from .task import FacesTask

TASK = register_task(FacesTask())
