"""The masked KL divergence, as a function and as a module."""

from .functional import MaskedKLTerms, masked_kl_div, masked_mass
from .masked_kl import MaskedKLLoss
from .readout import linear_readout

__all__ = ["MaskedKLLoss", "MaskedKLTerms", "linear_readout", "masked_kl_div", "masked_mass"]
