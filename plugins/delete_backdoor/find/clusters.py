"""Two clusters of each class's features and spectral scores: what the poison of a training set stands out by.

Activation clustering (Chen et al., arXiv 1811.03728) and spectral signatures (Tran et al., arXiv 1811.00636).
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delete_tasks.errors import RequestError, require
from delete_tasks.request.ranges import whole

LEAST = 20  # samples of a class that two clusters can be told apart in
DIMENSIONS = 10  # of the PCA, as in the paper
APART = 0.1  # least silhouette of a suspicious class
STANDS_OUT = 1.5  # times the silhouette of the other classes' median
SILHOUETTE_ON = 5000  # samples at most: its time and memory grow with their square


@dataclass(frozen=True)
class ClassClusters:
    """One class split in two.

    Attributes:
        smaller, larger: int64 indices of samples in each cluster; ``smaller`` may be empty.
        silhouette: Mean silhouette of the split, -1 to 1; 0 where there is no second cluster.
    """

    smaller: NDArray[np.int64]
    larger: NDArray[np.int64]
    silhouette: float

    @property
    def size(self) -> int:
        return len(self.smaller) + len(self.larger)


def cluster_classes(
    features: NDArray[np.float32], labels: NDArray[np.int64], names: tuple[str, ...], seed: int = 0
) -> dict[str, ClassClusters]:
    """Split each class of at least :data:`LEAST` samples in two by k-means on the leading principal components.

    Args:
        features: (N, d), the last layer's input.
        labels: (N,), the labels the model was trained with.
        names: Class names.
        seed: Of PCA and k-means.

    Raises:
        RequestError: No class has enough samples, features are not finite, or a seed that is none.
        MissingExtraError: scikit-learn is not installed.
    """
    whole("seed", seed, 0, 2**32 - 1)
    if not np.isfinite(features).all():
        raise RequestError(
            "the model's features of these images are not all finite: its weights are damaged; get them again"
        )
    found = {}
    for number, name in enumerate(names):
        members = np.flatnonzero(labels == number)
        if len(members) >= LEAST:
            found[name] = _split(features[members], members, seed)
    if not found:
        raise RequestError(
            f"no class has {LEAST} samples or more, too few to tell two clusters apart; give more of the training set"
        )
    return found


def _split(own: NDArray[np.float32], members: NDArray[np.int64], seed: int) -> ClassClusters:
    require("sklearn", "backdoor")
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import silhouette_score

    if not own.std(0).any():  # one point, many times: PCA would divide by its variance
        return ClassClusters(members[:0], members, 0.0)
    reduced = PCA(min(DIMENSIONS, *own.shape), random_state=seed).fit_transform(own.astype(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        number = KMeans(2, n_init=10, random_state=seed).fit_predict(reduced)
    odd = number == np.bincount(number, minlength=2).argmin()
    if odd.all() or not odd.any():
        return ClassClusters(members[:0], members, 0.0)
    # Of a large class a share of both clusters: a plain random choice could miss a small one.
    step = -(-len(own) // SILHOUETTE_ON)
    part = np.concatenate([np.flatnonzero(odd)[::step], np.flatnonzero(~odd)[::step]])
    silhouette = float(silhouette_score(reduced[part], odd[part]))
    return ClassClusters(members[odd], members[~odd], silhouette)


def suspicious_class(classes: dict[str, ClassClusters]) -> str | None:
    """Find the class whose clusters stand out, or None.

    Clusters of clean classes lie apart, too, and an all-to-one attack has one target: it is the class of the highest
    silhouette, if that is above :data:`APART` and above :data:`STANDS_OUT` times the other classes' median.
    """
    target = max(classes, key=lambda name: classes[name].silhouette)
    others = [split.silhouette for name, split in classes.items() if name != target]
    least = max(APART, STANDS_OUT * float(np.median(others))) if others else APART
    return target if classes[target].silhouette > least else None


def spectral_scores(features: NDArray[np.float32], classes: dict[str, ClassClusters]) -> NDArray[np.float64]:
    """Outlier score of each sample, (N,): the square of its centred features along their first singular vector (Tran et al.,
    algorithm 1), over the median of its class. 0 in classes that were not split.
    """
    score = np.zeros(len(features))
    for split in classes.values():
        members = np.concatenate([split.smaller, split.larger])
        centred = features[members].astype(np.float64)
        centred -= centred.mean(0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        raw = (centred @ directions[0]) ** 2
        score[members] = raw / max(float(np.median(raw)), 1e-12)
    return score
