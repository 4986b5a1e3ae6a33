"""Model folders on the Hugging Face Hub: for timm, for transformers, for torchvision, or for this package."""

from pathlib import Path
from typing import Any

from delete_tasks.errors import require

from .models.architectures.registry import ARCHITECTURES, TIMM, TRANSFORMERS, torchvision_names
from .models.hub_folder import CONFIG, PREPROCESSOR
from .models.spec import ModelSpec, load_spec, spec_to_json, unit_normalization

FILLED_IN = ("googlenet", "inception_v3")  # whose arguments the registry completes


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
