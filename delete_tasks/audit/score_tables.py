"""Membership from tables of shadow models' scores: likelihood ratios (LiRA), for people who trained shadow models.

An .npz file holds

    shadow    float ``(M, N)``: the score of each of M shadow models for each of N samples, e.g. log p / (1 - p) of the label
    member    bool ``(M, N)``: the sample was in that shadow model's training set (RULI: and was then made to be forgotten)
    target    float ``(N,)``: the score of the model under attack
    is_member bool ``(N,)``: the truth
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError
from .roc import interval_of, rate_at, roc_area

NAMES = ("shadow", "member", "target", "is_member")
FEW = 64  # shadow models of a kind; with fewer, one variance is shared by all samples (Carlini et al., sec. VI-B)
LEAST = 2


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of shadow models and of a target, see the module."""

    shadow: NDArray[np.float64]
    member: NDArray[np.bool_]
    target: NDArray[np.float64]
    is_member: NDArray[np.bool_]


def read_table(path: str | os.PathLike[str]) -> ScoreTable:
    """Read an .npz file; nothing in it is run.

    Raises:
        RequestError: It is none, an array is missing or of another shape, or a score is no number.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in NAMES if name not in file]
            if missing:
                raise RequestError(f"'{path}' lacks {', '.join(missing)}; it holds {', '.join(file) or 'nothing'}")
            shadow, member, target, truth = (file[name] for name in NAMES)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise RequestError(f"'{path}' is no .npz file of numbers ({str(error).splitlines()[0]})") from error
    shape = shadow.shape
    if shadow.ndim != 2 or member.shape != shape or target.shape != shape[1:] or truth.shape != shape[1:]:
        raise RequestError(
            f"'{path}': shadow {shape}, member {member.shape}, target {target.shape}, is_member {truth.shape}; expected (M, N), "
            "(M, N), (N,) and (N,)"
        )
    table = ScoreTable(shadow.astype(np.float64), member.astype(bool), target.astype(np.float64), truth.astype(bool))
    if not (np.isfinite(table.shadow).all() and np.isfinite(table.target).all()):
        raise RequestError(
            f"'{path}' holds scores that are nan or infinite; clip probabilities before taking logarithms"
        )
    if table.is_member.all() or not table.is_member.any():
        raise RequestError(f"'{path}': is_member is the same for all samples; give members and others")
    return table


def likelihood_ratios(table: ScoreTable) -> NDArray[np.float64]:
    """``log N(t; mean in, std in) - log N(t; mean out, std out)`` of each sample, ``(N,)``; with shadow models of one kind alone,
    how improbable the score is among those outside (the offline attack).

    Carlini et al., "Membership Inference Attacks From First Principles", S&P 2022, arXiv 2112.03570, algorithm 1.

    Raises:
        RequestError: A sample has fewer than two shadow models that were trained without it.
    """
    inside, outside = table.member, ~table.member
    if outside.sum(0).min() < LEAST:
        raise RequestError(f"a sample needs at least {LEAST} shadow models that were trained without it")
    mean, std = _normal(table.shadow, outside)
    out = -(((table.target - mean) / std) ** 2) / 2 - np.log(std)
    if inside.sum(0).min() < LEAST:
        return (table.target - mean) / std
    mean, std = _normal(table.shadow, inside)
    return -(((table.target - mean) / std) ** 2) / 2 - np.log(std) - out


def _normal(scores: NDArray[np.float64], chosen: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = chosen.sum(0)
    mean = np.where(chosen, scores, 0).sum(0) / count
    square = np.where(chosen, (scores - mean) ** 2, 0).sum(0)
    std = np.sqrt(square / count) if count.min() >= FEW else np.full(len(mean), np.sqrt(square.sum() / count.sum()))
    return mean, np.maximum(std, 1e-6)


def curve(table: ScoreTable) -> dict[str, Any]:
    """The attack's figures as JSON: ``auc`` in percent with its interval, ``tpr`` at 1% and 0.1% FPR, and ``points``, at most 200
    pairs of false and true positive rate."""
    ratios = likelihood_ratios(table)
    inside, outside = ratios[table.is_member], ratios[~table.is_member]
    thresholds = np.unique(np.quantile(ratios, np.linspace(1, 0, 200)))[::-1]
    return {
        "members": len(inside),
        "others": len(outside),
        "auc": round(100 * roc_area(inside, outside), 2),
        "interval": interval_of(roc_area, inside, outside),
        "tpr": {
            f"{100 * rate:g}%": round(100 * rate_at(inside, outside, rate), 2) if len(outside) * rate >= 1 else None
            for rate in (0.01, 0.001)
        },
        "points": [[round(float((part >= t).mean()), 5) for part in (outside, inside)] for t in thresholds],
    }
