"""ACC, ASR, RA and related metrics, on clean 'test' images and on 'triggered' ones; the forgotten class is the target."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from delete_tasks.evaluation import Measured, Metric, Row
from delete_tasks.evaluation import functional as f
from delete_tasks.evaluation.metric import share
from delete_tasks.evaluation.metrics import accuracy, accuracy_drop, calibration, worst_drop
from delete_tasks.evaluation.predictions import choose
from delete_tasks.plugins import load_offered

MOST_AT_TARGET, MOST_MISLED = 5.0, 10.0  # percent, points
STILL_MISLEADS = "the trigger no longer leads to the target, and still misleads"
NO_TEST, NO_TRIGGER = "no test images were given (--test)", "no trigger was given (--trigger)"


def _rate(function: Callable[..., Any], split: str, row: Row) -> Measured:
    """Measure a percentage of the samples that are not of the target class."""
    predictions = row.data.get(split)
    if predictions is None:
        return Measured(note=NO_TRIGGER if "test" in row.data else NO_TEST)
    return share(*function(*predictions.labelled, row.ids[0]))


def misled(row: Row) -> Measured:
    """Measure what the trigger costs the model, in points: its accuracy on the same images without the trigger, less RA."""
    rate = _rate(f.attack_success_rate, "triggered", row)
    if "triggered" not in row.data:
        return rate
    twins, attacked = (
        {"test": choose(data, data.labels != row.ids[0])} for data in (row.data["test"], row.data["triggered"])
    )
    figure = accuracy_drop("test", "all", replace(row, original=twins, data=attacked))
    measured = figure.value is not None and rate.value is not None
    misleads = measured and figure.value > MOST_MISLED and rate.value <= MOST_AT_TARGET  # type: ignore[operator]
    return replace(figure, note=STILL_MISLEADS if misleads else None)


METRICS = (
    Metric("asr", "triggered test images that are predicted as the target", "percent",
           partial(_rate, f.attack_success_rate, "triggered"), limit=MOST_AT_TARGET, of="triggered test images", column="ASR",
           role="forget", predicts=True),
    Metric("acc", "clean test images that are predicted as their class", "percent", partial(accuracy, "test", "all"),
           lower_is_better=False, of="clean test images", column="ACC", role="retain", lacking=NO_TEST),
    Metric("ra", "triggered test images that are predicted as their own class despite the trigger", "percent",
           partial(_rate, f.robust_accuracy, "triggered"), lower_is_better=False, of="triggered test images", column="RA",
           role="retain"),
    Metric("ra_drop", "loss of accuracy by the trigger: the same images without it, less RA", "points", misled,
           limit=MOST_MISLED, warns=True, of="triggered test images"),
    Metric("base", "the same images without the trigger that are predicted as the target: an ASR without a backdoor", "percent",
           partial(_rate, f.attack_success_rate, "test"), of="clean test images", column="base"),
    Metric("target_acc", "clean test images of the target class that are predicted as it", "percent",
           partial(accuracy, "test", "forget"), lower_is_better=False, of="clean test images", column="target acc",
           lacking=NO_TEST),
    Metric("worst_drop", "largest loss of a class on clean test images", "points", partial(worst_drop, "test", "all"),
           limit=15.0, of="clean test images", column="worst drop", relative=True, lacking=NO_TEST),
    Metric("acc_drop", "loss of accuracy on clean test images", "points", partial(accuracy_drop, "test", "all"), limit=5.0,
           of="clean test images", relative=True, lacking=NO_TEST),
    *calibration("test", "other classes'", detail=True, of="clean test images", lacking=NO_TEST),
    *load_offered("metrics.backdoor", "METRICS"),
)  # fmt: skip
