"""Plain arrays from .npz and .npy files of any origin: headers are checked first; :data:`MOST_UNPACKED` bytes of a member, or
:data:`MOST_RATIO` times its size in the file, are unpacked at most; images by blocks, and only the chosen are held."""

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from delete_tasks.errors import RequestError, first_line
from delete_tasks.fileio.inputs import open_regular, refuse_special

MOST_UNPACKED = 2**28
MOST_RATIO = 100  # photos compress 1 to 3 times, drawings 20 times; a bomb 1,000 times and more
BLOCK = 2**22  # bytes that are unpacked at once
_HEAD = 2**14  # bytes in which a header must end; NumPy itself reads no longer header
_KINDS = {"u": "unsigned integers", "i": "integers", "f": "floats", "U": "text", "S": "bytes", "b": "booleans"}


class Header(NamedTuple):
    """Header of an array of numbers or text."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool  # the first axis runs fastest
    offset: int  # of the first element, in bytes

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _read_header(stream: Any, size: int, packed: int, what: str) -> Header:
    """Read the header of an array of ``size`` bytes that takes ``packed`` bytes on the disk; ``what`` names it in messages."""
    head = io.BytesIO(stream.read(_HEAD))
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise RequestError(f"{what} has version {version} of the .npy format, which is for records; write plain arrays")
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(head)
    if dtype.hasobject:
        raise RequestError(f"{what} holds Python objects (pickles), whose loading can run code; write plain arrays")
    if dtype.kind not in _KINDS or dtype.names or dtype.subdtype or not dtype.itemsize:
        raise RequestError(f"{what} has elements of type {dtype}; expected one of {', '.join(_KINDS.values())}")
    if any(isinstance(side, bool) or side < 0 for side in shape):
        raise RequestError(f"{what} has the impossible shape {shape}")
    header = Header(tuple(shape), dtype, fortran, head.tell())
    if header.offset + header.nbytes != size:
        raise RequestError(
            f"{what} has the shape {shape} of {dtype}, i.e. {header.nbytes} bytes, but {size - header.offset} bytes follow"
        )
    if header.nbytes > max(MOST_UNPACKED, MOST_RATIO * packed):
        raise RequestError(
            f"{what} would unpack from {packed:,} to {header.nbytes:,} bytes, which could fill the memory; more than "
            f"{MOST_UNPACKED:,} bytes must not be over {MOST_RATIO} times the packed size. Write it without compression"
        )
    return header


def _read_whole(stream: Any, header: Header, what: str) -> np.ndarray:
    check_memory(header.nbytes, what)
    array = np.lib.format.read_array(stream, allow_pickle=False)
    stream.read(1)  # zipfile compares the checksum at the end of a member
    return array


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile, zlib, NumPy and Python's parser raise many kinds for damaged archives
        writer = "numpy.savez" if path.suffix == ".npz" else "numpy.save"
        raise RequestError(
            f"'{path}' cannot be read as plain arrays: {first_line(error)[:500]}; write it with {writer}"
        ) from error


class Archive:
    """Reader of an .npz file with arrays ``names``; refuses arrays that are damaged, encrypted, not plain, or too large."""

    def __init__(self, path: Path) -> None:
        self.path = path
        refuse_special(path)
        with _named_errors(path), zipfile.ZipFile(path) as archive:
            self.names = [info.filename.removesuffix(".npy") for info in archive.infolist()]

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[Any, Header]]:
        """Open the stream of an array, and read its header."""
        with _named_errors(self.path), zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
            if info.flag_bits & 1:
                raise RequestError(f"{name} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise RequestError(f"{name} is compressed by method {info.compress_type}, not by deflate")
            packed = min(info.compress_size, os.path.getsize(self.path))
            with archive.open(info) as stream:
                header = _read_header(stream, info.file_size, packed, name)  # type: ignore[arg-type]
            with archive.open(info) as stream:
                yield stream, header

    def header(self, name: str) -> Header:
        """Read the shape and type of an array, without its elements."""
        with self._open(name) as (_, header):
            return header

    def read(self, name: str) -> np.ndarray:
        """Read a whole array."""
        with self._open(name) as (stream, header):
            return _read_whole(stream, header, name)

    def blocks(self, name: str, indices: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Read an array at ``indices`` (ascending) of its first axis, in blocks: their slice of ``indices``, and the elements."""
        with self._open(name) as (stream, header):
            if header.fortran:  # an element of the first axis is scattered over the file
                yield slice(0, len(indices)), _read_whole(stream, header, name)[indices]
                return
            stream.read(header.offset)
            count, size = header.shape[0], header.nbytes // max(1, header.shape[0])
            per_block = max(1, BLOCK // max(1, size))
            for begin in range(0, count, per_block):
                end = min(begin + per_block, count)
                block = np.frombuffer(stream.read((end - begin) * size), header.dtype).reshape(-1, *header.shape[1:])
                place = slice(*np.searchsorted(indices, (begin, end)))
                yield place, block[indices[place] - begin]
            stream.read(1)


def read_npy(path: Path) -> np.ndarray:
    """Read a plain array from an .npy file; raises RequestError for anything else."""
    with _named_errors(path), open_regular(path) as stream:
        size = os.path.getsize(path)
        header = _read_header(stream, size, size, "it")
        stream.seek(0)
        return _read_whole(stream, header, "it")


def texts(array: np.ndarray, path: Path) -> list[str]:
    """Convert an array of text or integers to text; raises RequestError for bytes that are not Unicode."""
    with _named_errors(path):
        return [str(name) for name in array.tolist()]


def check_memory(needed: int, what: str) -> None:
    """Raise RequestError if ``needed`` bytes are more than the system's free memory."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return  # not Linux
    if needed > free:
        raise RequestError(
            f"{what} takes {needed / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB of memory are free; choose fewer (limit=)"
        )
