"""How likely conditions of a graph are, from the probabilities of its decisions: the gates of a relaxed network.

Each decision has a categorical distribution over its values, independent of the others given that it is there. A gate
is the probability that a condition holds where a node is reached. That is a sum over joint values of the few decisions
that the condition speaks of, and of those on which their presence hangs. Of what the node is reached under only that
part counts which hangs together with these: the rest cancels. Conditions on very many decisions are taken apart, and
their parts counted as if they were independent, which is exact wherever all probabilities are 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from networkx.utils import UnionFind

from nasdsl.compiler.architecture import is_present
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.follows import follows
from nasdsl.compiler.values.tree import Apply, decisions_of, holds

MOST_JOINT = 4096
"""Joint values of decisions that a condition is looked at for."""

Row = tuple[int, ...]
"""Places in the vector of all probabilities, whose product is taken."""


def values_of(decision: Decision) -> list[Any]:
    """The values that a decision's probabilities are for, in their order: indices of a choice, tuples of a subset."""
    return list(decision.values())


@dataclass(frozen=True)
class Sum:
    """A sum of products of probabilities."""

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Joined:
    """The probability of all of several independent events, of any of them, or of the one not to happen."""

    how: str
    parts: tuple[Sum | Joined, ...]


ONE = Sum(((),))
Probability = Sum | Joined
Ratio = tuple[Probability, Probability]


class Gates:
    """The gates of a graph: numbered ones, to which more are added, and tables that work some of them out.

    Attributes:
        values: by path, the values of a decision that have probabilities.
        places: by path, where they lie in the vector of all probabilities.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values = {path: values_of(decision) for path, decision in graph.decisions.items()}
        self.places: dict[str, slice] = {}
        start = 0
        for path, values in self.values.items():
            self.places[path] = slice(start, start + len(values))
            start += len(values)
        self._numbers: dict[Ratio, int] = {}
        self._ratios: list[Ratio] = []
        self._known: dict[str, frozenset[str]] = {}

    def __len__(self) -> int:
        return len(self._ratios)

    # --- Adding -------------------------------------------------------------------------------------------------------

    def add(self, when: Value, reached: Value) -> int:
        """The number of the gate of a condition where a node is reached; equal ones are one."""
        asked = decisions_of(when)
        if len(asked) == 1:
            (path,) = asked
            if path not in self._asked(reached) and follows(self.graph.decisions[path].present, reached):
                return self._add(self._alone(when, path), ONE)
        near = self._near(reached, self._asked(when))
        return self._add(self._probability(expr.both(when, near)), self._probability(near))

    def add_settings(self, rows: Iterable[Row], near: Value) -> int:
        """The number of the gate of some of the joint values that `settings` gives."""
        return self._add(Sum(tuple(rows)), self._probability(near))

    def _add(self, above: Probability, below: Probability) -> int:
        if isinstance(above, Sum) and isinstance(below, Sum):
            above, below = _cancelled(above, below)
        ratio = above, below
        if ratio not in self._numbers:
            self._numbers[ratio] = len(self._ratios)
            self._ratios.append(ratio)
        return self._numbers[ratio]

    def settings(
        self, paths: Iterable[str], reached: Value, only: Mapping[str, Sequence[Any]]
    ) -> tuple[Value, list[tuple[dict[str, Any], Row]]]:
        """The part of what a node is reached under that hangs together with some decisions, and the joint values of
        these under which it holds, each with the places of their probabilities.

        Args:
            only: by path, the values that are looked at.

        Raises:
            TooWide: there are too many.
        """
        near = self._near(reached, self.hangs_on(paths))
        whole = self.hangs_on({*paths, *decisions_of(near)})
        size = math.prod(len(only[path]) for path in whole)
        if size > MOST_JOINT:
            raise TooWide("the settings of an operator", size, MOST_JOINT, self._ordered(whole))
        return near, [(values, row) for values, row in self._joint(whole, only) if holds(near, values)]

    # --- Probabilities ------------------------------------------------------------------------------------------------

    def _probability(self, condition: Value) -> Probability:
        if condition is True or condition is False:
            return ONE if condition else Sum(())
        asked = self._asked(condition)
        if math.prod(len(self.values[path]) + 1 for path in asked) <= MOST_JOINT:
            joint = self._joint(asked, self.values)
            return Sum(tuple(row for values, row in joint if holds(condition, values)))
        if not isinstance(condition, Apply) or condition.function not in ("and", "or", "not"):
            alone = decisions_of(condition)
            if len(alone) > 1:
                size = math.prod(len(self.values[path]) for path in asked)
                raise TooWide("a condition", size, MOST_JOINT, self._ordered(asked))
            (path,) = alone
            there = self._probability(self.graph.decisions[path].present)
            return Joined("and", (there, self._alone(condition, path)))
        if condition.function == "not":
            return Joined("not", (self._probability(condition.args[0]),))
        groups = self._components(condition.args)
        if len(groups) == 1:  # what hangs together is taken apart as if it did not
            groups = [[part] for part in condition.args]
        join = expr.both if condition.function == "and" else expr.either
        return Joined(condition.function, tuple(self._probability(join(*group)) for group in groups))

    def _alone(self, condition: Value, path: str) -> Sum:
        """The probability of a condition on a decision that is there."""
        start = self.places[path].start
        held = [place for place, value in enumerate(self.values[path]) if holds(condition, {path: value})]
        return Sum(tuple((start + place,) for place in held))

    def _joint(self, paths: frozenset[str], only: Mapping[str, Sequence[Any]]) -> Iterator[tuple[dict[str, Any], Row]]:
        """All joint values of decisions, given with those that say whether they are there."""
        found: list[tuple[dict[str, Any], Row]] = [({}, ())]
        for path in self._ordered(paths):
            decision, start = self.graph.decisions[path], self.places[path].start
            own = [(value, start + place) for place, value in enumerate(self.values[path]) if value in only[path]]
            found = [
                one
                for values, row in found
                for one in (
                    [({**values, path: value}, (*row, place)) for value, place in own]
                    if is_present(decision, values)
                    else [(values, row)]
                )
            ]
        yield from found

    # --- What hangs together ------------------------------------------------------------------------------------------

    def _asked(self, value: Value) -> frozenset[str]:
        """The decisions that a value speaks of, and those that say whether they are there."""
        return self.hangs_on(decisions_of(value))

    def hangs_on(self, paths: Iterable[str]) -> frozenset[str]:
        """Decisions, and those that say whether they are there."""
        found: set[str] = set()
        for path in paths:
            if path not in self._known:
                self._known[path] = self._asked(self.graph.decisions[path].present) | {path}
            found |= self._known[path]
        return frozenset(found)

    def _ordered(self, paths: frozenset[str]) -> list[str]:
        return [path for path in self.graph.decisions if path in paths]

    def _near(self, reached: Value, asked: frozenset[str]) -> Value:
        """The part of a conjunction that hangs together with some decisions."""
        parts = reached.args if isinstance(reached, Apply) and reached.function == "and" else (reached,)
        near: list[Value] = []
        for group in self._components(parts):
            if any(self._asked(part) & asked for part in group):
                near += group
        return expr.both(*near)

    def _components(self, parts: Sequence[Value]) -> list[list[Value]]:
        """Parts that hang together by what they speak of, each group in order."""
        together: UnionFind[object] = UnionFind()
        for number, part in enumerate(parts):
            together.union(number, *self._asked(part))  # numbers are parts, words are decisions
        groups: dict[object, list[Value]] = {}
        for number, part in enumerate(parts):
            groups.setdefault(together[number], []).append(part)
        return list(groups.values())

    # --- Values -------------------------------------------------------------------------------------------------------

    def vector(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """All probabilities as one vector. A decision's are [values]."""
        return torch.cat([weights[path] for path in self.values]) if self.values else torch.zeros(0)

    def table(self, numbers: Iterable[int]) -> Table:
        """What works out some gates."""
        return Table([self._ratios[number] for number in numbers])


def _cancelled(above: Sum, below: Sum) -> Ratio:
    """A ratio without the factors that all its products have: what hangs on presence alone is gone then, and so are
    zeros over zeros."""
    if not above.rows:
        return above, ONE
    common = frozenset(above.rows[0]).intersection(*above.rows, *below.rows)
    left, right = (
        Sum(tuple(tuple(place for place in row if place not in common) for row in side.rows)) for side in (above, below)
    )
    return (ONE, ONE) if left == right else (left, right)


class Table:
    """Works out ratios of probabilities, all together, from the vector of all probabilities."""

    def __init__(self, ratios: Sequence[Ratio]) -> None:
        self._sums: dict[Sum, int] = {}  # those of more than one factor, numbered
        self._ratios = ratios
        for ratio in ratios:
            for side in ratio:
                self._collect(side)
        self._made: dict[torch.device, Any] = {}

    def _collect(self, one: Probability) -> None:
        if isinstance(one, Joined):
            for part in one.parts:
                self._collect(part)
        elif _place(one) is None:
            self._sums.setdefault(one, len(self._sums))

    def __call__(self, vector: torch.Tensor) -> torch.Tensor:
        """The gates [ratios], 0 where a node is not reached at all."""
        if not self._ratios:
            return vector.new_zeros(0)
        device = vector.device
        if device not in self._made:
            self._made[device] = self._indices(len(vector), device)
        products, above, below = self._made[device]
        sums = vector.new_zeros(len(self._sums))
        for owner_T, rows_Tm in products:
            sums = sums.index_add(0, owner_T, vector[rows_Tm].prod(1))
        known = torch.cat([vector, vector.new_ones(1), sums])
        joined = [self._value(one, known, len(vector)) for pair in self._ratios for one in pair if _is_joined(one)]
        if joined:
            known = torch.cat([known, torch.stack(joined)])
        found = known[above]
        if below is None:
            return found
        whole = known[below]
        reached = whole > 0
        return torch.where(reached, found / torch.where(reached, whole, 1.0), 0.0)

    def _indices(self, size: int, device: torch.device) -> Any:
        """Of the products of sums, those of equally many factors together, whose they are and their places; of both
        sides of the ratios, where they lie behind the vector; None where all that is divided by is 1."""
        by_length: dict[int, tuple[list[int], list[Row]]] = {}
        for one, number in self._sums.items():
            for row in one.rows:
                owners, rows = by_length.setdefault(len(row), ([], []))
                owners.append(number)
                rows.append(row)
        products = [
            (torch.tensor(owners, device=device), torch.tensor(rows, device=device, dtype=torch.long).view(-1, length))
            for length, (owners, rows) in by_length.items()
        ]
        after = size + 1 + len(self._sums)
        sides: tuple[list[int], list[int]] = ([], [])
        for pair in self._ratios:
            for side, probability in zip(sides, pair, strict=True):
                if isinstance(probability, Sum):
                    side.append(self._at(probability, size))
                else:
                    side.append(after)
                    after += 1
        above, below = (torch.tensor(side, device=device) for side in sides)
        return products, above, None if (below == size).all() else below

    def _at(self, one: Sum, size: int) -> int:
        """Where a sum lies, in the vector [size], a one and the sums behind it."""
        place = _place(one)
        if place is None:
            return size + 1 + self._sums[one]
        return size if place < 0 else place

    def _value(self, one: Probability, known: torch.Tensor, size: int) -> torch.Tensor:
        if isinstance(one, Sum):
            return known[self._at(one, size)]
        values = torch.stack([self._value(part, known, size) for part in one.parts])
        if one.how == "and":
            return values.prod()
        return (1 - values).prod() if one.how == "not" else 1 - (1 - values).prod()


def _is_joined(one: Probability) -> bool:
    return isinstance(one, Joined)


def _place(one: Sum) -> int | None:
    """Of a sum that is one probability, its place; -1 of the one that is 1; None of others."""
    if len(one.rows) != 1 or len(one.rows[0]) > 1:
        return None
    return one.rows[0][0] if one.rows[0] else -1
