"""Model folders that are damaged, or made to do harm: refused by name, before they fill the memory."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tracemalloc

import pytest
import torch
from torch import nn

from delete_images import model_file
from delete_images.architectures import ARCHITECTURES, build, register
from delete_images.model_file import ModelSpec, Preprocessing, load_model, load_spec, save_model
from delete_images.spec import spec_from_json
from delete_tasks.errors import CheckpointMismatchError, MissingExtraError, RequestError, UnsafeCheckpointError

USER_ERRORS = (RequestError, CheckpointMismatchError, UnsafeCheckpointError, FileNotFoundError)
SPEC = ModelSpec("cifar_resnet20", ("ant", "bee", "cat"), Preprocessing.named("imagenet", 32))


@pytest.fixture
def folder(tmp_path):
    return save_model(tmp_path / "model", build("cifar_resnet20", num_classes=3), SPEC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("null", "got a NoneType"),
        ("[]", "got a list"),
        ('"' + "x" * 10, "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"version": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"version": NaN}', "holds NaN, which is no number"),
        ("\ufeff{}", "is not JSON"),
    ],
)
def test_text_that_is_no_description(folder, text, message):
    (folder / "model.json").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=message):
        load_model(folder)


def test_bytes_that_are_no_text_and_files_that_are_no_description(folder, monkeypatch):
    (folder / "model.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(RequestError, match="is not JSON"):
        load_model(folder)
    monkeypatch.setattr(model_file, "MOST_SPEC", 3)
    with pytest.raises(RequestError, match="has 4 bytes; a description of a model has 3 at most"):
        load_spec(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(classes=["a", "b\ud800", "c"]), r"class name 'b\\ud800' is no Unicode text"),
        (lambda c: c.update(classes=["x" * 10**6, 1]), r"must be a list of names, got \['xxx"),
        (lambda c: c.update(classes={"a": 1}), "must be a list of names"),
        (lambda c: c.update(classes=["a", "b", "a"] * 1000), r"more than once: a, b; each"),
        (lambda c: c.update(architecture=[1]), r"architecture is \[1\]"),
        (lambda c: c.update(architecture="x" * 10**6), "unknown architecture"),
        (lambda c: c.update(architecture="no_such:"), "--allow-import"),
        (lambda c: c.update(**{"k" * 10**6: 1}), "unknown key kkk"),
        (lambda c: c.update(preprocessing=[]), "preprocessing: expected an object"),
        (lambda c: c["preprocessing"].update(size=[10**400, 3]), "expected 2 finite numbers"),
        (lambda c: c["preprocessing"].update(size=[100_000, 3]), "1 to 8192"),
        (lambda c: c["preprocessing"].update(mean=[10**400, 0, 0]), "expected 3 finite numbers"),
        (lambda c: c["preprocessing"].update(std=[True, 1, 1]), "expected 3 finite numbers"),
        (lambda c: c["preprocessing"].update(channels=["RGB"]), "expected one of RGB"),
        (lambda c: c["preprocessing"].update(resize={}), "expected one of stretch"),
        (lambda c: c["preprocessing"].update(crop_fraction="1"), "expected 1 finite numbers"),
        (lambda c: c.update(format={}), "format is {}"),
        (lambda c: c.update(version=[]), r"version \[\] is not known"),
        (lambda c: c.update(arguments={"depth": []}, architecture="wide_resnet"), "cannot be built with"),
        (lambda c: c.update(arguments={"image_size": 10**30}, architecture="vit_s_16"), "cannot be built with"),
        (lambda c: c.update(arguments={"patch_size": 0}, architecture="vit_s_16"), "cannot be built with"),
    ],
)
def test_descriptions_of_other_shapes(folder, change, message):
    path = folder / "model.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RequestError, match=message) as caught:
        load_model(folder)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("architecture", "arguments", "message"),
    [
        ("vit_s_16", {"image_size": 1_600_000}, "does not fit|head of"),
        ("wide_resnet", {"depth": 10, "width": 100_000}, "does not fit"),
        pytest.param(
            "wide_resnet", {"depth": 6 * 10**7 + 4, "width": 1}, "more than 10000 parts", marks=pytest.mark.long
        ),
    ],
)
def test_arguments_that_ask_for_memory_are_refused_before_it_is_taken(folder, architecture, arguments, message):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architecture": architecture, "arguments": arguments}))
    tracemalloc.start()
    with pytest.raises(USER_ERRORS, match=message):
        load_model(folder)
    assert tracemalloc.get_traced_memory()[1] < 200 << 20  # of Python's objects; a tensor that large could not be made
    tracemalloc.stop()


def test_a_builder_that_reads_its_own_tensors_is_built_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("delete_images.architectures.registry.ARCHITECTURES", dict(ARCHITECTURES))

    @register("reads")
    def reads(num_classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(int(torch.ones(()).item() * 12), num_classes))

    spec = ModelSpec("reads", SPEC.classes, SPEC.preprocessing)
    model = build("reads", num_classes=3)
    loaded, _ = load_model(save_model(tmp_path, model, spec))
    assert torch.equal(loaded[1].weight, model[1].weight)
    regnet = ModelSpec("regnet_x_400mf", SPEC.classes, SPEC.preprocessing)
    load_model(save_model(tmp_path / "r", build("regnet_x_400mf", num_classes=3), regnet))


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: cut(data, 0.0001),
        lambda data: cut(data, 0.5),
        lambda data: data[:-1],
        lambda data: struct.pack("<Q", 2**63) + data[8:],
        lambda data: data[:8] + b"[" * 200 + data[208:],
        lambda data: b"PK\x03\x04" + data[4:],
    ],
)
def test_weights_that_are_damaged(folder, change):
    path = folder / "weights.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(USER_ERRORS, match=r"weights\.safetensors"):
        load_model(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors"):
        load_model(folder)
    path.mkdir()
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors"):
        load_model(folder)


def test_100_000_class_names_are_read_once(monkeypatch):
    content = {"format": model_file.FORMAT, "version": 1, "architecture": "x", "preprocessing": None}
    content["preprocessing"] = {
        "size": [8, 8],
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "channels": "RGB",
        "input_range": [0, 1],
    }
    compared = 0

    class Counted(str):
        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    content["classes"] = [Counted(f"class {i}") for i in range(1000)]
    assert len(spec_from_json(content, "it").classes) == 1000 and compared <= 2000
    content["classes"] = [f"class {i}" for i in range(100_000)]
    assert len(spec_from_json(content, "it").classes) == 100_000  # took minutes


# Entry points ------------------------------------------------------------------------------------------------------


def test_a_face_model_loads_by_load_model_alone(tmp_path):
    from delete_faces.network import face_network

    pre = Preprocessing.named("imagenet", 112)
    arguments = {"backbone": "mobilefacenet", "embedding_size": 128, "head": "cosine"}
    spec = ModelSpec("face_network", ("ann", "bob"), pre, arguments)
    save_model(tmp_path, face_network(2, **arguments), spec)
    code = "import sys\nfrom delete_images.model_file import load_model\nassert 'delete_faces.network' not in sys.modules\n"
    code += f"print(type(load_model({str(tmp_path)!r})[0]).__name__)"
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == "FaceNetwork", result.stderr


def test_an_entry_point_that_does_not_keep_its_word(monkeypatch):
    offered = {"lost": "no_such_module_anywhere", "other": "json"}
    monkeypatch.setattr("delete_tasks.plugins.offered", lambda group: offered)
    with pytest.raises(MissingExtraError, match=r"'lost' comes from no_such_module_anywhere, which cannot be imported"):
        build("lost", num_classes=3)
    with pytest.raises(RequestError, match="names module json, which does not register 'other'"):
        build("other", num_classes=3)
