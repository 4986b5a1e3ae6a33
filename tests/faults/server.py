"""Server that imports all modules once and forks a child for each case, which saves six seconds of imports per case.

Requests come as lines of JSON on standard input, answers go as lines of JSON to standard output. ``start`` forks a child,
``wait`` waits for it. A child runs ``delete-tasks`` with some words, or Python code; ``before`` breaks something first.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from typing import Any

PACKAGES = ("delete_tasks", "delete_images", "delete_faces", "delete_backdoor", "delete_mmseg")
OTHERS = [
    "torch._dynamo", "matplotlib.pyplot", "sklearn.linear_model", "sklearn.cluster", "jsonschema", "jinja2",
    "pytorch_grad_cam", "facenet_pytorch", "cv2", "torchvision.models", "mmseg.models", "mmseg.datasets", "mmseg.apis",
    "albumentations", "hypothesis.strategies", "numpy.lib.format", "PIL.ImageOps",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
]  # fmt: skip


def preload() -> None:
    """Import every module of the packages, except scripts, and their late imports."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import torch

    torch.set_num_threads(1)
    names = [*OTHERS]
    for package in PACKAGES:
        found = importlib.import_module(package)
        names += [module.name for module in pkgutil.walk_packages(found.__path__, f"{package}.")]
    for name in names:
        if not name.endswith("__main__") and ".demo" not in name and ".configs" not in name:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    with contextlib.suppress(Exception):
        importlib.import_module("cv2").setNumThreads(0)
    environment = importlib.import_module("delete_tasks.fileio.environment")
    environment.environment(torch.device("cpu")), environment.code_version()  # both cached


def child(request: dict[str, Any]) -> int:
    """Carry out a request in a child; return the exit status of an interpreter."""
    import resource

    os.setsid()
    for name, handle in (("out", 1), ("err", 2)):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, handle)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    sys.stdout, sys.stderr = (os.fdopen(handle, "w", closefd=False, errors="backslashreplace") for handle in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request.get("memory"):
        resource.setrlimit(resource.RLIMIT_AS, (request["memory"],) * 2)
    os.environ.update(request.get("env") or {})
    os.umask(request.get("umask", 0o022))
    tempfile.tempdir = None
    scope: dict[str, Any] = {"__name__": "__main__", "case": request}
    argv = [os.fsdecode(bytes.fromhex(word)) for word in request.get("argv", ())]
    try:
        os.chdir(request["cwd"])
        exec(compile(request.get("before") or "", "<before>", "exec"), scope)
        if request.get("code") is not None:
            exec(compile(request["code"], "<case>", "exec"), scope)
            return 0
        sys.argv = ["delete-tasks", *argv]
        return int(importlib.import_module("delete_tasks.cli").main() or 0)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return stop.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()


def start(request: dict[str, Any]) -> int:
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        status = child(request)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(number: int, timeout: float) -> dict[str, Any]:
    """Return the exit status of a child (negative: number of a signal), killed after ``timeout`` seconds."""
    end, late = time.monotonic() + timeout, False
    while True:
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            return {"code": os.waitstatus_to_exitcode(status), "late": late}
        if time.monotonic() > end:
            late = True
            os.kill(number, signal.SIGKILL)
        time.sleep(0.004)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    preload()
    gc.freeze()  # children copy no page for a collection
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"pid": start(request)} if request["do"] == "start" else wait(request["pid"], request["timeout"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
