"""The figures of the table, on numbers one can count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delete_images.evaluate import (
    Answers,
    accuracies,
    became,
    by_name,
    confusion,
    confusions,
    count,
    cut,
    per_class,
    probes,
    row,
)
from delete_images.picture import draw_confusions
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


def random_answers(images: int, classes: int, seed: int = 0) -> Answers:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, classes, (images,), generator=generator)
    return Answers(torch.randn(images, classes, generator=generator), None, labels)


def test_counts_are_those_of_the_confusion_matrix():
    given, ids = random_answers(500, 7), [2, 5]
    matrix, counts = confusion(given), count(given)
    assert matrix.sum() == (given.labels >= 0).sum()
    assert counts.hits.tolist() == np.diag(matrix).tolist()
    assert counts.totals.tolist() == matrix.sum(1).tolist() and counts.predicted.tolist() == matrix.sum(0).tolist()
    rest = [0, 1, 3, 4, 6]
    assert accuracies(counts, ids) == {
        "forget_acc": pytest.approx(100 * np.diag(matrix)[ids].sum() / matrix[ids].sum(), abs=0.01),
        "remain_acc": pytest.approx(100 * np.diag(matrix)[rest].sum() / matrix[rest].sum(), abs=0.01),
    }
    assert list(per_class(counts, "abcdefg").values()) == pytest.approx(
        (100 * np.diag(matrix) / matrix.sum(1)).tolist(), abs=0.01
    )
    assert confusion(given, [5, 0]).tolist() == matrix[[5, 0]].tolist()
    drawn, _ = confusions(given, given, ids)
    assert drawn.classes == list(range(7)) and drawn.rows.tolist() == matrix.tolist()
    assert drawn.forgotten.tolist() == matrix[ids].sum(0).tolist()
    went = became(drawn, "abcdefg")
    assert sum(went.values()) == pytest.approx(100, abs=0.05) and list(went.values()) == sorted(went.values())[::-1]


def test_of_many_classes_no_whole_matrix_is_made(monkeypatch, tmp_path):
    """50,000 classes make a matrix of 20 GB; what is drawn has 30 rows."""
    classes, sizes, bincount = 50_000, [], torch.bincount

    def counted(values, minlength=0):
        sizes.append(minlength)
        return bincount(values, minlength=minlength)

    monkeypatch.setattr(torch, "bincount", counted)
    before, after, ids = random_answers(60, classes), random_answers(60, classes, 1), [3, 7]
    labels = torch.cat([torch.tensor([3, 7, 7, 7, 9]), before.labels[5:]])
    before, after = (Answers(given.logits, None, labels) for given in (before, after))
    names = tuple(f"class {i}" for i in range(classes))
    assert len(row(None, after, before, names, ids)["per_class"]) == classes
    drawn = confusions(before, after, ids)
    told = after.logits[:4].argmax(1)
    assert set(became(drawn[1], names)) == {names[i] for i in told}
    assert {3, 7, *told.tolist()} <= set(drawn[1].classes) and len(drawn[1].classes) == 30
    rows = drawn[1].classes
    assert drawn[0].classes == rows and np.array_equal(drawn[0].rows, confusion(before, rows))
    assert drawn[0].rows.sum() == np.isin(labels, rows).sum()
    draw_confusions(tmp_path / "a.png", *drawn, names, ids)
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert max(sizes) <= 30 * classes


def test_a_model_of_many_classes_is_read_by_name_at_once():
    compared = 0

    class Counted(str):
        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    own, names = [Counted(i) for i in range(999, 0, -1)], [Counted(i) for i in range(1000)]
    logits = torch.arange(999.0)[None]
    found = by_name(Answers(logits, None, torch.zeros(1)), own, names).logits[0]
    assert torch.equal(found[1:], logits[0].flip(0)) and found[0] == -torch.inf
    assert compared <= 3000


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
