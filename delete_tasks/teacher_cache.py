"""The teacher's outputs of views that it has seen: a view that comes again costs no forward.

A view is known by the digest of the tensor that the teacher is shown, so whatever the data and their augmentation are, the same
picture in the same view is found, and nothing else is. Outputs are kept as the heads give them, before any resize.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .forget_set import ForgetSet

LIMIT = 1 << 30  # bytes kept in memory; what is more goes into a file
DRAWS = 8  # of a sample, to see whether its views are few

Caught = dict[str, deque[Any]]  # by loss point, the outputs of each call: tensors (N, ...), or sequences of them


class TeacherCache:
    """Outputs of one teacher by view.

    The teacher is shown each new view by itself: what it says of one would else depend, in the last bits, on the others of its
    batch, and so on whether a run was resumed, since a resumed run begins with an empty cache.

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
        self._file: Any = None

    def run(self, teacher: Callable[..., Any], caught: Caught, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Fill ``caught`` with the outputs for a batch, as ``teacher(*args, **kwargs)`` does by itself."""
        inputs = kwargs.get("inputs", args[0] if args else None)
        if not self.active or not isinstance(inputs, Tensor):
            teacher(*args, **kwargs)
            return
        count, found = len(inputs), []
        for place, sample in enumerate(inputs):
            key = self._key(sample)
            known = self.kept.get(key)
            if known is None:
                caught.clear()
                teacher(*(take(value, [place], count) for value in args), **take(kwargs, [place], count))
                fresh = {name: list(calls) for name, calls in caught.items()}
                if not _is_by_sample(fresh, 1):
                    self.close()
                    caught.clear()
                    teacher(*args, **kwargs)
                    return
                known = _each(partial(_row, 0), fresh)
                self._keep(key, known)
            found.append(_each(self._read, known))
        caught.clear()
        caught.update({name: deque(calls) for name, calls in _stack(found).items()})

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
    """Where a tensor lies in the file."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def make_cache(runner: Any, wanted: str | bool) -> TeacherCache | None:
    """The cache of a run, or None where ``wanted`` is False, or 'auto' and no view comes twice."""
    if wanted is False or (wanted == "auto" and not _views_repeat(runner)):
        return None
    return TeacherCache(runner.teacher_sha256, runner.work_dir)


def _views_repeat(runner: Any) -> bool:
    """Whether samples come more than once, and of a few that are drawn :data:`DRAWS` times one is the same twice."""
    data = runner.train_dataloader
    drawn = runner.train_loop.max_iters * data.batch_size * runner.world_size
    if not isinstance(data.dataset, ForgetSet) or drawn <= len(data.dataset):
        return False
    views: list[set[bytes]] = [set(), set(), set()]
    for number in range(DRAWS):
        for found, place in zip(views, (0, len(data.dataset) // 2, -1), strict=True):
            item = data.dataset.draw(place, number)
            inputs = item["inputs"] if isinstance(item, Mapping) else item[0]
            if not isinstance(inputs, Tensor):
                return False
            found.add(hashlib.sha256(_bytes(inputs)).digest())
    return any(len(found) < DRAWS for found in views)


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
    """Whether there are outputs, and all are tensors with one row for each sample."""
    fits = _each(lambda x: isinstance(x, Tensor) and x.ndim > 0 and len(x) == count, outputs, flat=True)
    return bool(fits) and all(fits)


def _stack(samples: Sequence[Any]) -> Any:
    first = samples[0]
    if isinstance(first, Mapping):
        return {name: _stack([sample[name] for sample in samples]) for name in first}
    if isinstance(first, list):
        return [_stack(list(parts)) for parts in zip(*samples, strict=True)]
    return torch.stack(list(samples))
