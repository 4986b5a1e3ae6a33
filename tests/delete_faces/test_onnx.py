"""Embedders of ONNX files: the same figures as in PyTorch, and the erased one is an ONNX file again."""

import onnxruntime
import pytest
import torch
from helpers import argv, read_results, run, values

from delete_faces.backbones import build_backbone
from delete_faces.gallery.enroll import embed
from delete_faces.onnx_embedder import NAME, read_embedder
from delete_images.data.opening import open_data
from delete_images.models.model_file import load_model
from delete_tasks.errors import UnsupportedModelError

GONE = "Colin_Powell"


def to_onnx(module, path, size) -> None:
    torch.onnx.export(module.eval(), (torch.randn(2, 3, *size),), str(path), dynamo=True, verbose=False,
                      dynamic_shapes=({0: torch.export.Dim("batch")},))  # fmt: skip


def served(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


def test_a_removal_is_that_of_the_torch_model_and_comes_back_as_onnx(models, faces, tmp_path):
    network, spec = load_model(models["cosine"])
    to_onnx(network.embedder, tmp_path / "m.onnx", spec.preprocessing.size)
    store = tmp_path / "store.npz"
    run("faces embed --model", models["cosine"], "--photos", faces, "--aligned --out", store)
    made = {"torch": models["cosine"].parent / "cosine" / "weights.safetensors", "onnx": tmp_path / "m.onnx"}
    torch.save(network.embedder.state_dict(), tmp_path / "w.pt")
    made["torch"] = tmp_path / "w.pt"
    for kind, weights in made.items():
        run("faces import --weights", weights, "--normalization imagenet --gallery", store, "--photos", faces, "--aligned --out",
            tmp_path / kind)  # fmt: skip
        run(argv("faces remove --model", tmp_path / kind, "--person", GONE, "--test", faces, "--audit none --work-dir",
                 tmp_path / f"w_{kind}"), status=(0, 3, 4))  # fmt: skip
    rows = [values(read_results(tmp_path / f"w_{kind}")["rows"]) for kind in made]
    for row in ("original", "erased"):
        assert rows[1][row] == pytest.approx(rows[0][row], abs=0.01)
    held_out = open_data(str(faces), "test", spec.classes)
    first, second = (load_model(tmp_path / f"w_{kind}" / "erased")[0].embedder for kind in made)
    apart = [embed(each, spec, held_out) for each in (first, second)]
    assert (apart[0] - apart[1]).abs().max() <= 1e-4 * apart[0].abs().max()
    images = torch.randn(3, 3, *spec.preprocessing.size)
    with torch.no_grad():
        expected = second(images)
    assert (served(tmp_path / "w_onnx" / "erased" / NAME, images) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_scaled_embeddings_of_inception_resnet(tmp_path):
    torch.manual_seed(0)
    network = build_backbone("inception_resnet_v1").eval()
    to_onnx(network, tmp_path / "i.onnx", (160, 160))
    embedder, arguments, size = read_embedder(str(tmp_path / "i.onnx"))
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        expected, found = network(images), embedder(images)
    assert arguments["unit"] and size == (160, 160) and (found - expected).abs().max() <= 1e-4


def test_refusals(tmp_path):
    (tmp_path / "text.onnx").write_bytes(b"no graph")
    to_onnx(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5), torch.nn.Tanh()),
            tmp_path / "tanh.onnx", (8, 8))  # fmt: skip
    for name, words in (("text", "no ONNX file of an embedder"), ("tanh", "not made by a linear layer")):
        with pytest.raises(UnsupportedModelError, match=words):
            read_embedder(str(tmp_path / f"{name}.onnx"))
