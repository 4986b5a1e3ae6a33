"""The same as ``delete-tasks images forget``: python tools/unlearn_images.py --model MODEL --forget DATA --classes deer ..."""

import sys

from delete_tasks.cli import main

if __name__ == "__main__":
    sys.exit(main(["images", "forget", *sys.argv[1:]]))
