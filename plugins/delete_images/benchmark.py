"""Image classifiers in ``delete-tasks benchmark``: networks by weights file, model folder or training recipe."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import nn

from delete_tasks.benchmark.grid import Cell, method_of, slug
from delete_tasks.benchmark.source import Erased, GridSource, register_grid
from delete_tasks.cli import parse
from delete_tasks.display.terminal import make_console
from delete_tasks.errors import RequestError
from delete_tasks.evaluation.opened import Opened
from delete_tasks.fileio.checkpoint import file_sha256
from delete_tasks.fileio.compute import choose_device
from delete_tasks.request.classes import resolve_classes
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from . import register  # noqa: F401
from . import run_config as runs
from .data.layouts import CLASSES
from .data.opening import ImageData, open_data
from .data.strings import parse_spec
from .forget import UNLEARN_OPTIONS, make_config
from .models.model_file import SPEC_NAME, WEIGHTS_NAME, import_checkpoint, load_model, load_spec
from .models.spec import ModelSpec, Preprocessing
from .opened import make_opened
from .train import train

NETWORK_KEYS = ("architecture", "arguments", "classes", "normalization", "size", "original", "retrained", "train")
TRAIN_KEYS = ("epochs", "lr", "weight_decay", "batch_size", "amp", "seed", "data")
DATA_KEYS = ("forget", "train", "test", "retain")


@register_grid("images")
class ImagesGrid(GridSource):
    """Networks of a grid::

        networks = dict(resnet20=dict(
            architecture="cifar_resnet20", arguments=dict(), classes="cifar10", normalization="imagenet", size=32,
            original="weights.pth",         # or a model folder, or a list (the first that exists is used); None: trained
            retrained="references/without_{classes}_seed{seed}",   # model folders, if they exist
            train=dict(epochs=30, lr=0.1, weight_decay=5e-4, batch_size=128)))
        data = dict(forget="cifar10:DIR", retain="cifar10:DIR", train="cifar10:DIR?limit=5000", test="cifar10:DIR")

    The forgotten classes are chosen from 'forget', all others from 'retain'; neither may contain ``class=`` or ``without=``.
    ``classes`` are 'cifar10', 'cifar100', 'data' (the names in 'forget') or a list. In ``retrained``, ``{classes}`` are the
    names, sorted and joined by '_'. Networks are trained on ``train['data']``, else on 'forget'. Trained and imported models are
    stored in the folder models of the work dir; an interrupted training is resumed.
    """

    def check(self) -> None:
        unknown = set(self.grid.data) - set(DATA_KEYS)
        missing = {"forget", "train", "test"} - set(self.grid.data)
        if any(kind.needs_retain_set for kind in map(method_of, self.grid.methods.values())):
            missing |= {"retain"} - set(self.grid.data)
        if unknown or missing:
            raise RequestError(
                f"data of the grid: {', '.join(sorted(unknown | missing))} unknown or missing; its keys are "
                f"{', '.join(DATA_KEYS)}"
            )
        for name, network in self.grid.networks.items():
            wrong = set(network) - set(NETWORK_KEYS) | set(network.get("train") or {}) - set(TRAIN_KEYS)
            if wrong:
                raise RequestError(
                    f"networks['{name}']: unknown {', '.join(sorted(wrong))}; its keys are {', '.join(NETWORK_KEYS)}, and those "
                    f"of train {', '.join(TRAIN_KEYS)}"
                )
            if network.get("original") is None and not network.get("train"):
                raise RequestError(f"networks['{name}'] has neither original nor train; give one")
            self._original_path(name)
            for group, classes in self.grid.groups.items():
                resolve_classes(list(classes), list(self.names(name)))
                self._data(Cell(name, group, classes, "", {}, 0))

    # Networks ------------------------------------------------------------------------------------------------------

    def _original_path(self, network: str) -> Path | None:
        """Find the original's weights file or model folder, the first that exists; None if it is to be trained."""
        original = self.grid.networks[network].get("original")
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
        digests = {}
        for name in self.grid.networks:
            path = self._original_path(name)
            weights = path / WEIGHTS_NAME if path is not None and path.is_dir() else path
            digests[name] = "trained" if weights is None else file_sha256(weights)
        return digests

    def inputs(self) -> Sequence[Path]:
        return [path for path in map(self._original_path, self.grid.networks) if path is not None]

    def _spec(self, network: str) -> ModelSpec:
        options, original = self.grid.networks[network], self._original_path(network)
        if original is not None and original.is_dir():
            return load_spec(original)
        for key in ("architecture", "classes"):
            if key not in options:
                raise RequestError(f"networks['{network}'] has no {key}; give it, or a model folder as original")
        names = options["classes"]
        if names == "data":
            names = _open(self.grid.data["forget"], "train").class_names
        elif isinstance(names, str):
            names = CLASSES.get(names, names)
        preprocessing = Preprocessing.named(options.get("normalization", "imagenet"), options.get("size", 32))
        return ModelSpec(options["architecture"], tuple(names), preprocessing, dict(options.get("arguments") or {}))

    def names(self, network: str) -> Sequence[str]:
        return self._spec(network).classes

    def _original_folder(self, network: str) -> Path:
        path = self._original_path(network)
        if path is not None and path.is_dir():
            return path
        folder = self.folder / "models" / f"{slug(network)}_original"
        if path is None:
            return self._train(network, (), self.grid.networks[network]["train"].get("seed", 0), folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / SPEC_NAME).is_file():
                spec = self._spec(network)
                import_checkpoint(path, folder, spec.architecture, spec.classes, spec.preprocessing, spec.arguments)
        return folder

    def _retrained_folder(self, network: str, classes: Sequence[str], seed: int) -> Path | None:
        """Find the retrained model that the grid names; None if it does not exist."""
        pattern = self.grid.networks[network].get("retrained")
        if pattern is None:
            return None
        folder = Path(pattern.format(classes="_".join(sorted(classes)), seed=seed))
        return folder if (folder / SPEC_NAME).is_file() else None

    def has_retrained(self, network: str, classes: Sequence[str], seed: int) -> bool:
        can_train = bool(self.grid.networks[network].get("train"))
        return can_train or self._retrained_folder(network, classes, seed) is not None

    def _train(self, network: str, without: Sequence[str], seed: int, folder: Path) -> Path:
        """Train a network completely, unless it exists; other processes that need it wait."""
        recipe = dict(self.grid.networks[network]["train"])
        data = recipe.pop("data", self.grid.data["forget"])
        recipe.pop("seed", None)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / SPEC_NAME).is_file():
                work = folder.with_name(f"{folder.name}_training")
                # Parsed as a command line for the command's defaults.
                words = ["images", "train", "--data", data, "--work-dir", str(work), "--resume", "--seed", str(seed)]
                options = {**vars(parse(words)), **recipe, "launcher": "none", "console": make_console()}
                train(self._spec(network), data, None, without, str(work), options)
                (work / "model").replace(folder)
        return folder

    # Data ----------------------------------------------------------------------------------------------------------

    def _data(self, cell: Cell) -> dict[str, ImageData]:
        names = tuple(self.names(cell.network))
        texts = {"forget": self._forget(cell), "train": self.grid.data["train"], "test": self.grid.data["test"]}
        return {key: _open(text, "test" if key == "test" else "train", names) for key, text in texts.items()}

    def _forget(self, cell: Cell) -> str:
        return parse_spec(self.grid.data["forget"]).compose({"class": cell.classes})

    def _opened(self, cell: Cell, row: str, network: nn.Module, spec: ModelSpec) -> Opened:
        names = self.names(cell.network)
        ids = resolve_classes(list(cell.classes), list(names))
        return make_opened({row: (network.to(choose_device()), spec)}, names, samples=self._data(cell), ids=ids)

    # Models --------------------------------------------------------------------------------------------------------

    def original(self, cell: Cell) -> Opened:
        return self._opened(cell, "original", *load_model(self._original_folder(cell.network)))

    def retrained(self, cell: Cell) -> Opened:
        folder = self._retrained_folder(cell.network, cell.classes, cell.seed)
        if folder is None:
            name = f"{slug(cell.network)}_without_{slug('_'.join(sorted(cell.classes)))[:80]}_seed{cell.seed}"
            folder = self._train(cell.network, cell.classes, cell.seed, self.folder / "models" / name)
        return self._opened(cell, "retrained", *load_model(folder))

    def erase(self, cell: Cell, folder: Path) -> Erased:
        unlearn = dict(cell.unlearn)
        options: dict[str, Any] = {
            **dict.fromkeys((*UNLEARN_OPTIONS, "method", "workers", "launcher")),
            "augment": unlearn.pop("augment", None),
            "allow_import": False,
            "resume": True,
            "seed": cell.seed,
            "model": str(self._original_folder(cell.network)),
            "classes": list(cell.classes),
            "forget": self._forget(cell),
            "retain": parse_spec(self.grid.data["retain"]).compose({"without": cell.classes}) if cell.retain else None,
            "work_dir": str(folder),
            "cfg_options": {"unlearn": {**unlearn, "overwrite": True}},
        }
        cfg = make_config(None, options)
        cfg.log_level = "WARNING"
        runner = UnlearnRunner.from_cfg(cfg)
        try:
            runner.train()
        finally:
            runs.release_runner(runner.experiment_name)
        model: Any = runner.unwrapped_model
        opened = self._opened(cell, "erased", model.network.eval(), load_spec(options["model"]))
        per_step = runner.train_dataloader.batch_size * (2 if cell.retain or cfg.unlearn.get("public") else 1)
        seconds = runner.outcome.seconds["unlearning"]
        return Erased(opened, seconds, runner.iter * per_step, runner.iter // runner.accumulation)


@lru_cache(maxsize=16)
def _open(data: str, split: str, names: tuple[str, ...] | None = None) -> ImageData:
    return open_data(data, split, names)
