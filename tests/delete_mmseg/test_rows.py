"""The class weights are removed from every head of the published model, also auxiliary ones; other probabilities stay."""

import pytest
import torch
from helpers import same_tensors

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
