"""The values of one cell by rank: from a number to a value, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.cells import Cell, Patterns, completions, words_of


class Members:
    """The values of one cell, by rank. Cells of decisions alike but for their path are the same object."""

    def __init__(self, decision: Decision, cell: Cell):
        self.decision, self.cell = decision, cell
        self._shares: list[int] = []
        members = cell.members
        if isinstance(members, Patterns):
            self._number = {pattern: i for i, pattern in enumerate(members.patterns)}
            if decision.kind == "subset":
                others = decision.n - len(members.mentioned)
                self._others = tuple(i for i in range(decision.n) if i not in members.mentioned)
                self._shares = [math.comb(others, decision.size - len(p)) for p in members.patterns]
            else:
                self._times, self._kind, self._indices = words_of(decision, members.kinds)
                self._positions = (*members.mentioned, *[i for i in range(decision.n) if i not in members.mentioned])
                self._shares = [completions(self._times, self._kind, p) for p in members.patterns]

    def unrank(self, number: int) -> Any:
        kind, members = self.decision.kind, self.cell.members
        if kind == "choice":
            return members[number]
        if kind == "units":
            return self._unrank_units(number)
        for pattern, share in zip(members.patterns, self._shares, strict=True):  # noqa: B007 (the last is the answer)
            if number < share:
                break
            number -= share
        if kind == "subset":
            rest = combination(len(self._others), self.decision.size - len(pattern), number)
            return tuple(sorted((*pattern, *[self._others[i] for i in rest])))
        return self._unrank_order(pattern, number)

    def rank(self, value: Any) -> int | None:
        """The rank of a value in this cell, None if it lies in another."""
        kind, members = self.decision.kind, self.cell.members
        if kind == "choice":
            return members.index(value) if value in members else None
        if kind == "units":
            return self._rank_units(value)
        if kind == "subset":
            pattern = tuple(i for i in members.mentioned if i in value)
        else:
            pattern = tuple(members.kinds[value[p]] for p in members.mentioned)
        number = self._number.get(pattern)
        if number is None:
            return None
        before = sum(self._shares[:number])
        if kind == "subset":
            return before + combination_rank([i for i, item in enumerate(self._others) if item in value])
        return before + self._rank_order(pattern, value)

    # Units: where all subsets but the empty one are inside, the rank's bits say which units are kept.

    @property
    def _skipped(self) -> int | None:
        n, intervals = self.decision.n, self.cell.members
        if intervals in ([(0, n)], [(1, n)]):
            return int(intervals[0][0])
        return None

    def _unrank_units(self, number: int) -> tuple[int, ...]:
        n = self.decision.n
        if self._skipped is not None:
            bits = bin(number + self._skipped)[:1:-1]
            return tuple([i for i, bit in enumerate(bits) if bit == "1"])
        for size, share in _sizes(n, self.cell.members):
            if number < share:
                return combination(n, size, number)
            number -= share
        raise IndexError(number)

    def _rank_units(self, kept: tuple[int, ...]) -> int | None:
        if not any(first <= len(kept) <= last for first, last in self.cell.members):
            return None
        if self._skipped is not None:
            return sum(1 << i for i in kept) - self._skipped
        before = 0
        for size, share in _sizes(self.decision.n, self.cell.members):
            if size == len(kept):
                return before + combination_rank(kept)
            before += share
        return None

    # Orders: word by word, the mentioned positions first.

    def _unrank_order(self, pattern: tuple[int, ...], number: int) -> tuple[int, ...]:
        left = dict(self._times)
        words: dict[int, Any] = {}
        for place, position in enumerate(self._positions):
            for word, share in self._next(left, pattern, place):
                if number < share:
                    words[position] = word
                    left[word] -= 1
                    break
                number -= share
        rising = {word: iter(indices) for word, indices in self._indices.items()}
        return tuple(next(rising[words[position]]) for position in range(self.decision.n))

    def _rank_order(self, pattern: tuple[int, ...], value: tuple[int, ...]) -> int:
        left = dict(self._times)
        number = 0
        for place, position in enumerate(self._positions):
            mine = self.decision.items[value[position]]
            for word, share in self._next(left, pattern, place):
                if word == mine:
                    break
                number += share
            left[mine] -= 1
        return number

    def _next(self, left: dict[Any, int], pattern: tuple[int, ...], place: int) -> Iterator[tuple[Any, int]]:
        """The words that may stand at a place, and in how many ways the rest can follow each."""
        for word in self._times:
            if left[word] and (place >= len(pattern) or self._kind[word] == pattern[place]):
                yield word, completions({**left, word: left[word] - 1}, self._kind, pattern[place + 1 :])


def _sizes(n: int, intervals: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Each kept count in the intervals, with the number of subsets of that size."""
    for first, last in intervals:
        share = math.comb(n, first)
        for size in range(first, last + 1):
            yield size, share
            share = share * (n - size) // (size + 1)


def combination(n: int, size: int, number: int) -> tuple[int, ...]:
    """The subset of `size` of n items with a rank in colexicographic order, sorted."""
    found: list[int] = []
    without = math.comb(n - 1, size) if n else 0  # of the subsets of items 0 to `item`, those that leave it out
    for item in range(n - 1, -1, -1):
        if not size:
            break
        if number >= without:
            number -= without
            found.append(item)
            without = without * size // item if item else 0
            size -= 1
        else:
            without = without * (item - size) // item
    return tuple(reversed(found))


def combination_rank(items: Sequence[int]) -> int:
    """The rank of a sorted subset in colexicographic order."""
    return sum(math.comb(item, size) for size, item in enumerate(items, start=1))
