"""Small variants of MMSegmentation's own architectures, on street scenes in Cityscapes' layout."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import mmseg
import pytest
import torch
from helpers import argv
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import delete_mmseg  # registers what the configs name
from delete_mmseg.demo.scenes import write_scenes
from delete_mmseg.heads import heads_of
from delete_tasks.runner.recipe import no_downloads
from delete_tasks.runner.unlearn_runner import UnlearnRunner

MIM = Path(mmseg.__file__).parent / ".mim" / "configs"
ARCHITECTURES = {
    "fcn": "_base_/models/fcn_r50-d8.py", "pspnet": "_base_/models/pspnet_r50-d8.py",
    "deeplabv3plus": "_base_/models/deeplabv3plus_r50-d8.py", "fastscnn": "_base_/models/fast_scnn.py",
    "bisenetv2": "_base_/models/bisenetv2.py", "cgnet": "_base_/models/cgnet.py",
    "pidnet": "pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py",
    "ddrnet": "ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py",
    "segformer": "_base_/models/segformer_mit-b0.py", "stdc": "_base_/models/stdc.py",
}  # fmt: skip
SIZE = (128, 256)
DROPOUT = ("dropout_ratio", "drop_rate", "attn_drop_rate", "drop_path_rate")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten training and four validation scenes, 128x256."""
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, train=10, val=4, size=SIZE, seed=7)
    return root


def _model(name: str) -> dict[str, Any]:
    model = Config.fromfile(str(MIM / ARCHITECTURES[name])).model
    model.data_preprocessor.size = SIZE
    model.pretrained = None
    if "depth" in model.backbone:  # ResNet-50 -> 18: a quarter of the channels
        model.backbone.depth = 18
        for head in (model.decode_head, model.auxiliary_head):
            head.in_channels //= 4
            head.channels //= 4
        if "c1_in_channels" in model.decode_head:
            model.decode_head.c1_in_channels //= 4
    return model


def _data(root: Path, split: str, *transforms: dict[str, Any], **more: Any) -> dict[str, Any]:
    prefix = dict(img_path=f"leftImg8bit/{split}", seg_map_path=f"gtFine/{split}")
    pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadLabelIds"), *transforms, dict(type="PackSegInputs")]
    return dict(type="CityscapesLabelIdsDataset", data_root=str(root), data_prefix=prefix, pipeline=pipeline, **more)


@pytest.fixture(scope="session")
def make_config(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """``make_config(architecture, work_dir, **unlearn)``: a stock-style training config with the four lines appended.

    The original is a freshly initialised network, saved beside the work dir; ``deterministic`` takes augmentation and
    dropout out; ``images`` is the number of training images, if not all ten; ``parts`` are changes of the config by dotted name.
    """
    made = tmp_path_factory.mktemp("originals")

    def make(name: str, work_dir: Path, deterministic=False, images=None, parts=None, **unlearn: Any) -> Config:
        transforms = [] if deterministic else [dict(type="RandomFlip", prob=0.5)]
        transforms += [dict(type="GenerateEdge", edge_width=4)] * (name == "pidnet")
        train = _data(scenes, "train", *transforms, **{} if images is None else {"indices": images})
        cfg = Config(dict(
            default_scope="mmseg", model=_model(name), log_level="WARNING", work_dir=str(work_dir),
            train_dataloader=dict(batch_size=2, num_workers=0, sampler=dict(type="InfiniteSampler", shuffle=True), dataset=train),
            test_dataloader=dict(batch_size=1, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
                                 dataset=_data(scenes, "val")),
            test_evaluator=dict(type="IoUMetric", iou_metrics=["mIoU"]), test_cfg=dict(type="TestLoop"),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01)),
            param_scheduler=[dict(type="PolyLR", end=60000, by_epoch=False)],
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=60000, val_interval=4000),
            default_hooks=dict(logger=dict(type="LoggerHook", interval=50),
                               checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=4000)),
            custom_imports=dict(imports=["delete_mmseg"], allow_failed_imports=False), runner_type="UnlearnRunner",
            load_from=str(Path(work_dir).parent / f"{name}.pth"),
            unlearn=dict(type="DELETE", classes=["car"]) | unlearn,
        ))  # fmt: skip
        if deterministic:
            _no_dropout(cfg.model)
        once = made / f"{name}_{deterministic}.pth"
        if not once.exists():
            torch.save({"meta": {}, "state_dict": new_model(cfg).state_dict()}, once)
        if not Path(cfg.load_from).exists():
            shutil.copy(once, cfg.load_from)
        torch.manual_seed(0)  # a test draws the same numbers whether the network was there or not
        cfg.merge_from_dict(parts or {})
        return cfg

    return make


@pytest.fixture
def train(make_config, tmp_path) -> Callable[..., UnlearnRunner]:
    """``train(config)``, or ``train(architecture, folder="run", **options)`` with options as of ``make_config``: the runner of
    a finished run."""

    def train(config: Config | str, folder: str | Path = "run", *hooks: Hook, **options: Any) -> UnlearnRunner:
        cfg = make_config(config, tmp_path / folder, **options) if isinstance(config, str) else config
        runner = UnlearnRunner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
        return runner

    return train


class Watch(Hook):
    """Record of each step's losses by name, and of a teacher at any step."""

    def __init__(self) -> None:
        self.outputs, self.teacher = list[dict[str, Any]](), False

    def after_train_iter(self, runner: UnlearnRunner, outputs: Any = None, **_: Any) -> None:
        self.outputs.append(outputs)
        self.teacher |= "teacher" in vars(runner)


@pytest.fixture
def watch() -> Watch:
    """A hook for ``train``."""
    return Watch()


@pytest.fixture
def started(make_config, tmp_path) -> Callable[..., tuple[UnlearnRunner, Any]]:
    """``started(architecture, **options)``: a runner with its original loaded but not trained, and its first batch."""

    def started(name: str, **options: Any) -> tuple[UnlearnRunner, Any]:
        runner = UnlearnRunner.from_cfg(make_config(name, tmp_path / "run", **options))
        init_default_scope("mmseg")
        runner.build_train_loop(runner._train_loop)
        runner.load_checkpoint(runner.cfg.load_from)
        batch = next(iter(runner.build_dataloader(runner._train_dataloader, seed=0)))
        return runner, runner.unwrapped_model.data_preprocessor(batch, training=True)

    return started


@pytest.fixture
def segmentation(tmp_path) -> Callable[..., list[str]]:
    """``segmentation(cfg, *more)``: words of a run by a config, into its work dir."""

    def words(cfg: Config, *more: object) -> list[str]:
        cfg.dump(tmp_path / "config.py")
        command = argv("segmentation", tmp_path / "config.py", "--checkpoint", cfg.load_from)
        return argv(command, "--work-dir", cfg.work_dir, *more)

    return words


def new_model(cfg: Config) -> torch.nn.Module:
    """A network of the config with fixed random weights, on the CPU, without synchronised batch norm."""
    init_default_scope("mmseg")
    no_downloads(cfg.model)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    # Running statistics and logits of a trained network's size: in eval mode the activations of a new one grow from layer
    # to layer until one class has all the probability, and then there is nothing to forget.
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    files = sorted(Path(cfg.train_dataloader.dataset.data_root).glob("leftImg8bit/train/*/*.png"))[:4]
    pictures = torch.stack([torch.from_numpy(cv2.imread(str(file))[..., ::-1].copy()) for file in files])
    picture = (pictures.permute(0, 3, 1, 2) - mean) / std
    with torch.no_grad():
        for _ in range(2):
            model.train().decode_head(model.extract_feat(picture))
        for norm in norms:
            norm.running_var.clamp_(min=0.1)  # channels that a new network leaves dead would blow gradients up
        hooks = [
            module.register_forward_hook(_to_unit_variance)
            for module in model.modules()
            if isinstance(module, torch.nn.Conv2d) and module.out_channels == 19
        ]
        model.eval()
        for module in delete_mmseg.TASK.training_flags(model):
            module.training = True
        features = model.extract_feat(picture)
        for part in heads_of(model).values():
            part(features)
        for hook in hooks:
            hook.remove()
    return model


def _to_unit_variance(layer: torch.nn.Conv2d, _: Any, out: torch.Tensor) -> None:
    layer.weight /= out.std()
    if layer.bias is not None:
        layer.bias /= out.std()


def _no_dropout(node: Any) -> None:
    if isinstance(node, dict):
        node.update({key: 0.0 for key in DROPOUT if key in node})
        if str(node.get("type", "")).endswith("Head"):
            node["dropout_ratio"] = 0.0
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        _no_dropout(value)
