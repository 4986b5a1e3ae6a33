"""Attention of models before and after unlearning: Grad-CAM maps on one scale, and figures."""

from ..model.features import Layer, find_layer
from .gradcam import raw_map
from .measure import ComparedSample, compare, summarise

__all__ = ["ComparedSample", "Layer", "compare", "find_layer", "raw_map", "summarise"]
