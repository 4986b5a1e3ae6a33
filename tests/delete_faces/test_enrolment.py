"""Notes of enrolment on its photos, and their use by remove: photos are forgotten or measured on, never both."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from delete_faces.enrolment import complete_options, describe_photos, divide, open_tested, read_enrolment
from delete_images.data.opening import ImageData
from delete_tasks.errors import RequestError

FLAGS = {"aligned": True, "largest_face": False}
NOTHING = {"photos": None, "eval": None, "aligned": False, "largest_face": False}


def note(folder, photos: str, split: str, held_out: list[str]) -> dict:
    """Options of a removal from a model whose enrolment noted these photos."""
    noted = {"held_out": held_out, "source": describe_photos(photos, photos, split, FLAGS)}
    (folder / "enrolment.json").write_text(json.dumps(noted))
    return {**NOTHING, "model": str(folder)}


def test_photos_that_are_not_given_are_those_of_enrolment(faces, people, tmp_path):
    options = note(tmp_path, str(faces), "test", ["Tiger_Woods/Tiger_Woods_0006.png"])
    done = complete_options(options)
    assert done["photos"] == str(faces) and done["aligned"] and done["eval"] == f"{faces}?split=test"
    spec = SimpleNamespace(classes=people, extra={})
    assert open_tested(done, spec).names == ["Tiger_Woods/Tiger_Woods_0006.png"]
    # A folder without train/ and test/ has no splits to name.
    plain = complete_options(note(tmp_path, str(faces / "train"), "train", ["Tiger_Woods/Tiger_Woods_0001.png"]))
    assert plain["eval"] == str(faces / "train") and len(open_tested(plain, spec)) == 1
    # What is given counts.
    given = complete_options({**options, "photos": "mine", "eval": "yours"})
    assert (given["photos"], given["eval"], given["aligned"], given["held_out_alone"]) == ("mine", "yours", False, None)
    assert complete_options({**options, "eval": "none"})["eval"] is None
    # Photos that are cut to the face already are not compared with those that are not.
    assert complete_options({**options, "photos": "mine"})["eval"] is None


def test_where_nothing_is_known(faces, tmp_path):
    options = {**NOTHING, "model": str(tmp_path)}
    with pytest.raises(RequestError, match=r"--photos.*enrolment\.json"):
        complete_options(options)
    for content in ('{"held_out": ["a"]}', '{"held_out": ["a"], "source": {"photos": 1, "tested": "b"}}', "[]", "{"):
        (tmp_path / "enrolment.json").write_text(content)
        assert read_enrolment(tmp_path) is None
    assert complete_options({**options, "photos": "mine"})["eval"] is None
    gone = note(tmp_path, str(faces / "nowhere"), "train", ["a"])
    assert complete_options(gone)["eval"] is None


NAMES = ("ann", "bob", "cid")
ENROLLED = ["ann/01.png", "ann/04.png", "bob/00.png", "cid/02.png", "dee/00.png"]


def photos(*people: str, first: int = 0) -> ImageData:
    """Different photos ``PERSON/00.png``, ...: 'ann*4' is four of Ann, numbered from ``first``."""
    counts = [text.split("*") for text in people]
    wanted = [(NAMES.index(name), first + number) for name, count in counts for number in range(int(count))]
    arrays = np.stack([np.full((2, 2, 3), 50 * label + number, np.uint8) for label, number in wanted])
    names = [f"{NAMES[label]}/{number:02d}.png" for label, number in wanted]
    return ImageData.from_arrays(arrays, np.array([label for label, _ in wanted]), NAMES, names)


@pytest.mark.parametrize(("given", "tested", "enrolled", "forgotten", "measured", "why"), [
    (photos("ann*10"), photos("ann*10", "bob*4"), None, 7, {"ann": 3, "bob": 4}, "seed 0"),
    (photos("ann*4"), photos("ann*4"), None, 2, {"ann": 2}, "seed 0"),
    (photos("ann*3"), photos("ann*3"), None, 2, {"ann": 1}, "seed 0"),
    (photos("ann*1"), photos("ann*1"), None, 1, {"ann": 1}, None),
    (photos("ann*6"), photos("ann*2", "bob*2"), None, 4, {"ann": 2, "bob": 2}, "--test"),
    (photos("ann*6"), photos("ann*8"), None, 6, {"ann": 8}, None),
    (photos("ann*6"), photos("ann*4", first=6), None, 6, {"ann": 4}, None),
    (photos("ann*6"), photos("bob*4"), None, 6, {"bob": 4}, None),
    (photos("ann*6"), photos("ann*6", "bob*4", "cid*3"), ENROLLED, 4, {"ann": 2, "bob": 1, "cid": 1}, "enrolment"),
    (photos("ann*6"), photos("ann*6", "bob*4"), ["bob/00.png"], 4, {"ann": 2, "bob": 4}, "seed 0"),
])  # fmt: skip
def test_divide(given, tested, enrolled, forgotten, measured, why, tmp_path):
    if enrolled is not None:
        noted = {"held_out": enrolled, "source": {"photos": "a", "tested": "b"}}
        (tmp_path / "enrolment.json").write_text(json.dumps(noted))
    forget, gallery, notes = divide(given, tested, [0], str(tmp_path), 0)
    assert len(forget) == forgotten
    counts = {name: int((gallery.labels == i).sum()) for i, name in enumerate(NAMES)}
    assert {name: count for name, count in counts.items() if count} == measured
    assert bool(notes) == (why is not None)
    if why is not None:
        assert why in notes[0] and f"{len(given) - forgotten} of {len(given)}" in notes[0]
        assert not set(forget.names) & {name for name in gallery.names if name.startswith("ann")}
        assert set(forget.names) < set(given.names)
        again = divide(given, tested, [0], str(tmp_path), 0)
        assert again[0].names == forget.names and again[1].names == gallery.names
