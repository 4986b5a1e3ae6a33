"""The class weights are removed from every head of the published model, also auxiliary ones; other probabilities stay."""

import pytest
import torch
from helpers import same_tensors
from mmengine.registry import VISBACKENDS
from mmengine.visualization import LocalVisBackend

from delete_tasks.runner.unlearn_runner import UnlearnRunner

CAR = 13
LAYERS = {
    "cgnet": {"decode_head.conv_seg"},
    "fcn": {"decode_head.conv_seg", "auxiliary_head.conv_seg"},
    "pidnet": {"decode_head.conv_seg", "decode_head.p_cls_seg"},
    "bisenetv2": {"decode_head.conv_seg", *(f"auxiliary_head.{i}.conv_seg" for i in range(4))},
}


@pytest.mark.parametrize("name", LAYERS)
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


class _Backend(LocalVisBackend):
    """Another backend than the local one, as TensorBoard's is."""


def test_other_visualization_backends_keep_a_folder_named_after_the_time(make_config, tmp_path):
    VISBACKENDS.register_module(module=_Backend, force=True)
    cfg = make_config("cgnet", tmp_path / "run", images=2, steps=1)
    cfg.visualizer = dict(type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="_Backend")])
    runner = UnlearnRunner.from_cfg(cfg)
    runner.visualizer.add_scalar("loss", 1.0, 1)
    runner.train()
    (folder,) = [path for path in (tmp_path / "run").iterdir() if path.is_dir()]
    assert folder.name == runner.timestamp and (folder / "vis_data").is_dir()
