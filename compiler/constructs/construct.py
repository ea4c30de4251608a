"""What a construct of the language is."""

from __future__ import annotations

from dataclasses import dataclass

from nasdsl.compiler.example import Manual


@dataclass(frozen=True)
class Construct:
    """One construct.

    Attributes:
        name: the keyword, the mark or the word by which it is looked up; `also` are others.
        group: where the reference has it.
        bound: words that have a value inside, and what that is.
        rules: of the grammar, whose meaning it tells.
        words: keywords of the grammar that it tells.
    """

    name: str
    group: str
    manual: Manual
    bound: tuple[tuple[str, str], ...] = ()
    rules: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
