"""``faces align`` writes a file for each face, and counts what is on the disk."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from delete_faces.align import REFERENCE, Faces
from delete_faces.gallery.enroll import align
from delete_tasks.errors import RequestError

FACE = Faces(np.array([[0.0, 0.0, 112.0, 112.0]]), REFERENCE[None], np.ones(1))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """``run(photos, held_out)``: summary and files of the command, with a detector that finds one face on each photo."""
    monkeypatch.setattr("delete_faces.photos.detector", lambda device: SimpleNamespace(find=lambda image: FACE))

    def call(photos: Path | str, held_out: float = 0.0) -> tuple[dict, list[str]]:
        out = tmp_path / "out"
        options = {"photos": str(photos), "out": str(out), "backbone": "mobilefacenet", "held_out": held_out, "seed": 0}
        summary = align({**options, "largest_face": False, "device": "cpu"}, Console(quiet=True))
        return summary, sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())

    return call


def photo(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((112, 112, 3), shade, np.uint8)).save(path)
    return path


def test_nested_photos_of_one_name_stay_apart(tmp_path, run):
    places = ["A/x/1.png", "A/y/1.png", "A/1.png", "A/1.jpg", "B/x/1.png", "B/2.png"]
    for shade, place in enumerate(places):
        photo(tmp_path / "photos" / place, 40 * shade)
    summary, written = run(tmp_path / "photos")
    assert written == sorted(f"train/{place}.png" for place in places)
    assert summary["photos"] == summary["found"] == len(written) == 6
    for shade, place in enumerate(places):
        with Image.open(tmp_path / "out" / "train" / f"{place}.png") as face:
            assert abs(np.asarray(face)[56, 56, 0].astype(int) - 40 * shade) < 4


def test_held_out_photos_are_counted_as_written(tmp_path, run):
    for place in (f"A/{folder}/{number}.png" for folder in "xyz" for number in range(4)):
        photo(tmp_path / "photos" / place, 90)
    summary, written = run(tmp_path / "photos", 0.5)
    assert summary["held_out"] == sum(place.startswith("test/") for place in written) == 6 and len(written) == 12


@pytest.mark.parametrize("person", ["../../elsewhere", "a/b", "..", "."])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path, run, person):
    faces = np.full((2, 112, 112, 3), 90, np.uint8)
    np.savez(tmp_path / "photos.npz", x=faces, y=np.array([0, 1]), classes=np.array(["ann", person]))
    with pytest.raises(RequestError, match="folder"):
        run(tmp_path / "photos.npz")
    assert not (tmp_path / "out").exists()


def test_two_photos_in_one_place_are_refused(tmp_path, run):
    photo(tmp_path / "photos" / "A" / "1.png", 90)
    photo(tmp_path / "photos" / "A" / "1.png.png" / "2.png", 90)
    with pytest.raises(RequestError, match=r".*1\.png\.png"):
        run(tmp_path / "photos")
