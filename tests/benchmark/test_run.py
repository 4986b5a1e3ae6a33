"""Runs of grids: every cell and figure, failing cells, killed processes, and the grids of configs/benchmark."""

import csv
import json
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from images import write_tiny_imagenet
from msgspec.structs import replace

from delete_images.models.model_file import load_model
from delete_tasks.benchmark.cells import claim_root, run_cells, time_left
from delete_tasks.benchmark.grid import CUT, ORIGINAL, Cell, read_grid
from delete_tasks.benchmark.run import finish, open_grid
from delete_tasks.cli import main
from delete_tasks.fileio.checkpoint import load_file

THREE = "{'ours': dict(type='DELETE'), 'cut direction': dict(type='Projection'), 'tuned': dict(type='FineTune')}"


def table(folder):
    """Rows of cells.csv without times."""
    rows = list(csv.DictReader((folder / "cells.csv").read_text().splitlines()))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_time_left():
    """It depends on the cells of the same method, not on references, which are much faster."""
    rest = [Cell("net", "deer", ("deer",), method, {}, 0) for method in ("fast", "unknown")]
    assert time_left({ORIGINAL: [1.0], CUT: [1.0]}, rest, 1.0) is None
    assert time_left({ORIGINAL: [1.0]}, [], 1.0) == 0
    assert time_left({ORIGINAL: [1.0], "fast": [10.0, 20.0], "slow": [45.0]}, rest, 0.5) == 0.5 * (15 + 30)


def test_a_failing_cell_is_named_and_the_others_finish(write_grid, tmp_path, capsys):
    methods = f"{THREE[:-1]}, 'broken': dict(type='SalUn', saliency_steps=5)}}"  # refused when it begins to train
    grid, work = write_grid(methods, "[0]", more="retrained_seeds = [3]"), tmp_path / "w"
    assert main(["benchmark", str(grid), "--work-dir", str(work)]) == 1
    out = capsys.readouterr().out
    assert "FAILED: net, deer, broken, seed 0" in out and "SalUn collects gradients in its first 5 steps" in out
    assert "[6/6]" in out and "left)" in out
    rows = table(work)
    assert [row["method"] for row in rows] == ["original", "logit_cut", "ours", "cut direction", "tuned"]
    by = {row["method"]: row for row in rows}
    assert by["original"]["acc_ft"] == by["original"]["acc_ft"] and float(by["original"]["acc_rt"]) > 80
    assert float(by["logit_cut"]["acc_ft"]) == 0 and float(by["logit_cut"]["acc_rt"]) >= float(by["original"]["acc_rt"])
    assert by["logit_cut"]["linear_probe"] == by["original"]["linear_probe"] != ""
    assert by["ours"]["samples"] == "4" and by["tuned"]["samples"] == "8" and by["tuned"]["retain"] == "True"
    assert by["ours"]["membership_svc"] != "" and by["ours"]["prototypes_5"] != ""
    for name in ("table.md", "table.tex", "seeds.png", "probe.png", "tsne.png"):
        assert (work / name).stat().st_size > 0, name
    assert "Not drawn: by_classes.png" in out
    # Again: nothing that is done is done again, and what failed is tried again.
    before = {path: path.stat().st_mtime_ns for path in work.glob("cells/**/cell.json")}
    assert main(["benchmark", str(grid), "--work-dir", str(work), "--cells-only"]) == 1
    assert before == {path: path.stat().st_mtime_ns for path in work.glob("cells/**/cell.json")}
    assert "5 of 6 cells are done already" in capsys.readouterr().out


def test_ctrl_c_says_how_to_continue(write_grid, tmp_path, capsys, monkeypatch):
    pressed = Mock(side_effect=KeyboardInterrupt("of a run that has words of its own"))
    monkeypatch.setattr("delete_tasks.benchmark.cells.run_cell", pressed)
    assert main(["benchmark", str(write_grid(THREE)), "--work-dir", str(tmp_path / "w")]) == 130
    told = capsys.readouterr().err
    assert "interrupted. 0 of 8 cells are done in" in told and "the same command" in told


def test_missing_networks_and_data_are_refused_before_anything_is_written(write_grid, tmp_path, capsys):
    work = tmp_path / "w"
    words = ["benchmark", str(write_grid(THREE)), "--work-dir", str(work)]
    for change, message in (
        (["classes.deer=['dere']"], "Did you mean 'deer'"),
        (["networks.net.original=nowhere.pth"], "no weights file or model folder at nowhere.pth"),
        (["networks.net.orginal=x"], "unknown field `orginal`"),
        (["data.test=nowhere.npz"], "no data at 'nowhere.npz'"),
        (["task=faces"], "offers no benchmark"),
    ):
        assert main([*words, "--cfg-options", *change]) == 2, change
        assert message in capsys.readouterr().err, change
        assert not work.exists()
    assert main([*words, "--tables-only", "--cells-only"]) == 2
    assert main([*words, "--tables-only"]) == 0 and "cells are not done" in capsys.readouterr().out


def test_missing_networks_are_trained(write_grid, tmp_path, monkeypatch):
    now = time.localtime()
    monkeypatch.setattr(time, "localtime", lambda *_: now)  # all runs begin in one second, and share nothing
    grid, work = write_grid("{'cut direction': dict(type='Projection')}", "[0]"), tmp_path / "w"
    trained = ["networks.net.original=None", "networks.net.train.epochs=1"]
    assert main(["benchmark", str(grid), "--work-dir", str(work), "--cfg-options", *trained]) == 0
    assert [row["method"] for row in table(work)] == ["original", "logit_cut", "retrained", "cut direction"]
    models = {f"{name}{more}" for name in ("net_original", "net_without_deer_seed0") for more in ("", "_training")}
    assert {path.name for path in (work / "models").iterdir() if path.is_dir()} == models


@pytest.mark.long
def test_killed_and_run_again_gives_the_same_table(write_grid, tmp_path, killed):
    grid = str(write_grid(THREE, "[0, 1]"))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(["benchmark", grid, "--work-dir", str(whole)]) == 0
    command = [sys.executable, "-m", "delete_tasks", "benchmark", grid, "--work-dir", str(broken), "--device", "cpu"]
    killed(command, "step_1.pth", 0.5)  # amid a cell
    killed(command, ".cell.json.*.delete-tasks.tmp")  # with half of a cell's figures written
    assert main(["benchmark", grid, "--work-dir", str(broken)]) == 0
    assert table(broken) == table(whole) and len(table(whole)) == 8


@pytest.mark.long
def test_several_processes_share_the_cells(write_grid, tmp_path):
    grid, work = write_grid(THREE, "[0, 1]"), tmp_path / "w"
    assert main(["benchmark", str(grid), "--work-dir", str(work), "--processes", "2"]) == 0
    assert len(table(work)) == 8 and (work / "tsne.png").is_file()


EVERY = ("ResNet-18", "VGG16-BN", "Swin-T", "ViT-S")
PAPER = [*(("paper_cifar10", name) for name in EVERY), ("paper_cifar100", "VGG16-BN"), ("paper_tiny_imagenet", "ViT-S")]


@pytest.mark.long
@pytest.mark.parametrize(("name", "network"), PAPER)
def test_the_papers_grids_run_end_to_end(name, network, repository, few, tmp_path, capsys):
    """A few images a class (three of ten, for membership to be measured) and one step: every cell of a network and a seed, and
    every figure, so that a GPU run cannot fail late."""
    grid = read_grid(repository / "configs" / "benchmark" / f"{name}.py")
    assert set(grid.networks) == set(EVERY)
    path = few(3, 3) if name == "paper_cifar10" else few_of_each(name, tmp_path)
    methods = {}
    for method, options in grid.methods.items():
        first = {"SalUn": "saliency_steps"}.get(options["type"])
        steps = {"steps": 1} if first is None else {"steps": 2, first: 1}
        methods[method] = {**options, **steps, "batch_size": 2}
    described = grid.networks[network]
    networks = {network: {**described, "train": {**described["train"], "epochs": 1}}}
    grid = replace(grid, networks=networks, data=dict.fromkeys(grid.data, path), methods=methods, seeds=[0])
    work = tmp_path / "w"
    source = open_grid(grid, work)
    source.check()
    cells = list(grid.cells(source.has_retrained))
    claim_root(work, {**grid.json(), "originals": dict(source.originals())})
    run_cells(source, cells, work)
    assert finish(cells, work) == 0, capsys.readouterr().out
    rows = table(work)
    assert len(rows) == len(cells) == len(grid.groups) * (3 + len(methods))
    assert "" not in {row["acc_rt"] for row in rows}
    drawn = [file.name for file in work.glob("*.png")]
    for figure in ("tsne", "seeds", "probe"):
        assert sum(file.startswith(figure) for file in drawn) == len(grid.groups), drawn
    assert ("by_classes.png" in drawn) == (len(grid.groups) > 1)


def few_of_each(name, folder):
    """Random images of the grid's kind, two or three training and test images per class."""
    rng = np.random.default_rng(0)
    if name == "paper_tiny_imagenet":
        from PIL import Image

        names = ["n01443537", *(f"n0{2000000 + i}" for i in range(9))]
        draw = lambda name: Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))  # noqa: E731
        return str(write_tiny_imagenet(folder / "tiny", names, 3, 3, draw))
    from delete_images.models.class_names import CIFAR100_CLASSES

    images = rng.integers(0, 256, (200, 32, 32, 3), np.uint8)
    labels = np.repeat(np.arange(100), 2)
    arrays = {f"{key}_{split}": value for split in ("train", "test") for key, value in (("x", images), ("y", labels))}
    np.savez(folder / "c100.npz", classes=np.array(CIFAR100_CLASSES), **arrays)
    return str(folder / "c100.npz")


def test_a_retrained_network_may_be_a_weights_file(repository, shared, tmp_path):
    grid = read_grid(repository / "configs" / "benchmark" / "deer_resnet18.py")
    described = grid.networks["ResNet-18"]
    paths = {key: str(shared / "weights" / Path(described[key]).name) for key in ("original", "retrained")}
    source = open_grid(replace(grid, networks={"ResNet-18": {**described, **paths}}), tmp_path)
    assert source.has_retrained("ResNet-18", ["deer"], 0)
    folder, weights = source._made("ResNet-18", ["deer"], 0), load_file(paths["retrained"])
    assert torch.equal(load_model(folder)[0].fc.weight, weights["fc.weight"].float())


@pytest.mark.parametrize("name", [pytest.param("small_cifar10", marks=pytest.mark.long), "small_cifar100"])
def test_the_small_grids_open(name, repository, monkeypatch, shared, tmp_path):
    monkeypatch.chdir(repository)
    grid = read_grid(repository / "configs" / "benchmark" / f"{name}.py")
    source = open_grid(grid, tmp_path)
    if (repository.parent / "shared").is_dir():
        source.check()
    cells = list(grid.cells(source.has_retrained))
    assert len(cells) >= len(grid.groups) * (2 + len(grid.methods) * len(grid.seeds))
    assert json.dumps(grid.json())
