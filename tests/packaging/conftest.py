"""The wheel, built from the source distribution as a release is, in a copy of the tree."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "delete_tasks", "plugins", "configs", "tests", "tools", "docs")


def _build(kind: str, folder: Path, out: Path) -> Path:
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = out.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return built


@pytest.fixture(scope="session")
def wheel(repository, tmp_path_factory) -> Path:
    """The wheel of the sources as they are."""
    root = tmp_path_factory.mktemp("build")
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    (root / "tree").mkdir()
    for name in SOURCES:
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, root / "tree" / name, ignore=leave_out)
        else:
            shutil.copy(source, root / "tree")
    with tarfile.open(_build("sdist", root / "tree", root / "out")) as sdist:
        # Python 3.11.2, of Debian 12, has no filter.
        safe: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        sdist.extractall(root / "unpacked", **safe)
    (unpacked,) = (root / "unpacked").iterdir()
    return _build("wheel", unpacked, root / "out")
