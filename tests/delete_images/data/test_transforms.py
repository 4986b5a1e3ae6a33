"""Preprocessing by a model's description, and augmentation by PyTorch's seed."""

import numpy as np
import pytest
import torch
from images import noise
from torch.utils.data import DataLoader

from delete_images.data.opening import open_data
from delete_images.data.transforms import eval_transform, strong_transform, train_transform
from delete_images.models.spec import ModelSpec, Preprocessing
from delete_tasks.errors import RequestError


def test_eval_transform_follows_its_definition():
    image = noise(6, 5, 3)
    mean, std = np.array([10.0, 20.0, 30.0]), np.array([50.0, 60.0, 70.0])
    pre = Preprocessing((6, 5), tuple(mean), tuple(std), "BGR", (0.0, 255.0))
    expected = ((image[..., ::-1] - mean) / std).transpose(2, 0, 1)
    out = eval_transform(ModelSpec("x", ("a", "b"), pre))(image)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-5, atol=1e-5)
    symmetric = eval_transform(Preprocessing((6, 5), input_range=(-1.0, 1.0)))(image)
    np.testing.assert_allclose(symmetric.numpy(), image.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)


def test_resize_stretches_or_crops():
    image = np.zeros((20, 40, 3), dtype=np.uint8)
    image[:, 15:25] = 255  # a white band in the middle quarter
    stretched = eval_transform(Preprocessing((8, 8)))(image)
    cropped = eval_transform(Preprocessing((8, 8), resize="crop"))(image)
    zoomed = eval_transform(Preprocessing((8, 8), resize="crop", crop_fraction=0.5))(image)
    assert stretched.shape == cropped.shape == zoomed.shape == (3, 8, 8)
    assert stretched.mean().item() == pytest.approx(0.25, abs=0.02)
    assert cropped.mean().item() == pytest.approx(0.5, abs=0.05)
    assert zoomed.mean().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("side", "crop"), [(16, True), (72, True), (16, False)])
def test_train_transform_is_a_function_of_torchs_seed(side, crop):
    transform = train_transform(Preprocessing.named("cifar10", side), crop)
    image = noise(16, 16, 3)

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.stack([transform(image) for _ in range(8)])

    first = draw(1)
    assert first.shape == (8, 3, side, side)
    assert torch.equal(first, draw(1)) and not torch.equal(first, draw(2))
    assert len(first.flatten(1).unique(dim=0)) > 1


def test_flip_does_not_follow_from_the_crop():
    transform = train_transform(Preprocessing((16, 16)))
    image = np.tile(np.arange(16, dtype=np.uint8)[None, :, None] * 10 + 20, (16, 1, 3))
    torch.manual_seed(0)
    rows = [(transform(image)[0, 8] * 255).round().int() for _ in range(300)]
    seen = {(bool(row[9] < row[8]), int(row.max())) for row in rows}  # (flipped, how far to the left)
    assert {offset for flipped, offset in seen if flipped} == {offset for flipped, offset in seen if not flipped}


def test_workers_of_a_loader_are_reproducible(tmp_path):
    np.savez(tmp_path / "arrays.npz", x=noise(20, 6, 6, 3), y=np.arange(20) % 4)
    data = open_data(str(tmp_path / "arrays.npz")).mapped(train_transform(Preprocessing((6, 6))))

    def epoch(workers: int) -> torch.Tensor:
        torch.manual_seed(3)
        return torch.cat([images for images, _ in DataLoader(data, batch_size=5, num_workers=workers)])

    assert torch.equal(epoch(2), epoch(2))
    assert torch.equal(epoch(0), epoch(0))


def test_strong_transform_changes_images_much(shared):
    data = open_data(f"cifar10:{shared / 'data' / 'cifar10'}?class=truck&limit=3")
    transform = strong_transform(Preprocessing.named("cifar10", 32))
    views = torch.stack([transform(data[0][0]) for _ in range(40)])
    assert views.shape == (40, 3, 32, 32) and views.isfinite().all()
    assert len({view.numpy().tobytes() for view in views}) > 30
    plain = eval_transform(Preprocessing.named("cifar10", 32))(data[0][0])
    assert sum(float((view - plain).abs().mean()) > 0.3 for view in views) > 12


def test_transform_refusals():
    with pytest.raises(RequestError, match=r"shape \(3, 4, 4\) and type float32"):
        eval_transform(Preprocessing((4, 4)))(np.zeros((3, 4, 4), dtype=np.float32))
