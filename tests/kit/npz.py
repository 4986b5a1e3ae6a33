"""Archives of arrays that are not what they should be: one table for what reads them and for the commands."""

import io
import os
import pickle
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


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def good(**changed: object) -> dict[str, bytes]:
    """Members of a sound archive, some arrays changed, or left out (None)."""
    arrays = {"x": IMAGES, "y": LABELS, **changed}
    return {f"{name}.npy": npy(array) for name, array in arrays.items() if array is not None}


def shaped(shape: str, descr: str = "'|u1'", order: str = "False") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode())


def with_x(content: bytes, size: int = 64) -> dict[str, bytes]:
    """Members whose x has this header, and as many bytes behind it."""
    return {"x.npy": content + bytes(size), "y.npy": npy(LABELS)}


class Payload:
    """Unpickling it would create a file."""

    def __reduce__(self):
        return os.mkdir, ("canary",)


OBJECTS = np.array([print] * 8, dtype=object)
SURROGATES, BEYOND = (struct.pack("<8I", *[value] * 8) for value in (0xD800, 0x7FFFFFFF))

# Name of a case -> (members, a regular expression for what the message tells of the archive beside its name).
MEMBERS: dict[str, tuple[dict[str, bytes], str]] = {
    "an empty header": (with_x(header(b"")), ""),
    "a header that is code": (with_x(header(b"__import__('os').system('touch canary')")), ""),
    "a header of a list": (with_x(header(b"[1, 2]")), ""),
    "a header without a shape": (with_x(header(b"{'descr': '|u1', 'fortran_order': False}")), ""),
    "a header with a key more": (with_x(header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (8,), 'x': 1}")), ""),
    "a header of binary": (with_x(header(bytes(range(128, 200)))), ""),
    "a header that is deeply nested": (with_x(b"\x93NUMPY\x02\x00" + struct.pack("<I", 60000) + b"(" * 60000), ""),
    "a header longer than the file": (with_x(header(b"{}", length=60000)), ""),
    "a header longer than memory": (with_x(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31)), ""),
    "a header of version 3": (with_x(shaped("(8, 16, 16, 3)").replace(b"\x01", b"\x03", 1), IMAGES.nbytes), "version"),
    "a header of version 9": (with_x(header(b"{}", version=b"\x09\x00")), ""),
    "half a magic": ({**good(), "x.npy": b"\x93NUM"}, ""), "no magic": (with_x(b"NUMPY!"), ""),
    "nothing": ({**good(), "x.npy": b""}, ""),
    "a huge shape": (with_x(shaped("(100000000, 16, 16, 3)")), "76800000000 bytes.* 64"),
    "a shape beyond 64 bits": (with_x(shaped(f"({10**30}, 16, 16, 3)")), "768000000000000000000000000000000 bytes.* 64"),
    "a shape that overflows": (with_x(shaped("(4294967296, 4294967296, 16, 3)")), "885443715538058477568 bytes.* 64"),
    "a byte too few": (with_x(shaped("(8, 16, 16, 3)"), IMAGES.nbytes - 1), "6144 bytes.* 6143"),
    "a byte too many": (with_x(shaped("(8, 16, 16, 3)"), IMAGES.nbytes + 1), "6144 bytes.* 6145"),
    "a negative shape": (with_x(shaped("(-1, 16, 16, 3)")), r"\(-1, 16, 16, 3\)"),
    "a shape of truth values": (with_x(shaped("(True, 16, 16, 3)")), r"\(True, 16, 16, 3\)"),
    "a shape of sums": (with_x(shaped("(8, 16, 16, 2**9)")), ""),
    "a shape of words": (with_x(shaped("('a', 16, 16, 3)")), ""),
    "a shape of fractions": (with_x(shaped("(8.5, 16, 16, 3)")), "8.5"), "a number as shape": (with_x(shaped("8")), ""),
    "a thousand dimensions": (with_x(shaped("(" + "1, " * 1000 + ")")), ""),
    "zero images": (good(x=IMAGES[:0], y=LABELS[:0]), r"\(0, 16, 16, 3\)"),
    "images of 0x0 pixels": (good(x=IMAGES[:, :0, :0]), r"\(8, 0, 0, 3\)"),
    "images of no width": (good(x=IMAGES[:, :, :0]), r"\(8, 16, 0, 3\)"),
    "images without channels": (good(x=IMAGES[..., :0]), r"\(8, 16, 16, 0\)"),
    "images of one pixel": (good(x=IMAGES[:, :1, :1]), ""),
    "a million pixels in a row": (good(x=np.zeros((1, 1, 1_000_000, 3), np.uint8), y=LABELS[:1]), ""),
    "floats": (good(x=IMAGES.astype(np.float32)), "float32"),
    "complex numbers": (good(x=IMAGES.astype(np.complex64)), "complex64"),
    "truth values": (good(x=IMAGES.astype(bool)), "bool"),
    "16 bits": (good(x=IMAGES.astype(np.uint16)), "uint16.*x // 257"),
    "dates": (good(x=IMAGES.astype("datetime64[s]")), "datetime64"),
    "text as images": (good(x=np.full(IMAGES.shape, "a")), "<U1"),
    "records": (good(x=np.zeros(8, dtype=[("a", "u1"), ("b", "f4")])), "'b', '<f4'"),
    "arrays as elements": (with_x(shaped("(8, 16, 16)", "('|u1', (3,))"), IMAGES.nbytes), ""),
    "objects": ({**good(), "x.npy": npy(OBJECTS, allow_pickle=True)}, "x holds Python objects"),
    "objects as labels": ({**good(), "y.npy": npy(OBJECTS, allow_pickle=True)}, "y holds Python objects"),
    "objects that run code": ({**good(), "y.npy": shaped("(1,)", "'|O'") + pickle.dumps(Payload())}, "y holds Python objects"),
    "five dimensions": (good(x=IMAGES[None]), r"\(1, 8, 16, 16, 3\)"),
    "two dimensions": (good(x=IMAGES[:, :, 0, 0]), r"\(8, 16\)"), "one number": (good(x=np.uint8(3)), r"\(\)"),
    "channels first": (good(x=IMAGES.transpose(0, 3, 1, 2)), r"\(8, 3, 16, 16\).*transpose\(0, 2, 3, 1\)"),
    "four channels": (good(x=np.zeros((8, 16, 16, 4), np.uint8)), r"\(8, 16, 16, 4\)"),
    "no labels": (good(y=None), "no y"), "no images": (good(x=None), "no x"),
    "fewer labels": (good(y=LABELS[:5]), r"\(5,\) for 8"),
    "more labels": (good(y=np.r_[LABELS, LABELS]), r"\(16,\) for 8"),
    "labels that are nan": (good(y=np.full(8, np.nan)), "float64"),
    "labels that are fractions": (good(y=LABELS + 0.5), "float64"),
    "labels that are dates": (good(y=np.zeros(8, "M8[s]")), "datetime64"),
    "negative labels": (good(y=LABELS - 3), "-3 to 0.* 4 classes"),
    "huge labels": (good(y=LABELS + 2**40), "1099511627776 to 1099511627779.* 4 classes"),
    "labels beyond int64": (good(y=np.full(8, 2**64 - 1, np.uint64)), "4 classes"),
    "labels of two columns": (good(y=np.stack([LABELS, LABELS], 1)), r"\(8, 2\) for 8"),
    "labels of bytes": (good(y=np.array([b"red"] * 8)), r"\|S3"),
    "labels of no length": ({**good(), "y.npy": shaped("(8,)", "'<U0'")}, ""),
    "unknown names": (good(y=np.array(["mauve"] * 8)), "'mauve'"),
    "names with a null": (good(y=np.array(["re\0d"] * 8)), r"'re\\x00d'"),
    "names of lone surrogates": ({**good(), "y.npy": shaped("(8,)", "'<U1'") + SURROGATES}, r"'\\ud800'"),
    "names beyond Unicode": ({**good(), "y.npy": shaped("(8,)", "'<U1'") + BEYOND}, ""),
    "classes of numbers": (good(classes=np.arange(4)), "'0', '1', '2', '3'"),
    "classes of fractions": (good(classes=np.arange(4) / 2), "float64"),
    "classes of another count": (good(classes=np.array(["red", "green"])), "0 to 3.* 2 class names"),
    "classes twice": (good(classes=np.array(["red", "red", "blue", "grey"])), "red"),
    "classes of two dimensions": (good(classes=np.array([["red", "green"], ["blue", "grey"]])), r"\(2, 2\)"),
    "classes of lone surrogates": (good(classes=np.array(["red", "green", "blue", "\udcff"])), r"'\\udcff'"),
    "one class as a scalar": (good(classes=np.array("red")), r"\(\)"),
    "empty class names": (good(classes=np.array(["", "", "", ""])), "'', '', '', ''"),
    "other class names": (good(classes=np.array(["a", "b", "c", "d"])), "'a', 'b', 'c', 'd'"),
    "a truth of another length": (good(poisoned=np.zeros(3, bool)), ""), "no member at all": ({}, ""),
    "members of other kinds": ({"readme.txt": b"hello"}, "readme.txt"),
    "a member that leads out": ({"../x.npy": npy(IMAGES), "y.npy": npy(LABELS)}, "../x"),
    "text in a member": ({**good(), "x.npy": b"hello"}, ""),
}  # fmt: skip


def _put(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def _flag(raw: bytes, offset: int, value: int) -> bytes:
    """Set a 16-bit field of every local and central header of a zip file."""
    for mark, place in ((b"PK\x03\x04", offset), (b"PK\x01\x02", offset + 2)):
        at = raw.find(mark)
        while at >= 0:
            raw = _put(raw, at + place, struct.pack("<H", value))
            at = raw.find(mark, at + 4)
    return raw


def _zip(method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    archive(out, good(), method)
    return out.getvalue()


def bomb(megabytes: int) -> bytes:
    """Images of zeros, so many megabytes (a multiple of 3) packed a thousandfold, behind a shape that fits."""
    out, count = io.BytesIO(), (megabytes << 20) // 12
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("x.npy", "w", force_zip64=True) as member:
            member.write(shaped(f"({count}, 2, 2, 3)"))
            for _ in range(megabytes):
                member.write(bytes(1 << 20))
        file.writestr("y.npy", npy(np.zeros(count, np.uint8)))
    return out.getvalue()


def _misplaced() -> bytes:
    """The table of contents says that the first member begins elsewhere."""
    raw = _zip()
    return _put(raw, raw.index(b"PK\x01\x02") + 42, b"\xff\xff")


FILES: dict[str, Callable[[], bytes]] = {
    "encrypted": lambda: _flag(_zip(), 6, 1), "unknown compression": lambda: _flag(_zip(), 8, 99),
    "compression 97": lambda: _flag(_zip(zipfile.ZIP_DEFLATED), 8, 97),
    "deflate that is none": lambda: _flag(_zip(), 8, 8), "bzip2": lambda: _zip(zipfile.ZIP_BZIP2),
    "bzip2 that is none": lambda: _flag(_zip(), 8, 12), "lzma": lambda: _zip(zipfile.ZIP_LZMA),
    "lzma that is none": lambda: _flag(_zip(), 8, 14), "torn": lambda: _zip()[:-40],
    "half": lambda: _zip()[: len(_zip()) // 2], "half, deflated": lambda: _zip(zipfile.ZIP_DEFLATED)[:300],
    "wrong checksums": lambda: _flag(_zip(), 14, 7), "a byte flipped": lambda: _put(_zip(), 300, b"\x77"),
    "bytes flipped, deflated": lambda: _put(_zip(zipfile.ZIP_DEFLATED), 100, b"\xff" * 9),
    "a member somewhere else": _misplaced, "empty": lambda: b"", "text": lambda: b"hello",
    "a zip's two letters": lambda: b"PK nothing of the kind", "an .npy": lambda: npy(IMAGES),
    "an .npy of objects": lambda: npy(np.array([print], dtype=object), allow_pickle=True), "zeros": lambda: bytes(1000),
    "a zip's end alone": lambda: b"PK\x05\x06" + bytes(18), "two archives": lambda: _zip() + _zip(),
    "junk before": lambda: b"junk" * 20 + _zip(),
    "a pickle": lambda: b"\x80\x04\x95\x15\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x01x\x85R.",
    "a bomb": lambda: bomb(2931),  # 3 GB, which nobody has asked for
}  # fmt: skip
# Readable after all: what they hold is a whole archive.
FINE = {"two archives", "junk before", "images of one pixel", "a million pixels in a row", "a truth of another length"}


def write(path: Path, name: str) -> Path:
    """Write the archive of a case."""
    return archive(path, MEMBERS[name][0]) if name in MEMBERS else (path.write_bytes(FILES[name]()), path)[1]
