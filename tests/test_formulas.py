"""Formulas of the documentation can be shown: the site translates them to MathML while it is built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docutils.utils.math.latex2mathml import tex2mathml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {page.relative_to(DOCS).as_posix(): page for page in sorted(DOCS.rglob("*.md"))}


def formulas(tokens: list[Token]) -> Iterator[tuple[str, bool]]:
    """Each formula, and whether it stands by itself."""
    for token in tokens:
        if token.type.startswith("math_"):
            yield token.content, token.type.startswith("math_block")
        yield from formulas(token.children or [])


@pytest.mark.parametrize("page", [name for name, page in PAGES.items() if "$" in page.read_text(encoding="utf-8")])
def test_every_formula_can_be_shown(page: str) -> None:
    markdown = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin)
    for text, block in formulas(markdown.parse(PAGES[page].read_text(encoding="utf-8"))):
        assert tex2mathml(text, as_block=block).startswith("<math"), text
