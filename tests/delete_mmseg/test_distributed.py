"""Two processes with half the batch each are one process: losses and weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch

TRAIN = Path(mmseg.__file__).parent / ".mim" / "tools" / "train.py"
STEPS = 20
# The originals here are untrained networks, in which a step that is too long (AdamW's first ones, lr times the gradient's
# sign, always are) starts a chaos that amplifies the last bit of every sum tenfold a step, on any number of processes. So:
# steps that such networks bear, and a check below that they move the weights far more than the processes differ.
RATES = {"cgnet": 1e-4, "stdc": 1e-4, "pidnet": 1e-6}


def launch(config: Path, work_dir: Path, processes: int) -> subprocess.CompletedProcess[str]:
    """Stock train.py on 1 or 2 processes."""
    python = [sys.executable]
    options = []
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        options = ["--launcher", "pytorch"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [*python, str(TRAIN), str(config), "--work-dir", str(work_dir), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def train(config: Path, work_dir: Path, processes: int) -> np.ndarray:
    """The loss of each iteration, averaged over ranks."""
    done = launch(config, work_dir, processes)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = []
    for rank in range(processes):
        lines = (work_dir / f"loss_{rank}.jsonl").read_text().splitlines()
        ranks.append([json.loads(line)[1] for line in lines])
    return np.mean(ranks, axis=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "accumulated"),
    [
        ("cgnet", {}, 1),
        ("pidnet", {}, 1),
        ("stdc", {}, 1),
        ("cgnet", {"readout": 0.1}, 1),
        ("cgnet", {"locations": "forgotten"}, 2),  # two processes with two batches of one are one with one of four
    ],
)
def test_two_processes_are_one(name, options, accumulated, make_config, tmp_path):
    losses = {}
    for processes in (1, 2):
        cfg = make_config(
            name,
            tmp_path / str(processes),
            deterministic=True,
            steps=STEPS,
            batch_size=4 if processes == 1 else 2 // accumulated,
            optimizer=dict(type="SGD", lr=RATES[name]),
            **options,
        )
        cfg.custom_imports.imports = ["delete_mmseg", "processes"]
        cfg.custom_hooks = [dict(type="RecordLossHook")]
        if processes > 1:
            cfg.optim_wrapper.accumulative_counts = accumulated
        cfg.dump(tmp_path / f"{processes}.py")
        losses[processes] = train(tmp_path / f"{processes}.py", tmp_path / str(processes), processes)
    assert (len(losses[1]), len(losses[2])) == (STEPS, STEPS * accumulated)
    if accumulated == 1:
        np.testing.assert_allclose(losses[2], losses[1], rtol=0, atol=1e-4)
    # Not erased.pth: steps as small as these forget nothing, so there may be none.
    one, two = (torch.load(tmp_path / n / "weights_0.pth", weights_only=True) for n in ("1", "2"))
    original = torch.load(tmp_path / f"{name}.pth", weights_only=True)["state_dict"]
    moved = max(float((one[key].double() - original[key].double()).abs().max()) for key in one)
    worst = max(float((one[key].double() - two[key].double()).abs().max()) for key in one)
    print(
        f"{name}: loss differs by {np.abs(losses[2][: len(losses[1])] - losses[1]).max():.1e}, weights by {worst:.1e}, moved by "
        f"{moved:.1e}"
    )
    assert worst <= 1e-5 and worst < moved / 20


@pytest.mark.slow
def test_two_processes_measure_each_image_once(make_config, tmp_path):
    """Three test images for two processes: none is repeated to fill up, and the sums are those of one process."""
    rows = []
    for processes in (1, 2):
        cfg = make_config("cgnet", tmp_path / str(processes), deterministic=True, steps=1, batch_size=2 // processes)
        cfg.unlearn.optimizer = dict(type="SGD", lr=1e-9)  # the networks stay the same to the last pixel
        cfg.test_dataloader.dataset.indices = 3
        cfg.dump(tmp_path / "config.py")
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
        command = [sys.executable, *launch, "-m", "delete_tasks", "segmentation", str(tmp_path / "config.py")]
        command += ["--checkpoint", str(cfg.load_from), "--work-dir", str(tmp_path / str(processes)), "--device", "cpu"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        # One such step forgets nothing, and so the command ends with a status that says so.
        assert (tmp_path / str(processes) / "results.json").is_file(), done.stderr[-3000:]
        rows.append(json.loads((tmp_path / str(processes) / "results.json").read_text())["rows"]["original"])
    assert rows[0] == rows[1] and rows[1]["miou"]["count"] == 3


def test_a_mistake_is_told_by_the_first_process_alone(make_config, tmp_path):
    """What stock train.py does with it is a traceback; of one process."""
    cfg = make_config("cgnet", tmp_path / "run", steps=0)
    cfg.dump(tmp_path / "config.py")
    done = launch(tmp_path / "config.py", tmp_path / "run", 2)
    assert done.returncode != 0
    assert done.stderr.count("unlearn.steps must be a whole number from 1") == 1, done.stderr[-3000:]
    assert not (tmp_path / "run" / "vis_data").exists()
