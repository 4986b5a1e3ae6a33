"""Compare with two public unlearning libraries, each run from its own package: torchunlearn and supreme-unlearning.

    python tools/benchmark_peers.py export --work-dir W --data cifar10:ROOT
    PEER/bin/python tools/benchmark_peers.py run supreme scrub --work-dir W
    python tools/benchmark_peers.py measure --work-dir W --data cifar10:ROOT

``export`` writes the original network of references/, the 5,000 images of deer, 5,000 images of other classes (a fixed draw) and
all 45,000 of them into W/exchange.npz: arrays only. ``run`` is started once for each method, by the Python of an
environment that holds PyTorch and the library; it reads that file, imports nothing of this package and writes the weights, its
seconds and the number of images that the network processed. ``measure`` makes model folders of the weights, audits all of them
and prints the table. A method that fails ends with its error, and has a row with it.

    supreme scrub         Adam, rate 5e-4, a tenth of it after 5, 8 and 9 passes, weight decay 0.1; 10 passes over the retain set,
                          3 over the forget set; batches of 64
    supreme bad_teacher   Adam, rate 1e-4; one pass over the forget set and 30% of the retain set; batches of 256
    supreme ssd           alpha 10, lambda 1; one pass over the forget set, one over both sets; batches of 64
    torchunlearn METHOD   finetune, neggrad, influence or fisher_forget; it has neither SCRUB nor bad teacher nor SSD

Rates, passes and strengths are the library's defaults, or what its own pipeline passes for CIFAR-10 and a whole class.
``--retain all`` gives all 45,000 images of other classes instead of 5,000, so that SSD sees all training images, as its paper
has it. ``supreme ssd_det`` (SSD with gradients of single images) cannot change a weight here: a class that is a tenth of the
images has at most ten times their mean importance, and alpha is 10.

supreme-unlearning 0.1.5 pins torch 2.1.0, but its methods run unchanged with torch 2.13: install it with ``--no-deps``, beside
lightning 2.1.0, pytorch-lightning 2.1.0, torchmetrics, wandb 0.25.1, python-dotenv, psutil and a setuptools that has
pkg_resources (65.5). Its pipeline trains, evaluates and logs as well, so this tool calls the function of a method alone, as the
pipeline does, with the network of references/. Images are loaded without worker processes, by the library's switch for that.

torchunlearn 0.1.0 needs pandas without saying so. Its wheel, the only file of its only release, lacks the folders
``unlearn/trainers`` and ``unlearn/nontrainers``, which hold the methods, so each ends with ModuleNotFoundError.
"""

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

PACKAGES = {"supreme": "supreme-unlearning", "torchunlearn": "torchunlearn"}
COLUMNS = (
    "library version | method | forgotten | others | worst drop | linear probe | 5-shot | seconds | samples processed"
)
CHECKED = 64  # images on which the network must predict in both environments alike
Sets = Mapping[str, Dataset[Any]]


# In the library's environment ----------------------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions with batch norm and a shortcut that pads new channels with zeros."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.new = channels - before
        self.conv1 = nn.Conv2d(before, channels, 3, 2 if self.new else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.new:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.new // 2, self.new // 2))
        return F.relu(out + x)


class ResNet20(nn.Module):
    """The architecture ``cifar_resnet20``, with the same names of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(before, channels), Block(channels, channels), Block(channels, channels))
            for before, channels in ((16, 16), (16, 32), (32, 64))
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


class Images(Dataset[Any]):
    """Normalised images; an item is (image, class), or with ``three`` (image, nothing, class), as supreme's data sets give it."""

    def __init__(self, exchange: Mapping[str, Tensor], name: str, three: bool) -> None:
        self.images, self.labels, self.three = exchange[name], exchange[f"{name}_labels"].tolist(), three
        self.mean, self.std = (exchange[name].view(3, 1, 1) for name in ("mean", "std"))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image = (self.images[index] / 255 - self.mean) / self.std
        return (image, torch.tensor([]), self.labels[index]) if self.three else (image, self.labels[index])


def run_supreme(method: str, network: nn.Module, sets: Sets, seed: int) -> Callable[[], Any]:
    os.environ["SCALENE"] = "1"  # no worker processes, also where a method makes a loader of its own
    from lightning.fabric import Fabric
    from supreme.utils.fabric.fabric_setup import setup_model_for_inference
    from supreme.utils.generic_utils import create_dataloader, set_seeds
    from torch.utils.data import ConcatDataset

    function = getattr(importlib.import_module(f"supreme.methods.unlearning_methods.{method}"), method)
    fabric = Fabric(accelerator="cpu", devices=1)
    set_seeds(fabric, seed)
    joined: Dataset[Any] = ConcatDataset([sets["retain"], sets["forget"]])
    loaders = [create_dataloader(data, batch_size=64) for data in (sets["retain"], sets["forget"], joined)]
    retain, forget, full = fabric.setup_dataloaders(*loaders)
    arguments: dict[str, Any] = {"forget_train_dataloader": forget}
    if method.startswith("ssd"):
        arguments |= {"full_train_dataloader": full, "dampening_constant": 1, "selection_weighting": 10}
    else:
        arguments["retain_train_dataloader"] = retain
    if method == "bad_teacher":
        arguments["unlearning_teacher"] = setup_model_for_inference(fabric, ResNet20(), "ddp")
    return lambda: function(fabric=fabric, num_gpus=1, wandb_logging_flag=False, model=network, **arguments)


def run_torchunlearn(method: str, network: nn.Module, sets: Sets, seed: int) -> Callable[[], Any]:
    from torch.utils.data import DataLoader
    from torchunlearn import RobModel
    from torchunlearn.unlearn.easymode import Unlearn

    torch.manual_seed(seed)
    loaders = {name.title(): DataLoader(data, batch_size=64, shuffle=True) for name, data in sets.items()}
    front = Unlearn(RobModel(network, 10), None, loaders, {"Test": loaders["Forget"]}, save_path=None, copy=False)
    more = {"epoch": 5, "lr": 0.01} if method in ("finetune", "neggrad") else {}  # which have no defaults
    return lambda: getattr(front, method)(**more)


def run(args: argparse.Namespace) -> None:
    with np.load(args.work_dir / "exchange.npz", allow_pickle=False) as arrays:
        exchange = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    keys = {"forget": "forget", "retain": "others" if args.retain == "all" else "retain"}
    sets = {name: Images(exchange, key, three=args.library == "supreme") for name, key in keys.items()}
    network = ResNet20().eval()
    network.load_state_dict({name: exchange[f"network.{name}"] for name in network.state_dict()})
    with torch.no_grad():
        logits = network(torch.stack([sets["forget"][index][0] for index in range(CHECKED)]))
    torch.testing.assert_close(logits, exchange["logits"], rtol=1e-3, atol=1e-3)

    counts: list[int] = []  # a copy, the teacher, has the hook as well
    network.register_forward_hook(lambda module, _, output: counts.append(len(output) * (module is network)))
    package, beside = PACKAGES[args.library], ", all other images" if args.retain == "all" else ""
    figures: dict[str, Any] = {"version": f"{package} {version(package)}", "method": args.method + beside}
    place = args.work_dir / f"{args.library}_{args.method}{'_all' if beside else ''}.json"
    prepare = {"supreme": run_supreme, "torchunlearn": run_torchunlearn}[args.library]
    try:
        work = prepare(args.method, network, sets, args.seed)
        begun = time.perf_counter()
        work()
        figures |= {"seconds": time.perf_counter() - begun, "samples": sum(counts), "torch": torch.__version__}
        torch.save(network.state_dict(), place.with_suffix(".pt"))
    except BaseException as error:
        figures["failed"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        place.write_text(json.dumps(figures, indent=1) + "\n")
    print(place, figures)


# In this package's environment ---------------------------------------------------------------------------------------


def export(args: argparse.Namespace) -> None:
    from delete_images.data.opening import open_data
    from delete_images.data.transforms import eval_transform
    from delete_images.models.model_file import load_model

    network, spec = load_model(args.original)
    if spec.architecture != "cifar_resnet20":
        sys.exit(f"'{args.original}' is a {spec.architecture}; this tool builds a cifar_resnet20 for the libraries")
    exchange = {f"network.{name}": tensor.numpy() for name, tensor in network.state_dict().items()}
    exchange |= {"mean": np.float32(spec.preprocessing.mean), "std": np.float32(spec.preprocessing.std)}
    choices = {"forget": "class=deer", "retain": "without=deer&limit=5000&seed=0", "others": "without=deer"}
    for name, choice in choices.items():
        data = open_data(f"{args.data}?{choice}", "train", spec.classes)
        images = np.stack([data[index][0] for index in range(len(data))]).transpose(0, 3, 1, 2)
        exchange |= {name: images, f"{name}_labels": data.labels}
        print(f"{name}: {len(data)} images")
        if name == "forget":
            transform = eval_transform(spec)
            with torch.no_grad():
                inputs = torch.stack([transform(data[index][0]) for index in range(CHECKED)])
                exchange["logits"] = network(inputs).numpy()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    np.savez(args.work_dir / "exchange.npz", **exchange)


def measure(args: argparse.Namespace) -> None:
    from delete_images.models.model_file import load_model, save_model
    from delete_tasks.cli import main as command
    from delete_tasks.fileio.checkpoint import load_weights

    runs = {path.stem: json.loads(path.read_text()) for path in sorted(args.work_dir.glob("*_*.json"))}
    models = {"original": Path(args.original), "retrained": Path(args.retrained)}
    for name, figures in runs.items():
        if "failed" not in figures:
            network, spec = load_model(args.original)
            load_weights(network, args.work_dir / f"{name}.pt")
            models[name] = save_model(args.work_dir / "models" / name, network, spec)
    erased = list(models)[2:]
    if not erased:
        sys.exit(f"no library's weights are in '{args.work_dir}'; use 'run' first")
    test, audit = f"{args.data}?split=test&limit=5000", args.work_dir / "audit"
    words = ["audit", "--original", args.original, "--erased", *(str(models[name]) for name in erased)]
    words += ["--retrained", args.retrained, "--classes", "deer", "--forget", f"{args.data}?class=deer"]
    words += ["--data", f"{args.data}?limit=4000", "--test", test, "--work-dir", str(audit), "--overwrite"]
    if command(words):
        sys.exit("the audit failed")
    attacks = json.loads((audit / "audit.json").read_text())["rows"]
    named = {"original": "original", "retrained": "retrained"}
    named |= {name: "erased" if place == 1 else f"erased_{place}" for place, name in enumerate(erased, 1)}
    accuracies = accuracies_of(models, test)
    print(f"\n| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
    for name in [*models, *(name for name in runs if name not in models)]:
        figures = runs.get(name, {"version": "-", "method": name})
        cells = [figures["version"], figures["method"]]
        if name in models:
            row = accuracies[name]
            cells += [f"{row['forget_acc'].value:.2f}", f"{row['remain_acc'].value:.2f}"]
            worst = row["worst_drop"] if name != "original" else None
            cells.append(f"{worst.value:.1f} ({worst.of_class})" if worst else "-")
            cells += [f"{attacks[named[name]][attack]['value']:.1f}" for attack in ("linear_probe", "prototypes_5")]
            cells += [f"{figures['seconds']:.0f}", f"{figures['samples']}"] if name in runs else ["-", "-"]
        else:
            cells += [figures["failed"], *["-"] * 6]
        print("| " + " | ".join(cells) + " |")


def accuracies_of(models: dict[str, Path], test: str) -> Any:
    """Measure the networks' accuracies on the test images, and what the class that loses most has lost."""
    from delete_images.data.opening import open_data
    from delete_images.metrics import METRICS
    from delete_images.models.model_file import load_model
    from delete_images.opened import predict_images
    from delete_tasks.evaluation import Evaluation

    spec = load_model(models["original"])[1]
    images = open_data(test, "test", spec.classes)
    evaluation = Evaluation(METRICS, [spec.classes.index("deer")], spec.classes)
    for name, folder in models.items():
        evaluation.add(name, {"test": predict_images(*load_model(folder), images)})
    return evaluation.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="in the library's environment: run one method")
    running.add_argument("library", choices=list(PACKAGES))
    running.add_argument("method", help="name of the method in the library")
    running.add_argument("--retain", choices=("5000", "all"), default="5000", help="images of other classes")
    running.add_argument("--seed", type=int, default=0)
    exporting = commands.add_parser("export", help="write the network and the images for 'run'")
    measuring = commands.add_parser("measure", help="audit the results and print the table")
    measuring.add_argument("--retrained", default="references/without_deer_seed0")
    for own in (exporting, measuring):
        own.add_argument("--data", required=True, help="CIFAR-10 as a data string without choices: cifar10:ROOT")
        own.add_argument("--original", default="references/all_seed0")
    for command in commands.choices.values():
        command.add_argument("--work-dir", type=Path, required=True)
    args = parser.parse_args()
    {"export": export, "run": run, "measure": measure}[args.command](args)


if __name__ == "__main__":
    main()
