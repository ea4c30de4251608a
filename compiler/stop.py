"""The place where reading stopped, as questions about it ask: the stack of the automaton, and the tokens around."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from nasdsl.compiler.brackets import CLOSES, CONTINUES, PARTNER, span_of
from nasdsl.compiler.diagnostics import Diagnostic
from nasdsl.compiler.source import Source
from nasdsl.compiler.tables import END, LINE_BREAK, tables
from nasdsl.compiler.tokens import Token

INFIX = frozenset({"->", "+", "*", "/", "^", "COMPARE", "..", "and", "or", "implies"})
_GOES_ON = INFIX | {"=", ":"}
_VALUES = frozenset(
    {"postfix", "simple", "place", "name", "call", "atom", "field", "index", "list", "string", "number", "head"}
    | {"head_sum", "head_product", "head_negative"}
)


@cache
def _entered_by() -> dict[int, str]:
    """The symbol by which each state of the automaton is entered."""
    known = tables()
    entered = {}
    for row in known.actions:
        entered.update({state: symbol for symbol, state in row.items() if state >= 0})
    for row in known.gotos:
        entered.update({state: symbol for symbol, state in row.items()})
    return entered


def open_brackets(values: Sequence[Any]) -> list[int]:
    """The places on the automaton's stack where brackets stand that are not closed yet, outermost first."""
    places: list[int] = []
    for place, value in enumerate(values):
        if type(value) is Token:
            if value.kind in PARTNER:
                places.append(place)
            elif value.kind in CLOSES:
                places.pop()
    return places


@dataclass(frozen=True)
class Stop:
    """The automaton before a token that it can't take: its stack, the tokens, and what could have come instead."""

    source: Source
    tokens: Sequence[Token]
    index: int
    since: int  # the token at which reading began, or began again
    states: Sequence[int]
    values: Sequence[Any]
    accepts: Callable[[str], bool]

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    @property
    def before(self) -> Token:
        return self.tokens[self.index - 1] if self.index else Token("", "", 0, 0, True)

    @property
    def after(self) -> Token:
        return self.tokens[min(self.index + 1, len(self.tokens) - 1)]

    @cached_property
    def symbols(self) -> list[str]:
        entered = _entered_by()
        return [entered[state] for state in self.states[1:]]

    @cached_property
    def bracket(self) -> int | None:
        """Where on the stack the innermost open bracket stands."""
        return next(reversed(open_brackets(self.values)), None)

    @cached_property
    def role(self) -> str:
        """What the innermost bracket holds: top, space, with, match, fusion, body, block, call, formals, group, ..."""
        if self.bracket is None:
            return "top"
        mark, before = self.symbols[self.bracket], self.symbols[: self.bracket]
        last = before[-1] if before else ""
        if mark == "(":
            if last != "name":
                return "group"
            return "formals" if before[-2:-1] and before[-2] in ("operator", "let", "fusion") else "call"
        if mark == "[":
            if self.bracket + 1 < len(self.symbols) and self.symbols[self.bracket + 1] == "for":
                return "comprehension"
            return "index" if last in _VALUES else "list"
        if last == "with":
            return "with"
        if before[-2:] == ["space", "name"]:
            return "space"
        if "match" in before[-2:-1]:
            return "match"
        if "fusion" in before[-3:]:
            return "fusion"
        return "body" if last in ("formals", "bind", "name", "arguments") or last.startswith("head") else "block"

    @cached_property
    def item(self) -> list[Token]:
        """The tokens, at this bracket's level, of what was being read when it stopped."""
        if not self.symbols or self.symbols[-1] in PARTNER or self.symbols[-1] in (LINE_BREAK, ",", "_sep"):
            return []
        out: list[Token] = []
        depth = 0
        for place in range(self.index - 1, self.since - 1, -1):
            token = self.tokens[place]
            if token.kind in CLOSES:
                depth += 1
            elif token.kind in PARTNER:
                depth -= 1
                if depth < 0:
                    break
            elif depth == 0 and token.kind == ",":
                break
            if depth == 0:
                out.append(token)
                goes_on = token.kind in CONTINUES or (place and self.tokens[place - 1].kind in _GOES_ON)
                if token.leads and not goes_on:
                    break
        return out[::-1]

    def say(self, code: str, message: str, token: Token | None = None, help: str = "", label: str = "") -> Diagnostic:
        token = token or self.token
        if token.kind == END:
            token = self.before
        return Diagnostic(code, message, span_of(self.source, token), label, help=help)
