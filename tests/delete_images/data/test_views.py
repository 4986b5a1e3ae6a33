"""Views of image tensors, and the common recipe of the command and of erase()."""

import numpy as np
import pytest
import torch
from helpers import argv
from torch import nn
from torch.utils.data import TensorDataset

from delete_images.data.datasets import ImageDataset
from delete_images.data.opening import open_data
from delete_images.data.transforms import TensorViews, mix, strong_transform
from delete_images.forget import make_config
from delete_images.metrics import calibration_of, compare_kept
from delete_images.models.model_file import load_model
from delete_tasks import erase
from delete_tasks.cli import parse
from delete_tasks.errors import RequestError
from delete_tasks.runner.forget_set import ForgetSet


@pytest.fixture(scope="module")
def ships(read):
    return read("class=ship&limit=64")


def small(channels: int = 3, classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    parts = (nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
    return nn.Sequential(*parts)


def test_tensor_views_are_the_commands_views(ships, resnet20, cifar):
    """The same random state gives the same view of pixels and of normalised tensors."""
    _, spec = load_model(resnet20)
    data, transform = open_data(f"{cifar}?class=ship&limit=64", "train", spec.classes), strong_transform(spec)
    views = TensorViews("strong", ships[0])
    for number in range(32):
        made = []
        for image, view in ((data[number][0], transform), (ships[0][number], views)):
            torch.manual_seed(number)
            made.append(view(image))
        assert torch.allclose(*made, atol=0.04), number  # two of 255 steps: where an edge is rounded another way
    assert views(ships[0][0]).dtype == torch.float32


MADE = {
    "grey": lambda images: images[:, :1],
    "bytes": lambda images: ((images - images.min()) / (images.max() - images.min()) * 255).to(torch.uint8),
    "double": lambda images: images.double() * 100,
}


@pytest.mark.parametrize("make", MADE)
def test_views_keep_dtype_and_range(make, ships):
    images = MADE[make](ships[0][:8])
    views = TensorViews("strong", images)
    seen = torch.stack([views(image) for image in images for _ in range(4)])
    assert seen.dtype == images.dtype and seen.shape[1:] == images.shape[1:]
    assert seen.min() >= images.min() and seen.max() <= images.max()
    assert not torch.equal(seen[0], seen[1])


def test_the_recipe_is_the_commands(ships, resnet20, cifar, publish_anyway):
    model, spec = load_model(resnet20)
    for method in ("DELETE", "RandomLabel"):
        more = "--forget D --classes ship --work-dir W --steps 1 --method"
        words = argv("images forget --model", resnet20, more, method)
        cfg = make_config(None, {**vars(parse(words)), "launcher": "none"})
        names = dict(classes=["ship"], class_names=spec.classes)
        figures = erase(model, TensorDataset(*ships), method=method, steps=1, **names).figures
        classes = {"classes": figures["unlearn"]["classes"]}  # by number there
        assert figures["unlearn"] == {**cfg.unlearn.to_dict(), "seed": 0, **classes}
        assert figures["views"] == cfg.train_dataloader.dataset.augment


def test_views_by_a_function(ships):
    seen = []

    def mirrored(image: torch.Tensor) -> torch.Tensor:
        seen.append(image.shape)
        return image.flip(-1) if torch.rand(()) < 0.5 else image

    model = small()
    options = dict(classes=[1], steps=30, batch_size=8, lr=3e-2)
    one, two = (erase(model, ships[0], views=mirrored, **options) for _ in range(2))
    assert one.figures["views"] == "your own" and set(seen) == {(3, 32, 32)}
    assert torch.equal(one.model[4].weight, two.model[4].weight)
    assert one.figures["unlearn"]["teacher_temperature"] == 1


@pytest.mark.parametrize(("views", "samples", "message"), [
    ("wild", torch.zeros(4, 3, 32, 32), "views='wild'.*'strong', 'plain', 'none'"),
    ("strong", torch.zeros(4, 5, 32, 32), r"need images \(3, H, W\) .* shape \(5, 32, 32\)"),
    (lambda image: image[:, :4], torch.rand(4, 3, 32, 32), r"\(3, 4, 32\)"),
    (lambda image: 1, torch.rand(4, 3, 32, 32), "int"),
], ids=["name", "channels", "shape", "no tensor"])  # fmt: skip
def test_views_refused(views, samples, message):
    with pytest.raises(RequestError, match=message):
        erase(small(samples.shape[1]), samples, classes=[1], views=views, steps=2, batch_size=4)


def test_images_of_other_classes_are_left_out_with_a_warning(ships):
    images, labels = ships[0][:24], torch.tensor([1, 2, 1, 0] * 6)
    options = dict(classes=[1], steps=20, batch_size=8, lr=3e-2)
    with pytest.warns(UserWarning, match=r"12 images .*class_2 6, class_0 6"):
        mixed = erase(small(), TensorDataset(images, labels), **options)
    alone = erase(small(), TensorDataset(images[labels == 1], labels[labels == 1]), **options)
    assert mixed.figures["forget_set"] == {"samples": 12, "left_out": {"class_2": 6, "class_0": 6}, "measured": 12}
    assert "left out" in repr(mixed) and "left out" not in repr(alone)
    assert torch.equal(mixed.model[4].weight, alone.model[4].weight)


@pytest.mark.long
def test_remaining_classes_are_compared(ships, read, resnet20):
    model, spec = load_model(resnet20)
    retain = TensorDataset(*read("class=cat,dog&limit=40"))
    options = dict(classes=["ship"], class_names=spec.classes, steps=12, batch_size=32, lr=3e-4)
    on_views = erase(model, TensorDataset(*ships), **options).figures["kept"]
    assert on_views["on"] == "views" and 3 < on_views["samples"] < 50 and 40 < on_views["same_prediction"] <= 100
    assert set(on_views["confidence"]) == {"before", "after"} and "accuracy" not in on_views
    kept = erase(model, TensorDataset(*ships), retain=retain, **options).figures["kept"]
    assert kept["on"] == "the retain set" and kept["samples"] == 40 and kept["accuracy"]["before"] == 100
    assert kept["worst_class"]["class"] in ("cat", "dog") and kept["nll"]["before"] < 0.1


def test_comparison_and_calibration():
    labels = torch.tensor([0] * 30 + [1] * 30 + [2] * 10)
    before = 9.0 * torch.eye(3)[labels]
    after = before.clone()
    after[:3] = torch.tensor([0.0, 9.0, 0.0])  # three of class 0 become class 1
    found = compare_kept(before, after, labels, [2], ("a", "b", "c"))
    assert found["samples"] == 60 and found["same_prediction"] == 95.0
    assert found["worst_class"] == {"class": "a", "same_prediction": 90.0}
    assert found["accuracy"] == {"before": 100.0, "after": 95.0}
    assert compare_kept(before[60:], after[60:], labels[60:], [2], "abc") is None
    fit = calibration_of(after, labels, [2])
    p = float(np.exp(9) / (np.exp(9) + 2))
    assert fit["nll"] == pytest.approx(-(57 * np.log(p) + 3 * np.log((1 - p) / 2)) / 60, abs=1e-4)
    assert fit["ece"] == pytest.approx(100 * abs(0.95 - p), abs=0.01)
    assert calibration_of(after, torch.full((70,), 2), [2]) == {"nll": None, "ece": None}


def test_two_images_are_mixed():
    image, partner = torch.zeros(3, 16, 16), torch.ones(3, 16, 16)
    torch.manual_seed(0)
    mixed = [mix(image, partner) for _ in range(40)]
    shares = [float(one.mean()) for one in mixed]
    pasted = [one for one in mixed if set(one.unique().tolist()) == {0.0, 1.0}]
    assert 10 <= len(pasted) <= 30 and min(shares) > 0.05 and max(shares) <= 0.75
    assert all(16 <= int(one[0].sum()) <= 144 for one in pasted) and not image.any()
    whole = mix((image * 255).to(torch.uint8), (partner * 255).to(torch.uint8))
    assert whole.dtype == torch.uint8 and whole.max() > 0
    torch.manual_seed(0)
    assert torch.equal(mix(image, partner), mixed[0])


def test_strong_views_of_the_forget_set_are_mixed_with_one_another(cifar, resnet20, monkeypatch):
    """Half of them, whatever the batch; neither images of other classes nor the retain set take part."""
    _, spec = load_model(resnet20)
    seen = []
    monkeypatch.setattr("delete_images.data.datasets.mix", lambda image, partner: seen.append(partner) or image)
    query = f"{cifar}?limit=40", spec
    for augment, most in (("strong", 40), ("plain", 0)):
        data = ImageDataset(*query, augment=augment, retain=f"{cifar}?class=cat&limit=2")
        read = []
        monkeypatch.setattr(data, "transform", lambda each, read=read: read.append(each) or torch.tensor(each))
        stream = ForgetSet(data, [3, 7], seed=0)
        seen.clear()
        for position in range(40):
            stream[position]
        assert (most * 0.25) <= len(seen) <= most * 0.75
        own = [torch.from_numpy(data.data[index][0].copy()) for index in (3, 7)]
        assert all(any(torch.equal(partner, image) for image in own) for partner in seen)
