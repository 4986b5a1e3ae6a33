"""Evidence for which of a class's two clusters is the poison, from predictions of changed copies of their images.

Size does not tell: where a tenth of ten classes is poisoned, poison is half of the target's samples, and beyond that the larger
part. What does is where the label comes from. That of a poisoned image comes from a trigger that all of them share: what their
mean has over the mean of other images, added to these, sends them to the label. Crops and flips take a patch away, and changes
of colour leave it, while a clean image that is hard to recognise suffers from both. A strong trigger wins over a second image
that is blended in (STRIP, Gao et al., arXiv 1902.06531). And poisoned images are of many classes, so their features vary more.
Not every trigger gives every sign; fewer than two, or two that name different clusters, decide nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import nn

from delete_images.data.opening import NO_LABEL, ImageData
from delete_images.look import as_seen
from delete_images.models.spec import ModelSpec

from ..checks import predictions
from ..datasets import make_views
from ..triggers.base import albumentations, to_levels
from .clusters import ClassClusters

CLUSTERS = ("smaller", "larger")
TYPICAL = 0.5  # of a cluster, the images that lie furthest on its side: k-means splits a class only roughly
COPIED = 100  # of those, in each cluster
FEWEST = 5  # in each cluster, to compare them by
EACH = 4  # copies of each kind of each image
ONTO = 200  # images of other labels that get the pattern
# What counts between the clusters: percentage points, and times the other's variance; see docs/notes/backdoor.md.
PATTERN_APART, PLACE_APART, BLENDS_APART, VARIES = 25.0, 30.0, 40.0, 1.05


@dataclass(frozen=True)
class Evidence:
    """Evidence of one cluster.

    Attributes:
        samples: Images in it.
        copied: Images of it that copies were made of; 0 means that nothing was measured but the variance.
        moved_by_pattern: Percent of images of other labels that are predicted as this one after the cluster's mean, less theirs,
            was added to them.
        kept_cropped: Percent of cropped and flipped copies that are predicted as the label.
        kept_coloured: The same of copies with other colours.
        kept_blended: The same of even blends with images of other labels.
        variance: Of its features, summed over the dimensions.
    """

    samples: int
    copied: int
    moved_by_pattern: float | None
    kept_cropped: float | None
    kept_coloured: float | None
    kept_blended: float | None
    variance: float


def gather(
    network: nn.Module,
    spec: ModelSpec,
    data: ImageData,
    features: NDArray[np.float32],
    split: ClassClusters,
    label: int,
    seed: int = 0,
) -> dict[str, Evidence]:
    """Predict changed copies of the images in each cluster of a class. ``features``, (N, d), are those of
    ``data``; ``seed`` is that of the choice of images and of the copies."""
    flat = replace(spec, preprocessing=replace(spec.preprocessing, resize="stretch"))  # copies have the input's size
    few = min(len(split.smaller), len(split.larger)) < FEWEST
    found = {}
    for name, other in zip(CLUSTERS, reversed(CLUSTERS), strict=True):
        members, rest = getattr(split, name), getattr(split, other)
        variance = float(features[members].astype(np.float64).var(0).sum()) if len(members) else 0.0
        if few:
            found[name] = Evidence(len(members), 0, None, None, None, None, variance)
            continue
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(_typical(features, members, rest))[:COPIED])
        images = [as_seen(spec, data[index][0]) for index in chosen]
        copies = {
            "crops and flips": make_views(_crops(spec.preprocessing.size), images, EACH, seed),
            "colours": make_views(_colours(), images, EACH, seed),
        }
        others = np.flatnonzero((data.labels != label) & (data.labels != NO_LABEL))
        if len(others):
            second = [as_seen(spec, data[i][0]) for i in rng.choice(others, max(ONTO, EACH * len(images)))]
            copies["blends"] = np.stack([_blend(images[i % len(images)], b) for i, b in enumerate(second)])
            copies["pattern"] = _with_pattern(np.stack(second), np.stack(images))[:ONTO]
        at = {kind: _at_label(network, flat, x, label, f"The {name} cluster, {kind}") for kind, x in copies.items()}
        shares = at.get("pattern"), at["crops and flips"], at["colours"], at.get("blends")
        found[name] = Evidence(len(members), len(chosen), *shares, variance)
    return found


def _typical(features: NDArray[np.float32], members: NDArray[np.int64], rest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Select the half of ``members`` nearest to its mean and furthest from that of the rest of the class."""
    own, other = features[members].mean(0), features[rest].mean(0)
    side = np.linalg.norm(features[members] - own, axis=1) - np.linalg.norm(features[members] - other, axis=1)
    return members[np.argsort(side, kind="stable")[: max(FEWEST, round(TYPICAL * len(members)))]]


def _blend(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return ((first.astype(np.uint16) + second) // 2).astype(np.uint8)


def _with_pattern(onto: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Add the difference of the means of ``images`` and ``onto`` to each of ``onto``; all uint8 (N, H, W, 3)."""
    pattern = images.mean(0, dtype=np.float64) - onto.mean(0, dtype=np.float64)
    return to_levels(onto + pattern)


def _crops(size: tuple[int, int]) -> Any:
    steps = [albumentations.HorizontalFlip(p=0.5), albumentations.RandomResizedCrop(size, scale=(0.5, 0.9), p=1.0)]
    return albumentations.Compose(steps, seed=0)


def _colours() -> Any:
    kinds = [
        albumentations.ChannelShuffle(p=1.0),
        albumentations.ColorJitter(0.5, 0.5, 0.5, 0.3, p=1.0),
        albumentations.ToGray(p=1.0),
        albumentations.RandomGamma((60, 160), p=1.0),
    ]
    return albumentations.Compose([albumentations.OneOf(kinds, p=1.0)], seed=0)


def _at_label(network: nn.Module, spec: ModelSpec, images: np.ndarray, label: int, title: str) -> float:
    data = ImageData.from_arrays(images, np.full(len(images), NO_LABEL), spec.classes)
    return round(100 * float((predictions(network, spec, data, title) == label).mean()), 2)


def signs(evidence: dict[str, Evidence]) -> dict[str, str | None]:
    """By sign, the cluster that it says is the poison, None where the clusters are alike in it.

    ``pattern``: it shares a pattern that sends images of other labels to this one. ``hangs_on_place``: it loses its label under
    crops and flips more than under changes of colour. ``wins_blends``: it keeps its label when other images are blended in.
    ``varies``: its features vary more.
    """
    smaller, larger = (evidence[name] for name in CLUSTERS)

    def further(first: float | None, second: float | None, apart: float) -> str | None:
        if first is None or second is None or abs(first - second) < apart:
            return None
        return CLUSTERS[0] if first > second else CLUSTERS[1]

    varies = None
    if max(smaller.variance, larger.variance) > VARIES * min(smaller.variance, larger.variance):
        varies = CLUSTERS[0] if smaller.variance > larger.variance else CLUSTERS[1]
    return {
        "pattern": further(smaller.moved_by_pattern, larger.moved_by_pattern, PATTERN_APART),
        "hangs_on_place": further(_place(smaller), _place(larger), PLACE_APART),
        "wins_blends": further(smaller.kept_blended, larger.kept_blended, BLENDS_APART),
        "varies": varies,
    }


def _place(evidence: Evidence) -> float | None:
    """By how many points more crops and flips cost than colours do."""
    if evidence.kept_cropped is None or evidence.kept_coloured is None:
        return None
    return evidence.kept_coloured - evidence.kept_cropped


def decide(evidence: dict[str, Evidence]) -> str | None:
    """Choose the cluster that at least two signs point to and none to the other; else None, for undecided."""
    named = [cluster for cluster in signs(evidence).values() if cluster is not None]
    return named[0] if len(named) > 1 and len(set(named)) == 1 else None
