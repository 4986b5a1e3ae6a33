"""Methods other than DELETE, which need the forget set alone, on a person's photos."""

import pytest
from helpers import read_results, run, same_tensors

from delete_images.models.model_file import load_model

METHODS = ("Projection", "BoundaryShrink", "BoundaryExpand", "InfluenceUnlearning", "TREW", "L2UL")


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_a_method_changes_the_embedding(method, models, removal, head, tmp_path, publish_anyway):
    steps = 34 if method == "InfluenceUnlearning" else 4
    run(
        removal(tmp_path, "--device cpu --no-record --method", method, "--steps", steps, model=models[head]),
        status=(0, 4),
    )
    assert read_results(tmp_path)["recipe"]["type"] == method
    before, after = (load_model(folder)[0].embedder.state_dict() for folder in (models[head], tmp_path / "erased"))
    assert not same_tensors(after, before)


@pytest.mark.parametrize(("method", "fact"), [("SalUn", "retain set"), ("DeepDELETE", "'faces'")])
def test_methods_that_do_not_fit_are_refused_with_the_reason(method, fact, models, removal, tmp_path, fails):
    fails(f"{method} .*{fact}", removal(tmp_path / "w", "--method", method, model=models["linear"]))
    assert not (tmp_path / "w").exists()
