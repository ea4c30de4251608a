"""Brackets without a partner: found by the layout where that is clear, and put in so that reading can go on."""

from __future__ import annotations

from dataclasses import dataclass

from nasdsl.compiler.diagnostics import Diagnostic, Label
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.tables import END
from nasdsl.compiler.tokens import MOST_MISTAKES, Token

PARTNER = {"(": ")", "[": "]", "{": "}"}
CLOSES = frozenset(PARTNER.values())

# A line that begins with one of these goes on with the line before.
CONTINUES = frozenset({"->", "+", "*", "/", "^", ")", "]", "}", ",", "COMPARE", "..", "and", "or", "implies", "if"})


@dataclass(frozen=True)
class Mended:
    """Tokens whose brackets match, what had to be said for it, and the stretches of text on which enough is said."""

    tokens: list[Token]
    mistakes: list[Diagnostic]
    muted: list[tuple[int, int]]


def mend(source: Source, tokens: list[Token]) -> Mended:
    """Give every bracket a partner. Of a reading by layout and one without, the one with fewer complaints counts."""
    waiting: list[str] = []
    for token in tokens:
        if token.kind in PARTNER:
            waiting.append(PARTNER[token.kind])
        elif token.kind in CLOSES and (not waiting or waiting.pop() != token.kind):
            break
    else:
        if not waiting:
            return Mended(tokens, [], [])
    by_layout = _Mending(source, layout=True).run(tokens)
    plain = _Mending(source, layout=False).run(tokens)
    return by_layout if len(by_layout.mistakes) <= len(plain.mistakes) else plain


class _Mending:
    def __init__(self, source: Source, layout: bool):
        self.source = source
        self.layout = layout
        self.out: list[Token] = []
        self.mistakes: list[Diagnostic] = []
        self.muted: list[tuple[int, int]] = []
        self.open: list[tuple[Token, int, int]] = []  # the bracket, its line and the indent of that line

    def run(self, tokens: list[Token]) -> Mended:
        line = indent = column = 0
        for token in tokens:
            if len(self.mistakes) >= MOST_MISTAKES:
                break
            if token.leads:
                line, column = self.source.position(token.start)
                indent = column
            if token.kind == END:
                while self.open:
                    self.missing(token)
            elif token.kind in PARTNER:
                self.close_by_layout(token, line, column)
                self.open.append((token, line, indent))
            elif token.kind in CLOSES:
                self.close(token, line, column)
                continue
            else:
                self.close_by_layout(token, line, column)
            self.out.append(token)
        return Mended(self.out, self.mistakes, self.muted)

    def close_by_layout(self, token: Token, line: int, column: int) -> None:
        """A line that begins no deeper than the one where a bracket was opened stands outside of it."""
        if self.layout and token.leads and token.kind not in CONTINUES:
            while self.open and line > self.open[-1][1] and column <= self.open[-1][2]:
                self.missing(token)

    def close(self, token: Token, line: int, column: int) -> None:
        if self.layout and token.leads:
            while self.open and line > self.open[-1][1] and column < self.open[-1][2]:
                self.missing(token)
            if self.open and line > self.open[-1][1] and column > self.open[-1][2]:
                return self.extra(token)
        if self.open and PARTNER[self.open[-1][0].kind] != token.kind:
            same_line = self.open[-1][1] == line
            fitting = [where for bracket, where, _ in self.open if PARTNER[bracket.kind] == token.kind]
            if same_line and (not fitting or (fitting[-1] < line and not token.leads)):
                return self.mismatched(token)
            if fitting:
                while PARTNER[self.open[-1][0].kind] != token.kind:
                    self.missing(token)
            else:
                return self.extra(token)
        if not self.open:
            return self.extra(token)
        self.open.pop()
        self.out.append(token)

    def missing(self, before: Token) -> None:
        bracket, _, _ = self.open.pop()
        partner = PARTNER[bracket.kind]
        place = self.out[-1].end
        others = () if before.kind == END else (self.label(before, f"`{partner}` is missing before this"),)
        self.mistakes.append(
            Diagnostic(
                "unclosed-bracket",
                f"`{bracket.kind}` is never closed",
                span_of(self.source, bracket),
                "opened here",
                others,
            )
        )
        self.muted.append((self.line_start(bracket.start), before.start))
        self.out.append(Token(partner, partner, place, place, False))

    def extra(self, token: Token) -> None:
        message = f"`{token.kind}` closes nothing"
        self.mistakes.append(Diagnostic("unmatched-bracket", message, span_of(self.source, token)))
        self.muted.append((self.line_start(token.start), token.end))

    def mismatched(self, token: Token) -> None:
        bracket, _, _ = self.open.pop()
        partner = PARTNER[bracket.kind]
        message = f"`{bracket.kind}` is closed by `{token.kind}`"
        others = (self.label(bracket, "opened here"),)
        self.mistakes.append(
            Diagnostic("mismatched-bracket", message, span_of(self.source, token), "", others, f"write `{partner}`")
        )
        self.muted.append((self.line_start(bracket.start), token.end))
        self.out.append(token._replace(kind=partner, text=partner))

    def label(self, token: Token, text: str) -> Label:
        return Label(span_of(self.source, token), text)

    def line_start(self, offset: int) -> int:
        return self.source.text.rfind("\n", 0, offset) + 1


def span_of(source: Source, token: Token) -> Span:
    """Where a token stands."""
    return Span(source, token.start, token.end)
