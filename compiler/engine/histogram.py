"""How costs are distributed over all architectures."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.engine.completions import Completions
from nasdsl.compiler.engine.diagram import Diagram
from nasdsl.compiler.engine.lattice import Bounds, Lattice, Window, behind_states, bounds, lattice_for
from nasdsl.compiler.engine.levels import Floats, Ints, join
from nasdsl.compiler.engine.limits import Infeasible

COUNTED = 100  # exact counts are told up to 2^COUNTED architectures
LISTED = 1 << 16  # so many architectures are looked at one by one; on a lattice their costs may have to be rounded


class Tally(NamedTuple):
    """How many architectures, and which share of all; `exact` is false where costs were rounded, so that some at the
    edge may be on the wrong side, or where there are too many to tell their number to the last digit."""

    number: int
    share: float
    exact: bool


@dataclass(frozen=True)
class Distribution:
    """How a cost is distributed over all architectures.

    Attributes:
        values: those that occur, ascending.
        shares: of the architectures that have each value.
        exact: whether no cost was rounded.
        error: each value is off by at most so much; 0 where exact.
        least, greatest: of all costs, exactly.
        mean, std: exactly, but for floating point.
        total: how many architectures there are.
        counts: how many have each value, as high x 2^64 + low; None where the shares alone are known.
    """

    values: Ints
    shares: Floats
    exact: bool
    error: int
    least: int
    greatest: int
    mean: float
    std: float
    total: int
    counts: tuple[Ints, NDArray[np.uint64]] | None

    def count(self, number: int) -> int:
        """How many architectures have `values[number]`.

        Raises:
            ArgumentError: only shares are known.
        """
        if self.counts is None:
            raise ArgumentError("the distribution is known by shares, not by counts")
        high, low = self.counts
        return (int(high[number]) << 64) + int(low[number])

    def share_at_most(self, cost: float) -> float:
        """Of the architectures, those that cost at most so much."""
        return float(self._sums[np.searchsorted(self.values, cost, side="right")])

    @cached_property
    def _sums(self) -> Floats:
        return np.concatenate(([0.0], np.cumsum(self.shares)))

    def quantile(self, share: float) -> int:
        """The least cost such that at least this share of the architectures costs no more.

        Raises:
            ArgumentError: not a share.
        """
        if not 0 <= share <= 1:
            raise ArgumentError(f"a share lies between 0 and 1, and {share} does not")
        place = np.searchsorted(self._sums[1:], share * self._sums[-1] * (1 - 1e-13))  # but for rounding
        return int(self.values[min(int(place), len(self.values) - 1)])

    def histogram(self, bins: int) -> tuple[Floats, Floats]:
        """Edges [bins + 1] of equal bins over the range, and the share in each [bins]."""
        if bins < 1:
            raise ArgumentError("a histogram has at least one bin")
        width = self.greatest - self.least
        edges = np.linspace(self.least, self.greatest, bins + 1) if width else np.full(bins + 1, float(self.least))
        place = (self.values - self.least) * bins // max(width, 1)
        shares = np.bincount(place.clip(0, bins - 1), self.shares, bins)
        return edges.astype(np.float64), shares.astype(np.float64)


def distribution(diagram: Diagram, measure: str) -> Distribution:
    """How a measure is distributed over all architectures: exactly, where that is within reach."""
    column = diagram.measure(measure)
    least, greatest = diagram.least(measure)[0], diagram.greatest(measure)[0]
    lattice = lattice_for(diagram, Bounds((column,), (least,), (greatest,)), up=False)
    shares, counts = _density(diagram, lattice)
    points = np.flatnonzero(shares)
    mean, std = diagram.moments(measure)
    return Distribution(
        np.clip(lattice.least[0] + lattice.step[0] * points, least, greatest),
        shares[points],
        lattice.exact,
        lattice.error[0],
        least,
        greatest,
        mean,
        std,
        diagram.total,
        None if counts is None else (counts[0][points], counts[1][points]),
    )


def _density(diagram: Diagram, lattice: Lattice) -> tuple[Floats, tuple[Ints, NDArray[np.uint64]] | None]:
    """The share of the architectures at each point, and their number: the one that is equal to what a sum modulo 2^64
    says and closest to what the share says."""
    one = (1,) * len(lattice.shape)
    ((shares,),) = deque(behind_states(lattice.groups, np.ones(one), lattice.cut), maxlen=1)
    if not lattice.exact or diagram.total.bit_length() > COUNTED:
        return shares, None
    modulo = behind_states(lattice.groups, np.ones(one, np.uint64), lattice.shape, exactly=True)
    ((low,),) = deque(modulo, maxlen=1)
    high = np.rint((shares * float(diagram.total) - low) / 2.0**64).astype(np.int64)
    return shares, (high, low)


def count_within(diagram: Diagram, window: Window) -> Tally:
    """How many architectures lie inside a window.

    Where costs have to be rounded, to the nearest point of a lattice, some near a bound may be on the wrong side.

    Raises:
        Infeasible: none does, by one measure alone.
        TooWide: the measures together take too many values.
        ArgumentError: a measure that the diagram does not have.
    """
    return count_between(diagram, bounds(diagram, window))


def count_between(diagram: Diagram, wanted: Bounds) -> Tally:
    """As `count_within`, of bounds in whole numbers."""
    if not wanted.columns:
        return Tally(diagram.total, 1.0, True)
    if diagram.layers and diagram.total <= LISTED:
        return _listed(diagram, wanted)
    lattice = lattice_for(diagram, wanted, up=False)
    if not lattice.exact or lattice.theta or diagram.total.bit_length() > COUNTED:
        try:
            log_share = Completions(lattice, wanted, ()).log_share
        except Infeasible:
            return Tally(0, 0.0, lattice.exact)
        return Tally(times(diagram.total, log_share), math.exp(log_share), False)
    shares, counts = _density(diagram, lattice)
    assert counts is not None
    inside = tuple(
        slice(-(-(low - least) // step), None)
        for low, least, step in zip(wanted.low, lattice.least, lattice.step, strict=True)
    )
    high, low = counts[0][inside], counts[1][inside]
    count = (int(high.sum()) << 64) + (int((low >> 32).sum()) << 32) + int((low & 0xFFFFFFFF).sum())
    return Tally(count, float(shares[inside].sum()), True)


def _listed(diagram: Diagram, wanted: Bounds) -> Tally:
    """The same, one architecture after the other."""
    ways = join(diagram.layers)
    costs = ways.costs[:, wanted.columns] + diagram.constants[list(wanted.columns)]
    inside = ((costs >= wanted.low) & (costs <= wanted.high)).all(1)
    count = int(ways.weights.residue[inside].sum())
    return Tally(count, count / diagram.total, True)


def times(total: int, log_share: float) -> int:
    """A share, by its natural logarithm, of a number of any size."""
    exponent, fraction = divmod(log_share / math.log(2), 1)
    scaled = Fraction(2.0**fraction) * total
    return round(scaled / (1 << int(-exponent)) if exponent < 0 else scaled * (1 << int(exponent)))
