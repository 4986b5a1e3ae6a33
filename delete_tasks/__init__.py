"""Make a trained vision model forget a class without its training data, and show what it did.

Importing this package needs torch alone; mmengine, mmseg and the rest load where they are used.
"""

from pathlib import Path

from .errors import RequestError
from .losses import MaskedKLLoss, masked_kl_div
from .masking import ForgetRequest

__all__ = ["ForgetRequest", "MaskedKLLoss", "config_path", "masked_kl_div"]


def config_path(name: str) -> Path:
    """Path of a config that comes with the package, e.g. ``'segmentation/cgnet_camvid_forget-car.py'``.

    Raises:
        RequestError: There is no such config; the message lists those there are.
    """
    here = Path(__file__).resolve().parent
    folder = here / "configs" if (here / "configs").is_dir() else here.parent / "configs"  # wheel, or source tree
    if not (folder / name).is_file():
        known = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.py"))
        raise RequestError(f"no config '{name}'; there are: {', '.join(known)}")
    return folder / name
