"""Images for detectors: files, folders, COCO annotations and tensors; random views; and the dataset of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import DATASETS, FUNCTIONS
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from delete_images.data.sources import images_in
from delete_images.models.spec import Preprocessing, as_spec, unit_normalization
from delete_tasks.display.progress import track
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.forget_data import ForgetData
from delete_tasks.fileio.images import read_image
from delete_tasks.fileio.validate import read_json

from .model import SEEN, Detector
from .parts import Boxes

GREY = 114  # around images that do not fill the input, as in YOLO's letterbox
SCALES = (0.5, 2.0)  # of the longer side of a view, as a share of the input's
COLOUR = 0.3  # largest relative change of contrast and saturation, and of brightness in standard deviations
VIEW, STEP = 0.85, 32  # sides of views: this share of the input's, in multiples of the step
BATCH = 8


@dataclass
class Pictures:
    """Images, read when they are needed: paths of files, or float tensors ``(3, H, W)`` as the network takes them. ``truth`` is
    the content of their COCO annotations, None without."""

    items: Sequence[Any]
    names: Sequence[str]
    preprocessing: Preprocessing | None = None  # of files
    truth: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def subset(self, numbers: Sequence[int]) -> "Pictures":
        """Select images, without annotations."""
        return Pictures([self.items[i] for i in numbers], [self.names[i] for i in numbers], self.preprocessing)

    def __getitem__(self, number: int) -> Tensor:
        item = self.items[number]
        if isinstance(item, Tensor):
            return item.float()
        image = torch.from_numpy(read_image(item)).permute(2, 0, 1).float() / 255
        return self._normalised(image if self.preprocessing.channels == "RGB" else image.flip(0))  # type: ignore[union-attr]

    def _normalised(self, image: Tensor | float) -> Tensor:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in unit_normalization(self.preprocessing))  # type: ignore[arg-type]
        return (image - mean) / std

    def fill(self, image: Tensor) -> Tensor:
        """Return the colour ``(3, 1, 1)`` around an image: grey, or of tensors the mean."""
        return image.mean((1, 2), keepdim=True) if self.preprocessing is None else self._normalised(GREY / 255)

    def fitted(self, number: int, size: Sequence[int]) -> tuple[Tensor, float]:
        """Return an image at the top left of an input of ``size`` (height, width), and its scale."""
        image = self[number]
        scale = min(side / length for side, length in zip(size, image.shape[1:], strict=True))
        return self._placed(image, scale, size, (0, 0)), scale

    def view(self, number: int, size: Sequence[int]) -> Tensor:
        """Return a random view: recoloured, scaled, mirrored or not, cut or at a random place of the input."""
        image = _recoloured(self[number])
        image = image.flip(2) if float(torch.rand(())) < 0.5 else image
        low, high = SCALES
        scale = (low + (high - low) * float(torch.rand(()))) * max(size) / max(image.shape[1:])
        return self._placed(image, scale, size, torch.rand(2).tolist())

    def _placed(self, image: Tensor, scale: float, size: Sequence[int], place: Sequence[float]) -> Tensor:
        sides = [max(1, round(length * scale)) for length in image.shape[1:]]
        small = F.interpolate(image[None], sides, mode="bilinear", antialias=True)[0]
        out = self.fill(image).expand(3, *size).clone()
        cut, into = [slice(None)], [slice(None)]
        for length, side, share in zip(sides, size, place, strict=True):
            first = int(share * (abs(length - side) + 1))
            cut.append(slice(first, first + side) if length > side else slice(None))
            into.append(slice(None) if length > side else slice(first, first + length))
        out[tuple(into)] = small[tuple(cut)]
        return out

    def detect(self, model: Detector, size: Sequence[int], title: str = "Detecting") -> list[Boxes]:
        """Detect in all images; boxes are in pixels of the images."""
        found: list[Boxes] = []
        for first in track(range(0, len(self), BATCH), -(-len(self) // BATCH), title):
            fitted = [self.fitted(number, size) for number in range(first, min(len(self), first + BATCH))]
            for boxes, (_, scale) in zip(model.predict(torch.stack([one for one, _ in fitted])), fitted, strict=True):
                found.append(
                    {key: value.cpu() for key, value in boxes.items()} | {"boxes": boxes["boxes"].cpu() / scale}
                )
        return found


def _recoloured(image: Tensor) -> Tensor:
    """Change contrast, saturation and brightness at random: linearly, so that it is the same under any normalisation."""
    contrast, saturation, brightness = (COLOUR * (2 * torch.rand(3) - 1)).tolist()
    grey = image.mean(0, keepdim=True)
    image = grey + (1 + saturation) * (image - grey)
    middle, spread = image.mean(), image.std()
    return middle + (1 + contrast) * (image - middle) + brightness * spread


def open_pictures(path: str, preprocessing: Preprocessing) -> Pictures:
    """Open a folder of images, or COCO annotations (.json): their images lie beside the file, or in a folder of its name without
    ``instances_`` there or one level up. Raise :class:`RequestError` for other files, and for images that are missing."""
    place = Path(path)
    if place.is_dir():
        files = images_in(place)
        if not files:
            raise RequestError(f"no image in '{path}'; expected files such as .jpg or .png")
        return Pictures(files, [str(file.relative_to(place)) for file in files], preprocessing)
    try:
        truth = read_json(place)
        names = [str(image["file_name"]) for image in truth["images"]]
        [(each["image_id"], each["category_id"], each["bbox"]) for each in truth["annotations"]]
        {each["id"]: each["name"] for each in truth["categories"]}
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"'{path}' holds no COCO annotations ({type(error).__name__}: {error}); expected a folder of images, or JSON with "
            "images, annotations (image_id, category_id, bbox) and categories (id, name)"
        ) from error
    part = place.stem.removeprefix("instances_")
    folders = [place.parent, place.parent / part, place.parent.parent / part, place.parent.parent / "images" / part]
    folder = next((folder for folder in folders if names and (folder / names[0]).is_file()), None)
    missing = names if folder is None else [name for name in names if not (folder / name).is_file()]
    if folder is None or missing:
        raise RequestError(
            f"'{path}' names {len(missing)} images that are not there, e.g. {missing[:1]} in {place.parent}"
        )
    return Pictures([folder / name for name in names], names, preprocessing, truth)


def showing(truth: dict[str, Any], wanted: Sequence[str]) -> list[int]:
    """Find the images, by number, that are annotated with one of the classes ``wanted``."""
    ids = {each["id"] for each in truth["categories"] if each["name"] in wanted}
    shown = {each["image_id"] for each in truth["annotations"] if each["category_id"] in ids}
    return [number for number, image in enumerate(truth["images"]) if image["id"] in shown]


@FUNCTIONS.register_module()
def collate_views(items: Sequence[Tensor]) -> dict[str, Tensor]:
    """Collate views of :class:`DetectionData` to a batch."""
    return {"inputs": default_collate(list(items))}


@DATASETS.register_module()
class DetectionData(ForgetData, Dataset):
    """Dataset of a run: random views of images, ``(3, H, W)``; no labels are read but to select the forget set.

    Args:
        images: :class:`Pictures`, or what :func:`open_pictures` opens.
        spec: The model's description, see :func:`delete_images.models.model_file.as_spec`; None for a model in memory.
        class_names, size: Names of all classes and (height, width) of the input, if there is no description.
    """

    collate = staticmethod(collate_views)

    def __init__(
        self, images: Any, spec: Any = None, class_names: Sequence[str] = (), size: Sequence[int] = ()
    ) -> None:
        self.spec = None if spec is None else as_spec(spec)
        self.class_names = list(class_names if self.spec is None else self.spec.classes)
        self.size = list(size if self.spec is None else self.spec.preprocessing.size)
        opened = self.spec is None or isinstance(images, Pictures)
        self.pictures: Pictures = images if opened else open_pictures(images, self.spec.preprocessing)  # type: ignore[union-attr]
        self.view_size = [max(STEP, round(VIEW * side / STEP) * STEP) for side in self.size]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> Tensor:
        return self.pictures.view(number, self.view_size)

    def find_forget_set(self, ids: Sequence[int], teacher: nn.Module | None, config: Any) -> list[int]:
        if teacher is None and self.pictures.truth is not None:
            return showing(self.pictures.truth, [self.class_names[i] for i in ids])
        if teacher is None:
            return list(range(len(self)))
        boxes = self.pictures.detect(teacher, self.size, "Original model: detecting")  # type: ignore[arg-type]
        wanted = torch.tensor(list(ids))
        seen = [bool((torch.isin(each["labels"], wanted) & (each["scores"] > SEEN)).any()) for each in boxes]
        return [number for number, shows in enumerate(seen) if shows]

    def sample_names(self, indices: Sequence[int]) -> list[str]:
        return [self.pictures.names[index] for index in indices]

    def fingerprint(self, select: str) -> list[str]:
        truth = {} if select == "teacher" else self.pictures.truth or {}
        annotations = [f"{each['image_id']} {each['category_id']}" for each in truth.get("annotations", ())]
        return [*self.pictures.names, *map(str, truth.get("categories", ())), *annotations]

    def without_labels(self) -> None:
        pass  # none are read but for the selection

    def __deepcopy__(self, memo: dict[int, Any]) -> "DetectionData":
        return self
