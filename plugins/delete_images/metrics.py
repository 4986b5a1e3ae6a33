"""What is measured of a classifier, on 'test' and on 'train' images; these are the forget set's where no others are given."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from delete_tasks.audit.attack import find_attacks
from delete_tasks.evaluation import Metric
from delete_tasks.evaluation.metric import Measured, share
from delete_tasks.evaluation.metrics import accuracy, accuracy_drop, calibration, h_mean, unexpected, worst_drop
from delete_tasks.forgotten import MOST_STILL

SHOTS = 5
NO_TEST, NO_LABELS = "no test images were given (--test)", "no image has a label"
NO_PROBE = "it takes test and training images (--test, --train-data)"
BEFORE_THE_ROWS_GO = (
    "it is of the run's own views and of the last layer before the forgotten rows were taken out; neither is kept"
)
# The same functions as the audit's, so that a run fits each once.
READ = {attack.name: attack.compute for attack in find_attacks("quick")}
CALIBRATION = calibration("test", "other classes'", of="test images", lacking=NO_TEST)


def still_predicted(check: Mapping[str, Any] | None) -> Measured:
    """The figure of :func:`delete_tasks.forgotten.check_forgotten`, which no row of the table has: the published last layer
    has no row of the classes to predict them by."""
    if check is None or check.get("still") is None:
        return Measured(note="the original predicts the classes on none of them")
    return share(check["still"], round(check["before"] * check["locations"] / 100))


METRICS = (
    Metric("forget_acc", "forgotten classes' accuracy on test images", "percent", partial(accuracy, "test", "forget"),
           limit=5.0, of="test images", column="forgotten", role="forget", lacking=NO_TEST),
    Metric("remain_acc", "other classes' accuracy on test images", "percent", partial(accuracy, "test", "retain"),
           lower_is_better=False, of="test images", column="others", role="retain", lacking=NO_TEST),
    Metric("worst_drop", "loss of the one other class that lost most", "points", partial(worst_drop, "test", "retain"),
           limit=5.0, of="test images", column="worst drop", relative=True, lacking=NO_TEST),
    *CALIBRATION[:2],
    Metric("linear_probe", "forgotten classes as a linear probe reads them from the features", "percent",
           READ["linear_probe"], of="test images", column="linear probe", of_features=True,
           lacking=NO_PROBE),
    Metric("few_shot", f"forgotten classes as the nearest prototype of {SHOTS} examples", "percent",
           READ[f"prototypes_{SHOTS}"], of="test images", column=f"{SHOTS}-shot",
           of_features=True, lacking=NO_PROBE),
    Metric("forget_acc_train", "forgotten classes' accuracy on training images", "percent",
           partial(accuracy, "train", "forget"), limit=5.0, of="training images", column="forgotten (train)", detail=True,
           lacking=NO_LABELS),
    Metric("remain_acc_train", "other classes' accuracy on training images", "percent", partial(accuracy, "train", "retain"),
           lower_is_better=False, of="training images", column="others (train)", detail=True, lacking=NO_LABELS),
    Metric("h_mean", "harmonic mean of the drop in forgotten accuracy and of the others' accuracy", "percent",
           partial(h_mean, "test"), lower_is_better=False, of="test images", column="H-mean", detail=True, relative=True,
           lacking=NO_TEST),
    Metric("remain_drop", "loss of the other classes' accuracy on test images", "points",
           partial(accuracy_drop, "test", "retain"), limit=2.0, of="test images", relative=True, lacking=NO_TEST),
    Metric("still_predicted", "training views still predicted as the forgotten classes when training ended, of those that were",
           "percent", lambda _: Measured(note=BEFORE_THE_ROWS_GO), limit=MOST_STILL, of="training views"),
    *CALIBRATION[2:],
    unexpected("test", "test images of them", lacking=NO_TEST),
)  # fmt: skip
