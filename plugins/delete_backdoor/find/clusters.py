"""Signs of poison: two clusters of a class's features (arXiv 1811.03728) or pixels, and spectral scores (arXiv 1811.00636)."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delete_images.data.opening import ImageData
from delete_images.look import as_seen
from delete_images.models.spec import ModelSpec
from delete_tasks.errors import RequestError, require

LEAST = 20  # samples of a class that is split
DIMENSIONS = 10  # of the PCA, as in the paper
SEED = 0  # of PCA and k-means
APART = 0.1  # lowest silhouette of a suspicious class
STANDS_OUT = 1.5  # times the median silhouette of the other classes
SILHOUETTE_ON = 5000  # samples at most: its time and memory grow with their square
# Of groups of images by their pixels.
SIDE = 32  # pixels of the images that are compared, at most
IMAGES_EACH = 1.5  # images for each number of an image, at least: fewer do not give a covariance
RIDGE = 1e-3  # of the mean variance, added to each
DIRECTIONS = 3  # of each class
FEWEST = 20  # images of a group: the mean of a few is their content, not a pattern
GROUPS_APART = 0.6  # silhouette of the groups, at least
TWO_GROUPS = 30.0  # kurtosis of a direction with two groups, at most: one odd image in a class has hundreds


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
    """Split classes of :data:`LEAST` samples or more in two by k-means on principal components of (N, d); refuse none."""
    if not np.isfinite(features).all():
        raise RequestError("the model's features are not all finite: its weights are damaged; get them again")
    members = {name: np.flatnonzero(labels == label) for label, name in enumerate(names)}
    classes = {name: _split(features, indices) for name, indices in members.items() if len(indices) >= LEAST}
    if not classes:
        raise RequestError(f"no class has {LEAST} samples to tell two clusters apart; give more of the training set")
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
    """Find the class of the highest silhouette, the one target of an all-to-one attack, if that is above :data:`APART` and above
    :data:`STANDS_OUT` times the other classes' median (clusters of clean classes are apart as well); else None."""
    target = max(classes, key=lambda name: classes[name].silhouette)
    others = [split.silhouette for name, split in classes.items() if name != target]
    least = max(APART, STANDS_OUT * float(np.median(others))) if others else APART
    return target if classes[target].silhouette > least else None


def spectral_scores(features: NDArray[np.float32], classes: dict[str, ClassClusters]) -> NDArray[np.float64]:
    """Compute outlier scores (N,): squares along the first singular vector over their class's median (Tran et al., alg. 1)."""
    score = np.zeros(len(features))
    for split in classes.values():
        members = np.concatenate([split.smaller, split.larger])
        centred = features[members].astype(np.float64)
        centred -= centred.mean(0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        raw = (centred @ directions[0]) ** 2
        score[members] = raw / max(float(np.median(raw)), 1e-12)
    return score


def pattern_clusters(data: ImageData, spec: ModelSpec, names: tuple[str, ...]) -> dict[str, ClassClusters]:
    """Split the classes of N labelled images in which a group of :data:`FEWEST` images or more shares a pattern, by pixels alone;
    often none. One pattern that is added to, blended into or pasted on many images moves them along one direction. It is faint
    beside what photos differ in, but photos differ little in fine detail. So pixels are whitened by the covariance within
    classes, and each class is split along the direction in which it then varies most: in a clean class that is one odd image,
    with a trigger two groups. The idea of spectral signatures and whitening (SPECTRE, Hayase et al., arXiv 2104.11315), on
    pixels, which see a trigger that the features do not hold apart. A warp (WaNet) has no such direction."""
    require("cv2", "backdoor")
    import cv2
    from scipy.linalg import cholesky, eigh, solve_triangular

    side = min(SIDE, *spec.preprocessing.size, int((len(data) / IMAGES_EACH / 3) ** 0.5))
    members = {name: np.flatnonzero(data.labels == label) for label, name in enumerate(names)}
    members = {name: indices for name, indices in members.items() if len(indices) >= LEAST}
    if side < 4 or not members:
        return {}
    pixels = np.empty((len(data), side * side * 3), np.float32)
    for index in range(len(data)):
        pixels[index] = cv2.resize(as_seen(spec, data[index][0]), (side, side), interpolation=cv2.INTER_AREA).ravel()
    for indices in members.values():
        pixels[indices] -= pixels[indices].mean(0)
    used = pixels[np.concatenate(list(members.values()))]
    covariance = used.T @ used / len(used)
    del used
    covariance[np.diag_indices_from(covariance)] += max(RIDGE * float(np.trace(covariance)) / len(covariance), 1e-6)
    root = cholesky(covariance, lower=True)
    found = {}
    for name, indices in members.items():
        white = solve_triangular(root, pixels[indices].T, lower=True).T
        last = len(white) - 1
        _, directions = eigh(white @ white.T, subset_by_index=[max(0, last - DIRECTIONS + 1), last])
        groups = []
        for along in directions.T[::-1]:
            along = (along - along.mean()) / max(float(along.std()), 1e-12)
            split = split_in_two(along[:, None], indices)
            if float((along**4).mean()) <= TWO_GROUPS and len(split.smaller) >= FEWEST:
                groups.append(split)
        if groups and max(split.silhouette for split in groups) >= GROUPS_APART:
            found[name] = max(groups, key=lambda split: split.silhouette)
    return found
