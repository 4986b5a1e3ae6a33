"""Image classifiers by name: torchvision's, timm's, and the small CIFAR networks that published files are made for."""

from . import ibau_vgg, resnets, transformers, wide_resnet  # noqa: F401 - they register themselves
from .head import Classifier, classifier_of
from .registry import ARCHITECTURES, architecture_names, build, register

__all__ = ["ARCHITECTURES", "Classifier", "architecture_names", "build", "classifier_of", "register"]
