"""Several processes stop together with one message, wait for the first, and agree on the forget check."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import read_json, same_tensors

from delete_tasks.errors import RequestError
from delete_tasks.fileio.processes import first_does, raise_together, together

SCRIPT = Path(__file__).with_name("several_processes.py")


def run(case: str, folder: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    (folder / case).mkdir(parents=True)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words += [str(SCRIPT), str(folder / case / "run"), case]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "message"), [
    pytest.param("nan_loss", "nan", marks=pytest.mark.long),  # on one of them
    pytest.param("broken_sample", "error: sample 3 is broken", marks=pytest.mark.long),  # read by one of them
    pytest.param("unknown_class", "no class 'e'", marks=pytest.mark.long),  # on both
    pytest.param("no_forget_set", "forget set is empty", marks=pytest.mark.long),  # on the first, which selects it
    ("cannot_save", "run': No space left on device ("),  # on the first
    pytest.param("cannot_publish", "run': No space left on device (", marks=pytest.mark.long),
])  # fmt: skip
def test_a_mistake_is_reported_once_and_ends_all(case, message, tmp_path):
    done = run(case, tmp_path)
    assert done.returncode != 0
    assert done.stderr.count(message) == 1, done.stderr[-4000:]
    for words in ("RuntimeError", "Connection closed", "Timed out"):
        assert words not in done.stderr, done.stderr[-4000:]
    assert not list((tmp_path / case / "run").glob("erased*"))


@pytest.mark.slow
@pytest.mark.long
def test_a_bug_is_raised_where_it_is(tmp_path):
    done = run("bug_in_a_sample", tmp_path)
    assert done.returncode != 0 and done.stderr.count("KeyError: 'a bug'") == 1, done.stderr[-4000:]


@pytest.mark.long
@pytest.mark.slow
def test_the_check_at_the_end_is_the_same_on_any_number_of_processes(tmp_path):
    """And on each of them: one that published what another withholds would go on alone."""
    outcomes = {}
    for processes in (1, 2):
        done = run("fine", tmp_path / str(processes), processes)
        assert done.returncode == 0, done.stderr[-4000:]
        for rank in range(processes):
            path = tmp_path / str(processes) / "fine" / "run" / f"outcome_{rank}.json"
            outcomes[processes, rank] = read_json(path)
    assert outcomes[2, 0] == outcomes[2, 1]
    one, two = outcomes[1, 0]["check"], outcomes[2, 0]["check"]
    assert one["samples"] == one["locations"] == 8
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.slow
@pytest.mark.long
def test_the_others_wait_for_a_selection_that_takes_longer_than_their_timeout(tmp_path):
    done = run("slow_selection", tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    paths = [tmp_path / "slow_selection" / "run" / f"weights_{rank}.pth" for rank in (0, 1)]
    assert same_tensors(*(torch.load(path, weights_only=True) for path in paths))


def test_one_process_needs_none_of_it():
    raise_together(None)
    with pytest.raises(RequestError, match="mine"):
        raise_together(RequestError("mine"))
    with pytest.raises(KeyError):
        together({}.__getitem__)("missing")
    assert first_does(lambda: 3) == 3
