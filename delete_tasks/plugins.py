"""Entry points of installed packages, and modules that declare commands, loaded without the packages that commands require."""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Container
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import MissingExtraError, RequestError


def plugin_modules() -> dict[str, str]:
    """List installed task plugins: command name -> import name (entry point group 'delete_tasks.tasks')."""
    return offered("tasks")


def offered(group: str) -> dict[str, str]:
    """List the entry points of the group ``delete_tasks.GROUP``: name -> module that registers it."""
    return _offered(group, tuple(sys.path))


@functools.cache
def _offered(group: str, path: tuple[str, ...]) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=f"delete_tasks.{group}")}


def import_offered(kind: str, name: str, group: str, registered: Container[str]) -> bool:
    """Import the module that an installed package offers under ``name`` in a ``group`` of :func:`offered`; return False if none
    does. The import adds the name to ``registered``; messages call it ``kind``, e.g. "method". Raise
    :class:`MissingExtraError` if the module cannot be imported, :class:`RequestError` if it does not register ``name``."""
    module = offered(group).get(name)
    if module is None:
        return False
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{kind} '{name}' comes from {module}, which cannot be imported ({error}); install its requirements"
        ) from error
    if name not in registered:
        raise RequestError(
            f"the entry point of {kind} '{name}' names module {module}, which does not register '{name}'; install another version"
        )
    return True


def load_offered(group: str, attribute: str) -> list[Any]:
    """Load an ``attribute``'s members of a ``group``'s entry points; raise :class:`MissingExtraError` if one cannot be loaded."""
    found: list[Any] = []
    for name, module in sorted(offered(group).items()):
        try:
            found += getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise MissingExtraError(
                f"'{name}' of the entry points delete_tasks.{group} names module {module}, which gives no {attribute} "
                f"({error}); install its requirements, or uninstall it"
            ) from error
    return found


def load_commands(package: str, module: str = "commands") -> ModuleType:
    """Load the module of a package that declares its part of the command line, without its ``__init__``, which may take seconds
    or require an extra that help, completion and a mistyped option do not need. Raise :class:`RequestError` if the package is not
    installed, or another folder of its name shadows it."""
    name = f"{package}.{module}"
    if name in sys.modules or package in sys.modules:
        return importlib.import_module(name)
    parent = importlib.util.find_spec(package)
    if parent is None or not parent.submodule_search_locations:
        raise RequestError(f"no package '{package}' is installed; install delete-tasks again")
    path = Path(next(iter(parent.submodule_search_locations)), f"{module}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RequestError(f"'{path.parent}' shadows the installed package '{package}'; run from a different folder")
    loaded = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[name]
        raise
    return loaded
