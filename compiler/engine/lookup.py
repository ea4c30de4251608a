"""Finding rows of small numbers in a table, without hashing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.engine.levels import Ints

DENSE = 1 << 20  # entries of a table that is indexed directly


class Lookup:
    """Numbers the columns of a table (all different), and finds them again.

    Rows are taken one by one into a mixed-radix code; before it would outgrow a table, the codes that occur are
    renumbered.

    Args:
        rows: [rows, entries] of numbers that are not negative.
    """

    def __init__(self, rows: NDArray[np.integer[Any]]):
        self._steps: list[tuple[int, NDArray[Any] | None]] = []
        code: Ints = np.zeros(rows.shape[1], np.int64)
        radix = 1
        for row in rows:
            size = int(row.max(initial=0)) + 1
            renumber = None
            if radix * size > DENSE and radix > 1:
                renumber, code, radix = _renumbered(code, radix)
            self._steps.append((size, renumber))
            code, radix = code * size + row, radix * size
        self._last, number, _ = _renumbered(code, radix)
        self._entry = np.empty(len(number), np.int32)
        self._entry[number] = np.arange(len(number))

    def find(self, rows: Sequence[NDArray[np.integer[Any]]]) -> NDArray[np.int32]:
        """The number of the column with these entries, -1 where there is none."""
        wrong = np.zeros(len(rows[0]), np.bool_)
        code: Any = 0
        for (size, renumber), row in zip(self._steps, rows, strict=True):
            if renumber is not None:
                code = _number(renumber, code)
                wrong |= code < 0
                code[wrong] = 0
            outside = (row < 0) | (row >= size)
            wrong |= outside
            code = code * size + np.where(outside, 0, row).astype(np.int64)
        code = _number(self._last, code)
        wrong |= code < 0
        return np.where(wrong, -1, self._entry[np.where(wrong, 0, code)]).astype(np.int32)


def _renumbered(code: Ints, radix: int) -> tuple[NDArray[Any], Ints, int]:
    """What turns codes into numbers (all codes in order, or a table), these numbers, and how many there are."""
    known, number = np.unique(code, return_inverse=True)
    if radix > DENSE:
        return known, number, len(known)
    table = np.full(radix, -1, np.int32)
    table[known] = np.arange(len(known))
    return table, number, len(known)


def _number(renumber: NDArray[Any], code: Ints) -> Ints:
    if renumber.dtype == np.int32:
        return renumber[code].astype(np.int64)
    place = np.searchsorted(renumber, code).clip(max=len(renumber) - 1)
    return np.where(renumber[place] == code, place, -1)
