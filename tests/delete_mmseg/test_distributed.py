"""Two processes with half the batch each are one process: losses and weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from helpers import launch, read_results

TRAIN = Path(mmseg.__file__).parent / ".mim" / "tools" / "train.py"
STEPS, FEWER = 20, 4  # the case that make test runs takes fewer
# The originals here are untrained networks, in which a step that is too long (AdamW's first ones, lr times the gradient's
# sign, always are) starts a chaos that amplifies the last bit of every sum tenfold a step, on any number of processes. So:
# steps that such networks bear, and a check below that they move the weights far more than the processes differ.
RATES = {"cgnet": 1e-4, "stdc": 1e-4, "pidnet": 1e-6}


def train(server, config: Path, work_dir: Path, processes: int) -> np.ndarray:
    """Run stock train.py, and return the loss of each iteration, averaged over ranks."""
    words = [TRAIN, config, "--work-dir", work_dir, *(["--launcher", "pytorch"] if processes > 1 else [])]
    for done in launch(server, work_dir.parent, processes, script=words, path=Path(__file__).parent):
        assert done.code == 0, done.err[-3000:]
    ranks = []
    for rank in range(processes):
        lines = (work_dir / f"loss_{rank}.jsonl").read_text().splitlines()
        ranks.append([json.loads(line)[1] for line in lines])
    return np.mean(ranks, axis=0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "accumulated"), [
    pytest.param("cgnet", {}, 1, marks=pytest.mark.long), pytest.param("pidnet", {}, 1, marks=pytest.mark.long),
    pytest.param("stdc", {}, 1, marks=pytest.mark.long),
    pytest.param("cgnet", {"readout": 0.1}, 1, marks=pytest.mark.long),
    ("cgnet", {"locations": "forgotten"}, 2),  # two processes with two batches of one are one with one of four
])  # fmt: skip
def test_two_processes_are_one(server, name, options, accumulated, make_config, tmp_path):
    losses, steps = {}, FEWER if accumulated > 1 else STEPS
    for processes in (1, 2):
        recipe = dict(steps=steps, batch_size=4 if processes == 1 else 2 // accumulated, **options)
        recipe["optimizer"] = dict(type="SGD", lr=RATES[name])
        cfg = make_config(name, tmp_path / str(processes), deterministic=True, **recipe)
        cfg.custom_imports.imports = ["delete_mmseg", "processes"]
        cfg.custom_hooks = [dict(type="RecordLossHook")]
        if processes > 1:
            cfg.optim_wrapper.accumulative_counts = accumulated
        cfg.dump(tmp_path / f"{processes}.py")
        losses[processes] = train(server, tmp_path / f"{processes}.py", tmp_path / str(processes), processes)
    assert (len(losses[1]), len(losses[2])) == (steps, steps * accumulated)
    if accumulated == 1:
        np.testing.assert_allclose(losses[2], losses[1], rtol=0, atol=1e-4)
    # Not erased.pth: steps as small as these forget nothing, so there may be none.
    one, two = (torch.load(tmp_path / n / "weights_0.pth", weights_only=True) for n in ("1", "2"))
    original = torch.load(tmp_path / f"{name}.pth", weights_only=True)["state_dict"]
    moved = max(float((one[key].double() - original[key].double()).abs().max()) for key in one)
    worst = max(float((one[key].double() - two[key].double()).abs().max()) for key in one)
    assert worst <= 1e-5 and worst < moved / 20, (worst, moved)


@pytest.mark.long
def test_two_processes_measure_each_image_once(server, make_config, tmp_path):
    """Three test images for two processes: none is repeated to fill up, and the sums are those of one process."""
    rows = []
    for processes in (1, 2):
        cfg = make_config("cgnet", tmp_path / str(processes), deterministic=True, steps=1, batch_size=2 // processes)
        cfg.unlearn.optimizer = dict(type="SGD", lr=1e-9)  # the networks stay the same to the last pixel
        cfg.test_dataloader.dataset.indices = 3
        cfg.dump(tmp_path / "config.py")
        command = ["segmentation", tmp_path / "config.py", "--checkpoint", cfg.load_from, "--device", "cpu"]
        done = launch(server, tmp_path, processes, [*command, "--work-dir", tmp_path / str(processes)])
        # One such step forgets nothing, and so the command ends with a status that says so.
        assert (tmp_path / str(processes) / "results.json").is_file(), done[0].err[-3000:]
        rows.append(read_results(tmp_path / str(processes))["rows"]["original"])
    assert rows[0] == rows[1] and rows[1]["miou"]["count"] == 3


@pytest.mark.long  # the fault suite asks the same of each command
def test_a_mistake_is_reported_by_the_first_process_alone(make_config, tmp_path):
    """Stock train.py prints a traceback of one process."""
    cfg = make_config("cgnet", tmp_path / "run", steps=0)
    cfg.dump(tmp_path / "config.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(TRAIN)]
    command += [str(tmp_path / "config.py"), "--work-dir", str(tmp_path / "run"), "--launcher", "pytorch"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode != 0
    assert done.stderr.count("RequestError: unlearn.steps") == 1, done.stderr[-3000:]
    assert not (tmp_path / "run" / "vis_data").exists()
