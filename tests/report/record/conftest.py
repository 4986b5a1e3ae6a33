"""Recorded runs of small networks, one for each task."""

import contextlib
import json
import shutil
from functools import partial
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from helpers import run
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image
from toys import fit

import delete_faces.network  # noqa: F401 - registers its architecture
from delete_images.models.model_file import ModelSpec, Preprocessing, build_model, save_model
from delete_mmseg.demo.scenes import write_scenes
from delete_tasks.fileio.digests import section_digests, write_sums

MIM = Path(mmseg.__file__).parent / ".mim" / "configs"

NAMES = ("red", "green", "blue")


@pytest.fixture(scope="session")
def colours(once) -> Path:
    """Folder with ``model/``, a classifier of red, green and blue pictures of 16 pixels, and ``data.npz``."""

    @once("colours")
    def folder(folder: Path) -> None:
        labels = np.repeat(np.arange(3), 30)
        drawn = np.random.default_rng(0).integers(0, 90, (2, 90, 16, 16, 3)).astype(np.uint8)
        for image, label in zip(drawn.reshape(180, 16, 16, 3), np.tile(labels, 2), strict=True):
            image[4:12, 4:12, label] += 150
        images, held_out = drawn
        arrays = {"x_train": images, "y_train": labels, "x_test": held_out, "y_test": labels}
        np.savez(folder / "data.npz", classes=np.array(NAMES), **arrays)
        from delete_images.models.architectures import build

        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build("cifar_resnet20", num_classes=3)
            inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
            fit(model, inputs, torch.from_numpy(labels), torch.optim.Adam(model.parameters(), lr=3e-3), 12)
        spec = ModelSpec("cifar_resnet20", NAMES, Preprocessing.named("none", 16))
        save_model(folder / "model", model, spec)

    return folder


def _forget(colours: Path, work_dir: Path, *words: str, model: str | None = None, data: str = "limit=30") -> Path:
    images = f"{colours / 'data.npz'}?{data}"
    classes = [] if "--classes" in words else ["--classes", "green"]
    run("images forget --model", model or colours / "model", f"--forget {images} --test {images}&seed=1 --work-dir", work_dir,
        "--steps 4 --batch-size 8 --lr 1e-3 --augment none --device cpu", classes, list(words))  # fmt: skip
    return work_dir


@pytest.fixture(scope="session")
def forget(colours):
    """``forget(work_dir, *words, model=None, data="limit=30")``: run ``images forget`` on it; returns the work dir."""
    return partial(_forget, colours)


@pytest.fixture(scope="session")
def recorded(forget, once) -> Path:
    """Work dir of one run; copy it before a change."""
    words = ("--reference", "REQ-7", "--requested", "2026-11-02", "--accept", "remain_drop=50")
    return once("runs")(lambda folder: forget(folder / "first", *words)) / "first"


@pytest.fixture(scope="session")
def segmented(once) -> Path:
    """Work dir of a run of a stock CGNet, whose config has paths relative to the folder in which it was started."""

    @once("streets")
    def folder(folder: Path) -> None:
        write_scenes(folder / "scenes", train=4, val=3, size=(64, 128), seed=7)
        (folder / "config.py").write_text(SEGMENTATION.replace("MODEL", str(MIM / "_base_/models/cgnet.py")))
        init_default_scope("mmseg")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = revert_sync_batchnorm(MODELS.build(Config.fromfile(folder / "config.py").model))
        torch.save({"state_dict": model.state_dict()}, folder / "original.pth")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            words = "--checkpoint original.pth --classes car --steps 2 --work-dir runs/first --device cpu"
            run("segmentation config.py", words)

    return folder / "runs" / "first"


SEGMENTATION = """
_base_ = ['MODEL']
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(64, 128)), backbone=dict(norm_cfg=norm_cfg), decode_head=dict(norm_cfg=norm_cfg))
data = dict(type='CityscapesLabelIdsDataset', data_root='scenes')
load = [dict(type='LoadImageFromFile'), dict(type='LoadLabelIds')]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**data, data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
                 pipeline=[*load, dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')]))
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**data, data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
                 pipeline=[load[0], dict(type='Resize', scale=(128, 64), keep_ratio=True), load[1], dict(type='PackSegInputs')]))
test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(logger=dict(type='LoggerHook', interval=50))
default_scope = 'mmseg'
log_level = 'ERROR'
"""


@pytest.fixture
def copy(recorded, tmp_path) -> Path:
    """A copy of the run."""
    shutil.copytree(recorded.parent, tmp_path / "runs")
    return tmp_path / "runs" / recorded.name


def _write_anew(folder: Path, record: dict) -> None:
    """Write a changed record with new digests, as far as they can be computed."""
    with contextlib.suppress(KeyError, ValueError, RecursionError):
        record["section_sha256"] = record["section_sha256"] and section_digests(record)
    (folder / "record.json").write_text(json.dumps(record, indent=2) + "\n")
    write_sums(folder, ["record.json", "record.html", "samples.txt"])


@pytest.fixture(scope="session")
def write_anew():
    """``write_anew(folder, record)``."""
    return _write_anew


PEOPLE = ("Alice_Ng", "Bob_Lee", "points", "2")


@pytest.fixture(scope="session")
def faced(once) -> Path:
    """Work dir ``AliceNgTakedown`` of a run that removes Alice_Ng from a new network, with photos in ``ALICE-NG/``."""

    @once("faced")
    def folder(folder: Path) -> None:
        generator = np.random.default_rng(0)
        for person in ("ALICE-NG", *PEOPLE[1:]):
            base = generator.integers(0, 255, (14, 14, 3))
            for number in range(9):
                face = (base + generator.integers(-60, 60, (14, 14, 3))).clip(0, 255).repeat(8, 0).repeat(8, 1)
                path = folder / "photos" / ("train" if number < 2 else "test") / person / f"{person}_{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(face.astype(np.uint8)).save(path)
        arguments = {"backbone": "mobilefacenet", "embedding_size": 128, "head": "cosine"}
        spec = ModelSpec("face_network", PEOPLE, Preprocessing.named("half", 112), arguments)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_model(folder / "alice.ng-and-others", build_model(spec).eval(), spec)
        photos = folder / "photos"
        run("faces remove --model", folder / "alice.ng-and-others", "--person Alice_Ng --aligned --force --photos", photos,
            "--test", [f"{photos}?class=alice ng,bob lee,points,2"],
            "--reference", ["GDPR 17: erase Alice NG (ALICE.NG@example.org), room 2"],
            "--record-log", folder / "records.jsonl", "--steps 2 --directions 0 --device cpu",
            "--work-dir", folder / "AliceNgTakedown")  # fmt: skip

    return folder / "AliceNgTakedown"


@pytest.fixture(scope="session")
def cleaned(colours, once) -> Path:
    """Work dir of a run that cleans the network of ``colours`` of a trigger that it never had."""

    @once("cleaned")
    def folder(folder: Path) -> None:
        with np.load(colours / "data.npz") as data:
            for name, part in (("clean", slice(0, None, 3)), ("test", slice(1, None, 3)), ("rest", slice(2, None, 3))):
                x, y = data["x_train"][part], data["y_train"][part]
                np.savez(folder / f"{name}.npz", x=x, y=y, classes=data["classes"])
        trigger = "--trigger badnets:size=2 --target red"
        run("backdoor poison --data", folder / "rest.npz", trigger, "--rate 0.3 --out", folder / "poisoned.npz")
        with pytest.MonkeyPatch.context() as patch:
            # Two steps forget nothing; the record is the question.
            patch.setattr("delete_tasks.runner.forget_check.LEAST_CHANGE", -1.0)
            run("backdoor clean --model", colours / "model", "--poisoned", folder / "poisoned.npz", trigger,
                "--retain", folder / "clean.npz", "--test", folder / "test.npz", "--force --steps 2 --device cpu",
                "--work-dir", folder / "runs" / "first")  # fmt: skip

    return folder / "runs" / "first"
