"""What expressions over units come to at every number of kept ones, all at once: a width may be of thousands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasdsl.compiler.arrays.columns import Column, apply, constant
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import Apply, Kept, value_at


def at_widths(n: int, values: Sequence[Value]) -> list[list[Any]]:
    """For each value a list: what `value_at` gives where 0 to n units are kept.

    Args:
        values: over one decision, of units, that is present.
    """
    known: dict[int, Column] = {}

    def of(value: Value) -> Column:
        found = known.get(id(value))
        if found is None:
            found = known[id(value)] = new(value)
        return found

    def new(value: Value) -> Column:
        if isinstance(value, Kept):
            return Column("number", np.arange(n + 1, dtype=np.int64), low=0, high=n)
        if isinstance(value, Apply):
            return apply(value.function, [of(arg) for arg in value.args])
        return constant(value_at(value, {}))

    return [of(value).objects(n + 1) for value in values]
