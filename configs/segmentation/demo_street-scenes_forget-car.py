# Erase "car" from the network that comes with the package. Nothing to download: the scenes are drawn by
#     python -c "from delete_mmseg.demo.scenes import write_scenes; write_scenes('demo_output/scenes')"
# and `make demo` does that and the rest.
from importlib.resources import files as _files

_base_ = ["./_base_/street_scenes.py"]

custom_imports = dict(imports=["delete_mmseg"], allow_failed_imports=False)
runner_type = "UnlearnRunner"
load_from = str(_files("delete_mmseg.demo") / "street_scenes.pth")
# Chosen among 1e-3, 1.5e-3 and 2e-3 on the scenes of seed 0; the demonstration draws and measures on others.
# Several times the usual learning rate: the network is small, a batch is four small pictures, and 200 steps are to do.
unlearn = dict(
    type="DELETE",
    classes=["car"],
    fill="surroundings",  # the original's second choice for a car is a person
    balance=0.5,
    optimizer=dict(type="AdamW", lr=1.5e-3),
    schedule="cosine",
)
