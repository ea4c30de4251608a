"""The values that costs can take, as the points of a lattice, and sums over all architectures by point.

Let b(s) be the least cost of what can follow on a state s. An arc from s to t of cost c then costs
r = c + b(t) - b(s) >= 0 more than need be, and an architecture costs the least of all plus the sum of its r. All r are
multiples of a *step*, and the distribution of what follows on s is, layer by layer from the last to the first,

    d_s(x) = sum over arcs from s to t of  share(arc) x d_t(x - r(arc)).

Where there are too many lattice points, the step is made larger and each r rounded: up for windows, so that nothing
outside seems to lie inside, else to the nearest point, so that errors cancel. How far off a cost may be is told.

Far from the mean, shares are too small for floating point: of 2^1000 architectures a budget may leave 2^500. There
the shares are *tilted*: each is multiplied by e^(-theta r) and scaled anew, so that what lies near the budget becomes
common. A factor e^(-theta x) on every sum x changes nothing in the odds between architectures of equal cost.

Where costs are rounded and nearly all architectures cost about the same, as with many prunable widths, the lattice is
laid over that part of the costs alone, so that its steps are small: b(s) is then a *floor*, which what follows on s
undercuts with a probability below e^-FORGOTTEN, and what does is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.engine.diagram import Diagram
from nasdsl.compiler.engine.levels import Floats, Ints, Layer, moments
from nasdsl.compiler.engine.limits import Infeasible, TooWide
from nasdsl.compiler.engine.shortest_paths import best_behind

Window: TypeAlias = Mapping[str, tuple[float | None, float | None]]
"""Of some measures the least and the greatest value allowed, in their units, both included; None for no bound."""

MOST_POINTS = 1 << 22  # of a lattice
MOST_ROUNDED = 1 << 19  # for each measure, where costs are rounded: more would cost time and tell little
MOST_WORK = 1 << 31  # multiplications for one distribution
MOST_SPACE = 1 << 25  # lattice points of all states between two layers
FORGOTTEN = 45.0
FAR = 20  # standard deviations from the mean beyond which shares are tilted
_PIECE = 1 << 13  # lattice points worked on at a time: they stay in the cache


# --- windows ----------------------------------------------------------------------------------------------------------


class Bounds(NamedTuple):
    """A window by columns of a diagram: `low` <= cost <= `high`, both within what the space has."""

    columns: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]


class CostEnds(Protocol):
    """What knows between which ends costs lie: a diagram, or one some of whose decisions are set."""

    @property
    def scales(self) -> Mapping[str, int]: ...
    def measure(self, name: str, /) -> int: ...
    def least(self, measure: str, /) -> tuple[int, Any]: ...
    def greatest(self, measure: str, /) -> tuple[int, Any]: ...


def bounds(diagram: CostEnds, window: Window) -> Bounds:
    """A window in whole numbers; measures that it does not bound are left out.

    Raises:
        Infeasible: no architecture lies inside, by one measure alone.
        ArgumentError: a measure that the diagram does not have, or a bound that is not a number.
    """
    found = []
    for name, (lower, upper) in window.items():
        column = diagram.measure(name)
        if lower is None and upper is None:
            continue
        if any(bound is not None and math.isnan(bound) for bound in (lower, upper)):
            raise ArgumentError(f"a bound of `{name}` is not a number")
        least, greatest, scale = diagram.least(name)[0], diagram.greatest(name)[0], diagram.scales[name]
        lower, upper = (whole_bound(bound, scale) for bound in (lower, upper))
        low = least if lower is None or lower <= least else math.ceil(min(lower, greatest + 1))
        high = greatest if upper is None or upper >= greatest else math.floor(max(upper, least - 1))
        if low > high:
            raise Infeasible(
                f"no architecture has {name} {_between(*(told_bound(bound, scale) for bound in (lower, upper)))}: "
                f"the cheapest has {told_bound(least, scale)}, the dearest {told_bound(greatest, scale)}"
            )
        found.append((column, low, high))
    columns, low_, high_ = zip(*found, strict=True) if found else ((), (), ())
    return Bounds(tuple(columns), tuple(low_), tuple(high_))


def whole_bound(bound: Any, scale: int) -> Any:
    """A bound in whole numbers, of which `scale` make one of its units; where only the rounding of floats keeps it from
    being one, that one."""
    if bound is None or scale == 1 or math.isinf(bound):
        return bound
    exact = Fraction(bound) * scale
    near = round(exact)
    return near if abs(exact - near) * 2**50 <= abs(near) else exact


def told_bound(bound: Any, scale: int) -> str:
    """A bound in whole numbers, for people."""
    if bound is None:
        return ""
    if scale == 1 and bound == int(bound):  # a number of a setting may be a float
        bound = int(bound)
    return f"{bound:,}" if scale == 1 else f"{float(bound) / scale:,.6g}"


def _between(lower: str, upper: str) -> str:
    if not lower or not upper:
        return f"of at most {upper}" if not lower else f"of at least {lower}"
    return f"between {lower} and {upper}"


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
        most: lattice points that can be afforded, by default MOST_POINTS.
        up: whether costs are rounded up rather than to the nearest point.
        step: as another lattice has it, rather than the smallest that can be afforded.
        floors: of each boundary and state, where the lattice of what follows begins, for one measure; by default the
            least that can follow.

    Attributes:
        layering: the blocks of the diagram.
        least: the least cost of each measure, where the lattice begins.
        step: between neighbouring points.
        shape: how many points lie up to `high`.
        cut: how many points are kept at any boundary.
        exact: whether no cost is rounded.
        up: whether costs were rounded up.
        error: a cost is off by at most so much.
        shifts: of each block, [arcs, measures] the costs of its arcs above what need be, in steps.
        theta, axis: of the tilt, for each step of one of the measures; 0 for none.

    Raises:
        TooWide: so many terms would be rounded that the rounded costs say little.
    """

    def __init__(
        self,
        diagram: Diagram,
        columns: Sequence[int],
        high: Sequence[int],
        most: int | None = None,
        up: bool = True,
        step: Sequence[int] | None = None,
        floors: Sequence[Ints] | None = None,
    ):
        self.layering, self.columns = diagram.blocks, tuple(columns)
        self.theta, self.axis = 0.0, 0
        layers = self.layering.layers
        self.floors, self.up = floors, up
        behind = [best_behind(layers, column) for column in columns] if floors is None else [floors]
        excess = [_excess(layer, number, columns, behind) for number, layer in enumerate(layers)]
        least = [int(best[0][0]) for best in behind]
        self.least = tuple(low + int(diagram.constants[c]) for low, c in zip(least, columns, strict=True))
        widest = [-int(best_behind(layers, column, -1)[0][0]) - low for column, low in zip(columns, least, strict=True)]
        span = [min(top - low, most) for top, low, most in zip(high, self.least, widest, strict=True)]
        own = [max(1, int(np.gcd.reduce([0, *(np.gcd.reduce(e[:, i]) for e in excess)]))) for i in range(len(columns))]
        if step is None:
            groups = sum(len(grouped(layer, np.ones(len(layer)), e)) for layer, e in zip(layers, excess, strict=True))
            states = max((layer.before for layer in layers), default=1)
            most = min(most or MOST_POINTS, MOST_WORK // max(groups, 1), MOST_SPACE // states)
            step = _steps(span, own, most if floors is None else most // 2, len(layers))
        self.step = tuple(step)
        self.exact = self.step == tuple(own)
        steps = np.array(self.step, np.int64)
        self.shifts: list[Ints] = [(e + (steps - 1 if up else steps // 2)) // steps for e in excess]
        rounded = [sum(bool((e[:, i] % s).any()) for e in excess) for i, s in enumerate(self.step)]
        most_off = [s - o if up else s // 2 for s, o in zip(self.step, own, strict=True)]
        self.error = tuple(number * off for number, off in zip(rounded, most_off, strict=True))
        # Rounding may lead beyond the greatest cost; where nothing is cut off, nothing shall be lost.
        beyond = [number if width == most else 0 for number, width, most in zip(rounded, span, widest, strict=True)]
        self.shape = tuple(width // s + 1 + b for width, s, b in zip(span, self.step, beyond, strict=True))
        # After a cheap beginning more may be left than at the start, measured from floors that did not count on it.
        self.cut = self.shape if floors is None else tuple(2 * size for size in self.shape)

    def shares(self, number: int) -> Floats:
        """Of what lies behind a state, the part behind each arc of a block that leaves it; tilted."""
        if not self.theta:
            return self.layering.shares(number)
        return self._tilted(number, self.theta, self.tilts)

    @cached_property
    def tilts(self) -> list[Floats]:
        """Of each boundary: the logarithm of what the tilt makes of the sum of all shares behind each state."""
        return self._tilts(self.theta)

    def tilted(self, theta: float, axis: int = 0) -> Lattice:
        """The same lattice with other shares."""
        other = copy(self)
        for name in ("groups", "tilts"):
            other.__dict__.pop(name, None)
        other.theta, other.axis = theta, axis
        return other

    def tilted_to(self, point: float, axis: int) -> Lattice:
        """The same lattice, with its shares tilted so that their mean lies at a point of an axis."""
        self = self.tilted(0.0, axis)
        sign = 1 if self._moments(0.0)[0] > point else -1
        low, high = 0.0, 1e-9
        while sign * (self._moments(sign * high)[0] - point) > 0 and high < 700:
            low, high = high, 2 * high
        for _ in range(40):
            middle = (low + high) / 2
            if sign * (self._moments(sign * middle)[0] - point) > 0:
                low = middle
            else:
                high = middle
        return self.tilted(sign * high, axis)

    def _moments(self, theta: float) -> tuple[float, float]:
        """Mean and standard deviation of what is above the least, in steps, under a tilt."""
        tilts = self._tilts(theta)
        shares = [self._tilted(number, theta, tilts) for number in range(len(self.shifts))]
        return moments(self.layering.layers, shares, [shift[:, self.axis] for shift in self.shifts])

    def reach(self) -> tuple[list[Ints], int]:
        """Floors for a lattice of one measure, and a cost that is exceeded as rarely as they are undercut.

        Of a sum x, P(x <= a) is at most e^(c a) x E(e^(-c x)) for every c > 0 (Chernoff). The expectation is that of
        a tilt by c, so a few of these tell for each state where nearly all that follows on it begins.
        """
        layers = self.layering.layers
        least = best_behind(layers, self.columns[0])
        _, std = self._moments(self.theta)
        floors: list[Floats] = [np.zeros(len(best)) for best in least]
        top = math.inf
        for number in (2, 3, 4.5, 6.5, 9, 12, 17, 25) if std > 0 else ():
            slope = number / std
            lower, upper = self._tilts(self.theta + slope), self._tilts(self.theta - slope)
            for floor, below, here in zip(floors, lower, self.tilts, strict=True):
                np.maximum(floor, (here - below - FORGOTTEN) / slope, out=floor)
            top = min(top, (float(upper[0][0] - self.tilts[0][0]) + FORGOTTEN) / slope)
        step = self.step[0]
        found = [best + step * np.floor(floor).astype(np.int64) for best, floor in zip(least, floors, strict=True)]
        return found, self.least[0] + step * math.ceil(top if std > 0 else 0)

    def _tilts(self, theta: float) -> list[Floats]:
        out: list[Floats] = [np.zeros(1)]
        for number, layer in reversed(list(enumerate(self.layering.layers))):
            terms = self._log_shares[number] - theta * self.shifts[number][:, self.axis] + out[-1][layer.target]
            out.append(np.logaddexp.reduceat(terms, layer.start[:-1]))
        return out[::-1]

    def _tilted(self, number: int, theta: float, tilts: Sequence[Floats]) -> Floats:
        layer = self.layering.layers[number]
        scale = tilts[number + 1][layer.target] - tilts[number][layer.source]
        share: Floats = np.exp(self._log_shares[number] - theta * self.shifts[number][:, self.axis] + scale)
        return share

    @cached_property
    def _log_shares(self) -> list[Floats]:
        behind = [weights.log2 for weights in self.layering.behind]
        return [
            (layer.weights.log2 + behind[k + 1][layer.target] - behind[k][layer.source]) * math.log(2)
            for k, layer in enumerate(self.layering.layers)
        ]

    @cached_property
    def groups(self) -> list[Groups]:
        """Of each block."""
        layers = enumerate(self.layering.layers)
        return [grouped(layer, self.shares(number), self.shifts[number], apart=True) for number, layer in layers]


def lattice_for(diagram: Diagram, wanted: Bounds, most: int | None = None, up: bool = True) -> Lattice:
    """The lattice that suits a window: tilted if the window lies far from the mean, and laid over the part that nearly
    all costs fall into, where that makes its steps smaller.

    Raises:
        TooWide: so many terms would be rounded that the rounded costs say little.
    """
    far = _far(diagram, wanted)

    def tilted(lattice: Lattice) -> Lattice:
        if far is None:
            return lattice
        axis, point = far
        return lattice.tilted_to((point - lattice.least[axis]) / lattice.step[axis], axis)

    whole = Lattice(diagram, wanted.columns, wanted.high, most, up)
    if whole.exact or len(wanted.columns) > 1:
        return tilted(whole)
    floors, top = tilted(Lattice(diagram, wanted.columns, wanted.high, most, up=False)).reach()
    part = Lattice(diagram, wanted.columns, [min(wanted.high[0], top)], most, up, floors=floors)
    return tilted(part if 2 * part.step[0] < whole.step[0] else whole)


def _far(diagram: Diagram, wanted: Bounds) -> tuple[int, int] | None:
    """The place of the measure whose window is farthest from the mean, and the end of the window that is nearer to it;
    None where all are near enough for floating point."""
    found: tuple[float, int, int] | None = None
    for axis, (column, low, high) in enumerate(zip(*wanted, strict=True)):
        mean, std = diagram.moments(diagram.measures[column])
        for point, away in ((high, mean - high), (low, low - mean)):
            if away > FAR * std and (found is None or away / std > found[0]):
                found = (away / std, axis, point)
    return None if found is None else found[1:]


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
            raise TooWide("the distribution of costs", int(limit / rest * (4 * layers) ** len(wide)), limit)
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
