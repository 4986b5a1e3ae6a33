"""Classifiers as a task: strict weights without a prefix, configs, selection by the original, kinds of output."""

import numpy as np
import pytest
import torch
from helpers import read_json
from mmengine.config import Config
from torch import nn

from delete_images import register
from delete_images.data.datasets import ImageDataset, collate_images
from delete_images.models.architectures import build
from delete_images.models.classifier import ImageClassifier, class_outputs
from delete_images.models.model_file import Preprocessing, as_spec, load_model, load_spec
from delete_images.models.spec import ModelSpec
from delete_tasks.errors import CheckpointMismatchError, RequestError, UnsupportedModelError
from delete_tasks.fileio.checkpoint import load_file, load_weights
from delete_tasks.runner.unlearn_runner import UnlearnRunner
from delete_tasks.task import neutral_names, task_for

TASK = register.TASK


def test_state_dict_is_the_networks_own(resnet20):
    model = ImageClassifier(spec=str(resnet20))
    assert model.state_dict().keys() == model.network.state_dict().keys()
    load_weights(model, resnet20 / "weights.safetensors")
    assert torch.equal(model.network.linear.weight, load_model(resnet20)[0].linear.weight)
    with pytest.raises(CheckpointMismatchError, match=r"ImageClassifier.*block1"):
        load_weights(ImageClassifier(build("wrn16_1", num_classes=10)), resnet20 / "weights.safetensors")


def test_kinds_of_descriptions(resnet20):
    spec = load_spec(resnet20)
    plain = {name: value for name, value in read_json(resnet20, "model.json").items() if name != "format"}
    for given in (spec, str(resnet20), plain, Config({"spec": plain}).spec):
        assert as_spec(given) == spec
    with pytest.raises(RequestError, match="preprocessing"):
        as_spec({"architecture": "resnet18", "preprocessing": {}})
    with pytest.raises(RequestError, match="one"):
        ImageClassifier()


def test_registered_and_found_and_names_must_fit(resnet20, cifar):
    model = ImageClassifier(spec=str(resnet20))
    assert task_for(model) is TASK
    assert TASK.classifier(model) == ("linear", model.network.linear)
    with pytest.raises(UnsupportedModelError, match="task"):
        task_for(model.network)
    model = ImageClassifier(nn.Linear(6, 4), num_classes=4)
    with pytest.raises(RequestError, match=r"10 classes.* 4"):
        TASK.class_names(model, ImageDataset(f"{cifar}?limit=3", str(resnet20)))


def test_training_flags():
    class Dropping(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, training=self.training)

    class Auxiliary(nn.Module):
        def forward(self, x):
            return (x, x) if self.training else x

    assert TASK.training_flags(ImageClassifier(Dropping())) == []
    assert TASK.training_flags(ImageClassifier(net := Auxiliary())) == [net]


def test_class_outputs():
    logits, features = torch.randn(3, 4), torch.randn(3, 8)
    for output in (logits, (logits, None), [features, logits], {"logits": logits, "loss": torch.tensor(0.0)}):
        assert class_outputs(output, 4)[0] is logits
    assert len(class_outputs((logits, logits.clone()))) == 2
    for output, message in (
        (torch.randn(3), r"\(3,\).*\(N, C\)"),
        (torch.randn(3, 4, 5, 5), "no class logits"),
        (torch.ones(3, 4, dtype=torch.long), "torch.int64"),
        ("logits", "str"),
        (torch.randn(3, 1), r"\(C=1\)"),
    ):
        with pytest.raises(UnsupportedModelError, match=message):
            class_outputs(output)


def test_stock_loss():
    model = ImageClassifier(nn.Linear(6, 4), num_classes=4)
    x, labels = torch.randn(8, 6), torch.randint(0, 4, (8,))
    losses = model(x, labels, mode="loss")
    assert torch.allclose(losses["loss_ce"], nn.functional.cross_entropy(model.network(x), labels))
    with pytest.raises(RequestError, match="label"):
        model(x, mode="loss")


def test_neutral_names():
    assert neutral_names(["ant", "bee", "cat"], [1]) == ["ant", "class_1", "cat"]
    assert neutral_names(["ant", "bee", "class_1"], [1]) == ["ant", "class_1_", "class_1"]


def test_dataset(resnet20, cifar):
    data = ImageDataset(f"{cifar}?limit=6", str(resnet20), retain=f"{cifar}?class=ship&limit=3")
    batch = collate_images([data[0], data[1]])
    assert batch["inputs"].shape == (4, 3, 32, 32)
    assert batch["retain"].tolist() == [False, True] * 2
    assert batch["labels"].tolist()[1::2] == [8, 8]
    torch.manual_seed(0)
    one = data[0]
    torch.manual_seed(0)
    assert torch.equal(one[0]["inputs"], data[0][0]["inputs"])


def test_forget_set_by_label_and_by_the_original(resnet20, cifar):
    data = ImageDataset(f"{cifar}?split=test&limit=120", str(resnet20))
    shown = np.flatnonzero(data.labels == 4).tolist()
    assert data.find_forget_set([4], None, None) == shown
    teacher = ImageClassifier(spec=str(resnet20))
    load_weights(teacher, resnet20 / "weights.safetensors")
    predicted = data.find_forget_set([4], teacher.eval(), None)
    assert len(set(predicted) & set(shown)) >= 0.8 * len(shown)
    data.without_labels()
    assert data.find_forget_set([4], None, None) == list(range(120))  # images without labels are to be forgotten


@pytest.mark.long
def test_the_config_runs(repository, shared, monkeypatch, tmp_path):
    """configs/images with fewer and smaller steps, on the published weights."""
    monkeypatch.setenv("DELETE_TASKS_SHARED", str(shared))
    cfg = Config.fromfile(str(repository / "configs/images/resnet18_cifar10_forget-deer.py"))
    cfg.train_dataloader.dataset.data += "?limit=12"
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    cfg.unlearn.steps, cfg.unlearn.batch_size, cfg.work_dir, cfg.log_level = 2, 4, str(tmp_path), "WARNING"
    runner = UnlearnRunner.from_cfg(cfg)
    runner.train()
    assert runner.selection.forget_set["read"] < runner.selection.forget_set["available"] == 12
    assert runner.method.teacher_temperature == TASK.recipes.teacher_temperature
    network, spec = load_model(tmp_path / "erased")
    assert spec.classes[4] == "class_4" and isinstance(spec, ModelSpec)
    original = load_file(cfg.load_from)
    assert not torch.equal(network.fc.weight, original["fc.weight"].float())
    assert sorted(path.name for path in (tmp_path / "erased").iterdir()) == ["model.json", "weights.safetensors"]


def test_the_erased_model_keeps_the_description_without_the_name(tmp_path, cifar):
    pre = Preprocessing.named("half", 32, channels="BGR")
    spec = ModelSpec("cifar_resnet20", tuple("abcdefghij"), pre, extra={"k": 1})
    data = ImageDataset(f"{cifar}?limit=2&label=c", spec, augment="none")
    model = ImageClassifier(build("cifar_resnet20", num_classes=10))
    published = load_spec(TASK.save_erased(model, spec.classes, [2], data, str(tmp_path / "erased")))
    assert published.classes[2] == "class_2" and published.extra == {"k": 1}
    assert published.preprocessing == spec.preprocessing
