"""Files that are no whole, sane data: archives, images, label maps, rankings, trigger images. Named in one message, or read."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from harness import is_refused, no_traceback, split
from npz import FILES, FINE, MEMBERS, archive
from PIL import Image

MEMORY = 6 << 30
COMMANDS = {
    "images evaluate": lambda kit, data: ["images", "evaluate", kit.path("images/model"), "--test", data],
    "images forget": lambda kit, data: kit.argv("images", "W", "--no-record", "--forget", data),
    "backdoor clean": lambda kit, data: kit.argv("backdoor", "W", "--no-record", "--poisoned", data),
    "backdoor find": lambda kit, data: ["backdoor", "find", "--model", kit.path("images/model"), "--data", data, "--out",
    "W/r.json"],
    "backdoor poison": lambda kit, data: ["backdoor", "poison", "--data", data, "--trigger", "badnets", "--target", "red",
    "--out", "W/p.npz"],
}  # fmt: skip


def read_or_refused(done, here, before, fine: bool) -> None:
    no_traceback(done)
    assert done.code in (0, 2, 4), f"{done}"
    if done.code == 2:
        is_refused(done, here, before)
    else:
        assert fine, f"read without a word: {done}"
    assert not list(here.root.rglob("canary")), "code of the file ran"


@pytest.mark.parametrize("rows", split([*MEMBERS, *FILES], fast=26, only=lambda name: name != "a bomb"))
def test_archives(server, world, kit, cases, rows):
    for number, name in enumerate(rows):
        here = world()
        data = here.root / "data.npz"
        archive(data, MEMBERS[name]) if name in MEMBERS else data.write_bytes(FILES[name]())
        for command in ("images evaluate", list(COMMANDS)[1 + number % 4]):
            before = here.look()
            with cases(f"{command} of an archive with {name}"):
                done = server.run(COMMANDS[command](kit, str(data)), here, memory=MEMORY)
                allowed = name in FINE or (command != "images evaluate" and ("class" in name or "label" in name))
                read_or_refused(done, here, before, allowed)


# Images


def png(width: int, height: int, pixels: bytes, kind: int = 2, depth: int = 8) -> bytes:
    """A PNG file, whatever it claims."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def grey(values: np.ndarray, kind: str) -> bytes:
    return encoded(Image.fromarray(values), kind)


RAMP = np.linspace(0, 1, 256).reshape(16, 16)
RGB = Image.fromarray((RAMP[..., None] * [255, 128, 64]).astype(np.uint8))
BAD = {  # nobody can read these: they are named
    "empty.png": b"", "text.png": b"hello", "torn.png": encoded(RGB, "PNG")[:-60], "torn.jpg": encoded(RGB, "JPEG")[:-200],
    "bomb.png": png(60000, 60000, b"\0" * 1000), "huge.png": png(2**31 - 1, 2**31 - 1, b""), "none.png": png(0, 0, b""),
    "flat.png": png(16, 0, b""), "zeros.png": bytes(4000), "script.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "fake.tif": b"II*\0\xff\xff\xff\xff", "loop.gif": b"GIF89a" + bytes(20), "html.jpg": b"<html></html>",
    "head.jpg": b"\xff\xd8\xff",
    "nodata.png": encoded(RGB, "PNG")[:50], "nan.tif": grey(np.full((16, 16), np.nan, np.float32), "TIFF"),
}  # fmt: skip
GOOD = {  # name -> (file, mean of the red channel that it shows)
    "deep.png": (grey((RAMP * 65535).astype(np.uint16), "PNG"), 127.5),
    "deep.tif": (grey((RAMP * 65535).astype(np.uint16), "TIFF"), 127.5),
    "float.tif": (grey(RAMP.astype(np.float32), "TIFF"), 127.5),
    "int.tif": (grey((RAMP * 65535).astype(np.int32), "TIFF"), 127.5),
    "palette.png": (encoded(RGB.convert("P"), "PNG"), 127),
    "grey.png": (encoded(RGB.convert("L"), "PNG"), 80),
    "alpha.png": (encoded(RGB.convert("RGBA"), "PNG"), 127),
    "cmyk.jpg": (encoded(RGB.convert("CMYK"), "JPEG"), 127),
    "bits.png": (encoded(RGB.convert("1"), "PNG"), 80),
    "still.gif": (encoded(RGB, "GIF"), 127),
    "upright.jpg": (encoded(RGB, "JPEG"), 127),
    "web.webp": (encoded(RGB, "WEBP"), 127),
}  # fmt: skip
READ = """
import json, numpy as np
from pathlib import Path
from delete_images.data import open_data
data = open_data(case["data"] + "?label=none", "train", ("a", "b"))
print(json.dumps([data[0][0].shape, data[0][0][..., 0].astype(float).mean()]))
"""


@pytest.mark.parametrize("rows", split(list(BAD), fast=8))
def test_images_that_cannot_be_read(server, world, kit, cases, rows):
    """Among others they are skipped and named; alone they are refused; as a photo or a trigger they are refused."""
    for name in rows:
        here = world()
        (here.root / name).write_bytes(BAD[name])
        folder = here.root / "photos" / "red"
        folder.mkdir(parents=True)
        shutil.copy(here.root / name, folder)
        before = here.look()
        photo = str(here.root / name)
        alone = {
            "images evaluate of it alone": ["images", "evaluate", kit.path("images/model"), "--test", str(folder.parent)],
            "faces identify": ["faces", "identify", "--model", kit.path("faces/model"), "--aligned", photo],
            "faces identify, found": ["faces", "identify", "--model", kit.path("faces/model"), photo],
            "attention": ["attention", "--original", kit.path("images/model"), "--erased", kit.path("images/model"), "--class",
            "red",
                          str(folder.parent), "--out", "a.png"],
            "a trigger": ["backdoor", "poison", "--data", kit.path("images/data.npz"), "--trigger", f"blended:image={photo}",
                          "--target", "red", "--out", "p.npz"],
        }  # fmt: skip
        for what, argv in alone.items():
            with cases(f"{what}: {name}"):
                done = server.run(argv, here, memory=MEMORY)
                is_refused(done, here, before, name.split(".")[0])
        shutil.copytree(kit.path("images/photos"), folder.parent, dirs_exist_ok=True)
        with cases(f"images evaluate among others: {name}"):
            done = server.run(
                ["images", "evaluate", kit.path("images/model"), "--test", str(folder.parent)], here, memory=MEMORY
            )
            no_traceback(done)
            assert done.code in (0, 2) and name in done.said, f"it vanished without a word: {done.said[-300:]}"


@pytest.mark.parametrize("name", GOOD)
def test_images_are_read_as_what_they_show(server, world, kit, cases, name):
    """16 bits do not become white, floats not black."""
    content, mean = GOOD[name]
    here = world()
    (here.cwd / "photos").mkdir()
    (here.cwd / "photos" / name).write_bytes(content)
    with cases(f"{name} is read, or refused and named"):
        done = server.run([], here, code=READ, data="photos")
        if done.code:
            assert "RequestError" in done.err and name in done.err, f"{done}"
        else:
            shape, found = json.loads(done.out.splitlines()[-1])
            assert shape == [16, 16, 3] and abs(found - mean) < 12, f"mean {found:.1f}, expected {mean}"


def test_folders(server, world, kit, cases):
    """A class folder without an image that can be read does not vanish; links that go round end."""
    for kind in (
        "a class of damaged images",
        "an empty class",
        "a loop of links",
        "a fifo",
        "a folder named like an image",
        "a dangling link",
    ):
        here = world()
        photos = here.root / "photos"
        shutil.copytree(kit.path("images/photos"), photos)
        first = sorted((photos / "green").iterdir())
        {
            "a class of damaged images": lambda first=first: [path.write_bytes(b"x") for path in first],
            "an empty class": lambda first=first: [path.unlink() for path in first],
            "a loop of links": lambda photos=photos: (photos / "green" / "again").symlink_to(".."),
            "a fifo": lambda photos=photos: __import__("os").mkfifo(photos / "green" / "pipe.png"),
            "a folder named like an image": lambda photos=photos: (photos / "green" / "dir.png").mkdir(),
            "a dangling link": lambda photos=photos: (photos / "green" / "gone.png").symlink_to("nowhere"),
        }[kind]()  # fmt: skip
        with cases(f"photos with {kind}"):
            done = server.run(["images", "evaluate", kit.path("images/model"), "--test", str(photos)], here, timeout=60)
            no_traceback(done)
            if kind == "a class of damaged images":
                assert "green" in done.said and (
                    "skip" in done.said.lower() or done.code == 2 or "green" in done.err
                ), f"{done.said[-300:]}"
            else:
                assert done.code in (0, 2), f"{done}"


# Segmentation's pictures and label maps


def maps():
    label = np.full((64, 128), 7, np.uint8)
    label[:, 40:90] = 26  # cars
    return {
        "label map of another size": ("label", encoded(Image.fromarray(label[:32]), "PNG")),
        "label map of three channels": ("label", encoded(Image.fromarray(np.stack([label] * 3, 2)), "PNG")),
        "label map of 16 bits, of large numbers": ("label", grey(label.astype(np.uint16) * 256, "PNG")),
        "label map that is empty": ("label", b""),
        "label map that is torn": ("label", encoded(Image.fromarray(label), "PNG")[:-60]),
        "label map that is text": ("label", b"hello"),
        "label map that is gone": ("label", None),
        "picture that is empty": ("image", b""),
        "picture that is torn": ("image", encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 128,
        3)).astype(np.uint8)), "PNG")[:-900]),
        "picture that is text": ("image", b"hello"),
        "picture of another size": ("image", encoded(Image.fromarray(np.zeros((32, 64, 3), np.uint8)), "PNG")),
        "picture that is a bomb": ("image", png(60000, 60000, b"\0" * 1000)),
        "picture that is gone": ("image", None),
    }  # fmt: skip


@pytest.mark.parametrize("rows", split([(n, s) for n in maps() for s in ("train", "val")], fast=2))
def test_segmentation_files(server, world, kit, cases, rows):
    """Refused before the first step, with the file's name."""
    for name, part in rows:
        here = world()
        scenes = here.root / "scenes"
        shutil.copytree(kit.path("seg/scenes"), scenes)
        kind, content = maps()[name]
        folder = "gtFine" if kind == "label" else "leftImg8bit"
        number = next(
            i
            for i, label in enumerate(sorted(scenes.glob(f"gtFine/{part}/*/*labelIds.png")))
            if 26 in np.asarray(Image.open(label))
        )
        path = sorted(scenes.glob(f"{folder}/{part}/*/*{'labelIds' if kind == 'label' else 'leftImg8bit'}.png"))[number]
        path.unlink() if content is None else path.write_bytes(content)
        config = here.root / "config.py"
        config.write_text(Path(kit.path("seg/config.py")).read_text().replace(kit.path("seg/scenes"), str(scenes)))
        argv = kit.argv("segmentation", "W", "--no-record")
        argv[1] = str(config)
        before = here.look()
        with cases(f"segmentation, {part}: {name}"):
            done = server.run(argv, here, memory=MEMORY)
            if content is None and kind == "image":
                no_traceback(done)
                assert done.code in (0, 2), f"{done}"
            else:
                is_refused(done, here, before, path.stem[:20])


# Rankings and trigger images

RANKINGS = {
    "empty": "", "text": "hello", "a list": "[]", "null": "null", "a number": "3", "no samples": "{F}",
    "samples null": '{F, "samples": null}',
    "samples a word": '{F, "samples": "abc"}', "samples numbers": '{F, "samples": [1, 2]}',
    "samples of two": '{F, "samples": [["a", 1]]}',
    "samples of four": '{F, "samples": [["a", 1, true, 4]]}', "samples objects": '{F, "samples": [{"name": "a"}]}',
    "samples empty": '{F, "samples": []}', "unknown samples": '{F, "samples": [["nobody", 1.0, true]]}',
    "names that are numbers": '{F, "samples": [[1, 1.0, true]]}', "data a list": '{"format": "R", "data": [], "samples": []}',
    "data null": '{"format": "R", "data": null, "samples": []}', "data gone": '{"format": "R", "samples": []}',
    "data itself": '{"format": "R", "data": "ranking.json", "samples": []}', "nested": "[" * 100000, "NaN": '{F, "samples": NaN}',
    "a sample twice": '{F, "samples": [["train/00000", 1.0, true], ["train/00000", 1.0, true]]}', "UTF-16": "\ufeff{}",
    "flags that are words": '{F, "samples": [["train/00000", 1.0, "no"]]}',
    "scores that are words": '{F, "samples": [["train/00000", "x", true]]}',
}  # fmt: skip


@pytest.mark.parametrize("rows", split(list(RANKINGS), fast=8))
def test_rankings(server, world, kit, cases, rows):
    for name in rows:
        here = world()
        known = f'"format": "delete-tasks backdoor ranking", "data": {json.dumps(kit.path("backdoor/poisoned.npz"))}'
        text = RANKINGS[name].replace("{F", "{" + known).replace('"R"', '"delete-tasks backdoor ranking"')
        (here.cwd / "ranking.json").write_text(text)
        before = here.look()
        with cases(f"--poisoned a ranking that is {name}"):
            is_refused(
                server.run(kit.argv("backdoor", "W", "--no-record", "--poisoned", "ranking.json"), here), here, before
            )


TRIGGERS = {
    "empty.npy": b"", "text.npy": b"hello", "torn.npy": None, "objects.npy": np.array([print], dtype=object),
    "zero.npy": np.zeros((0, 0, 3)),
    "flat.npy": np.zeros((16, 0)), "one.npy": np.float32(3), "line.npy": np.zeros(16), "five.npy": np.zeros((1, 1, 16, 16, 3)),
    "nan.npy": np.full((16, 16, 3), np.nan), "inf.npy": np.full((16, 16), np.inf), "words.npy": np.full((16, 16), "a"),
    "complex.npy": np.zeros((16, 16), complex), "two.npy": np.zeros((16, 16, 2)), "dates.npy": np.zeros((16, 16),
    "datetime64[s]"),
    "records.npy": np.zeros((16, 16), dtype=[("a", "u1")]), "huge.npy": b"\x93NUMPY\x01\x00", "dir.npy": "folder",
    "gone.npy": "nothing",
}  # fmt: skip


@pytest.mark.parametrize("rows", split([(n, t) for n in TRIGGERS for t in ("blended", "trojan", "l0", "l2")], fast=12))
def test_trigger_images(server, world, kit, cases, rows):
    from npz import npy, shaped

    for name, trigger in rows:
        here, content = world(), TRIGGERS[name]
        path = here.root / name
        if name == "torn.npy":
            path.write_bytes(npy(np.zeros((16, 16, 3)))[:-100])
        elif name == "huge.npy":
            path.write_bytes(shaped("(1000000, 1000000, 3)"))
        elif isinstance(content, str):
            path.mkdir() if content == "folder" else None
        else:
            path.write_bytes(content if isinstance(content, bytes) else npy(content, allow_pickle=True))
        before = here.look()
        with cases(f"{trigger}:image={name}"):
            argv = [
                "backdoor",
                "poison",
                "--data",
                kit.path("images/data.npz"),
                "--trigger",
                f"{trigger}:image={path}",
                "--target",
                "red",
            ]
            is_refused(server.run([*argv, "--out", "W/p.npz"], here, memory=MEMORY), here, before)
