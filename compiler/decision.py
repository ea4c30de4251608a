"""A decision: one hole of a space, and the values that may fill it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

from nasdsl.compiler.source import Span
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import Expr, Kept

Kind = Literal["choice", "subset", "order", "units"]


@dataclass(frozen=True)
class Decision:
    """One choice (an option's index), subset (k indices), order (of all indices) or set of kept search units.

    Attributes:
        path: stable, readable name made of the names in the source.
        items: what the indices stand for: numbers, symbols or labels. For units, `range(n)`.
        labels: how a file writes each item.
        size: k of a subset.
        present: condition under which the decision exists.
        declaration: the expression in the source that made it, as `line:column`; all its copies share it.
        free: for pinned-down spaces, the indices still open (all by default). Every value must stay inside.
    """

    path: str
    kind: Kind
    items: tuple[Any, ...] | range
    labels: tuple[str, ...] = ()
    size: int = 0
    present: Value = True
    declaration: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def n(self) -> int:
        return len(self.items)

    @property
    def ordered(self) -> bool:
        """Whether the options of a choice are numbers, and so capacities rather than alternatives."""
        return self.kind == "choice" and all(
            (not isinstance(i, bool) and isinstance(i, int | float)) or hasattr(i, "numerator") for i in self.items
        )

    @cached_property
    def words(self) -> tuple[Any, ...]:
        """What a value calls each item: a number, a truth value or a word, as JSON has them. Where two items read
        alike, their index tells them apart: `same#1`."""
        words = [
            _plain(item, label) for item, label in zip(self.items, self.labels or map(str, self.items), strict=True)
        ]
        if self.kind != "order" and len(set(words)) < len(words):
            words = [f"{word}#{i}" if words.count(word) > 1 else word for i, word in enumerate(words)]
        return tuple(words)

    @cached_property
    def places(self) -> dict[tuple[type, Any], list[int]]:
        """The indices of each word, by its type too: a truth value is no number."""
        found: dict[tuple[type, Any], list[int]] = {}
        for index, word in enumerate(self.words):
            found.setdefault((type(word), word), []).append(index)
        return found

    def cardinality(self) -> int:
        """How many values the decision has where it is present. Equal items of an order are interchangeable."""
        if self.kind == "choice":
            return self.n
        if self.kind == "subset":
            return math.comb(self.n, self.size)
        if self.kind == "units":
            return 1 << self.n
        total = math.factorial(self.n)
        for item in set(self.items):
            total //= math.factorial(sum(1 for other in self.items if other == item))
        return total

    def values(self) -> Iterator[Any]:
        """All values, for spaces small enough to enumerate."""
        if self.kind == "choice":
            yield from range(self.n)
        elif self.kind == "subset":
            yield from combinations(range(self.n), self.size)
        elif self.kind == "units":
            for size in range(self.n + 1):
                yield from combinations(range(self.n), size)
        else:
            yield from self._orders(list(range(self.n)))

    def _orders(self, left: list[int]) -> Iterator[tuple[int, ...]]:
        """All orders of some items, of equal items the first one first."""
        if not left:
            yield ()
        seen: list[Any] = []
        for i in left:
            if self.items[i] not in seen:
                seen.append(self.items[i])
                for rest in self._orders([j for j in left if j != i]):
                    yield (i, *rest)

    def describe(self, value: Any) -> str:
        """A value as a file writes it."""
        if self.kind == "choice":
            return self.labels[value] if self.labels else str(self.items[value])
        if self.kind == "units":
            return runs(value)
        return "[" + ", ".join(self.labels[i] if self.labels else str(self.items[i]) for i in value) + "]"


def _plain(item: Any, label: str) -> Any:
    if isinstance(item, bool | int | str):
        return item
    if isinstance(item, float | Fraction):
        return int(item) if item == int(item) else float(item)
    return label


def runs(indices: tuple[int, ...]) -> str:
    """`[0..11, 14, 20..35]`: sorted indices with ranges for runs of three or more."""
    parts: list[str] = []
    i = 0
    while i < len(indices):
        j = i
        while j + 1 < len(indices) and indices[j + 1] == indices[j] + 1:
            j += 1
        if j - i >= 2:
            parts.append(f"{indices[i]}..{indices[j]}")
        else:
            parts.extend(str(k) for k in indices[i : j + 1])
        i = j + 1
    return "[" + ", ".join(parts) + "]"


@dataclass(frozen=True)
class Units:
    """The value of `units(n)`: the kept subset of n search units, open to choice."""

    path: str
    n: int

    @property
    def decisions(self) -> frozenset[str]:
        return frozenset((self.path,))

    @property
    def count(self) -> Value:
        return Kept(self.path, self.n)

    def fix(self, kept: tuple[int, ...]) -> FixedUnits:
        return FixedUnits(self.n, tuple(kept))

    def substitute(self, replace: Callable[[Expr], Value | None]) -> Any:
        new = replace(self)  # type: ignore[arg-type]
        return self if new is None else new

    def to_json(self) -> Any:
        return {"units": self.path, "n": self.n}


@dataclass(frozen=True)
class FixedUnits:
    """Units that are decided: which of the n are kept."""

    n: int
    kept: tuple[int, ...]

    @property
    def decisions(self) -> frozenset[str]:
        return frozenset()

    @property
    def count(self) -> int:
        return len(self.kept)

    def to_json(self) -> Any:
        return {"kept": list(self.kept), "of": self.n}


def count_of(width: Any) -> Value:
    """The number that stands for a width: itself, or how many units are kept."""
    return width.count if isinstance(width, Units | FixedUnits) else width


def kept_of(width: Any) -> tuple[int, ...]:
    """The kept indices of a decided width; a plain number keeps all of its own."""
    return width.kept if isinstance(width, FixedUnits) else tuple(range(width))
