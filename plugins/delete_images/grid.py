"""Keys of the images' part of a grid file (docs/guides/benchmark.md), and digests of what they name."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict

from delete_tasks.fileio.checkpoint import file_sha256
from delete_tasks.fileio.digests import canonical

from .data.opening import open_data
from .models.model_file import WEIGHTS_NAME

Text = Annotated[str, Meta(min_length=1)]


class Data(Struct, frozen=True, forbid_unknown_fields=True):
    """Data strings of a grid."""

    forget: Text
    train: Text
    test: Text
    retain: Text | None = None


class Training(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of ``images train``; None takes the command's default."""

    epochs: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    batch_size: int | None = None
    seed: int | None = None
    amp: bool | None = None
    data: Text | None = None

    def words(self) -> list[str]:
        """Write the options as words of the command, which knows their ranges and defaults."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        flags = ["--amp"] if given.pop("amp", False) else []
        return flags + [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]


class Network(Struct, frozen=True, forbid_unknown_fields=True):
    """Network of a grid."""

    architecture: Text | None = None
    arguments: dict[str, Any] | None = None
    classes: Text | list[str] | None = None
    normalization: str = "imagenet"
    size: int | tuple[int, int] = 32  # no range here: msgspec crashes on a number with a range or a tuple
    original: Text | Annotated[list[Text], Meta(min_length=1)] | None = None
    retrained: Text | None = None
    train: dict[str, Any] | None = None


def split(key: str) -> str:
    return "test" if key == "test" else "train"


def weights_sha256(path: Path | None) -> str | None:
    """Compute the digest of a weights file, or of that of a model folder; None if there is none."""
    weights = path / WEIGHTS_NAME if path is not None and path.is_dir() else path
    return None if weights is None or not weights.is_file() else file_sha256(weights)


@cache
def data_sha256(text: str, split: str, names: tuple[str, ...]) -> str:
    """Compute the digest of names, labels and pixels of all samples that a string names."""
    data = open_data(text, split, names)
    lines = zip(data.names, data.labels.tolist(), data.digests, strict=True)
    return hashlib.sha256(canonical([list(names), *map(list, lines)])).hexdigest()
