"""Classifiers and images, opened once: for the table, a record's rerun, the audit, attention and the benchmark."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation import Predictions
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.reader import OpenedModel, call, predictions
from delete_tasks.evaluation.text import Place, Text
from delete_tasks.fileio.checkpoint import load_weights
from delete_tasks.fileio.compute import choose_device
from delete_tasks.report.record.samples import FORGET_SET
from delete_tasks.request.classes import resolve_classes

from .data.layouts import CLASSES, default_root, is_mosaic_folder
from .data.opening import ImageData, check_overlap, open_data
from .data.strings import parse_spec
from .data.transforms import TransformedData, eval_transform
from .look import look_at_images
from .metrics import METRICS
from .models.architectures import classifier_of
from .models.classifier import ImageClassifier
from .models.model_file import SPEC_NAME, WEIGHTS_NAME, as_spec, build_model, load_model
from .models.spec import ModelSpec, Preprocessing

BATCH = 250
CALLED = {"forget": "--forget", "train": "--data", "test": "--test"}  # the splits of an audit, by option
ERASED = ("erased", "head_only")  # of as many classes, they may call the forgotten ones by neutral names
MOST_FORGOTTEN = (
    2000  # images of the forget set that stand for training images, and on whose features head_only is made
)
Networks = dict[str, tuple[nn.Module, ModelSpec]]


@dataclass(frozen=True)
class ImageBatches:
    """Images as networks of one preprocessing take them, and their labels."""

    preprocessing: Preprocessing
    size: int = BATCH

    def __call__(self, samples: ImageData) -> Iterator[tuple[Tensor, Tensor]]:
        own = torch.Generator()  # a data loader draws a number
        data = TransformedData(samples, eval_transform(self.preprocessing))
        return iter(DataLoader(data, batch_size=self.size, generator=own))


def opened_model(network: nn.Module, spec: ModelSpec, names: Sequence[str] | None = None) -> OpenedModel:
    """Prepare a network, or an ImageClassifier, for reading.

    Args:
        network: On its device; goes into eval mode.
        spec: Its description.
        names: Classes in the order that the logits shall have; a class that the network lacks gets minus infinity. None keeps
            its own order.
    """
    own = list(spec.classes)
    columns = [own.index(name) if name in own else -1 for name in (own if names is None else names)]
    model = network if isinstance(network, ImageClassifier) else ImageClassifier(network, num_classes=len(own))
    low, high = spec.preprocessing.input_range
    return OpenedModel(
        model.eval(),
        classifier_of(model.network, len(own)).module,
        ImageBatches(spec.preprocessing),
        call if columns == list(range(len(own))) else partial(_in_order, columns),
        (high - low) / torch.tensor(spec.preprocessing.std)[:, None, None],
    )


def _in_order(columns: Sequence[int], module: nn.Module, inputs: Tensor) -> Tensor:
    logits = module(inputs)
    lacking = torch.full_like(logits[:, :1], -torch.inf)
    return torch.cat([lacking if i < 0 else logits[:, i : i + 1] for i in columns], 1)


def predict_images(network: nn.Module, spec: ModelSpec, data: ImageData, title: str = "Evaluating") -> Predictions:
    """Run a network, on its device, over images as its description wants them."""
    return predictions({"": opened_model(network, spec)}, data, title)[""]


# Models ---------------------------------------------------------------------------------------------------------------


def open_network(path: str, options: Mapping[str, Any]) -> tuple[nn.Module, ModelSpec] | None:
    """Open a network in eval mode from a model folder, from the weights file in one, or, if ``options['spec']`` describes the
    model, from any weights file; None from anything else.
    """
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
    """Open networks, on a GPU if there is one, and descriptions by row; None if the original is no model folder.

    Raises:
        RequestError: Another is none.
    """
    networks: Networks = {}
    for row, path in paths.items():
        one = open_network(path, options)
        if one is None and row == "original" and not options.get("recorded"):
            return None
        if one is None:
            raise RequestError(f"the {row} model '{path}' is no model folder (model.json and weights.safetensors)")
        networks[row] = one[0].to(choose_device()), one[1]
    return networks


def open_images(paths: Mapping[str, str], data: Mapping[str, Any], options: Mapping[str, Any]) -> Opened | None:
    """Open model folders and images, see :attr:`delete_tasks.task.Task.open`; None if the original is no model folder.

    Raises:
        RequestError: A model or data that cannot be opened or run together, or unknown classes.
    """
    networks = open_networks(paths, options)
    if networks is None:
        return None
    names = networks["original"][1].classes if "original" in networks else tuple(_recorded_names(networks, options))
    if options.get("recorded"):
        return _open_recorded(networks, names, data, options)
    if not data:
        check_shapes(networks, paths)
        return make_opened(networks, names)
    images = {split: open_data(text, "test" if split == "test" else "train", names) for split, text in data.items()}
    ids = forgotten_ids(options.get("classes") or (), images["forget"], names, data["forget"])
    return open_attacked(networks, images, ids, paths, "images")


def make_opened(networks: Networks, names: Sequence[str], **options: Any) -> Opened:
    """Put networks together, with their logits in order of ``names``; ``options`` as of :class:`Opened`."""
    models = {}
    for row, (network, spec) in networks.items():
        keeps_order = row in ERASED and len(spec.classes) == len(names)
        models[row] = opened_model(network, spec, None if keeps_order else names)
    opened = Opened(models, names, **{"of": "images", **options})
    opened.look = partial(look_at_images, next(iter(networks.values()))[1])
    return opened


def open_attacked(
    networks: Networks, images: Mapping[str, ImageData], ids: Sequence[int], paths: Mapping[str, str], of: str
) -> Opened:
    """Put networks and images together for attacks; a few images are run through each network.

    Args:
        networks: See :func:`open_networks`.
        images: By split, labels in order of the original's classes.
        ids: The forgotten classes.
        paths: Of the networks, for messages.
        of: What a sample is.

    Raises:
        RequestError: They do not fit together, a network fails, or held-out images are among the others.
    """
    names = networks["original"][1].classes
    for row, (_, spec) in networks.items():
        if row not in ERASED or len(spec.classes) != len(names):
            check_classes(spec.classes, names, ids, f"{row} model '{paths[row]}'")
    if "test" in images:
        others = [own for split, own in images.items() if split != "test"]
        check_overlap([images["test"]], others, "in --forget or --data")
    opened = make_opened(networks, names, samples=dict(images), ids=ids, of=of)
    opened.rehearse(CALLED)
    return opened


def check_classes(own: Sequence[str], names: Sequence[str], ids: Sequence[int], what: str) -> None:
    """Refuse a model that lacks a class which the original keeps.

    Raises:
        RequestError: It does.
    """
    lacking = [name for i, name in enumerate(names) if i not in ids and name not in own]
    if lacking:
        raise RequestError(
            f"the {what} has no class {', '.join(lacking[:5])}, which the original keeps; its classes are "
            f"{', '.join(own[:10])}{', ...' if len(own) > 10 else ''}. Give a model of the same classes"
        )


def check_shapes(networks: Networks, paths: Mapping[str, str]) -> None:
    """Refuse models whose attention cannot be compared.

    Raises:
        RequestError: Another number of classes or another input size than the original's.
    """
    first = networks["original"][1]
    for row, (_, spec) in networks.items():
        if len(spec.classes) != len(first.classes) or spec.preprocessing.size != first.preprocessing.size:
            raise RequestError(
                f"the {row} model '{paths[row]}' has {len(spec.classes)} classes and input {spec.preprocessing.size}, the "
                f"original {len(first.classes)} and {first.preprocessing.size}; look at models of one shape together"
            )


def forgotten_ids(wanted: Sequence[Any], forget: ImageData, names: Sequence[str], text: str) -> list[int]:
    """Find the ids of the classes that are named, or that the forget set shows.

    Raises:
        RequestError: None is named and no image has a label, or the forget set shows all classes.
    """
    if wanted:
        return resolve_classes(list(wanted), names)
    classes = np.unique(forget.labels[forget.labels >= 0]).tolist()
    if not classes or len(classes) == len(names):
        what = "no labels" if not classes else "all classes"
        raise RequestError(f"--forget '{text}' shows {what}, so it does not say what was forgotten; give --classes")
    return [int(i) for i in classes]


# Records --------------------------------------------------------------------------------------------------------------


def located(text: str) -> Text:
    """Split a data string so that a record can be moved: the folder or file that it names is a place."""
    before, path, rest = parse_spec(text).parts()
    return Text([before, *([] if path is None else [Place(path)]), rest])


def open_recorded(text: str, split: str, names: Sequence[str]) -> ImageData:
    """Open the images that a record names. Nothing is fetched: what is not there any more is not measured.

    Raises:
        RequestError: They are not there, or cannot be read.
    """
    request = parse_spec(text)
    if request.kind in CLASSES:
        root = Path(request.path or default_root())
        datasets: Any = require("torchvision.datasets", "images")
        try:
            if not is_mosaic_folder(root):
                {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[request.kind](str(root), download=False)
        except (RuntimeError, OSError) as error:
            raise RequestError(f"the images of {request.kind} are not in '{root}' any more ({error})") from error
    return open_data(text, split, names)


def _recorded_names(networks: Networks, options: Mapping[str, Any]) -> Sequence[str]:
    """Name all classes as the record's description does, or the first network's own."""
    return options["spec"]["classes"] if options.get("spec") else next(iter(networks.values()))[1].classes


def _open_recorded(
    networks: Networks, names: Sequence[str], data: Mapping[str, Any], options: Mapping[str, Any]
) -> Opened:
    samples: dict[str, ImageData] = {}
    not_measured: dict[str, str] = {}
    for split in ("test", "train"):
        if split == "test" and data["test"] is None:
            continue
        try:
            if data[split] is not None:
                samples[split] = open_recorded(data[split], split, names)
            else:
                whole = open_recorded(data["forget"], options["split"], names)
                samples[split] = some_of(whole, options["samples"].places(FORGET_SET, whole.names))
        except (RequestError, FileNotFoundError) as error:
            lost = [metric for metric in METRICS if (metric.of == "training images") == (split == "train")]
            not_measured |= {metric.name: str(error) for metric in lost}
    ids, expected = list(options["classes"]), list(options.get("expected") or ())
    return make_opened(networks, names, samples=samples, ids=ids, expected=expected, not_measured=not_measured)


def some_of(images: ImageData, indices: Sequence[int]) -> ImageData:
    """Select some of the forget set's images, evenly spread."""
    return images.subset(indices[:: max(1, len(indices) // MOST_FORGOTTEN)])
