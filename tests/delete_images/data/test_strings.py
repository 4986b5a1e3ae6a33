"""Composing data strings, and finding what they name from any folder."""

import os

import pytest

from delete_images.data.strings import parse_spec
from delete_tasks.errors import RequestError


@pytest.mark.parametrize(
    ("text", "options", "composed"),
    [
        ("cifar10", {"without": []}, "cifar10"),
        ("cifar10:/d?limit=3", {"without": ["deer", "a,b"]}, "cifar10:/d?limit=3&without=deer,a%2Cb"),
        ("photos", {"class": ["a b"], "split": "test"}, "photos?class=a%20b&split=test"),
    ],
)
def test_options_are_added(text, options, composed):
    assert parse_spec(text).compose(options) == composed


def test_a_key_is_given_once():
    with pytest.raises(RequestError, match=r"'cifar10\?without=cat' .*without="):
        parse_spec("cifar10?without=cat").compose({"without": ["deer"]})


@pytest.mark.parametrize("text", ["cifar10", "cifar10:?limit=3", "cifar10:{}/d?limit=3", "{}/d", "{}/d?class=a,b"])
def test_the_parts_name_the_same_data_from_any_folder(text):
    here = parse_spec(text.format("."))
    before, path, rest = here.parts()
    assert path is None or path == os.path.abspath("d")
    assert here.absolute == f"{before}{path or ''}{rest}" == text.format(os.getcwd())
    assert parse_spec(here.absolute).limit == here.limit


def test_a_question_mark_in_a_path_is_no_option(tmp_path):
    (tmp_path / "a?b").mkdir()
    assert parse_spec(f"{tmp_path}/a?b").compose({"class": "c"}) == f"{tmp_path}/a?b?class=c"
