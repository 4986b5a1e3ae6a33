"""Where a command runs: the device that torch sees, and what started its processes."""

from __future__ import annotations

import os
from types import SimpleNamespace

from ..errors import RequestError


def use_device(device: str | None) -> None:
    """Make torch see the wanted device (cpu, cuda or cuda:N) alone; call it before anything touches CUDA.

    Args:
        device: 'cuda:N' is the N-th of those that CUDA_VISIBLE_DEVICES shows already. None takes a GPU if there is one.

    Raises:
        RequestError: Another word, or a GPU that is not there.
    """
    if device is None:
        return
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    number = device.removeprefix("cuda:") if device.startswith("cuda:") else "0"
    if device != "cuda" and not (device.startswith("cuda:") and number.isdecimal() and number.isascii()):
        raise RequestError(f"--device takes cpu, cuda or cuda:N, got '{device}'")
    import torch

    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if int(number) >= count:
        shown = "" if before is None else f" (CUDA_VISIBLE_DEVICES={before!r})"
        there = "no GPU" if count == 0 else f"{count} GPU(s), the last of which is cuda:{count - 1}"
        raise RequestError(f"--device {device}: torch sees {there}{shown}; give one that is there, or cpu")
    if device != "cuda":
        visible = before.split(",") if before else [str(i) for i in range(count)]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(number)]


def use_launcher(args: SimpleNamespace) -> None:
    """Set ``launcher`` where the command line does not: torchrun says of itself that it is there."""
    if args.launcher is None:
        args.launcher = "pytorch" if "LOCAL_RANK" in os.environ else "none"
