"""Clusters of each class's images by a pattern that some of them share, from pixels alone.

One pattern that is added to, blended into or pasted on many images moves them along one direction. It is faint beside what photos
differ in, but photos differ little in fine detail. So pixels are whitened by the covariance within classes, and each class is
split along the direction in which it then varies most. In a clean class that is one odd image; with a trigger it is two groups.
The idea of spectral signatures (Tran et al., arXiv 1811.00636) and whitening (SPECTRE, Hayase et al., arXiv 2104.11315), on
pixels, which see a trigger that the features do not hold apart. A warp (WaNet) has no such direction.
"""

import numpy as np

from delete_images.data.opening import ImageData
from delete_images.look import as_seen
from delete_images.models.spec import ModelSpec
from delete_tasks.errors import require

from .clusters import LEAST, ClassClusters, split_in_two

SIDE = 32  # pixels of the images that are compared, at most
IMAGES_EACH = 1.5  # images for each number of an image, at least: fewer do not give a covariance
RIDGE = 1e-3  # of the mean variance, added to each
DIRECTIONS = 3  # of each class
FEWEST = 20  # images of a group: the mean of a few is their content, not a pattern
APART = 0.6  # silhouette of the groups, at least
TWO_GROUPS = 30.0  # kurtosis of a direction with two groups, at most: one odd image in a class has hundreds


def pattern_clusters(data: ImageData, spec: ModelSpec, names: tuple[str, ...]) -> dict[str, ClassClusters]:
    """Split the classes of N labelled images in which a group of :data:`FEWEST` images or more shares a pattern; often none."""
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
        image = as_seen(spec, data[index][0])
        pixels[index] = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).ravel()
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
        if groups and max(split.silhouette for split in groups) >= APART:
            found[name] = max(groups, key=lambda split: split.silhouette)
    return found
