"""Model folders on the Hugging Face Hub: for timm, for torchvision, or for this package."""

from pathlib import Path
from typing import Any

from delete_tasks.errors import require

from .models.architectures.registry import ARCHITECTURES, torchvision_names
from .models.spec import ModelSpec, load_spec, spec_to_json

TIMM = "timm:"
FILLED_IN = ("googlenet", "inception_v3")  # whose arguments the registry completes


def describe(path: Path, record: Any, hide: bool, pipeline: str = "image-classification") -> tuple[str, str, Any]:
    """Describe a model folder, see :attr:`delete_tasks.task.Task.hub`."""
    spec = load_spec(path)
    config, name = spec_to_json(spec), spec.architecture.removeprefix("torchvision.")
    if name.startswith(TIMM) and spec.preprocessing.channels == "RGB":
        return "timm", pipeline, timm_config(spec, name.removeprefix(TIMM))
    if hide:
        config["classes"] = [f"person_{number}" for number in range(len(spec.classes))]
    changed = name in (*ARCHITECTURES, *FILLED_IN) or spec.arguments.get("stem", "imagenet") != "imagenet"
    return "torchvision" if name in torchvision_names() and not changed else "delete-tasks", pipeline, config


def timm_config(spec: ModelSpec, name: str) -> dict[str, Any]:
    """Make the config.json that timm reads beside weights; ``name`` may end in a tag."""
    images, known = spec.preprocessing, require("timm", "images").get_pretrained_cfg(name)
    low, high = images.input_range  # timm's mean and std are of images in [0, 1]
    mean, std = [(value - low) / (high - low) for value in images.mean], [value / (high - low) for value in images.std]
    crop = {"crop_mode": "center", "crop_pct": images.crop_fraction, "interpolation": "bilinear"}
    crop |= {"crop_mode": "squash", "crop_pct": 1.0} if images.resize == "stretch" else {}
    prepared = {"input_size": [3, *images.size], "mean": mean, "std": std, **crop}
    layers = {key: getattr(known, key) for key in ("first_conv", "classifier", "fixed_input_size")}
    model = {"architecture": name.partition(".")[0], "model_args": dict(spec.arguments)}
    classes = {"num_classes": len(spec.classes), "label_names": list(spec.classes)}
    return {**model, **classes, "pretrained_cfg": {**prepared, **layers}}
