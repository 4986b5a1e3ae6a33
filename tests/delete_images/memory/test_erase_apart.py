"""erase() inside the caller's process: no file of the model is written, and no process-wide setting changes."""

import signal
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import World

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


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path / "world")


@pytest.fixture
def run(server, world) -> Callable[..., str]:
    """``run(code, status)``: run code in a process of its own; return its output."""

    def run(code: str, status: int = 0) -> str:
        done = server.run([], world, code=START + textwrap.dedent(code))
        assert done.code == status, done
        return done.out

    return run


def files_in(world: World) -> list[Path]:
    return [path for path in world.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("sent", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_killed_run_leaves_no_weights(sent, run, world):
    code = f"""
    class Samples(list):
        reads = 0
        def __getitem__(self, index):
            Samples.reads += 1
            if Samples.reads > 131 + 16 * 20:
                os.kill(os.getpid(), {int(sent)})
            return super().__getitem__(index)
    erase(model, Samples(samples), steps=200, checkpoint_interval=1, **options)
    """
    run(code, -sent)
    assert not [path for path in files_in(world) if path.stat().st_size > 2000], files_in(world)
    assert not [path for path in files_in(world) if path.suffix in (".safetensors", ".pth", ".tmp")]


def test_finished_and_refused_calls_leave_the_caller_alone(run, world):
    code = """
    import random
    import numpy as np
    def state():
        randomness = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        flags = [p.requires_grad for p in model.parameters()], model.training, os.environ.get("CUDA_VISIBLE_DEVICES")
        return randomness, flags, [p.tolist() for p in model.parameters()]
    before = state()
    calls = [{}, {"classes": ["c"]}, {"classes": ["#2"]}, {"classes": ["nothing"]}, {"steps": 0}, {"lr": float("nan")},
             {"method": "NegativeGradient"}]
    for call in calls:
        try:
            erase(model, samples, class_names="abcd", device="cpu", **{**options, "steps": 40, **call})
        except Exception:
            print("refused:", call)
        assert state() == before, call
        assert (torch.tensor([1e-40]) * 1.0).item() != 0, call
    """
    refused = run(code)
    assert all(word in refused for word in ("nothing", "steps", "nan")) and not files_in(world)


@pytest.mark.parametrize(("begin", "was"), [
    pytest.param("", False, id="first threads, off", marks=pytest.mark.long),
    pytest.param("", True, id="first threads, on", marks=pytest.mark.long),
    pytest.param("flushes()", False, id="threads before, off", marks=pytest.mark.long),
    pytest.param("flushes()", True, id="threads before, on"),
])  # fmt: skip
def test_flushing_of_subnormal_numbers_is_restored(begin, was, run):
    """In the caller's thread, and in the threads that share its large operations."""
    code = f"""
    def flushes():
        return [bool((torch.full((size,), 1e-310, dtype=torch.float64) * 1 == 0).any()) for size in (1, 1 << 17)]
    torch.set_num_threads(2)
    torch.set_flush_denormal({was})
    {begin}
    inside = []
    model.register_forward_hook(lambda *_: inside.append(flushes()))
    erase(model, samples, steps=40, **options)
    assert flushes() == [{was}] * 2, flushes()
    assert inside and all(flushed == [True, True] for flushed in inside), inside[:3]
    """
    run(code)


@pytest.mark.long
def test_modes_of_the_caller_have_no_effect(run):
    code = """
    def weights():
        return erase(model, samples.clone(), steps=40, **options).model[2].weight.detach().clone()
    plain = weights()
    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta")):
        with mode:
            assert torch.equal(weights(), plain), mode
    """
    run(code)


def test_process_wide_settings_are_restored(run):
    code = """
    import cv2, multiprocessing
    multiprocessing.set_start_method("spawn", force=True)
    cv2.setNumThreads(3)
    erase(model, samples, steps=40, **options)
    assert multiprocessing.get_start_method() == "spawn" and cv2.getNumThreads() == 3
    """
    run(code)


def test_ctrl_c_ends_the_run(run):
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
