"""Embedders in ONNX files: imported, removed from, and written as ONNX files again."""

import numpy as np
import onnx
import pytest
import torch
from helpers import read_results, run
from torch import nn

from delete_faces.backbones import backbone_defaults, build_backbone, load_backbone_weights
from delete_faces.onnx_embedder import open_session, read_onnx
from delete_faces.onnx_embedder import run as infer
from delete_images.data.opening import open_data
from delete_images.data.transforms import eval_transform
from delete_images.models.model_file import load_model
from delete_tasks.errors import RequestError

GONE = "Colin_Powell"
SIZES = {"mobilefacenet": 112, "inception_resnet_v1": 160}


def write(network: nn.Module, path, size=112, batch=2):
    """Export a network as others do, with a batch of any size (or one)."""
    shapes = None if batch == 1 else ({0: torch.export.Dim("batch")},)
    example = (torch.randn(batch, 3, size, size),)
    torch.onnx.export(network.eval(), example, dynamo=True, dynamic_shapes=shapes, verbose=False).save(path)
    return path


@pytest.fixture(scope="module", params=["mobilefacenet", pytest.param("inception_resnet_v1", marks=pytest.mark.long)])
def file(request, weights, faces, tmp_path_factory):
    """MobileFaceNet with its weights, or InceptionResnetV1 with random ones: its name, itself, and its .onnx. Norms of the latter
    have seen faces: else all embeddings are nearly alike, and rounding decides what is left of them."""
    torch.manual_seed(0)
    network = build_backbone(request.param)
    if request.param == "mobilefacenet":
        load_backbone_weights(network, request.param, weights)
    else:
        transform = eval_transform(backbone_defaults(request.param).preprocessing)
        photos = open_data(str(faces), "train").mapped(transform)
        batch = torch.stack([photos[i][0] for i in range(0, 40, 2)])
        with torch.no_grad():
            for _ in range(12):
                network.train()(batch)
    path = tmp_path_factory.mktemp("onnx") / f"{request.param}.onnx"
    return request.param, network, write(network, path, SIZES[request.param])


def test_embeddings_are_the_files(file):
    name, network, path = file
    embedder, size = read_onnx(str(path))
    assert size == (SIZES[name], SIZES[name])
    faces = torch.randn(3, 3, *size)
    with torch.no_grad():
        expected, found = network(faces), embedder(faces)
    again = infer(open_session(embedder.whole().SerializeToString()), faces.numpy())
    for other in (found, torch.from_numpy(again)):
        assert (other - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_removal_is_that_of_the_network_and_comes_back_as_a_file(file, models, faces, tmp_path):
    (name, network, path), model, store = file, models["cosine"], tmp_path / "store.npz"
    torch.save(network.state_dict(), tmp_path / "network.pt")
    if name != "mobilefacenet":
        model, made_of = tmp_path / "model", ["--weights", tmp_path / "network.pt", "--backbone", name]
        run("faces enroll --photos", faces, "--aligned --out", model, made_of)
    run("faces embed --model", model, "--photos", faces, "--aligned --out", store)
    words = {"mobilefacenet": "--normalization imagenet"}.get(name, "")
    kinds, figures = {"pt": tmp_path / "network.pt", "onnx": f"{path} {words}"}, {}
    for kind, weights in kinds.items():
        run("faces import --weights", weights, "--backbone", name, "--gallery", store, "--out", tmp_path / kind)
        request = f"--person {GONE} --from-templates {store} --aligned --force --test {faces} --audit none"
        run("faces remove --model", tmp_path / kind, request, "--work-dir", tmp_path / f"w{kind}", status=(0, 3, 4))
        figures[kind] = read_results(tmp_path / f"w{kind}")["rows"]
    for row in figures["pt"]:
        one, other = ({name: cell["value"] for name, cell in figures[kind][row].items()} for kind in ("pt", "onnx"))
        assert other == pytest.approx(one, abs=1e-4, nan_ok=True)
    run("export", tmp_path / "wonnx", "--onnx", tmp_path / "erased.onnx")
    written, given = (onnx.load(str(each)) for each in (tmp_path / "erased.onnx", path))
    ends = [[(end.name, end.type) for end in (*each.graph.input, *each.graph.output)] for each in (written, given)]
    assert ends[0] == ends[1]
    erased = load_model(tmp_path / "wpt" / "erased")[0].embedder.eval()
    inputs = torch.randn(4, 3, SIZES[name], SIZES[name])
    with torch.no_grad():
        expected = erased(inputs).numpy()
    found = infer(open_session(written.SerializeToString()), inputs.numpy())
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_refusals(tmp_path):
    torch.manual_seed(0)
    body = [nn.Flatten(), nn.Linear(48, 8)]
    path = write(nn.Sequential(*body, nn.Tanh()), tmp_path / "tanh.onnx", 4)
    with pytest.raises(RequestError, match="must end in a linear map"):
        read_onnx(str(path))
    (tmp_path / "torn.onnx").write_bytes(path.read_bytes()[:200])
    with pytest.raises(RequestError, match="cannot be read as an ONNX file"):
        read_onnx(str(tmp_path / "torn.onnx"))
    fixed = write(nn.Sequential(*body, nn.BatchNorm1d(8)), tmp_path / "one.onnx", 4, batch=1)
    embedder, size = read_onnx(str(fixed))
    assert size == (4, 4) and embedder(torch.randn(3, 3, 4, 4)).shape == (3, 8)
