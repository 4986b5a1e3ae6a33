"""``record verify --rerun``: every figure is measured again, from any folder, and no code that a record names is run."""

import json
import os
import pickle
import shutil
from functools import reduce
from pathlib import Path

import npz
import numpy as np
import pytest
import torch
from helpers import edit_json, read_json
from mmengine.config import Config

from delete_mmseg.recorded_config import check_config, portable_config
from delete_tasks.cli import main
from delete_tasks.errors import RequestError
from delete_tasks.fileio.digests import describe_model
from delete_tasks.report.record.measurement import pack, unpack
from delete_tasks.report.record.people import Hider
from delete_tasks.report.record.verify import NOT_CHECKED, OK, verify

RUNS = {
    "recorded": "forget_acc forget_acc_train remain_drop worst_drop still_predicted nll_rise ece_rise",
    "segmented": "forget_iou others_drop still_predicted misplaced",
    "faced": "identified kept_drop verified nll_rise ece_rise",
    "cleaned": "asr ra_drop acc_drop worst_drop nll_rise ece_rise",
}
FIGURES = {run: names.split() for run, names in RUNS.items()}
ONCE = {"still_predicted": "only the run measures it"}  # what a run alone can measure, and why


def again(folder: Path) -> dict[str, tuple[str, str]]:
    """Status and reason of each figure, by the command."""
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("delete_tasks.report.record.verify.verify", lambda *words: told.extend(verify(*words)) or told)
        assert main(["record", "verify", str(folder), "--rerun"]) == 0
    assert not [check for check in told if check.status == "FAILED"], told
    return {check.what.split()[1]: (check.status, check.why) for check in told if check.what.startswith("figure ")}


@pytest.mark.parametrize("run", FIGURES)
def test_every_figure_is_measured_again_from_any_folder(run, request, tmp_path, monkeypatch):
    folder = request.getfixturevalue(run)
    record = read_json(folder, "record.json")
    measured = {figure["name"] for figure in record["figures"] if figure["value"] is not None}
    monkeypatch.chdir(tmp_path)
    found = again(folder)
    assert set(found) == set(FIGURES[run])
    assert {name for name, (status, _) in found.items() if status == OK} == measured - set(ONCE), found
    for name in set(ONCE) & measured:
        assert found[name][0] == NOT_CHECKED and ONCE[name] in found[name][1]
    assert len(measured) >= len(FIGURES[run]) - 1


@pytest.fixture
def attack(write_anew, tmp_path):
    """``attack(folder, change)``: verify a copy of a record that ``change(record, copy)`` has altered, with new digests."""

    def attacked(folder: Path, change) -> dict[str, tuple[str, str]]:
        copy = tmp_path / "runs" / "first"
        shutil.copytree(folder, copy)
        record = read_json(folder, "record.json")
        change(record, copy)
        write_anew(copy, record)
        return again(copy)

    return attacked


HOSTILE = {"architecture": "os:mkdir", "arguments": {"path": "canary"}}
RUNS_CODE = {"type": "subprocess.check_call", "args": ["touch", "canary"]}
HEAD, DATA = "model.decode_head", "test_dataloader.dataset"
UNPICKLES = {"type": "TIMMBackbone", "model_name": "resnet18", "pretrained": False, "checkpoint_path": "bad.pth"}
CONFIGS = {  # place in the config -> what is put there, in a list before the others
    "model": ("model", RUNS_CODE),
    "in the model": (f"{HEAD}.act_cfg", {"type": "os.system", "command": "touch canary"}),
    "a scope": ("model._scope_", "subprocess"),
    "a config file": ("model", {"type": "mmengine.Config.fromfile", "filename": "payload.py"}),
    "a class of a module": ("model.backbone", {"type": "payload.Class"}),
    "data preprocessor": ("model.data_preprocessor", RUNS_CODE),
    "loss": (f"{HEAD}.loss_decode", {"type": "pathlib.Path.touch", "self": "canary"}), "data set": (DATA, RUNS_CODE),
    "transform": (f"{DATA}.pipeline.0", RUNS_CODE), "scoped name": (f"{DATA}.type", "mmengine.HistoryBuffer"),
    "no segmentor": ("model", {"type": "LoadImageFromFile"}), "no data set": (DATA, {"type": "CGNet"}),
    "a hook": (f"{HEAD}.act_cfg", {"type": "EMAHook"}),
    "weights": ("model.backbone.init_cfg", {"type": "Pretrained", "checkpoint": "bad.pth"}),
    "a wrapper that unpickles": ("model.backbone", UNPICKLES),
    "a decoder that unpickles": (f"{DATA}.pipeline.0", {"type": "LoadBiomedicalData", "decode_backend": "pickle"}),
    "from elsewhere": (f"{DATA}.ann_file", "http://127.0.0.1:9/x"), "no end": ("model.backbone.num_stages", 10**12),
    "imports": ("custom_imports", {"imports": ["payload"]}),
}  # fmt: skip


def put(config: dict, place: str, value: object) -> None:
    *keys, last = place.split(".")
    part = reduce(lambda part, key: part[key], keys, config)
    part.insert(0, value) if isinstance(part, list) else part.update({last: value})


@pytest.mark.parametrize("place", CONFIGS)
def test_a_config_in_a_record_runs_nothing(place, segmented, attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "extra": npz.Payload()}, "bad.pth")
    Path("payload.py").write_text("import os; os.mkdir('canary')")
    found = attack(segmented, lambda record, _: put(record["measurement"]["options"]["config"], *CONFIGS[place]))
    assert {status for status, _ in found.values()} == {NOT_CHECKED} and set(found) == set(FIGURES["segmented"])
    assert all("the record's" in why for _, why in found.values()), found
    assert not Path("canary").exists()


def _change_model(record: dict, folder: Path, change) -> None:
    """Change the published model's description, with new digests."""
    model = folder / record["models"]["erased"]["path"]
    edit_json(model / "model.json", change)
    record["models"]["erased"] |= describe_model(model, folder)


def hostile_model(record: dict, folder: Path) -> None:
    _change_model(record, folder, lambda spec: spec.update(HOSTILE))


def hostile_backbone(record: dict, folder: Path) -> None:
    backbone = {"backbone": "os:mkdir", "backbone_arguments": {"path": "canary"}}
    _change_model(record, folder, lambda spec: spec["arguments"].update(backbone))


def hostile_description(record: dict, _: Path) -> None:
    """The record describes the model of a bare weights file, and names code."""
    record["measurement"]["options"]["spec"] |= HOSTILE
    shutil.copy(record["models"]["original"]["path"], "weights.safetensors")
    record["models"]["original"] |= describe_model(Path("weights.safetensors"), Path("nowhere"))
    record["models"]["original"]["path"] = str(Path("weights.safetensors").resolve())


def hostile_data(record: dict, _: Path) -> None:
    """Data are arrays that need pickle."""
    np.savez("evil.npz", x=np.array([npz.Payload()], dtype=object), y=np.array([0]))
    for text in record["measurement"]["data"].values():
        if text is not None:
            text["$text"] = [{"$place": str(Path("evil.npz").resolve())}]


def hostile_cifar(record: dict, _: Path) -> None:
    """torchvision's files are pickles."""
    batches = Path("data/cifar-10-batches-py")
    batches.mkdir(parents=True)
    for name in ("batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        (batches / name).write_bytes(pickle.dumps(npz.Payload()))
    record["measurement"]["data"]["test"] = {"$text": ["cifar10:", {"$place": str(Path("data").resolve())}]}


def hostile_trigger(record: dict, _: Path) -> None:
    np.save("evil.npy", np.array([npz.Payload()], dtype=object), allow_pickle=True)
    pieces = ["l2:image=", {"$place": str(Path("evil.npy").resolve())}]
    record["measurement"]["options"]["trigger"] = {"$text": pieces}


@pytest.mark.parametrize(("run", "change"), [
    ("recorded", hostile_model), ("recorded", hostile_description), ("recorded", hostile_data), ("recorded", hostile_cifar),
    ("faced", hostile_model), ("faced", hostile_backbone), ("faced", hostile_data),
    ("cleaned", hostile_model), ("cleaned", hostile_data), ("cleaned", hostile_cifar), ("cleaned", hostile_trigger),
])  # fmt: skip
def test_models_and_data_of_a_record_run_nothing(run, change, request, attack, tmp_path, monkeypatch):
    """NOT CHECKED with the reason; no code of a model, of data or of a trigger ran."""
    folder = request.getfixturevalue(run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("something was to be fetched"))
    found = attack(folder, change)
    assert NOT_CHECKED in {status for status, _ in found.values()} and set(found) == set(FIGURES[run])
    assert all(why for status, why in found.values() if status == NOT_CHECKED)
    assert not Path("canary").exists()


def test_rerun_without_the_original(recorded, attack, tmp_path):
    def gone(record, _):
        record["models"]["original"]["path"] = str(tmp_path / "nowhere")

    found = attack(recorded, gone)
    assert found["forget_acc"][0] == found["forget_acc_train"][0] == OK
    for name in ("remain_drop", "worst_drop", "nll_rise"):
        assert found[name][0] == NOT_CHECKED and "original" in found[name][1]


@pytest.mark.parametrize("name", [path.name for path in Path(__file__).parents[3].glob("configs/segmentation/*.py")])
def test_the_repositorys_configs_can_be_packed(name, repository, tmp_path):
    """Tuples, keys that are numbers, and the folder of the data."""
    cfg = Config.fromfile(repository / "configs/segmentation" / name)
    packed = json.loads(json.dumps(pack(portable_config(cfg.to_dict()), Hider([], None, tmp_path))))
    config = unpack(packed, tmp_path, None)
    check_config(config)
    assert config["test_dataloader"]["dataset"]["data_root"] == os.path.realpath(cfg.test_dataloader.dataset.data_root)
    model = cfg.model.to_dict()
    for part in ("backbone", "decode_head"):
        kept = {key: value for key, value in model[part].items() if key not in ("init_cfg", "pretrained")}
        assert {key: config["model"][part][key] for key in kept} == kept


def test_pack_and_unpack(tmp_path):
    with pytest.raises(TypeError, match="len"):
        pack({"f": len}, Hider([], None, tmp_path))
    value = {1: (2, [3.5, None]), "$odd": {"$place": True}, "plain": {"a": "b"}}
    assert unpack(json.loads(json.dumps(pack(value, Hider([], None, tmp_path)))), tmp_path, None) == value
    wrong = [{"$place": 3}, {"$call": "os.system"}, {"$items": [[{}, 1]]}, {"$tuple": 3}, {"$text": ["x", 3]}]
    for value in (*wrong, {"$person": "x", "$place": "y"}):
        with pytest.raises(RequestError, match=r"\$"):
            unpack(value, tmp_path, None)
