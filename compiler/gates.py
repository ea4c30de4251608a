"""How likely conditions of a graph are, from the probabilities of its decisions: the gates of a relaxed network.

Each decision has a categorical distribution over its values, independent of the others given that it is there. A gate
is the probability that a condition holds where a node is reached: a sum over joint values of the few decisions that the
condition speaks of. Of what the node is reached under only that part counts which hangs together with these, for the
rest cancels. All gates are worked out together, as few sums of products of entries of one vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nasdsl.compiler.architecture import is_present
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.relaxable import is_relaxable
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Apply, Value

MOST_JOINT = 4096
"""Joint values of decisions that a condition is looked at for."""


def values_of(decision: Decision) -> list[Any]:
    """The values that a decision's probabilities are for, in their order: indices of a choice, tuples of a subset."""
    return list(decision.values())


@dataclass(frozen=True)
class _Sum:
    """A sum of products: `rows` of places in the vector of all probabilities."""

    rows: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Joined:
    """A probability made of others as if they were independent: of `all`, or of `any`."""

    all: bool
    parts: tuple[Any, ...]
    flipped: bool = False


class Gates:
    """Gates of a graph, to which more are added, and their values.

    The vector of all probabilities has those of each decision in its place, and a 1 at its end.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.places: dict[str, slice] = {}
        self.values: dict[str, list[Any]] = {}
        start = 0
        for path, decision in graph.decisions.items():
            if is_relaxable(decision):
                self.values[path] = values_of(decision)
                self.places[path] = slice(start, start + len(self.values[path]))
                start += len(self.values[path])
        self.size = start
        self._number: dict[tuple[Any, Any], int] = {}
        self._ratios: list[tuple[Any, Any]] = []
        self._tables: dict[Any, tuple[torch.Tensor, ...]] | None = None

    def __len__(self) -> int:
        return len(self._ratios)

    # --- Adding -------------------------------------------------------------------------------------------------------

    def add(self, when: Value, reached: Value) -> int:
        """The number of the gate of a condition where a node is reached; equal ones are one."""
        near, _ = _apart(reached, expr.decisions_of(when))
        return self._add(self._probability(expr.both(when, near)), self._probability(near))

    def _add(self, above: Any, below: Any) -> int:
        key = (above, below)
        if key not in self._number:
            self._number[key] = len(self._ratios)
            self._ratios.append(key)
            self._tables = None
        return self._number[key]

    def settings(
        self, paths: Iterable[str], reached: Value, only: Mapping[str, Sequence[Any]] | None = None
    ) -> tuple[Value, list[tuple[dict[str, Any], tuple[int, ...]]]]:
        """The joint values of decisions under which a node is reached, with the places of their probabilities, and the
        part of what it is reached under that was looked at.

        Args:
            only: by path, the values that count; by default all.

        Raises:
            TooWide: there are too many.
        """
        wanted = frozenset(paths)
        near, _ = _apart(reached, wanted)
        whole = self._with_presence(wanted | expr.decisions_of(near))
        size = math.prod(len((only or self.values).get(path, self.values[path])) for path in whole)
        if size > MOST_JOINT:
            raise TooWide("the settings of an operator", size, MOST_JOINT, whole)
        found = self.joint(whole, only)
        return near, [(values, row) for values, row in found if expr.holds(near, values)]

    def add_settings(self, rows: Iterable[tuple[int, ...]], near: Value) -> int:
        """The number of the gate of some of the joint values that `settings` gives."""
        return self._add(_Sum(tuple(rows)), self._probability(near))

    def _probability(self, condition: Value) -> Any:
        if condition is True or condition is False:
            return _Sum(((self.size,),) if condition else ())
        paths = self._with_presence(expr.decisions_of(condition))
        if math.prod(len(self.values[path]) + 1 for path in paths) <= MOST_JOINT:
            return _Sum(tuple(self._rows(condition, paths)))
        assert isinstance(condition, Apply)
        if condition.function == "not":
            inner = self._probability(condition.args[0])
            return _Joined(True, (inner,), True)
        groups = list(_components(condition.args))
        if len(groups) == 1:  # what hangs together is taken apart as if it did not
            groups = [[part] for part in condition.args]
        join = expr.both if condition.function == "and" else expr.either
        return _Joined(condition.function == "and", tuple(self._probability(join(*group)) for group in groups))

    def _with_presence(self, paths: Iterable[str]) -> list[str]:
        """The decisions, with those that say whether they are there, in the order of the graph."""
        found: set[str] = set()
        stack = list(paths)
        while stack:
            path = stack.pop()
            if path not in found:
                found.add(path)
                stack += expr.decisions_of(self.graph.decisions[path].present)
        return [path for path in self.graph.decisions if path in found]

    def _rows(self, condition: Value, paths: Sequence[str]) -> Iterator[tuple[int, ...]]:
        for values, row in self.joint(paths):
            if expr.holds(condition, values):
                yield row

    def joint(
        self, paths: Sequence[str], only: Mapping[str, Sequence[Any]] | None = None
    ) -> Iterator[tuple[dict[str, Any], tuple[int, ...]]]:
        """All joint values of decisions, given with those that say whether they are there, and the places of their
        probabilities."""
        found: list[tuple[dict[str, Any], tuple[int, ...]]] = [({}, ())]
        for path in paths:
            decision, place = self.graph.decisions[path], self.places[path]
            found = [
                more
                for values, row in found
                for more in (
                    [
                        ({**values, path: value}, (*row, place.start + number))
                        for number, value in enumerate(self.values[path])
                        if only is None or path not in only or value in only[path]
                    ]
                    if is_present(decision, values)
                    else [(values, row)]
                )
            ]
        yield from ((values, row or (self.size,)) for values, row in found)

    # --- Values -------------------------------------------------------------------------------------------------------

    def vector(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """All probabilities as one vector. A decision's are [values]."""
        parts = [weights[path] for path in self.places]
        one = torch.ones(1, device=parts[0].device, dtype=parts[0].dtype) if parts else torch.ones(1)
        return torch.cat([*parts, one])

    def of(self, vector: torch.Tensor) -> torch.Tensor:
        """The gates [gates], 0 where the node is not reached at all."""
        if not self._ratios:
            return vector.new_zeros(0)
        above = self._sums(vector, 0)
        below = self._sums(vector, 1)
        reached = below > 0
        return torch.where(reached, above / torch.where(reached, below, 1.0), 0.0)

    def _sums(self, vector: torch.Tensor, side: int) -> torch.Tensor:
        out = vector.new_zeros(len(self._ratios))
        for gates_T, rows_Tm in self._plain(side, vector.device):
            out = out.index_add(0, gates_T, vector[rows_Tm].prod(1))
        joined = [(number, pair[side]) for number, pair in enumerate(self._ratios) if isinstance(pair[side], _Joined)]
        if joined:
            numbers = torch.tensor([number for number, _ in joined], device=vector.device)
            out = out.index_add(0, numbers, torch.stack([self._value(one, vector) for _, one in joined]))
        return out

    def _plain(self, side: int, device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The products of sums, those of equally many factors together: whose gate each is, and its places."""
        if self._tables is None:
            self._tables = {}
        key = (side, device)
        if key not in self._tables:
            by_length: dict[int, tuple[list[int], list[tuple[int, ...]]]] = {}
            for number, pair in enumerate(self._ratios):
                if isinstance(pair[side], _Sum):
                    for row in pair[side].rows:
                        numbers, rows = by_length.setdefault(len(row), ([], []))
                        numbers.append(number)
                        rows.append(row)
            self._tables[key] = tuple(
                tensor
                for numbers, rows in by_length.values()
                for tensor in (torch.tensor(numbers, device=device), torch.tensor(rows, device=device))
            )
        flat = self._tables[key]
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _value(self, one: Any, vector: torch.Tensor) -> torch.Tensor:
        if isinstance(one, _Sum):
            if not one.rows:
                return vector.new_zeros(())
            return torch.stack([vector[list(row)].prod() for row in one.rows]).sum()
        values = torch.stack([self._value(part, vector) for part in one.parts])
        found = values.prod() if one.all else 1 - (1 - values).prod()
        return 1 - found if one.flipped else found


def _apart(reached: Value, paths: frozenset[str]) -> tuple[Value, Value]:
    """The part of a conjunction that hangs together with some decisions, and the rest."""
    parts = reached.args if isinstance(reached, Apply) and reached.function == "and" else (reached,)
    near: list[Value] = []
    left = list(parts)
    known = set(paths)
    while True:
        more = [part for part in left if expr.decisions_of(part) & known]
        if not more:
            return expr.both(*near), expr.both(*left)
        near += more
        left = [part for part in left if not any(part is one for one in more)]
        known |= {path for part in more for path in expr.decisions_of(part)}


def _components(parts: Sequence[Value]) -> Iterator[list[Value]]:
    """Parts that share decisions, together."""
    left = list(parts)
    while left:
        group, known = [left.pop(0)], set[str]()
        known |= expr.decisions_of(group[0])
        grown = True
        while grown:
            more = [part for part in left if expr.decisions_of(part) & known]
            left = [part for part in left if not any(part is one for one in more)]
            group += more
            known |= {path for part in more for path in expr.decisions_of(part)}
            grown = bool(more)
        yield group
