"""Training of the demonstration's network on drawn street scenes.

    python tools/train_street_scenes.py CONFIG --work-dir DIR

CONFIG is configs/segmentation/_base_/street_scenes.py. The scenes have another seed than those of the demonstration, so
the network has never seen any scene of the demonstration. About 20 minutes on two CPU cores.
"""

import argparse
from pathlib import Path

from mmengine.runner import Runner

from delete_mmseg.demo.scenes import write_scenes
from delete_tasks.request.config import load_config
from delete_tasks.task import save_state_dict

TRAIN_SEED = 1000


def main() -> None:
    """Draw, train, and write DIR/street_scenes.pth: the weights alone, without optimizer, config or log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=1200, help="scenes to train on")
    args = parser.parse_args()

    scenes = args.work_dir / "scenes"
    write_scenes(scenes, train=args.scenes, val=60, seed=TRAIN_SEED)
    config = load_config(args.config)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        config[loader].dataset.data_root = str(scenes)
    config.work_dir = str(args.work_dir)
    runner = Runner.from_cfg(config)
    runner.train()
    save_state_dict(runner.model, {}, str(args.work_dir / "street_scenes"))


if __name__ == "__main__":
    main()
