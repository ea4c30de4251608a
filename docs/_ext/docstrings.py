"""Docstrings are written as Markdown is: what is indented below a paragraph is code. Signatures show plain names."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

SECTION = re.compile(r"^\w+:$")


def mark_code(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Puts `::` before indented text of a docstring's own level, as reStructuredText wants it."""
    out: list[str] = []
    before = ""
    for line in lines:
        code = line.startswith("    ") and not before.startswith(" ") and out and not out[-1]
        if code and not SECTION.match(before) and not before.endswith("::"):
            out += ["::", ""]
        out.append(line)
        if line.strip():
            before = line
    lines[:] = out


def plain_names(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Signatures without the underscores of what a module imports for itself alone."""
    return tuple(None if text is None else re.sub(r"\b_(?=[A-Z])", "", text) for text in (signature, returns))  # type: ignore[return-value]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", mark_code, priority=400)  # before napoleon's sections
    app.connect("autodoc-process-signature", plain_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
