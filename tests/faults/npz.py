"""Archives of arrays that are not what they should be."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

IMAGES, LABELS = np.zeros((8, 16, 16, 3), np.uint8), np.arange(8) % 4


def header(text: bytes, version: bytes = b"\x01\x00", length: int | None = None) -> bytes:
    """The bytes of an .npy file with this header and nothing behind it."""
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text) if length is None else length) + text


def npy(array: np.ndarray, **options) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), **options)
    return out.getvalue()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)


def good(**changed: object) -> dict[str, bytes]:
    arrays = {"x": IMAGES, "y": LABELS, **changed}
    return {f"{name}.npy": npy(array) for name, array in arrays.items() if array is not None}


def shaped(shape: str, descr: str = "'|u1'", order: str = "False") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode())


def with_x(content: bytes) -> dict[str, bytes]:
    return {"x.npy": content + b"\0" * 64, "y.npy": npy(LABELS)}


MEMBERS: dict[str, dict[str, bytes]] = {
    "an empty header": with_x(header(b"")),
    "a header that is code": with_x(header(b"__import__('os').system('touch canary')")),
    "a header of a list": with_x(header(b"[1, 2]")),
    "a header without a shape": with_x(header(b"{'descr': '|u1', 'fortran_order': False}")),
    "a header with a key more": with_x(header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (8, 16, 16, 3), 'x': 1}")),
    "a header of binary": with_x(header(bytes(range(128, 200)))),
    "a header that is deeply nested": with_x(b"\x93NUMPY\x02\x00" + struct.pack("<I", 60000) + b"(" * 60000),
    "a header longer than the file": with_x(header(b"{}", length=60000)),
    "a header of version 9": with_x(header(b"{}", version=b"\x09\x00")),
    "no magic": with_x(b"NUMPY!"),
    "nothing": with_x(b"")["x.npy"] and {"x.npy": b"", "y.npy": npy(LABELS)},
    "a huge shape": with_x(shaped("(100000000, 16, 16, 3)")),
    "a shape beyond 64 bits": with_x(shaped(f"({10**30}, 16, 16, 3)")),
    "a shape that overflows": with_x(shaped("(4294967296, 4294967296, 16, 3)")),
    "a negative shape": with_x(shaped("(-1, 16, 16, 3)")),
    "a shape of words": with_x(shaped("('a', 16, 16, 3)")),
    "a shape of fractions": with_x(shaped("(8.5, 16, 16, 3)")),
    "a number as shape": with_x(shaped("8")),
    "a thousand dimensions": with_x(shaped("(" + "1, " * 1000 + ")")),
    "zero images": good(x=IMAGES[:0], y=LABELS[:0]),
    "images of 0x0 pixels": good(x=IMAGES[:, :0, :0]),
    "images of no width": good(x=IMAGES[:, :, :0]),
    "images without channels": good(x=IMAGES[..., :0]),
    "images of one pixel": good(x=IMAGES[:, :1, :1]),
    "a million pixels in a row": good(x=np.zeros((1, 1, 1_000_000, 3), np.uint8), y=LABELS[:1]),
    "floats": good(x=IMAGES.astype(np.float32)),
    "complex numbers": good(x=IMAGES.astype(np.complex64)),
    "truth values": good(x=IMAGES.astype(bool)),
    "16 bits": good(x=IMAGES.astype(np.uint16)),
    "dates": good(x=IMAGES.astype("datetime64[s]")),
    "text as images": good(x=np.full(IMAGES.shape, "a")),
    "records": good(x=np.zeros(8, dtype=[("a", "u1"), ("b", "f4")])),
    "objects": {"x.npy": npy(np.array([print] * 8, dtype=object), allow_pickle=True), "y.npy": npy(LABELS)},
    "objects as labels": {"x.npy": npy(IMAGES), "y.npy": npy(np.array([print] * 8, dtype=object), allow_pickle=True)},
    "five dimensions": good(x=IMAGES[None]),
    "two dimensions": good(x=IMAGES[:, :, 0, 0]),
    "one number": good(x=np.uint8(3)),
    "channels first": good(x=IMAGES.transpose(0, 3, 1, 2)),
    "four channels": good(x=np.zeros((8, 16, 16, 4), np.uint8)),
    "no labels": good(y=None),
    "no images": good(x=None),
    "fewer labels": good(y=LABELS[:5]),
    "more labels": good(y=np.r_[LABELS, LABELS]),
    "labels that are nan": good(y=np.full(8, np.nan)),
    "labels that are fractions": good(y=LABELS + 0.5),
    "negative labels": good(y=LABELS - 3),
    "huge labels": good(y=LABELS + 2**40),
    "labels beyond int64": good(y=np.full(8, 2**64 - 1, np.uint64)),
    "labels of two columns": good(y=np.stack([LABELS, LABELS], 1)),
    "labels of bytes": good(y=np.array([b"red"] * 8)),
    "unknown names": good(y=np.array(["mauve"] * 8)),
    "names with a null": good(y=np.array(["re\0d"] * 8)),
    "names of lone surrogates": {"x.npy": npy(IMAGES), "y.npy": shaped("(8,)", "'<U1'") + struct.pack("<8I", *[0xD800] * 8)},
    "names beyond Unicode": {"x.npy": npy(IMAGES), "y.npy": shaped("(8,)", "'<U1'") + struct.pack("<8I", *[0x7FFFFFFF] * 8)},
    "classes of numbers": good(classes=np.arange(4)),
    "classes of another count": good(classes=np.array(["red", "green"])),
    "classes twice": good(classes=np.array(["red", "red", "blue", "grey"])),
    "classes of two dimensions": good(classes=np.array([["red", "green"], ["blue", "grey"]])),
    "one class as a scalar": good(classes=np.array("red")),
    "empty class names": good(classes=np.array(["", "", "", ""])),
    "other class names": good(classes=np.array(["a", "b", "c", "d"])),
    "a truth of another length": good(poisoned=np.zeros(3, bool)),
    "no member at all": {},
    "members of other kinds": {"readme.txt": b"hello"},
    "a member that leads out": {"../x.npy": npy(IMAGES), "y.npy": npy(LABELS)},
    "text in a member": {"x.npy": b"hello", "y.npy": npy(LABELS)},
}  # fmt: skip


def _flag(raw: bytes, offset: int, value: int) -> bytes:
    """Set a 16-bit field of every local and central header of a zip file."""
    data = bytearray(raw)
    for mark, place in ((b"PK\x03\x04", offset), (b"PK\x01\x02", offset + 2)):
        at = data.find(mark)
        while at >= 0:
            data[at + place : at + place + 2] = struct.pack("<H", value)
            at = data.find(mark, at + 4)
    return bytes(data)


def _zip(method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, content in good().items():
            file.writestr(name, content)
    return out.getvalue()


def _bomb() -> bytes:
    """40 MB of zeros a member in some tens of kB, behind a shape that fits: 3 GB in all, which nobody has asked for."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("x.npy", "w", force_zip64=True) as member:
            member.write(shaped("(1000000, 32, 32, 3)"))
            block = bytes(1 << 20)
            for _ in range(2930):
                member.write(block)
        file.writestr("y.npy", npy(np.zeros(1000000, np.int64)))
    return out.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "encrypted": lambda: _flag(_zip(), 6, 1),
    "unknown compression": lambda: _flag(_zip(), 8, 99),
    "compression 97": lambda: _flag(_zip(zipfile.ZIP_DEFLATED), 8, 97),
    "deflate that is none": lambda: _flag(_zip(), 8, 8),
    "bzip2 that is none": lambda: _flag(_zip(), 8, 12),
    "lzma that is none": lambda: _flag(_zip(), 8, 14),
    "torn": lambda: _zip()[:-40],
    "half": lambda: _zip()[: len(_zip()) // 2],
    "wrong checksums": lambda: _flag(_zip(), 14, 7),
    "a byte flipped": lambda: _zip()[:300] + b"\x77" + _zip()[301:],
    "empty": lambda: b"",
    "text": lambda: b"hello",
    "an .npy": lambda: npy(IMAGES),
    "an .npy of objects": lambda: npy(np.array([print], dtype=object), allow_pickle=True),
    "zeros": lambda: bytes(1000),
    "a zip's end alone": lambda: b"PK\x05\x06" + bytes(18),
    "two archives": lambda: _zip() + _zip(),
    "junk before": lambda: b"junk" * 20 + _zip(),
    "a pickle": lambda: b"\x80\x04\x95\x15\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x01x\x85R.",
    "a bomb": _bomb,
}
# Readable after all: what they hold is a whole archive.
FINE = {"two archives", "junk before", "images of one pixel", "a million pixels in a row", "no member",
"a truth of another length",
        "wrong checksums"}  # fmt: skip
