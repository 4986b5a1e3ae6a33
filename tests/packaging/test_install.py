"""The wheel in new environments, without constraints, as pip installs it for a user."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("installed.py")


@pytest.mark.wheel
@pytest.mark.parametrize("extra", ["images", "all"])
def test_install(extra, wheel, tmp_path):
    own = ("PYTHON", "DELETE_TASKS_", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    environment |= {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}

    def run(*words: str | Path) -> str:
        done = subprocess.run(list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}:\n{done.stdout[-3000:]}{done.stderr[-5000:]}"
        return done.stdout

    folder = tmp_path / "empty"
    folder.mkdir()
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", f"delete-tasks[{extra}] @ {wheel.as_uri()}")
    run(python, "-m", "pip", "check")
    installed = run(python, "-m", "pip", "list", "--format", "freeze").lower()
    assert ("opencv-python==" in installed) == (extra == "all")  # MMCV's; another build lies over it
    assert run(python, SCRIPT, extra).endswith("fine\n")


def test_make_applies_the_constraints_on_a_new_clone(repository, tmp_path):
    """The stand-in for python makes an environment with itself as its python, and writes down what pip is to install."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(repository / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\ncase "$2" in\nvenv) mkdir -p .venv/bin && cp "$0" .venv/bin/python;;\npip) echo "$@" >> pip;;\n'
        f'*) exec {sys.executable} "$@";;\nesac\n'
    )
    python.chmod(0o755)
    done = subprocess.run(["make", "install", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    constrained = "-c constraints.txt " if sys.version_info >= (3, 11) else ""
    assert (tmp_path / "pip").read_text() == f"-m pip install -q --no-compile {constrained}-e .[all,dev]\n"
