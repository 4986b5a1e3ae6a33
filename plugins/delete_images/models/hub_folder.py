"""Folders of the Hugging Face Hub: read a classifier of timm or transformers, and describe a model folder for libraries."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from torch import Tensor

from delete_tasks.errors import RequestError, first_line, list_names, require
from delete_tasks.fileio.checkpoint import load_file, state_dict_of
from delete_tasks.fileio.validate import read_json

from .architectures.registry import ARCHITECTURES, TIMM, TRANSFORMERS, library, torchvision_names
from .spec import ModelSpec, Preprocessing, load_spec, spec_to_json, unit_normalization

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
FILLED_IN = ("googlenet", "inception_v3")  # whose arguments the registry completes
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Fields of a transformers config that follow from the description, or say nothing of the network.
IMPLIED = ("model_type", "id2label", "label2id", "num_labels", "architectures", "transformers_version", "dtype", "torch_dtype",
           "auto_map", "problem_type", "_name_or_path")  # fmt: skip


def read_hub_folder(folder: Path, classes: Sequence[str] = ()) -> tuple[dict[str, Tensor], ModelSpec]:
    """Return a classifier's weights and description, with the folder's class names without ``classes``, or raise RequestError."""
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None or not (folder / CONFIG).is_file():
        raise RequestError(
            f"'{folder}' holds no {CONFIG} and {' or '.join(WEIGHTS)}; give its weights file, --architecture and --classes"
        )
    try:
        config: Any = read_json(folder / CONFIG)
        if "architecture" in config:
            state, spec = state_dict_of(load_file(weights), f"'{weights}'"), _of_timm(config)
        else:
            spec = _of_transformers(config, read_json(folder / PREPROCESSOR))
            state = _load_transformers(folder)
    except RequestError:
        raise
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RequestError(
            f"'{folder}' cannot be read as a classifier of timm or transformers ({type(error).__name__}: "
            f"{first_line(error)[:200]}); give its weights file, with --architecture, --classes and the input's options"
        ) from error
    return state, replace(spec, classes=tuple(classes)) if classes else spec


def _load_transformers(folder: Path) -> dict[str, Tensor]:
    """Load through transformers, whose files may have older names than its modules; no code of others is run."""
    transformers = library("transformers", str(folder))
    transformers.utils.logging.disable_progress_bar()
    loader: Any = transformers.AutoModelForImageClassification
    options = {"local_files_only": True, "trust_remote_code": False, "weights_only": True}
    model, found = loader.from_pretrained(folder, output_loading_info=True, **options)
    wrong = [name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in found[kind]]
    if wrong:
        raise RequestError(
            f"'{folder}': its weights do not fit its {CONFIG}: {list_names(sorted(map(str, wrong)))}; save it again"
        )
    return dict(model.state_dict())


def _names(labels: Any, count: int) -> tuple[str, ...]:
    """Return class names by number, with it if a name is repeated; or ``class_0``, ... without labels."""
    if isinstance(labels, Mapping):
        labels = [labels[key] for key in sorted(labels, key=int)]
    names = [str(name) for name in labels or (f"class_{number}" for number in range(count))]
    repeated = Counter(names)
    return tuple(f"{name} ({number})" if repeated[name] > 1 else name for number, name in enumerate(names))


def _of_timm(config: Mapping[str, Any]) -> ModelSpec:
    images = config.get("pretrained_cfg") or config
    names = _names(config.get("label_names") or images.get("label_names"), config["num_classes"])
    whole = images.get("crop_mode") == "squash"
    prepared = Preprocessing(
        size=tuple(images["input_size"][1:]),
        mean=tuple(images["mean"]),
        std=tuple(images["std"]),
        resize="stretch" if whole else "crop",
        crop_fraction=1.0 if whole else images.get("crop_pct", 0.875),
    )
    return ModelSpec(f"timm:{config['architecture']}", names, prepared, dict(config.get("model_args") or {}))


def _of_transformers(config: Mapping[str, Any], images: Mapping[str, Any]) -> ModelSpec:
    size, resize, fraction = _resizing(images)
    normalized = images.get("do_normalize", True)
    prepared = Preprocessing(
        size=size,
        mean=tuple(images["image_mean"]) if normalized else (0.0, 0.0, 0.0),
        std=tuple(images["image_std"]) if normalized else (1.0, 1.0, 1.0),
        input_range=(0.0, 255 * (images.get("rescale_factor", 1 / 255) if images.get("do_rescale", True) else 1.0)),
        resize=resize,
        crop_fraction=fraction,
    )
    arguments = {name: value for name, value in config.items() if name not in IMPLIED}
    names = _names(config.get("id2label"), config.get("num_labels", 2))
    return ModelSpec(f"transformers:{config['model_type']}", names, prepared, arguments)


def _resizing(images: Mapping[str, Any]) -> tuple[tuple[int, int], str, float]:
    """Return the input's size, how images get it, and the share of the side that a crop keeps, of an image processor."""
    size = _sides(images["size"])
    edge = images["size"].get("shortest_edge") if isinstance(images["size"], Mapping) else None
    if images.get("do_center_crop"):
        crop = _sides(images["crop_size"])
        return crop, "crop", min(1.0, min(crop) / (edge or min(size)))
    if edge is None or (images.get("crop_pct") is not None and edge >= 384):  # ConvNeXT's stretches to such sizes
        return size, "stretch", 1.0
    return size, "crop", float(images.get("crop_pct") or 1.0)


def _sides(size: Any) -> tuple[int, int]:
    sides = size if isinstance(size, Mapping) else {"shortest_edge": size}
    height, width = (int(sides.get(name) or sides["shortest_edge"]) for name in ("height", "width"))
    return height, width


def describe(path: Path, record: Any, hide: bool, pipeline: str = "image-classification") -> tuple[str, str, Any]:
    """Describe a model folder, see :attr:`delete_tasks.task.Task.hub`."""
    spec = load_spec(path)
    config, name = spec_to_json(spec), spec.architecture.removeprefix("torchvision.")
    if name.startswith(TIMM) and spec.preprocessing.channels == "RGB":
        return "timm", pipeline, {CONFIG: timm_config(spec, name.removeprefix(TIMM))}
    if name.startswith(TRANSFORMERS) and spec.preprocessing.channels == "RGB":
        return "transformers", pipeline, transformers_config(spec, name.removeprefix(TRANSFORMERS))
    if hide:
        config["classes"] = [f"person_{number}" for number in range(len(spec.classes))]
    changed = name in (*ARCHITECTURES, *FILLED_IN) or spec.arguments.get("stem", "imagenet") != "imagenet"
    return "torchvision" if name in torchvision_names() and not changed else "delete-tasks", pipeline, {CONFIG: config}


def timm_config(spec: ModelSpec, name: str) -> dict[str, Any]:
    """Make the config.json that timm reads beside weights; ``name`` may end in a tag."""
    images, known = spec.preprocessing, require("timm", "images").get_pretrained_cfg(name)
    mean, std = unit_normalization(images)
    crop = {"crop_mode": "center", "crop_pct": images.crop_fraction, "interpolation": "bilinear"}
    crop |= {"crop_mode": "squash", "crop_pct": 1.0} if images.resize == "stretch" else {}
    prepared = {"input_size": [3, *images.size], "mean": mean, "std": std, **crop}
    layers = {key: getattr(known, key) for key in ("first_conv", "classifier", "fixed_input_size")}
    model = {"architecture": name.partition(".")[0], "model_args": dict(spec.arguments)}
    classes = {"num_classes": len(spec.classes), "label_names": list(spec.classes)}
    return {**model, **classes, "pretrained_cfg": {**prepared, **layers}}


def transformers_config(spec: ModelSpec, kind: str) -> dict[str, Any]:
    """Make the files that transformers reads beside weights: the network's configuration and the images' processor."""
    names, images = dict(enumerate(spec.classes)), spec.preprocessing
    labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    mean, std = unit_normalization(images)
    rescaled = {"do_rescale": True, "rescale_factor": 1 / 255}
    prepared = {"image_mean": mean, "image_std": std, "do_normalize": True, **rescaled}
    size = dict(zip(("height", "width"), images.size, strict=True))
    if images.resize == "stretch":
        prepared |= {"image_processor_type": "ViTImageProcessor", "size": size}
    else:
        edge = {"shortest_edge": round(min(images.size) / images.crop_fraction)}
        crop = {"do_center_crop": True, "crop_size": size}
        prepared |= {"image_processor_type": "CLIPImageProcessor", "size": edge, **crop}
    return {CONFIG: {**spec.arguments, "model_type": kind, **labels}, PREPROCESSOR: prepared}
