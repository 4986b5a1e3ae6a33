"""The check at the end of a run looks at poisoned samples alone: forgotten there is the target."""

import pytest

from delete_tasks.runner.unlearn_runner import UnlearnRunner


@pytest.mark.parametrize("trigger_patches", [[], ["--trigger-patches", "0.3"]])
@pytest.mark.parametrize(("rate", "passed"), [("1e-9", False), ("1e-3", True)])
def test_the_target_on_poisoned_samples(rate, passed, trigger_patches, config, files, tmp_path):
    cfg = config(tmp_path / "run", "--retain", files["clean"], "--steps", "15", "--lr", rate, *trigger_patches)
    runner = UnlearnRunner.from_cfg(cfg)
    runner.train()
    found = runner.outcome.forget_check
    batch = runner.train_dataloader.batch_size
    poisoned = len(runner.train_dataloader.dataset)
    assert found["samples"] == found["locations"] == min(poisoned, 8 * batch), "retain samples do not count"
    assert found["before"] == 100, "only samples that the model sends to the target are read"
    assert found["passed"] == passed and (found["still"] < 60) == passed
    # --force has the watch's verdict set aside, not this one.
    assert (runner.outcome.published is not None) == passed
    if not passed:
        assert "nothing" in runner.outcome.withheld
