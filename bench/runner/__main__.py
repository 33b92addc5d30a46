"""bench/run, from the command line to the exit status."""

import sys
from pathlib import Path

# Started as a directory, Python puts the directory itself on the path: its parent makes it a package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from runner.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
