"""Architectures by number: every one has a rank from 0 to size - 1, and a random rank is a uniform random architecture.

The sums that counting leaves behind are walked back. At each variable a rank falls into the share of one of its cells;
what is left of it splits, as digits do, into the rank of the value inside the cell and one rank for each independent
part below. Uniform means over architectures: drawing each choice evenly would all but miss the deep ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.engine.cells import Cell
from nasdsl.compiler.engine.eliminate import COUNT, Step, eliminate
from nasdsl.compiler.engine.factors import Constraint, FactorGraph
from nasdsl.compiler.engine.limits import Infeasible
from nasdsl.compiler.engine.members import Members
from nasdsl.compiler.extremes import structural
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.values.plain import ABSENT


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
        self._decisions = graph.decisions
        network = FactorGraph(graph.decisions, [Constraint(r.condition) for r in structural(graph)])
        self._result = eliminate(network, COUNT)
        if self._result.total is None:
            raise Infeasible("no architecture meets all requirements")
        self.total: int = self._result.total
        self._network = network
        self._cells = [-1] * len(network.variables)
        self._known: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        self._inside: dict[int, Members] = {}

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
        items = [(v.name, x) for v, x in zip(variables, values, strict=True) if x is not ABSENT]
        return Architecture(self._decisions, tuple(items))

    def rank(self, architecture: Architecture) -> int:
        """The number of an architecture.

        Raises:
            ArgumentError: it breaks a requirement.
        """
        steps, variables, cells = self._result.steps, self._network.variables, self._cells
        inside = [0] * len(variables)
        for i, variable in enumerate(variables):
            if variable.decision is not None:
                value = architecture.indices.get(variable.name, ABSENT)
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
                raise ArgumentError("the architecture breaks a requirement, so it has no number")
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

    def _insides(self, decision: Decision, cell: Cell) -> Members:
        known = self._inside.get(id(cell))
        if known is None:
            known = self._inside[id(cell)] = Members(decision, cell)
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
        raise ArgumentError(f"`{decision.path}` has no value {value!r} here")


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
