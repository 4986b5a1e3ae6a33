"""Cache of the teacher's outputs: the same tensors, fewer forward passes, no file left behind."""

import copy
from collections import deque
from types import SimpleNamespace

import pytest
import torch
from helpers import same_tensors
from torch import nn
from torch.utils.data import default_collate

import delete_tasks
from delete_tasks.model import teacher as teachers
from delete_tasks.model.teacher import TeacherCache, make_cache
from delete_tasks.runner.forget_set import ForgetSet


class Teacher:
    """Network with two heads, one of which gives two outputs; counts the samples that it reads."""

    def __init__(self, caught) -> None:
        self.caught, self.count = caught, 0

    def __call__(self, inputs, data_samples, mode) -> None:
        assert mode == "loss" and len(inputs) == len(data_samples)
        self.count += len(inputs)
        self.caught.setdefault("main", deque()).append([inputs * 2, (inputs + 1).double()])
        self.caught.setdefault("auxiliary", deque()).append(inputs.sum(1))


def outputs(cache, places, images):
    caught = {}
    teacher = Teacher(caught)
    cache.run(teacher, caught, (images[places], [str(place) for place in places]), {"mode": "loss"})
    return caught, teacher.count


@pytest.mark.parametrize("limit", [1 << 30, 300, 0])
def test_same_outputs_from_memory_and_from_the_file(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "LIMIT", limit)
    images = torch.randn(6, 3, 2)
    cache = TeacherCache("digest", str(tmp_path))
    counts = []
    for places in ([0, 1, 2], [2, 3, 0], [3, 2, 1], [5, 4, 5]):
        caught, count = outputs(cache, places, images)
        counts.append(count)
        (main,), (auxiliary,) = caught["main"], caught["auxiliary"]
        assert torch.equal(main[0], images[places] * 2) and torch.equal(main[1], (images[places] + 1).double())
        assert torch.equal(auxiliary, images[places].sum(1))
    assert counts == [6, 1, 0, 3]  # the first batch is also read at once, to check that outputs are by sample
    assert list(tmp_path.iterdir()) == []  # the file has no name
    cache.close()
    assert outputs(cache, [0, 1], images)[1] == 2


class Views(torch.utils.data.Dataset):
    """Samples that are rotated, or drawn anew each time they are read."""

    def __init__(self, turns: int) -> None:
        self.turns, self.samples = turns, torch.randn(5, 3, 4, 4)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        view = self.samples[index]
        turned = view.rot90(int(torch.randint(self.turns, ())), (1, 2)) if self.turns else torch.rand_like(view)
        return {"inputs": turned}


@pytest.mark.parametrize(("turns", "steps", "wanted", "cached"), [
    (1, 10, "auto", True),
    (4, 40, "auto", True),
    (0, 40, "auto", False),  # no view repeats
    (1, 3, "auto", False),  # no sample repeats
    (0, 3, True, True),
    (1, 10, False, False),
])  # fmt: skip
def test_auto_caches_if_views_repeat(turns, steps, wanted, cached, tmp_path):
    loader = SimpleNamespace(dataset=ForgetSet(Views(turns), range(5), 0), batch_size=2, collate_fn=default_collate)
    assert (make_cache(wanted, loader, steps, "", str(tmp_path)) is not None) == cached


@pytest.mark.parametrize("kind", ["linear", "convolutional"])
def test_outputs_do_not_depend_on_earlier_batches(kind, tmp_path):
    """A matrix product rounds a sample differently alone and in a batch; a resumed run begins with an empty cache."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 257)) if kind == "linear" else nn.Conv2d(3, 19, 3)
    images = torch.randn(16, 3, 8, 8)

    def outputs_of(cache: TeacherCache, places: list[int]) -> torch.Tensor:
        caught: dict = {}
        with torch.no_grad():
            cache.run(lambda x: caught.update(main=deque([network(x)])), caught, (images[places],), {})
        return caught["main"][0]

    whole, resumed = TeacherCache("digest", str(tmp_path)), TeacherCache("digest", str(tmp_path))
    for places in ([0, 1, 2, 3], [4, 1, 5, 6], [7, 8, 9, 3]):
        outputs_of(whole, places)
    last = [3, 10, 1, 11, 12, 13, 14, 7]
    assert torch.equal(outputs_of(whole, last), outputs_of(resumed, last))
    torch.testing.assert_close(outputs_of(whole, last), network(images[last]).detach(), rtol=1e-5, atol=1e-5)


def test_a_run_with_the_cache_equals_the_run_without_and_resumes(tmp_path, pull_the_plug, publish_anyway):
    torch.manual_seed(0)
    images, labels = torch.randn(12, 3, 8, 8), [0, 1, 2] * 4
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))

    def run(folder: str, cache: bool, resume: bool = False) -> dict[str, torch.Tensor]:
        model = copy.deepcopy(network)
        samples = [(image, label) for image, label in zip(images, labels, strict=True) if label == 1] * 2
        recipe = dict(steps=8, batch_size=4, views="none", match_scale=False, checkpoint_interval=1, lr=1e-2)
        options = dict(cache_teacher=cache, work_dir=tmp_path / folder, resume=resume)
        return delete_tasks.erase(model, samples, [1], **options, **recipe).model.state_dict()

    without, whole = run("without", False), run("whole", True)
    for name, value in without.items():
        torch.testing.assert_close(whole[name], value, rtol=1e-4, atol=1e-5)
    with pull_the_plug(after=5):
        run("broken", True)
    assert same_tensors(whole, run("broken", True, resume=True))


def test_outputs_that_are_not_by_sample_are_not_cached(tmp_path):
    cache, caught, images = TeacherCache("digest", str(tmp_path)), {}, torch.randn(2, 3)
    for _ in range(2):
        caught.clear()
        cache.run(lambda x: caught.update(main=deque([x.sum()])), caught, (images,), {})
        assert torch.equal(caught["main"][0], images.sum())
    assert not cache.active


def test_a_full_disk_costs_only_time(tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "LIMIT", 0)
    cache, images = TeacherCache("digest", str(tmp_path / "missing")), torch.randn(2, 3, 2)
    for first in (True, False):
        caught, count = outputs(cache, [0, 1], images)
        assert count == (4 if first else 2) and torch.equal(caught["main"][0][0], images * 2)
