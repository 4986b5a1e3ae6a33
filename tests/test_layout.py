"""Order of imports, without circles, see [tool.importlinter] of pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path


def test_imports_follow_the_order(repository):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), str(repository / "plugins")])}
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(lint, cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_modules_at_the_top_of_the_core(repository):
    loose = {path.name for path in (repository / "delete_tasks").glob("*.py")}
    assert loose == {"__init__.py", "__main__.py", "errors.py", "plugins.py", "task.py"}
