"""Lists whose items are not always there, such as what `manyof` chose: items by their place among those that are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value

Items = Sequence[tuple[Any, Value]]
"""Values, each with the condition under which it is there."""


def at_place(items: Items, place: Value) -> list[tuple[Any, Value]]:
    """Each item with the condition under which it stands at a place: from 0, or from -1 at the end backwards."""
    before, behind = _before(items), _before(items[::-1])[::-1]
    return [
        (item, expr.both(there, expr.either(expr.equal(first, place), expr.equal(expr.add(-1, _minus(last)), place))))
        for (item, there), first, last in zip(items, before, behind, strict=True)
    ]


def taken(items: Items, n: int, last: bool) -> list[tuple[Any, Value]]:
    """The first (or last) `n` of those that are there."""
    ends = _before(items[::-1])[::-1] if last else _before(items)
    kept = [(item, expr.both(there, expr.less(end, n))) for (item, there), end in zip(items, ends, strict=True)]
    return [(item, there) for item, there in kept if there is not False]


def folded(items: Items, fold: Callable[[tuple[Value, ...], Value], Value]) -> Value:
    """A function of one or two values, and of the condition under which they are there, over all items of which one
    is there at least.
    """
    return _folded([(fold((item,), there), there) for item, there in items], fold)[0]


def _folded(items: Items, fold: Callable[[tuple[Value, ...], Value], Value]) -> tuple[Value, Value]:
    if len(items) == 1:
        return items[0]
    half = len(items) // 2
    (one, first), (other, second) = _folded(items[:half], fold), _folded(items[half:], fold)
    both = fold((one, other), expr.both(first, second))
    return expr.choose(first, expr.choose(second, both, one), other), expr.either(first, second)


def _before(items: Items) -> list[Value]:
    """How many items are there before each."""
    if not items:
        return []
    counts = (expr.choose(there, 1, 0) for _, there in items[:-1])
    return list(accumulate(counts, expr.add, initial=0))


def _minus(value: Value) -> Value:
    return expr.multiply(-1, value)
