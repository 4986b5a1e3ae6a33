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
from mmengine.registry import init_default_scope

import delete_mmseg  # registers what the configs name
from delete_mmseg.demo.scenes import write_scenes
from delete_mmseg.heads import heads_of

MIM = Path(mmseg.__file__).parent / ".mim" / "configs"
ARCHITECTURES = {
    "fcn": "_base_/models/fcn_r50-d8.py",
    "pspnet": "_base_/models/pspnet_r50-d8.py",
    "deeplabv3plus": "_base_/models/deeplabv3plus_r50-d8.py",
    "fastscnn": "_base_/models/fast_scnn.py",
    "bisenetv2": "_base_/models/bisenetv2.py",
    "cgnet": "_base_/models/cgnet.py",
    "pidnet": "pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py",
    "ddrnet": "ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py",
    "segformer": "_base_/models/segformer_mit-b0.py",
    "stdc": "_base_/models/stdc.py",
}
SIZE = (128, 256)


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
        heads = [model.decode_head, model.auxiliary_head]
        for head in heads:
            head.in_channels //= 4
            head.channels //= 4
        if "c1_in_channels" in model.decode_head:
            model.decode_head.c1_in_channels //= 4
    return model


@pytest.fixture(scope="session")
def make_config(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """``make_config(architecture, work_dir, **unlearn)``: a stock-style training config with the four lines appended.

    The original is a freshly initialised network, saved beside the work dir; ``deterministic`` takes augmentation and
    dropout out; ``images`` is the number of training images, if not all ten.
    """
    made = tmp_path_factory.mktemp("originals")

    def make(
        name: str, work_dir: Path, deterministic: bool = False, images: int | None = None, **unlearn: Any
    ) -> Config:
        edges = [dict(type="GenerateEdge", edge_width=4)] if name == "pidnet" else []
        flip = [] if deterministic else [dict(type="RandomFlip", prob=0.5)]

        def data(split: str, *transforms: dict[str, Any], **more: Any) -> dict[str, Any]:
            prefix = dict(img_path=f"leftImg8bit/{split}", seg_map_path=f"gtFine/{split}")
            pipeline = [
                dict(type="LoadImageFromFile"),
                dict(type="LoadLabelIds"),
                *transforms,
                dict(type="PackSegInputs"),
            ]
            return dict(
                type="CityscapesLabelIdsDataset", data_root=str(scenes), data_prefix=prefix, pipeline=pipeline, **more
            )

        cfg = Config(
            dict(
                default_scope="mmseg",
                model=_model(name),
                train_dataloader=dict(
                    batch_size=2,
                    num_workers=0,
                    sampler=dict(type="InfiniteSampler", shuffle=True),
                    dataset=data("train", *flip, *edges, **{} if images is None else {"indices": images}),
                ),
                test_dataloader=dict(
                    batch_size=1,
                    num_workers=0,
                    sampler=dict(type="DefaultSampler", shuffle=False),
                    dataset=data("val"),
                ),
                test_evaluator=dict(type="IoUMetric", iou_metrics=["mIoU"]),
                test_cfg=dict(type="TestLoop"),
                optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01)),
                param_scheduler=[dict(type="PolyLR", end=60000, by_epoch=False)],
                train_cfg=dict(type="IterBasedTrainLoop", max_iters=60000, val_interval=4000),
                default_hooks=dict(
                    logger=dict(type="LoggerHook", interval=50),
                    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=4000),
                ),
                log_level="WARNING",
                custom_imports=dict(imports=["delete_mmseg"], allow_failed_imports=False),
                runner_type="UnlearnRunner",
                work_dir=str(work_dir),
                load_from=str(Path(work_dir).parent / f"{name}.pth"),
                unlearn=dict(type="DELETE", classes=["car"]) | unlearn,
            )
        )
        if deterministic:
            _no_dropout(cfg.model)
        once = made / f"{name}_{deterministic}.pth"
        if not once.exists():
            torch.save({"meta": {}, "state_dict": new_model(cfg).state_dict()}, once)
        if not Path(cfg.load_from).exists():
            shutil.copy(once, cfg.load_from)
        torch.manual_seed(0)  # a test draws the same numbers whether the network was there or not
        return cfg

    return make


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
    from mmengine.model import revert_sync_batchnorm
    from mmseg.registry import MODELS

    from delete_tasks.runner.recipe import no_downloads

    init_default_scope("mmseg")
    no_downloads(cfg.model)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    # Running statistics and logits of a trained network's size: in eval mode the activations of a new one grow from layer
    # to layer until one class has all the probability, and then there is nothing to forget.
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    files = sorted(Path(cfg.train_dataloader.dataset.data_root).glob("leftImg8bit/train/*/*.png"))[:4]
    pictures = torch.stack([torch.from_numpy(cv2.imread(str(file))[..., ::-1].copy()) for file in files])
    picture = (pictures.permute(0, 3, 1, 2) - mean) / std
    with torch.no_grad():
        for _ in range(2):
            model.train().decode_head(model.extract_feat(picture))
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_var.clamp_(min=0.1)  # channels that a new network leaves dead would blow gradients up
        heads = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels == 19]
        for head in heads:
            head.register_forward_hook(_to_unit_variance)
        model.eval()
        for module in delete_mmseg.TASK.training_flags(model):
            module.training = True
        features = model.extract_feat(picture)
        for part in heads_of(model).values():
            part(features)
        for head in heads:
            head._forward_hooks.clear()
    return model


def _to_unit_variance(layer: torch.nn.Conv2d, _: Any, out: torch.Tensor) -> None:
    layer.weight /= out.std()
    if layer.bias is not None:
        layer.bias /= out.std()


def _no_dropout(node: Any) -> None:
    if isinstance(node, dict):
        for key in ("dropout_ratio", "drop_rate", "attn_drop_rate", "drop_path_rate"):
            if key in node:
                node[key] = 0.0
        for value in node.values():
            _no_dropout(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _no_dropout(value)
    if isinstance(node, dict) and str(node.get("type", "")).endswith("Head"):
        node["dropout_ratio"] = 0.0
