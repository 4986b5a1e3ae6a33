"""Options of ``unlearn``, split into recipe and method."""

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mmengine.registry import HOOKS

from ..errors import RequestError, did_you_mean
from ..plugins import import_offered
from ..request.config_checks import parameters, registered
from ..request.recipe import Recipe
from .base import UnlearnHook
from .registry import GROUP


def split_options(unlearn: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """Split ``unlearn`` into the recipe and the config of the method's hook; raise RequestError for what is neither."""
    if not isinstance(unlearn, Mapping):
        raise RequestError(f"unlearn must be a dict such as dict(type='DELETE', classes=['car']), got {unlearn!r}")
    options = {"type": "DELETE", **unlearn}
    name = options["type"]
    method = registered(HOOKS, name)
    if method is None and isinstance(name, str) and import_offered("method", name, GROUP, HOOKS.module_dict):
        method = registered(HOOKS, name)
    if not (inspect.isclass(method) and issubclass(method, UnlearnHook)):
        kinds = sorted(HOOKS.module_dict.items(), key=lambda item: (item[0] != "DELETE", item[0]))
        names = [key for key, kind in kinds if inspect.isclass(kind) and issubclass(kind, UnlearnHook)]
        hint = did_you_mean(str(name), names)
        raise RequestError(f"unlearn.type={name!r} is no unlearning method{hint} There are: {', '.join(names)}")
    recipe_names = {f.name for f in fields(Recipe)}
    hook_names = set(parameters(method))
    unknown = set(options) - recipe_names - hook_names - {"type"}
    if unknown:
        takes = ", ".join(sorted(recipe_names | hook_names))
        raise RequestError(f"unknown option(s) in unlearn: {', '.join(sorted(unknown))}; {name} takes {takes}")
    return Recipe(**{name: options.pop(name) for name in list(options) if name in recipe_names}), options
