"""Functions of a row that the metrics of several tasks share; bind their first arguments with :func:`functools.partial`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import functional as f
from .metric import Measured, Metric, NotMeasured, Row, share
from .predictions import LocationCounts

# Field of a row, and description.
REPLACED_BY = {"unexpected": ("expected", "none of the expected classes"), "avoided": ("avoid", "a class to avoid")}
NO_REPLACING = {
    "expected": "no classes were given that may take their place (--expect)",
    "avoid": "no classes were given to avoid (--avoid)",
}
NONE_SHOWN = "the data contain none of these classes"
UNLABELLED = "the data have no labels"
MOST_STILL = 5.0  # percent still predicted as forgotten, above which a run counts as not having forgotten
LEAST_NLL = 0.1  # nats, so that the default limit of a rise, 10%, is at least 0.01 nats
BEFORE_REPLACEMENT = "only the run measures it, on its training views before forgotten classes' weights were replaced"
OF_ALL = "a function of all samples' probabilities, for which counts give no interval"
CHOSEN_WORST = "the largest loss of all classes, which chance alone makes large"


def _classes(row: Row, which: str) -> Sequence[int]:
    """Select the 'forget', 'retain' or 'all' classes."""
    forgotten = set(row.ids)
    return [i for i in range(len(row.names)) if which == "all" or (i in forgotten) == (which == "forget")]


def _read(data: Mapping[str, Any] | None, name: str) -> Any:
    """Return the predictions of a name; raise :class:`NotMeasured` if there are none."""
    predictions = (data or {}).get(name)
    if predictions is None:
        raise NotMeasured
    return predictions


def dependent(locations: int) -> str:
    """Explain why a share of locations has no interval."""
    return f"{locations:,} locations; those of one sample depend on each other"


def accuracy(data: str, which: str, row: Row) -> Measured:
    """Measure the accuracy in percent on labelled samples of some classes."""
    value, count = f.accuracy(_read(row.data, data).counts, _classes(row, which))
    return share(value, count, note=NONE_SHOWN if value is None else None)


def accuracy_drop(data: str, which: str, row: Row) -> Measured:
    """Measure the drop of that accuracy against the original in points, with the interval of a paired comparison."""
    models = (_read(row.original, data), _read(row.data, data))
    chosen = torch.isin(models[1].labels, torch.tensor(_classes(row, which), dtype=torch.long))
    was_right, right = ((predictions.predicted == predictions.labels)[chosen] for predictions in models)
    count, lost, gained = len(right), int((was_right & ~right).sum()), int((right & ~was_right).sum())
    value = f.drop(f.percent(was_right.sum(), count), f.percent(right.sum(), count))
    return Measured(value, count, f.paired(lost, gained, count), NONE_SHOWN if value is None else None)


def worst_drop(data: str, which: str, row: Row) -> Measured:
    """Measure the drop of accuracy in points of the class that lost most."""
    original, predictions = _read(row.original, data), _read(row.data, data)
    before, after = (f.per_class_accuracy(each.counts) for each in (original, predictions))
    drops = f.class_drops(before, after, _classes(row, which))
    if not drops:
        return Measured(note=NONE_SHOWN)
    worst = max(drops, key=drops.__getitem__)
    return Measured(drops[worst], int(predictions.counts.totals[worst]), note=CHOSEN_WORST, of_class=row.names[worst])


def h_mean(data: str, row: Row) -> Measured:
    """Measure the harmonic mean of the drop in forgotten accuracy and of the remaining accuracy."""
    original, predictions = _read(row.original, data), _read(row.data, data)
    before, after = (f.accuracy(each.counts, _classes(row, "forget"))[0] for each in (original, predictions))
    remaining, count = f.accuracy(predictions.counts, _classes(row, "retain"))
    lost = f.drop(before, after, 10)
    if lost is None or remaining is None:
        return Measured(None, count)
    return Measured(f.h_mean(lost, remaining), count, note="a mean of two figures, which has no interval of its own")


def fit(function: Callable[[Tensor, Tensor], float], digits: int, data: str, row: Row) -> Measured:
    """Measure the fit of all classes' probabilities to the labels, on samples of remaining classes."""
    predictions = _read(row.data, data)
    return fit_of(function, digits, predictions.logits, predictions.labels, row.ids)


def fit_of(
    function: Callable[[Tensor, Tensor], float], digits: int, logits: Tensor, labels: Tensor, ids: Sequence[int]
) -> Measured:
    """Measure :func:`fit` on logits ``(N, C)`` and labels ``(N,)``, -1 for none."""
    retained = (labels >= 0) & ~torch.isin(labels, torch.tensor(list(ids)))
    if not retained.any():
        return Measured(note=NONE_SHOWN)
    return Measured(round(function(logits[retained], labels[retained]), digits), int(retained.sum()), note=OF_ALL)


def replaced_by(name: str, data: str, of: str, **options: Any) -> Metric:
    """Define the percentage of the forgotten classes' labelled samples or locations that are predicted as none of the expected
    classes ('unexpected', ``--expect``) or as classes to avoid ('avoided', ``--avoid``)."""
    field, which = REPLACED_BY[name]

    def compute(row: Row) -> Measured:
        named = list(getattr(row, field))
        if not named:
            return Measured(note=NO_REPLACING[field])
        predictions = _read(row.data, data)
        if isinstance(predictions, LocationCounts):
            predicted_as = predictions.confusion[list(row.ids)].sum(0)
        else:
            forgotten = torch.isin(predictions.labels, torch.tensor(list(row.ids)))
            predicted_as = torch.bincount(predictions.predicted[forgotten], minlength=len(row.names))
        total, part = int(predicted_as.sum()), int(predicted_as[named].sum())
        value = f.percent(part if name == "avoided" else total - part, total)
        note = NONE_SHOWN if value is None else None
        if isinstance(predictions, LocationCounts):
            return Measured(value, predictions.showing, note=note or dependent(total))
        return share(value, total, note=note)

    title = f"forgotten classes' share that is predicted as {which}"
    return Metric(name, title, "percent", compute, of=of, column=name, **options)


def still_predicted(of: str) -> Metric:
    """Define the metric of :func:`delete_tasks.runner.forget_check.check_forgotten`, which only the run can measure: the
    published last layer has no weights that predict the classes. :func:`still_predicted_of` is the erased model's figure."""
    title = f"{of} still predicted as the forgotten classes when training ended, of those that were"
    unknown = Measured(note=BEFORE_REPLACEMENT)
    return Metric("still_predicted", title, "percent", lambda _: unknown, limit=MOST_STILL, of=of, predicts=True)


def still_predicted_of(check: Mapping[str, Any] | None) -> Measured:
    """Read the figure from a run's ``forget_check``."""
    if check is None:
        return Measured(note="only the run measures it, and its check is not known")
    if check.get("still") is None:
        return Measured(note="the original predicts none of them as the forgotten classes")
    count = round(check["before"] * check["locations"] / 100)
    if check["locations"] == check["samples"]:
        return share(check["still"], count)
    return Measured(check["still"], check["samples"], note=dependent(count))


def change(compute: Callable[[Row], Measured], difference: Callable[[Any, Any], float | None], row: Row) -> Measured:
    """Measure the ``difference`` of another metric's values for the original and for this row."""
    after, before = compute(row), compute(replace(row, data=row.original or {}))
    return Measured(difference(before.value, after.value), after.count, note=after.note or before.note)


def _nll_rise(nll: Callable[[Row], Measured], row: Row) -> Measured:
    figure = change(nll, partial(f.rise, least=LEAST_NLL), row)
    before = nll(replace(row, data=row.original or {})).value
    if before is None or before >= LEAST_NLL:
        return figure
    return replace(figure, note=f"in percent of {LEAST_NLL} nats, since the original's is {before:g}; {figure.note}")


def calibration(data: str, whose: str, detail: bool = False, **options: Any) -> tuple[Metric, ...]:
    """Define NLL and ECE on samples of the remaining classes, and their rise; titles begin with ``whose`` ("other classes'")."""
    of = options["of"]
    nll = partial(fit, f.negative_log_likelihood, 4, data)
    ece = partial(fit, f.expected_calibration_error, 2, data)
    titles = {"nll": f"{whose} negative log-likelihood on {of}", "ece": f"{whose} calibration error (ECE) on {of}"}
    return (
        Metric("nll", titles["nll"], "nats", nll, column="NLL", detail=detail, **options),
        Metric("ece", titles["ece"], "percent", ece, column="ECE", detail=detail, **options),
        Metric("nll_rise", f"rise of the {titles['nll']}", "percent", partial(_nll_rise, nll), limit=10.0,
               relative=True, **options),
        Metric("ece_rise", f"rise of the {titles['ece']}", "points",
               partial(change, ece, lambda before, after: f.drop(after, before)), limit=1.0, relative=True, **options),
    )  # fmt: skip


def iou(function: Callable[..., float | None], of: str, data: str, row: Row) -> Measured:
    """Measure an IoU from the :class:`LocationCounts` of the data, over the locations labelled as 'forgotten' classes, as 'other'
    classes, or 'all' (``of``). ``function`` takes the confusion matrix and, unless ``of`` is 'all', the forgotten classes."""
    predictions = _read(row.data, data)
    if not predictions.labelled:
        raise NotMeasured(UNLABELLED)
    confusion = predictions.confusion
    forgotten, locations = int(confusion[list(row.ids)].sum()), int(confusion.sum())
    value = function(confusion) if of == "all" else function(confusion, row.ids)
    count = {"all": locations, "forgotten": forgotten, "other": locations - forgotten}[of]
    samples = predictions.showing if of == "forgotten" else predictions.samples
    return Measured(value, samples, note=NONE_SHOWN if value is None else dependent(count))


def location_ious(data: str, of: str) -> tuple[Metric, ...]:
    """Define the IoU of forgotten and other classes for many locations per sample. ``of`` names the samples of ``data``."""
    others = partial(iou, f.remaining_iou, "other", data)
    elsewhere = "over locations that are not of a forgotten class"
    return (
        Metric("forget_iou", "forgotten classes' IoU", "percent", partial(iou, f.forgotten_iou, "forgotten", data),
               limit=5.0, of=f"{of} that show them", column="forgotten IoU", role="forget",
               predicts=True),
        Metric("others_miou", f"the other classes' mean IoU {elsewhere}", "percent", others, lower_is_better=False, of=of,
               column="others mIoU", role="retain"),
        Metric("miou", "mean IoU of all classes over all locations", "percent", partial(iou, f.mean_iou, "all", data),
               lower_is_better=False, of=of, column="mIoU, all"),
        Metric("others_drop", f"loss of the other classes' mean IoU {elsewhere}", "points",
               partial(change, others, partial(f.drop, digits=4)), limit=2.0, of=of, relative=True),
    )  # fmt: skip


def location_agreement(data: str, of: str) -> tuple[Metric, ...]:
    """Define figures of samples without labels, for tasks with many locations per sample: agreement with the original where it
    predicts other classes, and how much of its predictions of the forgotten classes is left."""

    def share_of(forgotten: bool, row: Row) -> Measured:
        counts = _read(row.data, data)
        if counts.labelled:
            raise NotMeasured("the data have labels")
        ids = _classes(row, "forget" if forgotten else "retain")
        part = counts.confusion[ids]
        same = part[:, ids].sum() if forgotten else part[:, ids].trace()
        note = dependent(int(part.sum())) if part.any() else "the original predicts none of these classes"
        return Measured(f.percent(same, part.sum()), counts.showing if forgotten else counts.samples, note=note)

    title = "locations that the original assigns to {}, and this model as well"
    return (
        Metric("agreement", title.format("other classes"), "percent", partial(share_of, False), lower_is_better=False, of=of,
               column="agreement", role="retain"),
        Metric("still_assigned", title.format("the forgotten classes"), "percent", partial(share_of, True),
               of=f"{of} that show them", column="still assigned", role="forget", predicts=True),
    )  # fmt: skip
