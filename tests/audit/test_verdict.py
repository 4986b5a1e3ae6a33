"""Truth table of the verdict: readers above, at and below chance, few and many samples, with and without retrained models."""

import numpy as np
import pytest

from delete_tasks.audit import verdict as verdicts
from delete_tasks.audit.attack import share_of
from delete_tasks.audit.verdict import CANNOT_TELL, FORGOTTEN, HIDDEN, WEAKENED, Reading, conclude, decide
from delete_tasks.evaluation.functional import newcombe, paired, wilson
from delete_tasks.evaluation.metric import Measured, share

MANY, FEW, LEAST = 2000, 100, 6


def read(percent: float, count: int = MANY) -> Measured:
    """Make the figure of an attack that reads ``percent`` of ``count`` samples, the first ones."""
    return share_of(np.arange(count) < percent * count / 100)


def reading(original, erased, retrained=(), chance=10.0, count=MANY, name="probe", **rest) -> Reading:
    models = [read(percent, count) for percent in (original, erased, *retrained)]
    return Reading(name, name, "percent", models[0], models[1], models[2:], chance, **rest)


# original, erased, retrained, chance, samples: word, whether it counts
TABLE = [
    # Without a retrained model, chance is the reference.
    ((96, 96, (), 10, MANY), HIDDEN, True),
    ((96, 94, (), 10, MANY), HIDDEN, True),  # within 3 points, or a tenth of the way to chance
    ((97, 90, (), 10, MANY), HIDDEN, True), ((97, 83, (), 10, MANY), WEAKENED, True),
    ((96, 30, (), 10, MANY), WEAKENED, True), ((96, 11, (), 10, MANY), FORGOTTEN, True),
    ((96, 2, (), 10, MANY), FORGOTTEN, True),  # below chance is no information that a reader takes
    ((96, 99, (), 10, MANY), HIDDEN, True),
    ((96, 60, (), None, MANY), WEAKENED, True),  # unknown chance
    ((96, 0, (), None, MANY), WEAKENED, True),
    # An attack that does not read the original beyond chance does not count.
    ((10, 10, (), 10, MANY), CANNOT_TELL, False), ((0, 0, (), 10, MANY), CANNOT_TELL, False),
    ((25, 25, (), 25, MANY), CANNOT_TELL, False),  # four classes
    ((30, 30, (), 25, FEW), CANNOT_TELL, False), ((30, 30, (), 25, MANY), HIDDEN, True),
    # Few samples.
    ((100, 100, (), 10, LEAST), CANNOT_TELL, True),
    ((100, 0, (), 10, LEAST), WEAKENED, True),  # fell for certain; six samples do not show that nothing is left
    ((96, 96, (), 10, FEW), HIDDEN, True), ((96, 91, (), 10, FEW), CANNOT_TELL, True),
    ((96, 10, (), 10, FEW), WEAKENED, True),
    # With retrained models, the highest is the reference.
    ((96, 60, (60,), 10, MANY), FORGOTTEN, True), ((96, 55, (60,), 10, MANY), FORGOTTEN, True),
    ((96, 75, (60, 75), 10, MANY), FORGOTTEN, True),
    ((96, 62, (60,), 10, MANY), FORGOTTEN, True),  # within 3 points
    ((96, 65, (60,), 10, MANY), WEAKENED, True), ((96, 94, (60,), 10, MANY), HIDDEN, True),
    ((96, 80, (71, 65), 10, FEW), WEAKENED, True),
    ((96, 60, (60,), 10, FEW), FORGOTTEN, True),  # of the same samples: they agree on each
    ((96, 75, (71, 65), 10, FEW), CANNOT_TELL, True),  # few samples make no verdict better
    ((95, 95, (40,), 10, 20), CANNOT_TELL, True),
    ((95, 95, (85,), 10, 20), CANNOT_TELL, False),  # it reads the retrained model as well as the original
    ((96, 96, (96,), 10, MANY), CANNOT_TELL, False),
]  # fmt: skip


@pytest.mark.parametrize(("figures", "word", "counts"), TABLE)
def test_word_of_an_attack(figures, word, counts):
    """A verdict on one attack is the same word."""
    original, erased, retrained, chance, count = figures
    judged = verdicts.judge(reading(original, erased, retrained, chance, count))
    assert (judged.word, judged.counts) == (word, counts), judged.reason
    assert (judged.reason is None) == (word != CANNOT_TELL)
    verdict = decide([reading(original, erased, retrained, chance, count)])
    assert verdict["word"] == word and verdict["words"] == {"probe": word}
    assert verdict["decided_by"] == ("probe" if counts else None)
    if counts:
        assert f"{verdict['sentence']}".startswith(f"Strongest attack: probe reads {erased:.1f}% [")
        assert ("chance" in verdict["sentence"]) == (chance is not None)


GONE, HELD, FELL = (96, 10), (96, 96), (96, 50)


@pytest.mark.parametrize(("attacks", "word", "decided_by"), [
    ([], CANNOT_TELL, None),
    ([GONE, GONE], FORGOTTEN, "a0"),
    ([HELD, HELD], HIDDEN, "a0"),
    ([GONE, FELL], WEAKENED, "a1"),
    ([HELD, FELL], WEAKENED, "a0"),
    ([HELD, GONE], WEAKENED, "a0"),
    ([GONE, (10, 96)], FORGOTTEN, "a0"),  # the second does not read the original
])  # fmt: skip
def test_the_verdict_combines_words(attacks, word, decided_by):
    verdict = decide([reading(*figures, name=f"a{number}") for number, figures in enumerate(attacks)])
    assert (verdict["word"], verdict["decided_by"]) == (word, decided_by)


def test_an_attack_that_cannot_tell_keeps_a_verdict_from_forgotten_but_not_from_weakened():
    unsure = reading(96, 75, (71, 65), count=FEW, name="unsure")
    gone, fell = (reading(96, figure, (60,), name="other") for figure in (55, 90))
    assert verdicts.judge(unsure).word == CANNOT_TELL and decide([unsure, gone])["word"] == CANNOT_TELL
    assert "unsure: too few samples (100)" in decide([unsure, gone])["sentence"]
    assert verdicts.judge(fell).word == WEAKENED and decide([unsure, fell])["word"] == WEAKENED
    held = reading(96, 96, (60,), name="held")
    assert decide([held, unsure])["word"] == WEAKENED  # one fell for certain


def test_the_sentence_names_the_strongest_attack_and_the_largest_fall():
    verdict = decide([reading(82.3, 80.7, name="linear probe"), reading(80, 20, name="k-NN")])
    assert verdict["word"] == WEAKENED and verdict["title"].startswith("WEAKENED")
    assert "Strongest attack: linear probe reads 80.7% [" in verdict["sentence"]
    assert "original 82.3%, chance 10.0)" in verdict["sentence"]
    assert "Largest fall: k-NN reads 20.0%" in verdict["sentence"]
    verdict = decide([reading(96, 60, (55, 61), name="k-NN")])
    assert "retrained 55.0 to 61.0" in verdict["sentence"] and "as by a retrained model" in verdicts.headline(verdict)
    assert "chance" in decide([reading(96, 9)])["title"]


@pytest.mark.parametrize(("predicted", "word"), [
    ((0.0, 1000), WEAKENED), ((6.0, 50), WEAKENED), ((6.0, 5000), verdicts.NOT_FORGOTTEN),
    ((90.0, 6), verdicts.NOT_FORGOTTEN),
])  # fmt: skip
def test_a_model_that_still_predicts_the_class_has_not_forgotten_it(predicted, word):
    verdict = decide([reading(96, 30)], predicted={"test images": share(*predicted)})
    assert verdict["word"] == word
    if word == verdicts.NOT_FORGOTTEN:
        assert verdict["decided_by"] == "test images" and f"Test images: {predicted[0]:.1f}% [" in verdict["sentence"]


def test_the_originals_features_are_hidden():
    """Even if samples are too few to tell, or the retrained model is no reference for one of two attacks."""
    few = reading(100, 100, count=LEAST)
    assert decide([few])["word"] == CANNOT_TELL and decide([few], same_features=True)["word"] == HIDDEN
    unread = reading(10, 10)
    assert decide([unread], same_features=True)["word"] == CANNOT_TELL


@pytest.mark.parametrize(("word_of", "statuses", "withheld", "level"), [
    (GONE, ["PASS"], None, "green"),
    (GONE, [], None, "amber"),  # nothing was compared with a limit
    (GONE, ["PASS", "UNCERTAIN"], None, "amber"), (GONE, ["PASS", "NOT MEASURED"], None, "amber"),
    (GONE, ["PASS", "FAIL"], None, "red"), (GONE, ["PASS", "FAIL of a warning"], None, "amber"),
    (GONE, ["PASS"], "the watch says so", "red"), (FELL, ["PASS"], None, "amber"), (FELL, ["FAIL"], None, "red"),
    (HELD, ["PASS"], None, "red"), ((10, 10), ["PASS"], None, "grey"), ((10, 10), ["FAIL"], None, "red"),
])  # fmt: skip
def test_level(word_of, statuses, withheld, level):
    limits = [
        {"name": f"figure_{number}", "status": status.removesuffix(" of a warning"), "warns": "warning" in status}
        for number, status in enumerate(statuses)
    ]
    verdict = conclude(decide([reading(*word_of)]), limits, withheld)
    assert verdict["level"] == level
    assert sum(map(len, verdict["limits"].values())) == len(statuses) - statuses.count("PASS")


def test_differences():
    """Pairs of hits as by Agresti and Min; equal samples are no proof that all samples are equal."""
    assert verdicts.difference(read(90), read(80)) == paired(200, 0, MANY)
    assert verdicts.difference(read(100, 6), read(100, 6)) == paired(0, 0, 6)
    same = Measured(50.0, 40, samples=np.full(40, 50.0))
    assert verdicts.difference(same, same) == paired(0, 0, 40)
    assert verdicts.difference(Measured(50.0), Measured(40.0)) is None
    apart = verdicts.difference(Measured(50.0, 100, (40.0, 60.0)), Measured(20.0, 100, (15.0, 30.0)))
    assert apart == newcombe(50.0, (40.0, 60.0), 20.0, (15.0, 30.0)) == pytest.approx((30 - 200**0.5, 30 + 125**0.5))


def test_newcombes_published_interval():
    """Newcombe (1998), Table II: 56/70 and 48/80 give 0.0524 to 0.3339 by method 10."""
    low, high = newcombe(80.0, wilson(80.0, 70), 60.0, wilson(60.0, 80))
    assert (low, high) == pytest.approx((5.24, 33.39), abs=0.02)
    assert newcombe(80.0, None, 60.0, (50.0, 70.0)) is None
