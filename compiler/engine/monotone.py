"""Whether a cost can only rise, or only fall, as a decision takes more: the extreme then lies at an end of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise

from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.function import FUNCTIONS
from nasdsl.compiler.values.plain import ABSENT, FAULT, is_number
from nasdsl.compiler.values.tree import Among, Apply, Case, Expr, Has, Kept, Slot, decisions_of, value_at


class Monotone:
    """Signs of the parts of a cost, each worked out once: parts are shared, and a running width holds the one before it
    twice, and so on down."""

    def __init__(self) -> None:
        self._signs: dict[tuple[str, Value], int | None] = {}
        self._never_negative: dict[Value, bool] = {}

    def of(self, value: Value, path: str, options: int = 0) -> int | None:
        """1 where a value never falls as more units are kept at `path`, or as the option's number of a choice among
        `options` grows, whatever else is chosen; -1 where it never rises, 0 where both, None where neither is known."""
        if path not in decisions_of(value):
            return 0
        key = (path, value)
        if key not in self._signs:
            self._signs[key] = self._of(value, path, options)
        return self._signs[key]

    def _of(self, value: Value, path: str, options: int) -> int | None:
        if options and len(decisions_of(value)) == 1:
            return _slope([value_at(value, {path: option}) for option in range(options)])
        if isinstance(value, Kept):
            return 1
        if not isinstance(value, Apply):
            return None
        slopes = FUNCTIONS[value.function].slopes
        if slopes is None:
            return None
        moving = [
            (slope, arg)
            for slope, arg in zip(slopes(value.args, self._positive), value.args, strict=True)
            if path in decisions_of(arg)
        ]
        if any(slope is None for slope, _ in moving):
            return None
        signs = [(slope, self.of(arg, path, options)) for slope, arg in moving]
        return _common([None if slope is None or sign is None else slope * sign for slope, sign in signs])

    def _positive(self, value: Value) -> bool:
        """Whether a value is never negative."""
        if not isinstance(value, Expr):
            return is_number(value) and value >= 0
        if value not in self._never_negative:
            self._never_negative[value] = self._of_parts(value)
        return self._never_negative[value]

    def _of_parts(self, value: Expr) -> bool:
        if isinstance(value, Case | Slot):
            return all(is_number(v) and v >= 0 for v in value.values)
        if isinstance(value, Kept | Among | Has):
            return True
        if not isinstance(value, Apply):
            return False
        function = FUNCTIONS[value.function]
        if not function.positive:
            return False
        taken = (function.kind_taken(place) for place in range(len(value.args)))
        return all(kind == "truth" or self._positive(arg) for kind, arg in zip(taken, value.args, strict=True))


def _slope(values: Sequence[object]) -> int | None:
    """The direction of numbers or truth values, one after the other."""
    if any(value is ABSENT or value is FAULT or not isinstance(value, int | float | Fraction) for value in values):
        return None
    signs = {(b > a) - (b < a) for a, b in pairwise(values)}  # type: ignore[operator]
    return _common(signs)


def _common(signs: Iterable[int | None]) -> int | None:
    found = set(signs) - {0}
    return 0 if not found else found.pop() if len(found) == 1 else None
