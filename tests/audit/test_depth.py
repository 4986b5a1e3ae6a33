"""Depth, and the verdict over all attacks on small models."""

import dataclasses

import numpy as np
import pytest

from delete_tasks.audit.attack import bootstrap, mean_of, share_of
from delete_tasks.audit.attacks import find_attacks
from delete_tasks.audit.results import depth, measure, with_cut_logit
from delete_tasks.audit.verdict import CANNOT_TELL, FORGOTTEN, HIDDEN, WEAKENED
from delete_tasks.evaluation.functional import wilson
from delete_tasks.evaluation.metric import Measured

NAMES = ["cat", "dog", "frog", "ship"]


def read(percent: float, count: int = 1000) -> Measured:
    """Make the figure of an attack that reads ``percent`` of ``count`` samples."""
    return share_of(np.arange(count) < percent * count / 100)


def without_logit(data: dict) -> dict:
    """Make a model that never predicts the forgotten class."""
    logits = data["test"].logits.clone()
    logits[:, 3] = -20
    return {**data, "test": dataclasses.replace(data["test"], logits=logits)}


def test_depth_is_a_ratio():
    assert depth(read(90), read(90), [read(50)]).value == 0
    assert depth(read(90), read(50), [read(50)]).value == 1
    assert depth(read(90), read(70), [read(50)]).value == 0.5
    assert depth(read(90), read(70), [read(40), read(60)]).value == 0.5  # their mean
    low, high = depth(read(90), read(70), [read(50)]).interval
    assert low < 0.5 < high and high - low < 0.2


@pytest.mark.parametrize(("parts", "reason"), [
    ((read(90), read(50), []), "no retrained model is given"),
    ((read(90), read(50), [Measured(note="it cannot be read")]), "it cannot be read"),
    ((Measured(), read(50), [read(40)]), "was not read"),
    ((read(90, 20), read(90, 20), [read(85, 20)]), "read as well as the original"),
    ((Measured(3.0), Measured(2.0), [Measured(3.0)]), "read as well as the original"),
])  # fmt: skip
def test_depth_is_not_measured(parts, reason):
    found = depth(*parts)
    assert found.value is None and reason in found.note


def test_depth_without_samples_has_no_interval():
    found = depth(Measured(3.0), Measured(2.0), [Measured(1.0)])
    assert found.value == 0.5 and found.interval is None and "no interval" in found.note


def test_a_cut_logit_is_hidden_to_the_digit(model):
    """Attacks on features read the same from the original with and without its logit."""
    rows = with_cut_logit({"original": model("known"), "erased": without_logit(model("noise"))}, [3])
    assert list(rows) == ["original", "logit_cut", "erased"]
    found = measure(rows, [3], NAMES, "quick")
    for attack in found.attacks:
        if attack.reads and attack.of_features:
            assert found.rows["logit_cut"][attack.name] is found.rows["original"][attack.name]
    hidden = measure({"original": rows["original"], "erased": rows["logit_cut"]}, [3], found.names, "quick")
    assert hidden.verdict["word"] == HIDDEN
    assert found.verdict["word"] == WEAKENED and "Strongest attack: " in found.verdict["sentence"]


def test_as_a_retrained_model(model):
    noise = without_logit(model("noise", 100))
    rows = dict.fromkeys(("erased", "retrained_1", "retrained_2"), noise) | {"original": model("known", 100)}
    found = measure(rows, [3], NAMES)
    assert found.verdict["word"] == FORGOTTEN and "as by a retrained model" in found.verdict["title"]
    assert found.depth["linear_probe"].value == pytest.approx(1)
    assert found.json()["depth"]["linear_probe"]["interval"] is not None


def test_a_retrained_model_that_is_read_as_well_as_the_original_is_no_reference(model):
    rows = {name: without_logit(model("known")) for name in ("original", "erased", "retrained")}
    found = measure(rows, [3], NAMES)
    assert set(found.verdict["words"].values()) == {CANNOT_TELL} and found.verdict["word"] == CANNOT_TELL
    assert "a retrained model as well" in found.verdict["sentence"]


def test_nothing_is_read_without_samples(model):
    rows = {name: {"forget": model("known")["forget"]} for name in ("original", "erased")}
    found = measure(rows, [3], NAMES)
    assert found.verdict["word"] == CANNOT_TELL and found.verdict["decided_by"] is None
    assert all(one.value is None and one.note for one in found.rows["erased"].values())
    assert not found.not_measured  # nothing failed


def test_attacks_are_declared():
    attacks = find_attacks("full")
    assert len({attack.name for attack in attacks}) == len(attacks) == len({attack.column for attack in attacks})
    assert {attack.level for attack in attacks} == {"quick", "full"}
    assert len(find_attacks("quick")) < len(attacks)
    assert attacks[0].name == "linear_probe"
    for attack in attacks:
        assert len(attack.column) <= 22 and attack.title and attack.of, attack.name


def test_the_bootstrap():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap(lambda rows: float(values[rows].mean()), 400)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert bootstrap(lambda rows: float(values[rows].mean()), 400) == (low, high)
    assert bootstrap(lambda rows: np.nan, 10) is None
    assert share_of(np.ones(30)).interval == wilson(100, 30) and share_of(np.zeros(30)).value == 0
    assert mean_of(np.array([1.0, 2.0, 3.0])).json() == {
        "value": 2.0, "count": 3, "interval": list(mean_of(np.array([1.0, 2.0, 3.0])).interval), "note": None, "of_class": None
    }  # fmt: skip
