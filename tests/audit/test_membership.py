"""Membership attacks, within the class and by the papers' classifier."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from delete_tasks.audit.attacks import find_attacks
from delete_tasks.audit.attacks.membership import modified_entropy, svc_features
from delete_tasks.evaluation.predictions import Predictions, cut

ATTACKS = {attack.name: attack for attack in find_attacks("full")}
GONE = 3


def outputs(sure: float, count: int, seed: int = 0) -> torch.Tensor:
    """Make logits of samples of the forgotten class with a margin of about ``sure``."""
    generator = torch.Generator().manual_seed(seed)
    logits = 0.3 * torch.randn(count, 4, generator=generator)
    logits[:, GONE] += sure
    return logits


def row_with(make, inside: float, outside: float, count: int = 200):
    """Make a row with one margin on training samples of the class and another on held-out ones."""
    row = make("known")
    labels = torch.full((count,), GONE)
    row.data["forget"] = Predictions(outputs(inside, count, 1), None, labels)
    row.data["test"] = Predictions(outputs(outside, count, 2), None, labels)
    return row


def test_members_with_a_larger_margin_are_recognised(make):
    told, same = row_with(make, 8, 2), row_with(make, 4, 4)
    for name in ("membership_auc", "membership_label_auc", "membership_balanced", "membership_tpr_1"):
        assert ATTACKS[name].measure(told).value > 99, name
        found = ATTACKS[name].measure(same)
        guess = ATTACKS[name].chance(same)
        assert found.interval[0] - 3 <= guess <= found.interval[1] + 3, name
        assert found.count == 400


def test_few_samples_are_not_measured(make):
    row = row_with(make, 8, 2, 90)
    assert "100 of the classes are needed" in ATTACKS["membership_tpr_1"].measure(row).note
    assert ATTACKS["membership_tpr_01"].measure(row_with(make, 8, 2, 200)).value is None
    assert ATTACKS["membership_tpr_01"].measure(row_with(make, 8, 2, 1000)).value > 99
    assert "fewer than 20" in ATTACKS["membership_auc"].measure(row_with(make, 8, 2, 19)).note


def test_a_cut_logit_hides_the_label_but_not_the_certainty(make):
    row = row_with(make, 4, 4)
    hidden = {name: cut(row.data[name], [GONE]) for name in ("forget", "test")}
    row = dataclasses.replace(row, data={**row.data, **hidden})
    assert "minus infinity" in ATTACKS["membership_label_auc"].measure(row).note
    assert ATTACKS["membership_auc"].measure(row).value is not None


def test_the_modified_entropy_is_right():
    """Computed by hand, with log(1 - p) in place of log p in published code."""
    p = torch.tensor([[0.7, 0.2, 0.1]])
    wanted = -0.3 * np.log(0.7) - 0.2 * np.log(0.8) - 0.1 * np.log(0.9)
    assert modified_entropy(p.log(), torch.tensor([0])).item() == pytest.approx(wanted, abs=1e-6)
    assert modified_entropy(torch.tensor([[0.0, -torch.inf]]), torch.tensor([0])).item() == 0
    assert np.isfinite(modified_entropy(torch.tensor([[0.0, -torch.inf]]), torch.tensor([1])).numpy()).all()


def kept_rows(inside: float, outside: float, seed: int):
    labels = torch.arange(3).repeat(60)
    found = []
    for number, sure in enumerate((inside, outside)):
        logits = 0.3 * torch.randn(180, 4, generator=torch.Generator().manual_seed(seed + number))
        logits[torch.arange(180), labels] += sure
        found.append(Predictions(logits, None, labels))
    return found


def test_the_papers_attack(make):
    """Margin 8 of kept classes' members, 2 of others: a forget set with 8 counts as members, with 2 not."""
    attack = ATTACKS["membership_svc"]
    for sure, low, high in ((8, 95, 100), (2, 0, 5)):
        row = make("known")
        row.data["train"], row.data["test"] = kept_rows(8, 2, 5)
        row.data["forget"] = Predictions(outputs(sure, 100), None, torch.full((100,), GONE))
        found = attack.measure(row)
        assert low <= found.value <= high and low <= found.details["entropy"] <= high
        # The reference: the classifier as published, on the same confidence.
        rows = (row.data[name] for name in ("train", "test", "forget"))
        figures = [svc_features(one.logits, one.labels)["confidence"] for one in rows]
        known = SVC(C=3, gamma="auto", kernel="rbf").fit(np.concatenate(figures[:2]), [1] * 180 + [0] * 180)
        assert found.value == pytest.approx(100 * known.predict(figures[2]).mean(), abs=0.01)


def test_the_papers_attack_without_data(lacking, make):
    assert "training samples of all classes were given" in ATTACKS["membership_svc"].measure(lacking("train")).note
    row = make("known")
    few = row.data["test"]
    row.data["test"] = Predictions(few.logits[-45:], None, few.labels[-45:])  # five of a kept class
    assert "fewer than 20" in ATTACKS["membership_svc"].measure(row).note
