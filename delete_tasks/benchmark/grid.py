"""A grid file: which networks forget which classes, by which methods, over which seeds; and the cells that it stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config_file import load_config
from ..errors import RequestError
from ..ranges import SEED_MOST, whole
from ..recipe import split_options

KEYS = ("task", "networks", "data", "classes", "methods", "unlearn", "seeds", "retrained_seeds")
OF_THE_TASK = ("lr", "augment")  # options of a method that the task reads, beside those of `unlearn`
ORIGINAL, CUT, RETRAINED = "original", "logit_cut", "retrained"
REFERENCES = (ORIGINAL, CUT, RETRAINED)  # rows that no method makes


@dataclass(frozen=True)
class Cell:
    """One model of the table.

    Attributes:
        network: Its name in the grid.
        group: Name of the classes that are forgotten.
        classes: They.
        method: Its name in the grid, or one of :data:`REFERENCES`.
        unlearn: The method's options, ``type`` among them; empty of a reference.
        seed: Of the run, or of the retrained network.
        retain: Whether the method reads a retain set.
    """

    network: str
    group: str
    classes: tuple[str, ...]
    method: str
    unlearn: Mapping[str, Any]
    seed: int
    retain: bool = False

    @property
    def folder(self) -> str:
        """Its place in the work dir."""
        return f"cells/{slug(self.network)}/{slug(self.group)}/{slug(self.method)}_seed{self.seed}"

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.network}, {self.group}, {self.method}, seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """What a grid file holds.

    Attributes:
        task: The plugin that runs it.
        networks: By name, as the task takes them.
        data: 'forget', 'retain', 'train' and 'test', as the task takes them.
        groups: Classes to forget, by name.
        methods: Options of ``unlearn`` by name, those of all methods in them.
        seeds: Of the runs.
        retrained_seeds: Of the networks trained without the classes.
    """

    task: str
    networks: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, str]
    groups: Mapping[str, tuple[str, ...]]
    methods: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    retrained_seeds: Sequence[int]

    def json(self) -> dict[str, Any]:
        """All of it, as JSON: two grids that give the same are the same request."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**found, "groups": {name: list(classes) for name, classes in self.groups.items()}}

    def cells(self, has_retrained: Any) -> Iterator[Cell]:
        """All cells in order: of each network and group the references first, then seed by seed.

        Args:
            has_retrained: ``(network, classes, seed)`` -> whether there is or can be such a network.
        """
        for network in self.networks:
            for group, classes in self.groups.items():
                for reference in (ORIGINAL, CUT):
                    yield Cell(network, group, classes, reference, {}, 0)
                for seed in self.retrained_seeds:
                    if has_retrained(network, classes, seed):
                        yield Cell(network, group, classes, RETRAINED, {}, seed)
                for seed in self.seeds:
                    for method, options in self.methods.items():
                        retain = method_of(options).needs_retain_set
                        yield Cell(network, group, classes, method, options, seed, retain)


def slug(name: str) -> str:
    """A name as a folder may be called."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "-"


def method_of(options: Mapping[str, Any]) -> Any:
    """The method's class.

    Raises:
        RequestError: There is none of that type, or an option that it does not take.
    """
    from mmengine.registry import HOOKS

    from .. import hooks  # noqa: F401 - where methods are registered

    split_options({key: value for key, value in options.items() if key not in OF_THE_TASK})
    return HOOKS.get(options["type"])


def read_grid(path: str | Path, changes: Mapping[str, Any] | None = None) -> Grid:
    """Read a grid file, which is run as every config is.

    Raises:
        FileNotFoundError: There is none.
        RequestError: A key is missing, unknown or of another kind than expected; an unknown method or option of one.
    """
    cfg = load_config(path, changes).to_dict()
    given = {key: value for key, value in cfg.items() if not key.startswith("_")}
    unknown, missing = set(given) - set(KEYS), {"task", "networks", "data", "classes", "methods"} - set(given)
    if unknown or missing:
        wrong = [f"unknown {', '.join(sorted(unknown))}"] if unknown else []
        wrong += [f"missing {', '.join(sorted(missing))}"] if missing else []
        raise RequestError(f"the grid '{path}' has {' and '.join(wrong)}; it holds {', '.join(KEYS)}")
    for key in ("networks", "data", "methods", "unlearn"):
        value = given.get(key, {})
        if not isinstance(value, Mapping) or (key != "unlearn" and not value):
            raise RequestError(f"the grid '{path}': {key} is {value!r}; expected {key} = dict(NAME=...)")
    shared = given.get("unlearn", {})
    methods = {}
    for name, options in given["methods"].items():
        if not isinstance(options, Mapping) or "type" not in options:
            raise RequestError(
                f"the grid '{path}': methods['{name}'] is {options!r}; expected dict(type='METHOD', ...)"
            )
        methods[name] = {**shared, **options}
        method_of(methods[name])
        if slug(name) in map(slug, REFERENCES):
            raise RequestError(f"the grid '{path}': a method is called '{name}', which is a row of its own; rename it")
    for names in (given["networks"], methods):
        if len({slug(name) for name in names}) < len(names):
            raise RequestError(f"the grid '{path}': two of {', '.join(names)} get one folder; rename one")
    return Grid(
        task=given["task"],
        networks=given["networks"],
        data=given["data"],
        groups=_groups(path, given["classes"]),
        methods=methods,
        seeds=_seeds(path, "seeds", given.get("seeds", [0])),
        retrained_seeds=_seeds(path, "retrained_seeds", given.get("retrained_seeds", [0])),
    )


def _groups(path: Any, given: Any) -> dict[str, tuple[str, ...]]:
    if (
        not isinstance(given, Mapping)
        or not given
        or not all(isinstance(v, (list, tuple)) and v for v in given.values())
    ):
        raise RequestError(f"the grid '{path}': classes is {given!r}; expected dict(NAME=['class', ...])")
    return {name: tuple(map(str, classes)) for name, classes in given.items()}


def _seeds(path: Any, key: str, given: Any) -> list[int]:
    if not isinstance(given, (list, tuple)) or not given:
        raise RequestError(f"the grid '{path}': {key} is {given!r}; expected a list of whole numbers")
    return [whole(f"{key} of '{path}'", seed, 0, SEED_MOST) for seed in given]
