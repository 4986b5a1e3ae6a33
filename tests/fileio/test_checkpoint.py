"""Loading runs no code, and saving is atomic."""

import subprocess
from pathlib import Path

import npz
import pytest
import torch
from torch import nn

from delete_tasks.errors import CheckpointMismatchError, MissingExtraError, UnsafeCheckpointError, require
from delete_tasks.fileio import checkpoint


def test_a_pickle_is_refused_and_its_code_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"weight": torch.ones(1)}, "extra": npz.Payload()}, tmp_path / "bad.pth")
    with pytest.raises(UnsafeCheckpointError, match=r"pickle.*DELETE_TASKS_ALLOW_PICKLE=1"):
        checkpoint.load_file(tmp_path / "bad.pth")
    assert not (tmp_path / "canary").exists()
    monkeypatch.setenv("DELETE_TASKS_ALLOW_PICKLE", "1")
    assert checkpoint.state_dict_of(checkpoint.load_file(tmp_path / "bad.pth"))["weight"].item() == 1
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_round_trip_and_digests(suffix, tmp_path):
    model = nn.Linear(3, 2)
    path = tmp_path / f"model{suffix}"
    checkpoint.save_file(model.state_dict(), path)
    other = nn.Linear(3, 2)
    checkpoint.load_weights(other, path)
    assert torch.equal(other.weight, model.weight)
    assert checkpoint.tensors_sha256(other.state_dict()) == checkpoint.tensors_sha256(model.state_dict())
    other.bias.data[0] += 1
    assert checkpoint.tensors_sha256(other.state_dict()) != checkpoint.tensors_sha256(model.state_dict())
    assert len(checkpoint.file_sha256(path)) == 64


def test_loading_is_strict_and_lists_differences(tmp_path):
    checkpoint.save_file({"weight": torch.zeros(2, 4), "extra": torch.zeros(1)}, tmp_path / "m.pth")
    with pytest.raises(CheckpointMismatchError) as error:
        checkpoint.load_weights(nn.Linear(3, 2), tmp_path / "m.pth")
    for part in ("missing: bias", "unexpected: extra", "shape of weight: file (2, 4), model (2, 3)"):
        assert part in str(error.value)
    with pytest.raises(CheckpointMismatchError, match="weights"):
        checkpoint.state_dict_of({"epoch": 1})
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        checkpoint.load_file(tmp_path / "none.pth")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "state.pth"
    checkpoint.save_file({"a": torch.ones(1)}, path)
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save_file({"a": lambda: None}, path)
    assert checkpoint.load_file(path)["a"].item() == 1
    assert [item.name for item in tmp_path.iterdir()] == ["state.pth"]


def test_a_missing_extra_names_the_install():
    """What is said of an OpenCV that cannot be loaded is in tests/packaging/test_opencv.py."""
    with pytest.raises(MissingExtraError, match=r"pip install 'delete-tasks\[faces\]'"):
        require("no_such_module_anywhere", "faces")


def test_configs_are_found_and_named():
    from delete_tasks import RequestError, config_path

    assert config_path("segmentation/cgnet_camvid_forget-car.py").is_file()
    with pytest.raises(RequestError, match=r"there are: .*segmentation/cgnet_camvid_forget-car.py"):
        config_path("segmentation/none.py")


def test_no_address_of_a_package_index_is_committed(repository):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        text = Path(repository, name).read_bytes()
        assert b"files.pythonhosted" + b".org" not in text and b"--index" + b"-url" not in text, name
