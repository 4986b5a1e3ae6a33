"""Verification on numbers that can be counted; heads, thresholds and mislabelled photos."""

import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from delete_faces.checks import find_mislabelled
from delete_faces.gallery.enroll import fit_head, impostor_scores, stranger_threshold
from delete_faces.network import build_head
from delete_faces.photos import hold_out
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import verification as verify
from delete_tasks.evaluation.verification import verification


def on_circle(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def test_rates_by_hand():
    """Kept people 0 and 1 at 0 and 90 degrees, two photos each; person 2 is removed."""
    rows = on_circle(0, 10, 90, 130, 180, 185, 240)
    labels = np.array([0, 0, 1, 1, 2, 2, 2])
    found = verification(3 * rows, labels, [2], fars=(0.25, 0.5))
    assert [found[f"{name}_pairs"] for name in ("impostor", "kept", "removed", "removed_as_kept")] == [4, 2, 3, 12]
    # Impostor cosines: cos 80, 90, 120, 130; genuine: cos 10, cos 40. At FAR 1/4 one impostor pair passes.
    strict = found["at"]["2e-01"]
    assert strict["threshold"] == pytest.approx(np.cos(np.deg2rad(80)), abs=1e-4)
    # Removed: cos 5, cos 55 and cos 60 all pass. Crossed: 130 and 180 are 50 apart, 130 and 185 are 55; 12 pairs in all.
    assert strict["kept"] == 100 and strict["removed"] == 100
    assert strict["removed_as_kept"] == pytest.approx(100 * 2 / 12, abs=0.01)


def test_thresholds_do_not_look_at_the_removed():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 8)).astype(np.float32)
    labels = np.repeat(np.arange(10), 6)
    before = verification(rows, labels, [3])
    rows[labels == 3] = 1.0
    after = verification(rows, labels, [3])
    assert [at["threshold"] for at in before["at"].values()] == [at["threshold"] for at in after["at"].values()]
    assert after["at"]["1e-03"]["removed"] == 100


def all_pairs(embeddings, labels, removed, fars):
    """The same figures from every pair in memory, with scikit-learn's ROC curve."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    scores = (unit @ unit.T)[first, second]
    gone, same = np.isin(labels, removed), labels[first] == labels[second]
    kept = ~gone[first] & ~gone[second]
    kinds = {"kept": scores[kept & same], "removed": scores[gone[first] & gone[second] & same]}
    kinds["removed_as_kept"] = scores[gone[first] != gone[second]]
    impostor, found = scores[kept & ~same], {}
    for far in fars:
        truth = np.r_[np.ones(len(kinds["kept"])), np.zeros(len(impostor))]
        rates, _, thresholds = roc_curve(truth, np.r_[kinds["kept"], impostor], drop_intermediate=False)
        least = thresholds[np.flatnonzero(rates <= far)[-1]]
        found[f"{far:.0e}"] = {
            "threshold": round(float(least), 4) if np.isfinite(least) else None,
            **{name: round(100 * float((part >= least).mean()), 2) for name, part in kinds.items()},
        }
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["plain", "ties", "apart", "negative"])
@pytest.mark.parametrize("tile", [7, 2048])
def test_tiles_give_what_all_pairs_give(monkeypatch, seed, kind, tile):
    monkeypatch.setattr(verify, "TILE", tile)
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 12, 90)
    rows = generator.normal(size=(12, 6))[labels] + 0.6 * generator.normal(size=(90, 6))
    if kind == "ties":  # whole numbers of few lengths give many equal cosines, exact in float32
        rows = np.eye(4)[generator.integers(0, 4, 90)] * generator.choice([1, 2, 4], (90, 1))
    if kind == "apart":
        rows[np.isin(labels, [2, 5])] += 9
    if kind == "negative":
        rows = np.where(labels[:, None] % 2, 1, -1) * np.abs(rows)
    rows, fars = rows.astype(np.float32), (0.5, 0.1, 0.01, 0.001)
    found = verification(rows, labels, [2, 5], fars)
    expected = all_pairs(rows, labels, [2, 5], fars)
    assert found["at"] == {far: pytest.approx(rates, abs=2e-4) for far, rates in expected.items()}


def test_no_more_than_a_tile_of_pairs_is_in_memory(monkeypatch):
    monkeypatch.setattr(verify, "TILE", 256)
    sizes, pairs = [], verify._pairs

    def counted(*photos):
        for kind, cosines in pairs(*photos):
            sizes.append(cosines.numel())
            yield kind, cosines

    monkeypatch.setattr(verify, "_pairs", counted)
    labels = np.repeat(np.arange(300), 10)
    rows = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    tracemalloc.start()
    found = verification(rows, labels, [3])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(sizes) <= 256**2 and sum(sizes) == 3000 * 2999 / 2
    assert peak < 40 << 20  # the histogram; every pair at once took 300 MB
    assert found["impostor_pairs"] + found["kept_pairs"] == 2990 * 2989 / 2 and found["sampled"] is None


def test_one_embedding_and_too_few_pairs():
    found = verification(np.ones((60, 4), np.float32), np.repeat(np.arange(6), 10), [0])
    assert found["at"]["1e-03"] == {"threshold": None, "kept": 0.0, "removed": 0.0, "removed_as_kept": 0.0}
    found = verification(on_circle(0, 10, 90, 100), np.array([0, 0, 1, 1]), [1])
    assert found["at"]["1e-03"] == {"threshold": None, "kept": None, "removed": None, "removed_as_kept": None}


def test_of_too_many_photos_a_stated_choice_is_compared():
    labels = np.repeat(np.arange(100), 6)
    rows = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    found = verification(rows, labels, [7], most=200, seed=1)
    assert found["sampled"] == {"photos": 200, "of": 600, "seed": 1}
    assert found["removed_pairs"] == 15 and found["removed_as_kept_pairs"] == 6 * 194
    again, other = (verification(rows, labels, [7], most=200, seed=seed) for seed in (1, 2))
    assert found == again != other
    most = verification(rows, labels, list(range(90)), most=200)
    assert most["kept_pairs"] > 0  # the removed people take half of the places at most


def test_embeddings_that_are_no_numbers_are_refused():
    rows = np.ones((4, 2), np.float32)
    rows[1, 0] = np.nan
    with pytest.raises(RequestError, match=r"1 of 4 .*NaN"):
        verification(rows, np.arange(4), [0])


def test_hold_out_leaves_everyone_a_photo():
    labels = np.repeat([0, 1, 2], [10, 3, 1])
    held = hold_out(labels, 0.5, seed=1)
    assert [int(held[labels == i].sum()) for i in range(3)] == [5, 2, 0]
    assert (hold_out(labels, 0.5, seed=1) == held).all() and not hold_out(labels, 0.0).any()
    assert (hold_out(labels, 0.5, seed=2) != held).any()
    with pytest.raises(RequestError, match=r"1\.0"):
        hold_out(labels, 1.0)


def clusters(people: int, photos: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings around a random centre for each person, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(people).repeat_interleave(photos)
    centres = torch.randn(people, size, generator=generator)
    return centres[labels] + noise * torch.randn(len(labels), size, generator=generator), labels


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("people", [2, 5])
def test_fit_head_knows_its_people(kind, people):
    rows, labels = clusters(people, 6, 16, 0.3)
    head = build_head(kind, 16, people)
    fit_head(head, rows, labels)
    assert (head(rows).argmax(1) == labels).all()


@pytest.mark.parametrize("people", [3, 5])
def test_weights_of_a_cosine_head_stay_with_their_people(people):
    """Training must not go on to turn the weights away from a few people that are told apart at once."""
    rows, labels = clusters(people, 3, 128, 0.7)
    head = build_head("cosine", 128, people)
    fit_head(head, rows, labels)
    with torch.no_grad():
        assert head.scores(head(rows)).gather(1, labels[:, None]).min() > 0.8


@pytest.mark.parametrize("people", [2, 12, 62])
def test_stranger_threshold(people):
    """One in a hundred strangers has a pair above it: drawn from the distribution that it assumes."""
    scores = np.random.default_rng(0).normal(0.1, 0.2, (20_000, people))
    found = stranger_threshold(torch.tensor(scores[:2_000]), people)
    assert (scores.max(1) >= found).mean() == pytest.approx(0.01, abs=0.003)
    few = [stranger_threshold(torch.tensor(pairs), people) for pairs in ([], [1.0], [0.1, 0.3])]
    assert few[:2] == [None, None] and few[2] > 0.3  # it takes two pairs


COMPARED = [("cosine", 2, 12), ("linear", 3, 0), ("linear", 4, 72), ("cosine", 12, 684)]


@pytest.mark.parametrize(("kind", "people", "found"), COMPARED)
def test_impostors_are_compared_by_heads_that_never_saw_them(kind, people, found):
    """Up to five people are left out one by one: their scores are those of a head fitted on the others."""
    rows, labels = clusters(people, 6, 16, 0.3)
    scores = impostor_scores(build_head(kind, 16, people), rows, labels, rows, labels)
    assert scores.shape == (found,)
    if found and people <= 5:
        head = build_head(kind, 16, people - 1)
        fit_head(head, rows[labels > 0], labels[labels > 0] - 1)
        with torch.no_grad():
            assert torch.equal(scores[: 6 * (people - 1)], head.scores(head(rows[labels == 0])).flatten())


def test_find_mislabelled():
    rows = torch.eye(4)
    generator = torch.Generator().manual_seed(0)
    own = rows[0] + 0.05 * torch.randn(8, 4, generator=generator)
    own[5] = torch.tensor([0.1, 1.0, 0.0, 0.0])  # somebody else's face in the folder
    labels = torch.zeros(8, dtype=torch.long)
    assert find_mislabelled(own, rows, own @ rows.T, labels) == [5]
    everyone = rows[1].repeat(3, 1)  # a folder of the wrong person
    assert find_mislabelled(everyone, rows, everyone @ rows.T, labels[:3]) == [0, 1, 2]
