"""Runs that forget nothing or exceed a limit: they report it, publish nothing, and end with an exit status of their own."""

import re

import pytest
from harness import is_done, is_refused, long, no_leftovers, no_traceback, some
from helpers import read_json
from kit import PUBLISHED

IDLE = ("--lr", "1e-9", "--steps", "1")  # a run that changes nothing that it predicts


def nothing_published(done, here, task: str) -> None:
    no_traceback(done)
    assert done.code == 4, f"status {done.code}, expected 4: {done}"
    assert not (here.cwd / "W" / PUBLISHED[task]).exists(), "a model was published"
    assert not list((here.cwd / "W").glob("step_*")), "a state of it lies about"
    no_leftovers(here)


@pytest.mark.parametrize("task", long("images", "backdoor"))
def test_a_model_that_predicts_as_before_is_not_published(server, here, kit, task):
    more = ["--directions", "0"] if task == "faces" else []
    argv = [word for word in kit.argv(task, "W", *IDLE, *more) if word != "--force"]
    done = server.run(argv, here)
    nothing_published(done, here, task)
    assert re.search("not forgotten|not cleaned|did not change|as before|predicts", done.output, re.I), done.output
    record = read_json(here.cwd, "W/record.json")
    assert record["models"]["erased"] is None and record["verdict"]["level"] == "red"
    is_done(server.run(["record", "verify", "W"], here))


@pytest.mark.parametrize(
    "more", ["--masking own", "--cfg-options unlearn.masking=own", "--method RandomLabel", "--method NegativeGradient"]
)
def test_masking_own_needs_labels(server, here, kit, more):
    before = here.look()
    data = kit.path("images/data.npz") + "?class=green&label=none"
    argv = kit.argv("images", "W", "--no-record", "--forget", data, *more.split())
    is_refused(server.run(argv, here), here, before, "label")


HIGH = [*(f"{name}=100" for name in ("forget_acc", "remain_drop", "worst_drop", "forget_acc_train", "still_predicted",
                                     "ece_rise")), "nll_rise=1e6"]  # fmt: skip
LIMITS = [
    (["remain_drop=-100", "--fail-on-limit"], 3),
    (["remain_drop=-100"], 0),
    ([*HIGH, "--fail-on-limit"], 0),
]


@pytest.mark.parametrize(("words", "status"), some(LIMITS, fast=1))
def test_limits(server, here, kit, words, status):
    done = server.run(kit.argv("images", "W", "--accept", *words), here)
    no_traceback(done)
    assert done.code == status, f"{done}"
    assert (here.cwd / "W/erased/model.json").exists() and (here.cwd / "W/record.json").exists()
