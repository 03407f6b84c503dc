"""``python -m homolog``."""

import sys

from homolog.cli import main

if __name__ == "__main__":
    sys.exit(main())
