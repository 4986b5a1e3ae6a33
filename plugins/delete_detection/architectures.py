"""Detectors of torchvision and transformers as architectures of model folders, with random weights, without fetching a file."""

from typing import Any

from torch import nn

from delete_images.models.architectures.registry import library, register
from delete_tasks.errors import RequestError, require


@register("torchvision_detector")
def torchvision_detector(num_classes: int, name: str = "ssdlite320_mobilenet_v3_large", **options: Any) -> nn.Module:
    """Build a detector of torchvision by ``name``, with torchvision's own ``options``, as ``min_size=480``; the classes include
    the background, the first."""
    detection = require("torchvision.models.detection", "detection")
    models = require("torchvision.models", "detection")
    names = models.list_models(module=detection)
    if name not in names:
        raise RequestError(f"torchvision has no detector '{name}'; there are: {', '.join(names)}")
    return models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **options)


@register("transformers_detector")
def transformers_detector(num_classes: int, type: str = "detr", **config: Any) -> nn.Module:
    """Build a detector, or a query model of pixels, of transformers by ``model_type``, from the fields of its config. The classes
    of those with a softmax (DETR, YOLOS, Mask2Former) include 'no object', the last."""
    transformers = library("transformers", type)
    pixels = type in ("mask2former", "maskformer", "eomt")
    last = pixels or type in ("detr", "yolos", "table-transformer")
    described = transformers.AutoConfig.for_model(type, num_labels=num_classes - last, **config)
    kind = transformers.AutoModelForUniversalSegmentation if pixels else transformers.AutoModelForObjectDetection
    return kind.from_config(described)
