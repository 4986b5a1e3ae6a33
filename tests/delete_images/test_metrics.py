"""Figures of the table, on small examples."""

import numpy as np
import pytest
import torch
from helpers import Counted

from delete_images.metrics import METRICS
from delete_images.picture import confusions, draw_confusions, predicted_as
from delete_tasks.evaluation import Evaluation, Predictions
from delete_tasks.evaluation.functional import accuracy, confusion_matrix, per_class_accuracy, prediction_shares
from delete_tasks.evaluation.predictions import by_name, cut


@pytest.fixture
def nine():
    """Predictions for nine images of three classes; the last of each class is predicted as the next class."""
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    predicted = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 0])
    logits = torch.eye(3)[predicted] + 0.1 * torch.eye(3)[labels]
    return Predictions(logits, None, labels)


def measured(original, row, names, ids) -> dict:
    """Metric -> figure of a row."""
    evaluation = Evaluation(METRICS, ids, names)
    evaluation.add("original", original)
    evaluation.add("erased", row)
    assert not evaluation.not_measured
    return evaluation.rows["erased"]


def test_row(nine):
    names = ("ant", "bee", "cat")
    assert confusion_matrix(*nine.labelled, 3).tolist() == [[2, 1, 0], [0, 2, 1], [1, 0, 2]]
    row = measured({"test": nine}, {"test": cut(nine, [2])}, names, [2])
    figures = {name: figure.value for name, figure in row.items()}
    assert figures["forget_acc"] == 0.0 and figures["remain_acc"] == pytest.approx(83.33)
    assert figures["forget_acc_train"] is figures["linear_probe"] is None
    assert "label" in row["forget_acc_train"].note and "--train-data" in row["linear_probe"].note
    assert figures["h_mean"] == pytest.approx(2 * 66.67 * 83.33 / 150, abs=0.02)
    assert (figures["worst_drop"], row["worst_drop"].of_class, row["worst_drop"].count) == (0.0, "ant", 3)
    assert figures["remain_drop"] == -16.66 and row["remain_drop"].interval[0] < -16.66 < row["remain_drop"].interval[1]
    assert row["forget_acc"].count == 3 and row["forget_acc"].interval[0] == 0 < row["forget_acc"].interval[1]
    assert per_class_accuracy(cut(nine, [2]).counts) == [66.67, 100.0, 0.0]
    assert measured({"test": nine}, {"test": nine}, names, [2])["h_mean"].value == 0.0


@pytest.mark.parametrize(("before", "after"), [(60, 60), (60, 5), (60, 2), (5, 1.5)])
def test_a_rise_from_nearly_nothing_is_of_a_tenth_of_a_nat(before, after):
    """The fit of the original, whose right logit is ``before``, may be perfect."""
    labels = torch.tensor([0, 1, 2])
    rows = [{"test": Predictions(scale * torch.eye(3, dtype=torch.float64), None, labels)} for scale in (before, after)]
    figure = measured(*rows, ("ant", "bee", "cat"), [2])["nll_rise"]
    nll = [float(torch.nn.functional.cross_entropy(row["test"].logits, labels)) for row in rows]
    assert figure.value == pytest.approx(100 * (round(nll[1], 4) - round(nll[0], 4)) / 0.1, abs=0.1)
    assert "in percent of 0.1 nats, since the original's is" in figure.note


def test_relative_metrics_need_the_original(nine):
    evaluation = Evaluation(METRICS, [2], ("ant", "bee", "cat"))
    evaluation.add("erased", {"test": nine})
    for metric in METRICS:
        figure = evaluation.rows["erased"][metric.name]
        assert not metric.relative or "original" in figure.note
        assert (figure.value is None) == (metric.relative or metric.of_features or metric.of != "test images")


def random_predictions(images: int, classes: int, seed: int = 0) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, classes, (images,), generator=generator)
    return Predictions(torch.randn(images, classes, generator=generator), None, labels)


def test_counts_are_those_of_the_confusion_matrix():
    given, ids = random_predictions(500, 7), [2, 5]
    matrix, counts = confusion_matrix(*given.labelled, 7).numpy(), given.counts
    assert matrix.sum() == (given.labels >= 0).sum()
    assert counts.hits.tolist() == np.diag(matrix).tolist()
    assert counts.totals.tolist() == matrix.sum(1).tolist() and counts.predicted.tolist() == matrix.sum(0).tolist()
    rest = [0, 1, 3, 4, 6]
    for classes in (ids, rest):
        expected = 100 * np.diag(matrix)[classes].sum() / matrix[classes].sum()
        assert accuracy(counts, classes) == (pytest.approx(expected, abs=0.01), matrix[classes].sum())
    assert per_class_accuracy(counts) == pytest.approx((100 * np.diag(matrix) / matrix.sum(1)).tolist(), abs=0.01)
    assert confusion_matrix(*given.labelled, 7, [5, 0]).tolist() == matrix[[5, 0]].tolist()
    drawn, rows, _ = confusions(given, given, ids)
    assert drawn == list(range(7)) and rows.tolist() == matrix.tolist()
    assert predicted_as(given, ids).tolist() == matrix[ids].sum(0).tolist()
    went = prediction_shares(predicted_as(given, ids), "abcdefg")
    assert sum(went.values()) == pytest.approx(100, abs=0.05) and list(went.values()) == sorted(went.values())[::-1]


def test_many_classes_need_no_whole_matrix(monkeypatch, tmp_path):
    """The matrix of 50,000 classes has 20 GB; the picture has 30 rows."""
    classes, sizes, bincount = 50_000, [], torch.bincount

    def counted(values, minlength=0):
        sizes.append(minlength)
        return bincount(values, minlength=minlength)

    monkeypatch.setattr(torch, "bincount", counted)
    before, after, ids = random_predictions(60, classes), random_predictions(60, classes, 1), [3, 7]
    labels = torch.cat([torch.tensor([3, 7, 7, 7, 9]), before.labels[5:]])
    before, after = (Predictions(given.logits, None, labels) for given in (before, after))
    names = tuple(f"class {i}" for i in range(classes))
    assert measured({"test": before}, {"test": after}, names, ids)["worst_drop"].value is not None
    assert len(per_class_accuracy(after.counts)) == classes
    rows, first, _ = confusions(before, after, ids)
    predicted = after.logits[:4].argmax(1)
    assert set(prediction_shares(predicted_as(after, ids), names)) == {names[i] for i in predicted}
    assert {3, 7, *predicted.tolist()} <= set(rows) and len(rows) == 30
    assert torch.equal(first, confusion_matrix(*before.labelled, classes, rows))
    assert first.sum() == np.isin(labels, rows).sum()
    draw_confusions(tmp_path / "a.png", before, after, names, ids)
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert max(sizes) <= 30 * classes


def test_many_classes_are_matched_by_name_at_once():
    Counted.compared = 0
    own, names = [Counted(i) for i in range(999, 0, -1)], [Counted(i) for i in range(1000)]
    logits = torch.arange(999.0)[None]
    found = by_name(Predictions(logits, None, torch.zeros(1)), own, names).logits[0]
    assert torch.equal(found[1:], logits[0].flip(0)) and found[0] == -torch.inf
    assert Counted.compared <= 3000
