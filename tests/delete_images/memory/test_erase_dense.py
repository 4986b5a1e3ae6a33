"""erase() on models whose logits have locations: outputs of any form, label maps, padding, layers, figures, refusals."""

import pytest
import torch
import torch.nn.functional as F
from helpers import same_tensors
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from delete_images.memory.dense.evaluate import evaluate
from delete_images.memory.dense.task import DenseModel, MapData, MapSamples
from delete_images.memory.samples import read_samples
from delete_images.models.outputs import at_size, class_layers_of, resize, run
from delete_tasks import erase
from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.losses import conditional_mmd

FAST = dict(classes=[1], steps=12, lr=4e-2)
SIDE = 8


class Net(nn.Module):
    """Logits of four classes, from the colour of each location and a little of its surroundings."""

    def __init__(self, output=lambda logits, aux: logits, conv=nn.Conv2d, kernel: int = 3) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(conv(4, 16, 1), nn.ReLU())
        self.head, self.aux = conv(16, 4, kernel, padding=kernel // 2), conv(16, 4, 1)
        self.output = output

    def forward(self, x):
        hidden = self.body(x)
        return self.output(self.head(hidden), self.aux(hidden))


@pytest.fixture(scope="module")
def scenes() -> tuple[torch.Tensor, torch.Tensor]:
    """Images ``(24, 4, 8, 8)`` of four classes in four quarters, in any order, and their label maps."""
    generator = torch.Generator().manual_seed(0)
    quarters = torch.stack([torch.randperm(4, generator=generator) for _ in range(24)]).view(24, 2, 2)
    labels = quarters.repeat_interleave(SIDE // 2, 1).repeat_interleave(SIDE // 2, 2)
    images = F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    return images + 0.1 * torch.randn(images.shape, generator=generator), labels


@pytest.fixture(scope="module")
def trained(scenes):
    """``trained(output)``: a network trained on the four classes, in eval mode."""
    net, (images, labels) = Net(lambda *both: both), scenes
    optimizer = torch.optim.Adam(net.parameters(), 2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        sum(F.cross_entropy(logits, labels) for logits in net(images)).backward()
        optimizer.step()

    def trained(output=lambda logits, aux: logits) -> Net:
        copy = Net(output)
        copy.load_state_dict(net.state_dict())
        return copy.eval()

    return trained


def mass(logits: torch.Tensor) -> float:
    return logits.softmax(1)[:, 1].mean().item()


OUTPUTS = {
    "tensor": lambda logits, aux: logits,
    "tuple": lambda logits, aux: (logits, aux, logits.mean((2, 3))[:, :3]),
    "out and aux": lambda logits, aux: {"out": logits, "aux": aux},
    "logits of half the size": lambda logits, aux: {"logits": F.avg_pool2d(logits, 2)},
    "log-softmax, larger": lambda logits, aux: F.interpolate(logits.log_softmax(1), scale_factor=2),
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_every_form_of_output_is_unlearned(output, trained, scenes):
    model = trained(output)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    erased = erase(model, TensorDataset(*scenes), **FAST, class_names="abcd")
    figures, rows = erased.figures, erased.figures["rows"]
    assert same_tensors(model.state_dict(), state)
    assert type(erased.model) is Net and not erased.model.training
    assert figures["predicted_as_forgotten"]["before"] > 20 and figures["predicted_as_forgotten"]["with_row"] < 1
    assert list(rows) == ["original", "logit_cut", "erased", "erased_with_original_head"]
    assert rows["original"]["forget_iou"] > 80 and rows["logit_cut"]["forget_iou"] == 0
    assert rows["erased"]["forget_iou"] == 0 and rows["erased"]["others_drop"] < 3
    assert rows["erased_with_original_head"]["forget_iou"] < rows["original"]["forget_iou"]
    assert sum(figures["predicted_as"].values()) == pytest.approx(100, abs=0.1) and "b" not in figures["predicted_as"]
    assert figures["kept"]["same_prediction"] > 97 and figures["locations"] % 24 == 0
    assert "b; predicted so" in repr(erased) and f"of {figures['locations']:,} locations" in repr(erased)


def test_auxiliary_outputs_are_unlearned(trained, scenes):
    model = trained(OUTPUTS["out and aux"])
    erased = erase(model, scenes[0], **FAST)
    assert erased.figures["finished"]["rows_replaced"] == ["head", "aux"] and erased.figures["rows"] is None
    for name in ("head", "aux"):
        assert not getattr(erased.model, name).weight[1].any()
    kept = erase(model, scenes[0], **{**FAST, "steps": 24}, keep_row=True).model
    for name, before in model(scenes[0]).items():
        assert mass(kept(scenes[0])[name]) < mass(before) / 20, name


class WithAuxiliary(Net):
    """As in transformers, the auxiliary head's logits are used only in a loss."""

    def __init__(self, runs_it: bool = True) -> None:
        super().__init__()
        self.auxiliary_head, self.runs_it = self.aux, runs_it

    def forward(self, x):
        hidden = self.body(x)
        if self.runs_it:
            self.auxiliary_head(F.avg_pool2d(hidden, 2))
        return {"logits": self.head(hidden)}


def test_an_auxiliary_head_without_output_is_unlearned(trained, scenes):
    model = WithAuxiliary()
    model.load_state_dict(trained().state_dict(), strict=False)
    erased = erase(model, scenes[0], **FAST, keep_row=True).model
    before, after = (net.aux(net.body(scenes[0])) for net in (model, erased))
    assert mass(after) < mass(before) / 10
    assert not erased.auxiliary_head._forward_hooks
    with pytest.raises(UnsupportedModelError, match=r"auxiliary_head.*delete-tasks segmentation"):
        erase(WithAuxiliary(runs_it=False), scenes[0], **FAST)


def test_without_labels_predictions_select_the_samples(trained, scenes):
    images, labels = scenes[0].clone(), scenes[1].clone()
    covered = (labels[:12] == 1).unsqueeze(1)
    images[:12] = torch.where(covered, torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1, 1), images[:12])
    labels[:12][labels[:12] == 1] = 0
    for data in (images, TensorDataset(images, labels)):
        counts = erase(trained(), data, **FAST).figures["forget_set"]
        assert counts == {"samples": 12, "left_out": {"without class_1": 12}, "measured": 12}
    with pytest.raises(RequestError, match=r"12 images .*class_1"):
        erase(trained(), images[:12], **FAST)
    with pytest.warns(UserWarning, match="retain .*12 images .*class_1"):
        erased = erase(trained(), images[12:], **FAST, retain=images)
    assert erased.figures["retain_set"] == 12 and erased.figures["kept"]["on"] == "the retain set"


def test_void_takes_part_in_the_loss_and_padding_does_not(trained, scenes):
    """Void locations change only the IoU; the content of padding changes nothing."""
    images, labels = scenes[0], scenes[1].clone()
    labels[:, :2] = 0  # as if half of the upper locations were labelled wrong
    void = labels.clone()
    void[:, :2] = 255
    pairs = (TensorDataset(images, maps) for maps in (labels, void.to(torch.uint8)))
    plain, with_void = (erase(trained(), data, **FAST) for data in pairs)
    assert same_tensors(plain.model.state_dict(), with_void.model.state_dict())
    assert plain.figures["locations"] == with_void.figures["locations"] == 24 * SIDE**2
    assert plain.figures["rows"]["original"]["miou"] < 90 < with_void.figures["rows"]["original"]["miou"]

    def padded(fill: float):
        def collate(items):
            kept = torch.ones(len(items), SIDE, SIDE, dtype=torch.long)
            kept[:, 6:] = 0
            batch = torch.stack(items)
            batch[:, :, 7:] = fill  # a 3x3 kernel reads the row between
            return {"pixel_values": batch, "pixel_mask": kept}

        return DataLoader(images, collate_fn=collate)

    with pytest.raises(RequestError, match="pixel_mask"):
        erase(trained(), padded(0.0), **FAST, views=lambda image: image)
    one, other = (erase(trained(), padded(fill), **FAST) for fill in (0.0, 5.0))
    assert one.figures["locations"] == 24 * 6 * SIDE
    assert same_tensors(one.model.state_dict(), other.model.state_dict())


def test_a_batch(scenes):
    """Labels have the logits' size, void is -1, and the retain set's samples come second."""
    images, labels = scenes
    labels = labels.clone()
    labels[0, 0, 0] = 255
    forget = MapSamples.of(read_samples(TensorDataset(images, labels[:, None]), "forget_images"), 4, 2)
    data = MapData(forget, torch.ones(len(forget)), "abcd", [1], forget)
    data.with_labels = True
    batch = data.collate([data[0], data[1]])
    assert batch["inputs"].shape == (4, 4, SIDE, SIDE) and batch["retain"].tolist() == [False, False, True, True]
    assert batch["labels"][0, 0, 0] == -1 and torch.equal(batch["labels"][1], labels[1])
    model = DenseModel(Net(OUTPUTS["logits of half the size"]), 4)
    wanted = F.cross_entropy(model(batch["inputs"]), at_size(batch["labels"], (4, 4)), ignore_index=-1)
    assert torch.allclose(model(**batch, mode="loss")["loss_ce"], wanted)


@pytest.mark.parametrize("method", ["RandomLabel", "NegativeGradient", "HeadOnly", "DELETE"])
def test_other_methods_read_label_maps(method, trained, scenes):
    options = {"masking": "own"} if method == "DELETE" else {}
    lr = 2e-2 if method == "NegativeGradient" else 4e-2
    maps = scenes[1].masked_fill(scenes[1] == 3, 255)
    erased = erase(trained(), TensorDataset(scenes[0], maps), [1], method=method, steps=20, lr=lr, **options)
    assert erased.figures["forget_check"]["still"] < 60
    if method in ("RandomLabel", "DELETE"):
        with pytest.raises(RequestError, match="label maps"):
            erase(trained(), scenes[0], [1], method=method, **options)


def test_features_are_unlearned(trained, scenes):
    """With the second loss, features of a class resemble those of locations with the same target."""
    with torch.no_grad():
        rest = trained()(scenes[0])
    rest[:, 1] = -1e9

    def unlike(likeness: float) -> float:
        options = {"method": "DeepDELETE", "steps": 60, "lr": 2e-2, "likeness": likeness}
        model = erase(trained(), TensorDataset(*scenes), [1], **options).model
        with torch.no_grad():
            parts = (model.body(scenes[0]), rest, scenes[1][:, None])
            features, target, seen = (part.movedim(1, -1).flatten(0, -2) for part in parts)
        return conditional_mmd(features, target.softmax(1), (seen[:, 0] == 1).float()).item()

    assert unlike(10.0) < 0.7 * unlike(0.0)
    with pytest.raises(RequestError, match="public"):
        erase(trained(), TensorDataset(*scenes), [1], method="DeepDELETE", public=scenes[0])


@pytest.mark.parametrize(("conv", "shape"), [(nn.Conv1d, (12, 4, 20)), (nn.Conv3d, (8, 4, 4, 4, 4))])
def test_other_numbers_of_dimensions(conv, shape):
    torch.manual_seed(0)
    images, model = torch.randn(shape), Net(conv=conv)
    model.head.bias.data[1] += 0.5
    labels = model(images).argmax(1)
    figures = erase(model, TensorDataset(images, labels), **FAST).figures
    assert figures["predicted_as_forgotten"]["with_row"] < 5 < figures["predicted_as_forgotten"]["before"]
    assert figures["rows"]["original"]["miou"] == 100 and figures["finished"]["rows_replaced"] == ["head"]


def test_evaluate_on_other_data(trained, scenes):
    model = trained(OUTPUTS["logits of half the size"])
    erased = erase(model, scenes[0], **FAST).model
    rows = evaluate(model, erased, TensorDataset(*scenes), ["b"], class_names="abcd")
    with torch.no_grad():
        predicted = resize(model(scenes[0])["logits"], (SIDE, SIDE)).argmax(1)
    both = [(predicted == i, scenes[1] == i) for i in range(4)]
    ious = [100 * (one & other).sum() / (one | other).sum() for one, other in both]
    assert rows["original"]["forget_iou"] == pytest.approx(float(ious[1]), abs=1e-3)
    assert rows["original"]["miou"] == pytest.approx(float(sum(ious)) / 4, abs=1e-3)
    assert rows["erased"]["forget_iou"] == 0
    with pytest.raises(RequestError, match="label maps"):
        evaluate(model, erased, scenes[0], [1])
    with pytest.raises(UnsupportedModelError, match="classifier"):
        evaluate(nn.Linear(6, 3), nn.Linear(6, 3), torch.zeros(4, 6), [1])


def test_class_layers():
    def added(logits, aux):  # as in LR-ASPP
        return F.interpolate(F.avg_pool2d(logits, 2), scale_factor=2, mode="bilinear") + aux

    images = torch.randn(2, 4, SIDE, SIDE)
    assert class_layers_of(Net(), images, 4) == ["head"]
    assert class_layers_of(Net(OUTPUTS["out and aux"]), images, 4) == ["head", "aux"]
    assert class_layers_of(Net(added), images, 4) == ["head", "aux"]
    inside = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))  # as many channels before the last layer
    assert class_layers_of(inside, images, 4) == ["2"]
    with pytest.raises(UnsupportedModelError, match="4 class logits"):
        class_layers_of(nn.Sequential(Net(), nn.Tanh()), images, 4)
    assert [part.shape[2:] for part in run(Net(lambda a, b: (a, F.avg_pool2d(b, 2))), images, 4)] == [(SIDE, SIDE)] * 2


@pytest.mark.parametrize(("make", "options", "error", "message"), [
    (lambda: Net(lambda a, b: {"logits": a, "pred_boxes": b}), {}, UnsupportedModelError, "Net .*queries"),
    (lambda: nn.Conv2d(4, 1, 1), {}, UnsupportedModelError, r"single output \(C=1\)"),
    (lambda: nn.Sequential(Net(), nn.Softmax(1)), {}, UnsupportedModelError, "probabilities.*activation=None"),
    (lambda: Net(lambda maps, aux: maps.sigmoid()), {}, UnsupportedModelError, "a sigmoid.*activation=None"),
    (lambda: nn.Sequential(Net(), nn.Tanh()), {}, UnsupportedModelError, "keep_row=True"),
    (lambda: Net(lambda maps, aux: (maps, maps.mean((2, 3)))), {}, UnsupportedModelError, "aux_params=None"),
    (Net, {"select": "teacher"}, RequestError, "select"), (Net, {"method": "FineTune"}, RequestError, "retain"),
], ids=["queries", "C=1", "softmax", "sigmoid", "tanh", "image scores", "select", "method"])  # fmt: skip
def test_models_refused_with_the_reason(make, options, error, message, scenes):
    with pytest.raises(error, match=message):
        erase(make(), scenes[0], **FAST, **options)


def test_a_classifier_that_also_returns_maps_is_a_classifier():
    model = Net(lambda maps, aux: (maps.mean((2, 3)), maps))
    figures = erase(model, torch.randn(16, 4, 6, 6), [1], steps=20, lr=3e-2, batch_size=8).figures
    assert "locations" not in figures and figures["masked_mass"]["with_row"] < figures["masked_mass"]["before"]


@pytest.mark.parametrize(("labels", "options", "message"), [
    (lambda maps: maps[:, 0, 0], {}, r"\(2,\) .*\(N, H, W\)"), (lambda maps: maps.float(), {}, "torch.float32"),
    (lambda maps: maps + 3, {}, "6.* 4 classes.* 0 to 3.* 255"),
    (lambda maps: maps, {"masking": "own", "views": lambda image: image}, "label map"),
], ids=["one an image", "float", "too high", "views"])  # fmt: skip
def test_label_maps_refused_with_the_reason(labels, options, message, trained, scenes):
    with pytest.raises(RequestError, match=message):
        erase(trained(), TensorDataset(scenes[0][:2], labels(scenes[1][:2])), **FAST, **options)
