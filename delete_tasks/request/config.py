"""Config files: those of the package, loading and changing one, learning rate schedules, and the class names that one declares. A
config is Python code, which loading runs."""

import argparse
import ast
import contextlib
import importlib.util
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..display.terminal import hush, is_quiet
from ..errors import RequestError, first_line
from ..fileio.inputs import read_text
from ..fileio.processes import raise_lost

KINDS = (".py", ".json", ".yaml", ".yml")
SECTIONS = (
    "unlearn",
    "unlearn.optimizer",
    "train_dataloader",
    "test_dataloader",
    "optim_wrapper",
    "default_hooks",
    "randomness",
)  # dicts, if present
LOGGERS = {"tensorboard": "TensorboardVisBackend", "wandb": "WandbVisBackend", "mlflow": "MLflowVisBackend"}
SCHEDULES = ("constant", "cosine", "warmup_cosine")
WARMUP = 0.1  # share of the steps
FIRST = 0.01  # share of the learning rate at the first step


def config_path(name: str) -> Path:
    """Find a config of the package, e.g. ``'segmentation/cgnet_camvid_forget-car.py'``; raise RequestError with a list of the
    configs if there is no such config."""
    package = Path(__file__).resolve().parents[1]
    folder = package / "configs"  # in a wheel
    folder = folder if folder.is_dir() else package.parent / "configs"
    if not (folder / name).is_file():
        names = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.py"))
        raise RequestError(f"no config '{name}'; there are: {', '.join(names)}")
    return folder / name


def load_config(path: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Any:
    """Load a config as :func:`read_config`, and import its ``custom_imports`` as :func:`import_modules`."""
    cfg = read_config(path, changes)
    import_modules(cfg)
    return cfg


def read_config(path: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Any:
    """Read an mmengine config (Python, which is run, JSON or YAML) and apply the ``changes`` of :func:`parse_options`; raise
    FileNotFoundError without such a file, RequestError if it cannot be read or a change does not fit it."""
    from mmengine.config import Config

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no config at '{path}'{' (it is a folder)' if path.is_dir() else ''}; give a .py file")
    if path.suffix not in KINDS:
        raise RequestError(f"'{path}' is no config: expected a file that ends in {', '.join(KINDS)}")
    with _clearly(f"the config '{path}' cannot be read", "Fix it or give another config"), _temporary_folder():
        cfg = Config.fromfile(path, import_custom_modules=False)
    if not len(cfg):
        raise RequestError(f"the config '{path}' is empty")
    _refuse_functions(path, cfg)
    check_sections(cfg, f"the config '{path}'")
    change_config(cfg, changes, f"'{path}'")
    return cfg


def import_modules(cfg: Any) -> None:
    """Import the modules of a config's ``custom_imports``, from its folder as well; raise RequestError if one cannot be."""
    from mmengine.logging import MMLogger
    from mmengine.utils import import_modules_from_strings

    if is_quiet():
        hush(MMLogger.get_current_instance())
    if not cfg.get("custom_imports"):
        return
    folder = str(Path(cfg.filename).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # the last, so that no file beside the config hides an installed module
    hint = "Modules beside the config and on PYTHONPATH are found: correct the name, or set PYTHONPATH to the module's folder"
    with _clearly(f"the config '{cfg.filename}': custom_imports cannot be imported", hint):
        import_modules_from_strings(**cfg.custom_imports)


@contextlib.contextmanager
def _clearly(what: str, fix: str) -> Iterator[None]:
    """Turn what a user's code raises, which may be anything, even SystemExit, into a RequestError."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        raise_lost(error)
        cause = error.__context__ if type(error) is ImportError else None  # mmengine's own only names the module
        raise RequestError(f"{what}: {_short(cause or error)}. {fix}") from error


def _refuse_functions(path: Path, cfg: Mapping[str, Any]) -> None:
    """Refuse functions with the name of a section, which mmengine would ignore."""
    for node in ast.parse(path.read_bytes()).body if path.suffix == ".py" else ():
        names = [node.name] if isinstance(node, ast.FunctionDef) else []
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        for name in names:
            if name in cfg or name in ("model", *SECTIONS):
                raise RequestError(f"the config '{path}': {name} is a function; expected {name} = dict(...)")


@contextlib.contextmanager
def _temporary_folder() -> Iterator[None]:
    """Use a temporary folder with the id of this process in its name, so that the next command deletes it if this one is killed:
    mmengine copies configs, which may name the forgotten classes, into it. If the terminal is quiet, log none of the environment
    variables that a config reads: mmengine's logger imports torch."""
    from mmengine.config import config as module

    prefix, before, log = "delete_tasks_config_", tempfile.tempdir, module.print_log
    for leftover in Path(tempfile.gettempdir()).glob(f"{prefix}*_*"):
        if _has_ended(leftover.name.rpartition("_")[2]):
            shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(f"_{os.getpid()}", prefix, ignore_cleanup_errors=True) as tempfile.tempdir:
        module.print_log = (lambda *_, **__: None) if is_quiet() else log
        try:
            yield
        finally:
            tempfile.tempdir, module.print_log = before, log


def _has_ended(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (OSError, OverflowError, ValueError) as error:
        return isinstance(error, ProcessLookupError)
    return False


def change_config(cfg: Any, changes: Mapping[str, Any] | None, source: str = "this command") -> None:
    """Merge the command line's changes into a config, in place; raise RequestError, naming ``source``, if one does not fit."""
    try:
        cfg.merge_from_dict(dict(changes or {}))
    except Exception as error:
        raise_lost(error)
        raise RequestError(f"--cfg-options do not fit {source}: {_short(error)}") from error
    check_sections(cfg, f"{source} with --cfg-options")


def set_run(cfg: Any, options: Mapping[str, Any]) -> None:
    """Set all unlearning commands' options in place; raise RequestError if the package of ``log_to`` is not installed."""
    cfg.runner_type = "UnlearnRunner"
    cfg.work_dir = options["work_dir"]
    cfg.resume = bool(options.get("resume"))
    cfg.launcher = options.get("launcher") or "none"
    if options.get("seed") is not None:
        cfg.randomness = {**(cfg.get("randomness") or {}), "seed": options["seed"]}
    if package := options.get("log_to"):
        if importlib.util.find_spec(package) is None:
            raise RequestError(f"--log-to {package}: {package} is not installed; run: pip install {package}")
        visualizer = {"type": "Visualizer", **(cfg.get("visualizer") or {})}
        backend: dict[str, Any] = {"type": LOGGERS[package]}
        if package == "mlflow":
            backend["artifact_suffix"] = ()  # copies no log
        cfg.visualizer = {**visualizer, "vis_backends": [*(visualizer.get("vis_backends") or ()), backend]}
    if options.get("amp"):
        cfg.optim_wrapper = amp_wrapper(cfg.get("optim_wrapper") or {})


def check_sections(cfg: Mapping[str, Any], source: str, needed: Sequence[str] = ()) -> None:
    """Check the types of the sections of a config; ``needed`` are dotted names of required ones. Raise RequestError, which names
    ``source``, if a section is missing or no dict, ``custom_hooks`` no list of dicts, or ``log_level`` unknown."""
    for name in (*SECTIONS, *needed):
        first, *rest = name.split(".")
        section: Any = cfg.get(first)
        for part in rest:
            section = section.get(part) if isinstance(section, Mapping) else None
        if not isinstance(section, Mapping) and (section is not None or name in needed):
            raise RequestError(f"{source}: {name} is {str(section)[:80]!r}; expected {name} = dict(...)")
    hooks = cfg.get("custom_hooks")
    if hooks is not None and not (isinstance(hooks, list) and all(isinstance(hook, Mapping) for hook in hooks)):
        raise RequestError(f"{source}: custom_hooks is {str(hooks)[:80]!r}; expected a list of dict(type=...)")
    level = cfg.get("log_level", "INFO")
    if not isinstance(level, int) and not isinstance(logging.getLevelName(level), int):
        raise RequestError(f"{source}: log_level is {level!r}; expected one of DEBUG, INFO, WARNING, ERROR, CRITICAL")


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Parse ``key=value`` pairs like mmengine's DictAction; raise RequestError if a pair has no '=' or no valid value."""
    if not pairs:
        return {}
    from mmengine.config import DictAction

    reader = argparse.ArgumentParser(exit_on_error=False)
    reader.add_argument("--cfg-options", nargs="+", action=DictAction)
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, _ = pair.partition("=")
        if not key or not equals:
            raise RequestError(f"--cfg-options takes KEY=VALUE, e.g. train_dataloader.batch_size=4; got '{pair}'")
        try:
            options |= reader.parse_args([f"--cfg-options={pair}"]).cfg_options
        except (Exception, SystemExit) as error:
            raise_lost(error)
            raise RequestError(f"--cfg-options: cannot read the value of '{pair}': {_short(error)}") from error
    return options


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)[:300]}"


def amp_wrapper(wrapper: Mapping[str, Any]) -> dict[str, Any]:
    """Make an ``optim_wrapper`` for mixed precision; on a CPU :class:`delete_tasks.runner.recipe.CpuAmpOptimWrapper`."""
    from mmengine.device import get_device

    if get_device() != "cpu":
        return {**wrapper, "type": "AmpOptimWrapper"}
    options = {name: value for name, value in wrapper.items() if name not in ("loss_scale", "dtype", "use_fsdp")}
    return {**options, "type": "CpuAmpOptimWrapper"}


def schedulers(schedule: str, steps: int) -> list[dict[str, Any]]:
    """Make mmengine's scheduler configs for a number of optimizer steps; 'constant' needs none. 'cosine' falls to 0 over the
    steps (SGDR, arXiv 1608.03983, one cycle). 'warmup_cosine' first rises from a hundredth of the rate over a tenth of the steps:
    at the full rate, the first steps, before an optimizer's moments are estimated, damage other classes for good."""
    if schedule == "constant":
        return []
    rise = round(WARMUP * steps) if schedule == "warmup_cosine" else 0
    rise = rise if rise > 1 else 0  # a linear rise needs two steps
    rising = {"type": "LinearLR", "start_factor": FIRST, "begin": 0, "end": rise}
    falling = {"type": "CosineAnnealingLR", "T_max": steps - rise, "begin": rise, "end": steps, "eta_min": 0.0}
    return [{**part, "by_epoch": False} for part in ([rising, falling] if rise else [falling])]


def declared_classes(cfg: Any, *packages: str) -> list[str]:
    """Find the class names of a config's training data, as literals: in its ``metainfo``, or as ``METAINFO`` in the source of the
    dataset's class, which is beside the config, or in the module or folder ``datasets`` of an installed package. Return an empty
    list if there are none, or the config is malformed."""
    try:
        data = cfg.train_dataloader.dataset
        while "dataset" in data:  # a wrapper, such as RepeatDataset
            data = data.dataset
        names = (data.get("metainfo") or {}).get("classes")
        if names is None:
            imports = cfg.get("custom_imports", {}).get("imports", ())
            paths = [Path(cfg.filename).with_name(f"{name}.py") for name in imports]
            for folder in (Path(spec.origin or "").parent for spec in map(importlib.util.find_spec, packages) if spec):
                paths += [folder / "datasets.py", *folder.glob("datasets/*.py")]
            names = _classes_of(data.type.rpartition(".")[2], [read_text(path) for path in paths if path.is_file()])
    except Exception:  # a later check says what is wrong
        return []
    return list(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else []


def _classes_of(kind: str, sources: Iterable[str]) -> Any:
    """Read the class names in METAINFO of a dataset class, or of its first base."""
    nodes: list[Any] = ast.parse(next(text for text in sources if f"class {kind}(" in text)).body
    (node,) = (node for node in nodes if isinstance(node, ast.ClassDef) and node.name == kind)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__" and "metainfo" in ast.unparse(item):
            raise ValueError("its constructor may set other names")
        if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "METAINFO":
            value: Any = item.value
            if isinstance(value, ast.Call):  # dict(classes=...)
                return ast.literal_eval(next(key.value for key in value.keywords if key.arg == "classes"))
            return ast.literal_eval(value.values[[key.value for key in value.keys].index("classes")])
    return _classes_of(ast.unparse(node.bases[0]), sources)
