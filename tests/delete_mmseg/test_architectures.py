"""Ten architectures: the class is unlearned at every output, no parameter is left without a gradient, and the class weights are
removed from every head of the published model."""

import pytest
import torch
from helpers import same_tensors

from delete_tasks.losses.masks import forgotten_mass
from delete_tasks.request.config import set_run

NAMES = ["fcn", "pspnet", "deeplabv3plus", "fastscnn", "bisenetv2", "cgnet", "pidnet", "ddrnet", "segformer", "stdc"]
EVERY_TIME = ("cgnet", "pidnet", "ddrnet", "segformer")  # one of each kind of head
# Boundary outputs tell of no class; under our loss they have a gradient of zero, so that DDP is content.
CLASS_FREE = {"stdc": {"auxiliary_head.2"}}


def masses(runner, batch):
    """Probability of "car" at every class-logit output of the model on one batch, by output name, in the teacher's mode; and the
    names of the heads without such an output."""
    model, points, mass, free = runner.unwrapped_model, runner.task.loss_points(runner.unwrapped_model), {}, set()
    model.eval()
    for module in runner.task.training_flags(model):
        module.training = True
    for point in points:

        def read(*args, point=point):
            inputs = point.read(*args)
            for number, logits in enumerate(inputs.logits):
                mass[f"{point.name}.{number}"] = float(forgotten_mass(logits, [13]).mean())
            if inputs.class_free and not inputs.logits:
                free.add(point.name)
            return {}

        setattr(point.module, point.method, read)
    with torch.no_grad():
        model(**batch, mode="loss")
    for point in points:
        delattr(point.module, point.method)
    model.train()
    return mass, free


def gradients(model, batch):
    """Names of parameters that get a gradient from the losses of one batch."""
    model.zero_grad()
    losses = model(**batch, mode="loss")
    model.parse_losses(losses)[0].backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n not in EVERY_TIME)) for n in NAMES])
def test_forgets_everywhere(name, started, tmp_path):
    # With the class weights, since without them no output would name the class, whatever was learned.
    # Two images are one batch, the same in each step.
    options = dict(deterministic=True, images=2, steps=4, optimizer=dict(type="AdamW", lr=1e-3), keep_row=True)
    runner, batch = started(name, **options)
    model = runner.unwrapped_model.train()
    stock = gradients(model, batch)

    before, free = masses(runner, batch)
    runner._has_loaded = False
    seen: dict[str, set[str]] = {}
    swapped = runner.method.before_train

    def after_swap(run):
        swapped(run)
        seen["ours"] = gradients(model, batch)
        model.zero_grad()

    runner.method.before_train = after_swap
    runner.train()
    after, _ = masses(runner, batch)
    assert after.keys() == before.keys() and len(after) >= 1
    for output, mass in after.items():
        assert mass < before[output], f"{output}: {before[output]:.4f} -> {mass:.4f}"
    # Same parameters as under the stock loss; those of boundary outputs among them, with a gradient of zero.
    assert stock <= seen["ours"], sorted(stock - seen["ours"])
    assert free == CLASS_FREE.get(name, set())
    erased = torch.load(tmp_path / "run" / "erased.pth", weights_only=True)
    assert erased["state_dict"].keys() == model.state_dict().keys()


def test_mixed_precision(make_config, train, tmp_path):
    cfg = make_config("cgnet", tmp_path / "run", steps=3, parts={"optim_wrapper.loss_scale": "dynamic"})
    set_run(cfg, {"work_dir": cfg.work_dir, "amp": True})
    assert all(torch.isfinite(value).all() for value in train(cfg).unwrapped_model.state_dict().values())


def test_padding_is_left_out_and_void_is_not(started):
    """A network that pads its batch must give the loss of the picture alone."""
    runner, batch = started("cgnet", parts={"model.data_preprocessor.size": (160, 288)})
    point = runner.task.loss_points(runner.unwrapped_model)[0]
    logits = torch.zeros(2, 19, 20, 36)
    valid = point.read(logits, batch["data_samples"]).valid
    assert valid.shape == (2, 160, 288) and int(valid.sum()) == 2 * 128 * 256
    assert valid[:, :128, :256].all()
    void = torch.stack([sample.gt_sem_seg.data[0] for sample in batch["data_samples"]]) == 255
    assert (void & valid).any(), "scenes have void pixels, and those take part"


CAR = 13
LAYERS = {
    "cgnet": {"decode_head.conv_seg"},
    "fcn": {"decode_head.conv_seg", "auxiliary_head.conv_seg"},
    "pidnet": {"decode_head.conv_seg", "decode_head.p_cls_seg"},
    "bisenetv2": {"decode_head.conv_seg", *(f"auxiliary_head.{i}.conv_seg" for i in range(4))},
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n == "bisenetv2")) for n in LAYERS])
def test_class_weights_leave_every_head(name, started):
    runner, batch = started(name, deterministic=True, images=2, steps=1)
    model, task = runner.unwrapped_model.eval(), runner.task
    task.classifier(model)[1].bias.data[CAR] += 9  # a new network predicts no car
    with torch.no_grad():
        before = model(batch["inputs"])
        runner.finish()
        after = model(batch["inputs"])
    assert LAYERS[name] == {layer.name for layer in task.class_layers(model)}
    assert LAYERS[name] == set(runner.outcome.finished["rows_replaced"])
    for layer in task.class_layers(model):
        assert not layer.module.weight[CAR].any()
    others = [i for i in range(before.shape[1]) if i != CAR]
    assert torch.allclose(before[:, others].softmax(1), after[:, others].softmax(1), atol=1e-4)
    assert (before.argmax(1) == CAR).any() and not (after.argmax(1) == CAR).any()
    once = {key: value.clone() for key, value in model.state_dict().items()}
    runner.finish()  # a second call changes nothing
    assert same_tensors(once, model.state_dict())


@pytest.mark.parametrize("keep_row", [False, True])
def test_states_are_kept_as_they_were_and_the_published_model_is_not(keep_row, train, tmp_path):
    train("cgnet", images=2, steps=1, keep_row=keep_row, keep_states=True)
    states = [torch.load(tmp_path / "run" / f"{name}.pth", weights_only=True) for name in ("step_1", "erased")]
    state, erased = (one["state_dict"]["decode_head.conv_seg.weight"][CAR] for one in states)
    assert state.any() and bool(erased.any()) == keep_row
