"""Measure erase() on models in memory: four networks of three libraries forget "car".

python tools/benchmark_dense.py [NETWORK ...] --work-dir W [--validation]

Each network is trained from random weights on street scenes that the package draws, then erase() reads the training scenes, and
the rows are measured on scenes of another seed (with --validation of a third seed, on which the recipe was chosen). Scenes and
trained originals are kept in W for later calls; W/table.md (W/validation.md) holds the table.

python tools/benchmark_dense.py --merged CONFIG ORIGINAL.pth ERASED.pth FORGOTTEN INTO

Measures a class merged into another on the test data of an MMSegmentation config.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from delete_images.memory.dense.evaluate import evaluate
from delete_mmseg.checks import check_request
from delete_mmseg.demo.canvas import LABEL_IDS
from delete_mmseg.demo.scenes import draw_scene
from delete_mmseg.opened import build_segmentor, make_opened
from delete_mmseg.run import make_config
from delete_tasks import erase
from delete_tasks.evaluation.functional import confusion_matrix, mean_iou
from delete_tasks.fileio.atomic import save_json, save_text
from delete_tasks.fileio.checkpoint import load_file, load_state, save_file
from delete_tasks.fileio.compute import flush_subnormals

# Things a few pixels wide at these sizes are one class.
CLASSES = ("road", "sidewalk", "building", "pole or sign", "vegetation", "sky", "person", "car")
MEMBERS = {
    "pole or sign": ("pole", "traffic light", "traffic sign"),
    "vegetation": ("vegetation", "terrain"),
}
FORGET = "car"
VOID = 255
DRAWN = (96, 192)
SEEDS = {"train": 40, "test": 41, "validation": 42}
SCENES = {"train": 240, "test": 60, "validation": 60}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def lraspp() -> nn.Module:
    """Build torchvision's LR-ASPP, 3.2 million parameters."""
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=len(CLASSES))


def fcn() -> nn.Module:
    """Build torchvision's FCN with the auxiliary head, 35 million parameters."""
    from torchvision.models.segmentation import fcn_resnet50

    return fcn_resnet50(weights=None, weights_backbone=None, num_classes=len(CLASSES), aux_loss=True)


def segformer() -> nn.Module:
    """Build a SegFormer of transformers, a fifth of B0's size."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    names = dict(enumerate(CLASSES))
    sizes = dict(depths=[2, 2, 2, 2], hidden_sizes=[16, 32, 80, 128], decoder_hidden_size=64)
    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=len(names), id2label=names, **sizes))


def unet() -> nn.Module:
    """Build segmentation_models_pytorch's U-Net on a ResNet-18."""
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet18", encoder_weights=None, classes=len(CLASSES), decoder_channels=(128, 64, 32, 16, 16))


# Network, size of the scenes, training steps, scenes in each, highest learning rate.
NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, int], int, int, float]] = {
    "segformer": (segformer, (64, 128), 400, 8, 2e-3),
    "unet": (unet, (64, 128), 250, 8, 2e-3),
    "lraspp_mobilenet_v3_large": (lraspp, (64, 128), 400, 8, 3e-3),
    "fcn_resnet50": (fcn, (64, 128), 200, 4, 1e-3),
}


def scenes(folder: Path, part: str, size: tuple[int, int]) -> TensorDataset:
    """Draw or load normalised images ``(N, 3, H, W)`` and label maps ``(N, H, W)`` with void 255."""
    path = folder / f"{part}.pth"
    if not path.is_file():
        classes = torch.full((256,), VOID, dtype=torch.uint8)
        for number, name in enumerate(CLASSES):
            classes[[LABEL_IDS[member] for member in MEMBERS.get(name, (name,))]] = number
        drawn = [draw_scene((SEEDS[part], 0, number), DRAWN) for number in range(SCENES[part])]
        images, labels = (torch.from_numpy(np.stack(each)) for each in zip(*drawn, strict=True))
        save_file({"images": images, "labels": classes[labels.long()]}, path)
    arrays = load_file(path)
    images = ((arrays["images"].float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    labels = F.interpolate(arrays["labels"][:, None].float(), size=size, mode="nearest-exact")[:, 0].long()
    return TensorDataset(F.interpolate(images, size=size, mode="area").contiguous(), labels)


def outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Compute the logits of a network's losses, at the images' size."""
    output = model(images)
    parts = (
        [output] if isinstance(output, Tensor) else [output[key] for key in ("out", "aux", "logits") if key in output]
    )
    return [F.interpolate(part, size=images.shape[2:], mode="bilinear", align_corners=False) for part in parts]


def train(name: str, folder: Path) -> nn.Module:
    """Train the original from random weights, or load it if it was trained before."""
    make, size, steps, batch, rate = NETWORKS[name]
    torch.manual_seed(0)
    model, path = make(), folder / f"{name}.pth"
    if path.is_file():
        load_state(model, load_file(path), str(path))
        return model.eval()
    images, labels = scenes(folder, "train", size).tensors
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    model.train()
    begin = time.monotonic()
    for step in range(steps):
        chosen = torch.randint(len(images), (batch,))
        x, y = images[chosen], labels[chosen]
        if torch.rand(()) < 0.5:
            x, y = x.flip(-1), y.flip(-1)
        losses = [F.cross_entropy(logits, y, ignore_index=VOID) for logits in outputs(model, x)]
        loss = losses[0] + sum(0.4 * other for other in losses[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 25 == 24:
            print(f"{name}: step {step + 1}, loss {loss.item():.3f}, {time.monotonic() - begin:.0f} s", flush=True)
    save_file(model.state_dict(), path)
    return model.eval()


def erase_and_measure(name: str, folder: Path, part: str) -> dict[str, Any]:
    """Measure the rows of one network, with the figures of erase()."""
    model, size = train(name, folder), NETWORKS[name][1]
    erased = erase(model, scenes(folder, "train", size), [FORGET], class_names=CLASSES)
    rows = evaluate(model, erased.model, scenes(folder, part, size), [FORGET], class_names=CLASSES)
    figures = erased.figures
    print(erased, flush=True)
    names = ("seconds", "steps", "forget_set", "predicted_as", "unlearn", "forget_check")
    return {"rows": rows, **{name: figures[name] for name in names}}


def merged_ious(config: str, original: str, erased: str, forgotten: str, into: str) -> dict[str, float | None]:
    """Measure the IoU of ``into`` where labels of ``forgotten`` count as its own: of both models, and of the original with both
    probabilities added ("merged original"); and the IoU of ``forgotten`` of both models."""
    checked = check_request(make_config(config, original, [forgotten], "", {}), trains=False)
    models = {row: build_segmentor(checked.cfg, path) for row, path in (("original", original), ("erased", erased))}
    opened = make_opened(models, checked.splits, checked.opened.names)
    source, target = (opened.names.index(name) for name in (forgotten, into))
    classes, counts = len(opened.names), dict[str, Tensor]()
    for row, batch in opened.read("test"):
        valid = (batch.labels >= 0) & (batch.labels < classes)
        own = batch.labels[valid].long()
        labels, predicted = own.where(own != source, target), batch.logits.argmax(1)[valid]
        parts = {f"{row}: {forgotten}": (own, predicted), row: (labels, predicted)}
        if row == "original":
            logits = batch.logits
            logits[:, target], logits[:, source] = logits[:, [source, target]].logsumexp(1), -torch.inf
            parts["merged original"] = labels, logits.argmax(1)[valid]
        for name, pair in parts.items():
            counts[name] = counts.get(name, 0) + confusion_matrix(*pair, classes)
    return {name: mean_iou(count, [source if name.endswith(forgotten) else target]) for name, count in counts.items()}


def table(results: Mapping[str, Any]) -> str:
    """Write the rows of all networks as Markdown."""
    lines = ["| network | row | car IoU | others | mIoU |", "|---|---|---|---|---|"]
    for name, result in results.items():
        for row, figures in result["rows"].items():
            values = (figures[metric] for metric in ("forget_iou", "others_miou", "miou"))
            lines.append(f"| {name} | {row} | {' | '.join('' if v is None else f'{v:.2f}' for v in values)} |")
    for name, result in results.items():
        shares = ", ".join(f"{kind} {share:.0f}%" for kind, share in list(result["predicted_as"].items())[:4])
        lines.append(f"\n{name}: {result['steps']} steps in {result['seconds']:.0f} s; car became {shares}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is missing, erase, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/dense"))
    parser.add_argument("--merged", nargs=5, metavar=("CONFIG", "ORIGINAL", "ERASED", "FORGOTTEN", "INTO"))
    parser.add_argument(
        "--validation", action="store_true", help="measure on the scenes on which the recipe was chosen"
    )
    args = parser.parse_args()
    flush_subnormals()
    if args.merged:
        for name, value in merged_ious(*args.merged).items():
            print(f"{name}: {value:.2f}")
        return
    args.work_dir.mkdir(parents=True, exist_ok=True)
    part = "validation" if args.validation else "test"
    results = {}
    for name in args.networks:
        results[name] = erase_and_measure(name, args.work_dir, part)
        save_json(results, args.work_dir / f"{part}.json")
        save_text(table(results), args.work_dir / f"{'validation' if args.validation else 'table'}.md")
    print(table(results))


if __name__ == "__main__":
    main()
