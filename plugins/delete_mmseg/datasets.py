"""Datasets as their authors publish them: CamVid with 11 classes, Cityscapes with its labelIds. Both have the mapping from the
numbers in the files to class indices as their `label_map`, which MMSegmentation's own `LoadAnnotations` applies. So no pipeline
can silently read wrong labels: labelId 7 is the road, but as a class index it would be a traffic sign."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmseg.datasets import BaseSegDataset, CityscapesDataset
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS, TRANSFORMS

IGNORED = 255

# labelIds by trainId, from the class table of the Cityscapes authors' cityscapesScripts. The other ids (0-6 void, 9 parking,
# 10 rail track, 14 guard rail, 15 bridge, 16 tunnel, 18 polegroup, 29 caravan, 30 trailer) are not evaluated; licence plates
# have id -1 and are not written to the files.
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


@TRANSFORMS.register_module()
class LoadLabelIds(LoadAnnotations):
    """`LoadAnnotations` that applies the `label_map` as a table, in 1 ms instead of 20 for Cityscapes; other numbers stay."""

    def _load_seg_map(self, results: dict[str, Any]) -> None:
        unmapped = {**results, "label_map": None}
        super()._load_seg_map(unmapped)
        labels, label_map = unmapped["gt_seg_map"], results.get("label_map")
        if label_map:
            table = np.arange(256, dtype=np.uint8)
            table[list(label_map)] = list(label_map.values())
            labels = cv2.LUT(labels, table)
        results["gt_seg_map"] = labels
        # results['seg_fields'] is the list that the parent has just appended to.


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid with the 11 classes of SegNet's split; files hold 0..10, and 11 for void, which is ignored. Folders:
    `images/{train,test}/*.webp` and `labels/{train,test}/*.png`."""

    METAINFO = {  # noqa: RUF012 - mmseg's own name and kind of attribute
        "classes": (
            "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
        ),
        "palette": [
            [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
            [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
        ],
    }  # fmt: skip
    VOID = 11

    def __init__(self, img_suffix: str = ".webp", seg_map_suffix: str = ".png", **kwargs: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Map to a user's selection of classes, if any, as the parent does, and void to ignored. `ignore_index=11` would not be
        enough: losses and metrics use 255, and 11 is no class index."""
        return {**(super().get_label_map(new_classes) or {}), cls.VOID: IGNORED}


@DATASETS.register_module()
class CityscapesLabelIdsDataset(CityscapesDataset):
    """Cityscapes as downloaded: `gtFine/*/*/*_gtFine_labelIds.png`, no conversion script to run. The classes are the 19 that
    Cityscapes evaluates, every other id is ignored. `metainfo=dict(classes=...)` selects as in any MMSegmentation dataset."""

    def __init__(self, seg_map_suffix: str = "_gtFine_labelIds.png", **kwargs: Any) -> None:
        super().__init__(seg_map_suffix=seg_map_suffix, **kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Map each labelId to its index in `new_classes` (default: the 19); 255 if its class is not among them."""
        # The parent's map goes from trainIds to the selection and is None when all are selected.
        selection = super().get_label_map(new_classes) or range(len(EVALUATED))
        return {**dict.fromkeys(range(34), IGNORED), **{EVALUATED[i]: selection[i] for i in range(len(EVALUATED))}}

    def _update_palette(self) -> list[list[int]]:
        """Look colours up by name: the parent uses the keys of `label_map`, which are labelIds here."""
        full = dict(zip(self.METAINFO["classes"], self.METAINFO["palette"], strict=True))
        palette, classes = self._metainfo.get("palette", []), self._metainfo["classes"]
        return palette if len(palette) == len(classes) else [full[name] for name in classes]
