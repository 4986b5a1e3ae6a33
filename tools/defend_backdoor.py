"""Run ``delete-tasks backdoor clean``: python tools/defend_backdoor.py --model MODEL --poisoned DATA ..."""

import sys

from delete_tasks.cli import main

if __name__ == "__main__":
    sys.exit(main(["backdoor", "clean", *sys.argv[1:]]))
