"""Registration of the task, its model, dataset and hook with mmengine; modules that run a Runner import it."""

import delete_tasks.methods.builtin
import delete_tasks.runner.unlearn_runner  # noqa: F401
from delete_tasks.task import register_task

from . import datasets, network, projection  # noqa: F401
from .task import FacesTask

TASK = register_task(FacesTask())
