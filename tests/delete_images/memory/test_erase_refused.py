"""erase() refuses invalid requests, data and models with the reason."""

import contextlib

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from toys import body

from delete_images.models.outputs import refuse_probabilities
from delete_tasks import erase
from delete_tasks.errors import RequestError, UnsupportedModelError

SOFTMAX = nn.Softmax(1)


@pytest.mark.parametrize(("make", "classes", "options", "error", "message"), [
    (lambda: body(classes=1), [0], {}, UnsupportedModelError, r"single output \(C=1\)"),
    (lambda: nn.Sequential(nn.Linear(6, 4), nn.Flatten(0)), [0], {}, UnsupportedModelError, "no class logits"),
    (lambda: nn.Conv2d(3, 4, 1), [0], {}, UnsupportedModelError, r"\(2, 6\)"),
    (lambda: body().requires_grad_(False), [0], {}, UnsupportedModelError, "no parameter"),
    (lambda: nn.DataParallel(body()), [0], {}, UnsupportedModelError, "model.module"),
    (lambda: torch.compile(body()), [0], {}, UnsupportedModelError, "compiled"),
    (lambda: torch.relu, [0], {}, UnsupportedModelError, "torch.nn.Module"),
    (nn.ReLU, [0], {}, UnsupportedModelError, "ReLU has no parameter"),
    (lambda: nn.Sequential(body(), SOFTMAX), [0], {}, UnsupportedModelError, "sum to 1.*replace '1', Softmax"),
    (lambda: body(output=lambda x, _: x.sigmoid()), [0], {}, UnsupportedModelError, "sigmoid: .*64 images"),
    (body, [0], {"device": "cuda:9"}, RequestError, "device=.cuda:9. cannot.*GPUs"),
    (body, [0], {"device": "gpu"}, RequestError, "device='gpu'"), (body, ["deer"], {}, RequestError, "class_names"),
    (body, [7], {}, RequestError, "outside 0..3"), (body, [], {}, RequestError, "no class"),
    (body, None, {}, RequestError, "classes is None"),
    (body, [0], {"class_names": 5}, RequestError, "class_names must"),
    (body, [0], {"seed": -1}, RequestError, "seed must"),
    (body, [0], {"num_workers": "a"}, RequestError, "num_workers must"),
    (body, [0], {"resume": "yes"}, RequestError, "resume must"),
    (body, [0], {"views": ["strong"]}, RequestError, "views="),
    (body, [0], {"optimizer": "SGD"}, RequestError, "optimizer needs a type"),
    (body, [0], {"class_names": "ab"}, RequestError, "2 names.* 4 logits"),
    (body, [0], {"method": "Amnesia"}, RequestError, "Amnesia.*DELETE"),
    (body, [0], {"sharpness": 2}, RequestError, "sharpness"), (body, [0], {"steps": 0}, RequestError, "unlearn.steps"),
    (body, [0, 1], {"masking": "own"}, RequestError, "masking='own'.* label"),
    (body, [0, 1], {"method": "RandomLabel"}, RequestError, "RandomLabel.* label"),
    (body, [0], {"retain": torch.zeros(4, 7)}, RequestError, "retain .*shape"),
    (body, [0], {"retain": [(torch.zeros(6), 0)] * 4}, RequestError, "retain .*class_0"),
])  # fmt: skip
def test_requests_refused_with_the_reason(make, classes, options, error, message):
    with pytest.raises(error, match=message):
        erase(make(), torch.randn(64, 6), classes=classes, **options)


DATA = {
    "empty": (torch.zeros(0, 6), "forget_images is empty"),
    "string": ("deer", "str"),
    "keys": ([{"picture": torch.zeros(6)}], "'picture'"),
    "object": ([object()], "object"),
    "shapes": ([torch.zeros(6), torch.zeros(7)], "shape"),
    "shapes of batches": ([torch.zeros(6)] * 250 + [torch.zeros(7)], r"shape \(6,\) and \(7,\)"),
    "soft labels": ([(torch.zeros(6), 0.5)], "labels"),
    "other labels": (TensorDataset(torch.zeros(9, 6), 1 + torch.arange(9) % 2), "9 .*class_0 .class_1 5, class_2 4"),
    "no batch size": (DataLoader(TensorDataset(torch.zeros(4, 6)), batch_size=None), "batch_size"),
}


@pytest.mark.parametrize(("data", "message"), DATA.values(), ids=DATA)
def test_data_refused_with_the_reason(data, message):
    with pytest.raises(RequestError, match=message):
        erase(body(), data, classes=[0])


@pytest.mark.parametrize(("outputs", "kind"), [
    ([[0.6, 0.4], [0.02, 0.98]], "sum to 1.*softmax"),
    ([[0.5, 0.502], [1.0, 0.0]], "sum to 1.*softmax"),  # of bfloat16
    ([[0.1, 0.2], [0.9, 0.8]], "sigmoid.*subtract 1"), ([[0.9, 0.8], [0.9, -0.1]], None),
    ([[0.9, 0.8], [0.9, 1.1]], None),
    ([[0.1, 0.2], [0.4, 0.3]], None),  # of a network that is hardly trained
    ([[0.9, 0.8], [0.9, float("nan")]], None), ([[-0.5, -0.9], [-0.1, -2.4]], None),
])  # fmt: skip
def test_probabilities_are_told_from_logits(outputs, kind):
    batches = torch.tensor(outputs).split(1)
    expected = contextlib.nullcontext() if kind is None else pytest.raises(UnsupportedModelError, match=kind)
    with expected:
        refuse_probabilities(body(), batches)
