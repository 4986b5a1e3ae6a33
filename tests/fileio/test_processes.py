"""Several processes stop together with one message, wait for the first, and agree on the forget check."""

from pathlib import Path

import pytest
import torch
from helpers import launch, read_json, same_tensors

from delete_tasks.errors import RequestError
from delete_tasks.fileio.processes import first_does, raise_together, together

SCRIPT = Path(__file__).with_name("several_processes.py")


@pytest.fixture
def run(server, tmp_path):
    """``run(case, processes=2)``: the largest exit status of the processes, and what all of them say."""

    def run(case: str, processes: int = 2) -> tuple[int, str]:
        ended = launch(server, tmp_path, processes, script=[SCRIPT, tmp_path / f"run_{processes}", case])
        return max(done.code for done in ended), "".join(done.err for done in ended)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("nan_loss", "nan"),  # on one of them
        pytest.param("broken_sample", "error: sample 3 is broken", marks=pytest.mark.long),  # read by one of them
        pytest.param("unknown_class", "no class 'e'", marks=pytest.mark.long),  # on both
        pytest.param("no_forget_set", "forget set is empty", marks=pytest.mark.long),  # on the first, which selects it
        ("cannot_save", "run': No space left on device ("),  # on the first
        pytest.param("cannot_publish", "run': No space left on device (", marks=pytest.mark.long),
    ],
)
def test_a_mistake_is_reported_once_and_ends_all(case, message, run, tmp_path):
    status, error = run(case)
    assert status > 0 and error.count(message) == 1, error[-4000:]
    for words in ("RuntimeError", "Connection closed", "Timed out"):
        assert words not in error, error[-4000:]
    assert (tmp_path / "run_2").is_dir() and not list((tmp_path / "run_2").glob("erased*"))


@pytest.mark.slow
def test_a_bug_is_raised_where_it_is(run):
    status, error = run("bug_in_a_sample")
    assert status > 0 and error.count("KeyError: 'a bug'") == 1, error[-4000:]


@pytest.mark.long
def test_the_check_at_the_end_is_the_same_on_any_number_of_processes(run, tmp_path):
    """And on each of them: one that published what another withholds would go on alone."""
    outcomes = {}
    for processes in (1, 2):
        status, error = run("fine", processes)
        assert status == 0, error[-4000:]
        for rank in range(processes):
            outcomes[processes, rank] = read_json(tmp_path, f"run_{processes}", f"outcome_{rank}.json")
    assert outcomes[2, 0] == outcomes[2, 1]
    one, two = outcomes[1, 0]["check"], outcomes[2, 0]["check"]
    assert one["samples"] == one["locations"] == 8
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.long
def test_the_others_wait_for_a_selection_that_takes_longer_than_their_timeout(run, tmp_path):
    status, error = run("slow_selection")
    assert status == 0, error[-4000:]
    paths = [tmp_path / "run_2" / f"weights_{rank}.pth" for rank in (0, 1)]
    assert same_tensors(*(torch.load(path, weights_only=True) for path in paths))


def test_one_process_needs_none_of_it():
    raise_together(None)
    with pytest.raises(RequestError, match="mine"):
        raise_together(RequestError("mine"))
    with pytest.raises(KeyError):
        together({}.__getitem__)("missing")
    assert first_does(lambda: 3) == 3
