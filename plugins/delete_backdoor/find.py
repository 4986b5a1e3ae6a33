"""Which samples of a training set look poisoned: activation clustering and spectral signatures, both from ART."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from delete_images.data import NO_LABEL, ImageData, open_data
from delete_images.evaluate import answers
from delete_images.model_file import load_model
from delete_images.spec import ModelSpec
from delete_tasks.checkpoint import save_json
from delete_tasks.errors import RequestError, require

from .poison import read_truth
from .samples import RANKING_FORMAT

LEAST = 20  # samples of a class that two clusters can be told apart in
DIMENSIONS = 10
SMALL = 0.35  # of a class: a cluster below it is the odd one by its size alone, as in ART
APART = 0.1  # silhouette, as in ART
STANDS_OUT = 1.5  # times the silhouette of the other classes' median


@dataclass(frozen=True)
class Suspicion:
    """What both methods say of a training set.

    Attributes:
        flagged: bool (N,): in the odd cluster of the class whose clusters lie furthest apart.
        score: float (N,), the spectral signature's outlier score, over the median of its class.
        classes: By class name: samples, share in the odd cluster, silhouette, whether it is suspicious.
    """

    flagged: NDArray[np.bool_]
    score: NDArray[np.float64]
    classes: dict[str, dict[str, Any]]


def _import_art() -> None:
    # On import ART configures logging for the whole process, which closes every log file that is open.
    with mock.patch("logging.config.dictConfig"):
        require("art", "backdoor")


def suspect(
    features: NDArray[np.float32], labels: NDArray[np.int64], names: tuple[str, ...], seed: int = 0
) -> Suspicion:
    """Activation clustering (Chen et al., arXiv 1811.03728) and spectral signatures (Tran et al., arXiv 1811.00636).

    Each class by its labels: features are reduced by PCA and split in two by k-means. Clusters of clean classes lie apart, too,
    and an all-to-one attack has one target: suspicious is the class of the highest silhouette, if that is above 0.1 and above
    1.5 times that of the other classes' median. Its odd cluster is the smaller one if that holds under 35% (ART's rule). Where a
    tenth of ten classes is poisoned, though, poison is half of the target's samples: then the odd cluster is the one whose
    features vary more, as they are of images of nine classes.
    Classes of fewer than 20 samples are not judged.

    Args:
        features: (N, d), the last layer's input.
        labels: (N,), the labels the model was trained with.
        names: Class names.
        seed: Of k-means.

    Raises:
        RequestError: No class has enough samples.
        MissingExtraError: adversarial-robustness-toolbox is not installed.
    """
    _import_art()
    from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense
    from art.estimators.classification import PyTorchClassifier

    logging.getLogger("art").setLevel(logging.ERROR)
    present = [c for c in range(len(names)) if (labels == c).sum() >= LEAST]
    if not present:
        raise RequestError(
            f"no class has {LEAST} samples or more, too few to tell two clusters apart; give more of the training set"
        )
    taken = np.isin(labels, present)
    x, y = features[taken], np.searchsorted(present, labels[taken])
    # ART asks a classifier for activations; ours are there already, so its classifier hands them through.
    through = PyTorchClassifier(
        nn.Sequential(nn.Identity()), nn.CrossEntropyLoss(), x.shape[1:], len(present), device_type="cpu"
    )
    defence = ActivationDefence(through, x, np.eye(len(present))[y])
    state = np.random.get_state()
    np.random.seed(seed)  # its k-means draws from NumPy's global state
    try:
        report, _ = defence.detect_poison(
            nb_clusters=2,
            nb_dims=min(DIMENSIONS, x.shape[1], LEAST),
            reduce="PCA",
            cluster_analysis="silhouette-scores",
        )
    finally:
        np.random.set_state(state)
    flagged, score = np.zeros(len(labels), dtype=bool), np.zeros(len(labels))
    classes = {}
    for place, number in enumerate(present):
        members = np.flatnonzero(labels == number)
        own = features[members]
        # ART scores uncentred features; the paper's algorithm 1 centres them first.
        raw = SpectralSignatureDefense.spectral_signature_scores(own - own.mean(0))[:, 0]
        score[members] = raw / max(float(np.median(raw)), 1e-12)
        # Not ART's own verdict: 1.20 leaves no clean sample in a class that it finds suspicious by silhouette.
        clusters = np.asarray(defence.clusters_by_class[place])
        odd = clusters == _odd_cluster(own, clusters)
        flagged[members] = odd
        classes[names[number]] = {
            "samples": len(members),
            "odd_cluster": round(100 * float(odd.mean()), 2),
            "silhouette": float(report[f"class_{place}"]["avg_silhouette_score"]),
            "suspicious": False,
        }
    target = max(classes, key=lambda name: classes[name]["silhouette"])
    others = [said["silhouette"] for name, said in classes.items() if name != target]
    least = max(APART, STANDS_OUT * float(np.median(others))) if others else APART
    classes[target]["suspicious"] = classes[target]["silhouette"] > least
    flagged &= (labels == names.index(target)) & classes[target]["suspicious"]
    return Suspicion(flagged, score, classes)


def _odd_cluster(features: NDArray[np.float32], clusters: NDArray[np.int64]) -> int:
    """The number of the cluster that would be the poison: the smaller, or, where they are alike in size, the wider."""
    sizes = np.bincount(clusters, minlength=2)
    if sizes.min() < SMALL * sizes.sum():
        return int(sizes.argmin())
    return int(np.argmax([features[clusters == number].var(0).sum() for number in (0, 1)]))


def order(found: Suspicion) -> NDArray[np.int64]:
    """Samples from the most to the least suspicious: flagged ones first, each part by score."""
    return np.lexsort((-found.score, ~found.flagged))


def rates(flagged: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float | None]:
    """Precision and recall in percent; None where there is nothing to divide by."""
    hits = int((flagged & truth).sum())
    return {
        "precision": round(100 * hits / int(flagged.sum()), 2) if flagged.any() else None,
        "recall": round(100 * hits / int(truth.sum()), 2) if truth.any() else None,
    }


def run(model: str, text: str, out: str | Path, console: Console, allow_import: bool = False) -> dict[str, Any]:
    """The command ``backdoor find``: writes the ranking to ``out``.

    Args:
        model: Model folder.
        text: Data string of the suspicious training set, with the labels it was trained with.
        out: Where the ranking goes, ``.json``.
        console: Where the table goes.
        allow_import: As :func:`delete_images.model_file.load_model`.

    Raises:
        RequestError: Data without labels, a model without a row of features, or too few samples.
    """
    if Path(out).suffix != ".json":
        raise RequestError(f"a ranking is written as .json, got '{out}'; give a name that ends in .json")
    torch.set_flush_denormal(True)
    network, spec = load_model(model, allow_import)
    data = open_data(text, "train", spec.classes)
    features = features_of(network, spec, data, text)
    found = suspect(features, data.labels, spec.classes)
    truth = read_truth(text, data)
    ranked = order(found)
    content = {
        "format": RANKING_FORMAT,
        "data": text,
        "flagged": int(found.flagged.sum()),
        "classes": found.classes,
        "rates": None if truth is None else rates(found.flagged, truth),
        "samples": [[data.names[i], round(float(found.score[i]), 4), bool(found.flagged[i])] for i in ranked],
    }
    save_json(content, out)
    show(content, len(data), console)
    console.print(f"Written: {out}. Next: delete-tasks backdoor clean --model {model} --poisoned {out} --work-dir DIR")
    return content


def features_of(network: nn.Module, spec: ModelSpec, data: ImageData, text: str) -> NDArray[np.float32]:
    """The last layer's input for each image, (N, d).

    Raises:
        RequestError: No labels, or no row of features.
    """
    if (data.labels == NO_LABEL).any():
        raise RequestError(
            f"{int((data.labels == NO_LABEL).sum())} of {len(data)} images in '{text}' have no label; poison is looked for among "
            "the images of one label, so give the labels that the model was trained with"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    said = answers(network.to(device), spec, data, "Reading features")
    if said.features is None:
        raise RequestError(
            "the model's last layer does not take one row of features per image, which both methods need"
        )
    return said.features.numpy()


def show(content: dict[str, Any], total: int, console: Console) -> None:
    """Print the table."""
    table = Table(title=f"Activation clustering of {total} samples ({content['flagged']} look poisoned)")
    for title in ("label", "samples", "odd cluster, %", "silhouette", "suspicious"):
        table.add_column(title, justify="left" if title == "label" else "right")
    for name, said in content["classes"].items():
        cells = (str(said["samples"]), f"{said['odd_cluster']:.1f}", f"{said['silhouette']:.3f}")
        table.add_row(name, *cells, "yes" if said["suspicious"] else "no")
    console.print(table)
    if content["rates"] is not None:
        precision, recall = content["rates"]["precision"], content["rates"]["recall"]
        console.print(
            f"Against the truth in the file: precision {_cell(precision)}% (share of flagged samples that are poisoned), recall "
            f"{_cell(recall)}% (share of poisoned samples that are flagged)"
        )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
