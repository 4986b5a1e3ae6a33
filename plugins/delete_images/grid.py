"""Keys of the images' part of a grid file, see :class:`delete_images.benchmark.ImagesGrid`."""

from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict

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
