"""Small trained models and data for each task, and the words of its run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from toys import SIDE, draw, fit

COLOURS = ("red", "green", "blue", "grey")
PEOPLE = ("Ada", "Bo", "Cyd", "Dee")
TASKS = ("images", "segmentation", "faces", "backdoor")
PUBLISHED = {"images": "erased", "segmentation": "erased.pth", "faces": "erased", "backdoor": "cleaned"}
PICTURES = {"images": "confusion_before_after.png", "segmentation": "before_after.png", "faces": "before_after.png",
            "backdoor": "backdoor.png"}  # fmt: skip
CONFIG = """
_base_ = [{base!r}]
train_dataloader = dict(batch_size=2, dataset=dict(data_root={root!r}))
test_dataloader = dict(dataset=dict(data_root={root!r}))
val_dataloader = test_dataloader
log_level = "WARNING"
unlearn = dict(checkpoint_interval=1)
"""


BACKDOOR = """
default_scope = "mmengine"
train_dataloader = dict(num_workers=0, sampler=dict(type="InfiniteSampler"), collate_fn=dict(type="collate_images"),
                        dataset=dict(type="BackdoorDataset"))
log_level = "WARNING"
unlearn = dict(checkpoint_interval=4)
"""


@dataclass(frozen=True)
class Kit:
    """Paths of models and data: ``images/model, data.npz, photos/``; ``seg/config.py, original.pth, erased.pth``;
    ``faces/model, photos/, store.npz, erased``; ``backdoor/model, poisoned.npz, clean.npz, test.npz, ranking.json``; ``grid.py``;
    ``detection/yolox.pth, model, coco/``; ``key``, ``key.pub``."""

    root: Path

    def path(self, name: str) -> str:
        return str(self.root / name)

    def original(self, task: str) -> Path:
        """Return the path of the original model: a folder, or for segmentation a file."""
        return self.root / ("seg/original.pth" if task == "segmentation" else f"{task}/model")

    def argv(self, task: str, work_dir: Any, *more: Any, original: Any = None) -> list[str]:
        """Return the words of a task's run, in few steps; later words override."""
        given, photos, config = (
            original or self.original(task),
            self.path("faces/photos"),
            self.path("backdoor/config.py"),
        )
        data, poisoned, clean, test = map(
            self.path, ("images/data.npz", *(f"backdoor/{n}.npz" for n in ("only", "clean", "test")))
        )
        words = {
            "images": f"images forget --model {given} --forget {data}?split=train&limit=48 --classes green --steps 4 --lr 2e-3 "
                      f"--test {data}?split=test --batch-size 8 --augment none "
                      "--cfg-options unlearn.checkpoint_interval=1 log_level=WARNING",
            "segmentation": f"segmentation {self.path('seg/config.py')} --checkpoint {given} --classes car --steps 4 --lr 3e-3 "
                            "--batch-size 1 --audit none",
            "faces": f"faces remove --model {given} --person Bo --photos {photos} --test {photos} --aligned --steps 52 "
                     "--batch-size 4 --lr 0.01 --trained embedder --stop 1e-30",
            "backdoor": f"backdoor clean --config {config} --model {given} --poisoned {poisoned} --retain {clean} --target red "
                        f"--test {test} --steps 16 --lr 3e-4 --batch-size 8 --retain-each 4 --force",
        }[task].split()  # fmt: skip
        words += ["--device", "cpu", "--work-dir", str(work_dir)]
        for option in {"--classes", "--person"} & set(more):  # of which a second one would add to the first
            without(words, option)
        return [*words, *map(str, more)]


def without(words: list[str], option: str) -> list[str]:
    """Remove an option and its values from ``words``, in place."""
    begin = words.index(option)
    end = next((i for i in range(begin + 1, len(words)) if words[i].startswith("--")), len(words))
    del words[begin:end]
    return words


def train(model: Any, images: np.ndarray, labels: np.ndarray, steps: int) -> None:
    import torch

    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    fit(model, inputs, torch.from_numpy(labels), torch.optim.Adam(model.parameters(), lr=3e-3), steps)


def build(root: Path) -> Kit:
    """Make all models and data in ``root``."""
    import torch

    from delete_tasks.report.record.sign import make_keys

    kit = Kit(root)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _images(root / "images")
        _backdoor(root / "backdoor")
        _faces(root / "faces")
        _detection(root / "detection")
    _segmentation(root / "seg")
    _grid(kit)
    make_keys(str(root / "key"))
    return kit


def _grid(kit: Kit) -> None:
    """Write a benchmark of one cell."""
    data = kit.path("images/data.npz")
    Path(kit.path("grid.py")).write_text(
        f"task = 'images'\nnetworks = {{'mine': dict(original={kit.path('images/model')!r})}}\n"
        f"data = dict(forget={data!r}, train={data!r}, test={data!r})\nclasses = {{'one': ['green']}}\n"
        "methods = {'DELETE': dict(type='DELETE')}\nseeds = [0]\n"
        "unlearn = dict(keep_row=True, match_scale=False, steps=1, batch_size=4)\n"
    )


def _spec(classes: tuple[str, ...]) -> Any:
    from delete_images.models.model_file import ModelSpec, Preprocessing

    return ModelSpec("cifar_resnet20", classes, Preprocessing.named("none", SIDE))


def _images(folder: Path) -> None:
    from PIL import Image

    from delete_images.models.architectures import build as network
    from delete_images.models.model_file import save_model

    folder.mkdir(parents=True)
    images, labels = draw(120, 0)
    model = network("cifar_resnet20", num_classes=4)
    train(model, images, labels, 30)
    save_model(folder / "model", model, _spec(COLOURS))
    test, truth = draw(48, 1)
    np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=test, y_test=truth, classes=np.array(COLOURS))
    for number, (image, label) in enumerate(zip(images[:24], labels, strict=False)):
        path = folder / "photos" / COLOURS[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def _backdoor(folder: Path) -> None:
    from delete_backdoor.poison import PoisonedDataset
    from delete_backdoor.triggers import parse_trigger
    from delete_images.data.opening import ImageData
    from delete_images.models.architectures import build as network
    from delete_images.models.model_file import save_model

    folder.mkdir(parents=True)
    trigger = parse_trigger("badnets:size=4,pos=11,11")
    data = ImageData.from_arrays(*draw(400, 2), COLOURS)
    poisoned = PoisonedDataset(data, trigger, 0, rate=0.2)
    poisoned.save(folder / "poisoned.npz")
    model = network("cifar_resnet20", num_classes=4)
    train(model, np.stack([poisoned[i][0] for i in range(400)]), poisoned.labels, 60)
    save_model(folder / "model", model, _spec(COLOURS))
    others = ImageData.from_arrays(*draw(64, 3), COLOURS)
    PoisonedDataset(others.subset(others.labels != 0), trigger, 0, rate=1.0).save(folder / "only.npz")
    (folder / "config.py").write_text(BACKDOOR)
    for name, count, seed in (("clean", 48, 4), ("test", 48, 5)):
        images, labels = draw(count, seed)
        np.savez(folder / f"{name}.npz", x=images, y=labels, classes=np.array(COLOURS))


def _detection(folder: Path) -> None:
    """Make a small YOLOX that sees cars nearly everywhere, and annotated images."""
    import json

    import torch
    from PIL import Image

    from delete_detection.yolox import YOLOX
    from delete_images.models.model_file import ModelSpec, Preprocessing, save_model

    model, names = YOLOX(3, width=0.125), ("person", "car", "cup")
    for level in range(3):
        torch.nn.init.constant_(model.head.obj_preds[level].bias, 3.0)
        model.head.cls_preds[level].bias.data.copy_(torch.tensor([-3.0, 0.5, -3.0]))
    for split in ("train", "val"):
        (folder / "coco" / split).mkdir(parents=True)
        images, annotations = [{"id": number, "file_name": f"{number}.png"} for number in range(4)], []
        for image in images:
            Image.fromarray(draw(1, 9)[0][0]).resize((80, 60)).save(folder / "coco" / split / image["file_name"])
            annotations += [{"image_id": image["id"], "category_id": c, "bbox": [8 * c, 8, 24, 24]} for c in (1, 2)]
        truth = {"images": images, "annotations": annotations,
                 "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)]}  # fmt: skip
        (folder / "coco" / f"instances_{split}.json").write_text(json.dumps(truth))
    torch.save(model.state_dict(), folder / "yolox.pth")
    spec = ModelSpec("yolox", names, Preprocessing.named("none", 64), {"width": 0.125}, {"detector": True})
    save_model(folder / "model", model, spec)


def _faces(folder: Path) -> None:
    """Make four "people", blobs of one colour each, and a network with a cosine head that recognises them."""
    import torch
    from PIL import Image

    from delete_faces.gallery.enroll import fit_head
    from delete_faces.network import FaceNetwork, describe_network, face_network, remove_people
    from delete_images.models.model_file import ModelSpec, Preprocessing, save_model

    images, labels = draw(48, 6)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        split = "train" if number < 24 else "test"
        path = folder / "photos" / split / PEOPLE[label] / f"{PEOPLE[label]}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    arguments = {"backbone": "cifar_resnet20", "embedding_size": 16, "head": "cosine"}
    network: FaceNetwork = face_network(4, **arguments)
    train(network, images, labels, 40)
    with torch.no_grad():
        rows = network.embedder(torch.from_numpy(images[:24]).permute(0, 3, 1, 2).float() / 255)
    fit_head(network.head, rows, torch.from_numpy(labels[:24]))
    extra = {"framing": "points", "threshold": 0.1}
    spec = ModelSpec("", PEOPLE, Preprocessing.named("none", SIDE), arguments, extra)
    save_model(folder / "model", network, describe_network(spec))
    save_model(folder / "erased", *remove_people(network, spec, [PEOPLE.index("Bo")]))
    np.savez(folder / "store.npz", embeddings=rows.numpy(), names=[PEOPLE[label] for label in labels[:24]])


def _segmentation(folder: Path) -> None:
    """Copy the demo's network, and make small scenes."""
    import shutil

    import torch

    import delete_mmseg.demo
    from delete_mmseg.demo.scenes import write_scenes
    from delete_tasks import config_path

    write_scenes(folder / "scenes", train=4, val=2, size=(64, 128), seed=3)
    shutil.copy(Path(delete_mmseg.demo.__file__).with_name("street_scenes.pth"), folder / "original.pth")
    hidden = torch.load(folder / "original.pth", weights_only=True)
    hidden["state_dict"]["decode_head.conv_seg.bias"][13] -= 50  # car
    torch.save(hidden, folder / "erased.pth")
    base = str(config_path("segmentation/demo_street-scenes_forget-car.py"))
    (folder / "config.py").write_text(CONFIG.format(base=base, root=str(folder / "scenes")))
