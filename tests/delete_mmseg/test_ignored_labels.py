"""What is measured: pixels that no metric counts, by any ignore index; counts of the others; a second last layer in one pass."""

import copy
from types import SimpleNamespace

import cv2
import pytest
import torch
from helpers import argv, read_json, read_results
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate

from delete_mmseg import TASK, run
from delete_mmseg.checks import check_request
from delete_mmseg.datasets import CamVidDataset
from delete_mmseg.files import ignored_labels
from delete_mmseg.opened import by_pixel, reads_whole, reheaded
from delete_tasks.audit.samples import read_rows
from delete_tasks.evaluation import ConfusionState, Evaluation, LocationCounts


@pytest.mark.long
def test_another_ignore_index_is_honoured(shared, repository, tmp_path, monkeypatch, tells, fails):
    """CamVid as a user of MMSegmentation describes it: label 11 is void, and head and metric ignore it."""
    text = f"""
_base_ = [{str(repository / "configs/segmentation/_base_/cgnet_camvid.py")!r}]
model = dict(decode_head=dict(ignore_index=11))
data = dict(type="BaseSegDataset", img_suffix=".webp", ignore_index=11, data_root={str(shared / "data/camvid")!r},
    metainfo={dict(CamVidDataset.METAINFO)!r})
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(**data, indices=3))
test_dataloader = dict(num_workers=0, dataset=dict(**data, indices=3))
val_dataloader = test_dataloader
test_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"], ignore_index=11)
val_evaluator = test_evaluator
custom_imports = dict(imports=["delete_mmseg"], allow_failed_imports=False)
log_level = "WARNING"
"""
    config = tmp_path / "camvid.py"
    config.write_text(text.replace("**data, ", "**data, seg_map_suffix='.png', "))
    monkeypatch.setenv("DELETE_TASKS_SHARED", str(shared))
    words = argv("--checkpoint", shared / "weights/cgnet_camvid11_mmseg.pth", "--classes car --steps 1 --work-dir")
    tells("segmentation", config, words, tmp_path / "run")
    counts = read_results(tmp_path / "run")["details"]["test_set"]
    files = sorted((shared / "data/camvid/labels/test").glob("*.png"))[:3]
    labels = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]
    assert counts["pixels"] == sum(int((label != 11).sum()) for label in labels) < 3 * 360 * 480
    assert counts["forgotten_pixels"] == sum(int((label == 8).sum()) for label in labels)
    assert counts["images"] == 3
    # The record's attention picture and its rerun use the same index.
    record = read_json(tmp_path, "run/record.json")
    assert record["picture_note"] is None and record["measurement"]["options"]["ignored"] == [11]
    # The same labels under a config that does not know 11: named, with the value, before the first step.
    broken = config.read_text().replace("ignore_index=11", "ignore_index=255")
    (tmp_path / "broken.py").write_text(broken)
    fails(f"{files[0].name} .*11 .*0 to 10.*255", "segmentation", tmp_path / "broken.py", words, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("config", "expected"), [
    (None, (255,)), (dict(model=dict(decode_head=dict(type="FCNHead"))), (255,)),
    (dict(model=dict(decode_head=dict(ignore_index=11))), (11,)),
    (dict(model=dict(decode_head=dict(ignore_index=11)), test_evaluator=dict(type="IoUMetric")), (11, 255)),
    (dict(model=dict(decode_head=dict(ignore_index=11)), test_evaluator=[dict(ignore_index=11)]), (11,)),
    (dict(model=dict(decode_head=[dict(ignore_index=None)], auxiliary_head=[dict(ignore_index=9)])), (9,)),
    (dict(model=dict(decode_head=dict(ignore_index=7, loss_decode=[dict(ignore_index=8), dict()]))), (7, 8)),
])  # fmt: skip
def test_ignored_labels(config, expected):
    assert ignored_labels(config and Config(config)) == expected


def test_counts_keep_sums_alone():
    """The confusion matrices equal scikit-learn's, and the state does not grow with the number of images."""
    from sklearn.metrics import confusion_matrix

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 12, 12, generator=generator)
    labels = torch.randint(0, 4, (5, 12, 12), generator=generator)
    labels[:, :2] = 11
    state = ConfusionState(4, [1, 2], [11])
    held = state.sums.numel()
    for one, label in zip(logits, labels, strict=True):
        state.update(one.clone(), label)
    assert state.sums.numel() == held
    own, without = state.compute()
    logits, labels = logits.transpose(0, 1).flatten(1), labels.flatten()
    counted = labels != 11
    expected = confusion_matrix(labels[counted], logits.argmax(0)[counted], labels=range(4))
    assert (own.confusion.numpy() == expected).all()
    logits[[1, 2]] = -torch.inf
    expected = confusion_matrix(labels[counted], logits.argmax(0)[counted], labels=range(4))
    assert (without.confusion.numpy() == expected).all()
    assert (own.samples, own.showing) == (5, 5)


@pytest.fixture
def opened(make_config, tmp_path):
    """The same model as original and erased, and the test scenes."""
    opened = check_request(make_config("cgnet", tmp_path / "run")).opened
    opened.models["erased"] = opened.models["original"]
    return opened


def test_each_image_is_measured_once_on_any_number_of_processes(opened, monkeypatch):
    monkeypatch.setattr(run, "all_reduce", lambda sums: None)
    whole = []
    for processes in (1, 3):
        sums = torch.zeros(())
        for rank in range(processes):
            monkeypatch.setattr(run, "get_dist_info", lambda rank=rank, processes=processes: (rank, processes))
            counts, pictures, pixels = run._read(opened)
            assert [*pixels] == ["original", "erased"] * (rank == 0)
            sums = sums + counts["original"][0].confusion
            assert bool(pictures) == (rank == 0)
            assert torch.equal(*(counts[row][0].confusion for row in ("original", "erased")))
        whole.append(sums)
    assert torch.equal(*whole) and whole[0].sum() == len(opened.samples["test"]) * 128 * 256


def test_attacks_read_the_pixels_of_the_table(opened):
    table, rows = run._read(opened)[2]["erased"], read_rows(by_pixel(opened, opened.ignored), "test")
    again = rows["erased"]["test"]
    assert torch.equal(table.labels, again.labels) and len(table.labels) > 100
    assert torch.allclose(table.features, again.features, atol=1e-4)
    assert torch.allclose(table.logits, again.logits, atol=1e-3)
    opened.models["original"].module.test_cfg["mode"] = "slide"
    assert not reads_whole(opened.models["original"].module)  # the last features are those of a window


def test_the_original_head_is_put_back_on_the_erased_features(opened):
    erased = copy.deepcopy(opened.models["original"].module)
    TASK.classifier(erased)[1].weight.data.neg_()
    counts, *_ = run._rows(SimpleNamespace(unwrapped_model=erased, task=TASK), opened)
    original, changed, restored = (counts[row].confusion for row in ("original", "erased", "erased_with_original_head"))
    assert torch.equal(restored, original) and not torch.equal(changed, original)


@pytest.mark.parametrize(("name", "windows"), [("cgnet", False), ("fcn", False), ("cgnet", True)])
def test_one_pass_is_as_good_as_two(name, windows, make_config, tmp_path):
    opened = check_request(make_config(name, tmp_path / "run")).opened
    original, samples = opened.models["original"], opened.samples["test"]
    if windows:
        original.module.test_cfg = ConfigDict(mode="slide", crop_size=(32, 48), stride=(20, 30))
    other, data = copy.deepcopy(original.last_layer), pseudo_collate([samples[0]])
    with torch.no_grad():
        other.weight.add_(0.3 * torch.randn_like(other.weight))
        with reheaded(original, other, samples) as second:
            assert (second.module is original.module) != windows
            alone, restored = original.run(data), second.run(data)
        original.last_layer.load_state_dict(other.state_dict())
        changed = original.run(data)
    assert torch.equal(restored, changed) and not torch.equal(alone, changed)


@pytest.mark.parametrize(("count", "note"), [(12345, "74,070 locations"), (0, "none of")])
def test_an_iou_says_of_how_many_locations_it_is(count, note):
    evaluation = Evaluation(TASK.metrics, [0, 1], ["car", "bus", "sky"])
    evaluation.add("original", {"test": LocationCounts(torch.full((3, 3), count), 1234, 1000)})
    assert note in evaluation.rows["original"]["forget_iou"].note
