"""Make the tables of docs/benchmarks/images.md: forget classes of published CIFAR-10 networks by ``images forget``.

python tools/benchmark_images.py TABLE --shared ../shared --work-dir W

    defaults  ResNet-20 of references/ (three seeds), five requests
    paper     the same requests of the first network by the paper's loop (--preset paper)
    public    the same with unlabelled images of CIFAR-100 (--public)
    hundred   ResNet-20 and ResNet-32 on CIFAR-100, 1, 5 and 20 classes, of 25 images each and of 300
    steps     ResNet-20 of references/, deer, 5 to 600 steps
    images    the same, 5 to 5,000 images of deer
    masking   the same, three classes at once, masking 'all' against 'own'

"still" is the check without labels: percent of the training views assigned to the classes by the original that still are when
training ends. A run with a results.json is not repeated. W/TABLE.md holds the table.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from delete_images.models.class_names import CIFAR100_CLASSES
from delete_images.models.model_file import Preprocessing, import_checkpoint
from delete_tasks.cli import main as command

NETWORKS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "hundred20": ("cifar100_resnet20.pth", "stage_relu_resnet20", "cifar100", {}),
    "hundred32": ("cifar100_resnet32.pth", "stage_relu_resnet32", "cifar100", {}),
}
REQUESTS = (["deer"], ["ship"], ["cat", "ship"], ["automobile"], ["dog"])
THREE = ["bird", "deer", "truck"]
COLUMNS = (
    "| run | model | still | forgotten train | forgotten test | remaining test | worst drop | NLL | ECE | H-mean | linear "
    "| 5-shot | s |"
)


class Bench:
    """Runner of ``images forget``, which keeps results."""

    def __init__(self, shared: Path, folder: Path) -> None:
        self.shared, self.folder = shared, folder
        self.cifar, self.cifar100 = (f"{kind}:{shared / 'data' / kind}" for kind in ("cifar10", "cifar100"))

    def model(self, name: str) -> str:
        if name not in NETWORKS:
            return name
        weights, architecture, normalization, arguments = NETWORKS[name]
        folder = self.folder / "models" / name
        if not folder.exists():
            preprocessing = Preprocessing.named(normalization, 32)
            file = self.shared / "weights" / weights
            import_checkpoint(file, folder, architecture, CIFAR100_CLASSES, preprocessing, arguments)
        return str(folder)

    def run(self, name: str, model: str, classes: list[str], data: str, test: str, *more: str) -> dict[str, Any]:
        """Run the command unless its results exist; return them."""
        folder = self.folder / name
        if not (folder / "results.json").exists():
            words = ["images", "forget", "--model", self.model(model), "--forget", data, "--classes", *classes]
            ended = command([*words, "--test", test, "--work-dir", str(folder), *more])
            if ended and not (folder / "results.json").exists():  # a run that forgot too little has one
                raise SystemExit(f"{name} failed")
        return json.loads((folder / "results.json").read_text())


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


def first(bench: Bench, args: argparse.Namespace, title: str, *options: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the requests of the first network with further options."""
    more = ["--train-data", f"{bench.cifar}?limit=2000", "--audit", "none", *options]
    for names in REQUESTS:
        data, test = f"{bench.cifar}?class={','.join(names)}", f"{bench.cifar}?limit={args.test}"
        run = bench.run(f"{title}_{'_'.join(names)}", "references/all_seed0", names, data, test, *more)
        yield f"{' and '.join(names)}, {title}", run


def paper(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from first(bench, args, "paper", "--preset", "paper")


def public(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from first(bench, args, "public", "--public", bench.cifar100)


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


def masking(bench: Bench, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    data, test = f"{bench.cifar}?class={','.join(THREE)}", f"{bench.cifar}?limit={args.test}"
    for rule in ("all", "own"):
        more = ["--method", "DELETE", "--masking", rule, "--train-data", f"{bench.cifar}?limit=2000"]
        yield f"masking {rule}", bench.run(f"masking_{rule}", "references/all_seed0", THREE, data, test, *more)


TABLES = {run.__name__: run for run in (defaults, paper, public, hundred, steps, images, masking)}


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
    parser.add_argument("--test", type=int, default=1000, help="test images of CIFAR-10")
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
