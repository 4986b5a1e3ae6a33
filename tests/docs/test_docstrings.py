"""Examples in docstrings run."""

import doctest
import importlib

import pytest

MODULES = ("display.table", "losses.functional", "model.head")


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    outcome = doctest.testmod(importlib.import_module(f"delete_tasks.{name}"))
    assert outcome.attempted > 0 and outcome.failed == 0
