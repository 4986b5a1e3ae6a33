"""Image classifiers in ``delete-tasks benchmark``: networks by weights file, model folder or training recipe."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from mmengine.config import Config
from mmengine.registry import HOOKS
from msgspec import structs
from torch import nn

from delete_tasks.benchmark.grid import RETRAINED, Cell, Grid, GridSource, method_of, slug
from delete_tasks.cli import parse
from delete_tasks.display.terminal import make_console
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.opened import Opened
from delete_tasks.fileio.compute import choose_device
from delete_tasks.fileio.digests import canonical
from delete_tasks.fileio.validate import as_type
from delete_tasks.request.classes import resolve_classes
from delete_tasks.runner.recipe import split_options
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from . import register  # noqa: F401
from . import run_config as runs
from .data.datasets import AUGMENT
from .data.layouts import CLASSES
from .data.opening import ImageData, open_data
from .data.strings import parse_spec
from .forget import UNLEARN_OPTIONS, make_config
from .grid import Data, Network, Training, data_sha256, split, weights_sha256
from .models.model_file import SPEC_NAME, build_model, import_checkpoint, load_model, load_spec
from .models.spec import ModelSpec, Preprocessing, spec_from_json, spec_to_json
from .opened import make_opened
from .train import train


class ImagesGrid(GridSource):
    """Networks of a grid; docs/guides/benchmark.md has their keys. ``classes`` are 'cifar10', 'cifar100', 'data' (the names in
    'forget') or a list; ``{classes}`` in ``retrained`` the sorted names, joined by '_'. Networks train on ``train['data']``, else
    on 'forget'; this and 'retain' hold no ``class=`` or ``without=``. Trained and imported models are in models/."""

    def __init__(self, grid: Grid, folder: Path) -> None:
        self.grid, self.folder = grid, folder

    @cached_property
    def data(self) -> Data:
        """Data strings, checked."""
        return as_type(self.grid.data, Data, "data of the grid")

    @cached_property
    def networks(self) -> Mapping[str, Network]:
        """Networks by name, checked."""
        return {name: as_type(content, Network, f"networks['{name}']") for name, content in self.grid.networks.items()}

    def check(self) -> None:
        _open.cache_clear()
        data_sha256.cache_clear()
        if self.data.retain is None and any(method_of(each).needs_retain_set for each in self.grid.methods.values()):
            raise RequestError("data of the grid: retain is missing, and one of the methods needs it; give it")
        for name, network in self.networks.items():
            if network.original is None and network.train is None:
                raise RequestError(f"networks['{name}'] has neither original nor train; give one")
            if network.train is not None:
                _open(self._training(name, self.folder)["data"], "train", tuple(self.names(name)))
            try:
                (network.retrained or "").format(classes="", seed=0)
            except (LookupError, ValueError, AttributeError, TypeError) as error:
                raise RequestError(
                    f"networks['{name}']: retrained is '{network.retrained}'; expected a path with {{classes}} and {{seed}}"
                ) from error
            build_model(self._spec(name))
            for group, classes in self.grid.groups.items():
                resolve_classes(list(classes), list(self.names(name)))
                self._data(Cell(name, group, classes, "", {}, 0))
            for method, options in self.grid.methods.items():
                self._check_method(Cell(name, group, classes, method, options, 0, method_of(options).needs_retain_set))

    def _check_method(self, cell: Cell) -> None:
        """Raise RequestError for an option of a method with a wrong value, before any cell runs."""
        try:
            cfg = self._config(cell, self.folder)
            HOOKS.build(split_options(cfg.unlearn)[1])
            if cfg.train_dataloader.dataset.augment not in AUGMENT:
                raise RequestError(f"augment is {cell.unlearn['augment']!r}; expected one of {', '.join(AUGMENT)}")
        except (RequestError, TypeError, ValueError, ArithmeticError) as error:
            raise RequestError(f"methods['{cell.method}']: {error}") from error

    def _original_path(self, network: str) -> Path | None:
        """Find the original's weights file or model folder, the first that exists; None if it is to be trained."""
        original = self.networks[network].original
        if original is None:
            return None
        candidates = [Path(path) for path in ([original] if isinstance(original, str) else original)]
        existing = [path for path in candidates if path.is_file() or (path / SPEC_NAME).is_file()]
        if not existing:
            raise FileNotFoundError(
                f"networks['{network}']: no weights file or model folder at {' or '.join(map(str, candidates))}; give one"
            )
        return existing[0]

    def originals(self) -> Mapping[str, str]:
        return {name: weights_sha256(self._original_path(name)) or "trained" for name in self.networks}

    def made_of(self, cell: Cell) -> Mapping[str, str | None]:
        names, content = tuple(self.names(cell.network)), {**asdict(cell), "network": self.grid.networks[cell.network]}
        digests = {"settings": hashlib.sha256(canonical(content)).hexdigest()}
        for key, text in structs.asdict(self.data).items():
            if text is not None and (key != "retain" or cell.retain):
                digests[f"{key} data"] = data_sha256(text, split(key), names)
        models = {"weights of the original": self._original_path(cell.network) or self._trained_folder(cell.network)}
        if cell.method == RETRAINED:
            cut = cell.network, cell.classes, cell.seed
            models["weights of the retrained model"] = self._retrained_path(*cut) or self._trained_folder(*cut)
        return digests | {name: weights_sha256(path) for name, path in models.items()}

    def inputs(self) -> Sequence[Path]:
        return [path for path in map(self._original_path, self.grid.networks) if path is not None]

    def _spec(self, network: str) -> ModelSpec:
        options, original, source = self.networks[network], self._original_path(network), f"networks['{network}']"
        if original is not None and original.is_dir():
            return load_spec(original)
        for key in ("architecture", "classes"):
            if getattr(options, key) is None:
                raise RequestError(f"{source} has no {key}; give it, or a model folder as original")
        names: Any = options.classes
        if names == "data":
            names = _open(self.data.forget, "train").class_names
        elif isinstance(names, str) and names not in CLASSES:
            raise RequestError(f"{source}: classes is '{names}'; expected data, {', '.join(CLASSES)} or a list")
        elif isinstance(names, str):
            names = CLASSES[names]
        preprocessing = Preprocessing.named(options.normalization, options.size)
        spec = ModelSpec(str(options.architecture), tuple(names), preprocessing, dict(options.arguments or {}))
        return spec_from_json(spec_to_json(spec), source)

    def names(self, network: str) -> Sequence[str]:
        return self._spec(network).classes

    def _retrained_path(self, network: str, classes: Sequence[str], seed: int | None) -> Path | None:
        """Find the weights file or model folder of the retrained model that the grid names; None if it does not exist."""
        pattern = self.networks[network].retrained
        if pattern is None:
            return None
        path = Path(pattern.format(classes="_".join(sorted(classes)), seed=seed))
        return path if path.is_file() or (path / SPEC_NAME).is_file() else None

    def has_retrained(self, network: str, classes: Sequence[str], seed: int) -> bool:
        return self.networks[network].train is not None or self._retrained_path(network, classes, seed) is not None

    def _made(self, network: str, without: Sequence[str] = (), seed: int | None = None) -> Path:
        """Find the model folder of a network; without one, train it completely or import its weights, while others wait."""
        folder = self._trained_folder(network, without, seed)
        weights = self._retrained_path(network, without, seed) if without else self._original_path(network)
        if weights is not None and weights.is_dir():
            return weights
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if (folder / SPEC_NAME).is_file():
                return folder
            spec = self._spec(network)
            if weights is not None:
                return import_checkpoint(
                    weights, folder, spec.architecture, spec.classes, spec.preprocessing, spec.arguments
                )
            work = folder.with_name(f"{folder.name}_training")
            options = {**self._training(network, work), "launcher": "none", "console": make_console()}
            options |= {} if seed is None else {"seed": seed}
            train(spec, options["data"], None, without, str(work), options)
            return (work / "model").replace(folder)

    def _trained_folder(self, network: str, without: Sequence[str] = (), seed: int | None = None) -> Path:
        """Name the folder of a network that the grid trains, or imports; sets of classes have folders of their own."""
        if not without:
            return self.folder / "models" / f"{slug(network)}_original"
        joined = slug("_".join(sorted(without)))
        folders = [
            self.folder / "models" / f"{slug(network)}_without_{part}_seed{seed}"
            for part in (joined[:80], f"{joined[:80]}-{hashlib.sha256(canonical(sorted(without))).hexdigest()[:12]}")
        ]
        plain = folders[0].is_dir() or all(name.isalnum() and name == name.casefold() for name in without)
        return folders[not plain or len(joined) > 80]

    def _training(self, network: str, work: Path) -> dict[str, Any]:
        """Read the options of training a network; parsed as a command line, for the command's ranges and defaults."""
        source = f"networks['{network}'].train"
        recipe: Training = as_type(self.networks[network].train, Training, source)
        words = ["images", "train", f"--data={self.data.forget}", f"--work-dir={work}", "--resume", *recipe.words()]
        try:
            return vars(parse(words))
        except RequestError as error:
            raise RequestError(f"{source}: {error}") from error

    def _data(self, cell: Cell) -> dict[str, ImageData]:
        names = tuple(self.names(cell.network))
        texts = {"forget": self._forget(cell), "train": self.data.train, "test": self.data.test}
        return {key: _open(text, split(key), names) for key, text in texts.items()}

    def _forget(self, cell: Cell) -> str:
        return parse_spec(self.data.forget).compose({"class": cell.classes})

    def _opened(self, cell: Cell, row: str, network: nn.Module, spec: ModelSpec) -> Opened:
        names = self.names(cell.network)
        ids = resolve_classes(list(cell.classes), list(names))
        return make_opened({row: (network.to(choose_device()), spec)}, names, samples=self._data(cell), ids=ids)

    def original(self, cell: Cell) -> Opened:
        return self._opened(cell, "original", *load_model(self._made(cell.network)))

    def retrained(self, cell: Cell) -> Opened:
        return self._opened(cell, "retrained", *load_model(self._made(cell.network, cell.classes, cell.seed)))

    def _config(self, cell: Cell, folder: Path) -> Config:
        """Make the config of a cell's run; it reads the original's weights if they exist."""
        unlearn, path = dict(cell.unlearn), self._original_path(cell.network)
        model = path if path is not None and path.is_dir() else self._trained_folder(cell.network)
        options: dict[str, Any] = {
            **dict.fromkeys((*UNLEARN_OPTIONS, "method", "workers", "launcher")),
            "augment": unlearn.pop("augment", None),
            "preset": unlearn.pop("preset", None),
            "allow_import": False,
            "resume": True,
            "seed": cell.seed,
            "model": str(model),
            "classes": list(cell.classes),
            "forget": self._forget(cell),
            "retain": parse_spec(str(self.data.retain)).compose({"without": cell.classes}) if cell.retain else None,
            "work_dir": str(folder),
            "cfg_options": {"unlearn": {**unlearn, "overwrite": True}},
        }
        cfg = make_config(None, options)
        cfg.log_level = "WARNING"
        return cfg

    def erase(self, cell: Cell, folder: Path) -> tuple[Opened, Mapping[str, float]]:
        original = self._made(cell.network)
        cfg = self._config(cell, folder)
        runner = UnlearnRunner.from_cfg(cfg)
        try:
            runner.train()
        finally:
            runs.release_runner(runner.experiment_name)
        model: Any = runner.unwrapped_model
        opened = self._opened(cell, "erased", model.network.eval(), load_spec(original))
        per_step = runner.train_dataloader.batch_size * (2 if cell.retain or cfg.unlearn.get("public") else 1)
        seconds, steps = runner.outcome.seconds["unlearning"], runner.iter // runner.accumulation
        return opened, {"seconds": round(seconds, 1), "samples": runner.iter * per_step, "steps": steps}


SOURCE = ImagesGrid
_open = lru_cache(maxsize=16)(open_data)
