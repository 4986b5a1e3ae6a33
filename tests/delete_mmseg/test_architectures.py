"""Ten architectures: the class goes from every output, and no parameter is left without a gradient."""

import pytest
import torch
from mmengine.registry import init_default_scope

from delete_mmseg.heads import heads_of, is_class_free
from delete_tasks.losses.masks import forgotten_mass
from delete_tasks.request.config import amp_wrapper
from delete_tasks.runner.unlearn_runner import UnlearnRunner

NAMES = ["fcn", "pspnet", "deeplabv3plus", "fastscnn", "bisenetv2", "cgnet", "pidnet", "ddrnet", "segformer", "stdc"]
EVERY_TIME = ("cgnet", "pidnet", "ddrnet", "segformer")  # one of each kind of head
# Boundary outputs tell of no class; under our loss they have a gradient of zero, so that DDP is content.
CLASS_FREE = {"pidnet": {"decode_head.d_"}, "stdc": {"auxiliary_head.2"}}


def masses(runner, batch):
    """Probability of "car" at every class-logit output of the model on one batch, by output name, in the teacher's mode."""
    model, found = runner.unwrapped_model, {}
    model.eval()
    for module in runner.task.training_flags(model):
        module.training = True
    for point in runner.task.loss_points(model):

        def read(*args, point=point):
            for number, logits in enumerate(point.read(*args).logits):
                found[f"{point.name}.{number}"] = float(forgotten_mass(logits, [13]).mean())
            return {}

        setattr(point.module, point.method, read)
    with torch.no_grad():
        model(**batch, mode="loss")
    for point in runner.task.loss_points(model):
        delattr(point.module, point.method)
    model.train()
    return found


def gradients(model, batch):
    """Names of parameters that get a gradient from the losses of one batch."""
    model.zero_grad()
    losses = model(**batch, mode="loss")
    model.parse_losses(losses)[0].backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name not in EVERY_TIME)) for name in NAMES]
)
def test_forgets_everywhere(name, make_config, tmp_path):
    adam = dict(type="AdamW", lr=1e-3)
    # With the rows, since without them no output would name the class, whatever was learned.
    # Two images are one batch, the same in each step.
    cfg = make_config(name, tmp_path / "run", deterministic=True, images=2, steps=4, optimizer=adam, keep_row=True)
    runner = UnlearnRunner.from_cfg(cfg)
    init_default_scope("mmseg")
    runner.build_train_loop(runner._train_loop)
    loader = runner.build_dataloader(runner._train_dataloader, seed=0)
    model = runner.unwrapped_model
    runner.load_checkpoint(cfg.load_from)
    model.train()
    batch = model.data_preprocessor(next(iter(loader)), training=True)
    stock = gradients(model, batch)

    before = masses(runner, batch)
    runner._has_loaded = False
    seen: dict[str, set[str]] = {}
    swapped = runner.method.before_train

    def after_swap(run):
        swapped(run)
        seen["ours"] = gradients(model, batch)
        model.zero_grad()

    runner.method.before_train = after_swap
    runner.train()
    after = masses(runner, batch)
    assert after.keys() == before.keys() and len(after) >= 1
    for output, mass in after.items():
        assert mass < before[output], f"{output}: {before[output]:.4f} -> {mass:.4f}"
    # Same parameters as under the stock loss; those of boundary outputs among them, with a gradient of zero.
    assert stock <= seen["ours"], sorted(stock - seen["ours"])
    expected = CLASS_FREE.get(name, set())
    free = {head_name for head_name, head in heads_of(model).items() if is_class_free(head)}
    assert free == {item for item in expected if item.startswith("auxiliary")}
    erased = torch.load(tmp_path / "run" / "erased.pth", weights_only=True)
    assert erased["state_dict"].keys() == model.state_dict().keys()


def test_mixed_precision(make_config, tmp_path):
    cfg = make_config("cgnet", tmp_path / "run", steps=3)
    cfg.optim_wrapper = amp_wrapper({**cfg.optim_wrapper, "loss_scale": "dynamic"})
    runner = UnlearnRunner.from_cfg(cfg)
    runner.train()
    assert all(torch.isfinite(value).all() for value in runner.unwrapped_model.state_dict().values())


def test_padding_is_left_out_and_void_is_not(make_config, tmp_path):
    """A network that pads its batch must give the loss of the picture alone."""
    cfg = make_config("cgnet", tmp_path / "run", steps=1)
    cfg.model.data_preprocessor.size = (160, 288)
    runner = UnlearnRunner.from_cfg(cfg)
    runner.build_train_loop(runner._train_loop)
    loader = runner.build_dataloader(runner._train_dataloader, seed=0)
    batch = runner.unwrapped_model.data_preprocessor(next(iter(loader)), training=True)
    point = runner.task.loss_points(runner.unwrapped_model)[0]
    logits = torch.zeros(2, 19, 20, 36)
    valid = point.read(logits, batch["data_samples"]).valid
    assert valid.shape == (2, 160, 288) and int(valid.sum()) == 2 * 128 * 256
    assert valid[:, :128, :256].all()
    void = torch.stack([sample.gt_sem_seg.data[0] for sample in batch["data_samples"]]) == 255
    assert (void & valid).any(), "scenes have void pixels, and those take part"
