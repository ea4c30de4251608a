"""How costs are distributed over all architectures: sums by cost, on a lattice of the values that it can take.

Let b(s) be the least cost of what can follow on a state s. An arc from s to t of cost c then costs
r = c + b(t) - b(s) >= 0 more than need be, and an architecture costs the least of all plus the sum of its r. All r are
multiples of a *step*, and the distribution of what follows on s is, layer by layer from the last to the first,

    d_s(x) = sum over arcs from s to t of  share(arc) x d_t(x - r(arc)).

Where there are too many lattice points, the step is made larger and each r rounded up. Costs are then overestimated, by
less than a step for each rounded term, and that bound is told.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.engine.cheapest import best_behind
from nasdsl.compiler.engine.diagram import Diagram
from nasdsl.compiler.engine.layers import Floats, Ints, Layer, Layering
from nasdsl.compiler.engine.limits import Infeasible, TooWide

Window: TypeAlias = Mapping[str, tuple[float | None, float | None]]
"""Of some measures the least and the greatest value allowed, both included; None for no bound."""

MOST_POINTS = 1 << 22  # of a lattice
MOST_ROUNDED = 1 << 19  # for each measure, where costs are rounded: more would cost time and tell little
MOST_WORK = 1 << 31  # multiplications for one distribution
MOST_SPACE = 1 << 25  # lattice points of all states between two layers
COUNTED = 100  # exact counts are told up to 2^COUNTED architectures
_PIECE = 1 << 13  # lattice points worked on at a time: they stay in the cache


# --- windows ----------------------------------------------------------------------------------------------------------


class Bounds(NamedTuple):
    """A window by columns of a diagram: `low` <= cost <= `high`, both within what the space has."""

    columns: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]


def bounds(diagram: Diagram, window: Window) -> Bounds:
    """A window in whole numbers; measures that it does not bound are left out.

    Raises:
        Infeasible: no architecture lies inside, by one measure alone.
        ValueError: a measure that the diagram does not have, or a bound that is not a number.
    """
    found = []
    for name, (lower, upper) in window.items():
        column = diagram.measure(name)
        if lower is None and upper is None:
            continue
        if any(bound is not None and math.isnan(bound) for bound in (lower, upper)):
            raise ValueError(f"a bound of `{name}` is not a number")
        least, greatest = diagram.least(name)[0], diagram.greatest(name)[0]
        low = least if lower is None or lower <= least else math.ceil(min(lower, greatest + 1))
        high = greatest if upper is None or upper >= greatest else math.floor(max(upper, least - 1))
        if low > high:
            raise Infeasible(
                f"no architecture has {name} {_between(lower, upper)}: the cheapest has {least:,}, "
                f"the dearest {greatest:,}"
            )
        found.append((column, low, high))
    columns, low_, high_ = zip(*found, strict=True) if found else ((), (), ())
    return Bounds(tuple(columns), tuple(low_), tuple(high_))


def _between(lower: float | None, upper: float | None) -> str:
    if lower is None or upper is None:
        return f"of at most {upper:,}" if lower is None else f"of at least {lower:,}"
    return f"between {lower:,} and {upper:,}"


# --- lattice ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Groups:
    """The arcs of a layer that lead from the same state to the same at the same cost, group by group.

    Attributes:
        source, target: [groups] states, the sources ascending.
        shift: [groups, measures] cost above what need be, in steps.
        share: [groups] of the architectures behind the source, those behind the group.
        residue: [groups] how many joint values, modulo 2^64.
        arcs: [arcs] group after group; `first`: [groups + 1] where each begins there.
        start: [states + 1] the first group out of each state.
    """

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    shift: Ints
    share: Floats
    residue: NDArray[np.uint64]
    arcs: Ints
    first: Ints
    start: Ints

    def __len__(self) -> int:
        return len(self.source)


def grouped(layer: Layer, shares: Floats, shift: Ints, apart: bool = False) -> Groups:
    """Groups of arcs by source, target and shift; also by weight, if they are to be told `apart`."""
    keys: list[NDArray[Any]] = [layer.source, layer.target, *shift.T]
    if apart:
        keys += [layer.weights.mantissa, layer.weights.exponent]
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), np.bool_)
    new[:1] = True
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    first = np.flatnonzero(new)
    chosen = order[first]
    return Groups(
        layer.source[chosen],
        layer.target[chosen],
        shift[chosen],
        np.add.reduceat(shares[order], first),
        np.add.reduceat(layer.weights.residue[order], first),
        order,
        np.append(first, len(order)),
        np.searchsorted(layer.source[chosen], np.arange(layer.before + 1)).astype(np.int64),
    )


class Lattice:
    """Costs as whole numbers of steps above the least, one axis for each of some measures.

    Args:
        columns: of the measures.
        high: the greatest cost of interest of each, in units of cost.
        layering: whose layers' costs are summed, by default the blocks of the diagram.

    Attributes:
        least: the least cost of each measure, where the lattice begins.
        step: between neighbouring points.
        shape: how many points lie up to `high`.
        exact: whether no cost is rounded.
        error: a cost is overestimated by at most so much.
        shifts: of each layer, [arcs, measures] the costs of its arcs above what need be, in steps.

    Raises:
        TooWide: so many terms would be rounded that the rounded costs say little.
    """

    def __init__(self, diagram: Diagram, columns: Sequence[int], high: Sequence[int], layering: Layering | None = None):
        self.layering = diagram.blocks if layering is None else layering
        layers = self.layering.layers
        behind = [best_behind(layers, column) for column in columns]
        excess = [_excess(layer, number, columns, behind) for number, layer in enumerate(layers)]
        least = [int(best[0][0]) for best in behind]
        self.least = tuple(low + int(diagram.constants[c]) for low, c in zip(least, columns, strict=True))
        widest = [-int(best_behind(layers, column, -1)[0][0]) - low for column, low in zip(columns, least, strict=True)]
        span = [min(top - low, most) for top, low, most in zip(high, self.least, widest, strict=True)]
        step = [max(1, int(np.gcd.reduce([0, *(np.gcd.reduce(e[:, i]) for e in excess)]))) for i in range(len(columns))]
        groups = sum(len(grouped(layer, np.ones(len(layer)), e)) for layer, e in zip(layers, excess, strict=True))
        states = max((layer.before for layer in layers), default=1)
        limit = min(MOST_POINTS, MOST_WORK // max(groups, 1), MOST_SPACE // states)
        self.step = _steps(span, step, limit, len(layers))
        self.exact = self.step == tuple(step)
        self.shifts: list[Ints] = [-(-e // np.array(self.step, np.int64)) for e in excess]
        rounded = [sum(bool((e[:, i] % s).any()) for e in excess) for i, s in enumerate(self.step)]
        self.error = tuple(number * (s - own) for number, s, own in zip(rounded, self.step, step, strict=True))
        # Rounding may lead beyond the greatest cost; where nothing is cut off, nothing shall be lost.
        beyond = [number if width == most else 0 for number, width, most in zip(rounded, span, widest, strict=True)]
        self.shape = tuple(width // s + 1 + b for width, s, b in zip(span, self.step, beyond, strict=True))

    @cached_property
    def groups(self) -> list[Groups]:
        """Of each layer."""
        layers = enumerate(self.layering.layers)
        return [grouped(layer, self.layering.shares(number), self.shifts[number]) for number, layer in layers]


def _excess(layer: Layer, number: int, columns: Sequence[int], behind: Sequence[Sequence[Ints]]) -> Ints:
    """[arcs, measures]: what each arc costs above what need be."""
    excess = [
        layer.costs[:, column] + best[number + 1][layer.target] - best[number][layer.source]
        for column, best in zip(columns, behind, strict=True)
    ]
    return np.stack(excess, axis=1) if excess else np.zeros((len(layer), 0), np.int64)


def _steps(span: Sequence[int], step: Sequence[int], limit: int, layers: int) -> tuple[int, ...]:
    """Steps that leave at most `limit` points: the exact ones if possible, else larger ones, axes of like length."""
    found = list(step)
    if math.prod(width // s + 1 for width, s in zip(span, step, strict=True)) > limit:
        limit = min(limit, MOST_ROUNDED * len(step))
    wide = list(range(len(step)))
    while math.prod(width // s + 1 for width, s in zip(span, found, strict=True)) > limit:
        rest = limit / math.prod(span[i] // found[i] + 1 for i in range(len(step)) if i not in wide)
        length = max(1, int(rest ** (1 / len(wide))))
        fine = [i for i in wide if span[i] // step[i] + 1 <= length]
        if fine:  # these axes are short enough as they are
            wide = [i for i in wide if i not in fine]
            continue
        if length < 4 * layers:
            raise TooWide("the distribution of costs", layers * length, limit)
        for i in wide:
            found[i] = step[i] * -(-span[i] // ((length - 1) * step[i]))
        break
    return tuple(found)


def behind_states(
    groups: Sequence[Groups], end: NDArray[Any], shape: Sequence[int], exactly: bool = False
) -> Iterator[list[NDArray[Any]]]:
    """Of each boundary between layers, the last one first: how the costs of what follows on each state are distributed.

    Args:
        groups: of each layer.
        end: of nothing at all; one point of weight 1 for a distribution. A box gives sums over a window.
        shape: points beyond are left out.
        exactly: numbers of architectures modulo 2^64 instead of shares.
    """
    behind = [end]
    yield behind
    for layer in reversed(groups):
        weights = layer.residue if exactly else layer.share
        behind = [
            _shifted_sum(layer, weights, slice(first, last), behind, shape)
            for first, last in zip(layer.start[:-1].tolist(), layer.start[1:].tolist(), strict=True)
        ]
        yield behind


def _shifted_sum(
    groups: Groups, weights: NDArray[Any], part: slice, behind: Sequence[NDArray[Any]], shape: Sequence[int]
) -> NDArray[Any]:
    shifts = groups.shift[part].tolist()
    terms = [behind[target] for target in groups.target[part].tolist()]
    lengths = [
        min(most, max(shift[axis] + term.shape[axis] for shift, term in zip(shifts, terms, strict=True)))
        for axis, most in enumerate(shape)
    ]
    out = np.zeros(lengths, terms[0].dtype)
    rows = max(1, _PIECE // math.prod(lengths[1:]))
    for low in range(0, lengths[0], rows):
        for shift, term, weight in zip(shifts, terms, weights[part], strict=True):
            first = max(low, shift[0])
            last = min(low + rows, lengths[0], shift[0] + len(term))
            if first < last:
                here = [slice(first, last)]
                there = [slice(first - shift[0], last - shift[0])]
                for axis in range(1, len(shape)):
                    size = min(term.shape[axis], lengths[axis] - shift[axis])
                    here.append(slice(shift[axis], shift[axis] + max(size, 0)))
                    there.append(slice(0, max(size, 0)))
                out[tuple(here)] += term[tuple(there)] * weight
    return out


# --- distribution -----------------------------------------------------------------------------------------------------


class Tally(NamedTuple):
    """How many architectures, and which share of all; `exact` is false where costs were rounded up, so that some at the
    edge were left out, or where there are too many to tell their number to the last digit."""

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
        error: values are too large by at most so much; 0 where exact.
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
            ValueError: only shares are known.
        """
        if self.counts is None:
            raise ValueError("the distribution is known by shares, not by counts")
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
            ValueError: not a share.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a share lies between 0 and 1, and {share} does not")
        place = np.searchsorted(self._sums[1:], share * self._sums[-1] * (1 - 1e-13))  # but for rounding
        return int(self.values[min(int(place), len(self.values) - 1)])

    def histogram(self, bins: int) -> tuple[Floats, Floats]:
        """Edges [bins + 1] of equal bins over the range, and the share in each [bins]."""
        if bins < 1:
            raise ValueError("a histogram has at least one bin")
        width = self.greatest - self.least
        edges = np.linspace(self.least, self.greatest, bins + 1) if width else np.full(bins + 1, float(self.least))
        place = (self.values - self.least) * bins // max(width, 1)
        shares = np.bincount(place.clip(0, bins - 1), self.shares, bins)
        return edges.astype(np.float64), shares.astype(np.float64)


def distribution(diagram: Diagram, measure: str) -> Distribution:
    """How a measure is distributed over all architectures: exactly, where that is within reach."""
    column = diagram.measure(measure)
    least, greatest = diagram.least(measure)[0], diagram.greatest(measure)[0]
    lattice = Lattice(diagram, [column], [greatest])
    shares, counts = _density(diagram, lattice)
    points = np.flatnonzero(shares)
    mean, std = moments(diagram, column)
    return Distribution(
        lattice.least[0] + lattice.step[0] * points,
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
    ((shares,),) = deque(behind_states(lattice.groups, np.ones(one), lattice.shape), maxlen=1)
    if not lattice.exact or diagram.total.bit_length() > COUNTED:
        return shares, None
    modulo = behind_states(lattice.groups, np.ones(one, np.uint64), lattice.shape, exactly=True)
    ((low,),) = deque(modulo, maxlen=1)
    high = np.rint((shares * float(diagram.total) - low) / 2.0**64).astype(np.int64)
    return shares, (high, low)


def moments(diagram: Diagram, column: int) -> tuple[float, float]:
    """Mean and standard deviation of a cost."""
    layering = diagram.layering
    mean: NDArray[Any] = np.zeros(1)
    variance: NDArray[Any] = np.zeros(1)
    for number, layer in reversed(list(enumerate(layering.layers))):
        share = layering.shares(number)
        cost = layer.costs[:, column] + mean[layer.target]
        mean = np.bincount(layer.source, share * cost, layer.before)
        spread = (cost - mean[layer.source]) ** 2 + variance[layer.target]
        variance = np.bincount(layer.source, share * spread, layer.before)
    return float(mean[0]) + int(diagram.constants[column]), math.sqrt(float(variance[0]))


def count_within(diagram: Diagram, window: Window) -> Tally:
    """How many architectures lie inside a window.

    Where costs have to be rounded those within `Lattice.error` of a bound may be left out, never one outside counted.

    Raises:
        Infeasible: none does, by one measure alone.
        TooWide: the measures together take too many values.
        ValueError: a measure that the diagram does not have.
    """
    wanted = bounds(diagram, window)
    if not wanted.columns:
        return Tally(diagram.total, 1.0, True)
    lattice = Lattice(diagram, wanted.columns, wanted.high)
    shares, counts = _density(diagram, lattice)
    inside = tuple(
        slice(max(0, -(-(low + error - least) // step)) if low > least else 0, None)
        for low, least, step, error in zip(wanted.low, lattice.least, lattice.step, lattice.error, strict=True)
    )
    share = float(shares[inside].sum())
    if counts is None:
        return Tally(round(Fraction(share) * diagram.total), share, False)
    high, low = counts[0][inside], counts[1][inside]
    count = (int(high.sum()) << 64) + (int((low >> 32).sum()) << 32) + int((low & 0xFFFFFFFF).sum())
    return Tally(count, share, True)
