"""``delete-tasks export``: the file gives the model's outputs, and holds nothing of what was forgotten."""

import hashlib
import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import argv, read_json
from onnx.numpy_helper import to_array

from delete_images.models.model_file import load_model, save_model
from delete_tasks.fileio.checkpoint import load_once, state_dict_of
from delete_tasks.fileio.inputs import file_sha256
from delete_tasks.report.record.people import find_place
from delete_tasks.report.record.verify import FAILED, verify

# Run -> shapes without the batch, kinds of samples, what names the class, and its weights in the original.
RUNS = {
    "recorded": ({"input": [3, 16, 16], "logits": [4]}, {"train", "test"}, ["green"], ("linear.weight", 1)),
    "segmented": ({"input": [3, 64, 128], "logits": [19, 64, 128]}, {"test"}, ["car"], ("decode_head.conv_seg.weight", 13)),
    "faced": ({"input": [3, 16, 16], "embedding": [16]}, {"test"}, ["alice", "person"], ("head.weight", slice(0, 4))),
    "cleaned": ({"input": [3, 16, 16], "logits": [4]}, {"test", "triggered"}, [], None),
}  # fmt: skip


def opened(path):
    """Session, and the model's text: all of the file but its numbers."""
    model = onnx.load(path)
    onnx.checker.check_model(model)
    numbers = {tensor.name: to_array(tensor) for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    return onnxruntime.InferenceSession(path), numbers, model.SerializeToString().lower()


@pytest.mark.parametrize("name", RUNS)
def test_the_model_of_a_run(name, request, repository, tmp_path, tells):
    folder, (shapes, kinds, words, removed) = request.getfixturevalue(name), RUNS[name]
    said = tells("export", folder, "--onnx", tmp_path / "model.onnx")
    content, receipt = (tmp_path / "model.onnx").read_bytes(), read_json(tmp_path, "model.onnx.json")
    assert receipt["file"]["sha256"] == hashlib.sha256(content).hexdigest() and receipt["file"]["sha256"] in said
    assert receipt["file"]["shapes"] == {key: ["batch", *shape] for key, shape in shapes.items()}
    assert set(receipt["compared"]["samples"]) == kinds and receipt["compared"]["difference"] < 1e-3
    record = read_json(folder, "record.json")
    assert receipt["model"]["tensors_sha256"] == record["models"]["erased"]["tensors_sha256"]
    assert receipt["model"]["record_sha256"] == file_sha256(folder / "record.json")
    assert not [check for check in verify(folder) if check.status == FAILED]
    session, numbers, text = opened(tmp_path / "model.onnx")
    given = session.run(None, {"input": np.zeros((3, *shapes["input"]), np.float32)})[0]
    assert list(given.shape[1:]) == next(reversed(shapes.values())) and len(given) == 3
    for word in [*words, ".py", str(repository), str(folder)]:
        assert word.lower().encode() not in text, word
    if removed is not None:
        weight = state_dict_of(load_once(find_place(record["models"]["original"]["path"], folder)), "")[removed[0]]
        for row in np.atleast_2d(weight[removed[1]].flatten(1 if name == "faced" else 0).numpy()):
            assert row.tobytes() not in content
        layers = [values for values in numbers.values() if values.shape == tuple(weight.shape)]
        assert len(layers) == (name != "faced") and not any(values[removed[1]].any() for values in layers)
        assert name == "faced" or "forgotten: -10 to -10, the largest at 0 of" in said


def test_outputs_are_left_out(resnet20, few, tmp_path, tells, fails):
    """ResNet-20, whose deer is never predicted, with its weights: they are not in the file."""
    network, spec = load_model(resnet20)
    network.linear.bias.data[4] = -1000
    save_model(tmp_path / "erased", network, spec)
    kept, out = [0, 1, 2, 3, 5, 6, 7, 8, 9], tmp_path / "nine.onnx"
    words = argv("--drop-output --data", few(20, 20), "--onnx", out)
    fails("no forgotten class of the logits is known", "export", tmp_path / "erased", words)
    said = tells("export", tmp_path / "erased", words, "--classes deer")
    assert "Without class 4; classes of the outputs: 0, 1, 2, 3, 5, 6, 7, 8, 9" in said and "on 16 of forget" in said
    session, numbers, _ = opened(out)
    assert json.loads(session.get_modelmeta().custom_metadata_map["delete_tasks.places"]) == {
        str(old): new for new, old in enumerate(kept)
    }
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        expected = network(images)[:, kept].numpy()
    np.testing.assert_allclose(session.run(["logits"], {"input": images.numpy()})[0], expected, atol=1e-4)
    assert network.linear.weight[4].detach().numpy().tobytes() not in out.read_bytes()
    assert [not row.any() for row in numbers["network.linear.weight"]].index(True) == 4
    before = out.read_bytes()
    fails("already exists", "export", resnet20, words)
    hides = "would only hide what the model still predicts .*erase it"
    fails(hides, "export", resnet20, words, "--overwrite --classes deer")
    assert out.read_bytes() == before


@pytest.mark.long
def test_a_file_that_differs_is_not_written(recorded, copy, tmp_path, tells, fails, monkeypatch):
    words = argv("export", recorded / "erased", "--onnx", tmp_path / "m.onnx")
    assert "16 of random numbers (no samples were given): largest difference" in tells(words)
    with monkeypatch.context() as patch:
        patch.setattr("delete_tasks.report.export.TOLERANCE", -1)
        fails("gives other outputs than the model .*not written", "export", copy, "--onnx", tmp_path / "n.onnx")
    (copy / "record.html").write_text("changed")
    fails(r"the record in .* does not hold \(record.html", "export", copy, "--onnx", tmp_path / "n.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.json", "runs"]


@pytest.mark.parametrize(("run", "more", "message"), [
    ("faced", "--onnx m.onnx --drop-output", "no forgotten class of the embedding is known"),
    ("recorded", "--onnx m.pb", "written as .onnx"),
    ("recorded", "--onnx {}/m.onnx", "is in '.*', which is read"),
    ("segmented", "--onnx m.onnx --data test", "none of the tasks .* takes"),
    ("recorded", "--onnx m.onnx", "extra 'export'"),
])  # fmt: skip
def test_refusals(run, more, message, request, tmp_path, fails, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "extra" in message:
        monkeypatch.setitem(sys.modules, "onnxscript", None)
    folder = request.getfixturevalue(run)
    fails(message, "export", folder, more.format(folder))
    assert list(tmp_path.iterdir()) == []
