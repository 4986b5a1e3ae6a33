"""Machine unlearning of classes in trained vision models. The import is fast: each name is loaded on first use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import RequestError as RequestError
    from .losses import MaskedKLLoss as MaskedKLLoss
    from .losses import masked_kl_div as masked_kl_div
    from .losses import masked_kl_div_upsampled as masked_kl_div_upsampled
    from .losses import masked_mass as masked_mass
    from .request.classes import ForgetRequest as ForgetRequest
    from .request.config import config_path as config_path

    erase: Any
    erase_detector: Any

_HOME = {
    "MaskedKLLoss": "losses",
    "masked_kl_div": "losses",
    "masked_kl_div_upsampled": "losses",
    "masked_mass": "losses",
    "ForgetRequest": "request.classes",
    "RequestError": "errors",
    "config_path": "request.config",
}
__all__ = [*_HOME, "erase", "erase_detector"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    elif name in __all__:
        from importlib.metadata import entry_points

        points = tuple(entry_points(group="delete_tasks.functions", name=name))
        if not points:
            raise AttributeError(
                f"no installed plugin offers delete_tasks.{name}; install the package again: pip install 'delete-tasks[images]'"
            )
        value = points[0].load()
    else:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
