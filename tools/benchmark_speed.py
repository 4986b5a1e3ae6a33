"""Measure the speed of a step and of the loss, all variants in one run: the tables of docs/benchmarks/performance.md.

    python tools/benchmark_speed.py loss [--shape 2 19 512 1024] [--dtype float32]
    python tools/benchmark_speed.py upsampled [--shape 1 19 1024 2048] [--scale 8]
    python tools/benchmark_speed.py step {resnet20,cgnet}

Variants take turns, so that noise of the machine affects all. Times are medians: of processor time on a CPU with one thread
(OMP_NUM_THREADS=1), else of the clock. Peak memory is that of a second run beyond the memory in use before it; on a CPU (only
Linux) in a process of its own.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delete_tasks.fileio.compute import choose_device, flush_subnormals
from delete_tasks.losses import masked_kl_div, masked_kl_div_upsampled

DEVICE = torch.device(choose_device())
Variants = dict[str, Callable[[], Any]]


def eager(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Compute the loss as the formula is written."""
    cut = teacher.masked_fill(mask, float("-inf"))
    difference = cut.log_softmax(1) - student.log_softmax(1)
    return (cut.softmax(1) * difference).masked_fill(mask, 0.0).sum(1).mean()


def class_mask(shape: list[int]) -> Tensor:
    mask = torch.zeros(1, shape[1], *(1,) * (len(shape) - 2), dtype=torch.bool, device=DEVICE)
    mask[:, shape[1] // 2] = True
    return mask


def loss_variants(args: argparse.Namespace) -> Variants:
    dtype, mask = getattr(torch, args.dtype), class_mask(args.shape)
    student = torch.randn(args.shape, device=DEVICE, dtype=dtype, requires_grad=True)
    teacher = torch.randn(args.shape, device=DEVICE, dtype=dtype)
    out = torch.empty_like(teacher) if not args.memory_of else teacher

    def step(loss: Callable[..., Tensor]) -> None:
        loss(student, teacher, mask).backward()
        student.grad = None

    def floor() -> None:  # read two tensors, write one: one and a half copies
        out.copy_(teacher)
        out[: len(out) // 2].copy_(teacher[: len(out) // 2]) if len(out) > 1 else out[:, ::2].copy_(teacher[:, ::2])

    return {
        "eager": partial(step, eager),
        "torch.compile": partial(step, torch.compile(eager)),
        "ours": partial(step, masked_kl_div),
        "ours, with both terms": partial(step, lambda *given: masked_kl_div(*given, return_terms=True)[0]),
        "floor: the memory's speed": floor,
    }


def upsampled_variants(args: argparse.Namespace) -> Variants:
    size, mask = args.shape[2:], class_mask(args.shape)
    small = [*args.shape[:2], *(side // args.scale for side in size)]
    student = torch.randn(small, device=DEVICE, requires_grad=True)
    teacher = torch.randn(small, device=DEVICE)

    def resized(loss: Callable[..., Tensor]) -> None:
        loss(*(F.interpolate(logits, size, mode="bilinear") for logits in (student, teacher)), mask).backward()
        student.grad = None

    def fused() -> None:
        masked_kl_div_upsampled(student, teacher, size, mask).backward()
        student.grad = None

    return {
        "resize, then eager": partial(resized, eager),
        "resize, then ours": partial(resized, masked_kl_div),
        "ours in one": fused,
    }


def step_variants(args: argparse.Namespace) -> Variants:
    """Make steps of real networks with random weights and inputs, through the method's hook, without reading data. Ours freezes
    the norms' statistics by default, which saves time by itself: a plain step is timed both ways."""
    from delete_tasks.evaluation.forget_data import Selection
    from delete_tasks.methods.delete import DELETE
    from delete_tasks.model.modes import fast_layout
    from delete_tasks.model.teacher import freeze
    from delete_tasks.task import task_for

    model, data, classes, logits_of = {"resnet20": _resnet20, "cgnet": _cgnet}[args.network]()
    with torch.no_grad():  # statistics as after training: without them activations grow from layer to layer
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = None
        logits_of(model.train())
    task, mask = task_for(model), class_mask([1, classes, *(1,) * (2 if args.network == "cgnet" else 0)])

    def trained(
        hooked: bool = False, cache: bool = False, frozen: bool = False
    ) -> tuple[nn.Module, torch.optim.Optimizer, nn.Module]:
        student = copy.deepcopy(model).train()
        teacher = freeze(copy.deepcopy(model), task.training_flags)
        if hooked:
            method = DELETE(classes=[classes // 2])
            runner = SimpleNamespace(
                unwrapped_model=student,
                teacher=fast_layout(teacher),
                task=task,
                selection=Selection(class_names=[str(i) for i in range(classes)], forget_ids=[classes // 2]),
                iter=1,
                accumulation=1,
                recipe=SimpleNamespace(cache_teacher=cache),
                train_dataloader=None,
                train_loop=SimpleNamespace(max_iters=0),
                world_size=1,
                teacher_sha256="",
                work_dir=tempfile.gettempdir(),
            )
            method.before_train(runner)
        if hooked or frozen:
            for norm in (m for m in student.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.training = False
        return student, torch.optim.AdamW(student.parameters(), 1e-5), teacher

    def finish(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def own(student: nn.Module, optimizer: torch.optim.Optimizer, _: nn.Module) -> None:
        losses = student(**data, mode="loss")
        finish(sum(value for name, value in losses.items() if "loss" in name), optimizer)

    def naive(student: nn.Module, optimizer: torch.optim.Optimizer, teacher: nn.Module) -> None:
        with torch.no_grad():
            target = logits_of(teacher).masked_fill(mask, float("-inf")).softmax(1)
        finish(F.kl_div(logits_of(student).log_softmax(1), target, reduction="batchmean"), optimizer)

    return {
        "plain fine-tuning step": partial(own, *trained()),
        "same, norms' statistics held": partial(own, *trained(frozen=True)),
        "naive loop": partial(naive, *trained()),
        "ours, without the cache": partial(own, *trained(hooked=True)),
        "ours, with the cache": partial(own, *trained(hooked=True, cache=True)),
    }


def _resnet20() -> tuple[nn.Module, dict[str, Any], int, Callable[..., Tensor]]:
    import delete_images.register  # noqa: F401 - the task
    from delete_images.models.architectures.registry import build
    from delete_images.models.classifier import ImageClassifier

    model = ImageClassifier(network=build("cifar_resnet20", num_classes=10), num_classes=10).to(DEVICE)
    data = {"inputs": torch.randn(64, 3, 32, 32, device=DEVICE), "labels": torch.randint(10, (64,), device=DEVICE)}
    return model, data, 10, lambda network: network(data["inputs"])


def _cgnet() -> tuple[nn.Module, dict[str, Any], int, Callable[..., Tensor]]:
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope
    from mmengine.structures import PixelData
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample

    import delete_mmseg  # noqa: F401 - the task
    from delete_tasks import config_path

    init_default_scope("mmseg")
    model = MODELS.build(Config.fromfile(config_path("segmentation/cgnet_camvid_forget-car.py")).model)
    samples = [SegDataSample() for _ in range(2)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.randint(11, (1, 360, 480), device=DEVICE))
        sample.set_metainfo({"img_shape": (360, 480)})
    data = {"inputs": torch.randn(2, 3, 360, 480, device=DEVICE), "data_samples": samples}

    def logits_of(network: Any) -> Tensor:
        return F.interpolate(network.decode_head(network.extract_feat(data["inputs"])), (360, 480), mode="bilinear")

    return revert_sync_batchnorm(model).to(DEVICE), data, 11, logits_of


def seconds(run: Callable[[], Any]) -> float:
    clock = time.process_time if DEVICE.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    begin = clock()
    run()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return clock() - begin


def peak_megabytes(name: str, variants: Variants) -> float:
    """Measure the peak memory of a run beyond that in use before it, in MiB; a first run, which may compile, is not counted."""
    variants[name]()
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        variants[name]()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc_pid_clear_refs(5))
    before = resident("VmRSS")
    variants[name]()
    return (resident("VmHWM") - before) / 2**10


def resident(which: str) -> int:
    """Read a figure of this process's memory in KiB, see proc_pid_status(5)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{which}:")).split()[1])


def memory_of(name: str, variants: Variants) -> float:
    if DEVICE.type == "cuda":
        return peak_megabytes(name, variants)
    words = [sys.executable, *sys.argv, "--memory-of", name]
    # Without a fixed threshold glibc keeps freed large blocks, which then look as if they were in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    for name, shape in (("loss", [2, 19, 512, 1024]), ("upsampled", [1, 19, 1024, 2048])):
        kind = kinds.add_parser(name)
        kind.add_argument("--shape", type=int, nargs="+", default=shape)
        kind.add_argument("--dtype" if name == "loss" else "--scale", **_options(name))
    kinds.add_parser("step").add_argument("network", choices=["resnet20", "cgnet"])
    for kind in kinds.choices.values():
        kind.add_argument("--repeats", type=int, default=7)
        kind.add_argument("--no-memory", action="store_true", help="do not measure peak memory")
        kind.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    flush_subnormals()
    torch.manual_seed(0)
    variants = {"loss": loss_variants, "upsampled": upsampled_variants, "step": step_variants}[args.what](args)
    if args.memory_of:
        print(json.dumps(peak_megabytes(args.memory_of, variants)))
        return
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(args.repeats + 1):  # the first compiles, and fills the cache
        for name, run in variants.items():
            spent = seconds(run)
            if turn:
                times[name].append(spent)
    first, machine = next(iter(variants)), platform.processor() or platform.machine()
    if DEVICE.type == "cuda":
        machine = torch.cuda.get_device_name()
    print(f"{' '.join(sys.argv[1:])}: {machine}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print(f"| variant | ms (median) | ratio to {first} | peak extra memory, MiB |\n|---|---|---|---|")
    middle = {name: statistics.median(values) for name, values in times.items()}
    for name in variants:
        memory = "-" if args.no_memory else f"{memory_of(name, variants):.0f}"
        print(f"| {name} | {1000 * middle[name]:.1f} | {middle[name] / middle[first]:.2f} | {memory} |")
    if DEVICE.type != "cuda":
        print("\nGPU: not run: no GPU")


def _options(what: str) -> dict[str, Any]:
    if what == "loss":
        return {"choices": ["float32", "bfloat16", "float16"], "default": "float32"}
    return {"type": int, "default": 8, "help": "factor between the size of the images and of the logits"}


if __name__ == "__main__":
    main()
