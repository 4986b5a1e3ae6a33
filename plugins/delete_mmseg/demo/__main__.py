"""``python -m delete_mmseg.demo``: the same as ``delete-tasks segmentation demo``."""

import sys

from delete_tasks.cli import main

if __name__ == "__main__":
    sys.exit(main(["segmentation", "demo", *sys.argv[1:]]))
