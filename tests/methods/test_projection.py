"""Projection: directions, folding them into layers, and accuracy afterwards."""

import copy

import pytest
import torch
from torch import nn

import delete_tasks
from delete_tasks.methods.projection import class_directions
from delete_tasks.model.projection import multiply_outputs, project_out, projection


def test_directions_are_orthonormal_and_span_rows_and_seen_means():
    torch.manual_seed(0)
    weight, means = torch.randn(6, 10), torch.randn(2, 10)
    basis = class_directions(weight, means, [1, 4])
    assert basis.shape == (10, 4) and torch.allclose(basis.T @ basis, torch.eye(4), atol=1e-5)
    centred = (weight - weight.mean(0))[[1, 4]]
    assert project_out(centred, basis).abs().max() < 1e-5
    common = torch.linalg.svd(weight - weight.mean(0))[2][5:].T  # orthogonal to all centred class weights
    shifted = class_directions(weight, means + 100 * common[:, 0], [1, 4])
    assert torch.allclose(basis @ basis.T, shifted @ shifted.T, atol=1e-3), "a component that all features share stays"


@pytest.mark.parametrize(("layer", "norm", "inputs"), [
    (nn.Linear(5, 8), nn.BatchNorm1d(8), torch.randn(7, 5)),
    (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), torch.randn(2, 3, 6, 6)),
    (nn.Linear(5, 8), None, torch.randn(7, 5)),
])  # fmt: skip
def test_outputs_lose_the_directions_exactly(layer, norm, inputs):
    torch.manual_seed(0)
    parts = copy.deepcopy([layer] if norm is None else [layer, norm])
    if norm is not None:
        for value in (parts[1].weight, parts[1].bias, parts[1].running_mean):
            value.data.normal_()
        parts[1].running_var.uniform_(0.5, 2)
        parts[1].weight.data[0] = 0.0  # a channel of factor 0
    basis = torch.linalg.qr(torch.randn(8, 2))[0]
    model = nn.Sequential(*parts).eval()
    with torch.no_grad():
        before = model(inputs)
        multiply_outputs(parts[0], None if norm is None else parts[1], projection(basis))
        after = model(inputs)
    wanted = before - torch.einsum("dk,ek,ne...->nd...", basis, basis, before)
    assert torch.allclose(after, wanted, atol=1e-4)


def test_the_class_is_removed_in_closed_form(forget, accuracy, trained, blobs):
    model = forget("Projection", steps=3)
    forgotten, others = accuracy(model)
    assert forgotten < 10 and others > 60
    inputs, _ = blobs
    rows = trained[3].weight - trained[3].weight.mean(0)
    most = 1e-2 * (trained[3].weight @ rows[2]).abs().max() + 0.1 * trained[3].weight.mean(0).norm() * rows[2].norm()
    assert (model[3].weight @ rows[2]).abs().max() < most, "no class weights have the direction"
    written = model[:2].eval()(inputs)
    assert (written @ rows[2]).abs().max() < 1e-2, "nor have the features"


def test_without_a_foldable_layer_the_last_layer_alone_is_projected(blobs, publish_anyway):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    inputs, labels = blobs
    options = dict(method="Projection", steps=2, views="none", keep_row=True)
    after = delete_tasks.erase(model, inputs[labels == 2], [2], **options).model.state_dict()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, after[name])}
    assert changed == {"2.weight", "2.bias"}
