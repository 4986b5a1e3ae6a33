"""Runs side by side: what commands write is what is compared, and what cannot be compared is said."""

import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from delete_tasks.cli import main
from delete_tasks.evaluation import Measured
from delete_tasks.plugins import plugin_modules
from delete_tasks.report.compare.compare import metrics_of, read_runs
from delete_tasks.report.results import FORMAT, VERSION
from delete_tasks.task import load_task

NAMES = ("red", "green", "blue")
TRIGGER = "badnets:size=4,pos=11,11"


def results_of(task: str, forgotten: str, rows: dict, **more) -> dict:
    """A results.json whose rows hold these values, by metric."""
    metrics = load_task(task).metrics
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": task,
        "forgotten": [forgotten],
        "metrics": [metric.json() for metric in metrics],
        "rows": {row: {one.name: Measured(values.get(one.name)).json() for one in metrics} for row, values in rows.items()},
        "not_measured": {},
        "prediction_shares": None,
        "data": {},
        "measured_on": "cifar10",
        "recipe": {"type": "DELETE", "classes": [forgotten], "steps": 300, "temperature": 8,
                   "optimizer": {"type": "AdamW", "lr": 6e-4}},
        "steps": 300,
        "seconds": {"selecting": 0.0, "unlearning": 12.3, "evaluating": 1.0},
        "forget_set": {"read": 1, "available": 1},
        **dict.fromkeys(("retain_set", "forget_check", "finished", "withheld")),
        "published": True,
        **{name: {} for name in ("code", "environment", "details")},
        "peak_memory_mb": 1,
        **more,
    }  # fmt: skip


IMAGES = results_of(
    "images",
    "green",
    {
        "original": {"forget_acc": 91.0, "remain_acc": 92.5, "forget_acc_train": 99.0, "remain_acc_train": 99.5,
                     "linear_probe": 96.0, "few_shot": 95.0},
        "erased": {"forget_acc": 0.25, "remain_acc": 92.25, "forget_acc_train": 0.5, "remain_acc_train": 99.0,
                   "worst_drop": 1.5, "linear_probe": 93.0, "few_shot": 70.0},
    },
)  # fmt: skip


def changed(**places) -> dict:
    """IMAGES with other values: ``changed(rows__erased__forget_acc__value=3)``."""
    results = copy.deepcopy(IMAGES)
    for place, value in places.items():
        *keys, last = place.split("__")
        part = results
        for key in keys:
            part = part[key]
        part[last] = value
    return results


@pytest.fixture
def compare(tmp_path, monkeypatch, capsys):
    """``compare({"a": results, ...}, *words)`` -> exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(runs: dict[str, dict], *words: str) -> tuple[int, str, str]:
        for name, results in runs.items():
            Path(name).mkdir(parents=True, exist_ok=True)
            Path(name, "results.json").write_text(json.dumps(results))
        status = main(["compare", *runs, *words])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_table_and_picture(compare):
    second = changed(
        rows__erased__forget_acc__value=4.0, rows__erased__remain_acc__value=90.0, recipe__optimizer__lr=1e-3
    )
    status, out, _ = compare({"first": IMAGES, "second": second})
    assert status == 0 and max(map(len, out.splitlines())) <= 80
    assert "images, green forgotten (percent; before -> after)" in out
    (first, other) = (line.split() for line in out.splitlines() if "->" in line and "(" not in line)
    assert first == ["first", "91.00", "->", "0.25", "92.50", "->", "92.25", "300", "12"]
    assert other == ["second", "91.00", "->", "4.00", "92.50", "->", "90.00", "300", "12"]
    assert "first: optimizer.lr=0.0006" in out and "second: optimizer.lr=0.001" in out and "temperature" not in out
    with Image.open("compare.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_the_picture_shows_the_figures(compare):
    """Other figures, another picture; the same ones, the same."""
    for name, results in {"a": IMAGES, "b": IMAGES, "c": changed(rows__erased__forget_acc__value=60.0)}.items():
        assert compare({f"{name}/run": results}, "--out", f"{name}.png")[0] == 0
    pixels = {name: np.asarray(Image.open(f"{name}.png")) for name in "abc"}
    assert np.array_equal(pixels["a"], pixels["b"]) and not np.array_equal(pixels["a"], pixels["c"])


def test_wide(compare):
    _, out, _ = compare({"run": IMAGES}, "--wide")
    (line,) = (line for line in out.splitlines() if line.startswith("run ") and "300" in line)
    for cell in ("99.00 -> 0.50", "99.50 -> 99.00", "1.50", "96.00 -> 93.00", "95.00 -> 70.00"):
        assert cell in line


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        # Several requests get a column; names as long as they may be do not push the figures out.
        ({"a": IMAGES, "b": changed(forgotten=["red", "blue"])}, ["a     green", "b     red, blue"]),
        ({"x" * 90: IMAGES, "y": IMAGES}, ["91.00 -> 0.25", "92.50 -> 92.25"]),
        # Nothing measured on test images: the training images' columns stand in.
        (
            {
                "a": changed(
                    **{f"rows__{row}__{name}__value": None for row in ("original", "erased") for name in
                       ("forget_acc", "remain_acc")}
                )
            },
            ["99.00 -> 0.50", "Not measured in any run: forgotten; others"],
        ),
        ({"a": IMAGES, "b": changed(rows__erased__forget_acc__value=None)}, ["91.00 -> -"]),
        ({"a": IMAGES, "b": changed(measured_on="mine.npz")}, ["Not measured on the same data", "a on cifar10; b on"]),
        # Folders of one name are told apart; what a terminal would obey, or rich would read as style, is shown.
        ({"p/w": IMAGES, "q/w": IMAGES}, ["p/w   91.00", "q/w   91.00"]),
        ({"a": changed(forgotten=["[bold]\x1b[2J$x$"])}, ["[bold]\N{REPLACEMENT CHARACTER}[2J$x$ forgotten"]),
        # Runs of one task stand together, those of another in a table of their own.
        (
            {
                "a": IMAGES,
                "b": results_of(
                    "backdoor",
                    "red",
                    {"original": {"asr": 97.5, "acc": 93.0, "ra": 2.0}, "erased": {"asr": 1.0, "acc": 92.0, "ra": 90.0}},
                ),
                "c": IMAGES,
            },
            ["images, green forgotten", "backdoor, red forgotten", "97.50 -> 1.00", "93.00 -> 92.00"],
        ),
    ],
)  # fmt: skip
def test_what_is_said(runs, said, compare):
    status, out, error = compare(runs)
    assert status == 0, error
    assert max(map(len, out.splitlines())) <= 80
    for text in said:
        assert text in out, out


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (None, [], r"no results at 'run/results.json' \(No such file or directory\); give work dirs of finished runs"),
        ("{", [], "'run/results.json' is no JSON"),
        ("[" * 100_000, [], "'run/results.json' is no JSON"),
        ("[1]", [], "holds no results of a run"),
        (json.dumps({"task": "images", "rows": {}}), [], "holds no results of a run"),
        (json.dumps(changed(version=2)), [], "holds no results of a run"),
        (json.dumps(changed(task=["images"])), [], "'run/results.json': \\$.task: "),
        (json.dumps(changed(rows={})), [], "\\$.rows: 'original' is a required property"),
        (json.dumps(changed(steps="many")), [], "\\$.steps: 'many' is not of type 'integer'"),
        (json.dumps(changed(rows__erased__forget_acc__value=float("nan"))), [], "is no JSON|not a finite number"),
        (json.dumps(IMAGES).replace("0.25", "1e999"), [], "inf is greater than the maximum"),
        (json.dumps(changed(rows__erased__forget_acc={})), [], "\\$.rows.erased.forget_acc: 'value' is a required"),
        (json.dumps(IMAGES), ["run/../run"], "a run is given twice: run, run/../run"),
        (json.dumps(IMAGES), ["--out", "mine.png"], "'mine.png' is there and was not made by this command"),
        (json.dumps(IMAGES), ["--out", "picture.jpg"], "ends in .png; got 'picture.jpg'"),
        (json.dumps(IMAGES), ["--out", "no/such.png"], "there is no folder 'no'"),
        (json.dumps(IMAGES), ["--out", "folder.png"], "'folder.png' is a folder"),
    ],
)
def test_refusals(content, words, message, tmp_path, monkeypatch, capsys):
    """Status 2, one message, and nothing written or replaced."""
    monkeypatch.chdir(tmp_path)
    for folder in ("run", "folder.png"):
        Path(folder).mkdir()
    Image.new("RGB", (2, 2)).save("mine.png")
    if content is not None:
        Path("run/results.json").write_text(content)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert main(["compare", "run", *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_its_own_picture_is_replaced(compare):
    assert compare({"a": IMAGES})[0] == 0
    first = Path("compare.png").read_bytes()
    assert compare({"a": changed(rows__erased__forget_acc__value=50.0)})[0] == 0
    assert Path("compare.png").read_bytes() != first
    assert sorted(path.name for path in Path().iterdir()) == ["a", "compare.png"]


@pytest.fixture(scope="module")
def real(repository, tmp_path_factory) -> dict[str, Path]:
    """One short run of each task's command, on data and networks that are made here."""
    folder = tmp_path_factory.mktemp("real")
    made = {task: folder / f"{task}_run" for task in ("images", "backdoor", "faces", "segmentation")}
    data, poisoned, model, test = _colours(folder)
    common = ["--device", "cpu", "--no-record"]
    few = ["--steps", "2", "--batch-size", "6", "--test", test]
    words = [
        "images",
        "forget",
        "--model",
        model,
        "--forget",
        f"{data}?class=green",
        "--classes",
        "green",
        "--train-data",
        data,
    ]
    assert main([*words, "--augment", "none", *few, "--work-dir", str(made["images"]), *common]) in (0, 4)
    words = [
        "backdoor",
        "clean",
        "--model",
        model,
        "--poisoned",
        poisoned,
        "--retain",
        data,
        "--target",
        "red",
        "--force",
    ]
    assert main([*words, "--trigger", TRIGGER, *few, "--work-dir", str(made["backdoor"]), *common]) in (0, 4)

    photos, faces = _people(folder / "photos"), str(folder / "faces")
    words = ["--photos", photos, "--aligned", "--device", "cpu"]
    assert main(["faces", "enroll", *words, "--backbone", "cifar_resnet20", "--out", faces]) == 0
    words = ["faces", "remove", "--model", faces, "--person", "p1", "--photos", photos, "--test", photos, "--aligned"]
    words += ["--directions", "0", "--steps", "2"]  # a projection would leave no steps to do
    assert main([*words, "--work-dir", str(made["faces"]), *common]) in (0, 4)

    from delete_mmseg.demo.scenes import write_scenes

    write_scenes(folder / "scenes", train=4, val=2)
    config = repository / "configs/segmentation/demo_street-scenes_forget-car.py"
    weights = repository / "plugins/delete_mmseg/demo/street_scenes.pth"
    words = [
        "segmentation",
        str(config),
        "--checkpoint",
        str(weights),
        "--steps",
        "2",
        "--work-dir",
        str(made["segmentation"]),
    ]
    options = [f"{split}_dataloader.dataset.data_root={folder / 'scenes'}" for split in ("train", "test")]
    assert main([*words, "--cfg-options", *options, *common]) == 0
    return made


def _colours(folder: Path) -> tuple[str, str, str, str]:
    """Data, a poisoned copy, a model trained on both, and test data."""
    from delete_images.models.architectures import build
    from delete_images.models.model_file import ModelSpec, Preprocessing, save_model

    generator, labels = np.random.default_rng(0), np.repeat(np.arange(3), 20)
    images = generator.integers(0, 90, (2, 60, 16, 16, 3)).astype(np.uint8)
    for image, label in zip(images.reshape(-1, 16, 16, 3), np.tile(labels, 2), strict=True):
        image[2:8, 2:8, label] += 150
    triggered = images[0, 20:].copy()
    triggered[:, 11:15, 11:15] = 255
    files = {"data": (images[0], labels), "poisoned": (triggered, np.zeros(40, int)), "test": (images[1], labels)}
    for name, (x, y) in files.items():
        np.savez(folder / f"{name}.npz", x=x, y=y, classes=np.array(NAMES))
    x, y = (np.concatenate([files["data"][part], files["poisoned"][part]]) for part in (0, 1))
    inputs = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build("cifar_resnet20", num_classes=3)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(30):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs), torch.from_numpy(y)).backward()
            optimizer.step()
    save_model(folder / "model", network.eval(), ModelSpec("cifar_resnet20", NAMES, Preprocessing.named("none", 16)))
    return str(folder / "data.npz"), str(folder / "poisoned.npz"), str(folder / "model"), str(folder / "test.npz")


def _people(folder: Path) -> str:
    """Seven photos each of eight people: noise on a pattern of their own, enough pairs for a threshold at FAR 1e-2."""
    generator = np.random.default_rng(1)
    for person in range(8):
        pattern = np.kron(generator.integers(0, 255, (4, 4, 3)), np.ones((28, 28, 1)))
        for number in range(7):
            path = folder / ("train" if number < 3 else "test") / f"p{person}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo = (pattern + generator.integers(-20, 20, pattern.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(photo).save(path)
    return str(folder)


@pytest.mark.slow
def test_what_each_command_writes(real, tmp_path, monkeypatch, capsys):
    """Every figure that a plugin names is where its command writes it, and both of the picture's are measured."""
    monkeypatch.chdir(tmp_path)
    assert set(real) == set(plugin_modules())
    for run in read_runs(map(str, real.values())):
        roles = [metric for metric in metrics_of([run]) if metric["role"] is not None]
        assert {metric["role"] for metric in roles[:2]} == {"forget", "retain"} or len(roles) > 2, run.task
        first = {metric["role"]: metric for metric in reversed(roles)}
        assert all(None not in run.values(metric) for metric in first.values()), run.task
        assert run.forgotten != "-" and run.results["steps"] == 2 and run.results["measured_on"]
    for task, folder in real.items():
        shutil.copytree(folder, tmp_path / "copies" / f"{task}_again")
    capsys.readouterr()
    assert main(["compare", *map(str, real.values()), *map(str, (tmp_path / "copies").iterdir())]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert all(f"{task}_run" in out and f"{task}_again" in out for task in real)
