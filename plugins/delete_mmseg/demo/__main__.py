"""``make demo``: erase "car" from a small network on street scenes that the package draws, and show the result."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from delete_tasks import config_path
from delete_tasks.terminal import make_console

from ..run import make_config, run
from .scenes import write_scenes

# Not seed 0: the learning rate in the config was chosen on the scenes that seed draws, so they are no test of it.
SEED = 5
CONFIG = "segmentation/demo_street-scenes_forget-car.py"
NEXT = """
Your own model takes the same command:

    delete-tasks segmentation YOUR_CONFIG.py --checkpoint YOUR_MODEL.pth --classes car --work-dir work_dirs/forget-car

or, with MMSegmentation's own train.py, these lines at the end of its config:

    custom_imports = dict(imports=['delete_mmseg'], allow_failed_imports=False)
    runner_type = 'UnlearnRunner'
    load_from = 'YOUR_MODEL.pth'
    unlearn = dict(type='DELETE', classes=['car'])
"""


def main() -> int:
    """Draw the scenes, unlearn, evaluate before and after."""
    parser = argparse.ArgumentParser(prog="python -m delete_mmseg.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo_output"))
    parser.add_argument("--train", type=int, default=200, help="scenes to unlearn on")
    parser.add_argument("--val", type=int, default=60, help="held-out scenes to measure on")
    parser.add_argument("--steps", type=int)
    args = parser.parse_args()
    console = make_console()
    root = args.out / "scenes"
    console.print(f"Drawing {args.train} + {args.val} street scenes in Cityscapes' layout under {root} ...")
    write_scenes(root, train=args.train, val=args.val, seed=SEED)
    options = {
        "steps": args.steps,
        "cfg_options": {
            "train_dataloader.dataset.data_root": str(root),
            "test_dataloader.dataset.data_root": str(root),
            "log_level": "WARNING",
        },
    }
    checkpoint = Path(__file__).with_name("street_scenes.pth")
    cfg = make_config(str(config_path(CONFIG)), str(checkpoint), [], str(args.out / "erased"), options)
    run(cfg, console)
    console.print(NEXT, highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
