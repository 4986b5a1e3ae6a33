"""facenet-pytorch's InceptionResnetV1: enroll and remove, with a local weights file and without one."""

import pytest
import torch
from helpers import read_results, run, same_tensors

from delete_faces.backbones import build_backbone, load_backbone_weights
from delete_images.models.model_file import load_model

PEOPLE = ("Colin_Powell", "Kofi_Annan", "Tiger_Woods")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A weights file like the published ones: with the classifier over the people it was trained on."""
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
        found = model(torch.zeros(1, 3, 160, 160))
    assert found.shape == (1, 512) and torch.allclose(found.norm(), torch.tensor(1.0))


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, pytest.param(False, marks=pytest.mark.long)])
def test_enroll_and_remove(cut_faces, published, tmp_path, given, capsys):
    faces = cut_faces(tmp_path / "faces", PEOPLE, train=3, test=2, side=160)
    more = ["--weights", published] if given else []
    run("faces enroll --photos", faces, "--aligned --backbone inception_resnet_v1 --out", tmp_path / "m", more)
    assert given or "random weights" in capsys.readouterr().out
    network, spec = load_model(tmp_path / "m")
    assert spec.preprocessing.size == (160, 160) and spec.extra["framing"] == "box"
    assert spec.arguments["embedding_size"] == 512 and network.head.weight.shape == (3, 512)
    run("faces remove --model", tmp_path / "m", "--person", PEOPLE[0], "--photos", faces, "--test", faces,
        "--aligned --force --steps 2 --work-dir", tmp_path / "w")  # fmt: skip
    smaller, left = load_model(tmp_path / "w" / "erased")
    assert left.classes == PEOPLE[1:] and smaller.head.weight.shape == (2, 512)
    before = network.embedder.state_dict()
    moved = {name for name, value in smaller.embedder.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"last_linear.weight", "last_bn.weight"}  # the projection's; a bias of 0 has no direction to lose
    assert read_results(tmp_path / "w")["details"]["held_out"]["photos"] == 6
