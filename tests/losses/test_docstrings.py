"""Examples in docstrings run."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["delete_tasks.losses.functional", "delete_tasks.losses.upsampled"])
def test_examples(name):
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0 and outcome.failed == 0
