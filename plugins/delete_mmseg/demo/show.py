"""The demonstration: erase "car" from a small network on street scenes that the package draws, and show the result."""

from pathlib import Path

from rich.console import Console

from delete_tasks import config_path

from ..run import make_config, run
from .scenes import write_scenes

# Not seed 0: the learning rate in the config was chosen on the scenes that seed draws, so they are no test of it.
SEED = 5
CONFIG = "segmentation/demo_street-scenes_forget-car.py"
NEXT = """
Your own model takes the same command:

    delete-tasks segmentation forget YOUR_CONFIG.py --checkpoint YOUR_MODEL.pth --classes car --work-dir work_dirs/forget-car

or, with MMSegmentation's own train.py, these lines at the end of its config:

    custom_imports = dict(imports=['delete_mmseg'], allow_failed_imports=False)
    runner_type = 'UnlearnRunner'
    load_from = 'YOUR_MODEL.pth'
    unlearn = dict(type='DELETE', classes=['car'])
"""


def show(out: str, train: int, test: int, steps: int | None, console: Console) -> None:
    """Draw the scenes, unlearn, evaluate before and after.

    Args:
        out: Folder for scenes and results.
        train, test: Numbers of scenes.
        steps: Optimizer steps; None takes the config's.
        console: Where to.
    """
    root = Path(out, "scenes")
    console.print(f"Draws {train} + {test} street scenes in Cityscapes' layout under {root}.", soft_wrap=True)
    console.print(f"Makes a small network forget car on them; writes to {Path(out, 'erased')}.", soft_wrap=True)
    write_scenes(root, train=train, val=test, seed=SEED)
    options = {
        "steps": steps,
        "cfg_options": {
            "train_dataloader.dataset.data_root": str(root),
            "test_dataloader.dataset.data_root": str(root),
        },
    }
    checkpoint = Path(__file__).with_name("street_scenes.pth")
    cfg = make_config(str(config_path(CONFIG)), str(checkpoint), [], str(Path(out, "erased")), options)
    run(cfg, console)
    console.print(NEXT, soft_wrap=True)
