"""Membership attacks: on the forgotten classes' training and held-out samples, and the SVC of the unlearning papers' tables."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import require
from ...evaluation.metric import Measured, Row
from ...evaluation.predictions import Predictions, choose
from ..attack import Attack, NotMeasured, members, predictions_of, share_of
from .outputs import Scores, balanced_mean, entropy, interval_of, rate_at, roc_area, threshold_hits

LEAST = 20  # samples of each kind
MOST = 2000  # samples of each kind on which the SVC is trained
LOWEST = 1e-30  # lower bound of a probability in a logarithm


def certainty(predictions: Predictions) -> Scores:
    """Compute the negative entropy of the probabilities, ``(N,)``."""
    return -entropy(predictions.logits).numpy()


def label_score(predictions: Predictions) -> Scores:
    """Compute the label's ``log p / (1 - p)``, ``(N,)`` (arXiv 2112.03570, eq. 5); raise NotMeasured if its logit is cut off."""
    logits = predictions.logits.double()
    label_logits = logits.gather(1, predictions.labels[:, None])
    is_label = torch.nn.functional.one_hot(predictions.labels, logits.shape[1]).bool()
    score = (label_logits[:, 0] - logits.masked_fill(is_label, -torch.inf).logsumexp(1)).numpy()
    if not np.isfinite(score).all():
        raise NotMeasured("the label's logit is minus infinity")
    return score


def _scores(score: Callable[[Predictions], Scores], row: Row) -> tuple[Scores, Scores]:
    """Score the training and the held-out samples of the forgotten classes."""
    splits = ("forget", "test")
    inside, outside = (score(choose(predictions_of(row, i), torch.from_numpy(members(row, i)))) for i in splits)
    fewest = min(len(inside), len(outside))
    if fewest < LEAST:
        raise NotMeasured(f"there are {fewest} training or held-out samples of the classes, fewer than {LEAST}")
    return inside, outside


def _percent(statistic: Callable[[Scores, Scores], float], inside: Scores, outside: Scores) -> Measured:
    value = round(100 * statistic(inside, outside), 2)
    return Measured(value, len(inside) + len(outside), interval_of(statistic, inside, outside))


def area(score: Callable[[Predictions], Scores], row: Row) -> Measured:
    """Measure the AUC in percent; 50 is chance."""
    return _percent(roc_area, *_scores(score, row))


def balanced(row: Row) -> Measured:
    """Measure the balanced accuracy in percent; 50 is chance."""
    return _percent(balanced_mean, *threshold_hits(*_scores(certainty, row)))


def rate(most_false: float, row: Row) -> Measured:
    """Measure the true positive rate in percent at a false positive rate of at most ``most_false``, 0 to 1."""
    inside, outside = _scores(certainty, row)
    least = round(1 / most_false)
    if len(outside) < least:
        too_few = f"{100 * most_false:g}% of {len(outside)} held-out samples is less than one"
        raise NotMeasured(f"{too_few}; {least} of the classes are needed")
    return _percent(partial(rate_at, most_false=most_false), inside, outside)


def modified_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute ``-(1 - p_y) log p_y - sum over i != y of p_i log(1 - p_i)``, float64 ``(N,)``, of logits ``(N, C)`` and int64
    labels ``(N,)`` (Song and Mittal, USENIX Security 2021). Published code of the tables has log p instead of log(1 - p)."""
    p = logits.double().softmax(1)
    is_label = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    p_label, others = p[is_label], p.masked_fill(is_label, 0.0)
    label_term = (1 - p_label) * p_label.clamp(min=LOWEST).log()
    return -label_term - (others * (1 - others).clamp(min=LOWEST).log()).sum(1)


def svc_features(logits: Tensor, labels: Tensor) -> dict[str, Scores]:
    """Compute the SVC's inputs for each sample, ``(N, 1)`` or ``(N, C)``."""
    p = logits.double().softmax(1)
    correct, confidence = (logits.argmax(1) == labels).double(), p.gather(1, labels[:, None])
    values = {"correctness": correct, "confidence": confidence, "entropy": entropy(logits)}
    values |= {"modified_entropy": modified_entropy(logits, labels), "probabilities": p}
    return {name: value.reshape(len(labels), -1).numpy() for name, value in values.items()}


def predicted_members(inside: Scores, outside: Scores, queried: Scores) -> NDArray[np.bool_]:
    """Predict membership of ``queried (m, k)`` by an SVC (C = 3, RBF) on members ``(n, k)`` and as many others ``(n, k)``."""
    require("sklearn", "audit")
    from sklearn.svm import SVC

    labels = np.repeat([1, 0], [len(inside), len(outside)])
    classifier = SVC(C=3, gamma="auto", kernel="rbf").fit(np.concatenate([inside, outside]), labels)
    return np.asarray(classifier.predict(queried) == 1)


def read_membership(row: Row) -> Measured:
    """Measure the percentage of the forget set predicted as members from the confidence; the other inputs are details."""
    kinds = {"inside": ("train", "retain"), "outside": ("test", "retain"), "queried": ("forget", "forget")}
    features, generator = {}, np.random.default_rng(0)
    indices = {name: np.flatnonzero(members(row, *kind)) for name, kind in kinds.items()}
    most = min(MOST, len(indices["inside"]), len(indices["outside"]))
    if most < LEAST:
        raise NotMeasured(f"there are {most} training or held-out samples of kept classes, fewer than {LEAST}")
    for name, (split, _) in kinds.items():
        chosen = indices[name] if name == "queried" else np.sort(generator.choice(indices[name], most, replace=False))
        predictions, at = predictions_of(row, split), torch.from_numpy(chosen)
        features[name] = svc_features(predictions.logits[at], predictions.labels[at])
    hits = {key: predicted_members(*(features[name][key] for name in kinds)) for key in features["queried"]}
    details = {name: round(100 * float(value.mean()), 2) for name, value in hits.items()}
    return share_of(hits["confidence"], details=details)


def _attack(name: str, title: str, compute: object, column: str, guess: float, level: str = "full") -> Attack:
    title = f"training samples of the forgotten classes told from held-out ones: {title}"
    options = {"column": column, "level": level, "chance": lambda row: guess, "source": "arXiv 2112.03570"}
    return Attack(name, title, "percent", compute, of="training and held-out samples", **options)  # type: ignore[arg-type]


ATTACKS = (
    _attack("membership_auc", "AUC of the outputs' certainty", partial(area, certainty), "membership AUC", 50, "quick"),
    _attack("membership_label_auc", "AUC of the label's score", partial(area, label_score), "membership, label", 50),
    _attack("membership_balanced", "balanced accuracy", balanced, "membership, balanced", 50),
    _attack("membership_tpr_1", "TPR at 1% FPR", partial(rate, 0.01), "membership TPR@1%", 1),
    _attack("membership_tpr_01", "TPR at 0.1% FPR", partial(rate, 0.001), "membership TPR@0.1%", 0.1),
    Attack(
        "membership_svc",
        "forget set taken for training samples by the papers' SVC attack",
        "percent",
        read_membership,
        of="samples of the forget set",
        column="membership, SVC",
        level="full",
        source="USENIX Security 2021, Song and Mittal",
    ),
)
