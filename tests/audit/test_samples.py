"""Predictions for attacks: stages, locations, and the same samples for all models."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from toys import Stages

from delete_tasks import RequestError
from delete_tasks.audit.pictures import choose_points, draw_tsne, embed
from delete_tasks.audit.samples import EACH, MOST, REGIONS, evenly, read_all, read_rows
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.reader import DataSamples, Loader, OpenedModel


def classifier(seed: int) -> OpenedModel:
    torch.manual_seed(seed)
    network = Stages().eval()
    return OpenedModel(network, network.fc, Loader(9))


def samples(split: str) -> DataSamples:
    labels = torch.tensor({"forget": [2] * 12, "train": [0, 1] * 15, "test": [0, 1, 2] * 10}[split])
    inputs = torch.randn(len(labels), 3, 16, 16, generator=torch.Generator().manual_seed(len(split)))
    return DataSamples(list(zip(inputs, labels, strict=True)))


def source(**models: OpenedModel) -> Opened:
    splits = {split: samples(split) for split in ("forget", "train", "test")}
    return Opened(models, ["a", "b", "c"], splits, [2])


def test_rows_of_a_classifier():
    opened = source(original=classifier(0), erased=classifier(1), retrained=classifier(2))
    found, stages = read_all(opened, True)
    assert stages == ["one", "two", "three"] and list(found) == ["original", "erased", "retrained"]
    test = found["original"]["test"]
    assert test.logits.shape == (30, 3) and test.features.shape == (30, 8)
    assert [tuple(value.shape) for value in test.layers.values()] == [(30, 4), (30, 6), (30, 8)]
    assert torch.allclose(test.layers["three"], test.features, atol=1e-6)
    assert torch.equal(found["erased"]["test"].labels, test.labels)
    # The training samples show no "c", so the forget set joins them.
    assert found["original"]["train"].labels.bincount().tolist() == [15, 15, 12]
    context = found["erased"]["context"]
    assert torch.equal(context.head.weight, classifier(1).module.fc.weight)
    assert torch.equal(context.original_head.weight, classifier(0).module.fc.weight)
    assert [data["test"] for data in context.retrained] == [found["retrained"]["test"]]
    inputs, labels = context.network.inputs["test"]
    assert inputs.shape == (10, 3, 16, 16) and labels.unique().tolist() == [2]
    assert context.network.inputs["kept"][1].tolist() == [0, 1] * 10
    assert context.network.inputs["beside"][1].tolist() == [0, 1] * 15
    assert read_all(opened, False)[0]["erased"]["context"].network is None


def test_a_head_that_does_not_make_the_logits_is_none():
    model = classifier(0)
    twice = replace(model, forward=lambda one, x: 2 * one(x))
    found, _ = read_all(source(original=twice, erased=model), False)
    assert found["original"]["context"].head is None and found["erased"]["context"].head is not None
    assert found["erased"]["context"].original_head is None


def test_inputs_are_bounded():
    """They are evenly spaced, since sorted data would otherwise give only the first class."""
    shown = torch.tensor([True, False] * 15)
    assert evenly(shown, 5).tolist() == [0, 6, 12, 18, 24] and evenly(shown, 99).tolist() == list(range(0, 30, 2))
    assert len(evenly(~shown & shown, 5)) == 0
    opened = source(original=classifier(0))
    del opened.samples["train"]
    given = read_all(opened, True)[0]["original"]["context"].network.inputs
    whole = torch.stack([one for one, _ in samples("test")])
    assert torch.equal(given["test"][0], whole[2::3]) and given["kept"][1].tolist() == [0, 1] * 10
    assert [len(part) for part in given["beside"]] == [0, 0]


class Pixels(nn.Module):
    """Network with the colours of a pixel as its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.dirac_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def scenes(count: int = 4) -> DataSamples:
    """Make labels in four bands, one of them void, and images of them."""
    labels = torch.arange(4).repeat_interleave(8)[:, None].expand(32, 32).clone()
    labels[labels == 3] = -1
    images = nn.functional.one_hot(labels.clamp(min=0), 3).permute(2, 0, 1).float()
    return DataSamples([(images, labels)] * count)


def test_rows_of_pixels():
    """Each class has the same number of pixels, with their features and logits; void pixels are left out."""
    model = Pixels()

    def read(count: int = 4, **changed) -> Predictions:
        one = OpenedModel(model, model.head, Loader(count), **changed)
        opened = Opened({"original": one}, ["a", "b", "c"], {"test": scenes(count)})
        return read_rows(opened, "test")["original"]["test"]

    found = read()
    assert found.labels.bincount().tolist() == [4 * EACH] * 3
    assert torch.equal(found.logits.argmax(1), found.labels) and torch.allclose(found.features, found.logits)
    again = read()
    assert torch.equal(found.labels, again.labels) and torch.equal(found.features, again.features)
    assert read(40).labels.bincount().tolist() == [MOST] * 3
    # A head that works at half the size: features are read where the pixel is.
    halved = read(forward=lambda one, x: nn.functional.interpolate(one(x[..., ::2, ::2]), size=(32, 32)))
    assert (halved.features.argmax(1) == halved.labels).float().mean() > 0.9


def test_regions_of_pixels():
    """Pixels in the proportion of their classes are added; the other predictions do not change."""
    model = Pixels()
    splits = {split: scenes(5) for split in ("forget", "train", "test")}
    pixels = Opened({"original": OpenedModel(model, model.head)}, ["a", "b", "c"], splits, [2])
    (plain,), (drawn,) = (read_all(pixels, full)[0].values() for full in (False, True))
    assert drawn.keys() - plain.keys() == {"train_regions", "test_regions"}
    assert all(torch.equal(plain[split].features, drawn[split].features) for split in splits)
    for split, most in REGIONS.items():
        regions = drawn[f"{split}_regions"]
        assert len(regions.labels) == 5 * most and torch.equal(regions.features.argmax(1), regions.labels)
        assert (regions.labels.bincount() / len(regions.labels) - 1 / 3).abs().max() < 0.05


def test_features_that_are_all_the_same_have_no_picture():
    with pytest.raises(RequestError, match="the same for all samples"):
        embed(torch.zeros(200, 8).numpy())


def test_points_of_the_picture(model, tmp_path):
    labels = torch.arange(4).repeat_interleave(400).numpy()
    chosen = choose_points(labels, [3])
    assert len(chosen) == 400 and (labels[chosen] == 3).sum() == 130 and (chosen[1:] > chosen[:-1]).all()
    rows = {name: model(kind, 12) for name, kind in (("original", "known"), ("erased", "noise"))}
    draw_tsne(rows, [3], ["a", "b", "c", "$d"], tmp_path / "t.png")
    first = (tmp_path / "t.png").read_bytes()
    draw_tsne(rows, [3], ["a", "b", "c", "$d"], tmp_path / "t.png")
    assert first == (tmp_path / "t.png").read_bytes() and len(first) > 5000
