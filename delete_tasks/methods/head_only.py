"""Head only: masked distillation that trains the last layer alone."""

from functools import partial
from typing import Any

from mmengine.registry import HOOKS
from torch import nn

from ..errors import RequestError, UnsupportedModelError
from ..task import Task
from .delete import DELETE


@HOOKS.register_module()
class HeadOnly(DELETE):
    """DELETE in which the classifier layer alone trains.

    ``unlearn = dict(type='HeadOnly', classes=['car'])``. The features do not change, so a new head can be fitted that reads the
    class: a baseline for every table.
    """

    rate = 1e-2
    views = "plain"
    trains_head_alone = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.norm_eval:
            raise RequestError("HeadOnly keeps all features, so norm statistics as well; leave norm_eval at True")
        if self.readout:
            raise RequestError("unlearn.readout changes features, and HeadOnly keeps them all; leave readout out")

    def freeze(self, task: Task, model: nn.Module) -> None:
        name, head = task.classifier(model)
        trained = {id(parameter) for parameter in head.parameters()}
        if not any(parameter.requires_grad for parameter in head.parameters()):
            raise UnsupportedModelError(
                f"the classifier layer '{name}' is frozen (requires_grad is False), so HeadOnly has nothing to train"
            )
        for parameter in model.parameters():
            if parameter.requires_grad and id(parameter) not in trained:
                parameter.requires_grad_(False)
                self._restore.append(partial(parameter.requires_grad_, True))
