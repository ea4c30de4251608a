"""Plain values, their kinds, and what stands where there is no value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from nasdsl.compiler.source import Span

Kind: TypeAlias = Literal["number", "truth", "word", "text", "list", "record"]

KINDS: Mapping[Kind, str] = {
    "number": "a number",
    "truth": "a truth value",
    "word": "a word",
    "text": "a string",
    "list": "a list",
    "record": "a record",
}
"""Kinds in the user's words."""


@dataclass(frozen=True)
class Symbol:
    """A bare word that is not a name in scope, such as `conv` in `oneof(conv, local)`."""

    word: str
    span: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.word


def is_number(value: Any) -> bool:
    """Whether a value is a plain number; truth values are none."""
    return isinstance(value, int | Fraction | float) and not isinstance(value, bool)


def kind_of(value: Any) -> Kind | None:
    """The kind of a plain value; None of what is none, such as an operator."""
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | Fraction | float):
        return "number"
    if isinstance(value, Symbol):
        return "word"
    if isinstance(value, str):
        return "text"
    if isinstance(value, tuple):
        return "list"
    return "record" if isinstance(value, Mapping) else None


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are equal. What is of another kind is not: `true` is no 1."""
    return kind_of(a) == kind_of(b) and bool(a == b)


def narrow(value: Any) -> Any:
    """A Fraction without denominator is an int."""
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else value


class _Nothing:
    """What a value is where it has none."""

    def __init__(self, word: str):
        self.word = word

    def __repr__(self) -> str:
        return self.word

    def __reduce__(self) -> str:
        return self.word.upper()  # itself, in another process too


ABSENT = _Nothing("absent")  # the value hangs on a decision that does not exist
FAULT = _Nothing("fault")  # a function outside its domain, such as a division by zero


class Absent(KeyError):
    """A value was asked of a decision that the assignment leaves out. `args[0]` is its path."""


FAULTS = (ArithmeticError, KeyError, TypeError, ValueError, IndexError)  # of a function outside its domain
