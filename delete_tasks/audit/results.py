"""Results of all attacks on all models, as ``delete-tasks audit`` and the erasing commands write them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..display.progress import track
from ..evaluation import Evaluation
from ..evaluation.metric import Measured, Metric, Row
from ..evaluation.predictions import Predictions, cut
from .attack import Attack, NotMeasured, members, resampled_means, share_of
from .attacks import find_attacks
from .verdict import Reading, decide

FORMAT, VERSION = "delete-tasks audit", 1
ALIKE = "a retrained model is read as well as the original, so depth is undefined"
MODELS = ("original", "logit_cut", "head_only", "erased")  # in order; further erased, and retrained models follow
Rows = Mapping[str, Mapping[str, Any]]  # predictions by model and split


@dataclass(frozen=True)
class Audit:
    """Results of an audit. ``rows`` are figures by model and attack, ``depth`` is by attack that reads, ``chance`` by attack the
    figure of a model without information about the class (None: unknown); ``verdict`` is that on the first erased model,
    ``further`` those on others by name; ``not_measured`` are the reasons by name of what failed; ``names`` are those of all
    classes, ``ids`` the forgotten ones, ``seconds`` the time spent on attacks."""

    attacks: Sequence[Attack]
    rows: Mapping[str, Mapping[str, Measured]]
    depth: Mapping[str, Measured]
    chance: Mapping[str, float | None]
    verdict: Mapping[str, Any]
    further: Mapping[str, Mapping[str, Any]]
    not_measured: Mapping[str, str]
    names: Sequence[str]
    ids: Sequence[int]
    seconds: float

    def json(self) -> dict[str, Any]:
        """Return the content of audit.json."""
        return {
            "forgotten": [self.names[i] for i in self.ids],
            "attacks": [attack.json() for attack in self.attacks],
            "rows": {name: {key: figure.json() for key, figure in row.items()} for name, row in self.rows.items()},
            "depth": {name: figure.json() for name, figure in self.depth.items()},
            "chance": dict(self.chance),
            "not_measured": dict(self.not_measured),
            "seconds": round(self.seconds, 1),
        }


def with_cut_logit(rows: Rows, ids: Sequence[int]) -> dict[str, Mapping[str, Any]]:
    """Insert the row 'logit_cut' after the original's: the original without the forgotten classes' logits."""
    all_rows: dict[str, Mapping[str, Any]] = {}
    for name, data in rows.items():
        all_rows[name] = data
        if name == "original" and "logit_cut" not in rows:
            hidden = {key: cut(value, ids) if isinstance(value, Predictions) else value for key, value in data.items()}
            if "context" in hidden:
                hidden["context"] = replace(hidden["context"], network=None)
            all_rows["logit_cut"] = hidden
    return all_rows


def same_features(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return True if two models have the same features of all samples, so that they differ in the last layer at most."""
    splits = [name for name, data in first.items() if isinstance(data, Predictions) and name in second]
    both = [(first[name].features, second[name].features) for name in splits]
    pairs = [(a, b) for a, b in both if a is not None and b is not None]
    return bool(pairs) and all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)


def measure(
    rows: Mapping[str, Mapping[str, Any]],
    ids: Sequence[int],
    names: Sequence[str],
    level: str = "quick",
    known: Mapping[str, Mapping[str, Measured]] | None = None,
    readings: Sequence[Reading] = (),
    predicted: Mapping[str, Measured] | None = None,
) -> Audit:
    """Run the attacks of a ``level``, 'quick' or 'full', on models. ``rows`` are predictions by model ('original', 'erased' and
    others) and split ('forget', 'train', 'test'), with an :class:`.attack.Context` as 'context'; ``ids`` are the forgotten
    classes, ``names`` those of all. Figures that are ``known`` already, by model and attack, are not measured. ``readings`` and
    ``predicted`` are further evidence for :func:`delete_tasks.audit.verdict.decide`."""
    attacks = [attack for attack in find_attacks(level) if attack.needs is None or attack.needs in rows["original"]]
    evaluation = Evaluation(attacks, ids, names)
    for name, data in track(rows.items(), len(rows), "Attacks"):
        evaluation.add(name, data, (known or {}).get(name))
    figures, original = evaluation.rows, Row(rows["original"], rows["original"], ids, names)
    depths = {}
    for name in (attack.name for attack in attacks if attack.reads):
        retrained = [figures[row][name] for row in names_of("retrained", figures)]
        depths[name] = depth(figures["original"][name], figures["erased"][name], retrained)
    chance = {attack.name: None if attack.chance is None else attack.chance(original) for attack in attacks}

    readers = [attack for attack in attacks if attack.reads and attack.of_features]

    def judge(model: str) -> Mapping[str, Any]:
        judged = {**figures, "erased": figures[model]}
        return decide(
            [*(reading_of(attack, judged, chance[attack.name]) for attack in readers), *readings],
            predicted={**(predicted or {}), **_predicted(rows[model], ids, names)},
            same_features=same_features(rows["original"], rows[model]),
        )

    further = {name: judge(name) for name in names_of("erased", figures)}
    verdict, lacking = further.pop("erased"), evaluation.not_measured
    return Audit(attacks, figures, depths, chance, verdict, further, lacking, names, ids, evaluation.seconds)


def names_of(kind: str, rows: Iterable[str]) -> list[str]:
    """Return the names of the models 'erased' or 'retrained' (which never saw the classes), of which there may be several."""
    return [name for name in rows if name == kind or (name.startswith(f"{kind}_") and name[len(kind) + 1 :].isdigit())]


def depth(original: Measured, erased: Measured, retrained: Sequence[Measured]) -> Measured:
    """Compute ``(original - erased) / (original - mean of retrained)``: 0 if the class is only hidden, 1 for a retrained model.
    The bootstrap interval needs figures of the same samples. There is no value if a figure is missing, or if the original's is
    not above the retrained models'."""
    values = [figure.value for figure in retrained if figure.value is not None]
    if original.value is None or erased.value is None:
        return Measured(note="the original or the erased model was not read")
    if not values:
        return Measured(note=next((figure.note for figure in retrained if figure.note), "no retrained model is given"))
    gap = original.value - float(np.mean(values))
    samples = [figure.samples for figure in (original, erased, *retrained)]
    paired = [values for values in samples if values is not None]
    if abs(gap) < 1e-9:
        return Measured(note=ALIKE)
    value = round((original.value - erased.value) / gap, 3)
    if len(paired) < len(samples) or len({len(values) for values in paired}) > 1:
        return Measured(value, erased.count, note="the figures are not of the same samples, so there is no interval")
    means = resampled_means(*paired)
    gaps = means[0] - np.mean(means[2:], 0)
    least, most = np.percentile(gaps, [2.5, 97.5])
    if least <= 0 <= most:
        return Measured(note=ALIKE)
    nonzero = gaps != 0
    low, high = np.percentile((means[0] - means[1])[nonzero] / gaps[nonzero], [2.5, 97.5])
    return Measured(value, erased.count, (round(float(low), 3), round(float(high), 3)))


def reading_of(metric: Metric, rows: Mapping[str, Mapping[str, Measured]], chance: float | None) -> Reading:
    """Collect the figures of an attack, or of a task's metric that reads, from the rows of a table."""
    models = ("original", "erased", *names_of("retrained", rows))
    original, erased, *retrained = (rows.get(row, {}).get(metric.name, Measured()) for row in models)
    return Reading(metric.name, str(metric.column), metric.unit, original, erased, retrained, chance)


def _predicted(erased: Mapping[str, Any], ids: Sequence[int], names: Sequence[str]) -> dict[str, Measured]:
    """Measure the percentage of the forgotten classes' held-out samples predicted as these; empty without such samples."""
    try:
        own = torch.from_numpy(members(Row(erased, None, ids, names), "test"))
    except NotMeasured:
        return {}
    hits = torch.isin(erased["test"].predicted[own], torch.tensor(list(ids)))
    return {"held-out samples of the forgotten classes predicted as these": share_of(hits.numpy())}
