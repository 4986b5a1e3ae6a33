"""A classifier's last layer after training: the forgotten classes' weights are removed, the logits' scale is restored."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import UnsupportedModelError
from delete_tasks.model.class_layers import find_class_layers
from delete_tasks.model.head import check_linear, match_scale, neutralise_rows, scale_rows
from delete_tasks.task import Run

from .classifier import ImageClassifier, cast_for, class_outputs, predict_batch

VIEWS, BATCH = 512, 128
LOOKED_AT = 8  # views on which the last layer is found
# Where the stream of samples is read for the scale: far from what any run trains on, and the same after a resumed run.
FIRST_VIEW = 2**32


def finish(runner: Run) -> dict[str, Any]:
    """Replace the forgotten classes' weights, then match the logits' scale to the original's; see :mod:`delete_tasks.model.head`.

    The scale is fitted on views of the forget set (and the retain samples beside it), each weighted by the probability that the
    original gives the classes that remain: no label and no other image is read.

    Returns:
        ``{"rows_replaced": names of layers, "scale": factor or None}``, with ``scale_not_matched``, the reason, where it is None,
        and ``rows_not_replaced``, the reason, where the last layer was not found.
    """
    model, ids, keep_row = runner.unwrapped_model, runner.selection.forget_ids, runner.recipe.keep_row
    matched = runner.recipe.match_scale and runner.method.needs_teacher
    batches = list(_views(runner, VIEWS if matched else 2))
    done: dict[str, Any] = {"rows_replaced": [], "scale": None}
    with class_outputs_on(runner.task, model):
        try:
            layers = class_layers_of(model, batches[0])
            for name, layer in () if keep_row else layers:
                check_linear(layer, name)
        except UnsupportedModelError as error:
            rows = {} if keep_row else {"rows_not_replaced": str(error)}
            return {**done, **rows, "scale_not_matched": str(error)}
        for name, layer in () if keep_row else layers:
            _replace_rows(layer, model, ids, batches[0])
            done["rows_replaced"].append(name)
    if not runner.recipe.match_scale:
        return {**done, "scale_not_matched": "match_scale is off"}
    if not runner.method.needs_teacher:
        return {**done, "scale_not_matched": f"{type(runner.method).__name__} has no teacher"}
    model.eval()
    logits = [(predict_batch(model, inputs).cpu(), predict_batch(runner.teacher, inputs).cpu()) for inputs in batches]
    student, teacher = (torch.cat(part) for part in zip(*logits, strict=True))
    kept = [i for i in range(student.shape[1]) if i not in ids]
    factor = match_scale(student[:, kept], teacher[:, kept], teacher.softmax(1)[:, kept].sum(1))
    if factor is None:
        return {**done, "scale_not_matched": "no view for which original and erased model predict the same class"}
    layer = layers[0][1]
    before = copy.deepcopy(layer.state_dict())
    scale_rows(layer, factor, but=() if keep_row else ids)
    if not _same(_kept_logits(model, ids, batches[0])[0], factor * _centred(student[: len(batches[0]), kept])):
        layer.load_state_dict(before)
        return {**done, "scale_not_matched": f"the logits are no linear function of '{layers[0][0]}'"}
    return {**done, "scale": factor}


def _views(runner: Run, count: int) -> Iterator[Tensor]:
    dataset, collate = runner.train_dataloader.dataset, runner.train_dataloader.collate_fn
    for begin in range(0, count, BATCH):
        items = [dataset[FIRST_VIEW + i] for i in range(begin, min(count, begin + BATCH))]
        yield collate(items)["inputs"]


@contextmanager
def class_outputs_on(task: Any, model: ImageClassifier) -> Iterator[None]:
    """Eval mode, but with the flags on that make a network give its auxiliary outputs."""
    model.eval()
    flags = task.training_flags(model)
    for module in flags:
        module.training = True
    try:
        yield
    finally:
        for module in flags:
            module.training = False


def class_layers_of(model: ImageClassifier, inputs: Tensor) -> list[tuple[str, nn.Module]]:
    """Find the layers whose outputs are the network's class outputs, as it runs now; the prediction's first.

    Raises:
        UnsupportedModelError: There is none for the prediction.
    """
    network, classes = model.network, model.num_classes
    outputs_of = partial(_all_outputs, model, inputs[:LOOKED_AT])
    prediction, *auxiliary = find_class_layers(network, outputs_of, classes, nonlinear=True)  # type: ignore[arg-type]
    if not prediction:
        raise UnsupportedModelError(
            f"{type(network).__name__} has no linear layer whose {classes} outputs go with the prediction"
        )
    return [(name, network.get_submodule(name)) for name in dict.fromkeys([*prediction, *chain(*auxiliary)])]


def _replace_rows(layer: nn.Module, model: ImageClassifier, ids: Sequence[int], inputs: Tensor) -> None:
    """Replace rows; where the remaining probabilities follow from more than differences of logits, without centring."""
    state, before = copy.deepcopy(layer.state_dict()), _kept_logits(model, ids, inputs)
    neutralise_rows(layer, ids)
    if not all(map(_same, before, _kept_logits(model, ids, inputs))):
        layer.load_state_dict(state)
        neutralise_rows(layer, ids, centre=False)


@torch.no_grad()
def _all_outputs(model: ImageClassifier, inputs: Tensor) -> list[Tensor]:
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    return class_outputs(model.network(cast_for(model.network, inputs.to(parameter.device))), model.num_classes)


def _kept_logits(model: ImageClassifier, ids: Sequence[int], inputs: Tensor) -> list[Tensor]:
    """Centre the remaining classes' logits of each class output, on the CPU: their softmax depends on nothing else."""
    outputs = _all_outputs(model, inputs)
    kept = [i for i in range(outputs[0].shape[1]) if i not in ids]
    return [_centred(output[:, kept].float().cpu()) for output in outputs]


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(1, keepdim=True)


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3)
