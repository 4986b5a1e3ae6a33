"""erase() inside somebody's process: nothing of the model on disk, nothing changed beside it."""

import signal
import textwrap

import pytest
from helpers import python

START = """
import os, sys, signal, torch
from torch import nn
from delete_tasks import erase

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
model[0].weight.data[:, 0] = torch.arange(16) + 12345.0
samples = torch.randn(64, 6)
options = dict(classes=[1], batch_size=16, lr=1e-2)
"""


def run(code: str, status: int = 0, **environment: str) -> str:
    """Run code in an interpreter of its own; what it prints."""
    done = python(START + textwrap.dedent(code), **environment)
    assert done.returncode == status, done.stderr[-2000:]
    return done.stdout


def test_killed_it_leaves_nothing_of_the_model(tmp_path):
    code = """
    class Samples(list):
        reads = 0
        def __getitem__(self, index):
            Samples.reads += 1
            if Samples.reads > 131 + 16 * 20:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)
    erase(model, Samples(samples), steps=200, checkpoint_interval=1, **options)
    """
    run(code, -signal.SIGKILL, TMPDIR=str(tmp_path))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path.is_dir() and not [path for path in written if path.stat().st_size > 2000], written
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("*.pth"))


@pytest.mark.parametrize(
    ("begin", "was"),
    [
        pytest.param("", False, id="first threads, off"),
        pytest.param("", True, id="first threads, on", marks=pytest.mark.long),
        pytest.param("flushes()", False, id="threads before, off", marks=pytest.mark.long),
        pytest.param("flushes()", True, id="threads before, on"),
    ],
)
def test_subnormal_numbers_are_as_the_caller_had_them(begin, was):
    """In the caller's thread, and in the threads that share its large operations."""
    code = f"""
    def flushes():
        return [bool((torch.full((size,), 1e-310, dtype=torch.float64) * 1 == 0).any()) for size in (1, 1 << 20)]
    torch.set_num_threads(2)
    torch.set_flush_denormal({was})
    {begin}
    inside = []
    model.register_forward_hook(lambda *_: inside.append(flushes()))
    erase(model, samples, steps=40, **options)
    assert flushes() == [{was}] * 2, flushes()
    assert inside and all(found == [True, True] for found in inside), inside[:3]
    """
    run(code, OMP_NUM_THREADS="2")


def test_modes_of_the_callers_thread_change_nothing():
    code = """
    def weights():
        return erase(model, samples.clone(), steps=40, **options).model[2].weight.detach().clone()
    plain = weights()
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta")):
        with mode:
            assert torch.equal(weights(), plain), mode
    """
    run(code)


def test_process_wide_settings_are_put_back():
    code = """
    import cv2, multiprocessing
    multiprocessing.set_start_method("spawn")
    cv2.setNumThreads(3)
    erase(model, samples, steps=40, **options)
    assert multiprocessing.get_start_method() == "spawn" and cv2.getNumThreads() == 3
    """
    run(code)


def test_ctrl_c_ends_the_run():
    code = """
    import threading, time
    class Slow(list):
        reads = 0
        def __getitem__(self, index):
            Slow.reads += 1
            if Slow.reads == 400:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.0005)
            return super().__getitem__(index)
    try:
        erase(model, Slow(samples), steps=100000, **options)
    except KeyboardInterrupt:
        assert threading.active_count() == 1 and Slow.reads < 4000, Slow.reads
        print("interrupted")
    """
    assert "interrupted" in run(code)
