"""Places of forgotten pixels: the counts equal those of a search pixel by pixel."""

import numpy as np
import pytest
import torch

from delete_mmseg import regions
from delete_tasks.evaluation import ConfusionState
from delete_tasks.evaluation.metric import Row

ROAD, TREE, POLE, SKY = range(4)


def _count(before, after, ids, least):
    """Pixels in regions with a border, and those whose class is not beside their region, by a flood fill of lists."""
    height, width = len(before), len(before[0])
    waiting = {(y, x) for y in range(height) for x in range(width) if before[y][x] in ids}
    total = wrong = 0
    while waiting:
        region, front = set(), [waiting.pop()]
        while front:
            y, x = front.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & waiting
            waiting -= near
            front += near
        border = []
        for y, x in region:
            sides = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            border += [before[v][u] for v, u in sides if 0 <= v < height and 0 <= u < width and (v, u) not in region]
        if border:
            allowed = {c for c in border if border.count(c) >= least * len(border)} | set(ids)
            total += len(region)
            wrong += sum(after[y][x] not in allowed for y, x in region)
    return total, wrong


@pytest.mark.parametrize("ids", [[TREE], [TREE, POLE]])
@pytest.mark.parametrize("least", [0.0, 0.3])
def test_counts_equal_a_search_pixel_by_pixel(ids, least, monkeypatch):
    monkeypatch.setattr(regions, "LEAST_SHARE", least)
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (12, 7), (20, 20)):
        before, after = (rng.choice(4, shape, p=[0.2, 0.5, 0.2, 0.1]) for _ in range(2))
        counts = regions.count_misplaced(*map(torch.from_numpy, (before, after)), ids, 4)
        assert counts == _count(before.tolist(), after.tolist(), ids, least)


@pytest.mark.parametrize(("fill", "share"), [
    (lambda before: torch.where(torch.arange(60)[:, None] < 40, SKY, ROAD).expand(60, 60), 0.0),
    (lambda before: torch.full_like(before, POLE), 100.0),
    (lambda before: before, 0.0),  # still predicted: forget_iou's matter
], ids=["surroundings", "pole", "still there"])  # fmt: skip
def test_a_tree_that_became_a_pole_is_misplaced_and_sky_and_road_are_not(fill, share):
    """The tree stands between sky and road, with a pole at one pixel of its border."""
    before = torch.full((60, 60), SKY)
    before[40:] = ROAD
    before[10:50, 10:50] = TREE
    before[30, 50] = POLE
    after = before.clone()
    after[10:50, 10:50] = fill(before)[10:50, 10:50]
    state = ConfusionState(4, [TREE], compare=regions.count_misplaced)
    metric = regions.misplaced("test", "test images")
    for predicted in (after, before):
        logits = torch.nn.functional.one_hot(predicted, 4).movedim(2, 0).float()
        state.update(logits, before, original=before)
    figure = metric.measure(Row({"test": state.compute()[0]}, {}, [TREE], "abcd"))
    assert figure.value == share / 2 and figure.count == 2 and "3,200 locations" in figure.note
    uncompared = ConfusionState(4, [TREE]).compute()[0]
    assert metric.measure(Row({"test": uncompared}, {}, [TREE], "abcd")).value is None
    assert metric.measure(Row({"test": state.compute()[0]}, None, [TREE], "abcd")).value is None
    whole = torch.full((8, 8), TREE)  # nothing is beside it
    assert regions.count_misplaced(whole, whole * 0, [TREE], 4) == (0, 0)
