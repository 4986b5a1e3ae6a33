"""Notes of enrolment on its photos, and their use by remove; the first line of its summary."""

import json

import pytest

from delete_faces.enrolment import complete_options, describe_photos, open_tested, read_enrolment
from delete_faces.report import answer
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
    assert open_tested(done, people).names == ["Tiger_Woods/Tiger_Woods_0006.png"]
    # A folder without train/ and test/ has no splits to name.
    plain = complete_options(note(tmp_path, str(faces / "train"), "train", ["Tiger_Woods/Tiger_Woods_0001.png"]))
    assert plain["eval"] == str(faces / "train") and len(open_tested(plain, people)) == 1
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


def check(removed: float | None, kept: float, strict: float | None) -> dict:
    return {"at": {"1e-02": {"removed": removed, "kept": kept}, "1e-03": {"removed": strict, "kept": kept}}}


@pytest.mark.parametrize(
    ("removed", "kept", "strict", "facts"),
    [
        (20.0, 98.0, 3.81, ("Colin Powell: no longer matched (TAR 3.8% at FAR 0.001, 100.0%", "61 others unchanged (98.1 ->")),
        (9.0, 98.0, None, ("no longer matched (TAR 9.0% at FAR 0.01, ",)),
        (9.0, 98.0, 6.0, ("seldom matched (TAR 6.0% at FAR 0.001",)),
        (80.0, 98.0, None, ("still matched",)),
        (8.0, 97.0, None, ("others changed (98.1 -> 97.0)",)),
    ],
)  # fmt: skip
def test_the_first_line_is_the_answer(removed, kept, strict, facts):
    before = check(100.0, 98.1, None if strict is None else 100.0)
    line = answer(["Colin_Powell"], {"original": before, "erased": check(removed, kept, strict)}, 61)
    assert all(fact in line for fact in facts), line


def test_no_verification_gives_no_answer():
    nothing = check(None, 98.1, None)
    assert answer(["a"], {"original": nothing, "erased": nothing}, 2) is None
    assert answer(["a"], {"original": None, "erased": None}, 2) is None
