"""Pictures as parts of a page."""

from __future__ import annotations

import re


def inline(text: str) -> str:
    """An SVG as a part of a page: without its prologue, its comments, and names that others on the page have too; as
    wide as there is room."""
    body = re.sub(r"<!--.*?-->\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r"<(svg|g|a)\b[^>]*>", lambda m: re.sub(r' (?:id|class|xmlns:xlink)="[^"]*"', "", m[0]), body)
    return re.sub(r'^(<svg[^>]*?) width="[^"]*"\s+height="[^"]*"', r"\1", body)
