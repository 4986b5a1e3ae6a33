"""Tables of docs/benchmarks/detection.md: YOLOX-Nano or FastestDet forgets classes of COCO's slice in the folder of real data.

usage: benchmark_detection.py --shared DIR --classes person [car] [--network yolox|fastestdet] [--images N] [--steps N]

Rows: original, logits cut off (filtering), erased before its class weights are removed, erased, erased with the original's last
layers, and a run that changes the last layers alone. AP50 in percent on 158 test images; kept and renamed are shares of the
original's boxes above 0.3. The probes read the input of the class layers at the original's boxes, and are trained on the forget
set (see delete_detection.probe).
"""

import argparse
import copy
import time
from collections.abc import Sequence
from typing import Any

import fastestdet
import torch
from torch import nn

from delete_detection.data import Pictures, open_pictures, showing
from delete_detection.erase import erase_detector
from delete_detection.measure import METRICS, detected
from delete_detection.model import Detector, remove_classes
from delete_detection.parts import Parts, parts_of
from delete_detection.probe import at_boxes
from delete_detection.yolox import YOLOX
from delete_images.models.spec import Preprocessing
from delete_tasks.audit.attacks import find_attacks
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.metric import Row
from delete_tasks.fileio.checkpoint import load_weights

PROBES = ("linear_probe", "knn_probe")


def table(
    network: nn.Module, parts: Parts, forget: Pictures, test: Pictures, names: Sequence[str], ids: Sequence[int],
    size: Sequence[int], figures: Any = None, last_layers: bool = True, **options: Any,
) -> None:  # fmt: skip
    """Erase, and print the rows; ``figures`` computes more cells ``(network) -> list of (name, value)``."""
    last = [*parts.classes, *parts.objectness]
    rows: dict[str, nn.Module] = {"original": network, "logits cut off": copy.deepcopy(network)}
    images, minutes = [forget[number] for number in range(len(forget))], {}
    for alone in (False, True) if last_layers else (False,):
        student = copy.deepcopy(network)
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(not alone or name.rpartition(".")[0] in last)
        began = time.process_time()
        try:
            result = erase_detector(
                student, images, ids, class_names=names, size=size, keep_row=True, parts=parts, **options
            )
        except RequestError as error:  # a run that forgot nothing returns nothing
            print(f"{'last layers alone' if alone else 'all layers'}: {error}", flush=True)
            if not alone:
                return
            continue
        minutes[alone] = (time.process_time() - began) / 60
        if alone:
            rows["last layers alone, weights kept"] = result.model
            continue
        steps = result.figures["steps"]
        rows |= {"erased, weights kept": result.model, "erased": copy.deepcopy(result.model)}
        restored = rows["erased, original's last layers"] = copy.deepcopy(result.model)
        for name in last:
            restored.get_submodule(name).load_state_dict(network.get_submodule(name).state_dict())
    for row in ("logits cut off", "erased"):
        remove_classes(rows[row], parts, ids)
    read = {row: Detector(rows[row], parts) for row in ("original", "erased, weights kept")}
    seen = {split: at_boxes(read, pictures, size, split) for split, pictures in {"train": forget, "test": test}.items()}
    attacks = [next(each for each in find_attacks("quick") if each.name == name) for name in PROBES]
    data = {row: Row({split: seen[split][row] for split in seen}, None, ids, names) for row in read}
    cells = {row: [(each.name, each.measure(data[row]).value) for each in attacks] for row in read}
    title = f"**{' and '.join(names[i] for i in ids)}**, {len(images)} images, {steps} steps"
    print(f"\n{title}, {minutes[False]:.1f} minutes, last layers alone {minutes.get(True, 0.0):.1f}\n", flush=True)
    columns, first = [metric for metric in METRICS if metric.column], None
    for name, each in rows.items():
        boxes = detected(Detector(each, parts), test, size, names, name)
        first = first or boxes
        row = Row({"test": boxes}, {"test": first}, ids, names)
        values = [(str(metric.column), metric.measure(row).value) for metric in columns]
        values += [] if figures is None else figures(each)
        values += cells[
            "erased, weights kept" if name.startswith("erased") else "original"
        ]  # by whose features are read
        if name == "original":
            print("| row | " + " | ".join(column for column, _ in values) + " |\n|---" + "|---" * len(values) + "|")
        print(f"| {name} | " + " | ".join("" if x is None else f"{x:.2f}" for _, x in values) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True)
    parser.add_argument("--classes", nargs="+", required=True)
    parser.add_argument("--network", choices=("yolox", "fastestdet"), default="yolox")
    parser.add_argument("--images", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--without-last-layers", action="store_true", help="without the row that changes these alone")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    if args.network == "yolox":
        preprocessing, network = Preprocessing.named("imagenet", 416), YOLOX(80, 0.33, 0.25, True, 1e-5).eval()
        load_weights(network, f"{args.shared}/weights/yolox_nano_coco.pth")
    else:
        preprocessing = Preprocessing((352, 352), channels="BGR")
        network = fastestdet.load(f"{args.shared}/weights/fastestdet_coco.pth")
    train, test = (
        open_pictures(f"{args.shared}/data/coco/instances_{part}.json", preprocessing) for part in ("train", "val")
    )
    names = [each["name"] for each in sorted(test.truth["categories"], key=lambda each: each["id"])]
    forget = train.subset(showing(train.truth, args.classes)[: args.images])
    ids = [names.index(name) for name in args.classes]
    table(
        network,
        parts_of(network),
        forget,
        test,
        names,
        ids,
        preprocessing.size,
        None,
        not args.without_last_layers,
        steps=args.steps,
    )


if __name__ == "__main__":
    main()
