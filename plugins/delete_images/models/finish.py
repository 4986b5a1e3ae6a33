"""Finishing a classifier after training: the last layer's weights by class, and the logits' scale."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from delete_tasks.errors import UnsupportedModelError
from delete_tasks.evaluation.forget_data import FORGET_SET
from delete_tasks.model.facts import REPLACED
from delete_tasks.model.head import check_linear, find_class_layers, match_scale, neutralise_rows, scale_rows
from delete_tasks.model.modes import in_eval_mode
from delete_tasks.task import Run

from .classifier import ImageClassifier, cast_for, class_outputs, predict_batch

VIEWS, BATCH = 512, 128
LAYER_VIEWS = 8  # on which the last layer is found
FIRST_VIEW = 2**32  # index in the stream of samples: far beyond those of training, and the same after a resumed run


def finish(runner: Run) -> dict[str, Any]:
    """Replace the forgotten classes' weights, then match the logits' scale to the original's; see :mod:`delete_tasks.model.head`.
    If the steps held the features of other samples, the original's weights of the other classes fit them still, and return: what
    the last layer learned beside them cost those classes accuracy (docs/notes/deep.md).

    The scale is fitted on views of the forget set (and its retain samples), weighted by the probability that the original gives
    the remaining classes; no labels and no other images are read. Return ``rows_replaced``, names of layers, and ``scale``, the
    factor or None; the reasons ``scale_not_matched`` if it is None, and ``rows_not_replaced`` if the last layer was not found.
    """
    model, ids, keep_row = runner.unwrapped_model, runner.selection.forget_ids, runner.recipe.keep_row
    facts = runner.outcome.facts
    sigmoid = runner.method.activation == "sigmoid"
    matched = runner.recipe.match_scale and runner.method.needs_teacher and not sigmoid
    batches = list(new_views(runner, VIEWS if matched else 2))
    done: dict[str, Any] = {"rows_replaced": [], "scale": None}
    model.eval()
    with class_outputs_on(runner.task, model):
        try:
            layers = class_layers_of(model, batches[0])
            replaced = [] if keep_row else layers
            for name, layer in replaced:
                check_linear(layer, name)
        except UnsupportedModelError as error:
            rows = {} if keep_row else {"rows_not_replaced": str(error)}
            return {**done, **rows, "scale_not_matched": str(error)}
        held = runner.task.classifier(model)[0] if getattr(runner.method, "feature_distillation", 0) else None
        for name, layer in replaced:
            if name == held:
                _return_rows(layer, runner.teacher.network.get_submodule(name), ids)
                facts.change("other class weights returned", [layer])
            centred = not sigmoid and _replace_rows(layer, model, ids, batches[0])
            if sigmoid:
                neutralise_rows(layer, ids, sigmoid=True)
            facts.change(REPLACED, [layer], classes=len(ids), others_centred=centred)
            done["rows_replaced"].append(name)
    if not matched:
        method = type(runner.method).__name__
        reason = f"{method} has no teacher" if runner.recipe.match_scale else "match_scale is off"
        reason = "sigmoid scores have no common scale" if sigmoid else reason
        return {**done, "scale_not_matched": reason}
    logits = [(predict_batch(model, inputs).cpu(), predict_batch(runner.teacher, inputs).cpu()) for inputs in batches]
    student, teacher = (torch.cat(part) for part in zip(*logits, strict=True))
    remaining = [i for i in range(student.shape[1]) if i not in ids]
    factor = match_scale(student[:, remaining], teacher[:, remaining], teacher.softmax(1)[:, remaining].sum(1))
    if factor is None:
        return {**done, "scale_not_matched": "the original and the erased model predict the same class on no view"}
    name, layer = layers[0]
    before = copy.deepcopy(layer.state_dict())
    scale_rows(layer, factor, but=() if keep_row else ids)
    expected = factor * _centred(student[: len(batches[0]), remaining])
    if not _same(_remaining_logits(model, ids, batches[0])[0], expected):
        layer.load_state_dict(before)
        return {**done, "scale_not_matched": f"the logits are not a linear function of '{name}'"}
    chosen = runner.selection
    sets = {FORGET_SET: chosen.forget_set, "retain set": chosen.retain_set, "public data": chosen.public_data}
    for of, samples in sets.items():
        if samples is not None:
            facts.read(of, "scale fitted on", samples["read"], VIEWS)
    facts.change("scale restored", [layer], factor=factor)
    return {**done, "scale": factor}


def new_views(runner: Run, count: int) -> Iterator[Tensor]:
    """Read batches of views, and of samples beside them, that the run does not train on."""
    dataset, collate = runner.train_dataloader.dataset, runner.train_dataloader.collate_fn
    for begin in range(0, count, BATCH):
        yield collate([dataset[FIRST_VIEW + i] for i in range(begin, min(count, begin + BATCH))])["inputs"]


@contextmanager
def class_outputs_on(task: Any, model: ImageClassifier) -> Iterator[None]:
    """Set eval mode, but with training flags on the modules that need it for auxiliary outputs; restore modes afterwards."""
    with in_eval_mode(model):
        for module in task.training_flags(model):
            module.training = True
        yield


def class_layers_of(model: ImageClassifier, inputs: Tensor) -> list[tuple[str, nn.Module]]:
    """Find the network's layers of class logits in its current mode, the prediction's first, or raise UnsupportedModelError."""
    network, classes = model.network, model.num_classes
    outputs_of = partial(_all_outputs, model, inputs[:LAYER_VIEWS])
    prediction, *auxiliary = find_class_layers(network, outputs_of, classes, nonlinear=True)  # type: ignore[arg-type]
    if not prediction:
        raise UnsupportedModelError(f"{type(network).__name__} has no linear layer whose {classes} outputs predict")
    return [(name, network.get_submodule(name)) for name in dict.fromkeys([*prediction, *chain(*auxiliary)])]


@torch.no_grad()
def _return_rows(layer: nn.Module, original: nn.Module, ids: Sequence[int]) -> None:
    """Set the weights of all classes but ``ids`` back to the original's."""
    remaining = [i for i in range(len(layer.weight)) if i not in ids]  # type: ignore[arg-type]
    for tensor, before in zip(layer.parameters(), original.parameters(), strict=True):
        tensor[remaining] = before[remaining].to(tensor)


def _replace_rows(layer: nn.Module, model: ImageClassifier, ids: Sequence[int], inputs: Tensor) -> bool:
    """Replace the forgotten classes' weights, centred unless that changes the others' probabilities; return whether they are."""
    state, before = copy.deepcopy(layer.state_dict()), _remaining_logits(model, ids, inputs)
    neutralise_rows(layer, ids)
    centred = all(map(_same, before, _remaining_logits(model, ids, inputs)))
    if not centred:
        layer.load_state_dict(state)
        neutralise_rows(layer, ids, centre=False)
    return centred


@torch.no_grad()
def _all_outputs(model: ImageClassifier, inputs: Tensor) -> list[Tensor]:
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    return class_outputs(model.network(cast_for(model.network, inputs.to(parameter.device))), model.num_classes)


def _remaining_logits(model: ImageClassifier, ids: Sequence[int], inputs: Tensor) -> list[Tensor]:
    """Compute the remaining classes' logits of each class output, centred, which does not change their softmax."""
    outputs = _all_outputs(model, inputs)
    remaining = [i for i in range(outputs[0].shape[1]) if i not in ids]
    return [_centred(output[:, remaining].float().cpu()) for output in outputs]


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(1, keepdim=True)


def _same(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-3, atol=1e-3)
