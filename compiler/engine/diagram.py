"""The whole space as a layered diagram: counts, costs, draws and extremes, on whole arrays of architectures at once.

A *multi-valued decision diagram* of the space: layers of arcs between states. Every architecture takes one arc in each
layer, and every way through is an architecture (or several, where an arc stands for values of units, subsets and orders
that no requirement and no cost tells apart). What an arc adds to a cost is known, so a cost is a sum of table entries,
and how many architectures lie behind a state is known, so a uniform draw is one random number a layer.

Two layerings of one chain of decisions are kept. The *layers* join as many decisions as makes sense for arrays of
architectures: a stage of Once-for-All with its 7371 alternatives is one layer. The *blocks* lie within the layers and
are as small as makes sense for sums over the whole space.

A batch of architectures is an int32 array of *paths* [n, layers]: the number of the arc taken in each layer. All random
numbers come from the generator that is passed in; made as `numpy.random.Generator(numpy.random.PCG64(seed))` it gives
the same draws on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.arrays.encoding import Encoding, Inside
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.engine.alias import Alias
from nasdsl.compiler.engine.cells import Cell
from nasdsl.compiler.engine.compile_diagram import compile_diagram, whole
from nasdsl.compiler.engine.factors import Constraint, FactorGraph
from nasdsl.compiler.engine.levels import Ints, Layer, Layering, Weights, join, moments, segments
from nasdsl.compiler.engine.lookup import Lookup
from nasdsl.compiler.engine.members import Members
from nasdsl.compiler.engine.shortest_paths import best_behind, paths_in_order
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import ABSENT

Paths: TypeAlias = NDArray[np.int32]
"""[n, layers]: the arc that each architecture takes in each layer."""

ROWS = 1 << 14  # architectures worked on at a time: what is in hand stays in the cache
WIDEST_LAYER = 1 << 16
WIDEST_BLOCK = 1 << 12
WIDE = 64  # a decision of more cells is a layer of its own


class Diagram:
    """The architectures of a graph that meet all requirements but budgets, and their costs.

    Args:
        graph: of which the decisions and the requirements are used.
        costs: measures by name, each a whole number for every architecture; terms over absent decisions cost nothing.
        widest: the most arcs a layer may have; fewer make more layers, with smaller tables.
        hierarchical: whether assignments count instead of architectures: values of all decisions, of absent ones too.
            An architecture is then drawn as often as its decisions one after the other give it, each value of a
            decision as likely as the others. Else each architecture is as likely as any other, so that an alternative
            with more decisions inside it comes up more often.
        scales: of measures, how many whole numbers make one of the units that windows are told in; by default 1.
        apart: whether each value of a subset has arcs of its own, so that nothing is open where there are only choices
            and subsets.

    Attributes:
        total: how many architectures (or assignments) there are, exactly.
        measures: the names of the costs, in the order of their columns.
        encoding: of the decisions as columns of a matrix.
        chain: the layers of single decisions, from which all others are joined.
        layers: those that paths refer to.
        network: of cells, to which the numbers in the layers refer.

    Raises:
        Infeasible: there is no architecture.
        TooWide: so many decisions hang together that the diagram would be too large; `paths` names them. Or the costs
            are too large (TooCostly).
        ArgumentError: a cost that is no whole number, or has no value for some architecture.
    """

    def __init__(
        self,
        graph: Graph,
        costs: Mapping[str, Value] | None = None,
        widest: int = WIDEST_LAYER,
        hierarchical: bool = False,
        scales: Mapping[str, int] | None = None,
        apart: bool = False,
    ):
        costs = costs or {}
        self.scales = {name: (scales or {}).get(name, 1) for name in costs}
        wanted = [Constraint(r.condition) for r in graph.requirements if r.origin != "budget"]
        self.network = FactorGraph(graph.decisions, wanted, exact=tuple(costs.values()), apart=apart)
        self.measures = tuple(costs)
        self.encoding = Encoding(graph.decisions)
        self.constants: Ints = np.array([whole(charge.constant) for charge in self.network.charges], np.int64)
        links = compile_diagram(self.network)
        counts = [[cell.count for cell in self._cells(link)] for link in links]
        if hierarchical:
            counts = [self._assignments(link) for link in links]
            links = [
                replace(link, weights=Weights.of(count)[link.cells[:, 0]])
                for link, count in zip(links, counts, strict=True)
            ]
        self._widest = widest
        self._fixed: Mapping[int, NDArray[Any]] = {}
        self._lay(links, ways_behind(links, counts))

    def _lay(self, links: Sequence[Layer], behind: Sequence[Sequence[int]]) -> None:
        """Lays out a chain, of which `behind` has the ways that lead on from each state, boundary by boundary."""
        self.total = behind[0][0]
        self.chain = Layering(list(links), [Weights.of(numbers) for numbers in behind])
        alone = {i for i, link in enumerate(links) if self.network.variables[link.decisions[0]].size > WIDE}
        self._ranges = segments(links, self._widest, lambda arcs: 1 + arcs / (1 << 15), alone)
        self.layering = _joined(self.chain, self._ranges)
        self.layers = self.layering.layers

    def restricted(
        self, links: Sequence[Layer], behind: Sequence[Sequence[int]], fixed: Mapping[int, NDArray[Any]]
    ) -> Diagram:
        """The diagram of fewer architectures.

        Args:
            links: the chain with the arcs that are left.
            behind: of each of its boundaries how many ways lead on from each state.
            fixed: of decisions, by number, the columns of the one value that they have wherever they are there.
        """
        other = copy(self)
        for name in [name for name, value in vars(type(self)).items() if isinstance(value, cached_property)]:
            other.__dict__.pop(name, None)
        other._fixed = dict(fixed)
        other._lay(links, behind)
        return other

    def _cells(self, link: Layer) -> list[Cell]:
        return self.network.variables[link.decisions[0]].cells

    def _assignments(self, link: Layer) -> list[int]:
        """Of each cell of a single decision how many values it stands for; for all of them where it is absent."""
        values = self._decision(link.decisions[0]).cardinality()
        return [values if cell.value is ABSENT else cell.count for cell in self._cells(link)]

    @property
    def size(self) -> int:
        """The number of layers."""
        return len(self.layers)

    def measure(self, name: str) -> int:
        """The column of a measure.

        Raises:
            ArgumentError: there is none of that name.
        """
        if name not in self.measures:
            raise ArgumentError(f"no measure `{name}`; there are {', '.join(map(repr, self.measures)) or 'none'}")
        return self.measures.index(name)

    @cached_property
    def blocks(self) -> Layering:
        """The finer layering, for sums over the whole space. Boundaries of layers are boundaries of blocks."""
        ranges = []
        for part in self._ranges:
            inner = segments(self.chain.layers[part.start : part.stop], WIDEST_BLOCK, lambda arcs: 8 + arcs)
            ranges += [range(part.start + r.start, part.start + r.stop) for r in inner]
        return _joined(self.chain, ranges)

    @cached_property
    def blocks_in(self) -> list[range]:
        """The numbers of the blocks of each layer."""
        decisions = [len(layer.decisions) for layer in self.layers]
        blocks = [len(block.decisions) for block in self.blocks.layers]
        ends = {end: number for number, end in enumerate(accumulate(blocks, initial=0))}
        bounds = [ends[end] for end in accumulate(decisions, initial=0)]
        return [range(first, last) for first, last in pairwise(bounds)]

    @cached_property
    def block_arcs(self) -> list[NDArray[np.int32]]:
        """Of each layer [arcs, blocks]: the arc of each of its blocks that an arc of the layer goes through."""
        found = []
        for part in self.blocks_in:
            blocks = self.blocks.layers[part.start : part.stop]
            found.append(join([replace(b, cells=np.arange(len(b), dtype=np.int32)[:, None]) for b in blocks]).cells)
        return found

    def through(self, arcs: NDArray[np.int32]) -> Paths:
        """The paths that go through these arcs [n, blocks] of the blocks."""
        paths = np.empty((len(arcs), self.size), np.int32, order="F")
        for number, (part, lookup) in enumerate(zip(self.blocks_in, self._layer_arcs, strict=True)):
            paths[:, number] = lookup.find([arcs[:, block] for block in part])
        return paths

    @cached_property
    def _layer_arcs(self) -> list[Lookup]:
        """Of each layer, what finds its arc by those of its blocks."""
        return [Lookup(arcs.T) for arcs in self.block_arcs]

    def _decision(self, number: int) -> Decision:
        decision = self.network.variables[number].decision
        assert decision is not None
        return decision

    # draws and costs

    def draw(self, n: int, rng: np.random.Generator) -> Paths:
        """`n` independent architectures, each as likely as any other, or as its assignments make it."""
        paths = np.empty((n, self.size), np.int32, order="F")
        for rows in chunks(n):
            state: Any = 0
            for number, layer in enumerate(self.layers):
                count, alias = self._choices[number]
                if alias is not None:
                    u = rng.random(rows.stop - rows.start)
                    arc = alias.pick(state, u).astype(np.int32)
                elif layer.before == 1:
                    arc = rng.integers(0, count[0], rows.stop - rows.start, np.int32)
                else:
                    u = rng.random(rows.stop - rows.start)
                    arc = (layer.start[state] + (u * count[state]).astype(np.int64)).astype(np.int32)
                paths[rows, number] = arc
                if layer.after > 1:
                    state = layer.target[arc]
                else:
                    state = 0
        return paths

    @cached_property
    def _choices(self) -> list[tuple[Ints, Alias | None]]:
        """Of each layer how many arcs leave each state, and tables for their shares unless all of them are equal."""
        found: list[tuple[Ints, Alias | None]] = []
        for number, layer in enumerate(self.layers):
            count = np.diff(layer.start)
            share = self.layering.shares(number)
            found.append((count, None if _even(share, layer) else Alias(share, layer.start)))
        return found

    def costs(self, paths: Paths) -> Ints:
        """[n, measures]: all costs of each architecture."""
        out = np.empty((len(paths), len(self.measures)), np.int64)
        for rows in chunks(len(paths)):
            total = np.broadcast_to(self.constants, (rows.stop - rows.start, len(self.measures))).copy()
            for number, layer in enumerate(self.layers):
                total += layer.costs.take(paths[rows, number], axis=0)
            out[rows] = total
        return out

    # matrices

    def matrix(self, paths: Paths, rng: np.random.Generator | None = None) -> NDArray[Any]:
        """The architectures as rows of `encoding`.

        Raises:
            ArgumentError: without a generator, where arcs stand for several architectures, of which one is to be drawn.
        """
        if self.drawn and rng is None:
            names = ", ".join(f"`{self._decision(i).path}`" for i in self.drawn[:3])
            raise ArgumentError(f"a path leaves open which value {names} takes; a generator is needed to draw one")
        out = np.empty((len(paths), self.encoding.width), self.encoding.dtype)
        for rows in chunks(len(paths)):
            part = out[rows]
            for number, tables in enumerate(self._tables):
                for first, table in tables:
                    _scatter(table, paths[rows, number], part, first)
            if rng is not None:
                for decision, layer, place in self.drawn_in:
                    cells = self.layers[layer].cells[paths[rows, layer], place]
                    part[:, self.columns(decision)] = self.inside(decision).draw(cells, rng)
        return out

    def columns(self, decision: int) -> slice:
        """Of a decision in the matrix."""
        return self.encoding.columns[self._decision(decision).path]

    @cached_property
    def drawn(self) -> list[int]:
        """The decisions of which an arc may leave open which of several values they take."""
        variables = self.network.variables
        return [
            decision
            for layer in self.layers
            for decision in layer.decisions
            if decision not in self._fixed and _open(variables[decision].cells)
        ]

    def inside(self, decision: int) -> Inside:
        """Draws inside the cells of a decision."""
        known = self._insides.get(decision)
        if known is None:
            known = self._insides[decision] = Inside(self._decision(decision), self.network.variables[decision].cells)
        return known

    @cached_property
    def _insides(self) -> dict[int, Inside]:
        return {}

    @cached_property
    def drawn_in(self) -> list[tuple[int, int, int]]:
        """Each decision that is drawn inside its cells, its layer and its place there."""
        opened = set(self.drawn)
        return [
            (decision, number, place)
            for number, layer in enumerate(self.layers)
            for place, decision in enumerate(layer.decisions)
            if decision in opened
        ]

    @cached_property
    def _tables(self) -> list[list[tuple[int, NDArray[Any]]]]:
        """Of each layer the entries of its arcs in consecutive columns: the first of these, and [arcs, columns]."""
        opened = set(self.drawn)
        found = []
        for layer in self.layers:
            blocks: dict[int, NDArray[Any]] = {}
            for place, number in enumerate(layer.decisions):
                if number not in opened:
                    decision, cells = self._decision(number), self.network.variables[number].cells
                    fixed, dtype = self._fixed.get(number), self.encoding.dtype
                    values = np.stack(
                        [
                            encoded(decision, cell.whole, dtype) if fixed is None or cell.value is ABSENT else fixed
                            for cell in cells
                        ]
                    )
                    blocks[self.columns(number).start] = values[layer.cells[:, place]]
            runs: list[tuple[int, list[NDArray[Any]]]] = []
            for first in sorted(blocks):
                if runs and runs[-1][0] + sum(block.shape[1] for block in runs[-1][1]) == first:
                    runs[-1][1].append(blocks[first])
                else:
                    runs.append((first, [blocks[first]]))
            found.append([(first, np.concatenate(parts, axis=1)) for first, parts in runs])
        return found

    def find(self, matrix: NDArray[Any]) -> Paths:
        """The path of each row of a matrix; -1 in all layers for a row that is no architecture of the diagram.

        Raises:
            ArgumentError: not a matrix of `encoding`.
        """
        self.encoding.check(matrix)
        paths = np.empty((len(matrix), self.size), np.int32, order="F")
        for rows in chunks(len(matrix)):
            state: NDArray[np.int32] = np.zeros(rows.stop - rows.start, np.int32)
            lost = np.zeros(len(state), np.bool_)
            for number, layer in enumerate(self.layers):
                cells = [self._located(decision, matrix[rows]) for decision in layer.decisions]
                arc = self._lookups[number].find([state, *cells])
                lost |= arc < 0
                arc = np.where(lost, 0, arc)
                state = layer.target[arc]
                paths[rows, number] = arc
            paths[rows][lost] = -1
        return paths

    @cached_property
    def _lookups(self) -> list[Lookup]:
        return [Lookup(np.column_stack((layer.source, layer.cells)).T) for layer in self.layers]

    def _located(self, number: int, matrix: NDArray[Any]) -> NDArray[np.int32]:
        """The cell of a decision in each row, -1 where there is none."""
        decision, block = self._decision(number), matrix[:, self.columns(number)]
        if decision.kind != "choice":
            return self.inside(number).locate(block)
        n, column = decision.n, block[:, 0].astype(np.int32)
        cell = np.arange(-1, n + 1, dtype=np.int32)  # of -1, of each option, and of what is neither
        cell[0] = n if decision.present is not True else -1
        cell[n + 1] = -1
        return cell[np.where((column < -1) | (column >= n), n, column) + 1]

    # extremes

    def least(self, measure: str) -> tuple[int, Paths]:
        """The least of a measure, and a path [layers] that attains it."""
        return self._extreme(self.measure(measure), 1)

    def greatest(self, measure: str) -> tuple[int, Paths]:
        """The greatest of a measure, and a path [layers] that attains it."""
        cost, path = self._extreme(self.measure(measure), -1)
        return -cost, path

    def moments(self, measure: str) -> tuple[float, float]:
        """Mean and standard deviation of a measure over all architectures."""
        column = self.measure(measure)
        shares = [self.layering.shares(number) for number in range(self.size)]
        mean, std = moments(self.layers, shares, [layer.costs[:, column] for layer in self.layers])
        return mean + int(self.constants[column]), std

    def completion(self, column: int, sign: int = 1) -> list[Ints]:
        """Of each boundary between layers: the least of `sign` x cost of what follows on each state."""
        return best_behind(self.layers, column, sign)

    def _extreme(self, column: int, sign: int) -> tuple[int, Paths]:
        behind = self.completion(column, sign)
        path = np.empty(self.size, np.int32)
        state = 0
        for number, layer in enumerate(self.layers):
            arcs = slice(layer.start[state], layer.start[state + 1])
            costs = sign * layer.costs[arcs, column] + behind[number + 1][layer.target[arcs]]
            path[number] = arcs.start + int(costs.argmin())
            state = int(layer.target[path[number]])
        return int(behind[0][0]) + sign * int(self.constants[column]), path

    def cheapest(self, k: int, measure: str) -> tuple[Ints, NDArray[Any]]:
        """The `k` cheapest architectures in rising order (all, where there are not so many): costs and matrix.

        Of architectures of equal cost some come first, always the same.
        """
        costs: list[int] = []
        rows: list[NDArray[Any]] = []
        if k > 0:
            for cost, row in self.in_order(measure):
                costs.append(cost)
                rows.append(row)
                if len(costs) == k:
                    break
        matrix = np.array(rows, self.encoding.dtype).reshape(len(rows), self.encoding.width)
        return np.array(costs, np.int64), matrix

    def in_order(self, measure: str) -> Iterator[tuple[int, NDArray[Any]]]:
        """All architectures in the order of a measure: cost and row of the matrix, as many as are asked for."""
        column = self.measure(measure)
        anything = np.random.Generator(np.random.PCG64(0))  # what it draws is written over
        for cost, path in paths_in_order(self.layers, column):
            row = self.matrix(path[None], anything)[0]
            cells = [
                (decision, self.network.variables[decision].cells[self.layers[layer].cells[path[layer], place]])
                for decision, layer, place in self.drawn_in
            ]
            several = [
                (self.columns(i), self._decision(i), cell.count, Members(self._decision(i), cell))
                for i, cell in cells
                if cell.count > 1
            ]
            for rank in range(math.prod(count for _, _, count, _ in several)):
                for columns, decision, count, members in several:
                    rank, own = divmod(rank, count)
                    row[columns] = encoded(decision, members.unrank(own), self.encoding.dtype)
                yield cost + int(self.constants[column]), row.copy()


def chunks(n: int, rows: int = ROWS) -> Iterator[slice]:
    """0 to n - 1 in parts of so many rows."""
    return (slice(first, min(first + rows, n)) for first in range(0, n, rows))


def _joined(links: Layering, ranges: Sequence[range]) -> Layering:
    joined = [join(links.layers[part.start : part.stop]) for part in ranges]
    return Layering(joined, [links.behind[part.start] for part in ranges] + links.behind[-1:])


def ways_behind(layers: Sequence[Layer], cells: Sequence[Sequence[int]]) -> list[list[int]]:
    """Of each boundary of the chain how many ways lead on from each state, exactly.

    Args:
        cells: for each layer, which has one decision, how often each of its cells counts.
    """
    behind = [[1]]
    for layer, counts in zip(reversed(layers), reversed(cells), strict=True):
        pairs = layer.source.astype(np.int64) * layer.after + layer.target
        sums = [0] * layer.before
        if all(count == 1 for count in counts):
            for pair, number in zip(*map(list, np.unique(pairs, return_counts=True)), strict=True):
                sums[pair // layer.after] += int(number) * behind[-1][pair % layer.after]
        else:
            ways: dict[int, int] = {}
            for pair, cell in zip(pairs.tolist(), layer.cells[:, 0].tolist(), strict=True):
                ways[pair] = ways.get(pair, 0) + counts[cell]
            for pair, way in ways.items():
                sums[pair // layer.after] += way * behind[-1][pair % layer.after]
        behind.append(sums)
    return behind[::-1]


def _even(share: NDArray[np.float64], layer: Layer) -> bool:
    """Whether all arcs that leave the same state have the same share."""
    return bool((share == share[layer.start[layer.source]]).all())


def _open(cells: Sequence[Cell]) -> bool:
    return any(cell.count > 1 for cell in cells)


def encoded(decision: Decision, value: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A value, or ABSENT, as the columns of its decision."""
    values = {} if value is ABSENT else {decision.path: value}
    row: NDArray[Any] = Encoding({decision.path: decision}).encode([values])[0]
    return row.astype(dtype)


def _scatter(table: NDArray[Any], arcs: NDArray[np.int32], matrix: NDArray[Any], first: int) -> None:
    """Rows of a table written into consecutive columns of a matrix, each row as one piece of memory."""
    if not len(arcs):
        return
    piece = np.dtype((np.void, table.shape[1] * table.itemsize))
    source = table.view(piece)[:, 0]
    place = first * matrix.itemsize
    target = np.ndarray(len(matrix), piece, matrix, place, (matrix.strides[0],))
    target[:] = source[arcs]
