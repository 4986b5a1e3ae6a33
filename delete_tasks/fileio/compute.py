"""Device, subnormal numbers and memory of this process."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX


def choose_device(device: str | None = None) -> str:
    """Return 'cuda' if torch sees a GPU and ``device`` is not 'cpu', else 'cpu'."""
    import torch

    return "cuda" if torch.cuda.is_available() and device != "cpu" else "cpu"


def multiplies_bfloat16(avx512: bool = False) -> bool:
    """Return True if there is no GPU and the CPU has instructions for bfloat16: AMX or, with ``avx512``, AVX512_BF16."""
    import torch

    checks = ["_is_amx_tile_supported", *["_is_avx512_bf16_supported"] * avx512]  # not public in 2.13
    return not torch.cuda.is_available() and any(getattr(torch.cpu, name, bool)() for name in checks)


def flush_subnormals() -> None:
    """Flush subnormal floats to zero on a CPU, in this thread and those that it starts later: they are up to a hundred times
    slower, and trained networks contain many (a forward pass of the tests' CGNet takes 7.8 s with, 0.27 s without)."""
    import torch

    torch.set_flush_denormal(True)


def keep_freed_memory() -> None:
    """Keep freed memory for the next tensors instead of giving it back to the system; without glibc do nothing. Else each large
    block is mapped anew and cleared: a tenth of a CGNet's training step on a CPU (docs/benchmarks/performance.md). The process
    then holds its peak memory until it ends, so only commands call this."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
