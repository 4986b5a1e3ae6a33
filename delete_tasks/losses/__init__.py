"""Losses: masked KL divergence, and losses on features."""

from .features import conditional_mmd, feature_distillation, linear_readout
from .functional import MaskedKLLoss, MaskedKLTerms, masked_kl_div, masked_kl_div_upsampled, masked_mass

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
