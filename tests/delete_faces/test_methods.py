"""The methods that need the forget set alone, on a person's photos."""

import pytest
from helpers import read_results, run, same_tensors

from delete_images.models.model_file import load_model

METHODS = ("Projection", "BoundaryShrink", "BoundaryExpand", "InfluenceUnlearning", "TREW", "L2UL")


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_it_removes_a_person(method, models, removal, head, tmp_path, publish_anyway):
    steps = 34 if method == "InfluenceUnlearning" else 4
    more = ["--no-record", "--method", method, "--steps", steps]
    run(removal(tmp_path, "--device cpu", more, model=models[head]), status=(0, 4))
    assert read_results(tmp_path)["recipe"]["type"] == method
    erased, _ = load_model(tmp_path / "erased")
    original, _ = load_model(models[head])
    before = original.state_dict()
    after = {f"embedder.{name}": value for name, value in erased.embedder.state_dict().items()}
    assert not same_tensors(after, before), "the embedding itself has changed"


@pytest.mark.parametrize(
    ("method", "fact"),
    [
        pytest.param("SalUn", "SalUn .*retain set", marks=pytest.mark.long),
        ("DeepDELETE", "DeepDELETE .*'faces'"),
    ],
)
def test_methods_that_do_not_fit_are_refused_with_the_reason(method, fact, models, removal, tmp_path, fails):
    fails(fact, removal(tmp_path / "w", "--method", method, model=models["linear"]))
    assert not (tmp_path / "w").exists()
