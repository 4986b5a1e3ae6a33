"""Device and distributed launcher of a command."""

import os
from types import SimpleNamespace

from ..errors import RequestError


def use_device(device: str | None) -> None:
    """Make torch see only the requested device (cpu, cuda or cuda:N); call it before anything touches CUDA.

    Args:
        device: 'cuda:N' is the N-th of those that CUDA_VISIBLE_DEVICES lists. None takes a GPU if there is one.

    Raises:
        RequestError: Another word, or a GPU that does not exist.
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
        listed = "" if before is None else f" (CUDA_VISIBLE_DEVICES={before!r})"
        visible_gpus = "no GPU" if count == 0 else f"{count} GPU(s), the last of which is cuda:{count - 1}"
        raise RequestError(f"--device {device}: torch sees {visible_gpus}{listed}; give one of those, or cpu")
    if device != "cuda":
        visible = before.split(",") if before else [str(i) for i in range(count)]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(number)]


def use_launcher(args: SimpleNamespace) -> None:
    """Set ``launcher`` if the command line does not: 'pytorch' under torchrun, else 'none'."""
    if args.launcher is None:
        args.launcher = "pytorch" if "LOCAL_RANK" in os.environ else "none"
