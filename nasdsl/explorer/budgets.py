"""Budgets as they are typed on the page: `macs <= 600M`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

from nasdsl.compiler import measures
from nasdsl.compiler.diagnostics import ArgumentError, suggest
from nasdsl.compiler.engine.lattice import Window
from nasdsl.compiler.population import joined

NUMBER = r"(\d[\d_]*(?:\.\d+)?)\s*([KMG]?)"
ORDER = re.compile(rf"(\w+)\s*(<=|<|>=|>|==)\s*{NUMBER}")
RANGE = re.compile(rf"(\w+)\s+in\s+{NUMBER}\s*\.\.\s*{NUMBER}")
ALONE = re.compile(NUMBER)
SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
HELP = "such as `macs <= 600M`, `params in 4M..5M` or `macs <= 600M and params <= 5M`"


@dataclass(frozen=True)
class Budget:
    """What was typed.

    Attributes:
        text: as a `require` of the language has it.
        window: of measures that are no multiples of others, in their units.
    """

    text: str
    window: Window


def read_budget(text: str, known: Sequence[str]) -> Budget:
    """A condition on costs; a number alone bounds the first of the measures from above.

    Args:
        known: the measures whose costs are told.

    Raises:
        ArgumentError: it is none, or speaks of another measure.
    """
    words = " ".join(text.split())
    if ALONE.fullmatch(words):
        words = f"{known[0]} <= {words}"
    window: Window = {}
    for part in re.split(r"\s+and\s+", words):
        window = joined(window, _window(part, known))
    return Budget(words, window)


def _window(text: str, known: Collection[str]) -> Window:
    order, between = ORDER.fullmatch(text), RANGE.fullmatch(text)
    found = order or between
    if found is None:
        raise ArgumentError(f"`{text}` is no budget", HELP)
    name = found[1]
    if measures.lookup(name) is None:
        raise ArgumentError(f"there is no measure `{name}`", suggest(name, measures.known()) or HELP)
    factor, base = measures.base(name)
    if base not in known:
        raise ArgumentError(f"`{name}` is not looked at here", f"`nasdsl explore --measure {name}` does")
    if between is not None:
        return {base: (_plain(_amount(factor, *found.group(2, 3))), _plain(_amount(factor, *found.group(4, 5))))}
    sign, bound = found[2], _amount(factor, *found.group(3, 4))
    step = Fraction(1, measures.find(base).scale)
    if sign == "==":
        return {base: (_plain(bound), _plain(bound))}
    if sign in ("<=", "<"):
        beyond = bound if sign == "<=" else _next(bound, step, -1)
        return {base: (None, _plain(beyond))}
    return {base: (_plain(bound if sign == ">=" else _next(bound, step, 1)), None)}


def _amount(factor: int, digits: str, size: str) -> Fraction:
    return Fraction(digits.replace("_", "")) * SIZES[size] / factor


def _next(bound: Fraction, step: Fraction, sign: int) -> Fraction:
    """The nearest amount beyond a bound that a cost can have."""
    places = bound / step
    return (-(-places // 1) - 1) * step if sign < 0 else (places // 1 + 1) * step


def _plain(bound: Fraction) -> float:
    return int(bound) if bound.denominator == 1 else float(bound)
