"""Faces are found and brought into the frame that networks were trained on."""

import numpy as np
import pytest
from PIL import Image

from delete_faces.align import REFERENCE, Detector, Faces, detector, fit_similarity, frame_face
from delete_tasks.errors import RequestError
from delete_tasks.fileio.images import read_image


def test_similarity_is_recovered():
    angle, scale, shift = 0.4, 1.7, np.array([5.0, -3.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.random.default_rng(0).normal(size=(5, 2)) * 20
    assert np.allclose(fit_similarity(points, points @ turn.T + shift), np.c_[turn, shift])


def test_points_land_on_the_reference():
    """A picture with a white spot at each of five points that are turned and moved: each spot ends at its reference."""
    angle = np.deg2rad(20)
    turn = 1.5 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (REFERENCE - 56) @ turn.T + np.array([150.0, 140.0])
    image = np.zeros((300, 300, 3), np.uint8)
    for x, y in points.round().astype(int):
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
    for side in (112, 224):
        face = frame_face(image, Faces(np.zeros((1, 4)), points[None], np.ones(1)), 0, "points", side)
        assert face.shape == (side, side, 3)
        for x, y in (REFERENCE * side / 112).round().astype(int):
            assert face[y, x, 0] > 128, (x, y)


@pytest.fixture(scope="module")
def image(lfw):
    return read_image(lfw / "Colin_Powell" / "Colin_Powell_0001.jpg")


def test_one_face_on_a_photo(image):
    found = detector().find(image)
    assert len(found) == 1 and found.probabilities[0] > 0.99
    left, top, right, bottom = found.boxes[0]
    assert left < 125 < right and top < 125 < bottom  # LFW centres its faces
    face = frame_face(image, found, 0, "points", 112)
    again = detector().find(np.pad(face, ((20, 20), (20, 20), (0, 0))))
    assert np.abs(again.points[0] - 20 - REFERENCE).max() < 8
    assert frame_face(image, found, 0, "box", 160).shape == (160, 160, 3)
    with pytest.raises(RequestError, match=r"'oval'.* points, box"):
        frame_face(image, found, 0, "oval", 112)


def test_no_face_and_the_largest_central_one_first(image):
    assert len(detector().find(np.full((120, 120, 3), 127, np.uint8))) == 0
    assert len(detector().find(np.zeros((4, 300, 3), np.uint8))) == 0
    small = np.asarray(Image.fromarray(image[40:210, 40:210]).resize((120, 120)))
    photo = np.zeros((250, 400, 3), np.uint8)
    photo[:120, :120], photo[:, 120:370] = small, image
    found = detector().find(photo)
    assert len(found) == 2 and found.boxes[0][0] > 120 > found.boxes[1][2] - 20


def test_no_photo_is_searched_twice(image, tmp_path, monkeypatch):
    monkeypatch.setenv("DELETE_TASKS_FACE_CACHE", str(tmp_path))
    first = Detector()
    found, nothing = first.find(image), first.find(np.full((120, 120, 3), 127, np.uint8))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2 and all(path.stat().st_mode & 0o077 == 0 for path in files)
    later = Detector()
    monkeypatch.setattr(later, "_search", lambda _: pytest.fail("it was searched again"))
    again = later.find(image)
    assert all(np.array_equal(getattr(found, key), getattr(again, key)) for key in ("boxes", "points", "probabilities"))
    assert len(nothing) == len(later.find(np.full((120, 120, 3), 127, np.uint8))) == 0
    for path in files:
        path.write_text(path.read_text()[:-20])
    assert Detector().cache.get(files[0].stem) is None
    monkeypatch.setenv("DELETE_TASKS_FACE_CACHE", "off")
    assert Detector().cache.get("x") is None and Detector().cache.folder is None
