"""The audit command on real images and networks."""

import shutil

import pytest
import torch
from filelock import FileLock
from helpers import argv, read_json, run
from msgspec import structs

import delete_faces.network  # noqa: F401  (registers the architecture)
from delete_images.models.class_names import CIFAR10_CLASSES
from delete_images.models.model_file import ModelSpec, Preprocessing, build_model, load_model, save_model
from delete_tasks.fileio.workdir import LOCK


@pytest.fixture(scope="module")
def models(resnet20, tmp_path_factory):
    """The ResNet-20; 'head', which differs in its last layer alone; and 'other', whose last stage is scrambled."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(resnet20, folder / "original")
    network, spec = load_model(folder / "original")
    network.linear.weight.data[4] = network.linear.weight.data.mean(0)
    network.linear.bias.data[4] = -10
    save_model(folder / "head", network, spec)
    torch.manual_seed(0)
    for parameter in network.layer3.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    save_model(folder / "other", network, spec)
    return folder


@pytest.fixture(scope="module")
def images(few):
    """150 training and 150 test images."""
    return few(15, 15)


@pytest.fixture(scope="module")
def words(models, images):
    """Words of the command, without --erased and --work-dir."""
    forget = [f"{images}?class=deer"]
    return argv("audit --original", models / "original", "--forget", forget, "--data", images, "--test", images)


def test_a_changed_head_is_hidden(words, models, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run(words, "--erased", models / "head", "--work-dir", tmp_path / "w")
    said, told = read_json(tmp_path, "w", "audit.json"), capsys.readouterr()
    assert said["forgotten"] == ["deer"] and said["verdict"]["word"] == "hidden" and said["task"] == "images"
    assert list(said["rows"]) == ["original", "logit_cut", "erased"]
    for attack in said["attacks"]:
        one = [said["rows"][name][attack["name"]] for name in said["rows"]]
        if attack["reads"]:
            assert one[0] == one[1] == one[2] and one[0]["count"] == 15 and one[0]["value"] > 30
            assert said["depth"][attack["name"]]["value"] is None
        assert all(found["value"] is not None or found["note"] for found in one)
    assert said["rows"]["erased"]["logit_rank"]["value"] > 4 > said["rows"]["original"]["logit_rank"]["value"]
    assert "Verdict: HIDDEN" in told.out and "no retrained model is given" in told.out and told.err == ""
    assert max(map(len, told.out.split("Written")[0].splitlines())) <= 80
    assert all((tmp_path / "w" / name).stat().st_size > 5000 for name in ("audit.png", "tsne.png"))
    names = {"audit.json", "audit.md", "audit.png", "tsne.png", ".delete-tasks.json"}
    assert {path.name for path in (tmp_path / "w").iterdir()} == names
    assert said["stages"] == ["network.layer1", "network.layer2", "network.layer3"]


def test_two_retrained_models(words, models, tmp_path, tells):
    command = argv(words, "--erased", models / "other", models / "head", "--retrained", [models / "other"] * 2)
    told = tells(command, "--head-only", models / "head", "--wide --work-dir", tmp_path / "w")
    said = read_json(tmp_path, "w", "audit.json")
    erased = ["erased", "erased_2"]
    assert list(said["rows"]) == ["original", "logit_cut", "head_only", *erased, "retrained_1", "retrained_2"]
    assert said["further_verdicts"]["erased_2"]["word"] == "hidden" and f"erased 2, {models / 'head'}: HIDDEN" in told
    lines = (tmp_path / "w" / "audit.md").read_text().splitlines()
    header = next(line for line in lines if line.startswith("| attack"))
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1 and "| head only |" in header
    assert said["rows"]["head_only"]["logit_level"]["value"] is not None  # its classes are the original's
    linear = next(line for line in lines if line.startswith("| linear probe |")).split(" | ")
    assert linear[1] == linear[2] == linear[3] == linear[5] != linear[4] and linear[-2:] == ["1.00", "1.00 to 1.00 |"]
    assert said["verdict"]["word"] == "cannot tell"  # 15 samples do not show that it is as the retrained models
    assert said["depth"]["linear_probe"]["value"] == pytest.approx(1)
    assert said["rows"]["erased"]["js_retrained"]["value"] < 0.01
    same = f"{said['rows']['retrained_1']['linear_probe']['value']:.1f}"
    assert "too few samples (15)" in " ".join(told.split()) and f"{same}–{same}" in told  # the range of both


def test_without_held_out_samples_nothing_is_measured(words, models, tmp_path, tells):
    """Nothing is read, no picture is drawn, and each reason is printed once."""
    told = tells(words[:5], "--erased", models / "head", "--work-dir", tmp_path / "w")
    said = read_json(tmp_path, "w", "audit.json")
    assert said["verdict"]["word"] == "cannot tell" and said["pictures"] == []
    assert set(said["not_measured"]) == {"audit.png", "tsne.png"} and not (tmp_path / "w" / "tsne.png").exists()
    assert "no held-out samples were given" in told and "CANNOT TELL" in told
    assert told.startswith("NOT MEASURED")  # no table of chance levels alone


@pytest.mark.parametrize(
    ("change", "fact"),
    [({"--erased": __file__}, "is no model folder"), ({"--original": __file__}, "expected a model folder"),
     ({"--test": "{images}?split=train"}, "of --test .*exact copies: 15 of --forget .*135 of --data"),
     ({"--forget": "{images}"}, "does not say what was forgotten; give --classes"),
     ({"--forget": "{images}?class=dear"}, "dear"), ({"--classes": "dear"}, "dear"),
     ({"--task": "segmentation"}, "none of the tasks segmentation"),
     ({"--work-dir": "{models}/original/inside"}, "which is read")],
)  # fmt: skip
def test_what_is_refused_writes_nothing(words, models, images, tmp_path, fails, monkeypatch, change, fact):
    monkeypatch.chdir(tmp_path)
    changes = [(name, value.format(images=images, models=models)) for name, value in change.items()]
    fails(fact, words, "--erased", models / "head", "--work-dir w", *changes)
    assert not list(tmp_path.iterdir())


def test_work_dirs(words, models, tmp_path, fails):
    """Another run's files, a run at work and the same finished request are not overwritten."""
    command = argv(words[:5], "--erased", models / "head", "--work-dir", tmp_path / "w")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "mine.txt").write_text("mine")
    fails("holds other files", command)
    run(command, "--overwrite")
    assert (tmp_path / "w" / "mine.txt").read_text() == "mine"
    fails("finished on .* or --overwrite to do it again", command)
    with FileLock(tmp_path / "w" / LOCK):
        fails("another run is using", command, "--overwrite")


def test_a_retrained_model_of_fewer_classes(words, models, tmp_path, fails):
    """Its classes are found by name; one that lacks a kept class is refused."""
    network, spec = load_model(models / "original")
    order, whole = [6, 7, 8, 9, 0, 1, 2, 3, 5], network.linear
    network.linear = torch.nn.Linear(64, 9)
    network.linear.weight.data, network.linear.bias.data = whole.weight.data[order], whole.bias.data[order]
    fewer = type(spec)(**{**structs.asdict(spec), "classes": tuple(spec.classes[i] for i in order)})
    save_model(tmp_path / "nine", network, fewer)
    command = argv(words, "--erased", models / "head", "--retrained", tmp_path / "nine")
    run(command, "--work-dir", tmp_path / "w")
    rows = read_json(tmp_path, "w", "audit.json")["rows"]
    assert rows["retrained"]["kept_drop"]["value"] == pytest.approx(rows["logit_cut"]["kept_drop"]["value"], abs=1.5)
    assert rows["retrained"]["forgotten_mass"]["value"] == 0
    shutil.rmtree(tmp_path / "nine")
    network.linear = torch.nn.Linear(64, 8)
    save_model(tmp_path / "nine", network, type(spec)(**{**structs.asdict(spec), "classes": fewer.classes[:8]}))
    fails("has no class", command, "--work-dir", tmp_path / "x")


def permuted(models, folder, order, rename=None):
    """Save the head-changed model with its classes in another order, some under other names."""
    network, spec = load_model(models / "head")
    for parameter in network.linear.parameters():
        parameter.data = parameter.data[order]
    classes = tuple((rename or {}).get(i, spec.classes[i]) for i in order)
    return save_model(folder, network, structs.replace(spec, classes=classes))


def test_classes_are_matched_by_name(words, models, tmp_path):
    """A model with its classes in another order has the figures of the same one in the original's order."""
    rows = []
    swapped = permuted(models, tmp_path / "swapped", [9, *range(1, 9), 0], {4: "class_4"})
    for place in (models / "head", swapped):
        run(words, "--erased", place, "--work-dir", tmp_path / "w", "--overwrite")
        rows.append(read_json(tmp_path, "w", "audit.json")["rows"]["erased"])
    same = ("forgotten_mass", "kept_drop", "linear_probe")
    assert [rows[0][name]["value"] for name in same] == [rows[1][name]["value"] for name in same]


NAMES = {
    "another class": ({3: "gnu"}, r"no class cat,.*class 3 is 'cat' in the original and 'gnu' in the other"),
    "a neutral name at another place": ({4: "deer", 6: "class_5"}, "class 6 is 'frog' in the original and 'class_5'"),
}


@pytest.mark.parametrize(("rename", "fact"), NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("command", ["audit", "attention"])
def test_other_classes_are_refused(words, models, images, tmp_path, fails, command, rename, fact):
    other = permuted(models, tmp_path / "other", list(range(10)), rename)
    if command == "attention":
        words = argv("attention --original", models / "original", "--class deer", images, "--out", tmp_path / "a.png")
        fails(fact, words, "--erased", other)
    else:
        fails(fact, words, "--erased", other, "--work-dir", tmp_path / "w")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_model_of_another_task_is_refused(words, models, tmp_path, fails):
    """A face network of people with the names of the classes."""
    preprocessing, backbone = Preprocessing.named("imagenet", 112), {"backbone": "mobilefacenet"}
    spec = ModelSpec("face_network", CIFAR10_CLASSES, preprocessing, backbone)
    save_model(tmp_path / "faces", build_model(spec), spec)
    fails("erased model .* is one of faces, .*one of images", words, "--erased", tmp_path / "faces", "--work-dir w")
