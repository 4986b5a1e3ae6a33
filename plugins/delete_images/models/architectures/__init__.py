"""Image classifiers by name: torchvision's, timm's, and the small CIFAR networks of published weights."""

from . import published  # noqa: F401 - registers them
from .registry import ARCHITECTURES, architecture_names, build, classifier_of, register

__all__ = ["ARCHITECTURES", "architecture_names", "build", "classifier_of", "register"]
