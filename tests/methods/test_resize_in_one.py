"""DELETE's loss of logits that a model resizes first: the same values without a map of the full size."""

from collections import deque
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from delete_tasks.methods.delete import DELETE
from delete_tasks.methods.trew import TREW
from delete_tasks.model import loss_point
from delete_tasks.model.loss_point import LossInputs, LossPoint, Upsample

SIZE, SMALL, CLASSES = (45, 60), (6, 8), 5


def losses_of(method: DELETE, ids: list[int], monkeypatch, at_once: bool, align_corners: bool) -> list[torch.Tensor]:
    """Compute the gradient of a head's losses, the losses, and the masses for the stop rule."""
    torch.manual_seed(0)
    student, teacher, features = (torch.randn(2, width, *SMALL) for width in (CLASSES, CLASSES, 9))
    labels = torch.randint(CLASSES, (2, *SIZE))
    valid = torch.ones(2, *SIZE, dtype=torch.bool)
    valid[1, :, 50:] = False
    calls = []
    real = Upsample.__call__
    monkeypatch.setattr(Upsample, "__call__", lambda self, logits: calls.append(1) or real(self, logits))
    monkeypatch.setattr(loss_point, "LEAST_ON_CPU", 3 if at_once else 1e9)
    resize = Upsample(SIZE, align_corners)
    read = partial(LossInputs, weights=[1.0], labels=labels, valid=valid, upsample=resize)
    point = LossPoint("head", nn.Identity(), "loss", lambda logits: read([logits]))
    method.ids, method.into_id, method._caught = ids, method.into, {"head": deque([teacher])}
    if isinstance(method, TREW):
        method._tilt = torch.randn(len(ids), CLASSES)
    if method.readout:
        method._features = features
    student.requires_grad_()
    losses = method._loss(point, student)
    sum(value for name, value in losses.items() if name.startswith("loss")).backward()
    assert bool(calls) != at_once
    return [student.grad, *(losses[name].detach().float() for name in sorted(losses)), torch.tensor(method.pending)]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("kind", "ids", "options"),
    [(DELETE, [1, 3], {}), (DELETE, [1, 3], {"into": 0, "stop": 0.01}),
     (DELETE, [1], {"readout": 0.5, "balance": 0.5, "stop": 0.01}),
     (DELETE, [1], {"masking": "own", "locations": "forgotten", "temperature": 2.0}),
     (DELETE, [1], {"select": "teacher", "locations": "forgotten", "teacher_temperature": 0.5}), (TREW, [1], {})],
)  # fmt: skip
def test_same_losses_as_of_resized_logits(kind, ids, options, align_corners, monkeypatch):
    each = partial(losses_of, ids=ids, monkeypatch=monkeypatch, align_corners=align_corners)
    one, other = (each(kind(classes=ids, **options), at_once=at_once) for at_once in (True, False))
    assert len(one) == len(other) > 4
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "ids", "options"),
    [(DELETE, [1], {"avoid": [2]}), (DELETE, [1], {"forgetting_only": True}),
     (DELETE, [1], {"teacher_temperature": 2.0, "stop": 0.01}), (TREW, [1, 3], {})],
)  # fmt: skip
def test_options_that_need_logits_at_each_location_resize_first(kind, ids, options, monkeypatch):
    method = kind(classes=ids, **options)
    method.ids, method.avoid_ids = ids, [2] if "avoid" in options else []
    inputs = LossInputs([], [], upsample=Upsample(SIZE))
    assert not method.resizes(torch.zeros(1, CLASSES, *SMALL), inputs)
    assert DELETE(classes=ids).resizes(torch.zeros(1, CLASSES, *SMALL), inputs)
    assert not DELETE(classes=ids).resizes(torch.zeros(1, CLASSES, 23, 30), inputs), "faster at half the size"


@pytest.mark.parametrize("align_corners", [False, True])
def test_classes_and_nearest_are_those_of_the_resized_map(align_corners):
    logits, resize = torch.randn(2, CLASSES, *SMALL, dtype=torch.float64), Upsample(SIZE, align_corners)
    large = resize(logits)
    assert (resize.classes(logits) == large.argmax(1)).float().mean() > 0.999  # the shares are of float32
    for size in (SMALL, (7, 5), SIZE):
        expected = F.interpolate(large, size, mode="nearest-exact")
        torch.testing.assert_close(resize.nearest(logits, size), expected, rtol=1e-5, atol=1e-5)
