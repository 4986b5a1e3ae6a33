"""Tiny ImageNet as it is downloaded: train/CLASS/images/*.JPEG, and val/images/ with a text file that says what they show."""

from __future__ import annotations

from pathlib import Path

from delete_tasks.errors import RequestError

from .sources import FolderSource, images_in

ANNOTATIONS = "val_annotations.txt"


def is_tiny_imagenet(root: Path) -> bool:
    """Whether a folder has the layout of the download."""
    return (root / "val" / ANNOTATIONS).is_file() and (root / "train").is_dir()


class TinyImageNetSource(FolderSource):
    """A split of Tiny ImageNet; see :class:`delete_images.sources.FolderSource`.

    Args:
        root: The folder that holds ``train/`` and ``val/``.
        split: 'train'; or 'val' or 'test', which are both the validation images: the test images have no labels.

    Attributes:
        class_names: The folders of ``train/`` (WordNet ids), sorted, for both splits.

    Raises:
        RequestError: An image without a line in val_annotations.txt, a class that ``train/`` has not, or no images.
    """

    def __init__(self, root: Path, split: str) -> None:
        root = root.resolve()
        self.class_names = tuple(folder.name for folder in self._folders(root / "train"))
        number = {name: i for i, name in enumerate(self.class_names)}
        if split == "train":
            pairs = [(path, number[name]) for name in self.class_names for path in images_in(root / "train" / name)]
        else:
            known = _read_annotations(root / "val" / ANNOTATIONS)
            pairs = []
            for path in images_in(root / "val" / "images"):
                shown = known.get(path.name)
                if shown not in number:
                    told = "has no line" if shown is None else f"is '{shown}', of which train/ has no folder,"
                    raise RequestError(f"'{path}' {told} in {ANNOTATIONS}; unpack Tiny ImageNet again")
                pairs.append((path, number[shown]))
        if not pairs:
            raise RequestError(f"'{root}' holds no images of the split '{split}'; unpack Tiny ImageNet again")
        self._take(pairs, root)


def _read_annotations(path: Path) -> dict[str, str]:
    """File name -> class. A line is the file's name, the class, and a box, with tabs between."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {fields[0]: fields[1] for fields in (line.split("\t") for line in lines) if len(fields) > 1}
