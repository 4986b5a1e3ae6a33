"""Plain arrays from .npz and .npy files of any origin: what a file says of itself is checked before its content is read.

What is unpacked from a member of an archive is at most :data:`MOST_UNPACKED` bytes, or :data:`MOST_RATIO` times what it takes
in the file if that is more; images are unpacked block by block, and only the chosen ones are kept.
"""

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from delete_tasks.errors import RequestError, first_line

MOST_UNPACKED = 2**28
MOST_RATIO = 100  # pictures pack by 1 to 3, drawings by 20; a bomb by 1,000 and more
BLOCK = 2**22  # bytes that are unpacked at once
_HEAD = 2**14  # bytes in which a header must end; NumPy itself reads no longer one
_KINDS = {"u": "unsigned integers", "i": "integers", "f": "floats", "U": "text", "S": "bytes", "b": "booleans"}


@dataclass(frozen=True)
class Header:
    """Header of an array.

    Attributes:
        shape: Of the array.
        dtype: Of plain numbers or text.
        fortran: The first axis runs fastest.
        offset: Where the numbers begin.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _read_header(stream: BinaryIO, size: int, packed: int, what: str) -> Header:
    """Header of an array of ``size`` bytes in all that takes ``packed`` bytes on the disk; ``what`` names it in messages."""
    head = io.BytesIO(stream.read(_HEAD))
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise RequestError(f"{what} is written in version {version} of .npy, which is for records; write plain arrays")
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(head)
    if dtype.hasobject:
        raise RequestError(f"{what} holds Python objects (pickles), whose loading can run code; write plain arrays")
    if dtype.kind not in _KINDS or dtype.names or dtype.subdtype or not dtype.itemsize:
        raise RequestError(f"{what} has elements of type {dtype}; expected one of {', '.join(_KINDS.values())}")
    if any(isinstance(side, bool) or side < 0 for side in shape):
        raise RequestError(f"{what} has the shape {shape}, which cannot be")
    header = Header(tuple(shape), dtype, fortran, head.tell())
    if header.offset + header.nbytes != size:
        raise RequestError(
            f"{what} says it has the shape {shape} of {dtype}, i.e. {header.nbytes} bytes, but {size - header.offset} follow"
        )
    most = max(MOST_UNPACKED, MOST_RATIO * packed)
    if header.nbytes > most:
        raise RequestError(
            f"{what} would unpack from {packed:,} to {header.nbytes:,} bytes; more than {MOST_RATIO} times as much, beyond "
            f"{MOST_UNPACKED:,} bytes, is refused, since it may be made to fill the memory; write it without compression"
        )
    return header


def _read_whole(stream: Any, header: Header, what: str) -> np.ndarray:
    check_memory(header.nbytes, what)
    array = np.lib.format.read_array(stream, allow_pickle=False)
    stream.read(1)  # at the end of a member its checksum is compared
    return array


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # damaged archives raise what zipfile, zlib, NumPy and Python's parser happen to raise
        fix = "write it with numpy.savez" if path.suffix == ".npz" else "write it with numpy.save"
        raise RequestError(f"'{path}' cannot be read as plain arrays: {first_line(error)[:500]}; {fix}") from error


class Archive:
    """An .npz file.

    Attributes:
        names: Of its arrays.

    Raises:
        RequestError: It is no archive of arrays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _named_errors(path), zipfile.ZipFile(path) as archive:
            self.names = [info.filename.removesuffix(".npy") for info in archive.infolist()]

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[Any, Header]]:
        """Open the stream of an array, and read its header."""
        with _named_errors(self.path), zipfile.ZipFile(self.path) as archive:
            stored = set(archive.namelist())
            info = archive.getinfo(f"{name}.npy" if f"{name}.npy" in stored else name)
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
        """Shape and type of an array; none of its elements is read.

        Raises:
            RequestError: Encrypted, compressed by anything but deflate, no plain array, or too large once unpacked.
        """
        with self._open(name) as (_, header):
            return header

    def read(self, name: str) -> np.ndarray:
        """Read a whole array.

        Raises:
            RequestError: As :meth:`header`; damaged.
        """
        with self._open(name) as (stream, header):
            return _read_whole(stream, header, name)

    def blocks(self, name: str, indices: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Read the rows of an array at ``indices`` (ascending), block by block: their place among ``indices``, and the rows.

        Raises:
            RequestError: As :meth:`read`.
        """
        with self._open(name) as (stream, header):
            if header.fortran:  # its rows lie nowhere together
                yield slice(0, len(indices)), _read_whole(stream, header, name)[indices]
                return
            stream.read(header.offset)
            count, row = header.shape[0], header.nbytes // max(1, header.shape[0])
            each = max(1, BLOCK // max(1, row))
            for begin in range(0, count, each):
                end = min(begin + each, count)
                rows = np.frombuffer(stream.read((end - begin) * row), header.dtype).reshape(-1, *header.shape[1:])
                place = slice(*np.searchsorted(indices, (begin, end)))
                yield place, rows[indices[place] - begin]
            stream.read(1)


def read_npy(path: Path) -> np.ndarray:
    """Read a plain array from an .npy file.

    Raises:
        RequestError: No plain array, or damaged.
    """
    with _named_errors(path), open(path, "rb") as stream:
        size = os.path.getsize(path)
        header = _read_header(stream, size, size, "it")
        stream.seek(0)
        return _read_whole(stream, header, "it")


def texts(array: np.ndarray, path: Path) -> list[str]:
    """Convert an array of text or integers to text.

    Raises:
        RequestError: Numbers that are no characters.
    """
    with _named_errors(path):
        return [str(name) for name in array.tolist()]


def check_memory(wanted: int, what: str) -> None:
    """Refuse to hold ``wanted`` bytes where the system says that it has not so many free.

    Raises:
        RequestError: It has not.
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return  # not Linux
    if wanted > free:
        raise RequestError(
            f"{what} takes {wanted / 2**30:.1f} GiB in memory, of which {free / 2**30:.1f} GiB are free; choose fewer with "
            "class= or limit="
        )
