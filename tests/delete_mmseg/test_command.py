"""Short runs of `delete-tasks segmentation` on a real network and real images; stock train.py gives the same tensors."""

import os
import shutil
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from harness import World, is_done
from helpers import SCRIPT, argv, read_results, same_tensors, values
from mmengine.config import Config

from delete_mmseg.run import ious
from delete_mmseg.run import make_config as command_config
from delete_tasks.cli import main
from delete_tasks.evaluation import LocationCounts
from delete_tasks.evaluation import functional as f

STEPS, IMAGES, TESTED = 10, 132, 8
TRAIN = Path(mmseg.__file__).parent / ".mim" / "tools" / "train.py"
ROWS = ["original", "logit_cut", "erased", "erased_with_original_head"]
FEW = f"train_dataloader.dataset.indices={IMAGES} train_dataloader.num_workers=0"  # the config asks for persistent workers


@pytest.fixture(scope="module")
def run(shared, repository, tmp_path_factory):
    """Run the command with few steps and images."""
    work_dir = tmp_path_factory.mktemp("camvid") / "erased"
    config = str(repository / "configs/segmentation/cgnet_camvid_forget-car.py")
    checkpoint = str(shared / "weights/cgnet_camvid11_mmseg.pth")
    os.environ["DELETE_TASKS_SHARED"] = str(shared)
    changes = f"test_dataloader.dataset.indices={TESTED} log_level=WARNING unlearn.schedule=cosine {FEW}"
    words = argv("segmentation", config, "--checkpoint", checkpoint, "--classes car --work-dir", work_dir)
    assert main(argv(words, f"--steps {STEPS} --batch-size 2 --lr 1e-4 --cfg-options {changes}")) == 0
    return work_dir, config, checkpoint


@pytest.mark.slow
def test_results(run):
    results = read_results(run[0])
    assert results["task"] == "segmentation" and results["forgotten"] == ["car"]
    assert list(results["rows"]) == ROWS
    rows = values(results["rows"])
    original, cut, erased, under_original = (rows[name] for name in ROWS)
    names = "forget_iou others_miou miou others_drop still_predicted misplaced unexpected avoided"
    assert set(original) == set(names.split())
    assert 0 < rows["erased"]["misplaced"] < 30
    still = results["rows"]["erased"]["still_predicted"]
    assert still["value"] == results["forget_check"]["still"] and "locations" in still["note"]
    per_class, counts = results["details"]["per_class"]["original"], results["details"]["test_set"]
    assert len(per_class) == 11 and counts["images"] == TESTED
    assert counts["pixels"] == counts["forgotten_pixels"] + counts["other_pixels"] < TESTED * 480 * 360
    for row in results["rows"].values():
        assert row["others_miou"]["count"] == TESTED
        assert 0 < row["forget_iou"]["count"] == counts["images_with_forgotten"] <= TESTED
        assert row["forget_iou"]["note"].startswith(f"{counts['forgotten_pixels']:,} locations")
    assert original["forget_iou"] > 60 and per_class["car"] == original["forget_iou"]
    assert cut["forget_iou"] == 0.0 and cut["others_miou"] >= original["others_miou"]
    assert max(erased["forget_iou"], under_original["forget_iou"]) < original["forget_iou"] / 3
    assert erased["others_miou"] > original["others_miou"] - 5
    assert sum(results["prediction_shares"].values()) == pytest.approx(100, abs=0.1)
    attacked = results["audit"]["rows"]  # whose reader is the row erased_with_original_head, on other pixels
    before, after = (attacked[row]["original_head"]["value"] for row in ("original", "erased"))
    assert before > 60 and after is not None
    assert results["forget_set"]["read"] == 130 and results["forget_set"]["available"] == IMAGES
    assert len(results["forget_set"]["sha256"]) == 64
    assert results["steps"] == STEPS and results["seconds"]["unlearning"] > 0 and results["peak_memory_mb"] > 100


@pytest.mark.slow
def test_what_comes_out(run):
    work_dir, config, _ = run
    from mmseg.apis import inference_model, init_model

    raw = (work_dir / "erased.pth").read_bytes()
    assert b"car\x00" not in raw and b"optimizer" not in raw and b"teacher" not in raw
    erased = torch.load(work_dir / "erased.pth", weights_only=True)
    assert set(erased) == {"meta", "state_dict"} and set(erased["meta"]) == {"dataset_meta"}
    assert "car" not in erased["meta"]["dataset_meta"]["classes"]
    assert not any("teacher" in name for name in erased["state_dict"])
    model = init_model(config, str(work_dir / "erased.pth"), device="cpu")
    model.load_state_dict(erased["state_dict"], strict=True)
    assert model.dataset_meta["classes"][8] == "class_8"
    out = inference_model(model, np.zeros((96, 128, 3), np.uint8))
    assert out.pred_sem_seg.data.shape == (1, 96, 128)
    picture = (work_dir / "before_after.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and len(picture) > 50_000


@pytest.mark.slow
def test_four_lines_and_stock_train_give_the_same_tensors(run, server, repository, tmp_path):
    work_dir, _, checkpoint = run
    stock = repository / "configs/segmentation/_base_/cgnet_camvid.py"
    config = tmp_path / "four_lines.py"
    config.write_text(f"""
_base_ = [{str(stock)!r}]
custom_imports = dict(imports=['delete_mmseg'], allow_failed_imports=False)
runner_type = 'UnlearnRunner'
load_from = {checkpoint!r}
unlearn = dict(type='DELETE', classes=['car'], steps={STEPS}, batch_size=2, optimizer=dict(type='AdamW', lr=1e-4),
               schedule='cosine', readout=0.01)
""")
    base = Config.fromfile(str(config))
    assert base.train_cfg.max_iters == 60000 and base.optim_wrapper.optimizer.type == "Adam"
    words = argv(str(TRAIN), config, "--work-dir", tmp_path / "stock", "--cfg-options", FEW)
    # The same number of threads as the command had: sums in another order differ in their last bit.
    before = f"import torch; torch.set_num_threads({torch.get_num_threads()})"
    is_done(server.run([], World(tmp_path / "world"), code=SCRIPT, before=before, path=".", words=words))
    expected = torch.load(work_dir / "erased.pth", weights_only=True)["state_dict"]
    got = torch.load(tmp_path / "stock" / "erased.pth", weights_only=True)["state_dict"]
    assert same_tensors(expected, got)


@pytest.mark.parametrize("lr", [None, 5e-5])
def test_a_preset_replaces_the_recipe_and_other_options_the_presets(lr, repository, shared):
    config = repository / "configs/segmentation/cgnet_camvid_forget-car.py"
    quick = command_config(str(config), "O.pth", [], "W", {"preset": "quick", "lr": lr}).unlearn
    recipe = dict(steps=100, schedule="constant", optimizer=dict(type="AdamW", lr=lr or 1e-4))
    assert quick == dict(type="DELETE", classes=["car"], **recipe)
    written = Config.fromfile(str(config.with_stem("cgnet_camvid_forget-car_quick"))).unlearn
    assert written == quick | dict(readout=0.0, optimizer=dict(type="AdamW", lr=1e-4))
    assert command_config(str(config), "O.pth", [], "W", {"preset": None}).unlearn.steps == 400


def test_without_labels_the_original_selects(make_config, train, segmentation, scenes, tmp_path, fails):
    """select='teacher' reads no annotation: they may be missing altogether."""
    blind = tmp_path / "scenes"
    shutil.copytree(scenes, blind)
    shutil.rmtree(blind / "gtFine" / "train")
    parts = {"train_dataloader.dataset.data_root": str(blind)}
    options = dict(select="teacher", locations="forgotten", classes=[0])
    cfg = make_config("cgnet", tmp_path / "run", parts=parts, steps=2, **options)
    original = torch.load(cfg.load_from, weights_only=True)
    original["state_dict"]["decode_head.conv_seg.bias"][0] += 3  # an untrained network that does see road
    torch.save(original, cfg.load_from)
    runner = train(cfg)
    assert 1 <= runner.selection.forget_set["read"] <= runner.selection.forget_set["available"] == 10
    assert (tmp_path / "run" / "erased.pth").is_file()
    fails("select='teacher'", segmentation(make_config("cgnet", tmp_path / "other", parts=parts, steps=2)))


@pytest.mark.parametrize("changes", [
    pytest.param([dict(masking="own"), dict(locations="forgotten")], marks=pytest.mark.long),
    [dict(teacher_temperature=0.25, temperature=2.0), dict(readout=0.1)],
])  # fmt: skip
def test_options_reach_the_loss(changes, train, tmp_path):
    weights = []
    for folder, options in zip(("plain", "first", "second"), ({}, *changes), strict=True):
        train("cgnet", folder, steps=2, classes=["car", "road"], **options)
        state = torch.load(tmp_path / folder / "erased.pth", weights_only=True)["state_dict"]
        weights.append(state["decode_head.conv_seg.weight"])
    assert not any(torch.equal(weights[0], changed) for changed in weights[1:])


def test_figures():
    confusion, names = torch.tensor([[8, 2, 0], [4, 4, 2], [0, 0, 0]]), ["road", "car", "sky"]
    assert f.intersection_over_union(confusion)[:2].tolist() == pytest.approx([800 / 14, 400 / 12])
    assert f.forgotten_iou(confusion, [1]) == pytest.approx(33.3333, abs=1e-3)
    # Without car's pixels: road 8 right of 10, and 2 predicted car elsewhere; sky never occurs there.
    assert f.remaining_iou(confusion, [1]) == pytest.approx(80.0)
    assert ious(LocationCounts(confusion, 1, 1), names)["sky"] == 0.0
    assert f.forgotten_iou(torch.diag(torch.tensor([5, 0, 0])), [1]) is None
    assert f.prediction_shares(confusion[1], names) == {"road": 40.0, "car": 40.0, "sky": 20.0}
