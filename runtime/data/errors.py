"""What the readers say to their user when the data is not what they hoped for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from nasdsl.compiler.diagnostics import NasdslError


class DataError(NasdslError):
    """The data named by the user cannot be used: what was expected, what was found, and a way out."""

    code = "data"


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`did you mean "x"?` for the nearest of `options`, or an empty string when none is near."""
    near = difflib.get_close_matches(word, list(options), n=1)
    return f'did you mean "{near[0]}"?' if near else ""


def some(names: Iterable[str], limit: int = 6) -> str:
    """A short list for a message: `a, b, c and 12 more`."""
    listed = list(names)
    shown = ", ".join(listed[:limit])
    return shown if len(listed) <= limit else f"{shown} and {len(listed) - limit} more"
