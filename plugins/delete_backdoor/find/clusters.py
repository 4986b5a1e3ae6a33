"""Signs of poison in a training set: two clusters of each class's features, and spectral scores.

Activation clustering (Chen et al., arXiv 1811.03728) and spectral signatures (Tran et al., arXiv 1811.00636).
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delete_tasks.errors import RequestError, require

LEAST = 20  # samples of a class that is split
DIMENSIONS = 10  # of the PCA, as in the paper
SEED = 0  # of PCA and k-means
APART = 0.1  # lowest silhouette of a suspicious class
STANDS_OUT = 1.5  # times the median silhouette of the other classes
SILHOUETTE_ON = 5000  # samples at most: its time and memory grow with their square


@dataclass(frozen=True)
class ClassClusters:
    """One class split in two."""

    smaller: NDArray[np.int64]  # indices of the samples in the cluster; may be empty
    larger: NDArray[np.int64]
    silhouette: float  # mean of the split, -1 to 1; 0 without a second cluster

    @property
    def size(self) -> int:
        return len(self.smaller) + len(self.larger)


def cluster_classes(
    features: NDArray[np.float32], labels: NDArray[np.int64], names: tuple[str, ...]
) -> dict[str, ClassClusters]:
    """Split each class of at least :data:`LEAST` samples in two by k-means on the leading principal components of the last
    layer's input, ``features`` (N, d); refuse to leave no class, and features that are not finite."""
    if not np.isfinite(features).all():
        raise RequestError(
            "the model's features of these images are not all finite: its weights are damaged; get them again"
        )
    members = {name: np.flatnonzero(labels == label) for label, name in enumerate(names)}
    classes = {name: _split(features, indices) for name, indices in members.items() if len(indices) >= LEAST}
    if not classes:
        raise RequestError(
            f"no class has {LEAST} samples or more, too few to tell two clusters apart; give more of the training set"
        )
    return classes


def _split(features: NDArray[np.float32], members: NDArray[np.int64]) -> ClassClusters:
    from sklearn.decomposition import PCA

    points = features[members].astype(np.float64)
    if not points.std(0).any():  # one point, many times: PCA would divide by its variance
        return ClassClusters(members[:0], members, 0.0)
    return split_in_two(PCA(min(DIMENSIONS, *points.shape), random_state=SEED).fit_transform(points), members)


def split_in_two(points: NDArray[np.floating], members: NDArray[np.int64]) -> ClassClusters:
    """Split the samples ``members``, (n,), in two by k-means on their ``points`` (n, d)."""
    require("sklearn", "backdoor")
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import silhouette_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        cluster = KMeans(2, n_init=10, random_state=SEED).fit_predict(points)
    is_smaller = cluster == np.bincount(cluster, minlength=2).argmin()
    if is_smaller.all() or not is_smaller.any():
        return ClassClusters(members[:0], members, 0.0)
    # A share of both clusters of a large class: a plain random choice could miss a small one.
    step = -(-len(points) // SILHOUETTE_ON)
    part = np.concatenate([np.flatnonzero(is_smaller)[::step], np.flatnonzero(~is_smaller)[::step]])
    silhouette = float(silhouette_score(points[part], is_smaller[part]))
    return ClassClusters(members[is_smaller], members[~is_smaller], silhouette)


def suspicious_class(classes: dict[str, ClassClusters]) -> str | None:
    """Find the class whose clusters stand out, or None. Clusters of clean classes are apart as well, and an all-to-one attack has
    one target: it is the class of the highest silhouette, if that is above :data:`APART` and above :data:`STANDS_OUT` times the
    other classes' median."""
    target = max(classes, key=lambda name: classes[name].silhouette)
    others = [split.silhouette for name, split in classes.items() if name != target]
    least = max(APART, STANDS_OUT * float(np.median(others))) if others else APART
    return target if classes[target].silhouette > least else None


def spectral_scores(features: NDArray[np.float32], classes: dict[str, ClassClusters]) -> NDArray[np.float64]:
    """Compute the outlier score of each sample, (N,): the square of its centred features along their first singular vector (Tran
    et al., algorithm 1), over the median of its class; 0 in classes that were not split."""
    score = np.zeros(len(features))
    for split in classes.values():
        members = np.concatenate([split.smaller, split.larger])
        centred = features[members].astype(np.float64)
        centred -= centred.mean(0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        raw = (centred @ directions[0]) ** 2
        score[members] = raw / max(float(np.median(raw)), 1e-12)
    return score
