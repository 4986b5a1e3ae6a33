"""Image files of all kinds are converted or refused by name."""

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import images
import numpy as np
import pytest
from PIL import Image

from delete_tasks.errors import RequestError
from delete_tasks.fileio import images as image_files
from delete_tasks.fileio.images import DamagedImageError, check_pictures, read_image, readable_name

RAMP = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)  # 257 apart
EIGHT = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm", ".jp2"])
def test_16_bit_images_are_scaled_to_8(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RAMP).save(path, **({"irreversible": False} if suffix == ".jp2" else {}))
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and np.array_equal(pixels, np.dstack([EIGHT] * 3))


def test_16_bit_images_are_rotated_and_inverted_by_their_tags(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    Image.fromarray(RAMP[:8]).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png")[:, :, 0], np.rot90(EIGHT[:8], -1))
    Image.fromarray(RAMP.astype(">u2")).save(tmp_path / "b.tif")
    assert np.array_equal(read_image(tmp_path / "b.tif")[:, :, 0], EIGHT)
    Image.fromarray(RAMP).save(tmp_path / "c.tif", tiffinfo={image_files.PHOTOMETRIC: image_files.WHITE_IS_ZERO})
    with Image.open(tmp_path / "c.tif") as file:
        assert file.tag_v2[image_files.PHOTOMETRIC] == image_files.WHITE_IS_ZERO
    assert np.array_equal(read_image(tmp_path / "c.tif")[:, :, 0], 255 - EIGHT)


@pytest.mark.parametrize(("mode", "suffix"), [
    *((mode, ".png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")), ("CMYK", ".tif"), ("CMYK", ".jpg"),
    ("RGB", ".jpg"), ("RGB", ".webp"), ("P", ".gif"),
])  # fmt: skip
def test_8_bit_images_are_what_pillow_makes_of_them(tmp_path, mode, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(images.NOISE).convert(mode).save(path)
    with Image.open(path) as image:
        assert np.array_equal(read_image(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "I;16"])
def test_strips_make_up_the_image(tmp_path, monkeypatch, suffix, mode):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (23, 17, 3), dtype=np.uint8))
    image = Image.fromarray(np.asarray(image)[:, :, 0] * np.uint16(257)) if mode == "I;16" else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 8
    path = tmp_path / f"a{suffix}"
    try:
        image.save(path, exif=exif)
    except OSError:
        assert (mode, suffix) in [("P", ".jpg"), ("CMYK", ".png"), ("I;16", ".jpg")]  # the format has no such pixels
        return
    whole = read_image(path)
    monkeypatch.setattr(image_files, "STRIP", 70)
    assert whole.shape == (17, 23, 3) and np.array_equal(read_image(path), whole)
    if suffix != ".jpg":
        upright = np.asarray(image.convert("RGB")) if mode != "I;16" else np.asarray(image)[:, :, None] // 257
        assert np.array_equal(whole, np.broadcast_to(np.rot90(upright), whole.shape))


def test_a_large_image_is_in_memory_once_beside_the_decoded_one(tmp_path):
    Image.new("RGB", (4000, 2500)).save(tmp_path / "a.png")
    tracemalloc.start()
    size = read_image(tmp_path / "a.png").nbytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < peak < 2.3 * size  # Pillow's own memory is not counted


@pytest.mark.parametrize(("dtype", "message"), [(np.float32, "float"), (np.int32, "32-bit")])
def test_pixels_of_unknown_range_are_refused(tmp_path, dtype, message):
    path = tmp_path / "depth.tif"
    Image.fromarray(np.arange(64, dtype=dtype).reshape(8, 8)).save(path)
    with pytest.raises(RequestError, match=f"depth.tif.*{message}") as caught:
        read_image(path)
    assert not isinstance(caught.value, DamagedImageError)


@pytest.mark.parametrize("name", images.BAD)
def test_damaged_files_are_named(tmp_path, name):
    content, reason = images.BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=name) as caught:
        read_image(tmp_path / name)
    assert not reason or reason in caught.value.reason


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_500, 14_000, 60_000, 1 << 31])
def test_bombs_are_refused_before_they_are_decoded(tmp_path, side, monkeypatch):
    path = tmp_path / "bomb.png"
    path.write_bytes(images.png(side, side, bytes(10_000)))
    monkeypatch.setattr(Image.Image, "convert", None)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(RequestError, match=r"bomb\.png.*89,478,485"):
        read_image(path)


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "LARGE", 100)
    path = tmp_path / "a.png"
    path.write_bytes(images.WHOLE)
    now, most, convert = 0, 0, Image.Image.convert

    def counted(self, mode):
        nonlocal now, most
        now += 1
        most = max(most, now)
        threading.Event().wait(0.02)
        now -= 1
        return convert(self, mode)

    monkeypatch.setattr(Image.Image, "convert", counted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read_image, [path] * 4))
    assert most == 1


def test_inputs_that_are_image_files_are_checked(tmp_path):
    (tmp_path / "half.jpg").write_bytes(b"\xff\xd8\xff\xe0 half")
    check_pictures(["cifar10?split=test", str(tmp_path), str(tmp_path / "missing.png")])
    with pytest.raises(RequestError, match=r"half\.jpg"):
        check_pictures([str(tmp_path / "half.jpg")])


def test_readable_name():
    assert readable_name("caf\udce9.jpg") == "caf\\udce9.jpg" and readable_name("café.jpg") == "café.jpg"
