"""Embedders and heads: published files load strictly, rows come out whole."""

import pytest
import torch
import torch.nn.functional as F
from helpers import read_results, run, same_tensors
from torch import nn

from delete_faces.backbones import MobileFaceNet, build_backbone, load_backbone_weights
from delete_faces.gallery.enroll import embed
from delete_faces.network import CosineHead, FaceNetwork, build_head, describe_network, remove_people, without_classes
from delete_faces.projection import embedding_layers
from delete_faces.task import FaceClassifier
from delete_images.data.opening import open_data
from delete_images.models.model_file import ModelSpec, load_model, save_model
from delete_images.models.spec import Preprocessing
from delete_tasks.errors import CheckpointMismatchError, RequestError
from delete_tasks.fileio.checkpoint import load_file

SPEC = ModelSpec("face_network", ("ann", "bob", "cid"), Preprocessing.named("imagenet", 112))


def test_mobilefacenet_loads_strictly(weights, tmp_path):
    model = MobileFaceNet()
    load_backbone_weights(model, "mobilefacenet", weights)
    assert sum(parameter.numel() for parameter in model.parameters()) == 999_936
    state = load_file(weights)
    assert same_tensors(model.state_dict(), state)
    del state["conv3.bias"]
    torch.save(state, tmp_path / "short.pt")
    with pytest.raises(CheckpointMismatchError, match=r"missing: conv3\.bias"):
        load_backbone_weights(model, "mobilefacenet", tmp_path / "short.pt")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_backbone_weights(model, "mobilefacenet", tmp_path / "nowhere.pt")


def test_mobilefacenet_knows_people(faces, models):
    """The same person's photos are closer than any two people's."""
    network, spec = load_model(models["cosine"])
    data = open_data(str(faces), "test")
    unit = F.normalize(embed(network.embedder, spec.preprocessing, data))
    own = torch.tensor(data.labels)[:, None] == torch.tensor(data.labels)
    scores = unit @ unit.T
    assert scores[own].median() > 0.5 and scores[~own].max() < 0.6 and scores[~own].mean() < 0.15


def test_cosine_head():
    head = CosineHead(2, 2, scale=10.0)
    head.weight.data = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    logits = head(torch.tensor([[3.0, 4.0]]))
    assert torch.allclose(logits, torch.tensor([[6.0, 8.0]]))
    assert torch.allclose(head.scores(logits), torch.tensor([[0.6, 0.8]]))


def test_held_length_changes_the_gradient_alone():
    """Along its person's weights an embedding's gradient is zero through the scaling to length 1, unless its length is held."""
    head = CosineHead(2, 2, scale=10.0)
    head.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for head.hold_length, gradient in ((False, [[0.0, 0.0]]), (True, [[5.0, 0.0]])):
        embedding = torch.tensor([[2.0, 0.0]], requires_grad=True)
        logits = head(embedding)
        logits[0, 0].backward()
        assert torch.equal(logits, torch.tensor([[10.0, 0.0]]))
        assert torch.allclose(embedding.grad, torch.tensor(gradient))


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_without_classes(kind):
    head = build_head(kind, 4, 5)
    smaller = without_classes(head, [1, 3])
    assert torch.equal(smaller.weight, head.weight[[0, 2, 4]]) and head.weight.shape == (5, 4)
    assert smaller.weight.untyped_storage().nbytes() == 3 * 4 * 4  # no view on the whole matrix
    embeddings = torch.randn(2, 4)
    assert torch.allclose(smaller(embeddings), head(embeddings)[:, [0, 2, 4]])
    with pytest.raises(RequestError, match="leaves 1"):
        without_classes(head, [0, 1, 2, 3])


@pytest.mark.parametrize(("kind", "scale", "fact"), [
    ("arc", None, "'arc'.* linear, cosine"), ("linear", 30.0, "scale"), ("cosine", 0.0, "above 0"),
])  # fmt: skip
def test_head_refusals(kind, scale, fact):
    with pytest.raises(RequestError, match=fact):
        build_head(kind, 4, 5, scale)


def test_remove_people_shares_the_embedder():
    network = FaceNetwork(nn.Linear(4, 4), build_head("linear", 4, 3))
    spec = ModelSpec("face_network", SPEC.classes, SPEC.preprocessing, {"backbone": "x", "head": "linear"})
    smaller, described = remove_people(network, spec, [1])
    assert described.classes == ("ann", "cid") and smaller.embedder is network.embedder
    assert spec.classes == ("ann", "bob", "cid") and network.head.weight.shape == (3, 4)


@pytest.mark.parametrize(("name", "size", "arguments", "fact"), [
    ("mobilfacenet", None, None, "'mobilfacenet'.* mobilefacenet"), ("somewhere:Net", None, None, "code"),
    ("mobilefacenet", None, {"depth": 3}, "embedding_size"), ("inception_resnet_v1", 128, None, "512 .* 128"),
])  # fmt: skip
def test_backbone_refusals(name, size, arguments, fact):
    with pytest.raises(RequestError, match=fact):
        build_backbone(name, size, arguments)


def test_imported_embedder_asks_before_its_code_runs(tmp_path):
    path, arguments = "delete_faces.backbones:MobileFaceNet", {"embedding_size": 5}
    embedder = build_backbone(path, None, arguments, allow_import=True)
    described = {"backbone": path, "embedding_size": 5, "head": "cosine", "backbone_arguments": arguments}
    spec = describe_network(ModelSpec("", SPEC.classes, SPEC.preprocessing, described))
    save_model(tmp_path / "m", FaceNetwork(embedder, build_head("cosine", 5, 3)), spec)
    with pytest.raises(RequestError, match="--allow-import"):
        load_model(tmp_path / "m")
    save_model(tmp_path / "m", *remove_people(*load_model(tmp_path / "m", allow_import=True), [0]))
    assert load_model(tmp_path / "m", allow_import=True)[1].classes == ("bob", "cid")


def test_what_trains():
    network = FaceNetwork(MobileFaceNet(), CosineHead(128, 3))
    assert embedding_layers(network.embedder) == [network.embedder.conv3, network.embedder.bn]
    model = FaceClassifier(network=network, num_classes=3)
    moving = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert moving == {f"embedder.{name}" for name in ("conv3.weight", "conv3.bias", "bn.weight", "bn.bias")}
    assert model.task == "faces" and network.head.hold_length
    with pytest.raises(RequestError, match="embedding, embedder, all"):
        FaceClassifier(network=network, num_classes=3, trained="head")
    with pytest.raises(RequestError, match="identity head"):
        FaceClassifier(network=nn.Linear(3, 3), num_classes=3)


# InceptionResnetV1 of facenet-pytorch --------------------------------------------------------------------------------

SOME = ("Colin_Powell", "Kofi_Annan", "Tiger_Woods")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A weights file like the published ones, with the classifier over the people that it was trained on."""
    torch.manual_seed(0)
    state = build_backbone("inception_resnet_v1").state_dict()
    state |= {"logits.weight": torch.zeros(8631, 512), "logits.bias": torch.zeros(8631)}
    path = tmp_path_factory.mktemp("inception") / "20180402-114759-vggface2.pt"
    torch.save(state, path)
    return path


def test_local_weights_load_strictly(published):
    model = build_backbone("inception_resnet_v1")
    load_backbone_weights(model, "inception_resnet_v1", published)
    assert same_tensors(model.state_dict(), torch.load(published, weights_only=True))
    model.eval()
    with torch.no_grad():
        embedding = model(torch.zeros(1, 3, 160, 160))
    assert embedding.shape == (1, 512) and torch.allclose(embedding.norm(), torch.tensor(1.0))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("given", [True, False])
def test_enroll_and_remove(cut_faces, published, tmp_path, given, capsys):
    faces = cut_faces(tmp_path / "faces", SOME, train=3, test=2, side=160)
    more = ["--weights", published] if given else []
    run("faces enroll --photos", faces, "--aligned --backbone inception_resnet_v1 --out", tmp_path / "m", more)
    assert given or "random weights" in capsys.readouterr().out
    network, spec = load_model(tmp_path / "m")
    assert spec.preprocessing.size == (160, 160) and spec.extra["framing"] == "box"
    assert spec.arguments["embedding_size"] == 512 and network.head.weight.shape == (3, 512)
    # Random weights assign no photo to the person, so the run forgets nothing and is withheld.
    run("faces remove --model", tmp_path / "m", "--person", SOME[0], "--photos", faces, "--test", faces,
        "--aligned --force --steps 2 --audit none --no-record --work-dir", tmp_path / "w", status=0 if given else 4)  # fmt: skip
    if not given:
        assert "predicts the classes nowhere" in capsys.readouterr().out and not (tmp_path / "w/erased").exists()
        return
    smaller, left = load_model(tmp_path / "w" / "erased")
    assert left.classes == SOME[1:] and smaller.head.weight.shape == (2, 512)
    before = network.embedder.state_dict()
    moved = {name for name, value in smaller.embedder.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"last_linear.weight", "last_bn.weight"}  # the projection's; a bias of 0 has no direction to lose
    assert read_results(tmp_path / "w")["details"]["held_out"]["photos"] == 6
