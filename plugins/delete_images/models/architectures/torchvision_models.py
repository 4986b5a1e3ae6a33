"""torchvision's classifiers by name, without its weights, and with a stem for 32x32 images."""

from typing import Any

from torch import nn

from delete_tasks.errors import RequestError, require

STEMS = ("imagenet", "cifar")


def build(name: str, num_classes: int, stem: str = "imagenet", **arguments: Any) -> nn.Module:
    """Build torchvision's model ``name``, with torchvision's arguments.

    The stem ``'imagenet'`` is torchvision's. With ``'cifar'`` a ResNet has a first convolution of 3x3 with stride 1 and no max
    pool; a VGG has a single linear layer on 1x1 maps after its features.

    Raises:
        RequestError: Unknown stem, or one that the family does not have.
    """
    if stem not in STEMS:
        raise RequestError(f"unknown stem '{stem}' for {name}; choose one of: {', '.join(STEMS)}")
    models = require("torchvision.models", "images")
    if name in ("googlenet", "inception_v3"):
        arguments.setdefault("aux_logits", False)  # one set of logits, as for other models
        arguments.setdefault("init_weights", True)  # torchvision's default, which warns unless it is explicit
    model = models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    if stem == "imagenet":
        return model
    if isinstance(model, models.ResNet):
        model.conv1 = nn.Conv2d(3, model.conv1.out_channels, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    elif isinstance(model, models.VGG):
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        model.classifier = nn.Linear(512, num_classes)
    else:
        raise RequestError(
            f"{name} has no stem 'cifar' (ResNets and VGGs do); leave stem out, and enlarge the images instead"
        )
    return model
