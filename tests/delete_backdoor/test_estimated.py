"""The trigger that is estimated from poisoned samples: how near it comes, and how a run uses it."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import read_results
from mmengine.hooks import Hook
from mmengine.logging import MMLogger

from delete_backdoor.datasets import BackdoorDataset, load_original
from delete_backdoor.poison import triggered
from delete_backdoor.triggers import parse_trigger
from delete_backdoor.triggers.estimated import Estimated, estimate_trigger
from delete_images.data.datasets import collate_images
from delete_images.data.opening import NO_LABEL
from delete_images.models.model_file import WEIGHTS_NAME
from delete_tasks.errors import RequestError
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from .conftest import TRIGGER, make_data


@pytest.fixture
def dataset(toy, files):
    def make(**options):
        weights = str(toy / WEIGHTS_NAME)
        options = {"retain": files["clean"], "force": True, **options}
        return BackdoorDataset(files["only"], str(toy), "red", weights, **options)

    return make


@pytest.fixture
def overlay(tmp_path):
    """A full-size image to add or blend in."""
    levels = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    np.save(tmp_path / "added.npy", (levels // 4).astype(np.int64))
    np.save(tmp_path / "blended.npy", levels.astype(np.int64))
    kinds = {"trojan": "trojan:image={}/added.npy", "blended": "blended:image={}/blended.npy,alpha=0.2"}
    return {kind: text.format(tmp_path) for kind, text in kinds.items()}


@pytest.mark.parametrize("kind", ["patch", "trojan", "blended"])
def test_a_trigger_is_estimated_from_other_images(overlay, kind):
    """Replaced pixels, an added pattern (clipped), a blended image: within a quarter of what they change."""
    trigger = parse_trigger(overlay.get(kind, TRIGGER))
    estimated = estimate_trigger(triggered(make_data(600, 5), trigger, 0), make_data(600, 6))
    images = np.stack([make_data(100, 7)[index][0] for index in range(100)])
    true, near = (np.stack([put(image) for image in images]).astype(float) for put in (trigger.stamp, estimated.stamp))
    changed, wrong = np.sqrt(((true - images) ** 2).mean()), np.sqrt(((near - true) ** 2).mean())
    assert wrong < 0.25 * changed, (changed, wrong)
    if kind == "patch":
        assert (estimated.affine[0, 11:15, 11:15] == 0).all() and (estimated.affine[1, 11:15, 11:15] == 255).all()


def test_images_without_a_trigger_have_none():
    affine = estimate_trigger(make_data(600, 5), make_data(600, 6)).affine
    assert (affine[0] == 1).mean() > 0.95 and np.abs(affine[1][affine[0] == 1]).mean() < 1


def test_a_file_of_an_estimated_trigger(tmp_path):
    image, affine = make_data(1, 0)[0][0], np.stack([np.full((16, 16, 3), 0.5), np.full((16, 16, 3), 20.0)])
    np.save(tmp_path / "t.npy", affine)
    assert np.array_equal(parse_trigger(f"estimated:file={tmp_path}/t.npy").apply(image), np.rint(image / 2 + 20))
    np.save(tmp_path / "flat.npy", affine[0])
    for name, error, fact in (("none", FileNotFoundError, "none.npy"), ("flat", RequestError, r"\(16, 16, 3\)")):
        with pytest.raises(error, match=fact):
            parse_trigger(f"estimated:file={tmp_path}/{name}.npy")
    with pytest.raises(RequestError, match=r"16x16 .*8x16"):
        Estimated.of(affine).apply(image[:8])


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_inputs_with_the_trigger_are_images_with_it(dataset, channels):
    """On normalised inputs, in either order of channels, as on the image."""
    from msgspec.structs import replace

    from delete_images.data.transforms import eval_transform

    data, image = dataset(paste=0.5), make_data(1, 0)[0][0]
    data.spec = replace(data.spec, preprocessing=replace(data.spec.preprocessing, channels=channels))
    plain = eval_transform(data.spec)
    data._use(data.estimated)
    assert torch.allclose(data.pasted(plain(image), *data.affine), plain(data.estimated.stamp(image)), atol=0.01)


def test_items_have_the_trigger_and_the_teacher_does_not_see_it(dataset, toy):
    data = dataset(paste=1.0, retain_each=4)
    assert data.counts()["estimated_trigger_reach"] > 90
    network = load_original(str(toy), str(toy / WEIGHTS_NAME)).cpu()
    torch.manual_seed(0)
    items = [data[index] for index in range(60)]
    assert {len(item) for item in items} == {5}
    batch = collate_images(items)
    pasted = batch["retain"]
    assert 0 < (~pasted).sum() < 20 and (batch["labels"][pasted] == NO_LABEL).all()
    changed = (batch["inputs"] != batch["teacher_inputs"]).flatten(1).any(1)
    assert changed[pasted].float().mean() > 0.95 and not changed[~pasted].any()
    with torch.no_grad():
        with_it, without = (network(batch[name][pasted]).argmax(1) == 0 for name in ("inputs", "teacher_inputs"))
    assert with_it.float().mean() > 0.8 and without.float().mean() < 0.5


def test_a_trigger_that_cannot_be_estimated_is_not_used(dataset, monkeypatch):
    """Then each item begins with a poisoned sample, as without the option."""
    monkeypatch.setattr("delete_backdoor.datasets.estimate_trigger", lambda *_: Estimated.of(IDENTITY))
    none, unused = dataset(retain_each=3), dataset(retain_each=3, paste=0.5)
    assert unused.estimated is None and unused.counts()["estimated_trigger_reach"] < 20
    items = []
    for data in (none, unused):
        torch.manual_seed(0)
        items.append(data[0])
    assert all("teacher_inputs" not in sample for item in items for sample in item)
    assert all(torch.equal(a["inputs"], b["inputs"]) for a, b in zip(*items, strict=True))
    with pytest.raises(RequestError, match=r"trigger-free views .*--retain"):
        dataset(paste=0.5, retain=None)


IDENTITY = np.stack([np.ones((16, 16, 3)), np.zeros((16, 16, 3))])


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_shares_out_of_range(dataset, share):
    with pytest.raises(RequestError, match=f"paste .*got {share}"):
        dataset(paste=share)


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


def test_the_teacher_of_a_run_gets_images_without_the_trigger(files, config, tmp_path):
    runner, record = UnlearnRunner.from_cfg(config(tmp_path, "--retain", files["clean"], "--steps", "1")), Record()
    runner.register_hook(record)
    runner.train()
    batch = record.batch
    changed = (batch["inputs"] != batch["teacher_inputs"]).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4 and not changed[~batch["retain"]].any()
    assert torch.equal(record.inputs["student"], batch["inputs"])
    assert torch.equal(record.inputs["teacher"], batch["teacher_inputs"])


def test_a_run(toy, files, tmp_path, monkeypatch, tells, publish_anyway):
    monkeypatch.setattr(MMLogger, "_instance_dict", type(MMLogger._instance_dict)())  # no logger of an earlier test
    words = ["--retain", files["clean"], "--test", files["test"], "--trigger", TRIGGER]
    printed = tells("backdoor clean --model", toy, "--poisoned", files["only"], words,
                    "--target red --force --steps 3 --audit none --no-record --work-dir", tmp_path)  # fmt: skip
    results = read_results(tmp_path)
    assert results["details"]["samples"]["estimated_trigger_reach"] > 90 and results["data"]["paste"] == 0.45
    log = (tmp_path / "run.log").read_text()
    assert "Estimated trigger: " in log and "the trigger was estimated from them" in log
    assert "INFO" not in printed and "Estimated trigger: brings " in printed and "pasted on retain samples." in printed
