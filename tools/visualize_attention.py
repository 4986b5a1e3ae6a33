"""Run ``delete-tasks attention``: python tools/visualize_attention.py --original A --erased B --class NAME INPUTS..."""

import sys

from delete_tasks.cli import main

if __name__ == "__main__":
    sys.exit(main(["attention", *sys.argv[1:]]))
