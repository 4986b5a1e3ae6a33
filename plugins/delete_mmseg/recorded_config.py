"""The part of a config that a record holds, and what it may name when figures are measured again.

A record may come from a stranger, and a config says what is built: MMEngine's registries import and call any dotted path that
stands as a ``type``. So what is measured by is checked first. A type is a plain name in the registries of models, data sets or
transforms, of a class that an installed package of the framework or this one defines; none reads weights of its own, builds what
others name, or fetches from the network.
"""

import inspect
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import mmengine.registry
import mmseg.registry
from mmengine.registry import Registry

from delete_tasks.errors import RequestError
from delete_tasks.evaluation.text import Place
from delete_tasks.runner.recipe import no_downloads

NEEDED = ("model", "test_dataloader")
REGISTRIES: tuple[Registry, ...] = (
    mmseg.registry.MODELS,
    mmseg.registry.DATASETS,
    mmseg.registry.TRANSFORMS,
    mmseg.registry.TASK_UTILS,  # samplers and assigners of heads
    mmengine.registry.MODELS,
    mmengine.registry.DATASETS,
    mmengine.registry.TRANSFORMS,
)
PACKAGES = ("mmseg", "mmcv", "mmengine", "torch", "torchvision", "delete_mmseg")
# Timm's wrapper fetches or unpickles weights, VPD builds what its config names, Albu calls any name of albumentations.
REFUSED_TYPES = ("TIMMBackbone", "VPD", "Albu")
# Whatever these hold: weights to read, other registries' scopes, decoders that unpickle, storage elsewhere.
REFUSED_KEYS = ("pretrained", "checkpoint", "checkpoint_path", "init_cfg", "_scope_", "custom_imports", "file_client_args",
                "backend_args", "decode_backend")  # fmt: skip


def portable_config(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a config what measuring needs: types by registered names, folders found from anywhere, no weights to fetch."""
    config = {name: _plain_types(whole[name]) for name in NEEDED if name in whole}
    no_downloads(config["model"])
    _drop(config, "init_cfg")
    loader = config["test_dataloader"]
    config["test_dataloader"] = {"dataset": _places(loader["dataset"])}
    return config


def _plain_types(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _type_name(item) if key == "type" else _plain_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain_types(item) for item in value)
    return value


def _type_name(kind: Any) -> Any:
    """Find the registered name of a class, or of the dotted path that a config in plain Python becomes."""
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", kind)
    last = name.rpartition(".")[2] if isinstance(name, str) else name
    found = _registered(last) if isinstance(last, str) else None
    if found is None or name == last:
        return name
    return last if f"{found.__module__}.{found.__name__}".startswith(name.partition(".")[0] + ".") else name


def _drop(value: Any, key: str) -> None:
    if isinstance(value, dict):
        value.pop(key, None)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        _drop(item, key)


def _places(dataset: Any) -> Any:
    """Replace the root of a data set's config, and of those inside it, by a place."""
    if isinstance(dataset, (list, tuple)):
        return type(dataset)(_places(item) for item in dataset)
    if not isinstance(dataset, Mapping):
        return dataset
    found = {key: _places(item) if key in ("dataset", "datasets") else item for key, item in dataset.items()}
    below = [found.get("ann_file"), *(found.get("data_prefix") or {}).values()]
    if found.get("data_root") or any(isinstance(path, str) and path and not os.path.isabs(path) for path in below):
        found["data_root"] = Place(os.path.abspath(found.get("data_root") or "."))
    return found


def check_config(config: Any) -> None:
    """Refuse a config from a record that names anything but models, data sets and transforms of installed packages.

    Args:
        config: ``model`` and ``test_dataloader``, with the dataset alone in it.

    Raises:
        RequestError: It names something else; the message says what.
    """
    good = isinstance(config, dict) and set(config) == set(NEEDED) and isinstance(config["test_dataloader"], dict)
    if not good or set(config["test_dataloader"]) != {"dataset"}:
        raise RequestError("the record's config holds other things than a model and a test_dataloader with a dataset")
    for value, registries in (
        (config["model"], (mmseg.registry.MODELS, mmengine.registry.MODELS)),
        (config["test_dataloader"]["dataset"], (mmseg.registry.DATASETS, mmengine.registry.DATASETS)),
    ):
        kind = value.get("type") if isinstance(value, dict) else None
        _allowed(kind)
        if not any(kind in registry.module_dict for registry in registries):
            raise RequestError(f"the record's config holds a {kind} where a {registries[0].name} is expected")
    _walk(config)


def _walk(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "type":
                _allowed(item)
            elif key in REFUSED_KEYS and item not in (None, {"backend": "local"}):
                raise RequestError(f"the record's config holds {key}={str(item)[:60]!r}, which is not followed")
            _walk(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _walk(item)
    elif isinstance(value, str) and re.match("[A-Za-z0-9+.-]+://", value):
        raise RequestError(f"the record's config names '{value[:60]}', and nothing is fetched to measure again")
    elif callable(value):
        raise RequestError(f"the record's config holds {value!r}, which could be called")


def _allowed(kind: Any) -> Any:
    """Find the class of a registered name.

    Raises:
        RequestError: It is no plain name, not registered, or of a package that is not trusted with it.
    """
    found = _registered(kind) if isinstance(kind, str) and kind.isidentifier() else None
    package = "" if found is None else found.__module__.partition(".")[0]
    if found is None or not inspect.isclass(found) or package not in PACKAGES or kind in REFUSED_TYPES:
        raise RequestError(
            f"the record's config names {kind!r} as a type; expected the plain name of a model, data set or transform that "
            f"{', '.join(PACKAGES[:3])} or delete_mmseg registers. Nothing else is built from a record"
        )
    return found


def _registered(name: str) -> Callable[..., Any] | None:
    for registry in REGISTRIES:
        registry.import_from_location()
        if name in registry.module_dict:
            return registry.module_dict[name]
    return None
