"""Class indices from the labels in files: CamVid's void, Cityscapes' labelIds."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.registry import init_default_scope
from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS, TRANSFORMS

from delete_mmseg.datasets import CamVidDataset, CityscapesLabelIdsDataset
from delete_mmseg.splits import Splits
from delete_tasks.evaluation.opened import Opened

# The class table of Cityscapes by name, in the order of labelIds 0..33; written down here once more, not imported.
CITYSCAPES_NAMES = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road", "sidewalk",
    "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole", "polegroup",
    "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus",
    "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
LOADERS = ("LoadAnnotations", "LoadLabelIds")


def write_cityscapes(root: Path) -> None:
    """Write one image whose label map has every labelId and that of a licence plate, a line of pixels each."""
    labels = np.repeat(np.array([*range(34), 255], np.uint8)[:, None], 6, axis=1)
    for kind, suffix, pixels in (
        ("leftImg8bit", "leftImg8bit", np.zeros((*labels.shape, 3), np.uint8)),
        ("gtFine", "gtFine_labelIds", labels),
    ):
        folder = root / kind / "train" / "ulm"
        folder.mkdir(parents=True)
        assert cv2.imwrite(str(folder / f"ulm_000000_000019_{suffix}.png"), pixels)


def read(kind: str, root: Path, folders: tuple[str, str], loader: str, **options):
    pipeline = [{"type": name} for name in ("LoadImageFromFile", loader, "PackSegInputs")]
    prefix = dict(zip(("img_path", "seg_map_path"), folders, strict=True))
    return DATASETS.build(dict(type=kind, data_root=str(root), data_prefix=prefix, pipeline=pipeline, **options))


@pytest.fixture(autouse=True)
def mmseg_scope():
    """As in a Runner: names such as 'LoadAnnotations' mean MMSegmentation's."""
    init_default_scope("mmseg")


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("selection", [None, ("car", "road")])
def test_label_ids_become_train_ids(tmp_path: Path, loader: str, selection) -> None:
    write_cityscapes(tmp_path)
    classes = list(selection or CityscapesDataset.METAINFO["classes"])
    expected = [classes.index(name) if name in classes else 255 for name in CITYSCAPES_NAMES] + [255]
    folders, metainfo = ("leftImg8bit/train", "gtFine/train"), {"classes": selection} if selection else None
    dataset = read("CityscapesLabelIdsDataset", tmp_path, folders, loader, metainfo=metainfo)
    assert len(dataset) == 1
    labels = dataset[0]["data_samples"].gt_sem_seg.data[0].numpy()
    assert sorted(set(expected) - {255}) == list(range(len(classes)))
    assert (labels == np.array(expected)[:, None]).all()


def test_selection_keeps_each_class_its_colour() -> None:
    full = dict(zip(CityscapesDataset.METAINFO["classes"], CityscapesDataset.METAINFO["palette"], strict=True))
    dataset = CityscapesLabelIdsDataset(lazy_init=True, metainfo={"classes": ("car", "road")})
    assert dataset.metainfo["palette"] == [full["car"], full["road"]]
    assert CityscapesLabelIdsDataset(lazy_init=True).metainfo["palette"] == list(full.values())


# A chain (3 -> 4 -> 5) tells whether a mapping is applied twice. reduce_zero_label comes before the map.
@pytest.mark.parametrize(
    ("label_map", "reduces"), [(None, False), ({}, False), ({3: 4, 4: 5, 5: 3, 200: 255}, False), ({0: 9, 1: 0}, True)]
)
def test_both_loaders_agree_on_any_map(label_map, reduces, tmp_path: Path) -> None:
    path, maps = str(tmp_path / "map.png"), []
    cv2.imwrite(path, np.random.default_rng(0).permutation(2000).astype(np.uint8).reshape(40, 50))
    for loader in LOADERS:
        results = dict(seg_map_path=path, label_map=label_map, reduce_zero_label=reduces, seg_fields=[])
        loaded = TRANSFORMS.build({"type": loader}).transform(results)
        assert loaded["seg_fields"] == ["gt_seg_map"] and loaded["label_map"] == label_map
        assert loaded["gt_seg_map"].dtype == np.uint8
        maps.append(loaded["gt_seg_map"])
    assert np.array_equal(*maps)
    if reduces:
        stored = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        assert [int(np.unique(maps[0][stored == number]).item()) for number in range(6)] == [255, 9, 0, 2, 3, 4]


@pytest.mark.parametrize(("loader", "split", "count", "selection"), [
    *((loader, "test", 233, None) for loader in LOADERS), ("LoadAnnotations", "train", 367, ("car", "sky")),
])  # fmt: skip
def test_camvid_void_is_ignored_and_each_class_keeps_its_colour(shared: Path, loader, split, count, selection) -> None:
    folders, options = (f"images/{split}", f"labels/{split}"), {"metainfo": {"classes": selection}} if selection else {}
    dataset = read("CamVidDataset", shared / "data/camvid", folders, loader, **options)
    names, colours = CamVidDataset.METAINFO["classes"], CamVidDataset.METAINFO["palette"]
    classes = selection or names
    table = np.array([classes.index(name) if name in classes else 255 for name in names] + [255])
    assert len(dataset) == count and dataset.metainfo["palette"] == [colours[names.index(name)] for name in classes]
    for index in (0, 100, 232):
        stored, sample = cv2.imread(dataset.get_data_info(index)["seg_map_path"], cv2.IMREAD_UNCHANGED), dataset[index]
        assert sample["inputs"].shape == (3, 360, 480) and stored.max() == 11
        assert (sample["data_samples"].gt_sem_seg.data[0].numpy() == table[stored]).all()


def test_copies_are_left_out_of_joined_datasets(monkeypatch):
    monkeypatch.setattr(BaseDataset, "load_data_list", lambda self: [{"img_path": name} for name in self.ann_file])
    joined, opened = ConcatDataset([BaseDataset(names) for names in ("abc", "de", "fg")]), Opened({}, ())
    Splits(None, joined).leave_out(opened, [0, 2, 6], ())
    assert [joined.get_data_info(i)["img_path"] for i in range(len(joined))] == ["a", "c", "g"]
    assert opened.left_out == [1, 3, 4, 5] and opened.samples["test"].names == ["a", "c", "g"]
