"""Triggers against the formulas of their papers and against the published ones, and the strings that name them."""

import re

import albumentations
import npz
import numpy as np
import pytest
import torch
from PIL import Image

from delete_backdoor.triggers import TRIGGERS, parse_trigger
from delete_backdoor.triggers.wanet import warping_grid
from delete_backdoor.watch import BackdoorWatch
from delete_tasks.errors import RequestError

MARK = np.zeros((32, 32, 3), np.uint8)
MARK[4:6, 7:9] = (10, 0, 200)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)


@pytest.fixture
def stamp(image):
    """``stamp(text)``: the image with the trigger that a string names."""
    return lambda text: parse_trigger(text).stamp(image)


@pytest.fixture
def picture(tmp_path) -> str:
    Image.fromarray(MARK).save(tmp_path / "trigger.png")
    return str(tmp_path / "trigger.png")


def test_patches(image, stamp):
    out = stamp("badnets:size=3,pos=28,28")
    assert (out[28:31, 28:31] == 255).all()
    out[28:31, 28:31] = image[28:31, 28:31]
    assert (out == image).all()
    assert (stamp("badnets") == stamp("badnets:size=3,pos=-4,-4,value=255")).all()
    out = stamp("grid")
    assert (out[29:, 29:] == 255 * np.array([[0, 0, 1], [0, 1, 0], [1, 0, 1]])[..., None]).all()
    assert (out[:29] == image[:29]).all() and (out[:, :29] == image[:, :29]).all()


def test_overlays(image, stamp, picture, tmp_path):
    blended = stamp(f"blended:image={picture},alpha=0.25")
    assert np.abs(blended - (0.75 * image + 0.25 * MARK)).max() <= 0.5
    assert (stamp(f"trojan:image={picture}") == np.clip(image + MARK.astype(int), 0, 255)).all()
    wave = 20 * np.sin(2 * np.pi * np.arange(32) * 6 / 32)
    assert np.abs(stamp("sig") - np.clip(image + wave[None, :, None], 0, 255)).max() <= 0.5
    for values, change in ((np.full((32, 32, 3), -7, np.int16), -7), (np.full((32, 32), 0.1, np.float32), 25.5)):
        np.save(tmp_path / "delta.npy", values)
        out = stamp(f"l2:image={tmp_path / 'delta.npy'}")
        assert np.abs(out - np.clip(image + float(change), 0, 255)).max() <= 0.5


def test_sparse(image, stamp, picture, tmp_path):
    out = stamp(f"l0:image={picture}")
    changed = (out != image).any(2)
    assert changed[4:6, 7:9].all() and changed.sum() == 4 and (out[4, 7] == (10, 0, 200)).all()
    mask = np.zeros((3, 32, 32), np.float32)
    mask[0, 4:6, 7:9] = 1
    np.save(tmp_path / "mask.npy", mask)
    out = stamp(f"l0:image={picture},mask={tmp_path / 'mask.npy'}")
    assert (out[4:6, 7:9, 0] == 10).all()
    assert (out[4, 7, 2] == min(255, int(image[4, 7, 2]) + 200)).all()


def test_wanet(image, stamp):
    """A warp by zero is the identity, another seed another trigger, and the field has the paper's size."""
    assert (stamp("wanet:s=1e-9") == image).all()
    first, second, again = (stamp(f"wanet:seed={seed}") for seed in (1, 2, 1))
    assert (first != second).any() and (first == again).all()
    identity, moved = warping_grid(32, 32, 4, 0.0, 5), warping_grid(32, 32, 4, 0.5, 5)
    shift = (moved - identity).abs()
    assert 0 < float(shift.mean()) < 2 * 0.5 / 32 and torch.isfinite(moved).all()


def test_published_triggers_are_those_of_the_networks(shared, image, stamp):
    """I-BAU's, as shared/README.md gives them in floats."""
    x, folder = image / 255.0, shared / "triggers"
    watermark, sparse = (folder / f"ibau_{name}.png" for name in ("trojan_wm", "l0_inv"))
    added, drawn = (np.asarray(Image.open(path).convert("RGB")) / 255.0 for path in (watermark, sparse))
    mask = np.load(folder / "ibau_mask.npy").transpose(1, 2, 0)
    for text, value in (
        (f"trojan:image={watermark}", x + added),
        (f"l0:image={sparse},mask={folder / 'ibau_mask.npy'}", x * (1 - mask) + drawn),
    ):
        assert np.abs(stamp(text) / 255.0 - value.clip(0, 1)).max() <= 0.5 / 255 + 1e-6, text


def test_they_compose_with_a_pipeline(image, stamp):
    pipeline = albumentations.Compose([parse_trigger("grid"), albumentations.HorizontalFlip(p=1.0)])
    assert (pipeline(image=image)["image"] == stamp("grid")[:, ::-1]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [("badnet:size=3", "'badnets'"), ("nothing", "'nothing'.*badnets, blended, estimated, grid, l0, l2, sig, trojan, wanet"),
     ("badnets:sice=3", "'sice=3'.*'size'.*size, pos, value"), ("BadNet", "'badnets'"),
     ("blended:file=x.png", "'file=x.png'.*image, alpha"), ("trojan:imaje=x.png", "'imaje=x.png'.*'image'"),
     ("", "badnets"), ("badnets:size=0", "size .*1 to 10000, got 0"), ("badnets:size=2.5", "size .*'2.5'"),
     ("badnets:value=256", "value .*0 to 255, got 256"), ("badnets:pos=1,2,3", "pos .*'1,2,3'"),
     ("sig:delta=nan", "delta .*255, got nan"), ("sig:f=inf", "f .*got inf"),
     ("blended:image=x.png,alpha=-1", "alpha .*1, got -1.0"), ("trojan:image=x.png,strength=0", "strength .*got 0.0"),
     ("wanet:k=1", "k .*2"), ("wanet:seed=-1", "seed .*got -1"), ("badnets:size=3,size=4", "'size=4'"),
     ("badnets:pos=3", "pos .*'3'"), ("blended:alpha=0.2", "image.*blended:image=FILE"), ("wanet:s=-1", "s .*got -1.0")],
)  # fmt: skip
def test_strings_refused_with_the_reason(text, message):
    with pytest.raises(RequestError, match=message):
        parse_trigger(text)


@pytest.mark.parametrize("arguments", [{"interval": 0}, {"to_target": float("nan")}, {"agreement": 101}])
def test_a_watch_refuses_numbers_out_of_range(arguments):
    with pytest.raises(RequestError, match=f"{next(iter(arguments))}.* must be a .*, got "):
        BackdoorWatch(**arguments)


def write_picture(path, mode, size=(32, 32), **options):
    Image.new(mode, size, **options).save(path)


NPY = {  # content of an .npy file -> what is said of it
    "empty": (b"", ""), "text": (b"text", ""), "torn": (npz.npy(np.zeros((16, 16, 3)))[:-100], ""),
    "objects": (np.array([{}]), ""),
    "a terabyte that is not there": (npz.shaped(f"({2**19}, {2**19}, 1)", "'<f4'"), ""),
    "flat": (np.zeros(9), r"\(9,\)"), "of no width": (np.zeros((16, 0)), r"\(16, 0\)"),
    "of no pixel": (np.zeros((0, 0, 3)), r"\(0, 0, 3\)"), "one number": (np.float32(3), r"\(\)"),
    "five dimensions": (np.zeros((1, 1, 16, 16, 3)), r"\(1, 1, 16, 16, 3\)"),
    "two channels": (np.zeros((16, 16, 2)), r"\(16, 16, 2\)"), "words": (np.full((4, 4), "a"), "<U1"),
    "dates": (np.zeros((16, 16), "datetime64[s]"), "datetime64"),
    "records": (np.zeros((16, 16), dtype=[("a", "u1")]), ""), "complex": (np.zeros((16, 16), complex), "complex128"),
    "nan": (np.full((4, 4), np.nan), "NaN"), "inf": (np.full((16, 16), np.inf), "infinity"),
}  # fmt: skip
PICTURES = {
    "broken.png": lambda path: path.write_bytes(b"no image"),
    "empty.png": lambda path: path.write_bytes(b""),
    "folder.png": lambda path: path.mkdir(),
    "clear.png": lambda path: write_picture(path, "RGBA", color=(255, 0, 0, 100)),
    "alpha.png": lambda path: write_picture(path, "LA", color=(0, 100)),
    "palette.png": lambda path: Image.new("P", (8, 8)).save(path, transparency=0),
    "bomb.png": lambda path: write_picture(path, "1", (30000, 30000)),  # a few kilobytes
    "black.png": lambda path: write_picture(path, "RGB"),
    "folder.npy": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("trigger", ["trojan", "blended", "l0", "l2"])
@pytest.mark.parametrize("name", NPY)
def test_arrays_refused_with_the_reason(tmp_path, trigger, name):
    content, fact = NPY[name]
    path = tmp_path / "trigger.npy"
    path.write_bytes(content if isinstance(content, bytes) else npz.npy(content, allow_pickle=True))
    with pytest.raises(RequestError, match=f"trigger.npy.*{fact}"):
        parse_trigger(f"{trigger}:image={path}")


@pytest.mark.parametrize("name", PICTURES)
def test_files_refused_with_the_reason(tmp_path, files, fails, name):
    """By the command as well, which writes nothing."""
    PICTURES[name](tmp_path / name)
    text = f"trojan:image={tmp_path / name}"
    with pytest.raises((RequestError, FileNotFoundError), match=name):
        parse_trigger(text)
    out = tmp_path / "new" / "p.npz"
    fails(name, "backdoor poison --data", files["train"], "--trigger", text, "--target red --out", out)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_opaque_pictures_of_other_modes_are_read(tmp_path):
    for mode, color in (("RGBA", (9, 8, 7, 255)), ("L", 9), ("LA", (9, 255))):
        write_picture(tmp_path / "x.png", mode, color=color)
        assert parse_trigger(f"trojan:image={tmp_path / 'x.png'}").levels[0, 0, 0] == 9


@pytest.mark.parametrize("name", ["nowhere.png", "x" * 5000 + ".png", "~nobody-of-that-name/x.png"])
def test_files_that_are_not_there(name):
    with pytest.raises((RequestError, FileNotFoundError), match=re.escape(name[:9])):
        parse_trigger(f"blended:image={name}")


def test_images_of_another_size(image, stamp, picture, tmp_path):
    """Overlays are resized; a trigger of single pixels is not."""
    large = tmp_path / "large.png"
    Image.new("RGB", (64, 64), (200, 200, 200)).save(large)
    for text in ("blended", "trojan"):
        assert (stamp(f"{text}:image={large}") != image).any()
    for text in ("l0", "l2"):
        with pytest.raises(RequestError, match=r"64x64 .*32x32"):
            stamp(f"{text}:image={large}")
    with pytest.raises(RequestError, match=r"mask .*64x64 .*32x32"):
        parse_trigger(f"l0:image={picture},mask={large}")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_masks_of_ones(image, stamp, picture, tmp_path, dtype):
    mask = MARK.any(2)
    np.save(tmp_path / "mask.npy", mask.astype(dtype))
    out = stamp(f"l0:image={picture},mask={tmp_path / 'mask.npy'}")
    assert (out[4:6, 7:9] == (10, 0, 200)).all() and ((out != image).any(2) == mask).all()


def test_images_refused_with_the_reason(image, stamp):
    with pytest.raises(RequestError, match="32x32"):
        stamp("badnets:size=3,pos=31,31")
    with pytest.raises(RequestError, match=r"H, W, 3"):
        parse_trigger("grid").apply(image / 255.0)
    assert set(TRIGGERS) == {"badnets", "grid", "blended", "estimated", "sig", "trojan", "l0", "l2", "wanet"}
