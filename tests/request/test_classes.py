"""Class names to ids."""

import pytest
from helpers import Counted

from delete_tasks import ForgetRequest, RequestError
from delete_tasks.request.classes import NameIndex, resolve_classes

NAMES = ["road", "car", "person"]
DIGITS = ["0", "1", "10", "11", "2"]  # as folders named by numbers sort
MANY = [f"class {number}" for number in range(1000)]


def test_names_and_ids_resolve_in_order():
    assert resolve_classes(["person", 0], NAMES) == [0, 2]
    assert resolve_classes("car", NAMES) == [1]
    assert ForgetRequest(["car"]).resolve(NAMES) == [1]


@pytest.mark.parametrize(("wanted", "names", "number"), [
    ("2", DIGITS, 4),  # a name first, though it looks like the id of "10"
    ("#2", DIGITS, 2), (2, DIGITS, 2),
    ("Car", ["car", "Car"], 1),  # exact before ignoring case
    ("CAR", NAMES, 1), ("STRASSE", ["weg", "straße"], 1), ("colin powell", ["Bill_Clinton", "Colin_Powell"], 1),
    ("a b", ["A-B", "a_c"], 0), ("#1", ["#1", "b"], 0), ("--wall", ["wall", "--wall"], 1), ("²", ["1", "2", "²"], 2),
    ("#007", [*DIGITS, "x", "y", "z"], 7),
])  # fmt: skip
def test_names_come_before_ids(wanted, names, number):
    assert NameIndex(names).find(wanted) == number


@pytest.mark.parametrize(("wanted", "names", "message"), [
    ("CAR", ["car", "Car", "road"], "ambiguous: it fits 2 classes \\(#0 'car', #1 'Car'\\)"),
    ("crane", ["crane", "bird", "crane"], "ambiguous"),  # as ImageNet's bird and machine
    ("2", NAMES, "'2'.*'#2'"), ("²", NAMES, "'²'"), ("#²", NAMES, "'#²'"), ("#-1", NAMES, "'#-1'"),
    ("#3", NAMES, r"id 3 is outside 0\.\.2"), ("#" + "9" * 5000, NAMES, r"id 9{80}\.\.\. is outside 0\.\.2"),
    (-1, NAMES, "id -1 is outside"), (1.0, NAMES, "of type float"), ("", NAMES, "no class ''"),
])  # fmt: skip
def test_unknown_and_ambiguous_names_are_refused(wanted, names, message):
    with pytest.raises(RequestError, match=message):
        NameIndex(names).find(wanted)


@pytest.mark.parametrize("classes", [["class 10000"], ["zebra"], [], MANY + MANY[:500]])
def test_a_message_lists_ten_of_many_names(classes):
    with pytest.raises(RequestError) as caught:
        resolve_classes(classes, MANY)
    text = str(caught.value)
    assert sum(f"class {number}" in text.replace("'", "").split(", ") for number in range(1000)) <= 10
    assert "more" in text and len(text) < 400


def test_many_look_ups_read_the_names_once():
    Counted.compared = 0
    names = tuple(map(Counted, MANY))
    index = NameIndex(names)
    assert [index.find(name) for name in MANY] == list(range(1000))
    assert Counted.compared <= 2 * len(MANY)
    assert sorted(resolve_classes(MANY[1:], MANY)) == list(range(1, 1000))


@pytest.mark.parametrize(("classes", "names", "message"), [
    (["cars"], NAMES, "'cars'.*'car'"), (["zebra"], NAMES, "road, car, person"), ([], NAMES, "no class"),
    (["car", "car"], NAMES, "car"), (NAMES, NAMES, "all 3 classes"), ([True], NAMES, "id"), (["car"], ["car"], "single"),
])  # fmt: skip
def test_refusals(classes, names, message):
    with pytest.raises(RequestError, match=message):
        resolve_classes(classes, names)
