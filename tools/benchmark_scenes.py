"""Table of docs/benchmarks/detection.md: small networks of other kinds learn the drawn street scenes, and forget.

usage: benchmark_scenes.py --network retinanet --classes car [person] --work-dir DIR [--steps N] [--threads N]

Boxes and masks come from the scenes' own label maps: each connected region of a thing, and for Mask2Former each class, is an
object. Training, testing and forgetting read different scenes; DIR keeps the trained weights. Rows are those of
benchmark_detection.py, and IoU in percent for Mask2Former.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import transformers
from benchmark_detection import table
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops import MultiScaleRoIAlign, box_convert

from delete_detection.data import Pictures
from delete_detection.parts import parts_of
from delete_mmseg.demo.canvas import LABEL_IDS
from delete_mmseg.demo.scenes import draw_scene
from delete_tasks.display.progress import track
from delete_tasks.evaluation.functional import confusion_matrix, intersection_over_union
from delete_tasks.fileio.atomic import replacing
from delete_tasks.fileio.checkpoint import load_weights

SIZE = (128, 256)
THINGS = ("car", "person", "pole", "traffic sign")
STUFF = ("road", "sidewalk", "building", "vegetation", "sky")
AREA = 24  # pixels; smaller regions are no objects
TRAIN, TEST, FORGET, BATCH = 600, 100, 60, 8
STAGES = ["stage2", "stage3", "stage4"]


def draw(split: int, count: int) -> tuple[list[Tensor], list[np.ndarray[Any, Any]]]:
    """Draw scenes: images (3, H, W), normalised, and maps of label ids (H, W)."""
    images, maps = [], []
    for number in track(range(count), count, "Drawing"):
        picture, labels = draw_scene((7, split, number), SIZE)
        images.append((torch.from_numpy(picture).permute(2, 0, 1).float() / 255 - 0.45) / 0.225)
        maps.append(labels)
    return images, maps


def objects(labels: np.ndarray[Any, Any], pixels: bool) -> dict[str, Tensor]:
    """Objects of a map: ``labels`` (n,), ``boxes`` (n, 4) in pixels and ``masks`` (n, H, W)."""
    found: list[tuple[int, list[int], Any]] = []
    for number, name in enumerate((*THINGS, *STUFF) if pixels else THINGS):
        where = (labels == LABEL_IDS[name]).astype(np.uint8)
        count, regions, boxes, _ = cv2.connectedComponentsWithStats(where)
        if pixels and where.any():
            found.append((number, [0, 0, SIZE[1], SIZE[0]], where))
        for region in range(1, 1 if pixels else count):
            x, y, width, height, area = boxes[region].tolist()
            if area >= AREA:
                found.append((number, [x, y, x + width, y + height], regions == region))
    masks = torch.from_numpy(np.stack([mask for *_, mask in found])).float() if found else torch.zeros(0, *SIZE)
    boxes = torch.tensor([box for _, box, _ in found], dtype=torch.float32).view(-1, 4)
    return {"labels": torch.tensor([label for label, *_ in found], dtype=torch.int64), "boxes": boxes, "masks": masks}


# Networks: how they are built, and their loss -------------------------------------------------------------------------


def pyramid(layers: tuple[int, ...]) -> nn.Module:
    """Maps of 64 channels from the stages of a ResNet of one block each."""
    names = {f"layer{layer}": str(layer) for layer in layers}
    body = ResNet(BasicBlock, [1, 1, 1, 1])
    return BackboneWithFPN(body, names, [32 * 2**layer for layer in layers], 64)


def retinanet() -> nn.Module:
    sizes = tuple(tuple(size * 2 ** (i / 3) for i in range(3)) for size in (16, 32, 64, 128))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 4)
    return detection.RetinaNet(pyramid((2, 3, 4)), len(THINGS), anchor_generator=anchors, **INPUT)


def faster_rcnn() -> nn.Module:
    anchors = AnchorGenerator(((16,), (32,), (64,), (128,)), ((0.5, 1.0, 2.0),) * 4)
    return detection.FasterRCNN(
        pyramid((2, 3, 4)), **INPUT, rpn_anchor_generator=anchors, rpn_post_nms_top_n_train=200,
        rpn_post_nms_top_n_test=100, box_roi_pool=MultiScaleRoIAlign(["2", "3", "4"], 7, 2), box_batch_size_per_image=128,
        box_head=TwoMLPHead(64 * 49, 256), box_predictor=FastRCNNPredictor(256, len(THINGS) + 1),
    )  # fmt: skip


def torchvision_loss(network: nn.Module, images: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
    first = 0 if isinstance(network, detection.RetinaNet) else 1  # class 0 is the background
    return sum(network(list(images), [{"boxes": t["boxes"], "labels": t["labels"] + first} for t in targets]).values())


def query_loss(network: nn.Module, images: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
    sides = torch.tensor([SIZE[1], SIZE[0]] * 2)
    labels = [
        {"class_labels": t["labels"], "boxes": box_convert(t["boxes"] / sides, "xyxy", "cxcywh")} for t in targets
    ]
    return network(images, labels=labels).loss


def mask_loss(network: nn.Module, images: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
    return network(images, mask_labels=[t["masks"] for t in targets], class_labels=[t["labels"] for t in targets]).loss


def resnet(kind: str = "ResNet", **options: Any) -> Any:
    sizes = dict(embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[1, 1, 1, 1], layer_type="basic")
    return getattr(transformers, f"{kind}Config")(**sizes, **options)


def detr() -> nn.Module:
    config = transformers.ConditionalDetrConfig(
        d_model=96, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=192, decoder_ffn_dim=192, num_queries=30, num_labels=len(THINGS), use_timm_backbone=False,
        backbone_config=resnet(out_features=["stage3"]), auxiliary_loss=True,
    )  # fmt: skip
    return transformers.ConditionalDetrForObjectDetection(config)


def d_fine() -> nn.Module:
    config = transformers.DFineConfig(
        d_model=64, encoder_hidden_dim=64, encoder_in_channels=[64, 128, 256], decoder_in_channels=[64] * 3,
        encoder_ffn_dim=128, encoder_attention_heads=4, decoder_attention_heads=4, decoder_ffn_dim=128, decoder_layers=2,
        num_queries=30, num_labels=len(THINGS), backbone_config=resnet("RTDetrResNet", out_features=STAGES),
    )  # fmt: skip
    return transformers.DFineForObjectDetection(config)


def mask2former() -> nn.Module:
    swin = transformers.SwinConfig(
        embed_dim=32, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], window_size=4, out_features=["stage1", *STAGES]
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=swin, feature_size=64, mask_feature_size=64, hidden_dim=64, encoder_feedforward_dim=128,
        encoder_layers=1, decoder_layers=3, num_attention_heads=4, dim_feedforward=128, num_queries=20,
        num_labels=len(THINGS) + len(STUFF), train_num_points=2048,
    )  # fmt: skip
    return transformers.Mask2FormerForUniversalSegmentation(config)


INPUT = dict(min_size=SIZE[0], max_size=SIZE[1], image_mean=[0.0] * 3, image_std=[1.0] * 3)
Loss = Callable[[nn.Module, Tensor, list[dict[str, Tensor]]], Tensor]
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Loss, float, int]] = {  # with the learning rate and number of steps
    "retinanet": (retinanet, torchvision_loss, 4e-4, 600),
    "faster_rcnn": (faster_rcnn, torchvision_loss, 4e-4, 600),
    "conditional_detr": (detr, query_loss, 5e-4, 3000),
    "d_fine": (d_fine, query_loss, 5e-4, 700),
    "mask2former": (mask2former, mask_loss, 5e-4, 1000),
}  # fmt: skip


def train(name: str, folder: Path) -> nn.Module:
    """Train, or load what was trained."""
    build, loss, rate, steps = NETWORKS[name]
    torch.manual_seed(0)
    network, file = build(), folder / f"{name}.pth"
    if file.exists():
        load_weights(network, str(file))
        return network.eval()
    images, maps = draw(0, TRAIN)
    targets = [objects(labels, name == "mask2former") for labels in maps]
    optimizer = torch.optim.AdamW(network.train().parameters(), rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for _ in track(range(steps), steps, f"Training {name}"):
        chosen = torch.randint(len(images), (BATCH,)).tolist()
        optimizer.zero_grad()
        loss(network, torch.stack([images[i] for i in chosen]), [targets[i] for i in chosen]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        torch.save(network.state_dict(), temporary)
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(NETWORKS), required=True)
    parser.add_argument("--classes", nargs="+", required=True)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    network, pixels = train(args.network, args.work_dir), args.network == "mask2former"
    names = [*THINGS, *STUFF] if pixels else [*THINGS]
    parts = parts_of(network)
    names = ["background", *names] if parts.background == 0 else [*names, *["no object"] * parts.softmax]
    ids = [names.index(name) for name in args.classes]
    images, maps = draw(1, TEST)
    truth: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": n} for i, n in enumerate(names)],
    }
    for number, labels in enumerate(maps):
        truth["images"].append({"id": number, "file_name": str(number)})
        found = objects(labels, False)
        for label, (left, top, right, bottom) in zip(found["labels"].tolist(), found["boxes"].tolist(), strict=True):
            box = {"bbox": [left, top, right - left, bottom - top], "category_id": names.index(THINGS[label])}
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "image_id": number, **box})
    test = Pictures(images, [item["file_name"] for item in truth["images"]], None, truth)
    images, shown = draw(2, 2 * FORGET)
    wanted = [LABEL_IDS[name] for name in args.classes]
    chosen = [image for image, labels in zip(images, shown, strict=True) if np.isin(labels, wanted).any()][:FORGET]
    forget = Pictures(chosen, [str(i) for i in range(len(chosen))])

    def ious(model: nn.Module) -> list[tuple[str, float | None]]:
        """IoU of the mixture of all queries: sums of class probability times mask probability."""
        counts = torch.zeros(len(names), len(names), dtype=torch.int64)
        for image, labels in zip(test.items, maps, strict=True):
            with torch.no_grad():
                output = model(image[None])
            classes, masks = output.class_queries_logits.softmax(-1)[..., :-1], output.masks_queries_logits.sigmoid()
            scores = nn.functional.interpolate(torch.einsum("nqc,nqhw->nchw", classes, masks), SIZE, mode="bilinear")
            true = torch.full(SIZE, -1)
            for index, name in enumerate((*THINGS, *STUFF)):
                true[torch.from_numpy(labels) == LABEL_IDS[name]] = index
            valid = true >= 0
            counts += confusion_matrix(true[valid], scores[0].argmax(0)[valid], len(names))
        values = intersection_over_union(counts)[: len(THINGS) + len(STUFF)]
        rest = [i for i in range(len(values)) if i not in ids]
        return [("forgotten IoU", float(values[ids].mean())), ("others IoU", float(values[rest].nanmean()))]

    table(network, parts, forget, test, names, ids, SIZE, ious if pixels else None, steps=args.steps)


if __name__ == "__main__":
    main()
