"""A text cut into pieces, each with what it is to a reader. Works on any text, also on parts of a file and on what is
half typed: nothing is parsed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nasdsl.compiler.source import Source
from nasdsl.compiler.tables import END
from nasdsl.compiler.tokens import MOST_MISTAKES, Token, tokenize
from nasdsl.editor.words import kind_of_call, words

KINDS = (
    "comment",
    "string",
    "number",
    "unit",
    "mark",  # brackets, commas, colons
    "sign",  # + - * / -> .. and so on
    "infix",
    "declaration",
    "control",
    "section",
    "defined",  # a name where it is declared
    "label",  # a name in front of a colon: of a step, an argument, an entry
    "form",
    "function",
    "operator",
    "called",  # a name of the file's own that is called
    "constant",
    "measure",
    "ambient",
    "field",
    "name",
    "error",
)
"""All kinds of pieces."""


class Piece(NamedTuple):
    start: int
    end: int
    kind: str


def pieces(text: str) -> list[Piece]:
    """The pieces of a text in its order; what is left out are blanks."""
    out: list[Piece] = []
    begin = 0
    while begin < len(text):
        found = tokenize(Source(text[begin:]))
        wrong = {(one.span.start, one.span.end) for one in found.mistakes if one.span is not None}
        here = [Piece(start, end, "comment") for start, end in found.comments]
        here += _of_tokens([token for token in found.tokens if token.kind != END], wrong)
        taken = {(piece.start, piece.end) for piece in here}
        here += [Piece(start, end, "error") for start, end in wrong if (start, end) not in taken]
        here.sort()
        out += [Piece(begin + start, begin + end, kind) for start, end, kind in here if end > start]
        if len(found.mistakes) < MOST_MISTAKES:  # else the tokenizer has stopped behind the last one
            break
        begin += max(end for _, end in wrong)
    return out


def _of_tokens(tokens: list[Token], wrong: set[tuple[int, int]]) -> Iterator[Piece]:
    behind_value = False  # whether the token before ends a value, so that an infix operator may follow
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else None
        after = tokens[index + 1] if index + 1 < len(tokens) else None
        further = tokens[index + 2] if index + 2 < len(tokens) else None
        may_be_infix = behind_value and not token.leads
        if (token.start, token.end) in wrong:
            kind = "error"
        elif token.kind == "NAME":
            infix = may_be_infix and token.text in ("x", "step")
            kind = "infix" if infix else _of_name(token, before, after, further)
        elif token.kind in ("NUMBER", "STRING"):
            kind = token.kind.lower()
        elif token.kind == "in":
            kind = "infix" if may_be_infix else "ambient"
        elif token.kind.isidentifier() and token.kind != "COMPARE":
            kind = next(kind for kind in ("control", "infix", "declaration") if token.kind in words()[kind])
        else:
            kind = "mark" if token.kind in _MARKS else "sign"
        behind_value = token.kind in _ENDS_VALUE and kind != "infix"
        yield Piece(token.start, token.end, kind)


_MARKS = frozenset("()[]{},:.")
_ENDS_VALUE = frozenset(("NAME", "NUMBER", "STRING", "in", ")", "]", "}"))
_OPENS_DECLARATION = frozenset(("space", "operator", "fusion", "let", "param"))


def _of_name(token: Token, before: Token | None, after: Token | None, further: Token | None) -> str:
    text = token.text
    if before is not None and before.kind == ".":
        return "field"
    if before is not None and before.kind == "NUMBER" and not token.leads:
        return "unit"
    if before is not None and (before.kind in _OPENS_DECLARATION or (before.kind == "for" and not token.leads)):
        return "defined"
    if after is not None and after.kind == ":":
        return "label"
    if text in words()["section"] and after is not None and _opens_section(before, token, after, further):
        return "section"
    if after is not None and not after.leads and after.kind in ("(", "{"):
        return kind_of_call(text) or ("name" if after.kind == "{" else "called")
    return next((kind for kind in ("constant", "measure", "ambient") if text in words()[kind]), "name")


def _opens_section(before: Token | None, token: Token, after: Token, further: Token | None) -> bool:
    first = token.leads or before is None or before.kind in ("{", ",")
    named = after.kind == "NAME" and not after.leads and further is not None and further.kind == "{"
    return first and (after.kind == "{" or named)
