"""What is measured of a classifier, on 'test' and on 'train' images; these are the forget set's where no others are given."""

from __future__ import annotations

from functools import partial

from delete_tasks.audit.attack import find_attacks
from delete_tasks.evaluation import Metric
from delete_tasks.evaluation.metrics import (
    accuracy,
    accuracy_drop,
    calibration,
    h_mean,
    still_predicted,
    unexpected,
    worst_drop,
)

SHOTS = 5
NO_TEST, NO_LABELS = "no test images were given (--test)", "no image has a label"
NO_PROBE = "it takes test and training images (--test, --train-data)"
# The same functions as the audit's, so that a run fits each once.
READ = {attack.name: attack.compute for attack in find_attacks("quick")}
CALIBRATION = calibration("test", "other classes'", of="test images", lacking=NO_TEST)


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
    still_predicted("training views"),
    *CALIBRATION[2:],
    unexpected("test", "test images of them", lacking=NO_TEST),
)  # fmt: skip
