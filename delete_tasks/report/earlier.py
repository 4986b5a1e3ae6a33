"""Erased model of an earlier run, reported as a run's command reports its own: what its run did, if the work dir says so."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import RequestError
from ..evaluation.forget_data import FORGET_SET, Selection
from ..evaluation.opened import Opened
from ..fileio.compute import flush_subnormals
from ..fileio.digests import describe_model
from ..fileio.inputs import read_text
from ..fileio.validate import read_json
from ..fileio.workdir import WorkDir
from ..runner.done import ACCOUNT, OF_OUTCOME, OF_SELECTION
from ..task import Outcome, Task
from .record.files import RECORD, SAMPLES
from .results import check_schema


def earlier_run(task: Task, model: Any, opened: Opened, paths: Mapping[str, str], cfg: Any, work: WorkDir) -> Any:
    """Make a stand-in for an earlier run's runner, for :func:`delete_tasks.report.finish.report`. ``paths`` are those of
    'original' and 'erased', which is loaded as ``model``; ``opened`` gets a sentence on the source of the run's account; ``work``
    is the work dir to report into. Raise RequestError if the models hold the same tensors."""
    flush_subnormals()  # as in a run
    digests = {role: describe_model(path, work.path)["tensors_sha256"] for role, path in paths.items()}
    if digests["original"] == digests["erased"]:
        same = f"'{paths['original']}' and '{paths['erased']}' hold the same tensors"
        raise RequestError(f"{same}; give the original model and the erased one")
    told, samples = _read_account(Path(paths["erased"]).absolute().parent, digests)
    if told is None:
        told = {**dict.fromkeys(("steps", *OF_OUTCOME, *OF_SELECTION)), "seconds": {}}
        told["recipe"] = {"type": None, "classes": [opened.names[i] for i in opened.ids], "steps": None}
        told["forget_set"] = {"read": None, "available": None}
    else:
        opened.limits = [*opened.limits, "What was done is as the work dir of the earlier run says."]
    work.retire()
    sets = {name: told[name] for name in OF_SELECTION}
    return SimpleNamespace(
        task=task,
        unwrapped_model=model,
        teacher_path=paths["original"],
        cfg=cfg,
        work=work,
        work_dir=str(work.path),
        selection=Selection(sample_names=samples, class_names=opened.names, forget_ids=opened.ids, **sets),
        outcome=Outcome(told["forget_check"], told["finished"], published=paths["erased"], done=told["done"]),
        account=lambda: told,
        train_dataloader=None,
    )


def _read_account(folder: Path, digests: Mapping[str, str]) -> tuple[dict[str, Any] | None, list[str]]:
    """Read what the run in a work dir did and read; None without a run.json or a record of models with these ``digests``."""
    for path in (folder / ACCOUNT, folder / RECORD):
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = read_json(path)
            account = {key: content["results"][key] for key in ("recipe", "steps", *OF_OUTCOME, *OF_SELECTION)}
            check_schema(account, path, [*account])
            if all(content["models"][role]["tensors_sha256"] == digest for role, digest in digests.items()):
                lines = [] if path.name == ACCOUNT else read_text(folder / SAMPLES).splitlines()
                names = [name for kind, _, name in (line.partition("\t") for line in lines) if kind == FORGET_SET]
                return account, list(map(str, content["samples"])) if path.name == ACCOUNT else names
    return None, []
