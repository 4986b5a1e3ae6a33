"""Damaged and malicious data, which are refused by name before they fill the memory."""

import io
import os
import tracemalloc

import npz
import numpy as np
import pytest
from PIL import Image

from delete_images.data import archives
from delete_images.data.opening import open_data
from delete_tasks.errors import RequestError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8), np.arange(6) % 2
COLOURS = ("red", "green", "blue", "grey")


@pytest.mark.parametrize("name", [name for name in (*npz.MEMBERS, *npz.FILES) if name != "a bomb"])
def test_archives(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path, fact = npz.write(tmp_path / "a.npz", name), npz.MEMBERS.get(name, (None, ""))[1]
    if name in npz.FINE:
        assert len(open_data(str(path), "train", COLOURS)) in (1, 8)
    else:
        with pytest.raises(RequestError, match=f"(?s)a\\.npz'.*{fact}"):
            open_data(str(path), "train", COLOURS)
    assert not (tmp_path / "canary").exists(), "code of the file ran"


def peak(call) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(npz.bomb(600))
    assert path.stat().st_size < 2 << 20

    def refuse():
        with pytest.raises(RequestError, match="629,145,600"):
            open_data(str(path))

    assert peak(refuse) < 8 << 20


def test_large_archives_are_unpacked_as_far_as_chosen(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(npz.bomb(60))
    assert len(open_data(f"{path}?limit=100")) == 100
    assert peak(lambda: open_data(f"{path}?limit=100")) < archives.MOST_UNPACKED


def test_only_the_chosen_images_are_held_and_once(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "BLOCK", 1 << 16)
    x = RANDOM.integers(0, 256, (1000, 40, 50, 3), dtype=np.uint8)  # 6 MB
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(1000) % 10)
    opened = []
    whole = peak(lambda: opened.append(open_data(f"{tmp_path / 'a.npz'}")))
    assert x.nbytes < whole < 1.2 * x.nbytes
    assert all(np.array_equal(opened[0][i][0], x[i]) for i in (0, 1, 500, 999))
    tenth = peak(lambda: opened.append(open_data(f"{tmp_path / 'a.npz'}?class=3")))
    assert tenth < 0.25 * x.nbytes
    assert all(np.array_equal(opened[1][i][0], x[10 * i + 3]) for i in range(100))


@pytest.mark.parametrize("x", [np.asfortranarray(X), X[..., :1], X[..., 0], np.asfortranarray(X[..., 0])])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_other_layouts_hold_the_same_images(tmp_path, x, save):
    save(tmp_path / "a.npz", x=x, y=Y[:, None])
    data = open_data(f"{tmp_path / 'a.npz'}?class=1")
    expected = x if x.ndim == 4 else x[..., None]
    assert [np.array_equal(data[i][0], np.broadcast_to(expected[2 * i + 1], (5, 4, 3))) for i in range(3)] == [True] * 3


def test_images_that_do_not_fit_in_memory_are_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=np.repeat(X, 10, axis=0), y=np.repeat(Y, 10).astype(np.uint8))
    memory = "MemTotal: 1 kB\nMemAvailable: 1 kB\n"

    def read(path, *more, **options):
        return io.StringIO(memory) if path == "/proc/meminfo" else open(path, *more, **options)

    monkeypatch.setattr(archives, "open", read, raising=False)
    with pytest.raises(RequestError, match=r"60 images .*0\.0 GiB.*0\.0 GiB"):
        open_data(str(tmp_path / "a.npz"))


@pytest.fixture
def photos(folders):
    return folders({"ant": 1, "bee": 1})


def test_a_folder_that_cannot_be_read_is_refused(photos, monkeypatch):
    (photos / "bee" / "more").mkdir()
    scan = os.scandir
    for shut in (photos / "bee", photos / "bee" / "more", photos):

        def refuse(path, shut=shut):
            if os.fspath(path) == os.fspath(shut):
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(RequestError, match=f"'{shut}'.*Permission denied"):
            open_data(str(photos))


@pytest.mark.parametrize("target", ["nowhere", "cat"])
def test_a_class_that_is_a_broken_link_is_refused(photos, target):
    (photos / "cat").symlink_to(photos / target)
    with pytest.raises(RequestError, match=r"photos/cat' .*link"):
        open_data(str(photos))


def test_links_are_followed_once_and_broken_ones_named(photos, tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    (photos / "bee" / "0.png").rename(tmp_path / "elsewhere" / "1.png")
    (photos / "bee" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(photos / "bee")
    assert open_data(str(photos)).names == ["ant/0.png", "bee/more/1.png"]
    (photos / "bee" / "9.png").symlink_to(photos / "gone.png")
    data = open_data(str(photos))
    assert len(data) == 2 and [name for name, _ in data.skipped] == ["bee/9.png"]
    assert "bee/9.png" in caplog.text


def test_an_image_that_cannot_be_converted_faithfully_is_refused(photos):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(photos / "bee" / "depth.tif")
    with pytest.raises(RequestError, match=r"bee/depth\.tif'.*float"):
        open_data(str(photos))


def test_names_that_are_not_utf8(photos):
    odd = os.fsencode(photos / "bee") + b"/caf\xe9.png"
    os.rename(photos / "bee" / "0.png", odd)
    assert open_data(str(photos)).names == ["ant/0.png", "bee/caf\\udce9.png"]
    os.rename(photos / "bee", os.fsencode(photos) + b"/b\xe9e")
    with pytest.raises(RequestError, match=r"'b\\udce9e'"):
        open_data(str(photos))
