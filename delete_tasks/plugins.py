"""Installed task plugins, and the modules that declare commands, found without importing what they need to run."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from .errors import RequestError


def plugin_modules() -> dict[str, str]:
    """Installed task plugins: command name -> import name (entry point group 'delete_tasks.tasks')."""
    return {point.name: point.value for point in entry_points(group="delete_tasks.tasks")}


def load_commands(package: str, module: str = "commands") -> ModuleType:
    """The module of a package that declares its part of the command line.

    It is loaded without the package's own ``__init__``, which may take seconds or need an extra that is not installed: help,
    completion and a mistyped option need neither.

    Raises:
        RequestError: There is no such package, or another folder of its name is in its way.
    """
    name = f"{package}.{module}"
    if name in sys.modules or package in sys.modules:
        return importlib.import_module(name)
    parent = importlib.util.find_spec(package)
    if parent is None or not parent.submodule_search_locations:
        raise RequestError(f"no package '{package}' is installed; install delete-tasks again")
    path = Path(next(iter(parent.submodule_search_locations)), f"{module}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RequestError(f"'{path.parent}' stands in the way of the package '{package}'; start in another folder")
    found = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(found)
    except BaseException:
        del sys.modules[name]
        raise
    return found
