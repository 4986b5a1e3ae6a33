"""Config files: the package's own, and reading one. A config is Python code: a command that is given it runs that code."""

import argparse
import ast
import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..display.terminal import hush, is_quiet
from ..errors import RequestError
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
)  # dicts, if there


def config_path(name: str) -> Path:
    """Find a config that comes with the package, e.g. ``'segmentation/cgnet_camvid_forget-car.py'``.

    Raises:
        RequestError: There is no such config; the message lists the configs.
    """
    here = Path(str(files(__name__.partition(".")[0]))).resolve()
    folder = here / "configs" if (here / "configs").is_dir() else here.parent / "configs"  # wheel, or source tree
    if not (folder / name).is_file():
        names = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.py"))
        raise RequestError(f"no config '{name}'; there are: {', '.join(names)}")
    return folder / name


def load_config(path: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Any:
    """Load an mmengine config from a file and apply the command line's changes.

    Args:
        path: Python, JSON or YAML. Python is run.
        changes: Dotted keys and values, as :func:`parse_options` gives them.

    Raises:
        FileNotFoundError: There is no such file.
        RequestError: It cannot be read, or a change does not fit it.
    """
    from mmengine.config import Config
    from mmengine.logging import MMLogger

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no config at '{path}'{' (it is a folder)' if path.is_dir() else ''}; give a .py file")
    if path.suffix not in KINDS:
        raise RequestError(f"'{path}' is no config: expected a file that ends in {', '.join(KINDS)}")
    if is_quiet():
        hush(MMLogger.get_current_instance())  # mmengine logs each environment variable that a config reads
    try:
        with _own_temporary_folder():
            cfg = Config.fromfile(path)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # a config is code and may raise anything, SystemExit included
        raise_lost(error)
        raise RequestError(f"the config '{path}' cannot be read: {_short(error)}. Mend it, or give another") from error
    if not len(cfg):
        raise RequestError(f"the config '{path}' is empty")
    _refuse_functions(path, cfg)
    check_sections(cfg, f"the config '{path}'")
    change_config(cfg, changes, f"'{path}'")
    return cfg


def _refuse_functions(path: Path, cfg: Mapping[str, Any]) -> None:
    """mmengine leaves functions of a config out, so that one with a section's name would do nothing."""
    for node in ast.parse(path.read_bytes()).body if path.suffix == ".py" else ():
        names = [node.name] if isinstance(node, ast.FunctionDef) else []
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        for name in names:
            if name in cfg or name in ("model", *SECTIONS):
                raise RequestError(f"the config '{path}': {name} is a function; expected {name} = dict(...)")


@contextlib.contextmanager
def _own_temporary_folder() -> Iterator[None]:
    """mmengine copies configs, which may name what is forgotten, to the temporary folder: into one whose name says whose
    it is, so that the next command deletes what a killed one left."""
    prefix, before = "delete_tasks_config_", tempfile.tempdir
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*_*"):
        if _has_ended(left.name.rpartition("_")[2]):
            shutil.rmtree(left, ignore_errors=True)
    tempfile.tempdir = tempfile.mkdtemp(prefix=prefix, suffix=f"_{os.getpid()}")
    try:
        yield
    finally:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
        tempfile.tempdir = before


def _has_ended(process: str) -> bool:
    if os.name != "posix" or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def change_config(cfg: Any, changes: Mapping[str, Any] | None, source: str = "this command") -> None:
    """Merge the command line's changes into a config, in place.

    Raises:
        RequestError: One does not fit; ``source`` is named.
    """
    try:
        cfg.merge_from_dict(dict(changes or {}))
    except Exception as error:
        raise_lost(error)
        raise RequestError(f"--cfg-options do not fit {source}: {_short(error)}") from error
    check_sections(cfg, f"{source} with --cfg-options")


def set_run(cfg: Any, options: Mapping[str, Any]) -> None:
    """Set, in place, the options of every command that unlearns: ``work_dir``, ``resume``, ``launcher`` and ``seed``, and mixed
    precision for ``amp``."""
    cfg.runner_type = "UnlearnRunner"
    cfg.work_dir = options["work_dir"]
    cfg.resume = bool(options.get("resume"))
    cfg.launcher = options.get("launcher") or "none"
    if options.get("seed") is not None:
        cfg.randomness = {**(cfg.get("randomness") or {}), "seed": options["seed"]}
    if options.get("amp"):
        cfg.optim_wrapper = amp_wrapper(cfg.get("optim_wrapper") or {})


def check_sections(cfg: Mapping[str, Any], source: str, needed: Sequence[str] = ()) -> None:
    """Refuse a config in which a section is of another kind than commands read and change. ``needed`` are dotted names of
    sections that must be there; ``source`` is named in messages.

    Raises:
        RequestError: One is missing, or no dict; or ``custom_hooks`` is no list of dicts.
    """
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
    """``key=value`` words to a dict, values read as mmengine's DictAction reads them.

    Raises:
        RequestError: A word without '=', or a value that cannot be read.
    """
    from mmengine.config import DictAction

    reader = argparse.ArgumentParser(exit_on_error=False)
    reader.add_argument("--cfg-options", nargs="+", action=DictAction)
    found: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, _ = pair.partition("=")
        if not key or not equals:
            raise RequestError(f"--cfg-options takes KEY=VALUE, e.g. train_dataloader.batch_size=4; got '{pair}'")
        try:
            found |= reader.parse_args([f"--cfg-options={pair}"]).cfg_options
        except (Exception, SystemExit) as error:
            raise_lost(error)
            raise RequestError(f"--cfg-options: cannot read the value of '{pair}': {_short(error)}") from error
    return found


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def amp_wrapper(wrapper: Mapping[str, Any]) -> dict[str, Any]:
    """Change an ``optim_wrapper`` config to one that computes in mixed precision, on a GPU if torch sees one.

    Its type for a CPU is :class:`delete_tasks.runner.recipe.CpuAmpOptimWrapper`.
    """
    from mmengine.device import get_device

    if get_device() != "cpu":
        return {**wrapper, "type": "AmpOptimWrapper"}
    kept = {name: value for name, value in wrapper.items() if name not in ("loss_scale", "dtype", "use_fsdp")}
    return {**kept, "type": "CpuAmpOptimWrapper"}
