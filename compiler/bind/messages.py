"""What is said of a name or a word, when the tree is bound and where only its value tells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nasdsl.compiler.bind.habits import VALUES, near
from nasdsl.compiler.diagnostics import Diagnostic
from nasdsl.compiler.source import Span


def no_value(word: str, span: Span, names: Iterable[str], label: str = "not found") -> Diagnostic:
    help = VALUES.get(word) or near(word, names)
    return Diagnostic("unknown-name", f"no value named `{word}`", span, label, help=help)


def no_step(word: str, span: Span, help: str) -> Diagnostic:
    return Diagnostic("unknown-name", f"no operator or tensor named `{word}`", span, "not found", help=help)


def one_of(word: str, words: Iterable[str]) -> str:
    """The nearest of some words, or all."""
    words = list(dict.fromkeys(words))
    return near(word, words) or "one of " + ", ".join(f"`{w}`" for w in words)


def unknown_option(word: str, span: Span, words: Iterable[str], among: str = "one of the alternatives") -> Diagnostic:
    return Diagnostic("unknown-option", f"`{word}` is not {among}", span, help=one_of(word, words))


def not_covered(span: Span, missing: Sequence[str]) -> Diagnostic:
    """That a `match` leaves cases open."""
    words = f"`{'`, `'.join(missing)}`"
    help = f"add {words}, or `else: ...`" if 0 < len(missing) <= MOST_NAMED else "add what is missing, or `else: ...`"
    label = f"{words} missing" if 0 < len(missing) <= MOST_NAMED else ""
    return Diagnostic("not-covered", "the alternatives do not cover every case", span, label, help=help)


def not_callable(name: str, what: str, span: Span) -> Diagnostic:
    return Diagnostic("not-callable", f"`{name}` is {what}, and takes no arguments", span, help=f"write `{name}` alone")


def no_list_of_allowed(span: Span, example: str) -> Diagnostic:
    return Diagnostic("not-a-list", "after `in` stands the list of allowed values", span, help=f"write `{example}`")


MOST_NAMED = 12
"""Words that a message names."""
