"""Architectures inside a budget: how many there are, and uniform draws from them, without rejection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler import measures
from nasdsl.compiler.cost import is_known
from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.engine.budget_sampler import BudgetSampler, work
from nasdsl.compiler.engine.completions import Completions, member, scan
from nasdsl.compiler.engine.diagram import Diagram, Paths, chunks
from nasdsl.compiler.engine.histogram import Tally, count_between, times
from nasdsl.compiler.engine.lattice import Bounds, Groups, Lattice, Window, bounds, grouped, lattice_for, told_bound
from nasdsl.compiler.engine.levels import Ints
from nasdsl.compiler.engine.limits import Infeasible
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import is_number
from nasdsl.compiler.values.tree import Apply, Expr, Total, decisions_of, measures_of

MOST_KEPT = 1 << 23  # entries of all tables of what fits
FEW = 64  # draws at once for which tables do not pay: making them takes as long as some hundred draws without


# --- budgets of a space -----------------------------------------------------------------------------------------------


class UnreadableBudget(NasdslError):
    """A budget that is no bound on one measure."""

    code = "unreadable-budget"


def budget_windows(graph: Graph) -> dict[str, tuple[float | None, float | None]]:
    """The budgets of a graph (requirements on costs of the whole network) as one window, in the measures' units.

    Understood are comparisons of a measure, or of a multiple of it, with a number, and conjunctions of these.

    Raises:
        UnreadableBudget: a budget of another form, or on a measure that is read from a file where there is none.
    """
    window: dict[str, tuple[float | None, float | None]] = {}
    for requirement in graph.requirements:
        if requirement.origin != "budget":
            continue
        for condition, wanted in _conditions(requirement.condition, True):
            try:
                measure, low, high = _bound(condition, wanted)
                if not is_known(graph, measure):
                    raise _untold(requirement, measure)
            except ValueError as problem:
                raise UnreadableBudget(f"`{requirement.message}` cannot be drawn from: {problem}") from None
            old_low, old_high = window.get(measure, (None, None))
            lows = [bound for bound in (low, old_low) if bound is not None]
            highs = [bound for bound in (high, old_high) if bound is not None]
            window[measure] = (max(lows, default=None), min(highs, default=None))
    return window


def _conditions(condition: Value, wanted: bool) -> list[tuple[Value, bool]]:
    if isinstance(condition, Apply) and condition.function == "not":
        return _conditions(condition.args[0], not wanted)
    if isinstance(condition, Apply) and condition.function == ("and" if wanted else "or"):
        return [part for arg in condition.args for part in _conditions(arg, wanted)]
    return [(condition, wanted)]


def unread(graph: Graph) -> list[tuple[Requirement, UnreadableBudget]]:
    """Budgets on a measure that is read from a file, where there is none, and what each of them lacks."""
    found = []
    for requirement in graph.requirements:
        missing = sorted(name for name in measures_of(requirement.condition) if not is_known(graph, name))
        if requirement.origin == "budget" and missing:
            found.append((requirement, _untold(requirement, missing[0])))
    return found


def _untold(requirement: Requirement, measure: str) -> UnreadableBudget:
    message = f"`{requirement.message}` needs a {measure} table, and none is given"
    return UnreadableBudget(message, measures.find(measure).made_with, requirement.span)


def _bound(condition: Value, wanted: bool) -> tuple[str, float | None, float | None]:
    """Measure, least and greatest value of a comparison, in the measure's unit."""
    if not isinstance(condition, Apply) or condition.function not in ("le", "lt", "eq"):
        raise ValueError("it is no comparison")
    if condition.function == "eq" and not wanted:
        raise ValueError("it leaves out a single value")
    (names, slope, constant), other = (_linear(arg) for arg in condition.args)
    slope, constant, names = slope - other[1], constant - other[2], names | other[0]
    if len(names) != 1 or not slope:
        raise ValueError("it does not bound one measure")
    (measure,) = names
    factor, measure = measures.base(measure)
    scale = measures.find(measure).scale
    limit = -constant / (factor * slope) * scale  # slope x (measure - limit) is compared with 0
    if condition.function == "eq":
        if limit.denominator != 1:
            raise ValueError("no whole number meets it")
        return measure, _in_units(int(limit), scale), _in_units(int(limit), scale)
    strict = (condition.function == "lt") is wanted
    if (slope > 0) is wanted:
        return measure, None, _in_units(math.ceil(limit) - 1 if strict else math.floor(limit), scale)
    return measure, _in_units(math.floor(limit) + 1 if strict else math.ceil(limit), scale), None


def _in_units(limit: int, scale: int) -> float:
    return limit if scale == 1 else limit / scale


def _linear(value: Value) -> tuple[frozenset[str], Fraction, Fraction]:
    """The measures of a value, the factor of the measure, and the constant."""
    if isinstance(value, Total):
        return frozenset((value.measure,)), Fraction(1), Fraction(0)
    if is_number(value):
        return frozenset(), Fraction(0), Fraction(value)
    if isinstance(value, Apply) and value.function == "add":
        parts = [_linear(arg) for arg in value.args]
        names = frozenset().union(*[part[0] for part in parts])
        if len(names) < 2:
            return names, sum((p[1] for p in parts), Fraction(0)), sum((p[2] for p in parts), Fraction(0))
        raise ValueError("it mixes measures")
    if isinstance(value, Apply) and value.function in ("mul", "div") and not decisions_of(value):
        moving = [arg for arg in value.args if isinstance(arg, Expr)]
        if len(moving) == 1 and (value.function == "mul" or not isinstance(value.args[1], Expr)):
            names, slope, constant = _linear(moving[0])
            factor = math.prod([Fraction(arg) for arg in value.args if not isinstance(arg, Expr)], start=Fraction(1))
            factor = 1 / factor if value.function == "div" else factor
            return names, slope * factor, constant * factor
    raise ValueError("it is not linear in a measure")


# --- draws ------------------------------------------------------------------------------------------------------------


class Within:
    """The architectures inside a window, each as likely to be drawn there as the diagram says: all equally, or as their
    assignments make them.

    Where the values that a cost takes are too many for exact tables, costs are rounded up: what is drawn always lies
    inside, but what lies so close to a bound that the rounded cost is outside is left out (see `covered`).

    Attributes:
        diagram: of all architectures.
        bounds: of the window, in whole numbers.
        share: of all architectures (of a hierarchical diagram: assignments), those that may be drawn.
        exact: whether that is all inside the window.

    Raises:
        Infeasible: the window is empty.
        TooWide: so many terms would be rounded that the rounded costs say little.
        ArgumentError: a measure that the diagram does not have.
    """

    def __init__(self, diagram: Diagram, window: Window):
        self.diagram = diagram
        self.bounds = bounds(diagram, window)
        self.exact = True
        self._log_share = 0.0
        self._groups: list[Groups] = []
        self._ends: list[int] = []
        self._by_blocks = False
        if self.bounds.columns and diagram.layers:
            self._prepare()

    def _prepare(self) -> None:
        """Tables for the layers or for their blocks, whichever draw faster; none where there are several measures."""
        diagram, wanted = self.diagram, self.bounds
        single = len(wanted.columns) == 1
        kept = MOST_KEPT if single else 4 * MOST_KEPT  # of several measures tables are kept of what fits alone

        blocks = diagram.blocks.layers
        ends = [part.start for part in diagram.blocks_in] + [len(blocks)]
        groups: list[Groups] = []
        if single:
            lattice = lattice_for(diagram, wanted, kept // (sum(layer.before for layer in diagram.layers) + 1))
            groups = _joined_groups(diagram, lattice)
        if not single or sum(map(work, groups)) > sum(map(work, lattice.groups)):
            # Of more states, so of fewer points.
            lattice = lattice_for(diagram, wanted, kept // (sum(block.before for block in blocks) + 1))
            groups, ends, self._by_blocks = lattice.groups, list(range(len(blocks) + 1)), True
        try:
            room = Completions(lattice, wanted, ends)
        except Infeasible as problem:
            raise Infeasible(f"{problem.message}; {least_alone(diagram, wanted)}") from None
        self.exact, self._lattice, self._room, self._log_share = lattice.exact, lattice, room, room.log_share
        self._groups, self._ends = groups, ends

    def rooms(self) -> tuple[Completions, list[Ints], list[int]]:
        """What fits at the boundaries between layers: the tables, of each layer [arcs, measures] the steps that arcs
        use up, and the numbers of these boundaries in the tables."""
        diagram = self.diagram
        shifts = [
            np.sum([self._lattice.shifts[block][arcs[:, place]] for place, block in enumerate(part)], axis=0)
            for part, arcs in zip(diagram.blocks_in, diagram.block_arcs, strict=True)
        ]
        return self._room, shifts, [part.start for part in diagram.blocks_in] + [len(diagram.blocks.layers)]

    @property
    def share(self) -> float:
        """Of all architectures, those that may be drawn; 0 where it is too small for floating point."""
        return math.exp(self._log_share)

    @property
    def error(self) -> int:
        """By how much less than a bound something may cost and yet be left out, of the first measure."""
        return 0 if self.exact else self._lattice.error[0]

    @cached_property
    def count(self) -> Tally:
        """How many architectures may be drawn."""
        if not self.bounds.columns or not self.diagram.layers:
            return Tally(self.diagram.total, 1.0, True)
        if self.exact:
            return count_between(self.diagram, self.bounds)
        return Tally(times(self.diagram.total, self._log_share), self.share, False)

    @cached_property
    def covered(self) -> float:
        """Of the architectures inside the window, at least this share may be drawn."""
        if self.exact:
            return 1.0
        lattice, wanted = self._lattice, self.bounds
        # Inside the window no rounded cost lies below it, and none above it by more than the error.
        high = [h + error for h, error in zip(wanted.high, lattice.error, strict=True)]
        wider = Lattice(self.diagram, wanted.columns, high, step=lattice.step, floors=lattice.floors)
        if lattice.theta:
            wider = wider.tilted(lattice.theta, lattice.axis)
        low = tuple(max(0, bound - error) for bound, error in zip(wanted.low, wider.error, strict=True))
        return math.exp(
            min(0.0, self._log_share - Completions(wider, Bounds(wanted.columns, low, tuple(high)), ()).log_share)
        )

    def draw(self, n: int, rng: np.random.Generator) -> Paths:
        """`n` independent architectures inside."""
        if not self._groups:
            return self.diagram.draw(n, rng)
        sampler = self._scan if n <= FEW or len(self.bounds.columns) > 1 else self._tables
        paths = np.empty((n, self.diagram.size), np.int32, order="F")
        for rows in chunks(n):
            arcs = sampler.draw(rows.stop - rows.start, rng)
            paths[rows] = self.diagram.through(arcs) if self._by_blocks else arcs
        return paths

    @cached_property
    def _scan(self) -> _Scan:
        return _Scan(self._groups, self._room, self._ends)

    @cached_property
    def _tables(self) -> BudgetSampler:
        return BudgetSampler(self._groups, self._ends, self._room)


def least_alone(diagram: Diagram, wanted: Bounds) -> str:
    """What the least of each bounded measure is, for people: `the least of each measure alone is macs 3, params 5`."""
    names = [diagram.measures[c] for c in wanted.columns]
    costs = [f"{name} {told_bound(diagram.least(name)[0], diagram.scales[name])}" for name in names]
    return "the least of each measure alone is " + ", ".join(costs)


def _joined_groups(diagram: Diagram, lattice: Lattice) -> list[Groups]:
    """Of each layer of the diagram: the costs of its arcs are the sums of those of its blocks, rounded as these are."""
    found = []
    for layer, part, arcs in zip(diagram.layers, diagram.blocks_in, diagram.block_arcs, strict=True):
        share: Any = 1.0
        shift: Any = 0
        for place, block in enumerate(part):
            share = share * lattice.shares(block)[arcs[:, place]]
            shift = shift + lattice.shifts[block][arcs[:, place]]
        found.append(grouped(layer, share, shift, apart=True))
    return found


class _Scan:
    """Draws arcs by adding up what fits behind them, for several measures."""

    def __init__(self, groups: Sequence[Groups], room: Completions, boundaries: Sequence[int]):
        self.groups, self.room, self.boundaries = groups, room, boundaries

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
        """[n, layers] arcs."""
        out = np.empty((n, len(self.groups)), np.int32, order="F")
        left = np.broadcast_to(self.room.left, (n, len(self.room.left))).copy()
        state: NDArray[Any] = np.zeros(n, np.int32)
        for number, groups in enumerate(self.groups):
            group = np.empty(n, np.int64)
            uniform = rng.random(n)
            for own in np.unique(state).tolist():
                rows = np.flatnonzero(state == own)
                group[rows] = scan(groups, own, left[rows], self.room, self.boundaries[number + 1], uniform[rows])
            out[:, number] = member(groups, group, rng.random(n))
            left -= groups.shift[group]
            state = groups.target[group]
        return out
