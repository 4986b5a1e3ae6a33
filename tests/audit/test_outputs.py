"""Attacks on outputs, and damage to kept classes."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from delete_tasks.audit.attacks import find_attacks, outputs
from delete_tasks.audit.attacks.outputs import balanced_mean, entropy, js_distance, ranks, rate_at, threshold_hits
from delete_tasks.evaluation.predictions import cut

GONE = 3
ATTACKS = {attack.name: attack for attack in find_attacks("full")}


def with_test(row, **changes):
    return dataclasses.replace(row, data={**row.data, "test": dataclasses.replace(row.data["test"], **changes)})


def test_entropy_and_distance_of_known_probabilities():
    even = torch.zeros(1, 4)
    sure = torch.tensor([[0.0, -torch.inf, -torch.inf, -torch.inf]])
    assert entropy(even).item() == pytest.approx(np.log(4)) and entropy(sure).item() == 0
    assert js_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item() == 1
    assert js_distance(torch.tensor([[0.3, 0.7]]), torch.tensor([[0.3, 0.7]])).item() == pytest.approx(0, abs=1e-7)
    # By hand: middle (3/4, 1/4); JS = H(3/4) - 1/2 H(1/2) in bits
    bits = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)) - 0.5
    assert js_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])).item() == pytest.approx(bits**0.5)


def test_ranks_count_ties_half():
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, -torch.inf]])
    assert ranks(logits, [3]).tolist() == [4, 2.5, 4] and ranks(logits, [0, 3]).tolist() == [1, 2, 3]


def test_forgotten_mass_entropy_and_rank(make):
    row = make("known")
    assert ATTACKS["forgotten_mass"].measure(row).value > 90
    away = row.data["test"].logits.clone()
    away[:, GONE], away[:, 1] = -30, 30
    gone = ATTACKS["forgotten_mass"].measure(with_test(row, logits=away))
    assert gone.value == pytest.approx(0, abs=1e-4) and gone.details["predicted_as"] == {"dog": 100.0}
    assert ATTACKS["output_entropy"].measure(with_test(row, logits=away)).value < 0.01
    assert ATTACKS["logit_rank"].measure(row).value < 1.1
    assert ATTACKS["logit_rank"].measure(with_test(row, logits=away)).value == 4


def test_the_logit_as_a_detector(make):
    row = make("known")
    assert ATTACKS["logit_auc"].measure(row).value > 99 and ATTACKS["logit_level"].measure(row).value > 4
    # It is never the prediction, but still detects the class.
    low = row.data["test"].logits.clone()
    low[:, GONE] -= 100
    found = ATTACKS["logit_auc"].measure(with_test(row, logits=low))
    assert found.value > 99 and ATTACKS["logit_level"].measure(with_test(row, logits=low)).value < -80
    mean = row.data["test"].logits.clone()
    mean[:, GONE] = mean[:, :GONE].mean(1) - 10
    assert ATTACKS["logit_auc"].measure(with_test(row, logits=mean)).value == 50
    hidden = dataclasses.replace(row, data={**row.data, "test": cut(row.data["test"], [GONE])})
    for name in ("logit_auc", "logit_level"):
        found = ATTACKS[name].measure(hidden)
        assert found.value is None and found.note == "the logit is minus infinity"


def test_distance_to_a_retrained_model(make, model):
    other = model("other")
    row = make("other", retrained=[other])
    assert ATTACKS["js_retrained"].measure(row).value == pytest.approx(0, abs=1e-6)
    assert ATTACKS["js_retrained"].measure(make("known", retrained=[other])).value > 0.5
    assert "no other retrained" in ATTACKS["js_retrained"].measure(make("known")).note


def test_collateral(make):
    """Half of one kept class is lost; the others do not change."""
    row = make("known")
    logits = row.data["test"].logits.clone()
    logits[40:60, 1], logits[40:60, 2] = -50, 50
    hurt = with_test(row, logits=logits)
    right = (row.original["test"].predicted == row.original["test"].labels)[40:60].sum().item()
    assert ATTACKS["kept_drop"].measure(hurt).value == pytest.approx(100 * right / 120, abs=0.01)
    assert ATTACKS["kept_drop"].measure(hurt).details["by_class"]["dog"] == pytest.approx(100 * right / 40, abs=0.01)
    worst = ATTACKS["worst_class"].measure(hurt)
    assert worst.of_class == "dog" and worst.value == pytest.approx(100 * right / 40, abs=0.01)
    assert ATTACKS["kept_drop"].measure(row).value == 0 and ATTACKS["nearest_classes"].measure(row).value == 0
    assert set(ATTACKS["nearest_classes"].measure(hurt).details["classes"]) == {"cat", "dog", "frog"}
    assert ATTACKS["kept_nll"].measure(hurt).value > ATTACKS["kept_nll"].measure(row).value
    assert ATTACKS["kept_ece"].measure(row).count == 120
    none = with_test(row, labels=torch.full_like(row.data["test"].labels, GONE))
    assert "show no kept class" in ATTACKS["kept_drop"].measure(none).note


def test_roc_against_scikit_learn():
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 9, 300) + 1.0, generator.integers(0, 9, 200).astype(float)
    truth = [1] * 300 + [0] * 200
    assert outputs.roc_area(first, second) == pytest.approx(roc_auc_score(truth, np.concatenate([first, second])))
    assert rate_at(np.array([3.0, 5, 7, 9]), np.arange(10.0), 0.1) == 0.25  # above 8: at most one of ten reaches it
    assert rate_at(np.array([3.0, 5, 7, 9]), np.arange(10.0), 0.5) == 0.75
    assert balanced_mean(*threshold_hits(np.full(50, 2.0), np.full(50, 1.0))) == 1
    right = threshold_hits(generator.normal(size=1000), generator.normal(size=1000))
    low, high = outputs.interval_of(balanced_mean, *right)
    assert low < 100 * balanced_mean(*right) < high and low < 52 and high > 48
