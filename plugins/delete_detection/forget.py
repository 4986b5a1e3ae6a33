"""Command ``detection forget``: unlearn, measure before and after, write the erased model, figures and picture."""

import copy
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmengine.config import Config
from rich.console import Console

from delete_images import run_config as runs
from delete_images.models.model_file import WEIGHTS_NAME, load_model
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Evaluation
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.reader import OpenedModel
from delete_tasks.fileio.compute import choose_device
from delete_tasks.fileio.images import check_pictures
from delete_tasks.report.finish import report
from delete_tasks.report.results import collect
from delete_tasks.request.classes import resolve_classes
from delete_tasks.request.config import change_config, set_run
from delete_tasks.runner.forecast import dry_run as described
from delete_tasks.runner.states import train
from delete_tasks.runner.unlearn_runner import UnlearnRunner

from .data import DetectionData, open_pictures
from .measure import METRICS, detected, refuse_unknown
from .model import Detector, remove_classes
from .parts import parts_of
from .picture import draw_boxes
from .probe import at_boxes
from .task import METHOD, TASK

PICTURE = "boxes_before_after.jpg"
UNLEARN_OPTIONS = ("steps", "lr", "batch_size", "into", "select", "keep_row")


def make_config(options: Mapping[str, Any]) -> Config:
    """Make a run's config from the command line."""
    annotated = Path(options["images"]).is_file()
    select = options["select"] or ("labels" if annotated else "teacher")
    if select == "labels" and not annotated:
        raise RequestError(
            f"--select labels reads annotations, and '{options['images']}' is a folder; give COCO annotations"
        )
    chosen = {name: options[name] for name in UNLEARN_OPTIONS if options[name] is not None} | {"select": select}
    unlearn = {**runs.method_class(METHOD).defaults(TASK.recipes), **chosen}
    cfg = Config(
        {
            "default_scope": "mmengine",
            "model": {"type": "Detector", "spec": options["model"], "allow_import": options["allow_import"]},
            "load_from": str(Path(options["model"]) / WEIGHTS_NAME),
            "train_dataloader": {
                "num_workers": options["workers"] or 0,
                "sampler": {"type": "InfiniteSampler"},
                "collate_fn": {"type": "collate_views"},
                "dataset": {"type": "DetectionData", "images": options["images"], "spec": options["model"]},
            },
            "unlearn": runs.unlearn_options(list(options["classes"]), METHOD, unlearn),
        }
    )
    change_config(cfg, options.get("cfg_options"))
    set_run(cfg, options)
    return cfg


def check(cfg: Config, args: SimpleNamespace) -> tuple[Opened, DetectionData, Any]:
    """Check a request before anything is written; open model and data. Refuse unknown classes, the background, data that cannot
    be read, annotations without the model's classes, and test images of the forget set."""
    network, spec = load_model(args.model, args.allow_import)
    model, names = Detector(network.to(choose_device()), parts_of(network)), list(spec.classes)
    ids = resolve_classes(cfg.unlearn.classes, names)
    if model.parts.background in ids:
        raise RequestError(f"'{names[model.parts.background]}' is the background, which cannot be forgotten")
    data = DetectionData(args.images, spec)
    tested = None if args.test is None else open_pictures(args.test, spec.preprocessing)
    for path, pictures in ((args.images, data.pictures), (args.test, tested)):
        if pictures is not None and pictures.truth is not None:
            refuse_unknown(pictures.truth, names, path)
    if cfg.unlearn.select == "labels":  # by the original's boxes, all are read before the first step
        check_pictures(map(str, data.pictures.subset(data.find_forget_set(ids, None, cfg)).items))
    items = [] if tested is None else tested.items
    same = {Path(item).resolve() for item in items} & {Path(item).resolve() for item in data.pictures.items}
    if same:
        raise RequestError(f"--test holds {len(same)} of the images in --images, e.g. '{min(same)}'; give other images")
    layer = model.network.get_submodule(model.parts.classes[0])
    opened = Opened({"original": OpenedModel(model.eval(), layer)}, names, ids=ids, of="images")
    opened.measured_on = args.test
    return opened, data, tested


def dry_run(cfg: Config, args: SimpleNamespace, console: Console) -> None:
    """Check everything and print what a run would do, and its time; nothing is trained, nothing is written."""
    opened, data, _ = check(cfg, args)
    for line in described(cfg, opened, data, data.collate):
        console.print(line)


def run(cfg: Config, args: SimpleNamespace, console: Console) -> dict[str, Any] | None:
    """Unlearn and measure; write erased/, results.json and the picture into the config's work dir. Return the content of
    results.json and the command's ``exit_status``; None on all processes but the first."""
    opened, data, tested = check(cfg, args)
    runner = UnlearnRunner.from_cfg(cfg, data)
    if not train(runner):
        return None
    model: Any = runner.unwrapped_model
    original: Any = opened.models["original"].module
    ids, names = runner.selection.forget_ids, list(opened.names)
    evaluation = Evaluation(METRICS, ids, names)
    forget_set = data.pictures.subset(runner.selection.indices)
    pictures = tested or forget_set

    def measure() -> None:
        rows = {"original": original, "logit_cut": _copy(original), "erased": model}
        remove_classes(rows["logit_cut"].network, model.parts, ids)
        rows["erased_with_original_head"] = restored = _copy(model)
        for name in (*model.parts.classes, *model.parts.objectness):
            restored.network.get_submodule(name).load_state_dict(original.network.get_submodule(name).state_dict())
        for row, each in rows.items():
            evaluation.add(row, {"test": detected(each, pictures, data.size, names, row)})

    def attacked() -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {"original": {}, "erased": {}}
        for split, images in (("train", forget_set), ("test", tested)):
            read = {} if images is None else at_boxes({"original": original, "erased": model}, images, data.size, split)
            for row, predictions in read.items():
                rows[row][split] = predictions
        return rows

    evaluation.attempt("rows", measure)
    read = {"forget": args.images, "test": args.test}
    results = collect(runner, evaluation, data=read, measured_on=args.test)

    def draw(path: Path) -> None:
        before, after = (evaluation.data[row]["test"].boxes for row in ("original", "erased"))
        draw_boxes(path, pictures, before, after, ids, names)

    on = "test images" if args.test else "the forget set"
    title = f"Forgetting {', '.join(results['forgotten'])}: percent, on {on}"
    picture = (PICTURE, draw, "Boxes of the original and of the erased model.")
    return report(
        runner, evaluation, results, opened, console, title=title, wide=args.wide, picture=picture, attacked=attacked
    )


def _copy(model: Any) -> Detector:
    return Detector(copy.deepcopy(model.network), model.parts)
