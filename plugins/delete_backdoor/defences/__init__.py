"""Methods of `backdoor clean --method`: inverted triggers, and published defences that read clean samples alone."""

from . import ft_sam, i_bau, inversion  # noqa: F401
