"""Part of a config that a record holds, and what it may name when figures are measured again. A record may come from a stranger,
and MMEngine's registries import and call any dotted path that a config gives as a ``type``. So the config of a record is checked
first: a type must be a plain name in the registries of models, data sets or transforms, of a class that this package or an
installed package of the framework defines; none of them may read weights, build what others name, or fetch from the network."""

import copy
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import mmengine.registry
import mmseg.registry

from delete_tasks.errors import RequestError
from delete_tasks.evaluation.opened import Place
from delete_tasks.runner.recipe import no_downloads

MODELS = (mmseg.registry.MODELS, mmengine.registry.MODELS)
DATASETS = (mmseg.registry.DATASETS, mmengine.registry.DATASETS)
TRANSFORMS = (mmseg.registry.TRANSFORMS, mmengine.registry.TRANSFORMS)
REGISTRIES = (*MODELS, *DATASETS, *TRANSFORMS, mmseg.registry.TASK_UTILS)  # the last: samplers and assigners of heads
PACKAGES = ("mmseg", "mmcv", "mmengine", "torch", "torchvision", "delete_mmseg")
# Timm's wrapper fetches or unpickles weights, VPD builds what its config names, Albu calls any name of albumentations.
REFUSED_TYPES = ("TIMMBackbone", "VPD", "Albu")
# Weights to read, other registries' scopes, decoders that unpickle, other storage.
REFUSED_KEYS = ("pretrained", "checkpoint", "checkpoint_path", "init_cfg", "_scope_", "custom_imports", "file_client_args",
                "backend_args", "decode_backend")  # fmt: skip

LARGEST = 2**14  # whole number in a model's config; building a network of a larger depth could exhaust the memory


def portable_config(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a config to the parts that measuring needs: types by registered names, absolute folders, no weights to fetch."""
    model, dataset = copy.deepcopy((whole["model"], whole["test_dataloader"]["dataset"]))
    no_downloads(model)
    for _, value in list(_entries([model, dataset])):
        if isinstance(value, dict):
            value.pop("init_cfg", None)
            if "type" in value:
                value["type"] = _type_name(value["type"])
    return {"model": model, "test_dataloader": {"dataset": _places(dataset)}}


def _type_name(kind: Any) -> Any:
    """Find the registered name of a class, or of the dotted path that a config in plain Python becomes."""
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", kind)
    if not isinstance(name, str):
        return name
    package, last = name.partition(".")[0], name.rpartition(".")[2]
    registered = _registered(last)
    return last if registered is not None and registered.__module__.partition(".")[0] == package else name


def _entries(value: Any, key: Any = None) -> Iterator[tuple[Any, Any]]:
    """List each part of a config with its key; items of lists have none."""
    yield key, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _entries(item, name)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _entries(item)


def _places(dataset: Any) -> Any:
    """Replace the root of a data set's config, and of those inside it, by a place."""
    if isinstance(dataset, (list, tuple)):
        return type(dataset)(_places(item) for item in dataset)
    if not isinstance(dataset, Mapping):
        return dataset
    portable = {key: _places(item) if key in ("dataset", "datasets") else item for key, item in dataset.items()}
    paths = [portable.get("ann_file"), *(portable.get("data_prefix") or {}).values()]
    if portable.get("data_root") or any(isinstance(path, str) and path and not os.path.isabs(path) for path in paths):
        portable["data_root"] = Place(os.path.abspath(portable.get("data_root") or "."))
    return portable


def check_config(config: Any) -> None:
    """Refuse a config from a record that names anything but a model and a test data set of types of installed packages."""
    loader = config.get("test_dataloader") if isinstance(config, dict) and len(config) == 2 else None
    if not isinstance(loader, dict) or set(loader) != {"dataset"} or "model" not in config:
        raise RequestError("the record's config holds other things than a model and a test_dataloader with a dataset")
    for key, value in _entries(config):
        if key == "type":
            _check_type(value)
        elif key in REFUSED_KEYS and value not in (None, {"backend": "local"}):
            raise RequestError(f"the record's config holds {key}={str(value)[:60]!r}, which is not followed")
        elif isinstance(value, str) and re.match("[A-Za-z0-9+.-]+://", value):
            raise RequestError(f"the record's config names '{value[:60]}', and nothing is fetched to measure again")
        elif callable(value):
            raise RequestError(f"the record's config holds {value!r}, which could be called")
    for key, value in _entries(config["model"]):
        if isinstance(value, int) and abs(value) > LARGEST:
            raise RequestError(f"the record's config holds {key}={str(value)[:20]}; expected at most {LARGEST}")
    for value, registries in ((config["model"], MODELS), (loader["dataset"], DATASETS)):
        kind = value.get("type") if isinstance(value, dict) else None
        if not any(kind in registry.module_dict for registry in registries):
            raise RequestError(f"the record's config holds a {kind} where a {registries[0].name} is expected")


def _check_type(kind: Any) -> None:
    """Refuse a type that is no plain name, not registered, or of a package that is not trusted with it."""
    registered = _registered(kind) if isinstance(kind, str) and kind.isidentifier() else None
    package = "" if registered is None else registered.__module__.partition(".")[0]
    if not inspect.isclass(registered) or package not in PACKAGES or kind in REFUSED_TYPES:
        raise RequestError(
            f"the record's config names {kind!r} as a type; expected the plain name of a model, data set or transform that "
            f"{', '.join(PACKAGES[:3])} or delete_mmseg registers. Nothing else is built from a record"
        )


def _registered(name: str) -> Any:
    """Find the class or function of a registered name; None if there is none."""
    for registry in REGISTRIES:
        registry.import_from_location()
        if name in registry.module_dict:
            return registry.module_dict[name]
    return None
