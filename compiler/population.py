"""All architectures of a space together: their number, their costs, draws. Exact where the space's structure allows,
else by estimates that say so.

The exact answers come from the layered diagram (`engine/diagram.py`). A space whose decisions hang together too much
for one (a long order whose every place matters to every cost) is still counted and drawn from exactly; its costs are
then those of a large uniform sample, with their standard errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler import extremes, notebook
from nasdsl.compiler import measures as registry
from nasdsl.compiler.architecture import Architecture, Values, wrong
from nasdsl.compiler.arrays.evaluator import Evaluator
from nasdsl.compiler.cost import total, totals
from nasdsl.compiler.count import brief
from nasdsl.compiler.engine.budget import Within, budget_windows
from nasdsl.compiler.engine.diagram import WIDEST_LAYER, Diagram
from nasdsl.compiler.engine.histogram import count_within, distribution
from nasdsl.compiler.engine.lattice import Window, whole_bound
from nasdsl.compiler.engine.limits import Infeasible, TooWide, bounded
from nasdsl.compiler.engine.variation import Variation
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.sample import Numbering

SAMPLED = 100_000
"""Architectures that an estimate rests on."""
MOST_TRIED = 1000
"""Draws for each architecture wanted, after which a bounded search inside a budget gives up."""
PATIENCE = 5_000_000
"""Table entries that an exact answer may take before an estimate has to do: about five seconds."""

Matrix = NDArray[Any]


class Spread(Protocol):
    """How a cost is distributed over all architectures: `engine.histogram.Distribution`, or `Estimate`."""

    @property
    def exact(self) -> bool: ...
    @property
    def error(self) -> float: ...
    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...
    def quantile(self, share: float) -> float: ...
    def share_at_most(self, cost: float) -> float: ...
    def histogram(self, bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...


@dataclass(frozen=True)
class Estimate:
    """The distribution of a cost in a uniform sample, whose costs are `sample`, ascending: int64, Python's integers
    where they are too large, or float64 of a measure that has fractions."""

    sample: NDArray[Any]
    exact: bool = False

    @cached_property
    def _rounded(self) -> NDArray[np.float64]:
        return self.sample.astype(np.float64)

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return self.std / float(np.sqrt(len(self.sample)))

    @property
    def mean(self) -> float:
        return float(self._rounded.mean())

    @property
    def std(self) -> float:
        return float(self._rounded.std(ddof=1))

    def quantile(self, share: float) -> float:
        """The least cost in the sample that at least such a share does not exceed."""
        return _number(self.sample[max(0, int(np.ceil(share * len(self.sample))) - 1)])

    def share_at_most(self, cost: float) -> float:
        """The share of the sample that costs at most so much."""
        return float(np.searchsorted(self.sample, cost, side="right")) / len(self.sample)

    def histogram(self, bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Edges [bins + 1] of equal bins over the sample, and the share in each [bins]."""
        counts, edges = np.histogram(self._rounded, bins)
        return edges, counts / len(self.sample)


def _number(value: Any) -> Any:
    """A number of an array, as Python has it."""
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class InUnits:
    """A distribution of whole numbers, of which `scale` make one unit of the measure."""

    whole: Spread
    scale: int

    @property
    def exact(self) -> bool:
        return self.whole.exact

    @property
    def error(self) -> float:
        return self.whole.error / self.scale

    @property
    def mean(self) -> float:
        return self.whole.mean / self.scale

    @property
    def std(self) -> float:
        return self.whole.std / self.scale

    def quantile(self, share: float) -> float:
        return self.whole.quantile(share) / self.scale

    def share_at_most(self, cost: float) -> float:
        return self.whole.share_at_most(float(whole_bound(cost, self.scale)))

    def histogram(self, bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        edges, shares = self.whole.histogram(bins)
        return edges / self.scale, shares


@dataclass(frozen=True)
class Extreme:
    """A cost, in the unit of its measure, and an architecture that has it. `proven` where no other can be better."""

    cost: Any
    architecture: Architecture
    proven: bool


@dataclass(frozen=True)
class Part:
    """How much of a space lies inside a window.

    Attributes:
        count: of architectures; rounded where it is not `exact`.
        share: of all.
        error: of the share: its standard error where it is an estimate, 0 where it is exact or its bound is in the
            distribution's.
    """

    count: int
    share: float
    exact: bool
    error: float = 0.0


class Population:
    """The architectures of a graph.

    Args:
        graph: its requirements hold for everything that comes out, budgets (requirements on costs) too.
        measures: the costs to know about, by their names in the registry (`measures/`); others are looked at when
            they are asked for. All are in the measures' units.
        widest: as `Diagram` takes it.

    Attributes:
        exact: whether costs are known exactly.
        why: where they are not, why: what `tangled` says, or nothing.
        window: the graph's budgets.

    Raises:
        Infeasible: there is no architecture.
        TooWide: the space is so tangled that it cannot even be counted.
        ArgumentError: there is no such measure.
        MissingTable, UnreadableBudget: a measure, or a budget on one, that is read from a file where there is none.
    """

    def __init__(
        self,
        graph: Graph,
        measures: Sequence[str] = registry.DEFAULT,
        patience: int | None = None,
        widest: int = WIDEST_LAYER,
    ):
        self.graph, self.measures = graph, tuple(measures)
        self.window = budget_windows(graph)
        self.tangled: TooWide | None = None
        known = sorted({*self.measures, *self.window})
        self._known, self._wider = frozenset(known), dict[frozenset[str], Population]()
        self._scales = {name: registry.find(name).scale for name in known}
        self.patience = PATIENCE if patience is None else patience
        self._costs, self._widest = totals(graph, known), widest
        try:
            with bounded(self.patience):
                self.diagram = Diagram(graph, self._costs, widest, scales=self._scales)
        except TooWide as problem:
            self.tangled = problem
            self._costs = {}
            self.diagram = Diagram(graph, widest=widest)

    @cached_property
    def hierarchical(self) -> Diagram:
        """As `diagram`, with the same encoding, but for draws decision by decision."""
        if all(decision.present is True for decision in self.graph.decisions.values()):
            return self.diagram  # nothing hangs on anything: both draw alike
        return Diagram(self.graph, self._costs, self._widest, hierarchical=True, scales=self._scales)

    def knowing(self, measures: Iterable[str]) -> Population:
        """The same architectures, where these measures are known, too."""
        missing = frozenset(measures) - (self._known if self.exact else frozenset(self.measures))
        if not missing:
            return self
        if missing not in self._wider:
            names = (*self.measures, *sorted(missing))
            self._wider[missing] = Population(self.graph, names, self.patience, self._widest)
        return self._wider[missing]

    def __repr__(self) -> str:
        """`Population(1.3e4521 architectures, 18 decisions, costs known exactly)`"""
        known = "known exactly" if self.exact else "estimated"
        return f"Population({brief(self.total)} architectures, {len(self.graph.decisions):,} decisions, costs {known})"

    def _repr_html_(self) -> str | None:
        return notebook.html(self)

    @property
    def exact(self) -> bool:
        return self.tangled is None

    @property
    def why(self) -> str:
        return "" if self.tangled is None else self.tangled.message

    @property
    def total(self) -> int:
        """How many architectures there are, those beyond the budgets included."""
        return self.diagram.total

    @cached_property
    def evaluator(self) -> Evaluator:
        return Evaluator(self.graph)

    def costs(self, matrix: Matrix, measures: Sequence[str] | None = None) -> NDArray[Any]:
        """[n, measures]: the costs of architectures that are rows, as `draw` and `encode` give them.

        Raises:
            ArchitectureError: a row is no architecture of the space.
            ArgumentError: no rows of this space.
        """
        self._check(matrix)
        return self._costs_of(matrix, self.measures if measures is None else measures)

    def costs_by_name(self, matrix: Matrix, measures: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """As `costs`, for each row by the names of the measures: whole numbers where these are counted in such."""
        names = self.measures if measures is None else tuple(measures)
        rows = self.costs(matrix, names).tolist()
        whole = [registry.find(name).scale == 1 for name in names]
        return [
            {name: int(cost) if plain else cost for name, plain, cost in zip(names, whole, row, strict=True)}
            for row in rows
        ]

    def _costs_of(self, matrix: Matrix, measures: Sequence[str]) -> NDArray[Any]:
        """As `costs`, of rows that were drawn here."""
        found: NDArray[Any] = self.evaluator.costs(matrix, measures)
        return found

    def _check(self, rows: Matrix) -> None:
        """Raises what is wrong with the first row that is no architecture."""
        fine = self.evaluator.valid(rows)
        if not fine.all():
            row = int(fine.argmin())
            (found,) = self.diagram.encoding.decode(rows[row : row + 1])  # which tells of values that there are not
            Architecture.of(self.graph, dict(found))  # which tells what is missing or broken
            raise wrong("bad-row", "", f"row {row} has values of decisions that are absent under the others")

    @cached_property
    def _variation(self) -> Variation:
        return Variation(self.diagram)

    # --- Rows and numbers

    def encode(self, architectures: Iterable[Values]) -> Matrix:
        """[n, columns] one row for each architecture, as `draw` gives them and `costs` takes them.

        Raises:
            ArchitectureError: one of them is no architecture of the space.
        """
        return self.diagram.encoding.encode([Architecture.of(self.graph, one) for one in architectures])

    def decode(self, rows: Matrix) -> list[Architecture]:
        """The architecture of each row.

        Raises:
            ArchitectureError: a row is no architecture of the space.
            ValueError: no rows of this space.
        """
        self._check(rows)
        return self.diagram.encoding.decode(rows)

    @cached_property
    def _numbering(self) -> Numbering:
        return Numbering(self.graph)

    def rank(self, architecture: Values) -> int:
        """The number of an architecture, from 0 to `total` - 1; it stays the same as long as the space does.

        Raises:
            ArchitectureError: it is no architecture of the space.
            TooWide: too many decisions hang together for the exact answer.
        """
        return self._numbering.rank(Architecture.of(self.graph, architecture))

    def unrank(self, number: int) -> Architecture:
        """The architecture of a number.

        Raises:
            IndexError: there are not so many.
            TooWide: as `rank`.
        """
        return self._numbering.unrank(number)

    # --- Draws

    def draw(self, n: int, seed: int, window: Window | None = None) -> Matrix:
        """`n` uniform architectures inside the window and the budgets: [n, columns] of `diagram.encoding`.

        Args:
            window: of any measures, in their units: `{"macs": (None, 600e6), "latency": (2, 5.5)}`.

        The same seed gives the same draws on every machine.

        Raises:
            Infeasible: there is none inside.
        """
        known = self.knowing(window or {})
        if known is not self:
            return known.draw(n, seed, window)
        rng = np.random.Generator(np.random.PCG64(seed))
        inside = joined(self.window, window or {})
        if not inside:
            return self.diagram.matrix(self.diagram.draw(n, rng), rng)
        if self.exact:
            return self.diagram.matrix(Within(self.diagram, inside).draw(n, rng), rng)
        return self.tried(n, rng, inside, self.diagram)

    def tried(self, n: int, rng: np.random.Generator, window: Window, diagram: Diagram) -> Matrix:
        """Draws of a diagram, of those inside a window, by trying: for costs that are known only one by one.

        Raises:
            Infeasible: too few lie inside.
        """
        found: list[Matrix] = []
        have = tried = 0
        measures = sorted(window)
        while have < n:
            if tried >= MOST_TRIED * max(n, 100):
                raise Infeasible(
                    f"of {tried:,} architectures drawn, {have:,} lie inside the budget: too few to draw {n:,}, and the "
                    f"space cannot be drawn from inside it directly: {self.why}"
                )
            matrix = diagram.matrix(diagram.draw(TRIED_AT_ONCE, rng), rng)
            inside = inside_window(self._costs_of(matrix, measures), [window[name] for name in measures])
            found.append(matrix[inside])
            have += int(inside.sum())
            tried += TRIED_AT_ONCE
        return np.concatenate(found)[:n]

    @cached_property
    def _sample(self) -> NDArray[Any]:
        """[SAMPLED, measures]: costs of uniform architectures, where they are not known exactly."""
        rng = np.random.Generator(np.random.PCG64(0))
        matrix = self.diagram.matrix(self.diagram.draw(SAMPLED, rng), rng)
        if self.window:
            names = sorted(self.window)
            matrix = matrix[inside_window(self._costs_of(matrix, names), [self.window[name] for name in names])]
        if not len(matrix):
            raise Infeasible(f"none of {SAMPLED:,} architectures drawn lies inside the budgets")
        return self._costs_of(matrix, self.measures)

    # --- Costs

    def spread(self, name: str) -> Spread:
        """The distribution of a cost over all architectures, budgets left out where it is exact."""
        known = self.knowing((name,))
        if known is not self:
            return known.spread(name)
        if self.exact:
            found, scale = distribution(self.diagram, name), self._scales[name]
            return found if scale == 1 else InUnits(found, scale)
        column = self._sample[:, self.measures.index(name)]
        if self._scales[name] == 1 and column.dtype.kind == "f":  # beside one that has fractions
            column = column.astype(np.int64)
        return Estimate(np.sort(column))

    def part(self, window: Window) -> Part:
        """How many architectures lie inside a window and the budgets."""
        known = self.knowing(window)
        if known is not self:
            return known.part(window)
        inside = joined(self.window, window)
        if self.exact:
            try:
                tally = count_within(self.diagram, inside)
            except Infeasible:
                return Part(0, 0.0, True)
            return Part(tally.number, tally.share, tally.exact)
        rng = np.random.Generator(np.random.PCG64(0))
        matrix = self.diagram.matrix(self.diagram.draw(SAMPLED, rng), rng)
        names = sorted(inside)
        share = float(inside_window(self._costs_of(matrix, names), [inside[name] for name in names]).mean())
        return Part(round(share * self.total), share, False, float(np.sqrt(share * (1 - share) / SAMPLED)))

    def extreme(self, name: str, greatest: bool = False) -> Extreme:
        """The cheapest (or dearest) architecture, all budgets left out, exact where the diagram or elimination is.
        Where that is out of reach, the best that a sample and a climb from its best find."""
        known = self.knowing((name,))
        if known is not self:
            return known.extreme(name, greatest)
        if self.exact:
            return in_diagram(self.graph, self.diagram, name, greatest)
        return self._proven(name).get(greatest) or self._climbed[name, greatest]

    def _proven(self, name: str) -> dict[bool, Extreme]:
        """Both extremes by elimination: a cost that only rises along its choices has them however tangled it is. Empty
        where that takes too long."""
        if name not in self._eliminated:
            try:
                with bounded(self.patience // 20):
                    low, high = eliminated(self.graph, name)
                self._eliminated[name] = {False: low, True: high}
            except TooWide:
                self._eliminated[name] = {}
        return self._eliminated[name]

    @cached_property
    def _eliminated(self) -> dict[str, dict[bool, Extreme]]:
        return {}

    @cached_property
    def _climbed(self) -> dict[tuple[str, bool], Extreme]:
        """The best that climbs from a sample find, to all ends at once: the costs of many rows take little longer than
        those of a few."""
        rng = np.random.Generator(np.random.PCG64(1))
        matrix = self.diagram.matrix(self.diagram.draw(SAMPLED // 10, rng), rng)
        costs = self._costs_of(matrix, self.measures)
        ends = [(column, sign) for column in range(len(self.measures)) for sign in (1, -1)]
        last, stuck = [0] * len(ends), -1
        for _ in range(CLIMBS):
            ranks = [np.argsort(sign * costs[:, column], kind="stable")[:CLIMBERS] for column, sign in ends]
            kept = np.unique(np.concatenate(ranks))
            best = [_number(costs[rank[0], column]) for rank, (column, _) in zip(ranks, ends, strict=True)]
            last, stuck = best, stuck + 1 if best == last else 0
            if stuck == CLIMBS_IN_VAIN:
                break
            parents = matrix[np.concatenate(ranks)]
            changed, _ = self._variation.mutate_matrix(np.repeat(parents, CLIMBS_EACH, axis=0), rng)
            matrix = np.concatenate((matrix[kept], changed))
            costs = np.concatenate((costs[kept], self._costs_of(changed, self.measures)))
        found = {}
        for column, sign in ends:
            at = int((sign * costs[:, column]).argmin())
            (row,) = self.diagram.encoding.decode(matrix[at : at + 1])
            architecture = Architecture.at(self.graph, row.indices)
            name = self.measures[column]
            cost = _number(costs[at, column])
            found[name, sign < 0] = Extreme(cost if self._scales[name] != 1 else int(cost), architecture, False)
        return found


def extremes_of(graph: Graph, measures: Sequence[str] = registry.DEFAULT) -> dict[str, tuple[Extreme, Extreme]]:
    """The least and the greatest of costs, proven, all budgets left out: by elimination, or by a diagram where that
    takes too long.

    Raises:
        Infeasible: there is no architecture.
        TooWide: the exact answer is out of reach.
    """
    try:
        found = {}
        for name in measures:
            with bounded(PATIENCE // 30):
                found[name] = eliminated(graph, name)
        return found
    except TooWide:
        with bounded(PATIENCE):
            diagram = Diagram(graph, totals(graph, measures))
        return {name: (in_diagram(graph, diagram, name), in_diagram(graph, diagram, name, True)) for name in measures}


def in_diagram(graph: Graph, diagram: Diagram, name: str, greatest: bool = False) -> Extreme:
    """The cheapest (or dearest) architecture of a diagram that has its costs."""
    best, path = (diagram.greatest if greatest else diagram.least)(name)
    rng = np.random.Generator(np.random.PCG64(0))  # where a path leaves a value open, any will do
    (row,) = diagram.encoding.decode(diagram.matrix(path[None], rng))
    return Extreme(registry.find(name).amount(int(best)), Architecture.at(graph, row.indices), True)


def eliminated(graph: Graph, name: str) -> tuple[Extreme, Extreme]:
    """The least and the greatest of a cost by elimination.

    Raises:
        Infeasible: there is no architecture.
        TooWide: too many decisions hang together for the exact answer.
    """
    cost, amount = total(graph, name), registry.find(name).amount
    (low, cheapest), (high, dearest) = extremes.least(graph, cost), extremes.greatest(graph, cost)
    return Extreme(amount(int(low)), cheapest, True), Extreme(amount(int(high)), dearest, True)


TRIED_AT_ONCE = 10_000
CLIMBS, CLIMBERS, CLIMBS_EACH = 60, 100, 20
CLIMBS_IN_VAIN = 8
"""Steps without anything better, after which a climb ends."""


def joined(one: Window, other: Window) -> dict[str, tuple[float | None, float | None]]:
    """What lies inside both windows."""
    out = dict(one)
    for name, (low, high) in other.items():
        first, last = out.get(name, (None, None))
        lows = [bound for bound in (low, first) if bound is not None]
        highs = [bound for bound in (high, last) if bound is not None]
        out[name] = (max(lows, default=None), min(highs, default=None))
    return out


def inside_window(values: NDArray[Any], bounds: Sequence[tuple[float | None, float | None]]) -> NDArray[np.bool_]:
    """[n]: which rows of costs [n, measures] lie inside."""
    inside = np.ones(len(values), np.bool_)
    for column, (low, high) in zip(values.T, bounds, strict=True):
        if low is not None:
            inside &= column >= low
        if high is not None:
            inside &= column <= high
    return inside
