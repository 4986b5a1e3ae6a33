"""The membership attack of the unlearning papers' tables: a support vector classifier trained on kept classes' samples."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import require
from ...evaluation.metric import Measured, Row
from ..attack import Attack, NotMeasured, given, members, share_of
from .outputs import entropy

MOST, LEAST = 2000, 20  # samples of each kind that it is trained on
LOWEST = 1e-30  # of a probability in a logarithm


def modified_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-(1 - p_y) log p_y - sum over i != y of p_i log(1 - p_i)``, float64 ``(N,)`` (Song and Mittal, USENIX Security 2021).

    Published code of the tables has log p where log(1 - p) belongs.

    Args:
        logits: ``(N, C)``.
        labels: int64 ``(N,)``.
    """
    p = logits.double().softmax(1)
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    mine = p[own]
    others = p.masked_fill(own, 0.0)
    return -(1 - mine) * mine.clamp(min=LOWEST).log() - (others * (1 - others).clamp(min=LOWEST).log()).sum(1)


def scores_of(logits: Tensor, labels: Tensor) -> dict[str, NDArray[np.float64]]:
    """The attack's figures of each sample, each ``(N, 1)`` or ``(N, C)``."""
    p = logits.double().softmax(1)
    found = {
        "correctness": (logits.argmax(1) == labels).double(),
        "confidence": p.gather(1, labels[:, None])[:, 0],
        "entropy": entropy(logits),
        "modified_entropy": modified_entropy(logits, labels),
        "probabilities": p,
    }
    return {name: value.reshape(len(labels), -1).numpy() for name, value in found.items()}


def called_members(
    inside: NDArray[np.float64], outside: NDArray[np.float64], asked: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which samples a support vector classifier (scikit-learn; C = 3, RBF kernel) takes for members.

    Args:
        inside: Figures ``(n, k)`` of members.
        outside: Of as many that are none.
        asked: ``(m, k)``.
    """
    require("sklearn", "audit")
    from sklearn.svm import SVC

    known = np.repeat([1, 0], [len(inside), len(outside)])
    classifier = SVC(C=3, gamma="auto", kernel="rbf").fit(np.concatenate([inside, outside]), known)
    return np.asarray(classifier.predict(asked) == 1)


def read_membership(row: Row) -> Measured:
    """Percent of the forget set that is taken for members by the confidence; other figures' are details."""
    rows = {"inside": ("train", "retain"), "outside": ("test", "retain"), "asked": ("forget", "forget")}
    found, generator = {}, np.random.default_rng(0)
    places = {name: np.flatnonzero(members(row, *which)) for name, which in rows.items()}
    most = min(MOST, len(places["inside"]), len(places["outside"]))
    if most < LEAST:
        raise NotMeasured(f"there are {most} samples of kept classes of a kind, and fewer than {LEAST} train nothing")
    for name, (split, _) in rows.items():
        chosen = places[name] if name == "asked" else np.sort(generator.choice(places[name], most, replace=False))
        whole = given(row, split)
        found[name] = scores_of(whole.logits[torch.from_numpy(chosen)], whole.labels[torch.from_numpy(chosen)])
    hits = {figure: called_members(*(found[name][figure] for name in rows)) for figure in found["asked"]}
    return share_of(
        hits["confidence"], details={name: round(100 * float(value.mean()), 2) for name, value in hits.items()}
    )


ATTACKS = (
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
