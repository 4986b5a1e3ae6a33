"""Every option of every command: numbers that are none, out of range or empty; texts that are no name, path or number, which are
refused in words or taken as they are."""

from itertools import product

import pytest
from commands import numeric_options, parsers, text_options, valid
from harness import is_refused, no_leftovers, no_traceback, some
from kit import without

from delete_tasks.cli import parse
from delete_tasks.errors import RequestError

VALUES = ("nan", "inf", "-inf", "-1", "0", "1e30", "", "word")
NEVER = ("nan", "", "word")  # no option can make sense of these
# Numbers inside other words: limits, data strings, triggers, options of configs and architectures.
INSIDE = [
    ("images forget", ["--accept", "forget_acc={}"]), ("images forget", ["--requested", "{}"]),
    ("images forget", ["--forget", "{data}?limit={}"]), ("images forget", ["--forget", "{data}?seed={}&limit=8"]),
    ("images forget", ["--cfg-options", "unlearn.stop={}"]),
    ("images forget", ["--cfg-options", "unlearn.checkpoint_interval={}"]),
    ("images forget", ["--cfg-options", "train_dataloader.num_workers={}"]),
    ("images forget", ["--cfg-options", "unlearn.readout={}"]), ("segmentation forget", ["--accept", "forget_iou={}"]),
    ("segmentation forget", ["--cfg-options", "unlearn.checkpoint_interval={}"]),
    ("segmentation forget", ["--cfg-options", "unlearn.stop={}"]),
    ("segmentation forget", ["--cfg-options", "randomness.seed={}"]),
    ("segmentation forget", ["--cfg-options", "optim_wrapper.accumulative_counts={}"]),
    ("faces remove", ["--accept", "identified={}"]), ("backdoor clean", ["--accept", "asr={}"]),
    ("backdoor clean", ["--poisoned", "{ranking}?limit={}"]), ("backdoor poison", ["--trigger", "badnets:size={}"]),
    ("backdoor poison", ["--trigger", "badnets:pos={},1"]), ("backdoor poison", ["--trigger", "badnets:value={}"]),
    ("backdoor poison", ["--trigger", "sig:delta={}"]), ("backdoor poison", ["--trigger", "sig:f={}"]),
    ("backdoor poison", ["--trigger", "wanet:k={}"]), ("backdoor poison", ["--trigger", "wanet:s={}"]),
    ("backdoor poison", ["--trigger", "wanet:seed={}"]), ("images import", ["--arguments", "num_classes={}"]),
    ("faces enroll", ["--arguments", "embedding_size={}"]),
]  # fmt: skip


def table():
    rows = [
        (name, [f"{option}={value}"], value)
        for name, options in numeric_options().items()
        for option, value in product(options, VALUES)
    ]
    for (name, words), value in product(INSIDE, VALUES):
        rows.append((name, [word.replace("{}", value) for word in words], value))
    return rows


def test_the_table_has_every_command(kit):
    assert {name for name, _ in parsers()} == set(valid(kit))
    options = numeric_options()
    assert "--lr" in options["images forget"] and "--crop-fraction" in options["images import"]
    assert sum(map(len, options.values())) >= 40


@pytest.mark.parametrize(("name", "options"), numeric_options().items())
def test_no_option_takes_what_is_no_number(kit, name, options):
    for option, value in product(options, NEVER):
        with pytest.raises(RequestError, match=option):
            parse([*valid(kit)[name], f"{option}={value}"])


def is_inside(row) -> bool:
    """Return True for nan inside of another word, which the test above does not ask."""
    return row[2] == "nan" and not row[1][-1].startswith("--")


@pytest.mark.parametrize(("name", "words", "value"), some(table(), fast=9, only=is_inside))
def test_numbers(server, here, kit, name, words, value):
    for key, place in (("{data}", "images/data.npz"), ("{ranking}", "backdoor/poisoned.npz")):
        words = [word.replace(key, kit.path(place)) for word in words]
    before = here.look()
    done = server.run([*valid(kit)[name], *words], here)
    if done.code != 0 or value in NEVER:
        is_refused(done, here, before)
    else:
        no_traceback(done)
        no_leftovers(here)


WORDS = {"NUL": "a\x00b", "surrogate": "\udcff\udcfe", "escape": "\x1b]0;x\x07\x1b[2J", "C1": "\x9b2J",
         "empty": "", "long": "x" * 70_000, "line break": "a\nb", "reversed": "\u202etxt.exe", "braces": "{0}{",
         "dots": "../../..", "deep": "[" * 3000}  # fmt: skip
TRAINING = ("images forget", "images train", "segmentation forget", "segmentation demo", "faces remove", "faces enroll",
            "backdoor clean", "benchmark")  # fmt: skip
TAKEN = ("--work-dir", "--out", "--reference", "--record-log")  # whatever they hold: a whole run


def texts():
    for name, option in text_options():
        whole = name in TRAINING and option in TAKEN
        yield from ((name, option, kind) for kind in (("escape", "surrogate") if whole else WORDS))


@pytest.mark.parametrize(
    ("name", "option", "kind"),
    some(texts(), 6, lambda row: row[0] in ("compare", "record sign", "images evaluate") and row[2] != "dots"),
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
