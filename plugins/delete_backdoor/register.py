"""Registers the task, its model, dataset and watch with mmengine; what runs a Runner imports it."""

import delete_images.register  # noqa: F401
from delete_tasks.task import register_task

from . import datasets, defences, watch  # noqa: F401
from .task import BackdoorTask

TASK = register_task(BackdoorTask())
