"""Version of the code in results and records."""

import subprocess

import pytest

from delete_tasks.fileio.environment import code_version


def test_the_commit_of_a_checkout_is_noted(repository):
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True)
    if git.returncode:
        pytest.skip("not a git checkout")
    assert code_version()["commit"] == git.stdout.strip()
