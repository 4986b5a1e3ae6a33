"""Check at the end of a run on pixels: the predicting head, without padding; heads that drop outputs in eval mode."""

import cv2
import pytest
import torch

from delete_tasks.runner.unlearn_runner import UnlearnRunner

SIZE = (128, 256)  # of the scenes
PADDED = (160, 288)


def maps(network, pictures):
    """Class maps of uint8 RGB pictures (N, 3, H, W), which are padded as in training."""
    batch = network.data_preprocessor({"inputs": list(pictures), "data_samples": None}, False)
    inputs = torch.nn.functional.pad(batch["inputs"], (0, PADDED[1] - SIZE[1], 0, PADDED[0] - SIZE[0]))
    with torch.no_grad():
        return network.eval().encode_decode(inputs, [dict(img_shape=PADDED)])[:, :, : SIZE[0], : SIZE[1]].argmax(1)


@pytest.fixture(scope="module")
def pictures(scenes):
    files = sorted(scenes.glob("leftImg8bit/train/*/*.png"))
    return torch.stack([torch.from_numpy(cv2.imread(str(file)).transpose(2, 0, 1).copy()) for file in files])


@pytest.fixture
def config(make_config, pictures, tmp_path):
    """A run that is to forget the class that an untrained network predicts most."""

    def make(name, **unlearn):
        cfg = make_config(name, tmp_path / "run", deterministic=True, select="teacher", **unlearn)
        cfg.model.data_preprocessor.size = PADDED
        most = maps(UnlearnRunner.from_cfg(cfg).teacher, pictures[:2]).flatten().bincount().argmax()
        cfg.unlearn.classes = [int(most)]
        return cfg

    return make


@pytest.mark.parametrize(
    "name",
    ["cgnet", *(pytest.param(name, marks=pytest.mark.long) for name in ("fcn", "bisenetv2", "ddrnet", "pidnet"))],
)
def test_what_it_says_is_what_the_models_say(name, config, train, pictures):
    runner = train(config(name, steps=3, optimizer=dict(type="AdamW", lr=1e-3)))
    check, (forgotten,) = runner.outcome.forget_check, runner.selection.forget_ids
    assert (check["samples"], check["locations"]) == (10, 10 * SIZE[0] * SIZE[1])
    before, after = (maps(network, pictures) for network in (runner.teacher, runner.unwrapped_model))
    expected = {"before": before == forgotten, "after": after == forgotten, "changed": before != after}
    expected["still"] = expected["after"][before == forgotten]
    for name, locations in expected.items():
        assert check[name] == pytest.approx(100 * float(locations.double().mean()), abs=0.02), name
    assert check["before"] > 5 and check["passed"] and runner.outcome.published is not None


def test_a_model_that_forgot_nothing_is_not_written(config, train, tmp_path):
    runner = train(config("cgnet", steps=2, optimizer=dict(type="SGD", lr=1e-12)))
    assert runner.outcome.forget_check["still"] == 100 and runner.outcome.forget_check["changed"] == 0
    assert "nothing" in runner.outcome.withheld
    assert runner.outcome.published is None and not (tmp_path / "run" / "erased.pth").exists()
