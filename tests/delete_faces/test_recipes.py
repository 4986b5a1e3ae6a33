"""Methods of `faces remove`: default recipes, and methods other than DELETE on a person's photos."""

import pytest
from helpers import read_results, run, same_tensors
from torch import nn

import delete_faces.register  # noqa: F401
from delete_faces.network import CosineHead, FaceNetwork
from delete_faces.remove import _directions, _recipe
from delete_images.models.model_file import load_model

NOTHING = dict.fromkeys(("steps", "batch_size", "teacher_temperature", "stop", "lr"))


@pytest.mark.parametrize(
    ("method", "head", "people", "expected"),
    [
        ("DELETE", CosineHead(4, 3), 1, {"optimizer": {"type": "SGD", "lr": 1e-2}, "schedule": "constant", "steps": 200,
                                         "stop": {"ratio": 0.01, "window": 3}}),
        ("DELETE", nn.Linear(4, 3), 2, {"optimizer": {"type": "SGD", "lr": 2e-1}, "schedule": "constant", "steps": 200,
                                        "stop": {"ratio": 0.03, "window": 3}}),
        ("HeadOnly", CosineHead(4, 3), 2, {"optimizer": {"type": "AdamW", "lr": 1e-2}, "schedule": "cosine", "steps": 200,
                                           "teacher_temperature": 0.25}),
        ("RandomLabel", nn.Linear(4, 3), 2, {"optimizer": {"type": "AdamW", "lr": 1e-4}, "schedule": "cosine", "steps": 60}),
        ("NegativeGradient", nn.Linear(4, 3), 1, {"optimizer": {"type": "AdamW", "lr": 1e-5}, "schedule": "cosine", "steps": 60}),
    ],
)  # fmt: skip
def test_defaults(method, head, people, expected):
    names, network = ["a", "b"][:people], FaceNetwork(nn.Flatten(), head)
    recipe = _recipe({"method": method, **NOTHING}, names, network, 0)
    interval = {"checkpoint_interval": max(25, expected["steps"] // 4)}
    assert recipe == {"type": method, "classes": names, "batch_size": 16, **interval, **expected}
    options = {"steps": 7, "batch_size": 3, "lr": 0.5}
    recipe = _recipe({"method": method, **NOTHING, **options}, names, network, 0)
    assert {**recipe, "lr": recipe["optimizer"]["lr"]}.items() >= options.items()


def test_steps_after_a_projection_are_for_heads_that_still_name_the_person():
    options, network = {"method": "DELETE", **NOTHING}, FaceNetwork(nn.Flatten(), CosineHead(4, 3))
    assert _recipe(options, ["a"], network, 4)["stop"] == {"ratio": 0.5, "window": 3}
    assert _recipe({**options, "stop": 0.1}, ["a"], network, 4)["stop"] == 0.1
    assert [_directions(options, people) for people in (1, 5)] == [4, 2]
    assert _directions({**options, "directions": 0}, 1) == _directions({"method": "RandomLabel"}, 1) == 0
    assert _directions({"method": "RandomLabel", "directions": 3}, 1) == 3


METHODS = ("Projection", "BoundaryShrink", "TREW", "RandomLabel", "NegativeGradient", "HeadOnly")
CAUSES = {"Projection": ["projection"]}


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_a_method_changes_the_embedding(method, models, removal, head, tmp_path, publish_anyway):
    words = removal(tmp_path, "--device cpu --no-record --method", method, "--steps 4", model=models[head])
    run(words, status=(0, 4))
    assert read_results(tmp_path)["recipe"]["type"] == method
    before, after = (load_model(folder)[0].embedder.state_dict() for folder in (models[head], tmp_path / "erased"))
    assert same_tensors(after, before) == (method == "HeadOnly")
    done = read_results(tmp_path)["done"]
    assert [change["by"] for change in done["changes"]][:1] == CAUSES.get(method, ["training"])
    assert bool(done["steps"]) == (method not in CAUSES)


@pytest.mark.parametrize(("method", "fact"), [("SalUn", "retain set"), ("DeepDELETE", "'faces'")])
def test_methods_that_do_not_fit_are_refused_with_the_reason(method, fact, models, removal, tmp_path, fails):
    fails(f"{method} .*{fact}", removal(tmp_path / "w", "--method", method, model=models["linear"]))
    assert not (tmp_path / "w").exists()
