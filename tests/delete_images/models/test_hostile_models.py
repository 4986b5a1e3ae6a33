"""Damaged and malicious model folders, which are refused by name before they fill the memory."""

import struct
import tracemalloc

import pytest
import torch
from helpers import Counted, edit_json, python
from torch import nn

from delete_images.models import spec
from delete_images.models.architectures import ARCHITECTURES, build, register
from delete_images.models.model_file import ModelSpec, Preprocessing, load_model, load_spec, save_model
from delete_images.models.spec import spec_from_json, spec_to_json
from delete_tasks.errors import CheckpointMismatchError, MissingExtraError, RequestError, UnsafeCheckpointError

USER_ERRORS = (RequestError, CheckpointMismatchError, UnsafeCheckpointError, FileNotFoundError)
SPEC = ModelSpec("cifar_resnet20", ("ant", "bee", "cat"), Preprocessing.named("imagenet", 32))


@pytest.fixture
def folder(tmp_path):
    return save_model(tmp_path / "model", build("cifar_resnet20", num_classes=3), SPEC)


def change(folder, changes: dict[str, object]) -> None:
    """Set fields of model.json by path; ``...`` deletes one."""

    def apply(content):
        for name, value in changes.items():
            part, _, key = name.rpartition("/")
            place = content[part] if part else content
            if value is ...:
                del place[key]
            else:
                place[key] = value

    edit_json(folder / "model.json", apply)


# The text of model.json, or changes of a valid one -> part of the message.
DESCRIPTIONS: dict[str, tuple[str | dict[str, object], str]] = {
    "empty": ("", "JSON"), "torn": ('{"format": ', "JSON"), "null": ("null", "`null`"), "a list": ("[]", "`array`"),
    "no format": ({"format": None}, "format .*None"), "another format": ({"format": "onnx"}, "format .*'onnx'"),
    "version 2": ({"version": 2}, "version 2"), "version of text": ({"version": "1"}, "version '1'"),
    "an unknown key": ({"clases": []}, "clases"), "an unknown key, long": ({"k" * 10**6: 1}, "kkk"),
    "no architecture": ({"architecture": ""}, "architecture .*''"),
    "an unknown architecture": ({"architecture": "nothing"}, "'nothing'"),
    "an unknown architecture, long": ({"architecture": "x" * 10**6}, "architecture 'xxx"),
    "code as architecture": ({"architecture": "os:system"}, "--allow-import"),
    "dotted code as architecture": ({"architecture": "subprocess.check_call:x"}, "--allow-import"),
    "half code as architecture": ({"architecture": "no_such:"}, "--allow-import"),
    "a number as architecture": ({"architecture": 3}, "architecture .*3"),
    "an unknown timm network": ({"architecture": "timm:nothing"}, "timm"),
    "arguments a list": ({"arguments": [1]}, "arguments"), "unknown argument": ({"arguments": {"speed": 3}}, "speed"),
    "num_classes as argument": ({"arguments": {"num_classes": 3}}, "num_classes"),
    "a depth of a list": ({"arguments": {"depth": []}, "architecture": "wide_resnet"}, "wide_resnet"),
    "an image size beyond 64 bits": ({"arguments": {"image_size": 10**30}, "architecture": "vit_b_16"}, "vit_b_16"),
    "patches of no size": ({"arguments": {"patch_size": 0}, "architecture": "timm:test_vit"}, "test_vit"),
    "fields of a config": ({"arguments": {"hidden_size": []}, "architecture": "transformers:vit"}, "transformers:vit"),
    "an unknown kind": ({"architecture": "transformers:nothing"}, "transformers:nothing"),
    "a fetch": ({"arguments": {"use_pretrained_backbone": True}, "architecture": "transformers:vit"}, "fetch or read"),
    "no classes": ({"classes": ...}, "classes"), "no class": ({"classes": []}, "0 class"),
    "one class": ({"classes": ["a"]}, "1 class"),
    "another number of classes": ({"classes": ["a", "b", "c", "d"]}, "3 outputs .* 4 class names"),
    "a class twice": ({"classes": ["a", "a", "b"]}, "a"),
    "many classes twice": ({"classes": ["a", "b", "a"] * 1000}, "a, b"),
    "numbers as classes": ({"classes": [1, 2, 3]}, r"classes\[0\] is 1"),
    "text as classes": ({"classes": "abc"}, "classes .*'abc'"),
    "half a character": ({"classes": ["a", "b\ud800", "c"]}, r"'b\\ud800'"),
    "preprocessing null": ({"preprocessing": None}, "preprocessing"), "no mean": ({"preprocessing/mean": ...}, "mean"),
    "mean of two": ({"preprocessing/mean": [0, 0]}, "preprocessing.mean .*length 3"),
    "mean beyond floats": ({"preprocessing/mean": [10**400, 0, 0]}, "preprocessing.mean"),
    "std 0": ({"preprocessing/std": [0, 1, 1]}, "preprocessing.std"),
    "std true": ({"preprocessing/std": [True, 1, 1]}, "preprocessing.std"),
    "size 0": ({"preprocessing/size": [0, 3]}, "preprocessing.size"),
    "size huge": ({"preprocessing/size": [100_000, 3]}, "preprocessing.size.* 100000.*8192"),
    "size beyond floats": ({"preprocessing/size": [10**400, 3]}, "preprocessing.size"),
    "channels": ({"preprocessing/channels": "RBG"}, r"preprocessing.channels .*RGB\|BGR"),
    "range": ({"preprocessing/input_range": [1, 0]}, "preprocessing.input_range"),
    "resize": ({"preprocessing/resize": "pad"}, r"preprocessing.resize .*stretch\|crop"),
    "crop 0": ({"preprocessing/crop_fraction": 0}, "preprocessing.crop_fraction"),
    "crop 2": ({"preprocessing/crop_fraction": 2}, "preprocessing.crop_fraction"),
    "extra a list": ({"extra": []}, "extra"), "another digest": ({"weights_sha256": "0" * 64}, "SHA-256"),
    "digest a number": ({"weights_sha256": 3}, "SHA-256|weights_sha256"),
}  # fmt: skip


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_descriptions_refused_with_the_reason(folder, name):
    wrong, fact = DESCRIPTIONS[name]
    if isinstance(wrong, str):
        (folder / "model.json").write_text(wrong, encoding="utf-8")
    else:
        change(folder, wrong)
    with pytest.raises(USER_ERRORS, match=fact) as caught:
        load_model(folder)
    assert len(str(caught.value)) < 2000


def test_an_image_of_one_pixel_has_a_size(folder):
    change(folder, {"preprocessing/size": [1, 1]})
    assert load_model(folder)[0](torch.zeros(1, 3, 1, 1)).shape == (1, 3)


def test_files_that_are_not_descriptions(folder, monkeypatch):
    (folder / "model.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(RequestError, match="JSON"):
        load_model(folder)
    monkeypatch.setattr(spec, "MOST_SPEC", 3)
    with pytest.raises(RequestError, match=r"4 bytes.* 3 "):
        load_spec(folder)


@pytest.mark.parametrize(("architecture", "arguments", "message"), [
    ("vit_b_16", {"image_size": 1_600_000}, "does not fit|head of"),
    ("wide_resnet", {"depth": 10, "width": 100_000}, "does not fit"),
    pytest.param("wide_resnet", {"depth": 6 * 10**7 + 4, "width": 1}, "10000", marks=pytest.mark.long),
])  # fmt: skip
def test_arguments_that_ask_for_memory_are_refused_before_it_is_taken(folder, architecture, arguments, message):
    change(folder, {"architecture": architecture, "arguments": arguments})
    tracemalloc.start()
    with pytest.raises(USER_ERRORS, match=message):
        load_model(folder)
    assert tracemalloc.get_traced_memory()[1] < 200 << 20  # of Python's objects; a tensor that large could not be made
    tracemalloc.stop()


def test_builders_that_read_their_tensors(tmp_path, monkeypatch):
    monkeypatch.setattr("delete_images.models.architectures.registry.ARCHITECTURES", dict(ARCHITECTURES))

    @register("reads")
    def reads(num_classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(int(torch.ones(()).item() * 12), num_classes))

    spec = ModelSpec("reads", SPEC.classes, SPEC.preprocessing)
    model = build("reads", num_classes=3)
    loaded, _ = load_model(save_model(tmp_path, model, spec))
    assert torch.equal(loaded[1].weight, model[1].weight)
    regnet = ModelSpec("regnet_x_400mf", SPEC.classes, SPEC.preprocessing)
    load_model(save_model(tmp_path / "r", build("regnet_x_400mf", num_classes=3), regnet))


WEIGHTS = {
    "empty": lambda data: b"", "half a header": lambda data: data[:30], "torn": lambda data: data[:-100],
    "another byte": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "a header of 2**63 bytes": lambda data: struct.pack("<Q", 2**63) + data[8:],
    "a header of 2**64 bytes": lambda data: b"\xff" * 8 + data[8:],
    "a nested header": lambda data: data[:8] + b"[" * 200 + data[208:],
    "a zip's letters": lambda data: b"PK\x03\x04" + data[4:],
    "a pickle": lambda data: b"\x80\x04cos\nsystem\nX\x01\x00\x00\x00x\x85R.",
}  # fmt: skip


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights(folder, name, digest):
    path = folder / "weights.safetensors"
    path.write_bytes(WEIGHTS[name](path.read_bytes()))
    if not digest:
        change(folder, {"weights_sha256": ...})
        if name == "another byte":
            return
    with pytest.raises(USER_ERRORS, match=r"weights\.safetensors"):
        load_model(folder)


def test_missing_weights(folder):
    path = folder / "weights.safetensors"
    path.unlink()
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match=r"weights\.safetensors"):
            load_model(folder)
        path.mkdir(exist_ok=True)


def test_100_000_class_names_are_read_once():
    content = spec_to_json(SPEC)
    Counted.compared = 0
    content["classes"] = [Counted(f"class {i}") for i in range(1000)]
    assert len(spec_from_json(content, "it").classes) == 1000 and Counted.compared <= 2000
    content["classes"] = [f"class {i}" for i in range(100_000)]
    assert len(spec_from_json(content, "it").classes) == 100_000  # took minutes


def test_a_face_model_loads_by_load_model_alone(tmp_path):
    from delete_faces.network import face_network

    pre = Preprocessing.named("imagenet", 112)
    arguments = {"backbone": "mobilefacenet", "embedding_size": 128, "head": "cosine"}
    spec = ModelSpec("face_network", ("ann", "bob"), pre, arguments)
    save_model(tmp_path, face_network(2, **arguments), spec)
    code = "import sys\nfrom delete_images.models.model_file import load_model\n"
    code += "assert 'delete_faces.network' not in sys.modules\n"
    done = python(code + f"print(type(load_model({str(tmp_path)!r})[0]).__name__)")
    assert done.stdout.strip() == "FaceNetwork", done.stderr


def test_entry_points_without_the_architecture(monkeypatch):
    offered = {"lost": "no_such_module_anywhere", "other": "json"}
    monkeypatch.setattr("delete_tasks.plugins.offered", lambda group: offered)
    with pytest.raises(MissingExtraError, match=r"'lost' .*no_such_module_anywhere"):
        build("lost", num_classes=3)
    with pytest.raises(RequestError, match=r"json.*'other'"):
        build("other", num_classes=3)
