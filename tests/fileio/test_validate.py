"""Messages about the content of files: the file, the key's place, its value and what was expected."""

import os
from typing import Any

import pytest
from msgspec import Struct, field

from delete_tasks.errors import RequestError
from delete_tasks.fileio.validate import DEEPEST, as_type, parse_json, read_json


class Inner(Struct, forbid_unknown_fields=True):
    size: list[int]
    kind: str = field(name="class")


class Outer(Struct, forbid_unknown_fields=True):
    inner: Inner
    names: dict[str, list[int]] = {}


@pytest.mark.parametrize(("content", "message"), [
    ([], "f.json: Expected `object`, got `array`"),
    ({"inner": {"size": [1, "x"], "class": ""}}, "f.json: inner.size[1] is 'x': Expected `int`, got `str`"),
    ({"inner": {"size": []}}, "f.json: inner is {'size': []}: Object missing required field `class`"),
    ({"inner": {"speed": 1}}, "f.json: inner: Object contains unknown field `speed`; its fields are size, class"),
    ({"iner": 1}, "f.json: Object contains unknown field `iner`; its fields are inner, names"),
    ({"inner": {"size": [], "class": ""}, "names": {"a.b": 1}},
     "f.json: names[...] is {'a.b': 1}: Expected `array`"),
    ({"inner": {"size": [], "class": ""}, "names": {1: []}}, "f.json: names is {1: []}: Expected `str`, got `int`"),
])  # fmt: skip
def test_messages(content: Any, message: str):
    with pytest.raises(RequestError) as caught:
        as_type(content, Outer, "f.json")
    assert str(caught.value).startswith(message)


def test_a_message_is_short():
    with pytest.raises(RequestError) as caught:
        as_type({"k" * 10**6: 1}, Outer, "f.json")
    assert len(str(caught.value)) < 400
    assert as_type({"inner": {"size": [1], "class": "a"}}, Outer, "f.json").inner.size == [1]


@pytest.mark.parametrize(("text", "problem"), [
    ("[" * 100_000, "levels"), ('{"a":' * 100_000, "levels"), ("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2), "levels"),
    ("[NaN]", "finite"), ("[-Infinity]", "finite"), ('{"a": 1e999}', "finite"), ("1" * 10_000, ""),
    ('{"a": 1, "a": 2}', "twice"), ("", ""), ("{} {}", ""), ('{"a": ', ""), ("\ufeff{}", ""),
])  # fmt: skip
def test_json_that_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_json(text)


def test_json_files(tmp_path):
    """At most so many levels are read; a fifo would wait for a writer."""
    text = "[" * DEEPEST + "]" * DEEPEST
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") == parse_json(text)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RequestError, match="a pipe"):
        read_json(tmp_path / "fifo")
