"""Model folders: loading returns the saved model, and runs no code."""

import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from delete_images.models.architectures import build
from delete_images.models.model_file import import_checkpoint, load_model, save_model
from delete_images.models.spec import ModelSpec, Preprocessing, load_spec
from delete_tasks.errors import CheckpointMismatchError, RequestError, UnsupportedModelError

CLASSES = ("ant", "bee", "cat")
CROP = dict(channels="BGR", input_range=(0.0, 255.0), resize="crop", crop_fraction=0.875)
PRE = Preprocessing.named("imagenet", (24, 32), **CROP)


def spec(**changes) -> ModelSpec:
    return ModelSpec(**{"architecture": "wrn16_1", "classes": CLASSES, "preprocessing": PRE, **changes})


@pytest.fixture
def folder(tmp_path):
    return save_model(tmp_path / "model", build("wrn16_1", num_classes=3), spec(extra={"threshold": 0.5}))


def test_roundtrip(tmp_path):
    model = build("wrn16_1", num_classes=3)
    model(torch.rand(4, 3, 32, 32))  # so that running statistics are no longer the initial ones
    model.block1.layer[1].conv2.weight = model.block1.layer[0].conv2.weight  # tied weights
    described = spec(extra={"threshold": 0.5})
    loaded, read = load_model(save_model(tmp_path / "a" / "b", model, described))
    assert read == described == load_spec(tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["model.json", "weights.safetensors"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert not loaded.training


def test_saving_over_a_model_keeps_other_files(folder):
    (folder / "results.json").write_text("{}")
    model = build("cifar_resnet20", num_classes=3)
    save_model(folder, model, spec(architecture="cifar_resnet20"))
    loaded, read = load_model(folder)
    assert read.architecture == "cifar_resnet20"
    assert torch.equal(loaded.linear.weight, model.linear.weight)
    assert (folder / "results.json").exists()


def test_an_interrupted_save_leaves_no_model(folder, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("delete_tasks.fileio.atomic.save_json", fail)
    with pytest.raises(KeyboardInterrupt):
        save_model(folder, build("wrn16_1", num_classes=3), spec())
    with pytest.raises(FileNotFoundError, match=r"model\.json"):
        load_model(folder)


def test_half_precision_is_kept_in_the_file_and_loaded_as_float32(tmp_path):
    model = build("wrn16_1", num_classes=3).half()
    save_model(tmp_path, model, spec())
    assert load_file(tmp_path / "weights.safetensors")["fc.weight"].dtype == torch.float16
    loaded, _ = load_model(tmp_path)
    assert loaded.fc.weight.dtype == torch.float32
    assert torch.equal(loaded.fc.weight, model.fc.weight.float())


def test_saving_refuses_what_could_not_be_loaded(tmp_path):
    model = build("wrn16_1", num_classes=3)
    with pytest.raises(UnsupportedModelError, match="4"):
        save_model(tmp_path / "m", model, spec(classes=("a", "b", "c", "d")))
    with pytest.raises(RequestError, match="JSON"):
        save_model(tmp_path / "m", model, spec(extra={"when": object()}))
    with pytest.raises(RequestError, match="a"):
        save_model(tmp_path / "m", model, spec(classes=("a", "b", "a")))
    assert not (tmp_path / "m").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"file.* folder"):
        save_model(tmp_path / "file", model, spec())


def test_not_a_model(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="none"):
        load_model(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"images import"):
        load_model(folder / "weights.safetensors")


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    source = "from torch import nn\nran = True\nclass Net(nn.Sequential):\n    def __init__(self, outputs):\n"
    source += "        super().__init__(nn.Flatten(), nn.Linear(12, outputs))\nnumber = 3\ndef text(): return 'x'\n"
    (tmp_path / "own_network.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_network", raising=False)
    yield
    sys.modules.pop("own_network", None)


def test_import_path_runs_only_when_allowed(own_module, tmp_path):
    described = spec(architecture="own_network:Net", arguments={"outputs": 3})
    folder = save_model(tmp_path / "m", nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), described)
    with pytest.raises(RequestError, match="--allow-import"):
        load_model(folder)
    assert "own_network" not in sys.modules
    model, _ = load_model(folder, allow_import=True)
    assert type(model).__name__ == "Net"


@pytest.mark.parametrize(("path", "arguments", "fact"), [
    ("own_network:Missing", {}, "own_network:Missing"), ("no_such_package:Net", {}, "PYTHONPATH"),
    ("own_network:number", {}, "class or function"), ("own_network:text", {}, "torch.nn.Module"),
    ("own_network:Net", {}, "own_network:Net"), ("own_network:Net", {"outputs": 5}, "5 outputs.* 3 class names"),
])  # fmt: skip
def test_import_path_refusals(own_module, tmp_path, path, arguments, fact):
    described = spec(architecture=path, arguments=arguments)
    folder = save_model(tmp_path / "m", nn.Linear(12, 3), described)
    with pytest.raises(RequestError, match=fact):
        load_model(folder, allow_import=True)


def test_import_is_strict_and_writes_nothing_on_failure(tmp_path):
    state = build("wrn16_1", num_classes=3).state_dict()
    torch.save({"state_dict": state}, tmp_path / "good.pth")
    torch.save({"net": {name: value for name, value in state.items() if name != "bn1.bias"}}, tmp_path / "short.pth")
    torch.save({**state, "fc.bias": torch.full((3,), torch.nan)}, tmp_path / "nan.pth")
    out = tmp_path / "out"
    for file, classes, error, message in [
        ("short.pth", CLASSES, CheckpointMismatchError, "bn1.bias"),
        ("good.pth", ("a", "b"), CheckpointMismatchError, "3 outputs"),
        ("good.pth", ("a",), RequestError, "2"),
        ("nan.pth", CLASSES, CheckpointMismatchError, "fc.bias"),
        ("none.pth", CLASSES, FileNotFoundError, "none.pth"),
    ]:
        with pytest.raises(error, match=message):
            import_checkpoint(tmp_path / file, out, "wrn16_1", classes, PRE)
    assert not out.exists()
    loaded, read = load_model(import_checkpoint(tmp_path / "good.pth", out, "wrn16_1", CLASSES, PRE))
    assert read == spec()
    assert torch.equal(loaded.fc.weight, state["fc.weight"])


def test_unknown_normalization():
    with pytest.raises(RequestError, match="none, pixels, imagenet"):
        Preprocessing.named("imagnet", 32)
