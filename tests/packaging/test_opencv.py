"""An OpenCV that lacks a library of the system is told with the command that puts it right, whatever needed it."""

import os
import subprocess
import sys

import pytest

FIX = "pip install --force-reinstall --no-deps opencv-python-headless"
MISSING = [("segmentation", "GL.so.1"), ("images", "xcb.so.1"), ("faces", "gthread-2.0.so.0"), ("backdoor", "SM.so.6")]


@pytest.mark.parametrize(("command", "library"), MISSING)
def test_command(command, library, tmp_path):
    """What a loader says of opencv-python in a container: libxcb comes first there, libGL where X is installed."""
    (tmp_path / "cv2").mkdir()
    (tmp_path / "c.py").write_text("model = dict(type='EncoderDecoder')\n")
    (tmp_path / "c.pth").touch()
    missing = f"lib{library}: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2" / "__init__.py").write_text(f"raise ImportError({missing!r})\n")
    code = {
        "segmentation": "from delete_tasks.cli import main; "
        "sys.exit(main('segmentation c.py --checkpoint c.pth --work-dir w'.split()))",
        "images": "from delete_tasks.errors import require; require('albumentations', 'images')",
        "faces": "from delete_tasks.errors import require; require('cv2', 'faces')",
        "backdoor": "import delete_backdoor.triggers",
    }[command]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command_line = [sys.executable, "-c", f"import sys; {code}"]
    done = subprocess.run(command_line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert f"lib{library}" in done.stderr and FIX in done.stderr
    assert command != "segmentation" or done.stderr.startswith("delete-tasks: error: ")
