"""A diagram under pins, which change one at a time: what is left of the space is told at once.

The chain of decisions falls apart where a single state stands between two of them: costs of the *parts* add up, numbers
of architectures multiply. A pin changes one part, of few decisions; what was found of the others is kept.

Of an arc from s to t in the layer of a decision, let f(s) be the least cost of the ways that lead to s and b(t) that of
those that lead on from t, both under the pins. The cheapest architecture through the arc costs f(s) + c + b(t). As
neither f nor b has passed the arc's own layer, this also says what the other values of a pinned decision would cost if
it was free again, under all other pins.

The distribution of a sum over the parts is the product of their spectra (the discrete Fourier transforms of their
distributions over a circle of POINTS points, which is so long that next to nothing laps round it). Products of
neighbouring parts are kept in a tree, so that a pin renews a few of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.engine.compile_diagram import prune
from nasdsl.compiler.engine.diagram import Diagram, encoded, ways_behind
from nasdsl.compiler.engine.eliminate import COUNT, product
from nasdsl.compiler.engine.histogram import Distribution
from nasdsl.compiler.engine.lattice import behind_states, grouped
from nasdsl.compiler.engine.levels import Floats, Ints, Layer, Layering, Weights, moments
from nasdsl.compiler.engine.limits import Infeasible
from nasdsl.compiler.engine.shortest_paths import best_behind
from nasdsl.compiler.values.plain import ABSENT

POINTS = 1 << 13
"""Of the circle that costs are laid over."""
DEVIATIONS = 24
"""Standard deviations that the circle has to hold, where it does not hold all costs."""
MOST_WORK = 1 << 26
"""Multiplications for the distribution of a part; where there are more, there is none."""
MOST_KEPT = 4096
"""Spectra, and parts under pins, that are kept."""
NOISE = 1e-15
"""Shares below are rounding."""
Pins: TypeAlias = tuple[tuple[int, tuple[int, ...]], ...]
"""Of some decisions, by number, how many values each of their cells has left."""

Limits: TypeAlias = tuple[Sequence[int], Sequence[float], Sequence[float]]
"""Columns of measures, and of each the least and the greatest cost allowed; infinite for no bound."""


class Conditioned:
    """A diagram, ready for pins.

    Args:
        diagram: of architectures, each as likely as any other.
    """

    def __init__(self, diagram: Diagram):
        self.diagram = diagram
        links = diagram.chain.layers
        ends = [0] + [i + 1 for i, link in enumerate(links) if link.after == 1]
        self.parts = [_Part(diagram, links[a:b]) for a, b in pairwise(ends)]
        self.home = {link.decisions[0]: n for n, part in enumerate(self.parts) for link in part.layers}
        self.number = diagram.network.index
        self._spectra: dict[Any, NDArray[np.complex128] | None] = {}

    def under(self, values: Mapping[str, Any], narrowed: Mapping[str, Sequence[int]] | None = None) -> Under:
        """What is left where decisions have these values wherever they are there.

        Args:
            values: by path, as `pin` takes them: an option's index, a tuple of units or items, an order.
            narrowed: by path of a choice: the options that stay.

        Raises:
            ArgumentError: no decision of that path, or none of its values.
        """
        pins: dict[int, tuple[int, ...]] = {}
        fixed: dict[int, NDArray[Any]] = {}
        for path, options in (narrowed or {}).items():
            number, counts = self._cells(path)
            pins[number] = tuple(n if own is None or own in options else 0 for own, n in counts)
        for path, value in values.items():
            number, counts = self._cells(path)
            row, cell = self._located(number, value)
            pins[number] = tuple(1 if own is None or i == cell else 0 for i, (own, _) in enumerate(counts))
            fixed[number] = row
        of: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in self.parts]
        for number in sorted(pins):
            of[self.home[number]].append((number, pins[number]))
        return Under(self, [part.under(tuple(own)) for part, own in zip(self.parts, of, strict=True)], fixed)

    def _cells(self, path: str) -> tuple[int, list[tuple[Any, int]]]:
        """The number of a decision, and of each of its cells its value, None for absence, and its size."""
        number = self.number.get(path)
        if number is None:
            raise ArgumentError(f"the space has no decision `{path}`")
        cells = self.diagram.network.variables[number].cells
        return number, [(None if cell.value is ABSENT else cell.value, cell.count) for cell in cells]

    def _located(self, number: int, value: Any) -> tuple[NDArray[Any], int]:
        """A value as columns of the encoding, and its cell."""
        decision = self.diagram.network.variables[number].decision
        assert decision is not None
        row = encoded(decision, value, self.diagram.encoding.dtype)
        cell = int(self.diagram.inside(number).locate(row[None])[0])
        if cell < 0:
            raise ArgumentError(f"`{decision.path}` has no value {value}")
        return row, cell

    def spectrum(self, parts: Sequence[_Pinned], column: int, step: int) -> NDArray[np.complex128] | None:
        """Of the sum of the costs of parts; None where all have one cost.

        Raises:
            OverflowError: the distribution of a part is too much work.
        """
        if len(self._spectra) > MOST_KEPT:
            self._spectra.clear()
        return self._product(parts, 0, len(parts), column, step)

    def _product(
        self, parts: Sequence[_Pinned], first: int, last: int, column: int, step: int
    ) -> NDArray[np.complex128] | None:
        key = (column, step, first, *[part.pins for part in parts[first:last]])
        if key in self._spectra:
            return self._spectra[key]
        if last - first <= 1:
            found = None
            if first < last and parts[first].least[column] < parts[first].greatest[column]:
                found = np.fft.rfft(parts[first].distribution(column, step))
        else:
            middle = (first + last) // 2
            one = self._product(parts, first, middle, column, step)
            other = self._product(parts, middle, last, column, step)
            found = one if other is None else other if one is None else one * other
        self._spectra[key] = found
        return found


@dataclass(frozen=True)
class _Index:
    """Of a layer, how its arcs are ordered by target and by cell, and where each of these begins."""

    by_target: Ints
    targets: Ints
    by_cell: Ints
    cells: Ints
    at: Ints

    @classmethod
    def of(cls, layer: Layer) -> _Index:
        by_target = np.argsort(layer.target, kind="stable")
        _, targets = np.unique(layer.target[by_target], return_index=True)
        by_cell = np.argsort(layer.cells[:, 0], kind="stable")
        cells, at = np.unique(layer.cells[by_cell, 0], return_index=True)
        return cls(by_target, targets, by_cell, cells.astype(np.int64), at)


class _Part:
    """Consecutive layers between single states, and what was found of them under pins.

    Attributes:
        prices: of each layer [arcs, 1 + 2 x measures]: zeros, each cost, and each cost times -1. The least sum of the
            zeros tells whether there is a way at all.
        units: of each measure what all differences between costs are multiples of; 0 where there are none.
    """

    def __init__(self, diagram: Diagram, layers: Sequence[Layer]):
        self.diagram, self.layers = diagram, list(layers)
        self.index = [_Index.of(layer) for layer in layers]
        self.prices: list[Floats] = [
            np.concatenate((np.zeros((len(layer), 1)), layer.costs, -layer.costs), axis=1) for layer in layers
        ]
        self.counts = [[cell.count for cell in self._variable(layer).cells] for layer in layers]
        self._known: dict[Pins, _Pinned] = {}

    def _variable(self, layer: Layer) -> Any:
        return self.diagram.network.variables[layer.decisions[0]]

    def under(self, pins: Pins) -> _Pinned:
        if pins not in self._known:
            if len(self._known) > MOST_KEPT:
                self._known.clear()
            self._known[pins] = _Pinned(self, pins)
        return self._known[pins]

    @cached_property
    def units(self) -> list[int]:
        found = []
        for column in range(len(self.diagram.measures)):
            behind = best_behind(self.layers, column)
            excess = [_excess(layer, column, *behind[i : i + 2]) for i, layer in enumerate(self.layers)]
            found.append(int(np.gcd.reduce([0, *(int(np.gcd.reduce(e)) for e in excess)])))
        return found


def _excess(layer: Layer, column: int, before: Ints, after: Ints) -> Ints:
    """[arcs]: what each costs above what need be."""
    found: Ints = layer.costs[:, column] + after[layer.target] - before[layer.source]
    return found


@dataclass
class _Pinned:
    """A part under pins.

    Attributes:
        ways: how many ways lead through.
        ends: [1 + 2 x measures] the least of each price; infinite where there is no way.
        through: of each decision, by number, [cells, 1 + 2 x measures] the least of each price through each cell, were
            the decision free.
    """

    part: _Part
    pins: Pins
    ends: Floats = field(init=False)
    through: dict[int, Floats] = field(init=False)

    def __post_init__(self) -> None:
        part, pinned = self.part, dict(self.pins)
        self._counts = [
            list(pinned.get(layer.decisions[0], own)) for layer, own in zip(part.layers, part.counts, strict=True)
        ]
        self._kept = [
            np.array([n > 0 for n in counts])[layer.cells[:, 0]] if layer.decisions[0] in pinned else None
            for layer, counts in zip(part.layers, self._counts, strict=True)
        ]
        width = 1 + 2 * len(part.diagram.measures)
        behind: list[Floats] = [np.zeros((1, width))]
        for layer, prices, kept in zip(part.layers[::-1], part.prices[::-1], self._kept[::-1], strict=True):
            behind.append(np.minimum.reduceat(_left(prices + behind[-1][layer.target], kept), layer.start[:-1]))
        behind.reverse()
        before: Floats = np.zeros((1, width))
        self.through = {}
        for n, (layer, prices, kept, index) in enumerate(
            zip(part.layers, part.prices, self._kept, part.index, strict=True)
        ):
            spent = before[layer.source] + prices
            whole = spent + behind[n + 1][layer.target]
            found: Floats = np.full((len(self._counts[n]), width), np.inf)
            found[index.cells] = np.minimum.reduceat(whole[index.by_cell], index.at)
            self.through[layer.decisions[0]] = found
            before = np.minimum.reduceat(_left(spent, kept)[index.by_target], index.targets)
        self.ends = behind[0][0]

    @property
    def least(self) -> Floats:
        return self.ends[1 : 1 + len(self.part.diagram.measures)]

    @property
    def greatest(self) -> Floats:
        return -self.ends[1 + len(self.part.diagram.measures) :]

    @cached_property
    def _thin(self) -> tuple[list[Layer], list[list[int]]]:
        """The layers with the arcs that are left, and of each boundary how many ways lead on from its states."""
        part = self.part
        layers = [layer if kept is None else layer[kept] for layer, kept in zip(part.layers, self._kept, strict=True)]
        counts = []
        for i, (layer, own) in enumerate(zip(layers, self._counts, strict=True)):
            if layer.decisions[0] in dict(self.pins):
                layers[i] = Layer(
                    layer.decisions, layer.cells, layer.source, layer.target, layer.costs,
                    Weights.of(own)[layer.cells[:, 0]], layer.before, layer.after,
                )  # fmt: skip
            counts.append([n or 1 for n in own])  # arcs of none are gone
        if any(kept is not None for kept in self._kept):
            layers = prune(layers)
        return layers, ways_behind(layers, counts)

    @property
    def ways(self) -> int:
        if self.ends[0] == np.inf:
            return 0
        return self._thin[1][0][0]

    @cached_property
    def layering(self) -> Layering:
        """Of a part that has a way."""
        layers, behind = self._thin
        return Layering(layers, [Weights.of(numbers) for numbers in behind])

    @property
    def behind(self) -> list[list[int]]:
        return self._thin[1]

    @cached_property
    def _shares(self) -> list[Floats]:
        return [self.layering.shares(number) for number in range(len(self.layering.layers))]

    @cached_property
    def moments(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of each measure."""
        layers = self.layering.layers
        columns = range(len(self.part.diagram.measures))
        return [moments(layers, self._shares, [layer.costs[:, column] for layer in layers]) for column in columns]

    def distribution(self, column: int, step: int) -> Floats:
        """[POINTS]: the shares of costs, in steps above the least, on the circle.

        Raises:
            OverflowError: it is too much work.
        """
        layers = self.layering.layers
        behind = best_behind(layers, column)
        shifts = []
        for i, layer in enumerate(layers):
            excess = _excess(layer, column, *behind[i : i + 2])
            shifts.append((excess + step // 2) // step)
        if len(layers) == 1:
            found: Floats = np.bincount(shifts[0] % POINTS, self._shares[0], POINTS).astype(np.float64)
            return found
        groups = [
            grouped(layer, share, shift[:, None])
            for layer, share, shift in zip(layers, self._shares, shifts, strict=True)
        ]
        length = int(self.greatest[column] - self.least[column]) // step + len(layers) + 1
        if length * sum(map(len, groups)) > MOST_WORK:
            raise OverflowError
        ((shares,),) = deque(behind_states(groups, np.ones(1), (length,)), maxlen=1)
        return np.bincount(np.arange(len(shares)) % POINTS, shares, POINTS).astype(np.float64)


def _left(prices: Floats, kept: NDArray[np.bool_] | None) -> Floats:
    return prices if kept is None else np.where(kept[:, None], prices, np.inf)


class Under:
    """A space under pins.

    Attributes:
        total: how many architectures are left, budgets left out.
    """

    def __init__(self, base: Conditioned, parts: Sequence[_Pinned], fixed: Mapping[int, NDArray[Any]]):
        self.base, self.parts, self._fixed = base, list(parts), dict(fixed)
        self._constants = base.diagram.constants
        self._measures = base.diagram.measures
        self._others: dict[int, Floats] = {}
        self._ends = np.array([part.ends for part in parts]).reshape(len(parts), 1 + 2 * len(self._measures))

    @cached_property
    def total(self) -> int:
        return int(product([part.ways for part in self.parts], COUNT))

    @property
    def empty(self) -> bool:
        return bool((self._ends[:, 0] == np.inf).any())

    @cached_property
    def _sums(self) -> Floats:
        return self._ends.sum(axis=0)

    def least(self, measure: str) -> int:
        """Of what is left, which must not be nothing."""
        column = self.base.diagram.measure(measure)
        return int(self._sums[1 + column]) + int(self._constants[column])

    def greatest(self, measure: str) -> int:
        column = self.base.diagram.measure(measure)
        return -int(self._sums[1 + len(self._measures) + column]) + int(self._constants[column])

    def ranges(self, path: str) -> Floats:
        """[cells, 1 + 2 x measures]: of each cell of a decision, were it free while all other pins stand, 0 where some
        architecture has it, else infinity; the least of each measure; and the greatest of each, times -1."""
        number = self.base.number[path]
        home = self.base.home[number]
        if home not in self._others:
            others = self._ends.sum(axis=0, where=(np.arange(len(self.parts)) != home)[:, None])
            others[1:] += np.concatenate((self._constants, -self._constants))
            self._others[home] = others
        found: Floats = self.parts[home].through[number] + self._others[home]
        return found

    def cells(self, path: str) -> list[Any]:
        """Of a decision, as `ranges` tells of them."""
        return self.base.diagram.network.variables[self.base.number[path]].cells

    def possible(self, ranges: Floats, limits: Limits) -> NDArray[np.bool_]:
        """[cells]: of which `ranges` says that some architecture has them, and one inside each of the bounds, each by
        itself."""
        fine: NDArray[np.bool_] = ranges[:, 0] == 0
        for column, low, high in zip(*limits, strict=True):
            fine &= (ranges[:, 1 + column] <= high) & (-ranges[:, 1 + len(self._measures) + column] >= low)
        return fine

    def spread(self, measure: str) -> Distribution | None:
        """How a measure is distributed over what is left; None where that is too much work."""
        column = self.base.diagram.measure(measure)
        least, greatest = self.least(measure), self.greatest(measure)
        means, deviations = zip(*(part.moments[column] for part in self.parts), strict=True) if self.parts else ((), ())
        mean, std = sum(means) + float(self._constants[column]), math.hypot(*deviations)
        unit = max(1, math.gcd(*(part.units[column] for part in self.base.parts)))
        step, wide = unit, min(greatest - least, math.ceil(DEVIATIONS * std))
        # Rounding may lead beyond the greatest cost, by half a step for each layer.
        room = POINTS - (0 if greatest - least < unit * POINTS else len(self.base.home) // 2 + 1)
        while wide // step >= room:
            step *= 2
        try:
            spectrum = self.base.spectrum(self.parts, column, step)
        except OverflowError:
            return None
        if spectrum is None:
            shares, first = np.ones(1), 0
        else:
            circle = np.fft.irfft(spectrum, POINTS)
            reach = (greatest - least) // step
            first = 0 if reach < room else max(0, round((mean - least) / step) - POINTS // 2)
            shares = np.roll(circle, -(first % POINTS))
        points = np.flatnonzero(shares > NOISE)
        shares = shares[points] / shares[points].sum()
        exact = step == unit and greatest - least < step * POINTS
        values = least + step * (first + points)
        if not exact:  # halves were all rounded up
            values = values + round(mean - float(values @ shares))
        values = np.clip(values, least, greatest)
        error = 0 if exact else step * (len(self.base.home) // 2 + 1)
        return Distribution(values, shares, exact, error, least, greatest, mean, std, self.total, None)

    @cached_property
    def diagram(self) -> Diagram:
        """Of what is left; draws give pinned decisions their values.

        Raises:
            Infeasible: nothing is.
        """
        if self.empty:
            raise Infeasible("no architecture meets all requirements under these pins")
        layers = [layer for part in self.parts for layer in part.layering.layers]
        behind: list[list[int]] = [[1]]
        for part in reversed(self.parts):
            behind[:0] = [[n * behind[0][0] for n in numbers] for numbers in part.behind[:-1]]
        return self.base.diagram.restricted(layers, behind, self._fixed)
