"""What a search may propose: the architectures of a space inside its budgets, or those of them that a pool has.

Everything comes out inside the space and the budgets, because nothing else is ever drawn (`engine/budget.py`,
`engine/variation.py`). In a space too tangled for that, costs are known only one by one, and what is outside is left
out.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.arrays.encoding import ABSENT, columns_of
from nasdsl.compiler.arrays.identity import Fingerprints, hashes
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.budget import Within, budget_windows
from nasdsl.compiler.engine.diagram import Diagram
from nasdsl.compiler.engine.lattice import Window
from nasdsl.compiler.engine.limits import Infeasible, TooWide, bounded
from nasdsl.compiler.engine.variation import Variation
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.measures import with_default
from nasdsl.compiler.population import Population, inside_window, joined
from nasdsl.compiler.sample import Numbering
from nasdsl.runtime.evolution.trial import Proposal

Row: TypeAlias = NDArray[Any]
"""[width] of `Candidates.population.diagram.encoding`."""
Rows: TypeAlias = NDArray[Any]
"""[n, width]"""

Draws: TypeAlias = Literal["hierarchical", "uniform"]

LISTED = 1 << 17
"""A space of so many architectures is gone through one by one before the search says that nothing is left."""
DRAWN = 1 << 16
"""Draws after which a greater space counts as exhausted."""
MUTANTS = 32  # of one architecture, looked at at a time; a few cost as much as one
NEIGHBOURS = 1024  # mutants that show what the neighbours of an architecture are
RINGS = 12  # steps away from an architecture whose neighbours are all known
REMEMBERED = 100  # architectures whose neighbours are kept
AROUND = 20  # rows of a pool that count as the neighbours of one
MOST_TRIED = 1 << 20


class Candidates:
    """
    Args:
        graph: of the space.
        window: of costs, beside the budgets of the space.
        functions: whether architectures that compute the same function count as one.
        pool: [n, width] to choose from; by default all of the space.
        draws: "hierarchical", decision by decision, so that an operator with few settings comes up as often as one with
            many; or "uniform", each architecture as likely as any other. Of a pool that is not all of the space it is
            always uniform.
        measures: that are told of proposals, beside MACs, parameters and what is bounded.

    Raises:
        Infeasible: there is no architecture inside.
        TooWide, UnreadableBudget: the space, or a budget of it, cannot be drawn from.
    """

    def __init__(
        self,
        graph: Graph,
        window: Window | None = None,
        functions: bool = True,
        pool: Rows | None = None,
        draws: Draws = "hierarchical",
        measures: Iterable[str] = (),
    ):
        self.graph = graph
        known = with_default([*budget_windows(graph), *(window or {})])
        self._told = with_default([*known, *measures])
        # Crossover takes over whole layers: here a layer is a decision.
        self.population = Population(graph, known, widest=1)
        self.encoding = self.population.diagram.encoding
        self.window = joined(self.population.window, window or {})
        self._limits = sorted(self.window)
        self._fingerprints = Fingerprints(graph) if functions else None
        self._functions: dict[int, str] = {}
        self._neighbours: dict[int, Rows] = {}
        self.pool: Rows | None = None
        self._drawn = self.population.hierarchical if draws == "hierarchical" else self.population.diagram
        self._drawn_inside: Within | None = None
        within: Within | None = None
        if pool is not None and len(pool) < self.population.total:  # else it is all of the space
            self.pool = pool[self.inside(pool)]
            self.know(self.pool)
            if not len(self.pool):
                raise Infeasible(f"none of the {len(pool):,} architectures of the table lies inside the budgets")
        elif self.window and self.population.exact:
            try:
                within = self._bounded(self.population.diagram)
                same = self._drawn is self.population.diagram
                self._drawn_inside = within if same else self._bounded(self._drawn)
            except TooWide:
                pass  # by trying
        self._tried = bool(self.window) and self.pool is None and self._drawn_inside is None
        self.variation = Variation(self.population.diagram, within)
        if self.pool is None:
            self.some(1, np.random.Generator(np.random.PCG64(0)))

    def _bounded(self, diagram: Diagram) -> Within:
        with bounded(self.population.patience):
            return Within(diagram, self.window)

    def inside(self, rows: Rows) -> NDArray[np.bool_]:
        """[n] which rows lie inside the budgets."""
        if not self._limits or not len(rows):
            return np.ones(len(rows), np.bool_)
        costs = self.population.evaluator.costs(rows, self._limits)
        return inside_window(costs, [self.window[name] for name in self._limits])

    def holds(self, row: Row) -> bool:
        """Whether a row is an architecture that may be proposed."""
        if self.pool is not None:
            return bool((self.pool == row).all(axis=1).any())
        return bool((self.population.diagram.find(row[None]) >= 0).all() and self.inside(row[None])[0])

    # --- Identity

    def row(self, architecture: Mapping[str, Any]) -> Row:
        """
        Args:
            architecture: as `Architecture.to_json` writes it.
        """
        found: Row = self.encoding.encode([Architecture.of(self.graph, architecture)])[0]
        return found

    def know(self, rows: Rows) -> list[str]:
        """[n] of each row a text that is equal for those that count as one."""
        numbers = hashes(rows).tolist()
        if self._fingerprints is None:
            return [f"{number:016x}" for number in numbers]
        missing = [i for i, number in enumerate(numbers) if number not in self._functions]
        if missing:
            found = self._fingerprints(rows[missing]).tolist()
            self._functions |= {numbers[i]: f"{f:016x}" for i, f in zip(missing, found, strict=True)}
        return [self._functions[number] for number in numbers]

    def proposal(self, row: Row, seed: int, parents: tuple[int, ...], notes: Mapping[str, Any]) -> Proposal:
        """What a trial of a row is written down as."""
        (architecture,) = self.encoding.decode(row[None])
        (costs,) = self.population.costs_by_name(row[None], self._told)
        return Proposal(
            architecture.to_json(),
            f"{int(hashes(row[None])[0]):016x}",
            self.know(row[None])[0],
            costs,
            seed,
            parents,
            notes,
            self.graph.decisions,
        )

    def new(self, rows: Rows, seen: Collection[str]) -> Row | None:
        """The first row that has not been seen; None where all have."""
        if self._fingerprints is None:
            return next((row for row, key in zip(rows, self.know(rows), strict=True) if key not in seen), None)
        for row in rows:  # one by one: a fingerprint takes longer than all the rest, and mostly the first is new
            if self.know(row[None])[0] not in seen:
                return row
        return None

    # --- Moves

    def draw(self, seen: Collection[str], rng: np.random.Generator) -> Row | None:
        """A random architecture among those not seen; None where all have been."""
        if self.pool is not None:
            return self.new(self.pool[rng.permutation(len(self.pool))], seen)
        size, drawn = 1, 0
        while drawn < DRAWN:
            row = self.new(self._distinct(self.some(size, rng)), seen)
            if row is not None:
                return row
            drawn, size = drawn + size, min(8 * size, 4096)
            if drawn > 4 * len(seen) and self.population.total <= LISTED:
                listed = self._listed
                return self.new(listed[rng.permutation(len(listed))], seen)
        return None

    @staticmethod
    def _distinct(rows: Rows) -> Rows:
        if len(rows) < 2:
            return rows
        return rows[np.sort(np.unique(hashes(rows), return_index=True)[1])]

    def some(self, n: int, rng: np.random.Generator) -> Rows:
        """Random architectures inside the budgets."""
        if self.pool is not None:
            return self.pool[rng.integers(len(self.pool), size=n)]
        if not self._tried:
            return self._drawn.matrix((self._drawn_inside or self._drawn).draw(n, rng), rng)
        found: list[Rows] = []
        tried = 0
        while sum(map(len, found)) < n:
            rows = self._drawn.matrix(self._drawn.draw(1024, rng), rng)
            found.append(rows[self.inside(rows)])
            tried += len(rows)
            if tried > MOST_TRIED and not sum(map(len, found)):
                raise Infeasible(f"none of {tried:,} architectures drawn lies inside the budgets")
        return np.concatenate(found)[:n]

    @cached_property
    def _listed(self) -> Rows:
        """All architectures inside the budgets."""
        numbering = Numbering(self.graph)
        parts = []
        numbers: Iterator[int] = iter(range(numbering.total))
        while batch := list(itertools.islice(numbers, 4096)):
            rows = self.encoding.encode(map(numbering.unrank, batch))
            parts.append(rows[self.inside(rows)])
        rows = np.concatenate(parts)
        self.know(rows)
        return rows

    def mutants(self, row: Row, n: int, rng: np.random.Generator, steps: int = 1) -> Rows:
        """[m <= n] copies of an architecture with `steps` decisions changed, one after the other, each time inside the
        budgets; without those that could not be changed."""
        rows = np.repeat(row[None], n, axis=0)
        for _ in range(steps):
            rows, decision = self.variation.mutate_matrix(rows, rng)
            rows = rows[decision >= 0]
            if self._tried:
                rows = rows[self.inside(rows)]
        return rows if self.pool is None else self._nearest(rows, rng)

    def mutate(
        self, row: Row, seen: Collection[str], rng: np.random.Generator, steps: int = 1
    ) -> tuple[Row | None, int]:
        """An unseen mutant of an architecture, and how many decisions were changed at least; where all its neighbours
        have been seen, one of those of a neighbour, and so on; None where that leads nowhere."""
        for ring in range(RINGS):
            if self.pool is None:
                rows = self.mutants(row, MUTANTS, rng, steps if ring == 0 else 1)
            else:
                rows = self._unseen_near(row, steps + ring, seen, rng)
            found = self.new(rows, seen)
            if found is not None:
                return found, steps + ring
            if len(rows):
                row = rows[0]
        return None, 0

    def neighbour(self, row: Row, seen: Collection[str], rng: np.random.Generator) -> Row | None:
        """A random unseen one of the neighbours of an architecture; None where none is left."""
        rows = self.neighbours(row)
        return self.new(rows[rng.permutation(len(rows))], seen)

    def neighbours(self, row: Row) -> Rows:
        """[n, width] what is one decision away: of many random mutants those that differ, so all where there are not
        too many; always the same for the same architecture. Of a pool, the rows that are nearest."""
        number = int(hashes(row[None])[0])
        if number not in self._neighbours:
            if self.pool is not None:
                order = np.argsort(self.distances(row), kind="stable")
                found = self.pool[order[1 : AROUND + 1]]
            else:
                rng = np.random.Generator(np.random.PCG64(number))
                found = self._distinct(self.mutants(row, NEIGHBOURS, rng))
            if len(self._neighbours) >= REMEMBERED:
                del self._neighbours[next(iter(self._neighbours))]
            self._neighbours[number] = found
        return self._neighbours[number]

    def cross(self, a: Row, b: Row, rng: np.random.Generator) -> Row:
        """An architecture between two."""
        (child,) = self.variation.crossover_matrix(a[None], b[None], rng)
        if self.pool is not None:
            return self._nearest(child[None], rng)[0]
        if self._tried and not self.inside(child[None])[0]:
            return a
        return child

    def children(self, a: Rows, b: Rows, rng: np.random.Generator) -> tuple[Rows, NDArray[np.int64]]:
        """Crosses between the rows of `a` and those of `b`, then changed in one decision, inside the budgets. Of equal
        rows these are mutants. Not of a pool.

        Returns:
            [m <= n, width] the children that could be made, and [m] the numbers of their parents.
        """
        rows, decision = self.variation.mutate_matrix(self.variation.crossover_matrix(a, b, rng), rng)
        able = decision >= 0
        if self._tried:
            able &= self.inside(rows)
        kept = np.flatnonzero(able)
        return rows[kept], kept

    # --- Pools

    @cached_property
    def _scales(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """[width] whether a column is a number, and the weight of the column."""
        ordered, weight = np.zeros(self.encoding.width, np.bool_), np.ones(self.encoding.width)
        for path, decision in self.encoding.decisions.items():
            columns = self.encoding.columns[path]
            ordered[columns] = _numbers(decision)
            weight[columns] = 1 / (decision.n - 1) if _numbers(decision) else 1 / columns_of(decision)
        return ordered, weight

    def distances(self, row: Row) -> NDArray[np.float64]:
        """[pool] how far the rows of the pool lie: a decision counts 1, or its share of the range where it is one of
        several numbers."""
        assert self.pool is not None
        ordered, weight = self._scales
        apart = np.abs(self.pool.astype(np.float64) - row)
        lone = (self.pool == ABSENT) != (row == ABSENT)  # present in one of the two alone
        apart = np.where(ordered & ~lone, apart * weight, (apart > 0) * np.where(ordered, 1.0, weight))
        return apart.sum(axis=1)

    def _nearest(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Of each row the nearest one of the pool, one of them by chance where several are as near."""
        assert self.pool is not None
        found = []
        for row in rows:
            apart = self.distances(row)
            found.append(int(rng.choice(np.flatnonzero(apart <= apart.min() + 1e-9))))
        return self.pool[found]

    def _unseen_near(self, row: Row, steps: int, seen: Collection[str], rng: np.random.Generator) -> Rows:
        """[1] the unseen row of the pool that is nearest to a mutant; [0] where all are seen."""
        assert self.pool is not None
        for _ in range(steps):
            changed, decision = self.variation.mutate_matrix(row[None], rng)
            row = changed[0] if decision[0] >= 0 else row
        apart = self.distances(row) + 1e-9 * rng.random(len(self.pool))
        found = self.new(self.pool[np.argsort(apart)], seen)
        return self.pool[:0] if found is None else found[None]


def _numbers(decision: Decision) -> bool:
    """Whether a decision is one of several numbers in order."""
    items = decision.items
    return (
        decision.kind == "choice"
        and len(items) > 1
        and all(isinstance(item, int | float) and not isinstance(item, bool) for item in items)
        and list(items) == sorted(items)
    )
