"""Table of docs/benchmarks/detection.md: YOLOX-Nano forgets classes of COCO's slice in the folder of real data.

usage: benchmark_detection.py --shared DIR --classes person [car] [--images N] [--last-layers] [--steps N] [--threads N]

Rows: original, logits cut off (filtering), erased before its class weights are removed, erased, and erased with the original's
last layers. AP50 in percent on 158 test images; kept and renamed are shares of the original's boxes above 0.3; the probe is linear,
on the input of the class layers at the original's boxes, trained on the forget set's images (see delete_detection.probe).
"""

import argparse
import copy
import time

import torch

from delete_detection.data import open_pictures, showing
from delete_detection.erase import erase_detector
from delete_detection.measure import METRICS, detected
from delete_detection.model import Detector, remove_classes
from delete_detection.parts import parts_of
from delete_detection.probe import at_boxes
from delete_detection.yolox import YOLOX
from delete_images.models.spec import Preprocessing
from delete_tasks.audit.attacks import find_attacks
from delete_tasks.evaluation.metric import Row
from delete_tasks.fileio.checkpoint import load_weights

SIZE = [416, 416]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True)
    parser.add_argument("--classes", nargs="+", required=True)
    parser.add_argument("--images", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--last-layers", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    preprocessing = Preprocessing.named("imagenet", 416)
    train, test = (
        open_pictures(f"{args.shared}/data/coco/instances_{part}.json", preprocessing) for part in ("train", "val")
    )
    names = [each["name"] for each in sorted(test.truth["categories"], key=lambda each: each["id"])]
    ids = [names.index(name) for name in args.classes]
    network = YOLOX(len(names), 0.33, 0.25, True, 1e-5).eval()
    load_weights(network, f"{args.shared}/weights/yolox_nano_coco.pth")
    parts = parts_of(network)
    last = [*parts.classes, *parts.objectness]
    if args.last_layers:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.rpartition(".")[0] in last)
    chosen = showing(train.truth, args.classes)[: args.images]
    images, began = [train[number] for number in chosen], time.process_time()
    result = erase_detector(network, images, ids, size=416, steps=args.steps, keep_row=True)
    seconds = time.process_time() - began
    trained = result.model
    erased, cut, restored = copy.deepcopy(trained), copy.deepcopy(network), copy.deepcopy(trained)
    for each in (erased, cut):
        remove_classes(each, parts, ids)
    for name in last:
        restored.get_submodule(name).load_state_dict(network.get_submodule(name).state_dict())
    rows = {"original": network, "logits cut off": cut, "erased, weights kept": trained, "erased": erased,
            "erased, original's last layers": restored}  # fmt: skip
    probe = next(attack for attack in find_attacks("quick") if attack.name == "linear_probe")
    both = {"original": Detector(network, parts), "erased": Detector(trained, parts)}
    splits = {"train": train.subset(chosen), "test": test}
    seen = {split: at_boxes(both, pictures, SIZE, split) for split, pictures in splits.items()}
    reads = {
        row: probe.compute(Row({split: seen[split][row] for split in splits}, None, ids, names)).value for row in both
    }
    reads = {
        "original": reads["original"],
        "logits cut off": reads["original"],
        **dict.fromkeys([*rows][2:], reads["erased"]),
    }
    print(
        f"\n{' and '.join(args.classes)}: {len(images)} images, {result.figures['steps']} steps, {seconds / 60:.1f} minutes\n"
    )
    columns = [metric for metric in METRICS if metric.column]
    print("| row | " + " | ".join(str(metric.column) for metric in columns) + " | probe |")
    print("|---|" + "---|" * (len(columns) + 1))
    first = None
    for name, each in rows.items():
        data = detected(Detector(each, parts), test, SIZE, names, name)
        first = first or data
        row = Row({"test": data}, {"test": first}, ids, names)
        cells = ["" if (figure := metric.measure(row)).value is None else f"{figure.value:.2f}" for metric in columns]
        print(f"| {name} | " + " | ".join(cells) + f" | {reads[name]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
