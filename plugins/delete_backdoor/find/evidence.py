"""Evidence for which of a class's two clusters is the poison, from predictions of changed copies of their images.

Size does not tell: if a tenth of ten classes is poisoned, poison is half of the target's samples, and beyond that the larger
part. The source of the label does. Poisoned images share a trigger: the difference between their mean and the mean of other
images, added to these, gives them the label (the sign ``pattern``). Crops and flips remove a patch, and changes of colour keep it
(``hangs_on_place``), while a clean image that is hard to recognise suffers from both. A strong trigger prevails over a second
image that is blended in (``wins_blends``; STRIP, Gao et al., arXiv 1902.06531). And poisoned images are of many classes, so their
features vary more (``varies``). Not every trigger gives every sign; fewer than two, or two that name different clusters, decide
nothing.
"""

from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import nn

from delete_images.data.opening import NO_LABEL, ImageData
from delete_images.look import as_seen
from delete_images.models.spec import ModelSpec

from ..checks import predictions
from ..datasets import make_views
from ..triggers.base import albumentations as a
from ..triggers.base import to_levels
from .clusters import ClassClusters

CLUSTERS = ("smaller", "larger")
TYPICAL = 0.5  # share of a cluster's images, those furthest on its side: k-means splits a class only roughly
COPIED = 100  # of those, at most, in each cluster
FEWEST = 5  # images in each cluster that are compared
EACH = 4  # copies of each kind of each image
ONTO = 200  # images of other labels that get the pattern
SEED = 0  # of the choice of images and of the copies
# Least difference of the clusters, in percentage points and times the other's variance; see docs/notes/backdoor.md.
PATTERN_APART, PLACE_APART, BLENDS_APART, VARIES = 25.0, 30.0, 40.0, 1.05


@dataclass(frozen=True)
class Evidence:
    """Evidence of one cluster: shares, in percent, of images that are predicted as its label, None if they were not measured."""

    samples: int
    copied: int  # images that copies were made of; 0 if only the variance was measured
    moved_by_pattern: float | None = None  # images of other labels, after the cluster's mean, less theirs, was added
    kept_cropped: float | None = None  # cropped and flipped copies
    kept_coloured: float | None = None  # copies with other colours
    kept_blended: float | None = None  # even blends with images of other labels
    variance: float = 0.0  # of the features, summed over the dimensions


def gather(
    model: nn.Module, spec: ModelSpec, data: ImageData, features: NDArray[np.float32], split: ClassClusters, label: int
) -> dict[str, Evidence]:
    """Predict changed copies of the images in each cluster of a class; ``features``, (N, d), are those of ``data``."""
    flat = replace(spec, preprocessing=replace(spec.preprocessing, resize="stretch"))  # copies have the input's size
    crops = [a.HorizontalFlip(p=0.5), a.RandomResizedCrop(spec.preprocessing.size, scale=(0.5, 0.9), p=1.0)]
    shades = [a.ColorJitter(0.5, 0.5, 0.5, 0.3, p=1.0), a.ToGray(p=1.0), a.RandomGamma((60, 160), p=1.0)]
    colours = [a.OneOf([a.ChannelShuffle(p=1.0), *shades], p=1.0)]
    few = min(len(split.smaller), len(split.larger)) < FEWEST
    evidence = {}
    for name, members, rest in ((CLUSTERS[0], split.smaller, split.larger), (CLUSTERS[1], split.larger, split.smaller)):
        variance = float(features[members].astype(np.float64).var(0).sum()) if len(members) else 0.0
        if few:
            evidence[name] = Evidence(len(members), 0, variance=variance)
            continue
        rng = np.random.default_rng(SEED)
        chosen = np.sort(rng.permutation(_typical(features, members, rest))[:COPIED])
        images = [as_seen(spec, data[index][0]) for index in chosen]
        copies = {"kept_cropped": make_views(crops, images, EACH, SEED)}
        copies["kept_coloured"] = make_views(colours, images, EACH, SEED)
        others = np.flatnonzero((data.labels != label) & (data.labels != NO_LABEL))
        if len(others):
            onto = np.stack([as_seen(spec, data[i][0]) for i in rng.choice(others, max(ONTO, EACH * len(images)))])
            blended = np.resize(images, onto.shape)  # repeats them
            copies["kept_blended"] = ((blended.astype(np.uint16) + onto) // 2).astype(np.uint8)
            pattern = np.mean(images, 0, dtype=np.float64) - onto.mean(0, dtype=np.float64)
            copies["moved_by_pattern"] = to_levels(onto[:ONTO] + pattern)
        shares = {}
        for kind, pixels in copies.items():
            unlabelled = ImageData.from_arrays(pixels, np.full(len(pixels), NO_LABEL), spec.classes)
            predicted = predictions(model, flat, unlabelled, f"The {name} cluster, {kind.replace('_', ' ')}")
            shares[kind] = round(100 * float((predicted == label).mean()), 2)
        evidence[name] = Evidence(len(members), len(chosen), variance=variance, **shares)
    return evidence


def _typical(features: NDArray[np.float32], members: NDArray[np.int64], rest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Select the half of ``members`` nearest to its mean and furthest from that of the rest of the class."""
    to_mean, to_rest = (np.linalg.norm(features[members] - features[part].mean(0), axis=1) for part in (members, rest))
    return members[np.argsort(to_mean - to_rest, kind="stable")[: max(FEWEST, round(TYPICAL * len(members)))]]


def signs(evidence: dict[str, Evidence]) -> dict[str, str | None]:
    """Name, for each sign, the cluster that it points to as the poison; None if the clusters are alike in it."""
    smaller, larger = (evidence[name] for name in CLUSTERS)

    def further(first: float | None, second: float | None, apart: float) -> str | None:
        if first is None or second is None or abs(first - second) < apart:
            return None
        return CLUSTERS[0] if first > second else CLUSTERS[1]

    # Percentage points more that are lost by crops and flips than by changes of colour.
    places = [
        None if each.kept_cropped is None or each.kept_coloured is None else each.kept_coloured - each.kept_cropped
        for each in (smaller, larger)
    ]
    low, high = sorted((smaller.variance, larger.variance))
    return {
        "pattern": further(smaller.moved_by_pattern, larger.moved_by_pattern, PATTERN_APART),
        "hangs_on_place": further(places[0], places[1], PLACE_APART),
        "wins_blends": further(smaller.kept_blended, larger.kept_blended, BLENDS_APART),
        "varies": further(smaller.variance, larger.variance, 0.0) if high > VARIES * low else None,
    }


def decide(evidence: dict[str, Evidence]) -> str | None:
    """Choose the cluster that at least two signs point to and none to the other; None without one."""
    named = [cluster for cluster in signs(evidence).values() if cluster is not None]
    return named[0] if len(named) > 1 and len(set(named)) == 1 else None
