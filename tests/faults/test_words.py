"""Texts that no name, path or number is, in every option of every command: refused in words, or taken as they are."""

import pytest
from commands import text_options, valid
from harness import is_refused, no_leftovers, no_traceback, some
from kit import without

WORDS = {"NUL": "a\x00b", "surrogate": "\udcff\udcfe", "escape": "\x1b]0;x\x07\x1b[2J", "C1": "\x9b2J",
         "empty": "", "long": "x" * 70_000, "line break": "a\nb", "reversed": "\u202etxt.exe", "braces": "{0}{",
         "dots": "../../..", "deep": "[" * 3000}  # fmt: skip
TRAINING = ("images forget", "images train", "segmentation forget", "segmentation demo", "faces remove", "faces enroll",
            "backdoor clean", "benchmark")  # fmt: skip
TAKEN = ("--work-dir", "--out", "--reference", "--record-log")  # whatever they hold: a whole run


def table():
    for name, option in text_options():
        whole = name in TRAINING and option in TAKEN
        yield from ((name, option, kind) for kind in (("escape", "surrogate") if whole else WORDS))


@pytest.mark.parametrize(
    ("name", "option", "kind"),
    some(
        table(),
        fast=6,
        only=lambda row: row[0] in ("compare", "record sign", "images evaluate") and row[2] != "dots",
    ),
)
def test_words(server, here, kit, name, option, kind):
    words, more = valid(kit)[name], [f"{option}={WORDS[kind]}"]
    if not option.startswith("-"):
        words, more = name.split(), ["--", WORDS[kind]]
    elif option in words:
        without(words, option)
    before = here.look()
    done = server.run([*words, *more], here)
    if done.code == 2:
        is_refused(done, here, before)
    else:
        no_traceback(done)
        assert done.code in (0, 1, 4), f"{done}"
        no_leftovers(here)
