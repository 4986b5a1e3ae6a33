"""Classifiers and images, opened once for the table, a record's rerun, the audit, attention and the benchmark."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.copies import Copies
from delete_tasks.evaluation.forget_data import FORGET_SET
from delete_tasks.evaluation.opened import Opened, Place, Text
from delete_tasks.evaluation.reader import TRIED, Loader, OpenedModel, call, predictions
from delete_tasks.fileio.checkpoint import load_weights
from delete_tasks.fileio.compute import choose_device
from delete_tasks.request.classes import NameIndex, resolve_classes

from .data.opening import ImageData, find_copies, open_data
from .data.strings import parse_spec
from .data.transforms import eval_transform
from .look import look_at_images
from .metrics import METRICS
from .models.architectures import classifier_of
from .models.classifier import ImageClassifier, predict_batch
from .models.model_file import SPEC_NAME, WEIGHTS_NAME, ModelSpec, Preprocessing, as_spec, build_model, load_model
from .models.outputs import refuse_probabilities

BATCH = 250
OPTIONS = {"forget": "--forget", "train": "--data", "test": "--test"}  # of an audit, by split
ERASED = ("erased", "head_only")  # models that may have neutral names for the forgotten classes
MOST_FORGOTTEN = 1000  # images of the forget set to measure as training images
EARLIER = 2000  # the same, in records without this number
Networks = dict[str, tuple[nn.Module, ModelSpec]]


@dataclass(frozen=True, kw_only=True)
class ImageBatches(Loader):
    """Batches of preprocessed images and their labels."""

    preprocessing: Preprocessing
    size: int = BATCH

    def __call__(self, samples: ImageData) -> Iterator[tuple[Tensor, Tensor]]:
        return super().__call__(samples.mapped(eval_transform(self.preprocessing)))


def opened_model(network: nn.Module, spec: ModelSpec, columns: Sequence[int] | None = None) -> OpenedModel:
    """Prepare a network for reading. ``columns`` are its class for each logit, negative for minus infinity; None: in order."""
    count = len(spec.classes)
    model = network if isinstance(network, ImageClassifier) else ImageClassifier(network, num_classes=count)
    return OpenedModel(
        model.eval(),
        classifier_of(model.network, count).module,
        ImageBatches(preprocessing=spec.preprocessing),
        call if columns is None or list(columns) == list(range(count)) else partial(_in_order, columns),
    )


def _in_order(columns: Sequence[int], module: nn.Module, inputs: Tensor) -> Tensor:
    return nn.functional.pad(module(inputs), (0, 1), value=-torch.inf)[:, [max(-1, i) for i in columns]]


def predict_images(network: nn.Module, spec: ModelSpec, data: ImageData, title: str = "Evaluating") -> Predictions:
    """Predict images with a network, on its device, preprocessed by its description."""
    return predictions({"": opened_model(network, spec)}, data, title)[""]


def refuse_no_logits(original: OpenedModel, data: ImageData) -> None:
    """Refuse a classifier that returns probabilities for images, see :func:`refuse_probabilities`."""
    model: Any = original.module
    batches = replace(original.prepare, size=TRIED)(data)  # type: ignore[type-var]
    refuse_probabilities(model.network, (predict_batch(model, images) for images, _ in batches))


def open_network(path: str, options: Mapping[str, Any]) -> tuple[nn.Module, ModelSpec] | None:
    """Open a network in eval mode from a model folder, or from weights if ``options['spec']`` describes it; None if neither."""
    folder = Path(path).parent if Path(path).name == WEIGHTS_NAME else Path(path)
    if (folder / SPEC_NAME).is_file():
        return load_model(folder, bool(options.get("allow_import")))
    if options.get("spec") is None or not Path(path).is_file():
        return None
    spec = as_spec(options["spec"])
    network = build_model(spec, bool(options.get("allow_import"))).float()
    load_weights(network, path)
    return network.eval(), spec


def open_networks(paths: Mapping[str, str], options: Mapping[str, Any]) -> Networks | None:
    """Open networks, on a GPU if any, with descriptions, by row; None if the original is no model folder; refuse other tasks'."""
    networks: Networks = {}
    for row, path in paths.items():
        opened = open_network(path, options)
        if opened is None and row == "original" and not options.get("recorded"):
            return None
        if opened is None:
            raise RequestError(f"the {row} model '{path}' is no model folder (model.json and weights.safetensors)")
        networks[row] = opened[0].to(choose_device()), opened[1]
    tasks = {row: getattr(network, "task", "images") for row, (network, _) in networks.items()}
    for row, task in tasks.items():
        if task != tasks.get("original", task):
            raise RequestError(
                f"the {row} model '{paths[row]}' is one of {task}, and the original '{paths['original']}' one of "
                f"{tasks['original']}; give models of one task"
            )
    return networks


def open_images(paths: Mapping[str, str], data: Mapping[str, Any], options: Mapping[str, Any]) -> Opened | None:
    """Open model folders and images, see :attr:`delete_tasks.task.Task.open`; None if the original is no model folder."""
    networks = open_networks(paths, options)
    if networks is None:
        return None
    names = networks.get("original", next(iter(networks.values())))[1].classes
    if "original" not in networks and options.get("spec"):  # of the record
        names = tuple(options["spec"]["classes"])
    if options.get("recorded"):
        return _reopened(networks, names, data, options)
    if not data:
        check_shapes(networks, paths)
        return make_opened(networks, names)
    images = {split: open_data(text, "test" if split == "test" else "train", names) for split, text in data.items()}
    ids = forgotten_ids(options.get("classes") or (), images["forget"], names, data["forget"])
    return open_attacked(networks, images, ids, paths, "images")


def make_opened(networks: Networks, names: Sequence[str], **options: Any) -> Opened:
    """Combine networks, with logits in the order of ``names``; ``options`` are further fields of :class:`Opened`."""
    ids, first = options.get("ids", ()), next(iter(networks.values()))[1]
    models = {
        row: opened_model(network, spec, columns_of(spec.classes, names, ids, row.startswith(ERASED)))
        for row, (network, spec) in networks.items()
    }
    return Opened(models, names, **{"of": "images", "look": partial(look_at_images, first), **options})


def open_attacked(
    networks: Networks, images: Mapping[str, ImageData], ids: Sequence[int], paths: Mapping[str, str], of: str
) -> Opened:
    """Combine networks and images for attacks, and run a few. ``images`` are by split, labelled in the original's order;
    ``paths`` are for messages, as the noun ``of``. Refuse other classes, a network that fails, and copies in the test set."""
    names = networks["original"][1].classes
    for row, (_, spec) in networks.items():
        check_classes(spec.classes, names, ids, f"{row} model '{paths[row]}'", row.startswith(ERASED))
    samples, copies = dict(images), list[Copies]()
    if "test" in images:
        used = {OPTIONS[split]: data for split, data in images.items() if split != "test"}
        kept, copies = find_copies(images["test"], "--test", used, like=OPTIONS["forget"])
        samples["test"] = images["test"].subset(kept)
    opened = make_opened(networks, names, samples=samples, ids=ids, of=of, copies=copies)
    opened.rehearse(OPTIONS)
    return opened


def columns_of(classes: Sequence[str], names: Sequence[str], ids: Sequence[int], erased: bool) -> list[int]:
    """Find the index of each of the original's ``names`` among ``classes``, by name; negative without one. In an ``erased`` model
    of as many classes, ``class_<id>`` keeps its place, as does a forgotten class (``ids``) whose place no other class takes."""
    columns = NameIndex(classes).match(names)
    for i in range(len(names) if erased and len(classes) == len(names) else 0):
        renamed = i in ids or classes[i].rstrip("_") == f"class_{i}"
        if columns[i] < 0 and renamed and i not in columns:
            columns[i] = i
    return columns


def check_classes(classes: Sequence[str], names: Sequence[str], ids: Sequence[int], what: str, erased: bool) -> None:
    """Refuse a model that lacks a class of the original; only an ``erased`` one of fewer, or another, may lack ``ids``."""
    columns = columns_of(classes, names, ids, erased)
    required = erased and len(classes) == len(names)
    lacking = [i for i, column in enumerate(columns) if column < 0 and (required or i not in ids)]
    if lacking:
        there = f"'{classes[lacking[0]]}'" if lacking[0] < len(classes) else "none"
        raise RequestError(
            f"the {what} has no class {', '.join(names[i] for i in lacking[:5])}, which the original has. The first difference: "
            f"class {lacking[0]} is '{names[lacking[0]]}' in the original and {there} in the other. Give a model of the same "
            "classes"
        )


def check_shapes(networks: Networks, paths: Mapping[str, str]) -> None:
    """Refuse models whose attention cannot be compared: of other classes or another input size than the original's."""
    first = networks["original"][1]
    for row, (_, spec) in networks.items():
        if len(spec.classes) != len(first.classes) or spec.preprocessing.size != first.preprocessing.size:
            raise RequestError(
                f"the {row} model '{paths[row]}' has {len(spec.classes)} classes and input {spec.preprocessing.size}, the "
                f"original {len(first.classes)} and {first.preprocessing.size}; compare models of one shape"
            )
        check_classes(spec.classes, first.classes, (), f"{row} model '{paths[row]}'", row.startswith(ERASED))


def forgotten_ids(wanted: Sequence[Any], forget: ImageData, names: Sequence[str], text: str) -> list[int]:
    """Resolve the named classes; if none, find the forget set's, and refuse one without labels or with all classes."""
    if wanted:
        return resolve_classes(list(wanted), names)
    classes = np.unique(forget.labels[forget.labels >= 0]).tolist()
    if not classes or len(classes) == len(names):
        what = "no labels" if not classes else "all classes"
        raise RequestError(f"--forget '{text}' shows {what}, so it does not say what was forgotten; give --classes")
    return [int(i) for i in classes]


def located(text: str) -> Text:
    """Split a data string into text and a place (its folder or file), so that a record can be moved."""
    before, path, rest = parse_spec(text).parts()
    return Text([before, *([] if path is None else [Place(path)]), rest])


def open_recorded(text: str, split: str, names: Sequence[str], left_out: Sequence[int] = ()) -> ImageData:
    """Open a record's images, without a download and the indices ``left_out``; refuse images that are missing or unreadable."""
    images = open_data(text, split, names, download=False)
    return images.subset(np.setdiff1d(np.arange(len(images)), left_out))


def _reopened(networks: Networks, names: Sequence[str], data: Mapping[str, Any], options: Mapping[str, Any]) -> Opened:
    samples: dict[str, ImageData] = {}
    not_measured: dict[str, str] = {}
    for split, left_out in (("test", options.get("left_out", ())), ("train", ())):
        try:
            if data[split] is not None:
                samples[split] = open_recorded(data[split], split, names, left_out)
            elif split == "train" and data["forget"] is not None:
                forget_set = open_recorded(data["forget"], options["split"], names)
                places = options["samples"].places(FORGET_SET, forget_set.names)
                samples[split] = some_of(forget_set, places, options.get("most", EARLIER))
        except (RequestError, FileNotFoundError) as error:
            affected = [metric for metric in METRICS if (metric.of == "training images") == (split == "train")]
            not_measured |= {metric.name: str(error) for metric in affected}
    lists = {name: list(options.get(name) or ()) for name in ("expected", "avoid")}
    lists["ids"] = list(options["classes"])
    return make_opened(networks, names, samples=samples, not_measured=not_measured, **lists)


def some_of(images: ImageData, indices: Sequence[int], most: int = MOST_FORGOTTEN) -> ImageData:
    """Select ``most`` evenly spaced images of the forget set; all of less than twice as many."""
    return images.subset(indices[:: max(1, len(indices) // most)])
