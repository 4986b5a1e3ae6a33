"""The masked KL divergence, as a function and as a module."""

from .conditional_mmd import conditional_mmd
from .feature_distillation import feature_distillation
from .functional import MaskedKLTerms, masked_kl_div, masked_mass
from .masked_kl import MaskedKLLoss
from .readout import linear_readout
from .upsampled import masked_kl_div_upsampled

__all__ = [
    "MaskedKLLoss",
    "MaskedKLTerms",
    "conditional_mmd",
    "feature_distillation",
    "linear_readout",
    "masked_kl_div",
    "masked_kl_div_upsampled",
    "masked_mass",
]
