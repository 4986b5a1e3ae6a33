"""Segmentors and scenes, opened once for the table, a record's rerun, the audit and attention."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils.data import DataLoader

from delete_tasks.audit.samples import read_rows
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.copies import Copies
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.reader import NO_LABEL, DataSamples, OpenedModel
from delete_tasks.fileio.checkpoint import load_once, load_weights
from delete_tasks.fileio.compute import choose_device
from delete_tasks.model.features import FeatureTap
from delete_tasks.request.classes import resolve_classes
from delete_tasks.request.config import load_config
from delete_tasks.runner.recipe import no_downloads

from .files import ignored_labels
from .heads import class_logits, classifier, main_head
from .labels import drop_annotations, find_copies
from .look import look_at_scenes, pixel_labels
from .memory import window
from .recorded_config import check_config, portable_config
from .regions import count_misplaced
from .splits import Splits, loader_of_split, scenes

MOST_IMAGES = 100  # per split of an audit, evenly spaced
MOST_IN_RUN = 20  # per split of the audit within a run, which is to take a fraction of the run's time
LISTS = ("expected", "avoid", "ignored")  # of class ids, which a record keeps
OF = "pixels, each counted as independent of the others"


def build_segmentor(cfg: Config, path: str) -> Any:
    """Build the config's model with a file's weights, strictly loaded, in eval mode, on a GPU if there is one."""
    no_downloads(cfg.model)
    model: Any = revert_sync_batchnorm(MODELS.build(cfg.model))
    load_weights(model, path)
    return model.to(choose_device()).eval()


@dataclass(frozen=True)
class Pictures:
    """Batches of one sample, as a segmentor's ``test_step`` takes it, with its annotated label map ``(1, H, W)``, if any."""

    workers: int = 0
    size: int = 1

    def __call__(self, samples: DataSamples) -> Iterator[tuple[Any, Tensor]]:
        generator = torch.Generator()  # else the loader draws from the global one
        for data in DataLoader(samples, 1, num_workers=self.workers, collate_fn=pseudo_collate, generator=generator):
            annotated = getattr(data["data_samples"][0], "gt_sem_seg", None)
            yield data, torch.full((1, 1, 1), NO_LABEL) if annotated is None else annotated.data.cpu()


class TestStep:
    """Forward pass by ``test_step``: logits at the size of the annotation; ``samples`` holds the last batch's data samples."""

    samples: Sequence[Any] = ()

    def predict(self, model: Any, data: Any) -> Any:
        """Predict a batch."""
        return model.test_step(data)

    def __call__(self, model: Any, data: Any) -> Tensor:
        self.samples = ()  # the last batch's logits, which can be a large image's
        self.samples = self.predict(model, data)
        logits = [sample.seg_logits.data for sample in self.samples]
        return logits[0][None] if len(logits) == 1 else torch.stack(logits)  # no copy of a large image's


class OtherHead(TestStep):
    """Forward pass of an ``other`` last layer on the features of a ``step``, while the ``tap`` on its own ``layer`` is open."""

    def __init__(self, step: Any, layer: nn.Module, other: nn.Module) -> None:
        self.step, self.tap, self.other = step, FeatureTap(layer), other

    def predict(self, model: Any, data: Any) -> Any:
        metas = [sample.metainfo for sample in self.step.samples]
        logits = main_head(model)[1].predict_by_feat(self.other(self.tap.features), metas)
        return model.postprocess_result(logits, [SegDataSample(metainfo=meta) for meta in metas])


@contextmanager
def reheaded(model: OpenedModel, other: nn.Module, samples: DataSamples) -> Iterator[OpenedModel]:
    """Put another last layer on a segmentor, read right after it: on features of the same pass or, if the logits of the first of
    ``samples`` are not its own last layer's output (a module follows, or images are read in windows), on those of a copy."""
    head, data = OtherHead(model.forward, model.last_layer, model.last_layer), pseudo_collate([samples[0]])
    with head.tap:
        with torch.no_grad():  # an image that is predicted in windows may be too large to compare
            alone = predicts_whole(model.module) and torch.allclose(
                model.run(data), head(model.module, data), rtol=1e-3, atol=1e-3
            )
        if alone:
            head.other = other
            yield replace(model, forward=head)
            return
    module = copy.deepcopy(model.module)
    layer = classifier(module)[1]
    layer.load_state_dict(other.state_dict())
    yield replace(model, module=module, last_layer=layer)


@dataclass(frozen=True)
class Pixels:
    """Batches of one image ``(1, 3, H, W)`` and labels ``(1, H, W)``, -1 for none; of large ones a window at classes ``ids``."""

    preprocessor: nn.Module
    void: tuple[int, ...]
    ids: tuple[int, ...] = ()
    size: int = 1

    def __call__(self, samples: DataSamples) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(len(samples)):
            data = samples[number]
            with torch.no_grad():
                inputs = self.preprocessor(pseudo_collate([data]), False)["inputs"].cpu()
            annotated = pixel_labels(data, tuple(inputs.shape[-2:]))
            if annotated is None:
                raise RequestError("the images have no annotations, which an audit needs; give a split with them")
            part = window(annotated, self.ids)
            labels = torch.from_numpy(annotated[part])
            labels[torch.isin(labels, torch.tensor(self.void))] = NO_LABEL
            yield inputs[(..., *part)], labels[None]


def by_pixel(opened: Opened, void: Sequence[int]) -> Opened:
    """Read the same models at the size of their input, pixel by pixel, for attacks and attention."""
    preprocessor: Any = opened.models["original"].module.data_preprocessor
    pixels = Pixels(preprocessor, tuple(void), tuple(opened.ids))
    models = {row: replace(model, prepare=pixels, forward=class_logits) for row, model in opened.models.items()}
    return replace(opened, models=models, of=OF, ignored=(NO_LABEL,))


def make_opened(models: Mapping[str, Any], splits: Splits, names: Sequence[str], **options: Any) -> Opened:
    """Combine segmentors with the test data of their config; ``options`` are further fields of :class:`Opened`."""
    pictures, step = Pictures(loader_of_split(splits.cfg, "test").get("num_workers", 0)), TestStep()
    opened = Opened(
        {row: OpenedModel(model, classifier(model)[1], pictures, step) for row, model in models.items()},
        names,
        {"test": scenes(splits.test)},
        **{"of": "images", "compare": count_misplaced, **options},
    )
    opened.look = partial(look_at_scenes, opened, splits)
    return opened


def open_scenes(paths: Mapping[str, str], data: Mapping[str, Any], options: Mapping[str, Any]) -> Opened | None:
    """Open checkpoints of the model that ``options['config']`` (a path or a Config) describes, and splits of its data, see
    :attr:`delete_tasks.task.Task.open`; None without a config. Refuse data without the name of a class, or that are no split of
    the config; too many test images among others; a record's config as :func:`delete_mmseg.recorded_config.check_config`."""
    config, recorded = options.get("config"), bool(options.get("recorded"))
    if recorded:
        init_default_scope("mmseg")
        check_config(config)
        config = Config(dict(config))  # type: ignore[arg-type]
    if not config:
        return None
    cfg = config.copy() if isinstance(config, Config) else load_config(config)
    init_default_scope(cfg.get("default_scope", "mmseg"))
    models = {row: build_segmentor(cfg, path) for row, path in paths.items()}
    check_order(paths)
    splits = Splits(cfg, DATASETS.build(loader_of_split(cfg, "test").dataset))
    names = list((splits.test.metainfo or {}).get("classes") or ())
    if recorded:
        lists = {name: list(options.get(name) or ()) for name in LISTS}
        labelled = options.get("labelled", True)
        if not labelled:
            drop_annotations(splits.test)
        opened = make_opened(models, splits, names, ids=list(options["classes"]), labelled=labelled, **lists)
        splits.leave_out(opened, np.setdiff1d(np.arange(len(splits.test)), options.get("left_out", ())).tolist(), ())
        return opened
    opened, void = make_opened(models, splits, names), ignored_labels(cfg, splits.test)
    if not data:
        return by_pixel(opened, void)
    wanted = list(options.get("classes") or ())
    if not wanted:
        raise RequestError("--classes is not given: training images show several classes, so name the forgotten ones")
    ids = resolve_classes(wanted, names)
    datasets = {word: splits.open(word) for word in dict.fromkeys(data.values())}
    kept, copies = {word: list(range(len(dataset))) for word, dataset in datasets.items()}, list[Copies]()
    for word in sorted({word for split, word in data.items() if split != "test"}) if "test" in data else ():
        indices, more = find_copies(datasets[data["test"]], datasets[word], word)
        kept[data["test"]] = sorted({*kept[data["test"]]} & {*indices})
        copies += more
    samples = {split: scenes(datasets[word], kept[word], MOST_IMAGES) for split, word in data.items()}
    return by_pixel(replace(opened, ids=ids, samples=samples, copies=copies), void)


def check_order(paths: Mapping[str, str]) -> None:
    """Refuse a model whose checkpoint names a class of the original's at another place; most checkpoints name their classes."""
    original: list[Any] = []
    for row, path in paths.items():
        meta = load_once(path).get("meta")
        data = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
        classes = list(data.get("classes") or ()) if isinstance(data, Mapping) else []
        original = classes if row == "original" else original
        for i, name in enumerate(classes):
            if name in original and original.index(name) != i:
                raise RequestError(
                    f"class {i} of the {row} model '{path}' is '{name}', which is class {original.index(name)} of the original; "
                    "give models whose classes have one order"
                )


def reopening(cfg: Config, opened: Opened) -> dict[str, Any]:
    """Make the ``data`` and ``options`` with which :func:`open_scenes` opens a run's models and test data again."""
    lists = {name: list(getattr(opened, name)) for name in (*LISTS, "left_out")}
    options = {"config": portable_config(cfg.to_dict()), "classes": list(opened.ids), "labelled": opened.labelled}
    return {"data": {}, "options": {**options, **lists}}


def predicts_whole(model: Any) -> bool:
    """Return True if a segmentor predicts an image in one piece, not in windows."""
    return model.test_cfg.get("mode") == "whole"


def reads_whole(model: Any) -> bool:
    """Return True if a segmentor reads an image in one piece, without padding, so that its last features cover just the image."""
    return predicts_whole(model) and not model.data_preprocessor.test_cfg


def attacked_rows(
    opened: Opened, splits: Splits, tested: Mapping[str, Predictions] | None
) -> dict[str, dict[str, Predictions]]:
    """Read pixels of some labelled training images, see :func:`by_pixel`, and of test images that ``tested`` lacks, by model."""
    rows = {row: {"test": tested[row]} if tested else {} for row in opened.models}
    for split in ("train",) if tested else ("train", "test"):
        selection = replace(opened, samples={split: scenes(splits.open(split), most=MOST_IN_RUN)})
        try:
            for row, read in read_rows(selection, split).items():
                rows[row] |= read
        except (RequestError, OSError):
            if split == "test":
                raise
    return rows
