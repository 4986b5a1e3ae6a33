"""The teacher's outputs of views that it has seen: a view that comes again costs no forward.

A view is known by the digest of the tensor that the teacher is shown, so whatever the data and their augmentation are, the same
picture in the same view is found, and nothing else is. Outputs are kept as the heads give them, before any resize.

A matrix product rounds a sample's output in one way alone and in another among others. So on a CPU the teacher is shown new views
one by one: what it says does not depend on which others were known, and a run that goes on, with an empty cache, is the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

LIMIT = 1 << 30  # bytes kept in memory; what is more goes into a file
VIEWS = 8  # of a sample, that are compared to find out whether views come again

Caught = dict[str, deque[Any]]  # by loss point, the outputs of each call: tensors (N, ...), or sequences of them


class TeacherCache:
    """Outputs of one teacher by view.

    Args:
        teacher: Digest of the teacher's file, part of every key.
        folder: Where the file for what does not fit into memory is made. It has no name, so that even of a run that is killed
            nothing of the original stays there.
    """

    def __init__(self, teacher: str, folder: str) -> None:
        self.teacher, self.folder = teacher.encode(), folder
        self.kept: dict[bytes, Any] = {}
        self.bytes = 0
        self.active = True
        self._by_sample = False  # whether the teacher's outputs are known to be one for each sample
        self._file: Any = None

    def run(self, teacher: Callable[..., Any], caught: Caught, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Fill ``caught`` with the outputs for a batch, as ``teacher(*args, **kwargs)`` does by itself."""
        inputs = kwargs.get("inputs", args[0] if args else None)
        if not self.active or not isinstance(inputs, Tensor):
            teacher(*args, **kwargs)
            return
        count = len(inputs)
        keys = [self._key(sample) for sample in inputs]
        known = [self.kept.get(key) for key in keys]
        missing = [i for i, found in enumerate(known) if found is None]
        if missing and not self._by_sample:
            teacher(*args, **kwargs)
            self._by_sample = _is_by_sample({name: list(calls) for name, calls in caught.items()}, count)
            if not self._by_sample:
                self.close()
                return
        for group in [[i] for i in missing] if inputs.device.type == "cpu" else [missing]:
            caught.clear()
            if group:
                teacher(*(take(value, group, count) for value in args), **take(kwargs, group, count))
            fresh = {name: list(calls) for name, calls in caught.items()}
            for place, i in enumerate(group):
                known[i] = _each(partial(_row, place), fresh)
                self._keep(keys[i], known[i])
        caught.clear()
        read = [_each(self._read, found) for found in known]
        caught.update({name: deque(calls) for name, calls in _stack(read).items()})

    def close(self) -> None:
        """Forget everything, the file, too."""
        self.active = False
        self.kept.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _key(self, sample: Tensor) -> bytes:
        about = f"{tuple(sample.shape)} {sample.dtype}".encode()
        return hashlib.sha256(self.teacher + about + _bytes(sample)).digest()

    def _keep(self, key: bytes, outputs: Any) -> None:
        size = sum(_each(lambda x: x.numel() * x.element_size(), outputs, flat=True))
        if self.bytes + size <= LIMIT:
            self.kept[key] = outputs
            self.bytes += size
            return
        with contextlib.suppress(OSError):  # a full disk: this view is computed again
            self.kept[key] = _each(self._write, outputs)

    def _write(self, tensor: Tensor) -> _OnDisk:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - held until close()
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(_bytes(tensor))
        self._file.flush()
        return _OnDisk(start, tuple(tensor.shape), tensor.dtype, tensor.device)

    def _read(self, kept: Tensor | _OnDisk) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        length = torch.Size(kept.shape).numel() * kept.dtype.itemsize
        values = torch.frombuffer(bytearray(os.pread(self._file.fileno(), length, kept.start)), dtype=kept.dtype)
        return values.reshape(kept.shape).to(kept.device)


class _OnDisk(NamedTuple):
    """Place of a tensor in the file."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def make_cache(wanted: str | bool, loader: Any, batches: int, teacher: str, folder: str) -> TeacherCache | None:
    """Make the cache of a run; None if ``wanted`` is False, or 'auto' and no view of a sample comes twice.

    Args:
        wanted: 'auto', True or False.
        loader: The run's DataLoader.
        batches: Number that all processes read.
        teacher, folder: See :class:`TeacherCache`.
    """
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


def take(given: Any, places: Sequence[int], count: int) -> Any:
    """``places`` of every tensor and list in ``given`` whose length is ``count``, a batch's; the rest as it is."""
    if isinstance(given, Tensor):
        return given[list(places)] if given.ndim > 0 and len(given) == count else given
    if isinstance(given, Mapping):
        return {name: take(value, places, count) for name, value in given.items()}
    if isinstance(given, (list, tuple)):
        if len(given) == count and not any(isinstance(value, Tensor) and value.ndim > 3 for value in given):
            return [given[place] for place in places]
        return type(given)(take(value, places, count) for value in given)
    return given


def _each(function: Callable[[Any], Any], outputs: Any, flat: bool = False) -> Any:
    """``function`` of every leaf of nested sequences; as they are nested, or one after the other."""
    if isinstance(outputs, Mapping):
        found: Any = {name: _each(function, value, flat) for name, value in outputs.items()}
        return [leaf for part in found.values() for leaf in part] if flat else found
    if isinstance(outputs, (list, tuple)) and not isinstance(outputs, _OnDisk):
        parts = [_each(function, value, flat) for value in outputs]
        return [leaf for part in parts for leaf in part] if flat else parts
    return [function(outputs)] if flat else function(outputs)


def _row(place: int, outputs: Tensor) -> Tensor:
    return outputs[place].clone()


def _is_by_sample(outputs: Any, count: int) -> bool:
    """Return True if there are outputs, and all are tensors of ``count`` samples."""
    fits = _each(lambda x: isinstance(x, Tensor) and x.ndim > 0 and len(x) == count, outputs, flat=True)
    return bool(fits) and all(fits)


def _stack(samples: Sequence[Any]) -> Any:
    first = samples[0]
    if isinstance(first, Mapping):
        return {name: _stack([sample[name] for sample in samples]) for name in first}
    if isinstance(first, list):
        return [_stack(list(parts)) for parts in zip(*samples, strict=True)]
    return torch.stack(list(samples))
