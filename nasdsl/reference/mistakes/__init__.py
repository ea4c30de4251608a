"""What each code means, the smallest thing that raises it, and how it is mended. `tests/test_reference.py` holds the
table to what the code raises.
"""

from __future__ import annotations

from collections.abc import Mapping

from nasdsl.reference.mistakes import files, names, networks, reading, searches, spaces, values
from nasdsl.reference.mistakes.mistake import Mistake

GROUPS = (reading, names, values, networks, spaces, searches, files)
"""Modules with a `TITLE` and their `MISTAKES`, in the order of the page."""

MISTAKES: Mapping[str, Mistake] = {one.code: one for group in GROUPS for one in group.MISTAKES}
"""By code."""
