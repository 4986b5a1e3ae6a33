"""Run ``delete-tasks faces remove``: python tools/remove_identity.py --model MODEL --person NAME --photos DIR ..."""

import sys

from delete_tasks.cli import main

if __name__ == "__main__":
    sys.exit(main(["faces", "remove", *sys.argv[1:]]))
