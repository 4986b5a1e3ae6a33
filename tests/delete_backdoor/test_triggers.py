"""Triggers against the formulas of their papers and against the published ones, and the strings that name them."""

from __future__ import annotations

import albumentations
import numpy as np
import pytest
import torch

from delete_backdoor.triggers import TRIGGERS, parse_trigger
from delete_backdoor.triggers.warp import warping_grid
from delete_tasks.errors import RequestError


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)


@pytest.fixture
def picture(tmp_path) -> str:
    from PIL import Image

    values = np.zeros((32, 32, 3), np.uint8)
    values[4:6, 7:9] = (10, 0, 200)
    Image.fromarray(values).save(tmp_path / "trigger.png")
    return str(tmp_path / "trigger.png")


def test_badnets(image):
    out = parse_trigger("badnets:size=3,pos=28,28").stamp(image)
    assert (out[28:31, 28:31] == 255).all()
    out[28:31, 28:31] = image[28:31, 28:31]
    assert (out == image).all()
    assert (
        parse_trigger("badnets").stamp(image) == parse_trigger("badnets:size=3,pos=-4,-4,value=255").stamp(image)
    ).all()


def test_grid_is_nads(image):
    out = parse_trigger("grid").stamp(image)
    bright = {(31, 31), (31, 29), (30, 30), (29, 31)}
    for row in range(29, 32):
        for column in range(29, 32):
            assert (out[row, column] == (255 if (row, column) in bright else 0)).all()
    assert (out[:29] == image[:29]).all() and (out[:, :29] == image[:, :29]).all()


def test_overlays(image, picture):
    values = np.zeros((32, 32, 3))
    values[4:6, 7:9] = (10, 0, 200)
    blended = parse_trigger(f"blended:image={picture},alpha=0.25").stamp(image)
    assert np.abs(blended - (0.75 * image + 0.25 * values)).max() <= 0.5
    added = parse_trigger(f"trojan:image={picture}").stamp(image)
    assert (added == np.clip(image + values, 0, 255)).all()
    wave = 20 * np.sin(2 * np.pi * np.arange(32) * 6 / 32)
    assert np.abs(parse_trigger("sig").stamp(image) - np.clip(image + wave[None, :, None], 0, 255)).max() <= 0.5


def test_sparse(image, picture, tmp_path):
    out = parse_trigger(f"l0:image={picture}").stamp(image)
    changed = (out != image).any(2)
    assert changed[4:6, 7:9].all() and changed.sum() == 4 and (out[4, 7] == (10, 0, 200)).all()
    mask = np.zeros((3, 32, 32), np.float32)
    mask[0, 4:6, 7:9] = 1
    np.save(tmp_path / "mask.npy", mask)
    out = parse_trigger(f"l0:image={picture},mask={tmp_path / 'mask.npy'}").stamp(image)
    assert (out[4:6, 7:9, 0] == 10).all()
    assert (out[4, 7, 2] == min(255, int(image[4, 7, 2]) + 200)).all()


def test_signed_perturbation(image, tmp_path):
    np.save(tmp_path / "delta.npy", np.full((32, 32, 3), -7, np.int16))
    assert (
        parse_trigger(f"l2:image={tmp_path / 'delta.npy'}").stamp(image) == np.clip(image.astype(int) - 7, 0, 255)
    ).all()
    np.save(tmp_path / "delta.npy", np.full((32, 32), 0.1, np.float32))
    assert (
        np.abs(parse_trigger(f"l2:image={tmp_path / 'delta.npy'}").stamp(image) - np.clip(image + 25.5, 0, 255)).max()
        <= 0.5
    )


def test_wanet(image):
    """A warp by zero is the identity, another seed another trigger, and the field has the paper's size."""
    assert (parse_trigger("wanet:s=1e-9").stamp(image) == image).all()
    first, second = (parse_trigger(f"wanet:seed={seed}").stamp(image) for seed in (1, 2))
    assert (first != second).any() and (first == parse_trigger("wanet:seed=1").stamp(image)).all()
    identity, moved = warping_grid(32, 32, 4, 0.0, 5), warping_grid(32, 32, 4, 0.5, 5)
    shift = (moved - identity).abs()
    assert 0 < float(shift.mean()) < 2 * 0.5 / 32 and torch.isfinite(moved).all()


def test_published_triggers_are_those_of_the_networks(shared, image):
    """The three of I-BAU, as shared/README.md gives them in floats."""
    from PIL import Image

    x, folder = image / 255.0, shared / "triggers"
    png = {
        name: np.asarray(Image.open(folder / f"ibau_{name}.png").convert("RGB")) / 255.0
        for name in ("trojan_wm", "l0_inv")
    }
    mask = np.load(folder / "ibau_mask.npy").transpose(1, 2, 0)
    expected = {
        f"trojan:image={folder / 'ibau_trojan_wm.png'}": x + png["trojan_wm"],
        f"l0:image={folder / 'ibau_l0_inv.png'},mask={folder / 'ibau_mask.npy'}": x * (1 - mask) + png["l0_inv"],
    }
    for text, value in expected.items():
        assert np.abs(parse_trigger(text).stamp(image) / 255.0 - value.clip(0, 1)).max() <= 0.5 / 255 + 1e-6, text


def test_they_compose_with_a_pipeline(image):
    pipeline = albumentations.Compose([parse_trigger("grid"), albumentations.HorizontalFlip(p=1.0)])
    out = pipeline(image=image)["image"]
    assert (out == parse_trigger("grid").stamp(image)[:, ::-1]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("badnet:size=3", "did you mean 'badnets'"),
        ("nothing", "There are: badnets, grid"),
        ("badnets:sice=3", "cannot read 'sice=3'; expected KEY=VALUE, once each, of: size, pos, value"),
        ("badnets:size=0", "size is '0'"),
        ("badnets:size=3,size=4", "cannot read 'size=4'"),
        ("badnets:pos=3", "pos is '3'"),
        ("blended:alpha=0.2", "lacks image; write blended:image=FILE"),
        ("wanet:s=-1", "s is '-1', which cannot be used"),
    ],
)
def test_strings_refused_with_the_reason(text, message):
    with pytest.raises(RequestError, match=message):
        parse_trigger(text)


def test_files_refused_with_the_reason(tmp_path):
    with pytest.raises(FileNotFoundError, match="no trigger image"):
        parse_trigger("blended:image=nowhere.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(RequestError, match="no image that can be read"):
        parse_trigger(f"blended:image={tmp_path / 'broken.png'}")
    np.save(tmp_path / "flat.npy", np.zeros(9))
    with pytest.raises(RequestError, match=r"shape \(9,\)"):
        parse_trigger(f"l0:image={tmp_path / 'flat.npy'}")


def test_images_refused_with_the_reason(image):
    with pytest.raises(RequestError, match="does not fit into an image of 32x32"):
        parse_trigger("badnets:size=3,pos=31,31").stamp(image)
    with pytest.raises(RequestError, match=r"expected .H, W, 3. uint8"):
        parse_trigger("grid").apply(image / 255.0)
    assert set(TRIGGERS) == {"badnets", "grid", "blended", "sig", "trojan", "l0", "l2", "wanet"}
