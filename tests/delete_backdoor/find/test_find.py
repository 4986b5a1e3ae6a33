"""Search for poison: the two methods on simple features, and the decision by evidence."""

import io

import numpy as np
import pytest
from rich.console import Console

from delete_backdoor.find.clusters import ClassClusters, cluster_classes, pattern_clusters
from delete_backdoor.find.evidence import Evidence, decide
from delete_backdoor.find.find import rates, suspect
from delete_backdoor.find.show import show_ranking
from delete_images.data.opening import ImageData
from delete_images.models.spec import ModelSpec, Preprocessing
from delete_tasks.errors import RequestError

NAMES = ("ant", "bee", "cat")
CLEAN = Evidence(80, 80, 1.0, 70.0, 85.0, 30.0, 5.0)
TRIGGERED = Evidence(20, 20, 99.0, 10.0, 98.0, 97.0, 9.0)


def measured(smaller: Evidence, larger: Evidence):
    """Replaces the measurement of evidence by a network."""
    return lambda split, label: {"smaller": smaller, "larger": larger}


def features(poison: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three classes of 100; of the second, ``poison`` samples lie apart."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 100)
    x = rng.normal(size=(300, 24)).astype(np.float32) + 4 * np.eye(24, dtype=np.float32)[labels]
    truth = np.zeros(300, dtype=bool)
    truth[100 : 100 + poison] = True
    x[truth, 10] += 12
    return x, labels, truth


def test_suspect():
    x, labels, truth = features()
    result = suspect(x, labels, NAMES, measured(TRIGGERED, CLEAN))
    assert (result.flagged == truth).all() and result.poison == "smaller" and result.decided_by == "evidence"
    assert result.suspicious == "bee"
    split = result.classes["bee"]
    assert len(split.smaller) == 20 and split.size == 100 and split.silhouette > 0.1
    assert truth[result.order[:20]].all()
    assert result.score[truth].min() > result.score[(labels == 1) & ~truth].max()
    again = suspect(x, labels, NAMES, measured(TRIGGERED, CLEAN))
    assert (again.flagged == result.flagged).all() and np.allclose(again.score, result.score)


def test_spectral_scores_are_the_papers():
    """Algorithm 1 of Tran et al., with the singular vector from the covariance instead."""
    x, labels, _ = features()
    result = suspect(x, labels, NAMES, measured(TRIGGERED, CLEAN))
    for number in range(3):
        centred = x[labels == number].astype(np.float64)
        centred -= centred.mean(0)
        raw = (centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1]) ** 2
        assert np.allclose(result.score[labels == number], raw / np.median(raw), rtol=1e-6)


@pytest.mark.parametrize("poison", [52, 67, 80])
def test_where_most_of_a_class_is_poison_its_evidence_tells(poison):
    """A tenth, a fifth and two fifths of ten classes, sent to one of them: the poison is no longer the smaller part."""
    x, labels, truth = features(poison)
    x[truth] += 2 * np.random.default_rng(1).normal(size=(poison, 24)).astype(np.float32)  # images of all other classes
    result = suspect(x, labels, NAMES, measured(CLEAN, TRIGGERED))
    assert (result.flagged == truth).all() and result.poison == "larger"


@pytest.mark.parametrize(("smaller", "larger", "poison"), [
    (TRIGGERED, CLEAN, "smaller"), (CLEAN, TRIGGERED, "larger"), (CLEAN, CLEAN, None),
    (Evidence(9, 9, 85.0, 78.0, 90.0, 50.0, 8.0), CLEAN, "smaller"),  # a faint pattern all over the image
    # One sign is not enough: the class may be the pattern.
    (Evidence(9, 9, 85.0, 78.0, 90.0, 50.0, 5.0), CLEAN, None),
    (Evidence(9, 9, 1.0, 10.0, 98.0, 30.0, 5.4), CLEAN, "smaller"),  # no pattern, but two signs
    (Evidence(9, 9, 1.0, 10.0, 98.0, 30.0, 5.0), CLEAN, None),
    (Evidence(9, 9, 1.0, 70.0, 85.0, 97.0, 9.0), CLEAN, "smaller"),
    (Evidence(9, 9, 1.0, 20.0, 40.0, 10.0, 9.0), CLEAN, None),  # images that are hard to recognise
    (Evidence(9, 9, 1.0, 10.0, 98.0, 97.0, 4.0), CLEAN, None),  # the signs contradict one another
    (Evidence(2, 0, None, None, None, None, 9.0), Evidence(98, 0, None, None, None, None, 5.0), None),
])  # fmt: skip
def test_the_poison_has_two_signs_that_nothing_contradicts(smaller, larger, poison):
    assert decide({"smaller": smaller, "larger": larger}) == poison


def test_undecided_flags_nothing_unless_the_user_says():
    x, labels, truth = features()
    result = suspect(x, labels, NAMES, measured(CLEAN, CLEAN))
    assert not result.flagged.any() and result.suspicious == "bee" and result.poison is None
    forced = suspect(x, labels, NAMES, measured(CLEAN, CLEAN), flag="smaller")
    assert (forced.flagged == truth).all() and forced.decided_by == "user"


def test_nothing_to_find():
    x, labels, _ = features(poison=0)

    def not_called(split, label):
        raise AssertionError("no class stands out, so no evidence is measured")

    result = suspect(x, labels, NAMES, not_called)
    assert not result.flagged.any() and result.suspicious is None and result.evidence == {}
    with pytest.raises(RequestError, match="smaller"):
        suspect(x, labels, NAMES, not_called, flag="smaller")


def test_small_classes_are_not_judged():
    x, labels, _ = features()
    keep = np.concatenate([np.arange(19), np.arange(100, 300)])
    result = suspect(x[keep], labels[keep], NAMES, measured(TRIGGERED, CLEAN))
    assert set(result.classes) == {"bee", "cat"} and (result.score[:19] == 0).all()
    with pytest.raises(RequestError, match="20 samples"):
        suspect(x[:9], labels[:9], NAMES, measured(TRIGGERED, CLEAN))


@pytest.mark.parametrize("seed", [0, 3, 9])
def test_few_samples_with_small_clusters_at_low_silhouettes(seed):
    """ART 1.20 raises IndexError on the first."""
    x = np.random.default_rng(seed).normal(size=(120, 24)).astype(np.float32)
    result = suspect(x, np.repeat([0, 1, 2], 40), NAMES, measured(TRIGGERED, CLEAN))
    assert any(len(split.smaller) < 0.5 * split.size for split in result.classes.values())
    assert all(split.silhouette < 0.15 for split in result.classes.values()) and result.suspicious is None


def test_features_that_are_all_alike_are_one_cluster():
    labels = np.repeat([0, 1], 30)
    result = cluster_classes(np.ones((60, 4), np.float32), labels, ("ant", "bee"))
    assert all(len(split.smaller) == 0 and split.silhouette == 0 for split in result.values())
    with pytest.raises(RequestError, match="finite"):
        cluster_classes(np.full((60, 4), np.nan, np.float32), labels, ("ant", "bee"))


def test_a_large_class_is_measured_on_a_part_of_both_clusters(monkeypatch):
    x, labels, _ = features(5)
    whole = cluster_classes(x, labels, NAMES)["bee"].silhouette
    monkeypatch.setattr("delete_backdoor.find.clusters.SILHOUETTE_ON", 40)
    assert cluster_classes(x, labels, NAMES)["bee"].silhouette == pytest.approx(whole, abs=0.1)


def test_rates():
    flagged, truth = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 1], bool)
    assert rates(flagged, truth) == {"precision": 50.0, "recall": 33.33}
    none = rates(~flagged & flagged, truth)
    assert none == {"precision": None, "recall": 0.0}
    console = Console(file=io.StringIO(), width=200)
    classes = {"ant": {"samples": 4, "smaller_cluster": 0.0, "silhouette": 0.0, "suspicious": False}}
    show_ranking({"flagged": 0, "classes": classes, "suspicious": None, "rates": none}, 4, console)
    text = console.file.getvalue()
    assert "precision not measured (" in text and "recall 0.0% (" in text


def pictures(count: int, shared_by: int) -> ImageData:
    """Smooth noise in three classes; ``shared_by`` images of the first have a faint pattern all over them."""
    rng = np.random.default_rng(0)
    small = rng.normal(size=(count, 4, 4, 3))
    images = 128 + 60 * small.repeat(4, 1).repeat(4, 2) + rng.normal(size=(count, 16, 16, 3)) * 8
    pattern = np.random.default_rng(99).choice([-20.0, 20.0], size=(16, 16, 3))
    images[:shared_by] += pattern
    labels = np.concatenate([np.zeros(shared_by, int), np.arange(count - shared_by) % 3])
    return ImageData.from_arrays(np.clip(images, 0, 255).astype(np.uint8), labels, NAMES)


SPEC = ModelSpec("x", NAMES, Preprocessing.named("half", 16))


@pytest.mark.parametrize("shared_by", [60, 600])
def test_a_pattern_that_images_share_splits_their_class(shared_by):
    """As the smaller group and as the larger one; no other class is split."""
    found = pattern_clusters(pictures(1500, shared_by), SPEC, NAMES)
    assert list(found) == ["ant"] and found["ant"].silhouette > 0.6
    group = found["ant"].smaller if shared_by == 60 else found["ant"].larger
    assert np.mean(group < shared_by) > 0.98 and abs(len(group) - shared_by) <= 0.1 * shared_by


def test_no_pattern_no_split():
    assert pattern_clusters(pictures(1500, 0), SPEC, NAMES) == {}
    assert pattern_clusters(pictures(12, 6), SPEC, NAMES) == {}  # too few to tell


def test_a_pattern_is_evidence():
    """If it gives the label to other images and crops agree: then the class is split by it, whatever the features say."""
    x, labels, _ = features(0)
    pattern = {"cat": ClassClusters(np.arange(200, 230), np.arange(230, 300), 0.9)}
    moved, alone = Evidence(30, 30, 90.0, 20.0, 85.0, 30.0, 4.0), Evidence(30, 30, 90.0, 70.0, 85.0, 30.0, 9.0)
    for evidence, poison in ((moved, "smaller"), (alone, None), (CLEAN, None)):
        result = suspect(x, labels, NAMES, measured(evidence, CLEAN), patterns=lambda: pattern)
        assert result.poison == poison and result.flagged.sum() == (30 if poison else 0)
    assert suspect(x, labels, NAMES, measured(moved, CLEAN), "larger", lambda: pattern).flagged.sum() == 70
