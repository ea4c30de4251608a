"""The least and the greatest that values can be: by intervals, whatever else is chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.function import FUNCTIONS, Interval
from nasdsl.compiler.values.plain import Kind, is_number, kind_of
from nasdsl.compiler.values.tree import Among, Apply, Case, Expr, Kept, Slot, options

Known = Mapping[str, frozenset[int]]
"""By path of a choice: the options that are left."""


def known_from(condition: Value) -> Known:
    """What a condition says of choices by themselves."""
    parts = condition.args if isinstance(condition, Apply) and condition.function == "and" else (condition,)
    return {part.path: part.options for part in parts if isinstance(part, Among)}


class Bounds:
    """Intervals of values, where some options of choices are known to be out. False is less than True.

    What is found is kept, on the expressions themselves where nothing is known: the sizes of deep networks are made of
    few parts, used over and over.
    """

    def __init__(self, known: Known = MappingProxyType({})) -> None:
        self.known = known
        self._found: dict[int, tuple[Expr, Interval | None]] = {}  # the expression stays alive, its identity its own

    def of(self, value: Value) -> Interval | None:
        """Plain values of the same form, twice the first possible one of what has no order; None where not known."""
        stack = list(_expressions(value))
        while stack:  # no recursion: a running width is as deep as the network
            top = stack[-1]
            pending = [part for part in _expressions(self._parts(top)) if not self._is_known(part)]
            if pending and not self._is_known(top):
                stack += pending
                continue
            stack.pop()
            if not self._is_known(top):
                self._keep(top, self._of(top))
        return self._span_of(value)

    def _is_known(self, value: Expr) -> bool:
        return id(value) in self._found if self.known else "interval" in value.__dict__

    def _keep(self, value: Expr, interval: Interval | None) -> None:
        if self.known:
            self._found[id(value)] = (value, interval)
        else:
            value.__dict__["interval"] = interval

    def _span_of(self, value: Value) -> Interval | None:
        """Of a value all of whose expressions are known."""
        if isinstance(value, tuple):
            pairs = [self._span_of(item) for item in value]
            if any(pair is None for pair in pairs):
                return None
            return tuple([pair[0] for pair in pairs if pair]), tuple([pair[1] for pair in pairs if pair])
        if not isinstance(value, Expr):
            return value, value
        found: Interval | None = self._found[id(value)][1] if self.known else value.__dict__["interval"]
        return found

    def _parts(self, value: Expr) -> tuple[Value, ...]:
        """What the interval of a value follows from."""
        if not isinstance(value, Apply):
            return ()
        return _possible(value, self.known) if FUNCTIONS[value.function].picks else value.args

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
        parts = self._parts(value)
        known = [interval for part in parts if (interval := self._span_of(part)) is not None]
        if len(known) == len(parts):
            if function.picks:
                return _span([end for interval in known for end in interval])
            fit = all(_fits(function.kind_taken(i), end) for i, pair in enumerate(known) for end in pair)
            found = function.bounds(known, parts) if function.bounds is not None and fit else None
            if found is not None:
                return found
        possible = options(value)
        if possible is not None:
            return _span(sorted(possible, key=str))
        return (False, True) if value.kinds == {"truth"} else None


def _expressions(value: Value) -> Iterator[Expr]:
    """The expressions in a value, which may be a list of some."""
    if isinstance(value, Expr):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _expressions(item)


def _possible(value: Apply, known: Known) -> tuple[Value, ...]:
    """The branches of an `if` that can be taken."""
    test, then, otherwise = value.args
    if isinstance(test, Among) and test.path in known:
        left = known[test.path]
        if left <= test.options or not left & test.options:
            return (then if left <= test.options else otherwise,)
    return then, otherwise


def _fits(kind: Kind | None, end: Any) -> bool:
    """Whether a bound is one of what a function takes. False and True are ordered among numbers."""
    return kind is None or kind_of(end) == kind or (kind == "number" and isinstance(end, bool))


def _span(values: Sequence[Any]) -> Interval:
    if all(map(is_number, values)) or all(isinstance(value, bool) for value in values):
        return min(values), max(values)
    return values[0], values[0]
