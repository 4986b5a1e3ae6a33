"""Functions of a row that several tasks' metrics share; bind their first arguments with :func:`functools.partial`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import functional as f
from .intervals import paired
from .metric import Measured, Metric, Row, share
from .predictions import LocationCounts

NOBODY_SAID = "nobody said which classes may take their place (--expect)"
NONE_SHOWN = "the data show none of these classes"
MOST_STILL = 5.0  # percent still predicted as forgotten, above which a run counts as not having forgotten
BEFORE_THE_ROWS_GO = (
    "it is of the run's own views and of the last layer before the forgotten rows were taken out; neither is kept"
)
OF_ALL = "of the probabilities of all samples together, for which counts give no interval"
CHOSEN_WORST = "of all classes the one that lost most, which chance alone makes large"


def _classes(row: Row, which: str) -> Sequence[int]:
    """``which``: 'forget', 'retain' or 'all' classes."""
    gone = set(row.ids)
    return [i for i in range(len(row.names)) if which == "all" or (i in gone) == (which == "forget")]


def accuracy(data: str, which: str, row: Row) -> Measured:
    """Define the percentage of labelled samples of some classes that are predicted as their class."""
    given = row.data.get(data)
    if given is None:
        return Measured()
    value, count = f.accuracy(given.counts, _classes(row, which))
    return share(value, count, note=NONE_SHOWN if value is None else None)


def accuracy_drop(data: str, which: str, row: Row) -> Measured:
    """Points of that accuracy lost against the original, with the interval of a paired comparison."""
    given, original = row.data.get(data), (row.original or {}).get(data)
    if given is None or original is None:
        return Measured()
    ids = _classes(row, which)
    (then, _), (now, count) = (f.accuracy(each.counts, ids) for each in (original, given))
    chosen = torch.isin(given.labels, torch.tensor(list(ids), dtype=given.labels.dtype))
    right, was_right = ((each.predicted == each.labels)[chosen] for each in (given, original))
    lost, gained = int((was_right & ~right).sum()), int((right & ~was_right).sum())
    value = f.drop(then, now)
    return Measured(value, count, paired(lost, gained, count), NONE_SHOWN if value is None else None)


def worst_drop(data: str, which: str, row: Row) -> Measured:
    """Points lost by the one class that lost most."""
    given, original = row.data.get(data), (row.original or {}).get(data)
    if given is None or original is None:
        return Measured()
    before, after = (f.per_class_accuracy(each.counts) for each in (original, given))
    drops = {i: f.drop(before[i], after[i]) for i in _classes(row, which)}
    known = {i: lost for i, lost in drops.items() if lost is not None}
    if not known:
        return Measured(note=NONE_SHOWN)
    worst = max(known, key=known.__getitem__)
    return Measured(known[worst], int(given.counts.totals[worst]), note=CHOSEN_WORST, of_class=row.names[worst])


def h_mean(data: str, row: Row) -> Measured:
    """Harmonic mean of the drop in forgotten accuracy and of the remaining accuracy."""
    given, original = row.data.get(data), (row.original or {}).get(data)
    if given is None or original is None:
        return Measured()
    gone, kept = _classes(row, "forget"), _classes(row, "retain")
    then, now = (f.accuracy(each.counts, gone)[0] for each in (original, given))
    remaining, count = f.accuracy(given.counts, kept)
    lost = f.drop(then, now, 10)
    value = None if lost is None or remaining is None else f.h_mean(lost, remaining)
    note = None if value is None else "a mean of two figures, which has no interval of its own"
    return Measured(value, count, note=note)


def fit(function: Callable[[Tensor, Tensor], float], digits: int, data: str, row: Row) -> Measured:
    """Measure how well the probabilities of all classes fit the labels of samples of remaining classes."""
    given = row.data.get(data)
    return Measured() if given is None else fit_of(function, digits, given.logits, given.labels, row.ids)


def fit_of(
    function: Callable[[Tensor, Tensor], float], digits: int, logits: Tensor, labels: Tensor, ids: Sequence[int]
) -> Measured:
    """Measure :func:`fit` on logits ``(N, C)`` and labels ``(N,)``, -1 for none."""
    kept = (labels >= 0) & ~torch.isin(labels, torch.tensor(list(ids)))
    if not kept.any():
        return Measured(note=NONE_SHOWN)
    return Measured(round(function(logits[kept], labels[kept]), digits), int(kept.sum()), note=OF_ALL)


def unexpected(data: str, of: str, **options: Any) -> Metric:
    """Define the percentage of the forgotten classes' labelled samples or locations that are predicted as none of the classes
    that the user expects (``--expect``)."""

    def compute(row: Row) -> Measured:
        given = row.data.get(data)
        if given is None or not row.expected:
            return Measured(note=None if row.expected else NOBODY_SAID)
        if isinstance(given, LocationCounts):
            went = given.confusion[list(row.ids)].sum(0)
        else:
            gone = torch.isin(given.labels, torch.tensor(list(row.ids)))
            went = torch.bincount(given.predicted[gone], minlength=len(row.names))
        total = int(went.sum())
        value = f.percent(total - int(went[list(row.expected)].sum()), total)
        note = NONE_SHOWN if value is None else None
        if isinstance(given, LocationCounts):
            return Measured(
                value, given.showing, note=note or f"{total:,} locations; those of one sample depend on each other"
            )
        return share(value, total, note=note)

    title = "forgotten classes' share that is predicted as none of the expected classes"
    return Metric("unexpected", title, "percent", compute, of=of, column="unexpected", **options)


def still_predicted(of: str) -> Metric:
    """Define the metric of :func:`delete_tasks.runner.forget_check.check_forgotten`, which the run alone can measure.

    The published last layer has no weights of the classes to predict them by. :func:`still_predicted_of` is its figure for the
    erased model.
    """
    title = f"{of} still predicted as the forgotten classes when training ended, of those that were"
    unknown = Measured(note=BEFORE_THE_ROWS_GO)
    return Metric("still_predicted", title, "percent", lambda _: unknown, limit=MOST_STILL, of=of)


def still_predicted_of(check: Mapping[str, Any] | None) -> Measured:
    """Read the figure from a run's ``forget_check``."""
    if check is None or check.get("still") is None:
        return Measured(note="the original predicts the classes on none of them")
    count = round(check["before"] * check["locations"] / 100)
    if check["locations"] == check["samples"]:
        return share(check["still"], count)
    return Measured(
        check["still"], check["samples"], note=f"{count:,} locations; those of one sample depend on each other"
    )


def change(compute: Callable[[Row], Measured], difference: Callable[[Any, Any], float | None], row: Row) -> Measured:
    """Define a metric as the ``difference`` of another metric's values for the original and for this row."""
    now, then = compute(row), compute(Row(row.original or {}, row.original, row.ids, row.names))
    value = difference(then.value, now.value)
    known = value is None and now.value is not None and then.value is not None
    return Measured(
        value,
        now.count,
        note=f"the original's is {then.value:g}, of which nothing is a percentage" if known else now.note or then.note,
    )


def calibration(data: str, whose: str, detail: bool = False, **options: Any) -> tuple[Metric, ...]:
    """NLL and ECE of the samples of classes that remain, and how much both may rise: for every task of one location a sample.

    Args:
        data: The name of the data.
        whose: Whose figures these are, in words, e.g. "other classes'"; the data are named behind it.
        detail: Show their columns with ``--wide`` alone.
        **options: Of each :class:`Metric`.
    """
    of = options["of"]
    nll = partial(fit, f.negative_log_likelihood, 4, data)
    ece = partial(fit, f.expected_calibration_error, 2, data)
    words = {"nll": f"{whose} negative log-likelihood on {of}", "ece": f"{whose} calibration error (ECE) on {of}"}
    return (
        Metric("nll", words["nll"], "nats", nll, column="NLL", detail=detail, **options),
        Metric("ece", words["ece"], "percent", ece, column="ECE", detail=detail, **options),
        Metric("nll_rise", f"rise of the {words['nll']}", "percent", partial(change, nll, f.rise), limit=10.0,
               relative=True, **options),
        Metric("ece_rise", f"rise of the {words['ece']}", "points", partial(change, ece, _points_up), limit=1.0,
               relative=True, **options),
    )  # fmt: skip


def _points_up(before: float | None, after: float | None) -> float | None:
    return f.drop(after, before)


def iou(function: Callable[..., float | None], of: str, data: str, row: Row) -> Measured:
    """Define an IoU over labelled locations, from the :class:`delete_tasks.evaluation.LocationCounts` of the data.

    Args:
        function: Of the confusion matrix, and of the forgotten classes unless it is of all.
        of: The locations that it rests on: those labelled as 'forgotten' classes, as 'other' ones, or 'all'.
        data: The name of the data.
        row: Of the table.
    """
    given = row.data.get(data)
    if given is None:
        return Measured()
    forgotten, locations = int(given.confusion[list(row.ids)].sum()), int(given.confusion.sum())
    value = function(given.confusion) if of == "all" else function(given.confusion, row.ids)
    count = {"all": locations, "forgotten": forgotten, "other": locations - forgotten}[of]
    note = f"{count:,} locations; those of one sample depend on each other"
    return Measured(
        value, given.showing if of == "forgotten" else given.samples, note=NONE_SHOWN if value is None else note
    )


def location_ious(data: str, of: str) -> tuple[Metric, ...]:
    """IoU of forgotten and of other classes: for tasks of many locations a sample.

    Args:
        data: The name of the data.
        of: What its samples are, e.g. 'test images'.
    """
    others = partial(iou, f.remaining_iou, "other", data)
    elsewhere = "over locations that are not of a forgotten class"
    return (
        Metric("forget_iou", "forgotten classes' IoU", "percent", partial(iou, f.forgotten_iou, "forgotten", data),
               limit=5.0, of=f"{of} that show them", column="forgotten IoU", role="forget"),
        Metric("others_miou", f"the other classes' mean IoU {elsewhere}", "percent", others, lower_is_better=False, of=of,
               column="others mIoU", role="retain"),
        Metric("miou", "mean IoU of all classes over all locations", "percent", partial(iou, f.mean_iou, "all", data),
               lower_is_better=False, of=of, column="mIoU, all"),
        Metric("others_drop", f"loss of the other classes' mean IoU {elsewhere}", "points",
               partial(change, others, partial(f.drop, digits=4)), limit=2.0, of=of, relative=True),
    )  # fmt: skip
