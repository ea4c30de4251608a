"""A lexer for Pygments: `pygmentize`, Sphinx, Jupyter and MkDocs colour `.space` files with it.

It is found under the names `space` and `nasdsl`, by the entry point group `pygments.lexers`. The pieces are those of
the compiler's own tokens, the words those of its tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pygments.lexer import Lexer
from pygments.token import (
    Comment,
    Error,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Whitespace,
    _TokenType,
)

from nasdsl.editor.pieces import pieces

TOKENS: Mapping[str, _TokenType] = {
    "comment": Comment.Single,
    "string": String.Double,
    "number": Number,
    "unit": Keyword.Type,
    "mark": Punctuation,
    "sign": Operator,
    "infix": Operator.Word,
    "declaration": Keyword.Declaration,
    "control": Keyword,
    "section": Keyword.Namespace,
    "defined": Name.Class,
    "label": Name.Attribute,
    "form": Name.Builtin,
    "function": Name.Builtin,
    "operator": Name.Function,
    "called": Name.Function,
    "constant": Keyword.Constant,
    "measure": Name.Constant,
    "ambient": Name.Builtin.Pseudo,
    "field": Name.Property,
    "name": Name,
    "error": Error,
}
"""The token of Pygments for each kind of piece."""


class SpaceLexer(Lexer):  # type: ignore[misc]  # Pygments has no types
    """Colours the language of nasdsl. Any text gives tokens that add up to it; what the compiler's tokenizer refuses is
    an `Error`."""

    name = "nasdsl"
    aliases: ClassVar[list[str]] = ["space", "nasdsl"]
    filenames: ClassVar[list[str]] = ["*.space"]
    mimetypes: ClassVar[list[str]] = ["text/x-nasdsl"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        end = 0
        for piece in pieces(text):
            if piece.start > end:
                yield end, Whitespace, text[end : piece.start]
            yield piece.start, TOKENS[piece.kind], text[piece.start : piece.end]
            end = piece.end
        if end < len(text):
            yield end, Whitespace, text[end:]
