"""Make the tables of docs/benchmarks/images.md: forget classes of published CIFAR-10 networks by ``images forget``.

python tools/benchmark_images.py TABLE --shared ../shared --work-dir W

    choose    ResNet-20, lr, augmentation and teacher temperature, on training images alone: every tenth is held out
    each      ResNet-20, each of the ten classes in turn
    masking   ResNet-20, three classes at once, masking 'all' against 'own'
    methods   ResNet-20, DELETE, HeadOnly, RandomLabel, NegativeGradient on one class
    resnet18  ResNet-18, "deer", teacher temperature 1 and 0.25, beside the network retrained without deer
    classes   ResNet-18, 1, 2 and 4 classes, three seeds (for a GPU)
    defaults  ResNet-20 of references/ (three seeds), five requests
    hundred   ResNet-20 and ResNet-32 on CIFAR-100, 1, 5 and 20 classes, of 25 images each and of 300
    paper     the first two requests of one network by the paper's loop (--preset paper) and by --method DELETE
    steps     ResNet-20 of references/, deer, 5 to 600 steps
    images    the same, 5 to 5,000 images of deer
    recipe    ResNet-20, the command and erase(), 200 and 5,000 images of one class and 200 of two: loss and calibration of the
              other classes, with and without the logits' scale matched

"still" is the check without labels: percent of the training views assigned to the classes by the original that still are when
training ends. A run with a results.json is not repeated. W/TABLE.md holds the table.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from delete_images.data.opening import open_data
from delete_images.data.transforms import eval_transform
from delete_images.memory.erase import erase
from delete_images.metrics import METRICS
from delete_images.models.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES
from delete_images.models.model_file import Preprocessing, import_checkpoint, load_model
from delete_images.opened import predict_images
from delete_tasks.cli import main as command
from delete_tasks.evaluation import Evaluation
from delete_tasks.fileio.atomic import save_json

NETWORKS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "resnet20": ("cifar10_resnet20-12fca82f.th", "cifar_resnet20", "imagenet", {}),
    "resnet18": ("cifar10_resnet18_original.pt", "resnet18", "cifar10", {"stem": "cifar"}),
    "retrained": ("cifar10_resnet18_retrained_without_deer.pt", "resnet18", "cifar10", {"stem": "cifar"}),
    "hundred20": ("cifar100_resnet20.pth", "stage_relu_resnet20", "cifar100", {}),
    "hundred32": ("cifar100_resnet32.pth", "stage_relu_resnet32", "cifar100", {}),
}
REQUESTS = (["deer"], ["ship"], ["cat", "ship"], ["automobile"], ["dog"])
THREE = ["bird", "deer", "truck"]
SOME = {1: ["deer"], 2: ["deer", "ship"], 4: ["deer", "ship", "cat", "truck"]}
COLUMNS = (
    "| run | model | still | forgotten train | forgotten test | remaining test | worst drop | NLL | ECE | H-mean | linear "
    "| 5-shot | s |"
)


class Bench:
    """Runner of ``images forget``, which keeps results."""

    def __init__(self, shared: Path, folder: Path) -> None:
        self.shared, self.folder = shared, folder
        self.cifar, self.cifar100 = (f"{kind}:{shared / 'data' / kind}" for kind in ("cifar10", "cifar100"))
        self.original: Any = None  # the ResNet-20's predictions of all test images

    def model(self, name: str) -> str:
        if name not in NETWORKS:
            return name
        weights, architecture, normalization, arguments = NETWORKS[name]
        folder = self.folder / "models" / name
        if not folder.exists():
            preprocessing = Preprocessing.named(normalization, 32)
            names = CIFAR100_CLASSES if normalization == "cifar100" else CIFAR10_CLASSES
            import_checkpoint(self.shared / "weights" / weights, folder, architecture, names, preprocessing, arguments)
        return str(folder)

    def split_training(self) -> str:
        """Divide the training images in two, as an .npz: every tenth for measuring."""
        path = self.folder / "training.npz"
        if not path.exists():
            data = open_data(self.cifar, "train")
            x, y = np.stack([data[i][0] for i in range(len(data))]), data.labels
            test = np.arange(len(y)) % 10 == 9
            np.savez(path, x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test])
        return str(path)

    def run(self, name: str, model: str, classes: list[str], data: str, test: str, *more: str) -> dict[str, Any]:
        """Run the command unless its results exist; return them."""
        folder = self.folder / name
        if not (folder / "results.json").exists():
            words = ["images", "forget", "--model", self.model(model), "--forget", data, "--classes", *classes]
            ended = command([*words, "--test", test, "--work-dir", str(folder), *more])
            if ended and not (folder / "results.json").exists():  # a run that forgot too little has one
                raise SystemExit(f"{name} failed")
        return json.loads((folder / "results.json").read_text())

    def erase(self, name: str, classes: list[str], data: str, original: dict[str, Any]) -> dict[str, Any]:
        """Run erase() on normalised tensors unless its results exist; return them."""
        path = self.folder / name / "results.json"
        if not path.exists():
            network, spec = load_model(self.model("resnet20"))
            images, transform = open_data(data, "train", spec.classes), eval_transform(spec)
            samples = [(transform(images[i][0]), int(images.labels[i])) for i in range(len(images))]
            erased = erase(network, samples, classes, class_names=spec.classes)
            row = self.measure(erased.model, spec, classes)
            run = {"seconds": {"all": erased.figures["seconds"]}, "forget_check": erased.figures["forget_check"]}
            save_json({"rows": {"erased": row}, "figures": erased.figures, **run}, path)
        results = json.loads(path.read_text())
        return {**results, "rows": {"original": original, **results["rows"]}}

    def measure(self, network: Any, spec: Any, classes: list[str], scale: float = 1.0) -> dict[str, Any]:
        """Measure a row on all test images; the remaining classes' logits are divided by ``scale`` first."""
        test, ids = open_data(self.cifar, "test", spec.classes), [CIFAR10_CLASSES.index(name) for name in classes]
        if self.original is None:
            self.original = predict_images(load_model(self.model("resnet20"))[0], spec, test)
        after = predict_images(network, spec, test)
        remaining = [i for i in range(len(spec.classes)) if i not in ids]
        after.logits[:, remaining] /= scale
        evaluation = Evaluation(METRICS, ids, CIFAR10_CLASSES)
        evaluation.add("original", {"test": self.original})
        evaluation.add("erased", {"test": after})
        figures = {name: figure.json() for name, figure in evaluation.rows["erased"].items()}
        return {**figures, "logits": mean_logit(after, remaining)}

    def unscaled(self, name: str, classes: list[str], results: dict[str, Any]) -> dict[str, Any]:
        """Measure the erased model's row without the match of its logits' scale to the original's."""
        path = self.folder / name / "unscaled.json"
        if not path.exists():
            network, _ = load_model(self.folder / name / "erased")
            _, spec = load_model(self.model("resnet20"))
            save_json(self.measure(network, spec, classes, results["finished"]["scale"]), path)
        return json.loads(path.read_text())


def mean_logit(predictions: Any, classes: list[int]) -> float:
    """Average the absolute logits of some classes over their images."""
    rows = np.isin(predictions.labels.numpy(), classes)
    return round(float(predictions.logits[rows][:, classes].abs().mean()), 2)


def choose(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    data = bench.split_training()
    for lr, augment, teacher_temperature in product(("3e-4", "6e-4", "1e-3"), ("strong", "plain"), ("1", "0.25")):
        for name in ("deer", "truck"):
            more = ["--lr", lr, "--teacher-temperature", teacher_temperature, "--augment", augment]
            more += ["--steps", "150", "--batch-size", "64"]
            folder = f"choose_{name}_{lr}_{augment}_{teacher_temperature}"
            run = bench.run(folder, "resnet20", [name], f"{data}?class={name}", data, *more)
            yield f"{name}, lr {lr}, {augment}, teacher temperature {teacher_temperature}", run


def each(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in CIFAR10_CLASSES:
        yield name, bench.run(f"each_{name}", "resnet20", [name], f"{bench.cifar}?class={name}", bench.cifar)


def masking(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    data = f"{bench.cifar}?class={','.join(THREE)}"
    for rule in ("all", "own"):
        more = ["--masking", rule]
        yield f"masking {rule}", bench.run(f"masking_{rule}", "resnet20", THREE, data, bench.cifar, *more)


def methods(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    for method in ("DELETE", "HeadOnly", "RandomLabel", "NegativeGradient"):
        more = ["--method", method, "--train-data", f"{bench.cifar}?limit=2000"]
        yield (
            method,
            bench.run(f"method_{method}", "resnet20", ["deer"], f"{bench.cifar}?class=deer", bench.cifar, *more),
        )


def resnet18(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    test = f"{bench.cifar}?limit={args.test}"
    more = ["--retrained", bench.model("retrained"), "--train-data", f"{bench.cifar}?limit=2000"]
    if args.steps is not None:
        more += ["--steps", str(args.steps)]
    for teacher_temperature in ("1", "0.25"):
        name = f"resnet18_{teacher_temperature}"
        run = bench.run(
            name,
            "resnet18",
            ["deer"],
            f"{bench.cifar}?class=deer",
            test,
            *more,
            "--teacher-temperature",
            teacher_temperature,
        )
        yield f"teacher temperature {teacher_temperature}", run


def classes(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    for count, names in SOME.items():
        for seed in range(3):
            data = f"{bench.cifar}?class={','.join(names)}"
            more = ["--seed", str(seed)]
            yield (
                f"{count} classes, seed {seed}",
                bench.run(f"classes_{count}_{seed}", "resnet18", names, data, bench.cifar, *more),
            )


def defaults(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    more = ["--train-data", f"{bench.cifar}?limit=2000", "--audit", "none"]
    for names, seed in product(REQUESTS, range(3)):
        joined = "_".join(names)
        retrained = Path(f"references/without_{joined}_seed{seed}")
        beside = ["--retrained", str(retrained)] if retrained.exists() else []
        data, test = f"{bench.cifar}?class={','.join(names)}", f"{bench.cifar}?limit={args.test}"
        folder = f"defaults_{seed}_{joined}"
        run = bench.run(folder, f"references/all_seed{seed}", names, data, test, *more, *beside)
        yield f"{' and '.join(names)}, seed {seed}", run


def paper(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    test = f"{bench.cifar}?limit={args.test}"
    for names, options in product(REQUESTS[:2], (["--preset", "paper"], ["--method", "DELETE"])):
        more = ["--train-data", f"{bench.cifar}?limit=2000", "--audit", "none", *options]
        data, folder = f"{bench.cifar}?class={','.join(names)}", f"{options[1]}_{'_'.join(names)}"
        yield (
            f"{' and '.join(names)}, {' '.join(options)}",
            bench.run(folder, "references/all_seed0", names, data, test, *more),
        )


def steps(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    more = ["--train-data", f"{bench.cifar}?limit=2000", "--audit", "none"]
    data, test = f"{bench.cifar}?class=deer&limit=1000", f"{bench.cifar}?limit={args.test}"
    for count in ("5", "10", "30", "100", "300", "600"):
        run = bench.run(f"steps_{count}", "references/all_seed0", ["deer"], data, test, "--steps", count, *more)
        yield f"{count} steps", run


def images(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    more = ["--train-data", f"{bench.cifar}?limit=2000", "--audit", "none"]
    test = f"{bench.cifar}?limit={args.test}"
    for count in (5, 25, 200, 5000):
        data = f"{bench.cifar}?class=deer&limit={count}"
        yield f"{count} images", bench.run(f"images_{count}", "references/all_seed0", ["deer"], data, test, *more)


def hundred(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    more = ["--audit", "none"]
    for network, images, count in product(("hundred20", "hundred32"), (25, 300), (1, 5, 20)):
        # The folder has 300 images of each of the first 20 classes, in the order of the alphabet, and 25 of each other.
        names = list(CIFAR100_CLASSES[:count] if images == 300 else CIFAR100_CLASSES[20 : 20 + count])
        data = f"{bench.cifar100}?class={','.join(names)}"
        run = bench.run(f"{network}_{images}_{count}", network, names, data, bench.cifar100, *more)
        yield f"{network.replace('hundred', 'ResNet-')}, {count} of {images} images", run


def recipe(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    for names, limit in ((["ship"], 200), (["ship"], 5000), (["deer", "ship"], 200)):
        title = f"{' and '.join(names)}, {limit} images"
        folder = f"recipe_{'_'.join(names)}_{limit}"
        data = f"{bench.cifar}?class={','.join(names)}&limit={limit}"
        results = bench.run(folder, "resnet20", names, data, bench.cifar)
        results["rows"]["erased, scale not matched"] = bench.unscaled(folder, names, results)
        yield f"{title}, command", results
        yield f"{title}, erase()", bench.erase(f"{folder}_erase", names, data, results["rows"]["original"])


TABLES = {
    run.__name__: run
    for run in (choose, each, masking, methods, resnet18, classes, defaults, paper, steps, images, hundred, recipe)
}


def lines(title: str, results: dict[str, Any]) -> Iterator[str]:
    """Write the table's rows of one run; '-' means not measured."""
    for name, row in results["rows"].items():
        if value(row, "forget_acc") is None:
            continue
        worst = row["worst_drop"]
        still = results["forget_check"]["still"] if name == "erased" else None
        cells = [still, *(value(row, figure) for figure in ("forget_acc_train", "forget_acc", "remain_acc"))]
        text = [cell(figure) for figure in cells] + [f"{cell(worst['value'])} {worst['of_class'] or ''}"]
        text += [cell(value(row, figure)) for figure in ("nll", "ece", "h_mean", "linear_probe", "few_shot")]
        seconds = f"{sum(results['seconds'].values()):.0f}" if name == "erased" else ""
        yield f"| {title} | {name} | {' | '.join(text)} | {seconds} |"


def value(row: dict[str, Any], metric: str) -> float | None:
    """Read a figure of a row of results.json."""
    figure: float | None = row[metric]["value"]
    return figure


def cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="resnet18: optimizer steps (default: the command's)")
    parser.add_argument("--test", type=int, default=1000, help="resnet18, defaults to images: test images")
    args = parser.parse_args()
    bench = Bench(args.shared, args.work_dir)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    text = [COLUMNS, "|" + "---|" * 13]
    drops = []
    for title, results in TABLES[args.table](bench, args):
        text += lines(title, results)
        rows = results["rows"]
        drops.append(rows["original"]["remain_acc"]["value"] - rows["erased"]["remain_acc"]["value"])
        (args.work_dir / f"{args.table}.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))
    print(f"Mean drop of the remaining test accuracy: {sum(drops) / len(drops):.2f}")


if __name__ == "__main__":
    main()
