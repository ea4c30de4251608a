"""The least and the greatest that values can be: by intervals, whatever else is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Among, Apply, Case, Expr, Kept, Slot, Value
from nasdsl.compiler.values.function import FUNCTIONS, Interval
from nasdsl.compiler.values.plain import is_number, kind_of

Known = Mapping[str, frozenset[int]]
"""By path of a choice: the options that are left."""


class Bounds:
    """Intervals of values, where some options of choices are known to be out. False is less than True.

    Parts that values share are looked at once: the sizes of deep networks are made of few parts, used over and over.
    """

    def __init__(self, known: Known = MappingProxyType({})) -> None:
        self.known = known
        self.found: dict[int, tuple[Expr, Interval | None]] = {}  # the expression stays alive, its identity its own

    def of(self, value: Value) -> Interval | None:
        """Plain values of the same form, twice the first possible one of what has no order; None where not known."""
        if isinstance(value, tuple):
            pairs = [self.of(item) for item in value]
            if any(pair is None for pair in pairs):
                return None
            return tuple([pair[0] for pair in pairs if pair]), tuple([pair[1] for pair in pairs if pair])
        if not isinstance(value, Expr):
            return value, value
        if id(value) not in self.found:
            self.found[id(value)] = (value, self._of(value))
        return self.found[id(value)][1]

    def _of(self, value: Expr) -> Interval | None:
        if isinstance(value, Kept):
            return 0, value.n
        if isinstance(value, Case | Slot):
            values = value.values
            if isinstance(value, Case) and value.path in self.known:
                values = tuple(values[i] for i in sorted(self.known[value.path]))
            return _span(values)
        if not isinstance(value, Apply):
            return (False, True) if value.kinds == {"truth"} else None
        function = FUNCTIONS[value.function]
        parts = _possible(value, self.known) if function.picks else value.args
        known = [interval for part in parts if (interval := self.of(part)) is not None]
        if len(known) == len(parts):
            if function.picks:
                return _span([end for interval in known for end in interval])
            comparable = all(is_number(end) or kind_of(end) in ("truth", "list") for pair in known for end in pair)
            found = function.bounds(known, parts) if function.bounds is not None and comparable else None
            if found is not None:
                return found
        possible = expr.options(value)
        if possible is not None:
            return _span(sorted(possible, key=str))
        return (False, True) if value.kinds == {"truth"} else None


def _possible(value: Apply, known: Known) -> tuple[Value, ...]:
    """The branches of an `if` that can be taken."""
    test, then, otherwise = value.args
    if isinstance(test, Among) and test.path in known:
        left = known[test.path]
        if left <= test.options or not left & test.options:
            return (then if left <= test.options else otherwise,)
    return then, otherwise


def _span(values: Sequence[Any]) -> Interval:
    if all(map(is_number, values)) or all(isinstance(value, bool) for value in values):
        return min(values), max(values)
    return values[0], values[0]
