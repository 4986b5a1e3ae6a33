"""Copies among data sets: exact ones are left out up to 1%, pictures that look the same are reported."""

import io
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from delete_images.data.opening import open_data
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.copies import find_alike, leave_out, thumbnail

FIX = "give others"


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Blurred noise, uint8 (60, 32, 32, 3)."""
    small = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((32, 32))) for each in small])


def as_jpeg(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=50)
    return np.asarray(Image.open(stream))


CHANGES = {
    "one bit": lambda image: image ^ np.eye(32, dtype=np.uint8)[:, :, None] * (np.arange(32) == 3)[:, None],
    "re-encoded": as_jpeg,
    "mirrored": lambda image: image[:, ::-1],
    "enlarged": lambda image: np.asarray(Image.fromarray(image).resize((75, 50))),
    "brighter": lambda image: (0.8 * image + 20).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_copies_look_alike_and_others_do_not(pictures, change):
    others = np.stack([thumbnail(each) for each in pictures[20:]])
    changed = np.stack([thumbnail(change(each)) for each in pictures[10:30]])
    names = [f"{i}" for i in range(10, 30)]
    (copies,) = find_alike("--test", names, changed, "the forget set", others)
    assert asdict(copies) == {"among": "--test", "of": "the forget set", "count": 10, "total": 20, "left_out": False,
                             "names": ("20", "21", "22", "23", "24")}  # fmt: skip
    assert str(copies).startswith("Warning: 10 of 20 samples of --test (50%) look like samples of the forget set")
    assert "(20, 21, 22, 23, 24, ...)" in str(copies) and "not left out" in str(copies)


def test_pictures_of_one_colour_do_not_look_alike(pictures):
    blank = np.stack([thumbnail(np.full((20, 30, 3), value, np.uint8)) for value in (0, 9)])
    assert not find_alike("--test", ["a", "b"], blank, "the forget set", blank)


@pytest.mark.parametrize(("copies", "total"), [(0, 5), (3, 300), (4, 300), (1, 50), (2, 2)])
def test_up_to_one_percent_is_left_out(copies, total):
    contents = [f"c{i}" for i in range(total)]
    used = {"the forget set": contents[: copies - 1 or None] if copies > 1 else [], "--retain": contents[:copies]}
    names = [f"n{i}" for i in range(total)]
    if copies > 0.01 * total:
        fact = rf"{copies} of {total} samples of --test .*exact copies: .*--retain.*1% .*give others"
        with pytest.raises(RequestError, match=fact):
            leave_out("--test", names, contents, used, FIX)
        return
    kept, found = leave_out("--test", names, contents, used, FIX)
    assert kept.tolist() == [i >= copies for i in range(total)]
    assert sum(each.count for each in found) == copies and [each.of for each in found] == list(used)[: len(found)]
    assert all(each.left_out and f"of {total} samples" in str(each) and each.names[0] in str(each) for each in found)


@pytest.mark.long
def test_distinct_photos_hardly_ever_look_alike(shared):
    """The one of 10,000 test images is a mirrored copy: docs/notes/copies.md."""
    place = f"cifar10:{shared / 'data' / 'cifar10'}"
    test, deer = open_data(place, "test"), open_data(f"{place}?class=deer&limit=500")
    (copies,) = find_alike("--test", test.names, test.thumbnails, "the forget set", deer.thumbnails)
    assert copies.names == ("test/04841",) and copies.total == 10_000
