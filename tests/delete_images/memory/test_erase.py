"""erase() with any module and data: the model passed in does not change."""

import warnings

import pytest
import torch
from helpers import not_finished, python, same_tensors
from torch.utils.data import DataLoader, IterableDataset, Subset, SubsetRandomSampler, TensorDataset
from toys import Body, body

from delete_images.metrics import damage
from delete_images.models.model_file import load_model
from delete_tasks import erase
from delete_tasks.errors import CheckpointMismatchError, FinishedError, RequestError, UnsupportedModelError

FAST = dict(steps=80, batch_size=16, lr=1e-2)
RATE = 3e-4


def falls(figures: dict, factor: float = 5) -> bool:
    mass = figures["masked_mass"]
    return mass["after"] < mass["with_row"] + 1e-4 and mass["with_row"] < mass["before"] / factor


def test_a_real_network_forgets_deer_and_keeps_the_rest(resnet20, read):
    model, spec = load_model(resnet20)
    deer, labels = read("class=deer&limit=256")
    options = dict(steps=12, batch_size=64, lr=RATE, views="none")
    erased = erase(model, TensorDataset(deer, labels), classes=["deer"], class_names=spec.classes, **options)
    figures = erased.figures
    assert figures["predicted_as_forgotten"]["before"] > 95
    assert figures["predicted_as_forgotten"]["with_row"] < 2 and falls(figures, 20)
    assert figures["steps"] == 12 and figures["forget_set"] == {"samples": 256, "left_out": {}, "measured": 256}
    assert 0.1 < figures["finished"]["scale"] < 1  # what the teacher's temperature made of the logits
    assert model.linear.weight[4].any() and not erased.model.linear.weight[4].any()
    assert len(repr(erased)) < 300 and "deer" in repr(erased) and "tensor" not in repr(erased)
    images, labels = read("without=deer&limit=180", "test")
    with torch.no_grad():
        before, after = ((net(images).argmax(1) == labels).float().mean().item() for net in (model, erased.model))
    assert after > before - 0.1, (before, after)


def test_a_run_that_leaves_too_much_warns(resnet20, read):
    model, spec = load_model(resnet20)
    images, labels = read("class=deer,ship&limit=64")
    few = dict(class_names=spec.classes, steps=3, batch_size=32, lr=2e-4, views="plain")
    with pytest.warns(UserWarning, match=r"NOT FORGOTTEN: .* 3, .*0.0002"):
        erased = erase(model, TensorDataset(images, labels), classes=["deer", "ship"], **few)
    assert "NOT FORGOTTEN" in repr(erased) and 5 < erased.figures["forget_check"]["still"] < 95
    assert erased.figures["predicted_as_forgotten"]["after"] == 0, "the class weights are removed nevertheless"


def test_damage_to_the_other_classes_warns(samples):
    model, options = body(), dict(classes=[1], steps=5, batch_size=16)
    with pytest.warns(UserWarning, match=r"OTHERS DAMAGED: 9.*% of .* on images.*than 10\b"):
        ruined = erase(model, samples, lr=10, **options)
    assert "OTHERS DAMAGED" in repr(ruined) and ruined.figures["damaged"] and not ruined.figures["not_forgotten"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fine = erase(model, samples, lr=1e-2, **{**options, "steps": 20})
    assert fine.figures["damaged"] is None and "DAMAGED" not in repr(fine)


@pytest.mark.parametrize(
    ("share", "samples", "warns"), [(67.8, 59, True), (80.0, 59, False), (80.0, 5000, True), (90.0, 10**6, False)]
)
def test_damage_is_significant(share, samples, warns):
    kept = {"same_prediction": share, "samples": samples, "on": "views"}
    assert (damage(kept, {"lr": 1}) is not None) == warns and damage(None, {}) is None


def test_the_model_passed_in_does_not_change(samples):
    model = body()
    model.body[1].eval()
    model.body[0].weight.requires_grad_(False)
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    erased = erase(model, samples, classes=[1], **FAST).model
    handle.remove()
    assert same_tensors(model.state_dict(), state)
    assert all(parameter.grad is None for parameter in (*model.parameters(), *erased.parameters()))
    assert type(erased) is Body and erased is not model
    for net in (model, erased):
        assert {name: module.training for name, module in net.named_modules()} == modes
        assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["body.0.weight"]
        assert not net._forward_pre_hooks and "loss_by_logits" not in vars(net)


def test_init_weights_of_a_network_is_not_called(samples):
    """mmengine's Runner calls it if there is one, as timm's networks have."""

    class WithInit(Body):
        def init_weights(self):
            self.head.reset_parameters()

    torch.manual_seed(3)
    erased = erase(WithInit(), samples, classes=[1], **{**FAST, "steps": 10, "keep_row": True, "match_scale": False})
    assert falls(erased.figures, 1.2)


def test_frozen_layers_and_norm_statistics_stay(samples):
    model = body().eval()
    model.body.requires_grad_(False)
    erased = erase(model, samples, classes=[1], **FAST)
    assert falls(erased.figures) and not erased.model.training
    for name, value in erased.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]) == name.startswith("body."), name


OUTPUTS = {
    "tuple": lambda logits, hidden: (logits, hidden),
    "list": lambda logits, hidden: [hidden, logits],
    "dict": lambda logits, hidden: {"logits": logits, "hidden": hidden},
    "log-softmax": lambda logits, hidden: {"logits": logits.log_softmax(1)},
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_logits_inside_other_outputs(name, samples):
    model = body(output=OUTPUTS[name])
    erased = erase(model, samples, classes=["b"], class_names="abcd", **FAST)
    assert falls(erased.figures)
    if name in ("tuple", "list"):
        with pytest.raises(UnsupportedModelError, match="class_names"):
            erase(model, samples, classes=[1], **FAST)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype, samples):
    model = body().to(dtype)
    erased = erase(model, samples, classes=[1], **FAST)
    assert falls(erased.figures)
    assert {p.dtype for p in erased.model.parameters()} == {dtype}


def test_data_in_every_form(samples):
    """The same samples in any form give the same model."""
    labels = torch.full((64,), 1)
    many = TensorDataset(torch.cat([torch.zeros(64, 6), samples]), torch.cat([0 * labels, labels]))

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(samples)

    def collate(items):
        return {"image": torch.stack([item[0] for item in items]), "label": [int(item[1]) for item in items]}

    forms = [
        samples, list(samples), TensorDataset(samples), TensorDataset(samples, labels), Subset(many, range(64, 128)),
        DataLoader(TensorDataset(samples, labels), batch_size=16, shuffle=True),
        DataLoader(many, batch_size=16, sampler=SubsetRandomSampler(range(64, 128))),
        DataLoader(TensorDataset(samples, labels), batch_size=16, collate_fn=collate),
        DataLoader(Stream(), batch_size=16),
    ]  # fmt: skip
    options = {**FAST, "steps": 3}
    first, *others = (erase(body(), form, classes=[1], **options).model.state_dict() for form in forms)
    for number, other in enumerate(others):
        assert same_tensors(other, first), number


def test_the_batch_size_of_a_loader_is_not_used(samples):
    """The learning rate was chosen for the recipe's batch size."""
    options = dict(classes=[1], steps=40, lr=1e-2)
    one, other = (erase(body(), DataLoader(samples, batch_size=size), **options) for size in (7, 32))
    assert one.figures["unlearn"]["batch_size"] == 128
    assert same_tensors(one.model.state_dict(), other.model.state_dict())


def test_a_retain_set_keeps_predictions(samples):
    torch.manual_seed(5)
    clean = torch.randn(64, 6) + 1
    model = body().eval()
    options = {**FAST, "keep_row": True, "match_scale": False}
    plain, kept = (erase(model, samples, classes=[1], retain=retain, **options) for retain in (None, clean))
    assert falls(kept.figures, 3) and kept.figures["retain_set"] == 64
    with torch.no_grad():
        wanted = model(clean).softmax(1)
        errors = [(result.model(clean).softmax(1) - wanted).abs().mean().item() for result in (plain, kept)]
    assert errors[1] < 0.7 * errors[0]


def test_several_classes_and_own_masking(samples):
    labels = torch.arange(64) % 2
    data = TensorDataset(samples, labels)
    for masking in ("all", "own"):
        result = erase(body(), data, classes=[0, 1], masking=masking, **FAST)
        assert result.figures["unlearn"]["masking"] == masking


def test_seed_and_random_state(samples):
    torch.manual_seed(11)
    wanted = torch.rand(1)
    torch.manual_seed(11)
    calls = (([1], 0), ("#1", 0), ([1], 1))
    one, two, other = (erase(body(), samples, classes=classes, seed=seed, **FAST).model for classes, seed in calls)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    erase(one, samples, classes=[0], **FAST)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(torch.rand(1), wanted)
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_resume_gives_the_same_tensors(samples, tmp_path, pull_the_plug):
    options = {**FAST, "steps": 6, "checkpoint_interval": 1, "keep_states": True}
    whole = erase(body(), samples, classes=[1], **options).model
    with pull_the_plug(after=3):
        erase(body(), samples, classes=[1], work_dir=tmp_path, **options)
    assert (tmp_path / "last_checkpoint").is_file() and not (tmp_path / "erased.pth").exists()
    again = erase(body(), samples, classes=[1], work_dir=tmp_path, resume=True, **options)
    assert same_tensors(whole.state_dict(), again.model.state_dict())
    with pytest.raises(FinishedError, match=r"finished on .*overwrite"):
        erase(body(), samples, classes=[1], work_dir=tmp_path, resume=True, **options)
    not_finished(tmp_path)
    with pytest.raises(CheckpointMismatchError, match=r"the original .*SHA-256"):
        erase(body(bias=0.5), samples, classes=[1], work_dir=tmp_path, resume=True, **options)
    with pytest.raises(RequestError, match="work_dir"):
        erase(body(), samples, classes=[1], resume=True)


def test_importing_the_package_is_quick_and_lazy():
    """It imports no torch until a name is used, and delete_images reads model files without mmengine."""
    heavy = {"mmengine", "mmcv", "mmseg", "cv2", "sklearn", "torchvision", "delete_images"}
    code = "import sys, delete_tasks; assert 'torch' not in sys.modules; delete_tasks.masked_kl_div; "
    done = python(code + f"assert not {heavy} & {{*sys.modules}}")
    assert done.returncode == 0, done.stderr


def test_the_class_of_a_folder_is_found_by_name(samples):
    """The only class of an ImageFolder has label 0."""

    class Folder(TensorDataset):
        classes = ("c",)

    folder = Folder(samples, torch.zeros(len(samples), dtype=torch.long))
    erased = erase(body(), folder, classes=["c"], class_names="abcd", **FAST)
    assert erased.figures["classes"] == ["c"] and falls(erased.figures)
    with pytest.raises(RequestError, match=r"b \(c 64\)"):
        erase(body(), folder, classes=["b"], class_names="abcd", **FAST)


def test_a_run_that_diverges_is_an_error(samples):
    recipe = dict(steps=40, batch_size=16, lr=1000, optimizer={"type": "SGD"}, schedule="constant")
    with pytest.raises(RequestError, match=r"nan .*1000"):
        erase(body(), samples, classes=[1], **recipe)
