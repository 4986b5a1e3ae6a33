"""The teacher's outputs of views that come again: the same tensors, fewer forwards, nothing left behind."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import pytest
import torch

from delete_tasks import teacher_cache
from delete_tasks.forget_set import ForgetSet
from delete_tasks.teacher_cache import TeacherCache, make_cache


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
    assert shown == [3, 1, 0, 2]
    assert list(tmp_path.iterdir()) == []  # the file has no name
    cache.close()
    assert outputs(cache, [0, 1], images)[1] == 2


def test_what_it_says_of_a_view_does_not_depend_on_the_others_of_its_batch(tmp_path):
    """A resumed run begins with an empty cache, and sees a view again among others."""
    torch.manual_seed(0)
    images, layer = torch.randn(16, 40), torch.nn.Linear(40, 30)
    first, second, found = TeacherCache("digest", str(tmp_path)), TeacherCache("digest", str(tmp_path)), []
    for cache, batches in ((first, ([*range(16)], [3, 9])), (second, ([9, 3, 7],))):
        for places in batches:
            caught = {}
            with torch.no_grad():
                cache.run(lambda x, c=caught: c.update(main=deque([layer(x)])), caught, (images[places],), {})
        found.append(dict(zip(places, caught["main"][0], strict=True)))
    assert all(torch.equal(found[0][place], found[1][place]) for place in (3, 9))


@pytest.mark.parametrize(("views", "steps", "wanted", "cached"), [
    (1, 9, "auto", True), (2, 9, "auto", True), (1000, 9, "auto", False), (1000, 9, True, True), (1, 2, "auto", False),
    (1, 9, False, False),
])  # fmt: skip
def test_views_that_repeat_are_cached(views, steps, wanted, cached, tmp_path):
    class Views(torch.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return {"inputs": torch.full((3,), index + 10.0 * int(torch.randint(views, ())))}

    loader = SimpleNamespace(dataset=ForgetSet(Views(), [0, 2, 3, 4], 0), batch_size=2)
    runner = SimpleNamespace(train_dataloader=loader, train_loop=SimpleNamespace(max_iters=steps), world_size=1,
                             teacher_sha256="digest", work_dir=str(tmp_path))  # fmt: skip
    assert (make_cache(runner, wanted) is not None) == cached


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
