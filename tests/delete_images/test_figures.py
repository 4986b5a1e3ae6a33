"""The figures of the table, on numbers one can count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delete_images.evaluate import Answers, by_name, confusion, cut, probes, row
from delete_tasks.audit.prototype import prototype_accuracy
from delete_tasks.errors import RequestError


@pytest.fixture
def said():
    """Nine images of three classes, the last of each told wrong: as the next class."""
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    told = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 0])
    logits = torch.eye(3)[told] + 0.1 * torch.eye(3)[labels]
    return Answers(logits, None, labels)


def test_row(said):
    names = ("ant", "bee", "cat")
    hidden = cut(said, [2])
    assert confusion(said).tolist() == [[2, 1, 0], [0, 2, 1], [1, 0, 2]]
    figures = row(None, hidden, said, names, [2])
    assert figures["test"] == {"forget_acc": 0.0, "remain_acc": pytest.approx(83.33)}
    assert figures["train"] == {"forget_acc": None, "remain_acc": None}
    assert figures["h_mean"] == pytest.approx(2 * 66.67 * 83.33 / 150, abs=0.02)
    assert figures["per_class"] == {"ant": 66.67, "bee": 100.0, "cat": 0.0}
    assert figures["worst_drop"] == {"class": "ant", "points": 0.0}
    assert row(None, said, said, names, [2])["h_mean"] == 0.0


def test_a_model_without_the_class_is_read_by_name(said):
    smaller = Answers(said.logits[:, :2], None, said.labels)
    aligned = by_name(smaller, ("bee", "ant"), ("ant", "bee", "cat"))
    assert torch.equal(aligned.logits[:, 0], said.logits[:, 1]) and torch.isinf(aligned.logits[:, 2]).all()


def test_prototypes_and_probes():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    centres = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    features = (centres[labels] + 0.05 * generator.normal(size=(120, 4))).astype(np.float32)
    assert prototype_accuracy(features, labels, features, labels) == {0: 100.0, 1: 100.0, 2: 100.0}
    blurred = features.copy()
    blurred[labels == 2] = features[labels == 1]
    assert prototype_accuracy(blurred, labels, blurred, labels)[2] < 80
    with pytest.raises(RequestError, match="class 0 has 1"):
        prototype_accuracy(features[[0, 41, 42]], labels[[0, 41, 42]], features, labels, shots=2)
    given = Answers(torch.zeros(120, 3), torch.from_numpy(features), torch.from_numpy(labels))
    assert probes(given, given, [2]) == {"linear": 100.0, "prototype": 100.0}
    assert probes(Answers(given.logits, None, given.labels), given, [2]) == {"linear": None, "prototype": None}
