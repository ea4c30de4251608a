"""Architectures by number: every one has a rank from 0 to size - 1, and a random rank is a uniform random architecture.

The sums that counting leaves behind are walked back. At each variable a rank falls into the share of one of its cells;
what is left of it splits, as digits do, into the rank of the value inside the cell and one rank for each independent
part below. Uniform means over architectures: drawing each choice evenly would all but miss the deep ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.cells import ABSENT, Cell, Patterns, completions, words_of
from nasdsl.compiler.engine.eliminate import COUNT, Step, eliminate
from nasdsl.compiler.engine.network import Constraint, Network
from nasdsl.compiler.extremes import Infeasible, structural
from nasdsl.compiler.graph import Graph


def sample(graph: Graph, n: int, seed: int) -> list[Architecture]:
    """`n` independent, exactly uniform architectures that meet all requirements but budgets; on every machine the same.

    Raises:
        Infeasible: there is no architecture.
        TooWide: too many decisions hang together for the exact answer.
    """
    return list(Numbering(graph).draws(n, seed))


def rank(graph: Graph, architecture: Architecture) -> int:
    """The number of an architecture. For many, make one `Numbering`."""
    return Numbering(graph).rank(architecture)


def unrank(graph: Graph, number: int) -> Architecture:
    """The architecture of a number. For many, make one `Numbering`."""
    return Numbering(graph).unrank(number)


class Numbering:
    """The architectures of a graph as numbers from 0 to `total` - 1. It stays the same as long as the graph does.

    Raises:
        Infeasible: there is no architecture.
        TooWide: too many decisions hang together for the exact answer.
    """

    def __init__(self, graph: Graph):
        network = Network(graph.decisions, [Constraint(r.condition) for r in structural(graph)])
        self._result = eliminate(network, COUNT)
        if self._result.total is None:
            raise Infeasible("no architecture meets all requirements")
        self.total: int = self._result.total
        self._network = network
        self._cells = [-1] * len(network.variables)
        self._known: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        self._inside: dict[int, Inside] = {}

    def draws(self, n: int, seed: int) -> Iterator[Architecture]:
        """Independent uniform architectures."""
        source = random.Random(seed)
        return (self.unrank(_below(source, self.total)) for _ in range(n))

    def unrank(self, number: int) -> Architecture:
        """The architecture of a number.

        Raises:
            IndexError: there are not so many.
        """
        if not 0 <= number < self.total:
            raise IndexError(f"the space has architectures from 0 to its size less 1, not {number}")
        steps, variables, cells = self._result.steps, self._network.variables, self._cells
        ranks = [0] * len(steps)
        for root, size in self._result.values.items():
            number, ranks[root] = divmod(number, size)
        values: list[Any] = [ABSENT] * len(variables)
        for at in range(len(steps) - 1, -1, -1):
            step, left = steps[at], ranks[at]
            for cell, share in self._options(at, step):  # noqa: B007 (the last one is the answer)
                if left < share:
                    break
                left -= share
            cells[step.variable] = cell
            for factor in step.factors:
                if factor.origin >= 0:
                    size = factor.table[tuple([cells[i] for i in factor.scope])]
                    left, ranks[factor.origin] = divmod(left, size)
            decision = variables[step.variable].decision
            if decision is not None:
                chosen = variables[step.variable].cells[cell]
                if chosen.value is not ABSENT:
                    values[step.variable] = self._insides(decision, chosen).unrank(left)
        return Architecture(tuple((v.name, x) for v, x in zip(variables, values, strict=True) if x is not ABSENT))

    def rank(self, architecture: Architecture) -> int:
        """The number of an architecture.

        Raises:
            ValueError: it breaks a requirement.
        """
        steps, variables, cells = self._result.steps, self._network.variables, self._cells
        inside = [0] * len(variables)
        for i, variable in enumerate(variables):
            if variable.decision is not None:
                value = architecture.get(variable.name, ABSENT)
                cells[i], inside[i] = self._locate(variable.decision, variable.cells, value)
        for i, (scope, values) in self._intermediates.items():
            cells[i] = values[tuple([cells[j] for j in scope])]
        ranks = [0] * len(steps)
        for at, step in enumerate(steps):
            mine = cells[step.variable]
            before = 0
            for cell, share in self._options(at, step):
                if cell == mine:
                    break
                before += share
            else:
                raise ValueError("the architecture breaks a requirement, so it has no number")
            cells[step.variable] = mine
            own = inside[step.variable]
            for factor in reversed(step.factors):
                if factor.origin >= 0:
                    size = factor.table[tuple([cells[i] for i in factor.scope])]
                    own = own * size + ranks[factor.origin]
            ranks[at] = before + own
        number = 0
        for root, size in reversed(self._result.values.items()):
            number = number * size + ranks[root]
        return number

    @cached_property
    def _intermediates(self) -> dict[int, tuple[tuple[int, ...], dict[tuple[int, ...], int]]]:
        """What each intermediate follows from, and how."""
        relations = [(i, self._network.relations[number]) for i, number in self._network.defined.items()]
        return {i: (scope[:-1], {key[:-1]: key[-1] for key in keys}) for i, (scope, keys) in relations}

    def _options(self, at: int, step: Step) -> list[tuple[int, int]]:
        key = (at, *[self._cells[i] for i in step.scope])
        known = self._known.get(key)
        if known is None:
            mine = self._cells[step.variable]
            known = self._known[key] = self._result.options(step, self._cells)
            self._cells[step.variable] = mine
        return known

    def _insides(self, decision: Decision, cell: Cell) -> Inside:
        known = self._inside.get(id(cell))
        if known is None:
            known = self._inside[id(cell)] = Inside(decision, cell)
        return known

    def _locate(self, decision: Decision, cells: Sequence[Cell], value: Any) -> tuple[int, int]:
        """The cell of a value, and its rank there."""
        for number, cell in enumerate(cells):
            if value is ABSENT or cell.value is ABSENT:
                if value is cell.value:
                    return number, 0
                continue
            place = self._insides(decision, cell).rank(value)
            if place is not None:
                return number, place
        raise ValueError(f"`{decision.path}` has no value {value!r} here")


def _below(source: random.Random, bound: int) -> int:
    """Uniform from 0 to bound - 1.

    Each try succeeds with probability above one half. A fixed number of bits would not do: it maps evenly to powers of
    two only.
    """
    bits = (bound - 1).bit_length()
    while True:
        number = source.getrandbits(bits) if bits else 0
        if number < bound:
            return number


# --- inside a cell ----------------------------------------------------------------------------------------------------


class Inside:
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
