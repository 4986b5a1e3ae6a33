"""Dense prediction as a task: the location is a position of the output."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from delete_tasks.errors import UnsupportedModelError
from delete_tasks.evaluation.metrics import location_ious
from delete_tasks.model.head import ClassLayer
from delete_tasks.task import Task, register_task

from ...models.classifier import ImageClassifier, cast_for
from ...models.outputs import at_size, run
from ...recipes import DENSE_RECIPES
from ...task import ImagesTask


class DenseModel(ImageClassifier):
    """Network with logits ``(N, C, *locations)`` under mmengine's interface; its state dict is the network's own. ``layers`` are
    the names of its class layers, the prediction's first."""

    task = "dense"

    def __init__(self, network: nn.Module, num_classes: int, layers: Sequence[str] = ()) -> None:
        super().__init__(network, num_classes=num_classes)
        self.layers = list(layers)

    def forward(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        retain: Tensor | None = None,
        mode: str = "tensor",
        valid: Tensor | None = None,
    ) -> Any:
        """Compute logits ``(N, C, *locations)`` or, with ``mode='loss'``, a dict of losses at the logits' own size, as
        :meth:`ImageClassifier.forward`. ``labels`` and ``valid`` (booleans, False on padding) are ``(N, *any size)``."""
        logits = run(self.network, cast_for(self.network, inputs), self.num_classes)  # type: ignore[arg-type]
        if mode != "loss":
            return logits[0]
        size = logits[0].shape[2:]
        labels, valid = (None if part is None else at_size(part, size) for part in (labels, valid))
        if retain is not None:
            retain = retain.view(-1, *(1 for _ in size))
        return self.loss_by_logits(logits, labels, retain, valid)


class DenseTask(ImagesTask):
    """Task of :class:`DenseModel`, only for ``erase()``, which chooses and checks the samples before a run."""

    name = "dense"
    metrics = location_ious("test", "test images")
    recipes = DENSE_RECIPES
    open = None
    finish = Task.finish  # not the classifiers'

    def classifier(self, model: Any) -> tuple[str, nn.Module]:
        if not model.layers:
            raise UnsupportedModelError(f"the last layer of {type(model.network).__name__} was not found")
        return model.layers[0], model.network.get_submodule(model.layers[0])

    def class_layers(self, model: Any) -> list[ClassLayer]:
        return [ClassLayer(name, model.network.get_submodule(name)) for name in model.layers]


TASK = register_task(DenseTask())
