"""Any image classifier: forget a class per image.

Importing this package registers the task, its model and its datasets with mmengine where that is installed; model files,
architectures and data work without it.
"""

from importlib.util import find_spec

if find_spec("mmengine") is not None:
    from . import register  # noqa: F401
