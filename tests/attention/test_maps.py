"""Raw maps: exact numbers on small networks, one scale, and restored models."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from delete_tasks.attention import Layer, compare, find_layer, raw_map, summarise
from delete_tasks.attention.gradcam import class_score
from delete_tasks.attention.measure import correlation, original_heads
from delete_tasks.attention.panels import draw, overlay
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.opened import Sample
from delete_tasks.evaluation.reader import OpenedModel
from delete_tasks.model.features import candidates
from delete_tasks.model.head import neutralise_rows

LAYER = Layer("body", (4, 4))


class Small(nn.Module):
    """A 1x1 convolution, a mean, a linear layer: for a class c, Grad-CAM is the sum over k of w[c, k] / (h w) A[k]."""

    def __init__(self, weight=((1.0, 0.0), (0.0, 2.0), (-1.0, 1.0))) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(2, 3, bias=False)
        self.body[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[..., None, None]
        self.head.weight.data = torch.tensor(weight)

    def forward(self, x):
        return self.head(self.drop(self.body(x)).mean((2, 3)))


def logits_of(model, inputs):
    return model(inputs)


@pytest.fixture
def image():
    values = torch.zeros(1, 3, 4, 4)
    values[0, 0, :2, :2], values[0, 1, 2:, 2:] = 3.0, 5.0
    return values


def test_a_map_is_the_weighted_sum_and_is_not_rescaled(image):
    found, logits = raw_map(Small(), logits_of, LAYER, image, 2)
    expected = np.zeros((4, 4), np.float32)
    expected[:2, :2], expected[2:, 2:] = -3 / 16, 5 / 16
    assert np.allclose(found, expected) and logits.shape == (1, 3)
    same, _ = raw_map(Small(), logits_of, LAYER, image, 2, elementwise=True)
    assert np.allclose(same, expected)  # the head averages, so each place has the same gradient


def test_the_models_state_is_restored(image):
    model = Small().train()
    model.body.eval()
    model.head.weight.requires_grad_(False)
    model.body[0].weight.grad = torch.full_like(model.body[0].weight, 7.0)
    modes = [module.training for module in model.modules()]
    layer = find_layer(model, image, model.head, logits_of)
    raw_map(model, logits_of, layer, image, 0)
    with pytest.raises(IndexError):
        raw_map(model, logits_of, layer, image, 9)
    assert [module.training for module in model.modules()] == modes
    assert not model.head.weight.requires_grad and model.body[0].weight.requires_grad
    assert bool((model.body[0].weight.grad == 7).all()) and model.head.weight.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert image.grad is None and not image.requires_grad


def test_a_layer_that_runs_twice_or_is_not_there_is_refused(image):
    class Twice(Small):
        def forward(self, x):
            return super().forward(x) + super().forward(2 * x)

    model = Twice()
    with pytest.raises(RequestError, match="ran 2 times"):
        raw_map(model, logits_of, LAYER, image, 0)
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(RequestError, match="has no layer 'nowhere'"):
        raw_map(Small(), logits_of, Layer("nowhere", (4, 4)), image, 0)


def test_only_locations_of_the_region_are_summed():
    logits = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4)
    where = np.zeros((3, 4), bool)
    where[1, 2] = where[2, 3] = True
    assert float(class_score(logits, 1, where)) == float(logits[0, 1, 1, 2] + logits[0, 1, 2, 3])
    assert float(class_score(torch.tensor([[1.0, 4.0]]), 1, where)) == 4


def opened(original, erased):
    models = {"original": original, "erased": erased}
    return {row: OpenedModel(model.eval(), model.head) for row, model in models.items()}


def sample(image, removed=True):
    """A sample with a region, if it is of the forgotten class."""
    region = np.zeros((4, 4), bool)
    region[:2, :2] = True
    return Sample("one", np.full((4, 4, 3), 200, np.uint8), image[0], 0, removed, region if removed else None)


@pytest.fixture
def models():
    return opened(Small(), Small(((0.1, -1.0), (0.0, 2.0), (-1.0, 1.0))))


def test_figures_before_and_after(image, models):
    compared = compare(models, LAYER, sample(image))
    assert compared.area["original"] == pytest.approx(4 * 3 / 16)
    assert compared.ratio["erased"] == pytest.approx(0.1, rel=1e-4)
    assert compared.share["original"] == pytest.approx(100) and compared.correlation["erased"] == pytest.approx(1)
    assert compared.predicted["erased"] == 1 and compared.own_map is not None
    summary = summarise([compared, compare(models, LAYER, sample(image, removed=False))], list(models))
    assert summary["erased"]["removed"]["samples"] == summary["erased"]["kept"]["samples"] == 1
    assert summary["erased"]["removed"]["ratio"] == pytest.approx(0.1, abs=1e-3)


def test_undefined_figures_are_not_measured(image):
    gone = Small(((-1.0, -1.0), (0.0, 2.0), (-1.0, 1.0))).eval()
    compared = compare(opened(gone, gone), LAYER, sample(image))
    assert compared.ratio["erased"] is None and compared.correlation["erased"] is None
    summary = summarise([compared], ["original", "erased"])["erased"]
    assert summary["removed"]["ratio"] is None and summary["removed"]["unmeasured"] == 1
    assert summary["kept"]["correlation"] is None and summary["kept"]["samples"] == 0
    assert correlation(np.ones((2, 2), np.float32), np.eye(2, dtype=np.float32)) is None


def test_vanished_attention_stays_dark():
    picture = np.full((4, 4, 3), 100, np.uint8)
    before = np.zeros((4, 4), np.float32)
    before[0, 0] = 2.0
    shown = overlay(picture, before, 2.0)
    assert shown[0, 0].max() > 0.9 and np.allclose(shown[1, 1], 0.35 * 100 / 255)
    after = overlay(picture, before * 1e-4, 2.0)  # on its own scale it would be as bright as before
    assert after.max() < 0.16
    assert np.allclose(overlay(picture, before, 0.0), 0.35 * 100 / 255)


def test_panels(image, models, tmp_path):
    draw(tmp_path / "panels.png", [compare(models, LAYER, sample(image))], ("deer", "cat", "dog"))
    with Image.open(tmp_path / "panels.png") as picture:
        assert picture.width > 700 and len(picture.convert("RGB").getcolors(1 << 24)) > 100
    assert [path.name for path in tmp_path.iterdir()] == ["panels.png"]


def test_layers_without_maps_are_refused_with_candidates(image):
    model = Small()
    assert [layer.name for layer in candidates(model, image, model.head, logits_of)] == ["body.0", "body"]
    for name, reason in (("nothing", "is no layer"), ("head", "gives no map"), ("drop", "gives no map")):
        with pytest.raises(RequestError, match=f"layer '{name}' {reason}.*candidates.*body.0, body"):
            find_layer(model, image, model.head, logits_of, name)
    assert find_layer(model, image, model.head, logits_of, "body.0").name == "body.0"
    flat = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    with pytest.raises(RequestError, match="no layer of Sequential gives a map"):
        find_layer(flat, image, flat[1], logits_of)


def test_without_class_weights_the_originals_last_layer_is_used(image):
    """The features are the original's, so all attention is left; predictions and maps of kept classes are the model's own."""
    original, erased = Small(), Small()
    neutralise_rows(erased.head, [0])
    models = opened(original, erased)
    heads = original_heads(models)
    weighted = Small(((5.0, 1.0), (0.0, 2.0), (1.0, 0.0)))
    assert list(heads) == ["erased"] and not original_heads(opened(original, weighted))
    assert compare(models, LAYER, sample(image)).ratio["erased"] == 0
    compared = compare(models, LAYER, sample(image), heads=heads)
    assert compared.ratio["erased"] == pytest.approx(1) and compared.predicted["erased"] != 0
    assert not erased.head.weight[0].any()  # the model itself did not change
    summary = summarise([compared, compare(models, LAYER, sample(image, False), heads=heads)], list(models))["erased"]
    assert summary["removed"]["last_layer"] == "original" and summary["kept"]["samples"] == 1
