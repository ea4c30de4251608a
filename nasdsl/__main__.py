"""`python -m nasdsl` is `nasdsl`."""

from __future__ import annotations

import sys

from nasdsl.cli import main

if __name__ == "__main__":
    sys.exit(main())
