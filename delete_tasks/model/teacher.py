"""Teacher: the frozen original, compared with the student, and a cache of its outputs (of the heads, before any resize) by view.

A view that comes again costs no forward pass. Its key is the digest of the tensor that the teacher reads, so it holds for any
data and augmentation. A matrix product rounds a sample's output differently alone and in a batch. So on a CPU the teacher reads
new views one by one; its outputs do not depend on what the cache holds, and a resumed run, with an empty cache, gives the same.
"""

import contextlib
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import CheckpointMismatchError

LIMIT = 1 << 30  # bytes in memory; further outputs go into a file
VIEWS = 8  # of a sample, compared to find out whether views repeat

Caught = dict[str, deque[Any]]  # outputs of each call by loss point: tensors (N, ...), or sequences of them


def freeze(teacher: nn.Module, training_flags: Callable[[nn.Module], Sequence[nn.Module]]) -> nn.Module:
    """Freeze a teacher; set norms and dropout to eval mode, see :meth:`delete_tasks.task.Task.training_flags` for exceptions."""
    teacher.requires_grad_(False)
    teacher.eval()
    for module in training_flags(teacher):
        module.training = True
    return teacher


def check_same_weights(student: nn.Module, teacher: nn.Module, path: str) -> None:
    """Refuse a student with other weights than its teacher, at step 0."""
    expected = teacher.state_dict()
    for name, tensor in student.state_dict().items():
        if not torch.equal(tensor, expected[name].to(tensor.device)):
            raise CheckpointMismatchError(
                f"at step 0 the model and its teacher ('{path}') must be the same, but '{name}' differs. "
                "Let load_from and unlearn.teacher name the same original checkpoint, or leave teacher out."
            )


@torch.no_grad()
def step_back(model: nn.Module, original: nn.Module, share: float) -> None:
    """Move weights and running statistics by ``share``, 0 to 1, back to the ``original`` (as WiSE-FT, arXiv 2109.01903)."""
    before = original.state_dict()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            tensor.lerp_(before[name].to(tensor), share)


class TeacherCache:
    """Outputs of one teacher by view, with the digest of the ``teacher`` in every key. Outputs beyond the memory limit go into a
    file in ``folder``, which has no name, so that a killed run leaves no outputs of the original behind."""

    def __init__(self, teacher: str, folder: str) -> None:
        self.teacher, self.folder = teacher.encode(), folder
        self.outputs: dict[bytes, Any] = {}
        self.bytes = 0
        self.active = True
        self._by_sample = False  # True once the teacher's outputs have turned out to be one for each sample
        self._file: Any = None

    def run(self, teacher: Callable[..., Any], caught: Caught, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Fill ``caught`` with the outputs for a batch, as ``teacher(*args, **kwargs)`` does by itself."""
        inputs = kwargs.get("inputs", args[0] if args else None)
        if not self.active or not isinstance(inputs, Tensor):
            teacher(*args, **kwargs)
            return
        count = len(inputs)
        about = self.teacher + f"{tuple(inputs.shape[1:])} {inputs.dtype}".encode()
        keys = [hashlib.sha256(about + _bytes(sample)).digest() for sample in inputs]
        samples = [self.outputs.get(key) for key in keys]
        missing = [i for i, outputs in enumerate(samples) if outputs is None]
        if missing and not self._by_sample:
            teacher(*args, **kwargs)
            leaves = tree_leaves(caught)
            self._by_sample = bool(leaves) and all(isinstance(x, Tensor) and x.ndim and len(x) == count for x in leaves)
            if not self._by_sample:
                self.close()
                return
        for group in [[i] for i in missing] if inputs.device.type == "cpu" else [missing]:
            caught.clear()
            if group:
                teacher(*(take(value, group, count) for value in args), **take(kwargs, group, count))
            for place, i in enumerate(group):
                samples[i] = tree_map(lambda tensor, place=place: tensor[place].clone(), caught)
                self._keep(keys[i], samples[i])
        read = [tree_map(lambda stored: stored() if callable(stored) else stored, outputs) for outputs in samples]
        caught.clear()
        caught.update(tree_map(lambda *tensors: torch.stack(tensors), *read))

    def close(self) -> None:
        """Delete all outputs, with the file."""
        self.active = False
        self.outputs.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _keep(self, key: bytes, outputs: Any) -> None:
        size = sum(tensor.numel() * tensor.element_size() for tensor in tree_leaves(outputs))
        if self.bytes + size <= LIMIT:
            self.outputs[key] = outputs
            self.bytes += size
            return
        with contextlib.suppress(OSError):  # the disk is full: this view is computed again
            self.outputs[key] = tree_map(self._write, outputs)

    def _write(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Write a tensor into the file, and return a function that reads it."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - open until close()
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(_bytes(tensor))
        self._file.flush()
        return partial(self._read, start, tensor.shape, tensor.dtype, tensor.device)

    def _read(self, start: int, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        data = os.pread(self._file.fileno(), shape.numel() * dtype.itemsize, start)
        return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape).to(device)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def make_cache(wanted: str | bool, loader: Any, batches: int, teacher: str, folder: str) -> TeacherCache | None:
    """Make the cache of a run that reads ``batches`` of ``loader``; None if not ``wanted``, or for 'auto' if no view repeats."""
    if wanted is False:
        return None
    if wanted == "auto":
        epochs = batches * loader.batch_size // len(loader.dataset)
        views = getattr(loader.dataset, "views", None)  # a ForgetSet's
        if views is None or not _repeat(loader.collate_fn([item]) for item in views(min(epochs, VIEWS))):
            return None
    return TeacherCache(teacher, folder)


def _repeat(batches: Iterable[Any]) -> bool:
    """Return True if one of these batches, each of one sample, equals an earlier one."""
    seen = set()
    for batch in batches:
        inputs = batch.get("teacher_inputs", batch.get("inputs")) if isinstance(batch, Mapping) else batch
        while isinstance(inputs, (list, tuple)) and inputs:
            inputs = inputs[0]
        if not isinstance(inputs, Tensor):
            return False
        view = hashlib.sha256(_bytes(inputs)).digest()
        if view in seen:
            return True
        seen.add(view)
    return False


def take(batch: Any, places: Sequence[int], count: int) -> Any:
    """Select samples from every tensor and list of length ``count`` in nested arguments; the rest is unchanged."""
    if isinstance(batch, Tensor):
        return batch[list(places)] if batch.ndim > 0 and len(batch) == count else batch
    if isinstance(batch, Mapping):
        return {name: take(value, places, count) for name, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        if len(batch) == count and not any(isinstance(value, Tensor) and value.ndim > 3 for value in batch):
            return [batch[place] for place in places]
        return type(batch)(take(value, places, count) for value in batch)
    return batch
