"""Data that are damaged, or made to do harm: each is refused by name, before it fills the memory."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delete_images import archives
from delete_images.data import open_data
from delete_tasks.errors import RequestError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8), np.arange(6) % 2


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def header(text: str, content: bytes = b"", version: int = 1) -> bytes:
    """An .npy whose header is ``text``."""
    length = struct.pack("<H" if version == 1 else "<I", len(text) + 1)
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + b"\n" + content


def say(shape: str, dtype: str = "'|u1'", content: bytes = bytes(360)) -> bytes:
    return header(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}", content)


def archive(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pickle_ran",))


# One good set of members, of which each case replaces some.
GOOD = {"x": npy(X), "y": npy(Y)}
MEMBERS = [
    ({"x": say("(6, 5, 4, 3)", "'|O'")}, "Python objects"),
    ({"y": npy(np.zeros(6, dtype=object))}, "Python objects"),
    ({"y": header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps(Evil()))}, "Python objects"),
    ({"x": say("(-6, 5, 4, 3)")}, "cannot be"),
    ({"x": say("(True, 5, 4, 3)")}, "cannot be"),
    ({"x": say("(6, 5, 4, 2**9)")}, "cannot be read as plain arrays"),
    ({"x": say("(6, 5, 4, 99999999999999999999)")}, "but 360 follow"),
    ({"x": say("(1000000, 1000, 1000, 3)")}, "bytes, but 360 follow"),
    ({"x": say("(0, 5, 4, 3)", content=b"")}, r"shape \(0, 5, 4, 3\), i.e. none"),
    ({"x": say("(6, 0, 0, 3)", content=b""), "y": npy(Y)}, r"shape \(6, 0, 0, 3\), i.e. none"),
    ({"x": say("()", content=b"1")}, r"images of shape \(\)"),
    ({"x": say("(6, 5, 4, 4)", content=bytes(480))}, r"images of shape \(6, 5, 4, 4\)"),
    ({"x": say("(6, 5, 4, 3)", "'<u2'", bytes(720))}, r"type uint16.*x // 257"),
    ({"x": say("(6, 5, 4, 3)", "[('a', '|u1')]")}, "elements of type"),
    ({"x": say("(6, 5, 4)", "('|u1', (3,))")}, "elements of type|cannot be read as plain"),
    ({"x": say("(6, 5, 4, 3)", "'<M8[s]'", bytes(2880))}, "elements of type datetime64"),
    ({"x": say("(6, 5, 4, 3)", "'<c8'", bytes(2880))}, "elements of type complex64"),
    ({"x": say("(6, 5, 4, 3)", content=bytes(359))}, "360 bytes, but 359 follow"),
    ({"x": say("(6, 5, 4, 3)", content=bytes(361))}, "360 bytes, but 361 follow"),
    ({"x": header("{'descr': '|u1'}", b"")}, "cannot be read as plain arrays"),
    ({"x": header("[" * 9000, b"")}, "cannot be read as plain arrays"),
    ({"x": header("__import__('os').mkdir('pickle_ran')", b"")}, "cannot be read as plain arrays"),
    ({"x": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(50)}, "cannot be read as plain arrays"),
    ({"x": b"\x93NUMPY\x03\x00" + npy(X)[8:]}, "version"),
    ({"x": b"\x93NUMPY\x09\x00"}, "cannot be read as plain arrays"),
    ({"x": b""}, "cannot be read as plain arrays"),
    ({"x": b"\x93NUM"}, "cannot be read as plain arrays"),
    ({"y": npy(np.zeros((6, 2), int))}, r"labels of shape \(6, 2\)"),
    ({"y": npy(np.zeros(6, "M8[s]"))}, "elements of type datetime64"),
    ({"y": npy(np.zeros(6, "S3"))}, r"labels of type \|S3"),
    ({"y": say("(6,)", "'<U0'", b"")}, "elements of type"),
    ({"y": npy(np.full(6, 10**12))}, "labels 1000000000000 to 1000000000000"),
    ({"y": npy(np.full(6, 2**64 - 1, np.uint64))}, "labels -1 to -1"),
    ({"y": npy(np.array(["a\ud800"] * 6))}, "no Unicode text"),
    ({"y": say("(6,)", "'<U1'", struct.pack("<6I", *[0x110000] * 6))}, "cannot be read as plain arrays"),
    ({"classes": npy(np.array([["a", "b"]]))}, r"class names of shape \(1, 2\)"),
    ({"classes": npy(np.array(["a", "a"]))}, "more than once: a"),
    ({"classes": npy(np.array(["a", ""]))}, "list of names"),
    ({"classes": npy(np.array([0.5, 1.0]))}, "class names of type float64"),
    ({"classes": npy(np.array(["a", "b\udcff"]))}, "no Unicode text"),
]


@pytest.mark.parametrize(("members", "message"), MEMBERS)
def test_members_that_are_no_plain_arrays(tmp_path, monkeypatch, members, message):
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "a.npz", **{**GOOD, **members})
    with pytest.raises(RequestError, match=f"(?s)a\\.npz.*({message})"):
        open_data(f"{tmp_path / 'a.npz'}")
    assert not (tmp_path / "pickle_ran").exists()


def break_at(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def flag(data: bytes, bits: int) -> bytes:
    """The archive with flags set in both headers of its first member."""
    central = data.index(b"PK\x01\x02")
    return break_at(break_at(data, 6, bytes([bits])), central + 8, bytes([bits]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: flag(data, 1), "x is encrypted"),
        (lambda data: data[: len(data) // 2], "not a zip file"),
        (lambda data: break_at(data, len(data) // 3, b"\xff" * 9), "CRC|decompressing"),
        (lambda data: break_at(data, data.index(b"PK\x01\x02") + 10, b"\x63"), "method 99, not by deflate"),
        (lambda data: break_at(data, data.index(b"PK\x01\x02") + 42, b"\xff\xff"), "Truncated file header"),
        (lambda data: b"", "not a zip file"),
        (lambda data: b"PK", "not a zip file"),
    ],
)
def test_archives_that_are_damaged(tmp_path, change, message):
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = archive(tmp_path / "a.npz", compression, **GOOD)
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(RequestError, match=f"a\\.npz' cannot be read as plain arrays: .*({message}).*numpy.savez"):
            open_data(str(path))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, compression):
    with pytest.raises(RequestError, match="not by deflate"):
        open_data(str(archive(tmp_path / "a.npz", compression, **GOOD)))


def bomb(path: Path, size: int) -> Path:
    """An archive whose x says it holds ``size`` bytes of zeros, packed a thousandfold."""
    content = say(f"({size // 12}, 2, 2, 3)", content=b"")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20))
    packed += packer.flush()
    checksum = zlib.crc32(bytes(size >> 20 << 20), zlib.crc32(content))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", packed)
        file.writestr("y.npy", npy(np.zeros(size // 12, np.uint8)), zipfile.ZIP_DEFLATED)
        info = file.filelist[0]
        info.compress_type, info.file_size, info.CRC = zipfile.ZIP_DEFLATED, len(content) + (size >> 20 << 20), checksum
    return path


def peak(call) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = bomb(tmp_path / "a.npz", 600 << 20)
    assert path.stat().st_size < 2 << 20

    def refuse():
        with pytest.raises(RequestError, match=r"would unpack from [0-9,]+ to 629,145,600 bytes.*is refused"):
            open_data(str(path))

    assert peak(refuse) < 8 << 20


def test_what_fits_the_bound_is_unpacked_as_far_as_it_is_chosen(tmp_path):
    path = bomb(tmp_path / "a.npz", 60 << 20)
    assert len(open_data(f"{path}?limit=100")) == 100
    assert peak(lambda: open_data(f"{path}?limit=100")) < archives.MOST_UNPACKED


def test_only_the_chosen_images_are_held_and_once(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "BLOCK", 1 << 16)
    x = RANDOM.integers(0, 256, (1000, 40, 50, 3), dtype=np.uint8)  # 6 MB
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(1000) % 10)
    kept = []
    whole = peak(lambda: kept.append(open_data(f"{tmp_path / 'a.npz'}")))
    assert x.nbytes < whole < 1.2 * x.nbytes
    assert all(np.array_equal(kept[0][i][0], x[i]) for i in (0, 1, 500, 999))
    tenth = peak(lambda: kept.append(open_data(f"{tmp_path / 'a.npz'}?class=3")))
    assert tenth < 0.25 * x.nbytes
    assert all(np.array_equal(kept[1][i][0], x[10 * i + 3]) for i in range(100))


@pytest.mark.parametrize("x", [np.asfortranarray(X), X[..., :1], X[..., 0], np.asfortranarray(X[..., 0])])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_other_layouts_hold_the_same_images(tmp_path, x, save):
    save(tmp_path / "a.npz", x=x, y=Y[:, None])
    data = open_data(f"{tmp_path / 'a.npz'}?class=1")
    expected = x if x.ndim == 4 else x[..., None]
    assert [np.array_equal(data[i][0], np.broadcast_to(expected[2 * i + 1], (5, 4, 3))) for i in range(3)] == [True] * 3


def test_images_that_do_not_fit_in_memory_are_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=np.repeat(X, 10, axis=0), y=np.repeat(Y, 10).astype(np.uint8))
    said = "MemTotal: 1 kB\nMemAvailable: 1 kB\n"

    def read(path, *more, **options):
        return io.StringIO(said) if path == "/proc/meminfo" else open(path, *more, **options)

    monkeypatch.setattr(archives, "open", read, raising=False)
    with pytest.raises(RequestError, match=r"60 images takes 0\.0 GiB in memory, of which 0\.0 GiB are free"):
        open_data(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.array([0, 10])), "expected integers from 0 to 9"),
        (npy(np.array([[0]])), r"shape \(1, 1\)"),
        (npy(np.array(["a"])), "type <U1"),
        (npy(np.array([{}], dtype=object)), "Python objects"),
        (npy(np.zeros(4, np.uint8))[:-1], "4 bytes, but 3 follow.*numpy.save"),
        (b"", "cannot be read as plain arrays"),
    ],
)
def test_labels_of_mosaics(tmp_path, content, message):
    (tmp_path / "test_labels.npy").write_bytes(content)
    with pytest.raises(RequestError, match=message):
        open_data(f"cifar10:{tmp_path}?split=test")


# Folders -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path) -> Path:
    root = tmp_path / "photos"
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        Image.fromarray(X[0]).save(root / name / "0.png")
    return root


def test_a_folder_that_cannot_be_read_is_refused(photos, monkeypatch):
    (photos / "bee" / "more").mkdir()
    scan = os.scandir
    for shut in (photos / "bee", photos / "bee" / "more", photos):

        def refuse(path, shut=shut):
            if os.fspath(path) == os.fspath(shut):
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(RequestError, match=f"folder '{shut}' cannot be read \\(Permission denied\\)"):
            open_data(str(photos))


@pytest.mark.parametrize("target", ["nowhere", "cat"])
def test_a_class_that_is_a_link_to_nowhere_is_refused(photos, target):
    (photos / "cat").symlink_to(photos / target)
    with pytest.raises(RequestError, match=r"photos/cat' is a link that leads nowhere"):
        open_data(str(photos))


def test_links_within_a_class_are_followed_once(photos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (photos / "bee" / "0.png").rename(tmp_path / "elsewhere" / "1.png")
    (photos / "bee" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(photos / "bee")
    assert open_data(str(photos)).names == ["ant/0.png", "bee/more/1.png"]


def test_a_link_to_no_image_is_named(photos, caplog):
    (photos / "bee" / "9.png").symlink_to(photos / "gone.png")
    data = open_data(str(photos))
    assert len(data) == 2 and [name for name, _ in data.skipped] == ["bee/9.png"]
    assert "bee/9.png" in caplog.text


def test_an_image_that_cannot_be_taken_faithfully_refuses_the_data(photos):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(photos / "bee" / "depth.tif")
    with pytest.raises(RequestError, match=r"bee/depth\.tif' holds floating-point pixels"):
        open_data(str(photos))
    (photos / "bee" / "depth.tif").unlink()
    Image.fromarray(np.full((4, 4), 257 * 9, np.uint16)).save(photos / "bee" / "sixteen.png")
    assert np.unique(open_data(str(photos))[2][0]).tolist() == [9]


def test_names_that_are_no_utf8(photos):
    odd = os.fsencode(photos / "bee") + b"/caf\xe9.png"
    os.rename(photos / "bee" / "0.png", odd)
    assert open_data(str(photos)).names == ["ant/0.png", "bee/caf\\udce9.png"]
    os.rename(photos / "bee", os.fsencode(photos) + b"/b\xe9e")
    with pytest.raises(RequestError, match=r"class name 'b\\udce9e' is no Unicode text"):
        open_data(str(photos))


@pytest.mark.parametrize(
    "text", ["a" * 5000, "a\0b", "~nobody-of-that-name/x", "\ud800", "x?limit=" + "9" * 5000, "x?seed=²", "cifar10:a\0"]
)
def test_strings_that_cannot_be_paths(text, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(RequestError):
        open_data(text)
