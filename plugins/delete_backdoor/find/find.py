"""The command ``backdoor find``: rank the samples of a training set by how poisoned they look."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from delete_images.data.opening import NO_LABEL, ImageData, open_data
from delete_images.models.model_file import ModelSpec, load_model
from delete_images.opened import predict_images
from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation.functional import percent
from delete_tasks.fileio.atomic import save_json
from delete_tasks.fileio.compute import choose_device, flush_subnormals

from ..poison import read_truth
from ..ranking import RANKING_FORMAT
from ..triggers.estimated import estimate_trigger
from .clusters import ClassClusters, cluster_classes, pattern_clusters, spectral_scores, suspicious_class
from .evidence import Evidence, decide, gather, signs
from .invert import invert
from .show import draw_clusters, draw_inversion, show_inversion, show_ranking

CLUSTERS, INVERSION, TRIGGER = BESIDE = "clusters.png", "trigger.png", "trigger.npy"
MOST_CLASSES = 100  # of a trigger inversion, which takes seconds to minutes for each
Measure = Callable[[ClassClusters, int], dict[str, Evidence]]


@dataclass(frozen=True)
class Suspicion:
    """Result of a search in a training set of N samples."""

    flagged: NDArray[np.bool_]  # (N,), the samples of the cluster that is the poison; none if that is undecided
    score: NDArray[np.float64]  # (N,), the spectral signature's outlier score, over the median of its class
    classes: dict[str, ClassClusters]  # by class name
    suspicious: str | None  # the class whose clusters stand out
    evidence: dict[str, Evidence]  # of its clusters, by 'smaller' and 'larger'; empty without such a class
    poison: str | None  # the cluster that is the poison; None if undecided
    decided_by: str | None  # 'evidence', 'user' or None
    split_by: str = "features"  # or 'pixels': what the suspicious class was split by

    @property
    def order(self) -> NDArray[np.int64]:
        """Samples from the most to the least suspicious: flagged ones first, each part by score."""
        return np.lexsort((-self.score, ~self.flagged))


def suspect(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    names: tuple[str, ...],
    measure: Measure,
    flag: str | None = None,
    patterns: Callable[[], Mapping[str, ClassClusters]] = dict,
) -> Suspicion:
    """Find the class whose clusters stand out, and its cluster that is the poison, from the last layer's input, ``features`` (N,
    d), and the training labels (N,). If the features decide nothing, classes in which some images share a pattern, ``patterns``
    of :func:`pattern_clusters`, are looked at: one is suspicious if the pattern gives its label to other images, and crops or
    blends agree (that features vary is no sign there). ``measure`` gathers a class's evidence from its clusters and label, see
    :func:`gather`. ``flag``, 'smaller' or 'larger', flags that cluster whatever the evidence; refused if no class stands out."""
    classes = cluster_classes(features, labels, names)
    score, flagged = spectral_scores(features, classes), np.zeros(len(labels), dtype=bool)
    suspicious, by, poison = suspicious_class(classes), "features", None
    evidence: dict[str, Evidence] = {}
    if suspicious is not None:
        evidence = measure(classes[suspicious], names.index(suspicious))
        poison = decide(evidence)
    for name, split in patterns().items() if poison is None else ():
        of_pattern = measure(split, names.index(name))
        found = signs(of_pattern)
        if found["pattern"] and {found["hangs_on_place"], found["wins_blends"]} - {None} == {found["pattern"]}:
            suspicious, by, poison, evidence, classes[name] = name, "pixels", found["pattern"], of_pattern, split
            break
    if suspicious is None and flag is not None:
        raise RequestError(f"no class's clusters stand out, so there is no {flag} one to flag; leave --flag out")
    poison = flag or poison
    if suspicious is not None and poison is not None:
        flagged[getattr(classes[suspicious], poison)] = True
    decided_by = None if poison is None else "user" if flag else "evidence"
    return Suspicion(flagged, score, classes, suspicious, evidence, poison, decided_by, by)


def rates(flagged: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float | None]:
    """Compute precision and recall in percent; None for a division by zero."""
    hits = int((flagged & truth).sum())
    return {"precision": percent(hits, int(flagged.sum())), "recall": percent(hits, int(truth.sum()))}


def run(
    model: str,
    text: str,
    out: str | Path,
    console: Console,
    allow_import: bool = False,
    flag: str | None = None,
    inversion: bool = True,
) -> dict[str, Any]:
    """Run ``backdoor find`` on a model folder and a training set's data string: write the ranking to ``out`` (.json), beside it a
    picture of a suspicious class and the estimated trigger, and print the tables. If nothing is flagged, search for a trigger in
    the model itself, see :func:`invert`, unless ``inversion`` is False. ``flag`` as of :func:`suspect`. Refuse unlabelled data, a
    model without rows of features, and too few samples; raise MissingExtraError without scikit-learn or matplotlib."""
    for module in ("sklearn", "matplotlib"):
        require(module, "backdoor")
    flush_subnormals()
    network, spec = load_model(model, allow_import)
    data = open_data(text, "train", spec.classes)
    truth = read_truth(text, data)
    network = network.to(choose_device())
    features = features_of(network, spec, data, text)
    measure = partial(gather, network, spec, data, features)
    patterns = partial(pattern_clusters, data, spec, spec.classes)
    suspicion = suspect(features, data.labels, spec.classes, measure, flag, patterns)
    name, score, flagged = suspicion.suspicious, suspicion.score, suspicion.flagged
    content: dict[str, Any] = {
        "format": RANKING_FORMAT,
        "data": text,
        "flagged": int(flagged.sum()),
        "classes": {
            label: {
                "samples": split.size,
                "smaller_cluster": round(100 * len(split.smaller) / split.size, 2),
                "silhouette": split.silhouette,
                "suspicious": label == name,
            }
            for label, split in suspicion.classes.items()
        },
        "suspicious": None if name is None else _describe(suspicion, name, data),
        "rates": None if truth is None else rates(flagged, truth),
        "samples": [[data.names[i], round(float(score[i]), 4), bool(flagged[i])] for i in suspicion.order],
    }
    save_json(content, out)
    written = [Path(out)]
    if name is not None:
        written.append(beside(out, CLUSTERS))
        draw_clusters(written[1], data, suspicion.classes[name], content["suspicious"])
    size = (*spec.preprocessing.size, 3)
    if flagged.any() and all(data[index][0].shape == size for index in range(len(data))):
        others = ~flagged & (data.labels != spec.classes.index(str(name)))
        written.append(beside(out, TRIGGER))
        estimate_trigger(data.subset(flagged), data.subset(others)).save(written[-1])
    show_ranking(content, len(data), console)
    inverts = inversion and not flagged.any() and len(spec.classes) <= MOST_CLASSES
    found = invert(network, spec, data) if inverts else None
    if inversion and len(spec.classes) > MOST_CLASSES:
        console.print(f"No trigger was searched for in the model: it has over {MOST_CLASSES} classes.")
    if found is not None:
        content["inversion"] = {key: getattr(found, key) for key in ("target", "index", "times", "backdoored", "sizes")}
        save_json(content, out)
        show_inversion(found, console)
        if found.trigger is not None:
            written += [beside(out, TRIGGER), beside(out, INVERSION)]
            found.trigger.save(written[-2])
            draw_inversion(written[-1], data, spec, found)
    console.print(f"Written: {', '.join(map(str, written))}")
    words: tuple[Any, ...] = ()
    if content["flagged"]:
        words = ("--model", model, "--poisoned", out, "--retain", f"{out}?limit=500")
    elif found is not None and found.backdoored:
        trigger = f"estimated:file={beside(out, TRIGGER)}"
        words = ("--model", model, "--retain", text, "--trigger", trigger, "--target", found.target)
    if words:
        command = " ".join(shlex.quote(str(word)) for word in words)
        console.print(f"Next: delete-tasks backdoor clean {command} --work-dir DIR", markup=False, soft_wrap=True)
    return content


def beside(out: str | Path, end: str) -> Path:
    """Name a file beside the ranking, of :data:`BESIDE`: picture of clusters, of the inversion, or the trigger of either."""
    return Path(out).with_name(f"{Path(out).stem}_{end}")


def _describe(suspicion: Suspicion, name: str, data: ImageData) -> dict[str, Any]:
    """Describe both clusters of the suspicious class: their evidence and their samples."""
    return {
        "class": name,
        "poison": suspicion.poison,
        "split_by": suspicion.split_by,
        "decided_by": suspicion.decided_by,
        "signs": signs(suspicion.evidence),
        "clusters": {
            cluster: {**asdict(evidence), "names": [data.names[i] for i in getattr(suspicion.classes[name], cluster)]}
            for cluster, evidence in suspicion.evidence.items()
        },
    }


def features_of(network: nn.Module, spec: ModelSpec, data: ImageData, text: str) -> NDArray[np.float32]:
    """Compute the last layer's input for each image, (N, d). Refuse images without labels, models without a row of features."""
    unlabelled = int((data.labels == NO_LABEL).sum())
    if unlabelled:
        raise RequestError(
            f"{unlabelled} of {len(data)} images in '{text}' have no label, and poison is searched for among the images of one "
            "label; give the labels that the model was trained with"
        )
    features = predict_images(network, spec, data, "Reading features").features
    if features is None:
        raise RequestError("the model's last layer takes no row of features per image, which both methods need")
    return features.numpy()
