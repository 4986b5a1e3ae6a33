"""Demonstration: unlearn "car" from a small network on drawn street scenes, and print the result."""

from pathlib import Path
from typing import Any

from rich.console import Console

from delete_tasks import config_path
from delete_tasks.display.terminal import begin_stage

from ..run import make_config, run
from .scenes import write_scenes

# Not seed 0: the learning rate in the config was chosen on the scenes of that seed, so they cannot test it.
SEED = 5
CONFIG = "segmentation/demo_street-scenes_forget-car.py"
NEXT = r"""
Your own model takes the same command:

    delete-tasks segmentation forget YOUR_CONFIG.py --checkpoint YOUR_MODEL.pth \
        --classes car --work-dir work_dirs/forget-car

or, with MMSegmentation's own train.py, these lines at the end of its config:

    custom_imports = dict(imports=['delete_mmseg'], allow_failed_imports=False)
    runner_type = 'UnlearnRunner'
    load_from = 'YOUR_MODEL.pth'
    unlearn = dict(type='DELETE', classes=['car'])
"""


def show(out: str, train: int, test: int, steps: int | None, overwrite: bool, console: Console) -> None:
    """Draw scenes into a folder, unlearn, and evaluate before and after. ``train`` and ``test`` are numbers of scenes."""
    root, work_dir = Path(out, "scenes"), Path(out, "erased")
    console.print(f"Draws {train} + {test} street scenes in Cityscapes' layout into {root}.")
    console.print(f"Unlearns car from a small network on them; writes into {work_dir}.")
    begin_stage("checks")
    write_scenes(root, train=train, val=test, seed=SEED)
    changes: dict[str, Any] = {f"{split}_dataloader.dataset.data_root": str(root) for split in ("train", "test")}
    options = {"steps": steps, "cfg_options": {**changes, "unlearn.overwrite": overwrite}}
    checkpoint = Path(__file__).with_name("street_scenes.pth")
    run(make_config(str(config_path(CONFIG)), str(checkpoint), [], str(work_dir), options), console)
    console.print(NEXT)
