"""The teacher's outputs of views that come again: the same tensors, fewer forwards, nothing left behind."""

from __future__ import annotations

from collections import deque

import pytest
import torch

from delete_tasks import teacher_cache
from delete_tasks.teacher_cache import TeacherCache


class Teacher:
    """Two heads, of which one gives two outputs, and how many samples it was shown."""

    def __init__(self, caught) -> None:
        self.caught, self.shown = caught, 0

    def __call__(self, inputs, data_samples, mode) -> None:
        assert mode == "loss" and len(inputs) == len(data_samples)
        self.shown += len(inputs)
        self.caught.setdefault("main", deque()).append([inputs * 2, (inputs + 1).double()])
        self.caught.setdefault("auxiliary", deque()).append(inputs.sum(1))


def outputs(cache, places, images):
    caught = {}
    teacher = Teacher(caught)
    cache.run(teacher, caught, (images[places], [str(place) for place in places]), {"mode": "loss"})
    return caught, teacher.shown


@pytest.mark.parametrize("limit", [1 << 30, 300, 0])
def test_same_outputs_from_memory_and_from_the_file(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_cache, "LIMIT", limit)
    images = torch.randn(6, 3, 2)
    cache = TeacherCache("digest", str(tmp_path))
    shown = []
    for places in ([0, 1, 2], [2, 3, 0], [3, 2, 1], [5, 4, 5]):
        found, count = outputs(cache, places, images)
        shown.append(count)
        (main,), (auxiliary,) = found["main"], found["auxiliary"]
        assert torch.equal(main[0], images[places] * 2) and torch.equal(main[1], (images[places] + 1).double())
        assert torch.equal(auxiliary, images[places].sum(1))
    assert shown == [3, 1, 0, 3]
    assert list(tmp_path.iterdir()) == []  # the file has no name
    cache.close()
    assert outputs(cache, [0, 1], images)[1] == 2


def test_it_gives_up_where_no_view_comes_twice(tmp_path):
    cache = TeacherCache("digest", str(tmp_path), give_up_after=4)
    for _ in range(3):
        outputs(cache, [0, 1], torch.randn(2, 3, 2))
    assert not cache.active and not cache.kept


def test_outputs_that_are_not_one_for_each_sample_are_not_kept(tmp_path):
    cache, caught, images = TeacherCache("digest", str(tmp_path)), {}, torch.randn(2, 3)
    for _ in range(2):
        caught.clear()
        cache.run(lambda x: caught.update(main=deque([x.sum()])), caught, (images,), {})
        assert torch.equal(caught["main"][0], images.sum())
    assert not cache.active


def test_a_full_disk_costs_time_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_cache, "LIMIT", 0)
    cache, images = TeacherCache("digest", str(tmp_path / "missing")), torch.randn(2, 3, 2)
    for _ in range(2):
        found, count = outputs(cache, [0, 1], images)
        assert count == 2 and torch.equal(found["main"][0][0], images * 2)
