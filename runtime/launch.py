"""How this process was started: alone, or as one of several by `torchrun`."""

from __future__ import annotations

import os


def is_first_process() -> bool:
    """Whether this is the one of several processes, started by `torchrun`, that speaks for all of them."""
    return os.environ.get("RANK", "0") == "0"
