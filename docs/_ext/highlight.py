"""Colours for the language, for whole files (`space`) and fragments (`space-part`)."""

from __future__ import annotations

from pygments.lexer import RegexLexer, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Whitespace
from sphinx.application import Sphinx

from nasdsl.compiler.tables import tables


class SpaceLexer(RegexLexer):
    name = "nasdsl"
    aliases = ("space", "space-part")
    tokens = {  # noqa: RUF012
        "root": [
            (r"\s+", Whitespace),
            (r"#[^\n]*", Comment.Single),
            (r'"[^"\n]*"', String),
            (r"[0-9][0-9_,]*(\.[0-9]+)?([eE][+-]?[0-9]+)?[kKMGTB]?\b", Number),
            (words(sorted(set(tables().words) - {"x"}), suffix=r"\b"), Keyword),
            (r"(oneof|manyof|permute|units)\b", Keyword.Pseudo),
            (r"[A-Za-z_]\w*(?=\s*[({])", Name.Function),
            (r"[A-Za-z_]\w*", Name),
            (r"->|\.\.|[-+*/%<>=!|&@^?~]+", Operator),
            (r"[][(){},.:;]", Punctuation),
        ]
    }


def setup(app: Sphinx) -> dict[str, bool]:
    for alias in SpaceLexer.aliases:
        app.add_lexer(alias, SpaceLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
