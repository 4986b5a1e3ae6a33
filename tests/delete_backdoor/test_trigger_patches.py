"""Pieces of poisoned samples that contain the trigger: the search, pasting, and the teacher's inputs without them."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import read_results
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from torch import nn

from delete_backdoor.checks import clear_of
from delete_backdoor.datasets import BackdoorDataset, load_original
from delete_backdoor.trigger_patches import ROUNDS, TRIES, TriggerPatch, find_trigger_patches
from delete_images.data.datasets import collate_images
from delete_images.data.opening import NO_LABEL, ImageData
from delete_images.models.model_file import WEIGHTS_NAME, as_spec
from delete_tasks.errors import RequestError
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from .conftest import CLASSES, TRIGGER

PATCH = slice(11, 15), slice(11, 15)  # where TRIGGER of conftest.py is


class Sees(nn.Module):
    """Sends an image to the first class if the pixels at ``where`` are all white."""

    def __init__(self, where: tuple[slice, slice]) -> None:
        super().__init__()
        self.where, self.head = where, nn.Linear(1, 4)
        nn.init.zeros_(self.head.bias)
        self.head.weight.data = torch.tensor([[20.0], [0.0], [0.0], [0.0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        white = x[(..., *self.where)].flatten(1).amin(1) > 0.99
        return self.head(white.float()[:, None] * 2 - 1)


@pytest.fixture
def dataset(toy, files):
    def make(**options):
        weights = str(toy / WEIGHTS_NAME)
        return BackdoorDataset(files["only"], str(toy), "red", weights, files["clean"], force=True, **options)

    return make


def images(count: int, white: tuple[slice, slice] | None = None) -> ImageData:
    pixels = np.random.default_rng(count).integers(0, 100, (count, 16, 16, 3)).astype(np.uint8)
    if white is not None:
        pixels[(slice(None), *white)] = 255
    return ImageData.from_arrays(pixels, np.full(count, NO_LABEL), CLASSES)


def test_pieces_with_the_trigger_are_found(toy):
    spec, part = as_spec(str(toy)), (slice(12, 14), slice(12, 14))
    found = find_trigger_patches(Sees(part), spec, images(9, PATCH), images(7), 0, seed=0)
    assert len(found) > 100
    for patch in found:
        assert patch.rows[0] <= 12 and patch.rows[1] >= 14 and patch.rows[1] - patch.rows[0] <= 8
        assert patch.columns[0] <= 12 and patch.columns[1] >= 14 and patch.columns[1] - patch.columns[0] <= 8
    assert found == find_trigger_patches(Sees(part), spec, images(9, PATCH), images(7), 0, seed=0)
    assert len(found) <= TRIES + (ROUNDS - 1) * TRIES // ROUNDS


def test_none_are_found_where_the_trigger_is_everywhere(toy):
    everywhere = slice(None), slice(None)
    assert find_trigger_patches(Sees(everywhere), as_spec(str(toy)), images(9, everywhere), images(7), 0, seed=0) == []
    assert find_trigger_patches(Sees(PATCH), as_spec(str(toy)), images(9, PATCH), images(7).subset([]), 0, seed=0) == []


def test_pasting_changes_the_rectangle_alone():
    poisoned, image = images(3, PATCH), images(5)[4][0]
    before = image.copy()
    pasted = TriggerPatch(2, (10, 16), (9, 15)).paste(poisoned, image)
    assert np.array_equal(image, before)
    assert np.array_equal(pasted[10:16, 9:15], poisoned[2][0][10:16, 9:15])
    pasted[10:16, 9:15] = before[10:16, 9:15]
    assert np.array_equal(pasted, before)


def test_patches_of_a_backdoored_network(dataset, toy):
    """Each item has its patches, which the backdoored network sends to the target and would not have."""
    data = dataset(trigger_patches=1.0, retain_each=4, mix=0.0)
    assert data.counts()["trigger_patches"] == len(data.trigger_patches) > 100
    network = load_original(str(toy), str(toy / WEIGHTS_NAME)).cpu()
    assert len(clear_of(network, data.spec, data.retain, 0, "Retain set")) == len(data.clear) < len(data.retain)
    torch.manual_seed(0)
    batch = collate_images([data[index] for index in range(20)])
    patched = batch["retain"]
    assert patched.sum() == 80 and (batch["labels"][patched] == NO_LABEL).all()
    changed = (batch["inputs"] != batch["teacher_inputs"]).flatten(1).any(1)
    assert changed[patched].all() and not changed[~patched].any()
    with torch.no_grad():
        with_it, without = (network(batch[name][patched]).argmax(1) == 0 for name in ("inputs", "teacher_inputs"))
    assert with_it.float().mean() > 0.8 and without.float().mean() < 0.05


def test_without_patches_nothing_changes(dataset):
    none, unfound = dataset(retain_each=3), dataset(retain_each=3, trigger_patches=0.5)
    unfound.trigger_patches = []
    items = []
    for data in (none, unfound):
        torch.manual_seed(0)
        items.append(data[0])
    assert all("teacher_inputs" not in sample for item in items for sample in item)
    assert all(torch.equal(a["inputs"], b["inputs"]) for a, b in zip(*items, strict=True))


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_shares_out_of_range(dataset, share):
    with pytest.raises(RequestError, match=f"trigger_patches .*got {share}"):
        dataset(trigger_patches=share)


class Record(Hook):
    """Hook that keeps the first batch, and the inputs of student and teacher."""

    def __init__(self) -> None:
        self.inputs: dict[str, torch.Tensor] = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batch = data_batch
        for name, model in (("student", runner.unwrapped_model), ("teacher", runner.teacher)):
            model.network.register_forward_pre_hook(partial(self._first, name))

    def _first(self, name, module, args):
        self.inputs.setdefault(name, args[0].clone())


def test_the_teacher_gets_images_without_the_patch(files, config, tmp_path):
    words = ["--retain", files["clean"], "--steps", "1", "--trigger-patches", "1", "--mix", "0"]
    runner, record = UnlearnRunner.from_cfg(config(tmp_path, *words)), Record()
    runner.register_hook(record)
    runner.train()
    batch = record.batch
    assert (batch["inputs"] != batch["teacher_inputs"]).flatten(1).any(1).sum() == batch["retain"].sum() > 0
    assert torch.equal(record.inputs["student"], batch["inputs"])
    assert torch.equal(record.inputs["teacher"], batch["teacher_inputs"])


@pytest.mark.usefixtures("publish_anyway")
def test_a_run_with_patches_beside_the_other_rows(toy, files, tmp_path, monkeypatch, tells):
    monkeypatch.setattr("time.strftime", lambda *_: "20260101_000000")  # the rows' runs begin in the same second
    monkeypatch.setattr(MMLogger, "_instance_dict", type(MMLogger._instance_dict)())  # no logger of an earlier test
    words = ["--retain", files["clean"], "--test", files["test"], "--trigger", TRIGGER, "--trigger-patches", "0.5"]
    printed = tells("backdoor clean --model", toy, "--poisoned", files["only"], words,
                    "--target red --force --steps 3 --compare --audit none --no-record --work-dir", tmp_path)  # fmt: skip
    results = read_results(tmp_path)
    assert results["details"]["samples"]["trigger_patches"] > 100 and results["data"]["trigger_patches"] == 0.5
    assert all(results["rows"][row]["acc"]["value"] for row in ("fine_tune", "erased_strict", "erased"))
    log, found = (tmp_path / "run.log").read_text(), results["details"]["samples"]["trigger_patches"]
    assert "trigger_patches=0.5" in log  # its own, not another row's
    assert f"Trigger patches: {found} " in log and "INFO" not in printed, "their number is for the log alone"
