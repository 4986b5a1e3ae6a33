"""Train networks for tests and tables of the audit: ResNet-20 on CIFAR-10, with all classes and without some, several seeds each.

    python tools/train_references.py --data cifar10:../shared/data/cifar10 --out references --work-dir W

    all                 all ten classes: the originals of the tables
    without_deer        never saw one class
    without_ship
    without_cat_ship    never saw two

One schedule for all, by ``delete-tasks images train``. Each becomes a model folder OUT/NAME_seedN with weights in float16 (0.55
MB), which ``delete-tasks`` opens as any other, and OUT/README.md holds their accuracies. The same command resumes after a stop,
also inside a network's training (``images train --resume``). With mixed precision (``--amp``) a step takes 2.0 ms per image on a
processor core that computes in bfloat16, with float32 3.8; a network of all ten classes takes 50 minutes of one core.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from delete_images.models.model_file import SPEC_NAME, load_model, save_model
from delete_tasks.cli import main as command
from delete_tasks.fileio.atomic import replacing_folder, save_json, save_text
from delete_tasks.fileio.compute import keep_freed_memory

WITHOUT: dict[str, list[str]] = {
    "all": [],
    "without_deer": ["deer"],
    "without_ship": ["ship"],
    "without_cat_ship": ["cat", "ship"],
}
EPOCHS, FIGURES = 30, "accuracy.json"
DESCRIBED = ["--architecture", "cifar_resnet20", "--classes", "cifar10", "--normalization", "cifar10"]


def main() -> int:
    """Train what is missing, seed by seed, so that one of each is there first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="training images, as of images train")
    parser.add_argument("--test", help="test images [default: the test part of --data]")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--work-dir", required=True, type=Path, help="folder of unfinished trainings")
    parser.add_argument("--only", nargs="+", choices=list(WITHOUT), default=list(WITHOUT))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    keep_freed_memory()
    for seed in args.seeds:
        for name in args.only:
            folder = args.out / f"{name}_seed{seed}"
            if (folder / SPEC_NAME).is_file():
                continue
            print(f"{folder.name}: {args.epochs} epochs", flush=True)
            status = _train(folder, args.work_dir / folder.name, WITHOUT[name], seed, args)
            if status:
                return status
            save_text(table(args.out), args.out / "README.md")
    print(table(args.out))
    return 0


def _train(folder: Path, work: Path, without: list[str], seed: int, args: argparse.Namespace) -> int:
    """Train one network and move it to its place as a whole; return the exit status."""
    words = ["images", "train", *DESCRIBED, "--data", args.data, "--epochs", str(args.epochs), "--seed", str(seed)]
    words += ["--amp", "--work-dir", str(work), "--resume", *(["--without", *without] if without else [])]
    status = 0 if (work / "model" / SPEC_NAME).is_file() else command(words)
    if status:
        return status
    network, spec = load_model(work / "model")
    with replacing_folder(folder) as temporary:
        save_model(temporary, network.half(), spec)
        # The figures are those of the rounded weights, which are published.
        words = [
            "images",
            "evaluate",
            str(temporary),
            "--test",
            args.test or args.data,
            "--out",
            str(work / FIGURES),
        ]
        status = command([*words, *(["--classes", *without] if without else [])])
        if status:
            return status
        figures = json.loads((work / FIGURES).read_text())
        save_json({**figures, "model": folder.name, "epochs": args.epochs, "seed": seed}, temporary / FIGURES)
    shutil.rmtree(work)
    return 0


def table(out: Path) -> str:
    """Make a Markdown table of the networks in the folder."""
    lines = [
        "# References",
        "",
        "ResNet-20 on CIFAR-10, with all ten classes (`all`, the originals of tables) and without some, by",
        "`tools/train_references.py`, which says how. Weights are float16; the figures are theirs, in percent, on test images.",
        "",
        "| network | epochs | test accuracy of its classes | of the classes it never saw |",
        "|---|---|---|---|",
    ]
    for path in sorted(out.glob(f"*/{FIGURES}")):
        figures = json.loads(path.read_text())
        seen = figures.get("remain_acc", figures["accuracy"])
        never = f"{figures['forget_acc']:.2f}" if "forget_acc" in figures else "-"
        lines.append(f"| {path.parent.name} | {figures['epochs']} | {seen:.2f} | {never} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
