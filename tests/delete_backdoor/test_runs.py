"""Runs by config, resumed runs, the recipes, and the watch's verdicts."""

from dataclasses import replace

import pytest
import torch
from helpers import same_tensors
from mmengine.config import Config
from rich.console import Console

import delete_backdoor.register  # noqa: F401
from delete_backdoor.clean import make_config
from delete_backdoor.metrics import METRICS
from delete_backdoor.recipes import CLEANING
from delete_backdoor.watch import Reading, judge
from delete_images.models.model_file import load_model
from delete_tasks.evaluation import Evaluation, Predictions
from delete_tasks.runner.unlearn_runner import UnlearnRunner

LIMITS = {"to_target": 5.0, "agreement": 90.0, "target_kept": 50.0}


@pytest.mark.parametrize(("reading", "verdict"), [
    (Reading(9, 0.0, 95.0, 90.0), "cleaned"), (Reading(9, 5.0, 90.0, 50.0), "cleaned"),
    (Reading(9, 5.1, 95.0, 90.0), "not cleaned"), (Reading(9, 0.0, 89.9, 90.0), "damaged"),
    (Reading(9, 0.0, 95.0, 10.0), "damaged"), (Reading(9, 99.0, 20.0, 90.0), "damaged"),
    (Reading(9, 0.0, None, None), "damaged"),
])  # fmt: skip
def test_verdicts(reading, verdict):
    assert judge(reading, LIMITS)[0] == verdict


def test_figures_on_numbers_one_can_count():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    original = Predictions(torch.eye(3)[labels], None, labels)
    cleaned = Predictions(torch.eye(3)[torch.tensor([0, 1, 1, 1, 2, 0])], None, labels)
    # The two images of the target itself are not counted, should they be there.
    attacked = Predictions(torch.eye(3)[torch.tensor([0, 0, 0, 1, 2, 1])], None, labels)
    evaluation = Evaluation(METRICS, [0], ("ant", "bee", "cat"))
    evaluation.add("original", {"test": original})
    evaluation.add("erased", {"test": cleaned, "triggered": attacked})
    evaluation.add("untriggered", {"test": cleaned})
    row = evaluation.rows["erased"]
    values = {name: row[name].value for name in ("acc", "target_acc", "asr", "ra", "base", "worst_drop", "acc_drop")}
    assert values == {"acc": 66.67, "target_acc": 50.0, "asr": 25.0, "ra": 50.0, "base": 25.0, "worst_drop": 50.0,
                      "acc_drop": 33.33}  # fmt: skip
    assert row["worst_drop"].of_class == "ant" and (row["acc"].count, row["asr"].count) == (6, 4)
    assert "--trigger" in evaluation.rows["untriggered"]["asr"].note
    # Of the four others, three are right without the trigger and two with it: one lost, none gained.
    assert row["ra_drop"].value == 25.0 and row["ra_drop"].count == 4 and row["ra_drop"].interval[1] > 25
    assert row["ra_drop"].note is None, "a quarter is still sent to the target"
    misled = replace(attacked, logits=torch.eye(3)[torch.tensor([0, 0, 2, 2, 1, 1])])
    evaluation.add("erased", {"test": cleaned, "triggered": misled})
    row = evaluation.rows["erased"]
    assert row["asr"].value == 0 and row["ra_drop"].value == 75.0 and "still misleads" in row["ra_drop"].note
    assert not evaluation.not_measured


def test_the_watch_does_not_move_the_norms_of_a_run_without_a_teacher(config, files, toy, tmp_path):
    """FineTune starts from the network itself, which is in training mode when the watch reads it first."""
    cfg = config(tmp_path / "run", "--retain", files["clean"], "--steps", "1", "--method", "FineTune")
    cfg.unlearn.optimizer.lr = 1e-30
    runner = UnlearnRunner.from_cfg(cfg)
    runner.train()
    now, original = runner.unwrapped_model.network.state_dict(), load_model(toy)[0].state_dict()
    means = [name for name in original if "running" in name]
    assert means and all(torch.equal(now[name], original[name]) for name in means)


MODES = ("strict", "clean", "paste", "IBAU", "InversionDELETE", "restart")


@pytest.mark.parametrize("mode", [pytest.param(m, marks=[pytest.mark.long] * (m in MODES[:2])) for m in MODES])
def test_resumed_is_uninterrupted(files, config, tmp_path, mode, pull_the_plug):
    more = ["--steps", "6"]
    more += [] if mode == "strict" else ["--retain", files["clean"]]
    more += {"paste": ["--paste", "0.3"], "IBAU": ["--method", "IBAU"], "restart": ["--lr", "0.9"]}.get(mode, [])
    more += ["--paste", "0.9", "--method", mode] if mode == "InversionDELETE" else []
    whole = UnlearnRunner.from_cfg(config(tmp_path / "whole", *more)).train().state_dict()
    with pull_the_plug(after=3):
        UnlearnRunner.from_cfg(config(tmp_path / "broken", *more)).train()
    assert not (tmp_path / "broken" / "cleaned").exists()
    runner = UnlearnRunner.from_cfg(config(tmp_path / "broken", *more, "--resume"))
    resumed = runner.train().state_dict()  # not cleaned/: six steps may forget nothing, and then there is none
    assert runner.resumed_from.endswith("step_3.pth")
    assert same_tensors(whole, resumed)


@pytest.mark.parametrize(("rate", "passed", "paste"), [
    ("1e-9", False, []), pytest.param("1e-9", False, ["--paste", "0.3"], marks=pytest.mark.long),
    ("1e-3", True, ["--paste", "0.3"]), pytest.param("1e-3", True, [], marks=pytest.mark.long),
])  # fmt: skip
def test_the_forget_check_reads_poisoned_samples_alone(rate, passed, paste, config, files, tmp_path):
    cfg = config(tmp_path / "run", "--retain", files["clean"], "--steps", "15", "--lr", rate, *paste)
    runner = UnlearnRunner.from_cfg(cfg)
    runner.train()
    check, loader = runner.outcome.forget_check, runner.train_dataloader
    most = min(len(loader.dataset), 8 * loader.batch_size)
    assert check["samples"] == check["locations"] == most, "retain samples do not count"
    assert check["before"] == 100, "only samples that the model assigns to the target are read"
    assert check["passed"] == passed and (check["still"] < 60) == passed
    # --force overrules the watch's verdict, not this one.
    assert (runner.outcome.published is not None) == passed
    if not passed:
        assert "nothing" in runner.outcome.withheld


def test_a_large_network_gets_a_lower_rate(toy, files, options, tmp_path, monkeypatch):
    monkeypatch.setattr("delete_backdoor.clean.count", lambda _: 11_180_000)
    words = ["--model", str(toy), "--poisoned", files["poisoned"], "--target", "#0", "--work-dir", str(tmp_path)]
    for more, rate in (
        (["--retain", files["clean"]], 1.1e-4),
        ([], 5.5e-5),
        (["--retain", files["clean"], "--method", "InversionDELETE"], 5.5e-5),
        (["--lr", "3e-3"], 3e-3),
    ):
        cfg = make_config(None, options([*words, *more]), Console())
        assert cfg.unlearn.optimizer.lr == pytest.approx(rate, rel=0.01)


OWN = {"resnet18": {"lr": 1.1e-4, "steps": 450}}


def test_configs_say_the_recipe(repository):
    paths = sorted((repository / "configs/backdoor").glob("*.py"))
    assert len(paths) == 5
    for path in paths:
        cfg = Config.fromfile(str(path))
        data, unlearn = cfg.train_dataloader.dataset, cfg.unlearn.to_dict()
        assert unlearn["classes"] == [data.target] and data.original == cfg.load_from
        own = next((options for name, options in OWN.items() if name in path.name), {})
        wanted = {**CLEANING["unlearn"], **own}
        assert unlearn["optimizer"] == {"type": "AdamW", "lr": wanted.pop("lr")}
        assert {key: unlearn[key] for key in wanted} == wanted
        of_data = CLEANING["dataset"]
        assert {key: data[key] for key in of_data} == of_data
        assert [dict(hook) for hook in cfg.custom_hooks] == CLEANING["hooks"]


@pytest.mark.slow
def test_a_config_runs_alone_and_under_the_command(repository, shared, options, tmp_path, monkeypatch):
    monkeypatch.setenv("DELETE_TASKS_SHARED", str(shared))
    path = str(repository / "configs/backdoor/vgg_cifar10_ibau-badnets.py")
    cifar = f"cifar10:{shared / 'data' / 'cifar10'}"
    cfg = Config.fromfile(path)
    cfg.train_dataloader.dataset.poisoned = f"{cifar}?without=ship&limit=20"
    cfg.train_dataloader.dataset.retain = f"{cifar}?limit=20&seed=2"
    cfg.unlearn.update(steps=1, batch_size=2)
    cfg.work_dir, cfg.log_level = str(tmp_path / "alone"), "ERROR"
    runner = UnlearnRunner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 1 and runner.outcome.withheld is not None
    assert len(runner.train_dataloader.dataset.dataset.poisoned) == 16
    under = make_config(path, options(["--config", path, "--retain", f"{cifar}?limit=10", "--steps", "7", "--work-dir", "w"]),
                        Console())  # fmt: skip
    assert under.unlearn.steps == 7 and under.unlearn.optimizer.lr == 2e-3 and under.unlearn.batch_size == 1
    assert under.train_dataloader.dataset.trigger == "badnets:size=4,pos=27,27"


def test_an_early_reading_of_little_agreement_lowers_the_rate(config, files, tmp_path):
    """The record says it; a restart comes in the first half alone."""
    cfg = config(tmp_path / "run", "--retain", files["clean"], "--steps", "4", "--lr", "0.9")
    assert cfg.custom_hooks[-1].restart == 85 and cfg.custom_hooks[-1].interval == 1
    runner = UnlearnRunner.from_cfg(cfg)
    runner.train()
    restarts = runner.method.retention.restarts
    assert [restart["step"] for restart in restarts] in ([1], [2], [1, 2]) and restarts[0]["rate"] == pytest.approx(0.3)
    assert restarts[0]["agreement"] < 85
    assert config(tmp_path / "strict").custom_hooks[-1].restart == 0
