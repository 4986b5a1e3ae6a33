"""CIFAR as mosaics, with a published network, and Tiny ImageNet as unpacked."""

import shutil

import npz
import numpy as np
import pytest
from images import write_tiny_imagenet
from PIL import Image

from delete_images.data.opening import open_data
from delete_images.models.class_names import CIFAR100_CLASSES
from delete_images.models.model_file import Preprocessing, import_checkpoint, load_model
from delete_images.opened import predict_images
from delete_tasks.errors import RequestError


def test_cifar100_mosaics(shared):
    folder = shared / "data" / "cifar100"
    test = open_data(f"cifar100:{folder.parent}?class=apple,worm", "test")  # a folder with one of the data set's name
    assert len(test) == 100 and test.class_names == CIFAR100_CLASSES and set(test.labels) == {0, 99}
    train = open_data(f"cifar100:{folder}?class=apple,worm", "train")
    assert (train.labels == 0).sum() == 300 and (train.labels == 99).sum() == 25
    labels = np.load(folder / "train_labels.npy")
    last = int(np.flatnonzero(labels == 0)[-1])
    with Image.open(folder / f"train_{last // 1000:02d}.webp") as mosaic:
        row, column = divmod(last % 1000, 40)
        tile = np.asarray(mosaic.convert("RGB"))[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
    assert np.array_equal(train[299][0], tile)


def test_the_published_network_is_right_on_them(shared, tmp_path):
    weights = shared / "weights" / "cifar100_resnet20.pth"
    processing = Preprocessing.named("cifar100", 32)
    folder = import_checkpoint(weights, tmp_path / "m", "stage_relu_resnet20", CIFAR100_CLASSES, processing)
    model, spec = load_model(folder)
    data = open_data(f"cifar100:{shared / 'data' / 'cifar100'}?limit=500", "test", spec.classes)
    predicted = predict_images(model, spec, data).logits.argmax(1).numpy()
    assert 0.64 < (predicted == data.labels).mean() < 0.76  # 69.9% of 2,000 test images


def test_mosaics_of_the_other_kind_are_refused(shared, tmp_path):
    for kind, other in (("cifar10", "cifar100"), ("cifar100", "cifar10")):
        folder = shared / "data" / other
        with pytest.raises(RequestError, match=f"mosaics of {other}.* {other}:{folder}"):
            open_data(f"{kind}:{folder}", "test")
    shutil.copy(shared / "data" / "cifar100" / "test_labels.npy", tmp_path)
    (tmp_path / "classes.txt").write_text("apple\n")
    with pytest.raises(RequestError, match=r"classes\.txt' holds 1 names"):
        open_data(f"cifar100:{tmp_path}", "test")


@pytest.mark.parametrize(("labels", "split", "message"), [
    (npz.npy(np.zeros(4, np.uint8)), "test", r"0 mosaics test_\*\.webp for 4 labels"),
    (npz.npy(np.zeros(4, np.uint8)), "train", r"train_labels\.npy"), (npz.npy(np.array([0, 10])), "test", "0 to 9"),
    (npz.npy(np.array([[0]])), "test", r"shape \(1, 1\)"), (npz.npy(np.array(["a"])), "test", "type <U1"),
    (npz.npy(np.array([{}], dtype=object)), "test", "Python objects"),
    (npz.npy(np.zeros(4, np.uint8))[:-1], "test", "4 bytes.* 3 "), (b"", "test", "test_labels.npy"),
])  # fmt: skip
def test_damaged_labels_of_mosaics(tmp_path, labels, split, message):
    (tmp_path / "test_labels.npy").write_bytes(labels)
    with pytest.raises(RequestError, match=message):
        open_data(f"cifar10:{tmp_path}?split={split}")


def test_mosaics_of_another_size(tmp_path):
    np.save(tmp_path / "test_labels.npy", np.zeros(4, dtype=np.uint8))
    Image.new("RGB", (64, 32)).save(tmp_path / "test_00.webp", lossless=True)
    with pytest.raises(RequestError, match=r"1 x 2 .* 4"):
        open_data(f"cifar10:{tmp_path}?split=test")


@pytest.fixture
def tiny(tmp_path):
    """Three classes of four training and two validation images in the layout of the download."""
    colours = {"n01443537": 0, "n01629819": 80, "n01641577": 160}
    return write_tiny_imagenet(
        tmp_path / "tiny-imagenet-200", colours, 4, 2, lambda name: Image.new("RGB", (64, 64), (colours[name], 0, 0))
    )


def test_tiny_imagenet(tiny):
    train, held = open_data(str(tiny)), open_data(str(tiny), "test")
    assert train.class_names == held.class_names == ("n01443537", "n01629819", "n01641577")
    assert len(train) == 12 and len(held) == 6 and list(np.bincount(held.labels)) == [2, 2, 2]
    for data in (train, held):
        for i in range(len(data)):
            image, label = data[i]
            assert image.shape == (64, 64, 3) and abs(int(image[0, 0, 0]) - 80 * label) <= 2
    assert held.names[0] == "val/images/val_0.JPEG"
    assert len(open_data(f"{tiny}?class=n01629819&split=val")) == 2


def test_incomplete_tiny_imagenet(tiny):
    annotations = tiny / "val" / "val_annotations.txt"
    whole = annotations.read_text()
    annotations.write_text(whole.replace("val_3.JPEG", "val_9.JPEG"))
    with pytest.raises(RequestError, match=r"val_3.JPEG' .*val_annotations.txt"):
        open_data(str(tiny), "test")
    annotations.write_text(whole.replace("n01641577", "n09999999"))
    with pytest.raises(RequestError, match=r"'n09999999'.* train/"):
        open_data(str(tiny), "val")
    shutil.rmtree(tiny / "val" / "images")
    (tiny / "val" / "images").mkdir()
    annotations.write_text(whole)
    with pytest.raises(RequestError, match="val"):
        open_data(f"{tiny}?split=val")
