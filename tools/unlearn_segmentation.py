"""Run ``delete-tasks segmentation forget``: python tools/unlearn_segmentation.py CONFIG --checkpoint CKPT ..."""

import sys

from delete_tasks.cli import main

if __name__ == "__main__":
    sys.exit(main(["segmentation", "forget", *sys.argv[1:]]))
