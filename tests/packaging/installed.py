"""Uses an installed delete-tasks as its user would: run by the new environment's python, in an empty folder.

    python installed.py images|all

Fails with a message, or prints "fine" at the end.
"""

import subprocess
import sys
from pathlib import Path

NAMES = ("red", "green", "blue")
# Libraries of a window system: where they are missing, an OpenCV that wants them cannot be imported.
WINDOWS = ("libGL.so", "libGLX", "libX11", "libxcb", "libQt")


def command(*words: str) -> None:
    done = subprocess.run([str(Path(sys.executable).with_name("delete-tasks")), *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"delete-tasks {' '.join(words)}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def opencv() -> None:
    """It can be imported where there is no window system: it was built without one and loads none of its libraries."""
    import cv2
    import numpy as np

    (line,) = (line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:"))
    assert line.split() == ["GUI:", "NONE"], line
    assert cv2.resize(np.zeros((4, 6, 3), np.uint8), (3, 2)).shape == (2, 3, 3)
    loaded = {Path(line.split()[-1]).name for line in Path("/proc/self/maps").read_text().splitlines()}
    assert not [name for name in loaded if name.startswith(WINDOWS)], loaded


def a_class() -> None:
    """erase(), then the command, whose record is verified, signed and verified with the key."""
    import numpy as np
    import torch

    import delete_tasks
    from delete_images.models.architectures import build
    from delete_images.models.model_file import ModelSpec, Preprocessing, save_model

    assert Path(delete_tasks.__file__).is_relative_to(sys.prefix), delete_tasks.__file__
    generator, labels = np.random.default_rng(0), np.repeat(np.arange(3), 30)
    images, others = generator.integers(0, 90, (2, 90, 16, 16, 3)).astype(np.uint8)
    for image, other, label in zip(images, others, labels, strict=True):
        image[4:12, 4:12, label] += 150
        other[4:12, 4:12, label] += 150
    torch.manual_seed(0)
    model = build("cifar_resnet20", num_classes=3)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(25):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), torch.from_numpy(labels)).backward()
        optimizer.step()
    model.eval()
    green = torch.utils.data.TensorDataset(inputs[30:60], torch.full((30,), 1))
    erased = delete_tasks.erase(model, green, classes=["green"], class_names=NAMES, steps=20, batch_size=15, lr=1e-3)
    with torch.no_grad():
        before, after = ((net.eval()(inputs[30:60]).argmax(1) == 1).float().mean() for net in (model, erased.model))
    assert before > 0.9 and after < 0.1, (before, after)

    np.savez("data.npz", x_train=images, y_train=labels, x_test=others, y_test=labels, classes=np.array(NAMES))
    save_model("model", model, ModelSpec("cifar_resnet20", NAMES, Preprocessing.named("none", 16)))
    words = "images forget --model model --forget data.npz?class=green --classes green --test data.npz?split=test --work-dir W"
    command(*f"{words} --steps 20 --batch-size 15 --lr 1e-3 --augment none --device cpu".split())
    assert Path("W/erased/weights.safetensors").is_file() and Path("W/confusion_before_after.png").is_file()
    command("record", "verify", "W")
    command("record", "keygen", "key")
    command("record", "sign", "W", "--key", "key")
    command("record", "verify", "W", "--key", "key.pub", "--device", "cpu")


def all_of_it() -> None:
    """What the other extras bring: detector, Grad-CAM, and MMSegmentation on a few drawn scenes."""
    import facenet_pytorch  # noqa: F401
    import pycocotools.cocoeval  # noqa: F401

    import delete_backdoor.triggers  # noqa: F401
    import delete_detection.register  # noqa: F401

    command("attention", "--original", "model", "--erased", "W/erased", "--class", "green", "data.npz", "--limit", "4")
    assert Path("attention.png").is_file()
    demo = ["-m", "delete_tasks", "segmentation", "demo", "--train-scenes", "6", "--test-scenes", "2", "--steps", "2"]
    done = subprocess.run([sys.executable, *demo], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    command("record", "verify", "demo_output/erased")


def main() -> None:
    extra = sys.argv[1]
    opencv()
    tasks = ("images", "faces", "backdoor", "detection", *(("segmentation",) if extra == "all" else ()))
    for words in ((), *((task,) for task in (*tasks, "attention", "record"))):
        command(*words, "--help")
    a_class()
    if extra == "all":
        all_of_it()
    print("fine")


if __name__ == "__main__":
    main()
