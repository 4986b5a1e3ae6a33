"""Every command of README and docs/guides, and every Python example of these, runs in their order on small trained models.

A guide's names stand for files that are put in its folder (FILES) and for other words (WORDS); MORE is what makes a run short. A
command that none of these knows runs as it is, so that one which cannot run fails.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from harness import World, is_done
from helpers import launch

from delete_tasks.cli import parse

REPOSITORY = Path(__file__).resolve().parents[2]
PATHS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs" / "guides").glob("*.md"))]
GUIDES = {path.stem: path.read_text() for path in PATHS}
# Guide -> names in it -> the files of tests/faults/kit.py that they are.
IMAGES = {"MODEL": "images/model", "DATA.npz": "images/data.npz"}
FILES = {
    "segmentation": {"CONFIG.py": "seg/config.py", "ORIGINAL.pth": "seg/original.pth"},
    "images": {
        "WEIGHTS.safetensors": "images/model/weights.safetensors",
        "DATA.npz": "images/data.npz",
        "PHOTOS": "faces/photos",
    },
    "detection": {"YOLOX.pth": "detection/yolox.pth", "COCO": "detection/coco", "PHOTOS": "detection/coco/train"},
    "faces": {"PHOTOS": "faces/photos", "FACE_MODEL": "faces/model"},
    "backdoor": {"MODEL": "backdoor/model", "TRAINING_SET.npz": "backdoor/poisoned.npz",
                 "POISONED.npz": "backdoor/only.npz", "CLEAN.npz": "backdoor/clean.npz", "TEST.npz": "backdoor/test.npz"},
    **{guide: {**IMAGES, "W/erased": "images/model"} for guide in ("attention", "audit")},
    **dict.fromkeys(("benchmark", "record", "runs"), IMAGES),
}  # fmt: skip
BACKDOORED = {"BACKDOORED": "backdoor/model", "TRAINING_SET.npz": "backdoor/poisoned.npz"}
FILES["README"] = FILES["segmentation"] | IMAGES | FILES["faces"] | BACKDOORED
# Guide -> words in it -> what stands in their place, in this order.
WORDS = {
    "segmentation": {"class_names=names": "class_names=names, steps=20, lr=0.05"},
    "images": {
        "WEIGHTS.pth": "WEIGHTS.safetensors",
        "--classes cifar10": "--classes red green blue grey --size 16",
        "imagenet": "none",
        "cifar10": "DATA.npz",
        "deer": "green",
        "class_names=names": "class_names=names, steps=2, lr=2e-3, batch_size=8, views='none'",
    },
    "detection": {
        "depth=0.33 width=0.25 depthwise=true": "width=0.125",
        "--size 416": "--size 64",
        "class_names=names": "class_names=names, size=64, steps=6, lr=0.02, batch_size=2",
    },
    "README": {"cifar10": "DATA.npz", "deer": "green", "Colin_Powell": "Bo"},
    "faces": {"mobilefacenet": "cifar_resnet20", "Colin_Powell": "Bo"},
    "backdoor": {"airplane": "red", "size=3,pos=28,28": "size=4,pos=11,11"},
    **{guide: {"deer": "green"} for guide in ("attention", "audit", "benchmark", "record", "runs")},
}  # fmt: skip
# Command -> options that are added. A run whose record the guide does not look at writes none, and audits nothing.
MORE = {
    "segmentation demo": ["--train-scenes", "1", "--test-scenes", "1", "--steps", "1"],
    "segmentation forget": ["--steps", "2", "--lr", "3e-3", "--batch-size", "1"],
    "images forget": ["--steps", "2", "--lr", "1e-2", "--batch-size", "8", "--augment", "none"],
    "images train": ["--epochs", "1"], "detection forget": ["--steps", "6", "--lr", "2e-2", "--batch-size", "2"],
    "faces enroll": ["--embedding-size", "16"], "faces import": ["--embedding-size", "16"],
    "faces remove --model MODEL --person Bo --from-templates": ["--force"],
    "faces remove": ["--steps", "8", "--lr", "0.3", "--batch-size", "4", "--trained", "embedder", "--force"],
    "backdoor find --model MODEL --data CLEAN.npz": [], "backdoor find": ["--flag", "smaller"],
    "backdoor clean": ["--steps", "8", "--batch-size", "4", "--force"], "attention": ["--limit", "2", "--show", "1"],
    "benchmark": ["--cfg-options", "unlearn.steps=2", "unlearn.batch_size=8", "seeds=[0]"],
}  # fmt: skip
# Guide -> Python that runs before each of its commands: in the kit's photos, which show no face, each is one.
BEFORE = dict.fromkeys(
    ("README", "faces"),
    """
import numpy as np
from delete_faces import photos
from delete_faces.align import REFERENCE, Faces
class Everywhere:
    def find(self, image):
        side = image.shape[0]
        return Faces(np.array([[0.0, 0.0, side, side]]), REFERENCE[None] * side / 112, np.ones(1))
photos.detector = lambda device: Everywhere()
""",
)
# Guide -> what the names in its Python examples are.
SCOPE = {
    "backdoor": """
from delete_images.data.opening import open_data
photos = open_data("CLEAN.npz")
""",
    "faces": "import torch\nfirst, second = torch.rand(2, 1, 3, 16, 16)\n",
    "images": """
import torch
from delete_images.data.opening import open_data
from delete_images.data.transforms import eval_transform
from delete_images.models.model_file import load_model
model, spec = load_model("MODEL")
data, transform, names = open_data("DATA.npz?class=green"), eval_transform(spec), list(spec.classes)
images = torch.stack([transform(data[i][0]) for i in range(len(data))])
""",
    "detection": """
import torch
from delete_images.models.model_file import load_model
model, spec = load_model("MODEL")
names, images = list(spec.classes), list(torch.rand(4, 3, 64, 64))
""",
    "segmentation": """
import torch
torch.manual_seed(0)
model, scenes = torch.nn.Conv2d(3, 3, 1), torch.randn(4, 3, 16, 16)
names = ["road", "sky", "car"]
""",
    "attention": """
import torch
from delete_images.models.model_file import load_model
model, _ = load_model("MODEL")
model.fc, inputs, class_id = model.linear, torch.rand(1, 3, 16, 16), 1
""",
}
REGISTRIES = ("pip install ", "uv pip install ")  # the only commands that do not run


def blocks(guide: str) -> list[tuple[str, str]]:
    """(language, content) of each fenced block of a guide, with the test's names."""
    text = GUIDES[guide]
    for old, new in WORDS.get(guide, {}).items():
        assert old in text, f"docs/guides/{guide}.md does not say {old!r} any more"
        text = text.replace(old, new)
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)


def commands(block: str) -> list[list[str]]:
    """Command lines of a block, split into words."""
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip() and not line.startswith(REGISTRIES)]


def as_run(words: list[str], checked: set[str]) -> list[str]:
    """Words of a command with the test's options."""
    name = next((name for name in MORE if words[: len(name.split())] == name.split()), None)
    erases = name is not None and name.split()[-1] in ("forget", "remove", "clean")
    unread = erases and not checked & set(words)
    return [*words, *MORE.get(name, ()), *(["--no-record", "--audit", "none"] if unread else [])]


OFTEN = ("README", "record")  # the others with make test-long


@pytest.mark.parametrize("guide", [pytest.param(g, marks=[pytest.mark.long] * (g not in OFTEN)) for g in GUIDES])
def test_guide(guide, kit, server, tmp_path):
    world = World(tmp_path / "world")
    for name, source in FILES.get(guide, {}).items():
        (world.cwd / name).parent.mkdir(exist_ok=True)
        (shutil.copytree if Path(kit.path(source)).is_dir() else shutil.copy)(kit.path(source), world.cwd / name)
    if guide == "faces":
        write_backbone(world.cwd / "FACE_MODEL", world.cwd / "WEIGHTS.pt")
    options = {"before": BEFORE.get(guide), "env": {"HOME": str(world.cwd)}}
    found = blocks(guide)
    checked = set(re.findall(r"^delete-tasks (?:record verify|record sign|export) (\S+)", GUIDES[guide], re.M))
    for language, block in found:
        if language == "python":
            if guide != "README":  # test_readme.py
                run_example(block, guide, world, server, options)
            continue
        assert language == "bash", f"a block of docs/guides/{guide}.md is neither bash nor python: {block}"
        for program, *words in commands(block):
            if program == "delete-tasks":
                done = server.run(as_run(words, checked), world, **options)
            elif program in ("torchrun", "srun"):
                words = words[next(i for i, word in enumerate(words) if word in ("delete_tasks", "delete-tasks")) + 1 :]
                parse(words)
                if "MODEL" in words:  # the others are for several machines
                    for done in launch(server, world, 2, as_run(words, checked)):
                        is_done(done)
                continue
            else:
                assert program == "python" and words[0].startswith("tools/"), f"this test cannot run {program} {words}"
                script = str(REPOSITORY / words[0])
                code = f"import runpy, sys\nsys.argv = {words!r}\nrunpy.run_path({script!r}, run_name='__main__')"
                done = server.run([], world, code=code, **options)
            is_done(done)


def run_example(block: str, guide: str, world, server, options) -> None:
    """Run a Python example; append one that begins with a config's name to that config."""
    config = re.match(r"# (\w+\.py)\n", block)
    if config:
        with open(world.cwd / config[1], "a") as file:
            file.write(block)
    else:
        is_done(server.run([], world, code=SCOPE.get(guide, "") + block, **options))


def write_backbone(model: Path, file: Path) -> None:
    """Write the weights of a face model's embedder, without its head."""
    import torch
    from safetensors.torch import load_file

    state = load_file(model / "weights.safetensors")
    inner = {name: value for name, value in state.items() if name.startswith("embedder.")}
    torch.save({name.removeprefix("embedder."): value for name, value in inner.items()}, file)


@pytest.mark.parametrize("guide", GUIDES)
def test_all_commands_are_in_blocks_that_run(guide):
    """No command is in indented text or in a block that the test above does not run."""
    inside = "".join(block for _, block in blocks(guide))
    text = GUIDES[guide]
    written = re.findall(r"^\s*(?:\$ )?(?:delete-tasks|python|torchrun) ", text, re.M)
    assert len(written) == len(re.findall(r"^(?:delete-tasks|python|torchrun) ", inside, re.M))
