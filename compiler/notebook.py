"""How values show in a notebook. What paints them lies above the compiler, which knows of it by this name alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

painter: Callable[[Any], str] | None = None
"""Makes HTML of a value; set by the package that has the drawings."""


def html(value: Any) -> str | None:
    """What a notebook shows of a value; None leaves it with the `repr`."""
    return None if painter is None else painter(value)
