"""All attacks on all rows: what ``delete-tasks audit`` and the commands that erase find and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..display.terminal import track
from ..evaluation import Evaluation, cut
from ..evaluation.metric import Measured, Row
from ..evaluation.predictions import Predictions
from .attack import Attack
from .attacks import find_attacks
from .depth import depth, retrained_names, verdict

FORMAT, VERSION = "delete-tasks audit", 1
MODELS = ("original", "logit_cut", "head_only", "erased")  # in order, before the retrained ones


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        attacks: In order.
        rows: By model, a figure for every attack by its name.
        depth: By attack that reads.
        chance: By attack: what it reads of a model that knows nothing; None where nobody can say.
        verdict: See :func:`delete_tasks.audit.depth.verdict`.
        not_measured: Reasons by attack, of those that failed.
        names, ids: Of all classes; the forgotten ones.
        seconds: Spent on attacks.
    """

    attacks: Sequence[Attack]
    rows: Mapping[str, Mapping[str, Measured]]
    depth: Mapping[str, Measured]
    chance: Mapping[str, float | None]
    verdict: Mapping[str, Any]
    not_measured: Mapping[str, str]
    names: Sequence[str]
    ids: Sequence[int]
    seconds: float

    def json(self) -> dict[str, Any]:
        """As audit.json holds it."""
        return {
            "forgotten": [self.names[i] for i in self.ids],
            "attacks": [attack.json() for attack in self.attacks],
            "rows": {name: {key: one.json() for key, one in row.items()} for name, row in self.rows.items()},
            "depth": {name: one.json() for name, one in self.depth.items()},
            "chance": dict(self.chance),
            "verdict": dict(self.verdict),
            "not_measured": dict(self.not_measured),
            "seconds": round(self.seconds, 1),
        }


def with_cut_logit(rows: Mapping[str, Mapping[str, Any]], ids: Sequence[int]) -> dict[str, Mapping[str, Any]]:
    """The rows, with the original's logit cut off as a row of its own after it."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, data in rows.items():
        found[name] = data
        if name == "original" and "logit_cut" not in rows:
            hidden = {key: cut(one, ids) if isinstance(one, Predictions) else one for key, one in data.items()}
            if "context" in hidden:
                hidden["context"] = replace(hidden["context"], network=None)
            found["logit_cut"] = hidden
    return found


def same_features(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two models give the same features of all samples: they differ in the last layer alone, if at all."""
    pairs = []
    for name, one in first.items():
        other = second.get(name)
        if (
            isinstance(one, Predictions)
            and other is not None
            and one.features is not None
            and other.features is not None
        ):
            pairs.append((one.features, other.features))
    return bool(pairs) and all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)


def measure(
    rows: Mapping[str, Mapping[str, Any]],
    ids: Sequence[int],
    names: Sequence[str],
    level: str = "quick",
    known: Mapping[str, Mapping[str, Measured]] | None = None,
) -> Audit:
    """Run attacks on rows.

    Args:
        rows: 'original' and 'erased', and perhaps others: predictions by the name of the data ('forget', 'train', 'test'), and
            a :class:`delete_tasks.audit.attack.Context` under 'context'.
        ids: The forgotten classes.
        names: Of all classes.
        level: 'quick' or 'full'.
        known: By row, figures of attacks that are measured already.
    """
    attacks = find_attacks(level)
    evaluation = Evaluation(attacks, ids, names)

    def work() -> None:
        for name, data in track(rows.items(), len(rows), "Attacks"):
            evaluation.add(name, data, (known or {}).get(name))

    evaluation.attempt("rows", work)
    if "rows" in evaluation.not_measured:
        reason = Measured(note=evaluation.not_measured["rows"])
        for name in ("original", "erased"):
            evaluation.rows.setdefault(name, {attack.name: reason for attack in attacks})
    found: Mapping[str, Mapping[str, Measured]] = evaluation.rows
    retrained = retrained_names(found)
    original = Row(rows["original"], rows["original"], ids, names)
    return Audit(
        attacks,
        found,
        {
            attack.name: depth(
                found["original"][attack.name],
                found["erased"][attack.name],
                [found[name][attack.name] for name in retrained],
            )
            for attack in attacks
            if attack.reads
        },
        {attack.name: None if attack.chance is None else attack.chance(original) for attack in attacks},
        verdict(attacks, found, same_features(rows["original"], rows["erased"])),
        dict(evaluation.not_measured),
        names,
        ids,
        evaluation.seconds,
    )
