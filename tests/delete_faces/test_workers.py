"""Detection by several processes: the faces and order of one process; errors, kills and Ctrl-C."""

import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from delete_faces.align import Detector, detector
from delete_faces.photos import Framing, do_each, open_photos
from delete_images.models.spec import Preprocessing
from delete_tasks.errors import RequestError

PHOTOS = 8  # of each of two people: what two processes share


@pytest.fixture
def photos(lfw, tmp_path):
    for person in ("Colin_Powell", "Kofi_Annan"):
        folder = tmp_path / "photos" / person
        folder.mkdir(parents=True)
        for path in sorted((lfw / person).glob("*.jpg"))[: PHOTOS - 1]:
            shutil.copy(path, folder)
    Image.fromarray(np.full((250, 250, 3), 90, np.uint8)).save(tmp_path / "photos" / "Colin_Powell" / "wall.png")
    (folder / "broken.jpg").write_bytes((folder / path.name).read_bytes()[:4000])
    with Image.open(folder / path.name) as image:  # a mirrored one, so that 16 can be read
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "mirrored.png")
    return str(tmp_path / "photos")


def find(photos, processes):
    framing = Framing(Preprocessing.named("imagenet", 112), largest_face=True, processes=processes)
    return open_photos(photos, "train", framing)


@pytest.fixture
def opencv_threads():
    """OpenCV in two threads, which a Runner turns off: its first use leaves a pool, which a fork copies."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    yield
    cv2.setNumThreads(before)


def test_two_processes_find_what_one_finds(photos, tmp_path, monkeypatch, opencv_threads):
    results = []
    for processes in (1, 2):
        monkeypatch.setenv("DELETE_TASKS_FACE_CACHE", str(tmp_path / f"cache{processes}"))
        monkeypatch.setattr(detector(), "cache", Detector().cache)
        results.append(find(photos, processes))
    # The main process reads the faces that others found from the cache.
    monkeypatch.setattr(Detector, "_search", lambda *_: pytest.fail("it was searched again"))
    first, *others = [*results, find(photos, 1)]
    assert len(first.data) == 15 and first.no_face == ["Colin_Powell/wall.png"]
    assert [name for name, _ in first.unreadable] == ["Kofi_Annan/broken.jpg"]
    for other in others:
        assert (other.no_face, other.several, other.unreadable) == (first.no_face, first.several, first.unreadable)
        assert other.data.names == first.data.names and (other.data.labels == first.data.labels).all()
        assert all(np.array_equal(other.data[i][0], first.data[i][0]) for i in range(15))
    found = [{path.name: path.read_text() for path in (tmp_path / f"cache{n}").rglob("*.json")} for n in (1, 2)]
    assert found[0] == found[1] and len(found[0]) == 16  # boxes and points, bit for bit


def test_order_errors_and_processes():
    pids = list(do_each(lambda i: (i, os.getpid(), torch.get_num_threads()), 40, 2))
    assert [i for i, *_ in pids] == list(range(40)) and {threads for *_, threads in pids} == {1}
    assert len({pid for _, pid, _ in pids}) == 2 and os.getpid() not in {pid for _, pid, _ in pids}
    assert {pid for _, pid in do_each(lambda i: (i, os.getpid()), 15, 2)} == {os.getpid()}  # too few for two

    def refuse(i: int) -> int:
        if i == 20:
            raise RequestError("photo 20 is none")
        return i

    done, results = [], do_each(refuse, 40, 2)
    with pytest.raises(RequestError, match=r"^photo 20 is none$"):
        done.extend(results)
    assert list(do_each(refuse, 20, 2)) == list(range(20))


def test_a_process_that_is_killed():
    def end(i: int) -> int:
        if i == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    with pytest.raises(RequestError, match=r"--processes"):
        list(do_each(end, 40, 2))


@pytest.mark.long
def test_ctrl_c_ends_them_quietly(lfw, tmp_path):
    environment = {**os.environ, "DELETE_TASKS_FACE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "delete_tasks", "faces", "align", "--photos", str(lfw), "--largest-face"]
    words += ["--processes", "2", "--device", "cpu", "--out", str(tmp_path / "out")]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(words, env=environment, **options) as run:
        while run.poll() is None and not any((tmp_path / "cache").rglob("*.json")):  # until the first face is found
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does, to all of them
        out, error = run.communicate(timeout=120)
    assert run.returncode == 130 and error.strip() == "delete-tasks: interrupted." and not out, (out, error)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ProcessLookupError):  # nobody is left in the group
        os.killpg(run.pid, 0)
    assert '"points"' in next((tmp_path / "cache").rglob("*.json")).read_text()
