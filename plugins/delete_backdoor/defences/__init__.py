"""Published defences that read clean samples alone, for comparison with `backdoor clean --method`."""

from . import ft_sam, i_bau  # noqa: F401
