"""Colours for the language, for whole files (`space`) and fragments (`space-part`)."""

from __future__ import annotations

from sphinx.application import Sphinx

from nasdsl.editor.lexer import SpaceLexer


def setup(app: Sphinx) -> dict[str, bool]:
    for name in ("space", "space-part"):
        app.add_lexer(name, SpaceLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
