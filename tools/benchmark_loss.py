"""Time and memory of the loss against eager PyTorch, forward and backward; each variant in a process of its own.

python tools/benchmark_loss.py [--shape 2 19 512 1024] [--repeats 7]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch


def eager(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss as one writes it down."""
    cut = teacher.masked_fill(mask, float("-inf"))
    difference = cut.log_softmax(1) - student.log_softmax(1)
    return (cut.softmax(1) * difference).masked_fill(mask, 0.0).sum(1).mean()


def ours(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    from delete_tasks import masked_kl_div

    return masked_kl_div(student, teacher, mask)


def ours_with_terms(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    from delete_tasks import masked_kl_div

    return masked_kl_div(student, teacher, mask, return_terms=True)[0]


VARIANTS = {"eager": eager, "ours": ours, "ours, with both terms": ours_with_terms}


def inputs(shape: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    mask = torch.zeros(1, shape[1], *(1,) * (len(shape) - 2), dtype=torch.bool)
    mask[:, shape[1] // 2] = True
    return torch.randn(shape, requires_grad=True), torch.randn(shape), mask


def step(name: str, tensors: tuple[torch.Tensor, ...]) -> float:
    tensors[0].grad = None
    begin = time.perf_counter()
    VARIANTS[name](*tensors).backward()
    return time.perf_counter() - begin


def peak_extra(name: str, shape: list[int]) -> float:
    """Peak memory of one forward and backward beyond the two inputs, in tensors of their size (the gradient counts)."""
    small = inputs([1, shape[1], *(8,) * (len(shape) - 2)])
    step(name, small)  # what a first call loads is not the loss's
    tensors = inputs(shape)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(name, tensors)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) * 1024 / (tensors[0].numel() * 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[2, 19, 512, 1024])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(json.dumps(peak_extra(args.memory_of, args.shape)))
        return
    memory = {}
    for name in VARIANTS:
        command = [sys.executable, __file__, "--memory-of", name, "--shape", *map(str, args.shape)]
        memory[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    tensors = inputs(args.shape)
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(args.repeats + 1):  # in turns, so that a noisy machine is noisy for all
        for name in VARIANTS:
            times[name].append(step(name, tensors))
    middle = {name: statistics.median(values[1:]) for name, values in times.items()}
    print(
        f"{tuple(args.shape)} float32, CPU, {torch.get_num_threads()} threads, torch {torch.__version__.split('+')[0]}\n"
    )
    print(
        "| loss | forward + backward, ms (median) | ratio to eager | peak extra memory, tensors of the logits' size |"
    )
    print("|---|---|---|---|")
    for name in VARIANTS:
        print(f"| {name} | {1000 * middle[name]:.0f} | {middle[name] / middle['eager']:.2f} | {memory[name]:.2f} |")


if __name__ == "__main__":
    main()
