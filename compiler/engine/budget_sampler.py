"""Draws inside a window in constant time a layer, without rejection.

With b steps left in a state s, an arc c to a state t is to be drawn in proportion to share(c) x T_t(b - r(c)), where
T_t tells how much fits behind t. To add up all arcs for every row would take thousands of steps. So all b of a state
are cut into *buckets*, so narrow that T hardly changes inside. For each there is a table of minorants,

    m(c) = share(c) x  min of T_t(b' - r(c)) over all b' of the bucket,

and the weights fall apart into m and a small rest. With probability sum(m) / T_s(b) the arc comes from the table, in
constant time; else it comes from the rest, by adding up, which few rows need. That is a mixture, not a rejection: every
random number leads to an arc, and its odds are exact.

Buckets are narrow where many rows come by. If p(x) is how many do, over x = log T, then N buckets lose least where
their density goes with sqrt(p).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.engine.alias import Alias
from nasdsl.compiler.engine.completions import Completions, member, scan
from nasdsl.compiler.engine.lattice import Groups
from nasdsl.compiler.engine.levels import Floats, Ints, spread

MOST_ENTRIES = 1 << 21  # in the tables of one layer
ALL_ENTRIES = 1 << 22  # in the tables of all
_CELLS = 1 << 12  # into which log T is cut to see how many rows come by


def buckets(groups: int) -> int:
    """So many buckets are worth their while where a state has so many groups."""
    return int(np.clip(4 * groups, 64, _CELLS))


def work(groups: Groups, entries: int = MOST_ENTRIES) -> float:
    """About so many nanoseconds a row and layer: some in any case, and all groups for the share that buckets leave."""
    count = np.diff(groups.start)
    number = min(entries * len(count) / count.sum(), buckets(int(count.max())))
    return float(100 + 10 * count.max() * min(1.0, 4 / number))


class BudgetSampler:
    """Draws the arcs of some layers inside a window of one measure.

    Args:
        groups: of the arcs of each layer, those of different weight apart.
        boundaries: of the tables of `room`, before each layer and after the last.
    """

    def __init__(self, groups: Sequence[Groups], boundaries: Sequence[int], room: Completions):
        self.groups, self.boundaries, self.room = groups, boundaries, room
        entries = min(MOST_ENTRIES, ALL_ENTRIES // max(1, len(groups) - 2))  # the first and the last need few
        first = groups[0]
        left = int(room.left[0])
        weights = first.share * room.at(boundaries[1], first.target, room.left - first.shift)
        self._first = Alias(weights, first.start)
        come = self._arrive(1, first, weights / weights.sum(), np.full(len(first), left))
        self._layers: list[_Buckets | _Last] = []
        for number in range(1, len(groups)):
            if number == len(groups) - 1 and _Last.suits(groups[number]) and not room.lattice.theta:
                self._layers.append(_Last(groups[number], boundaries[number], room))
                continue
            buckets = _Buckets(groups[number], boundaries[number], boundaries[number + 1], room, come, entries)
            self._layers.append(buckets)
            come = self._arrive(number + 1, groups[number], *buckets.sent(come))

    def _arrive(self, number: int, groups: Groups, odds: Floats, left: Ints, group: Any = slice(None)) -> Floats:
        """How often rows come by each entry of the tables of a boundary, where groups are taken with some odds."""
        boundary = self.boundaries[number]
        place = self.room.place(boundary, groups.target[group], left[:, None] - groups.shift[group])
        return np.bincount(place, odds, len(self.room.table(boundary)[0])).astype(np.float64)

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
        """[n, layers] arcs."""
        out = np.empty((n, len(self.groups)), np.int32, order="F")
        group = self._first.pick(0, rng.random(n))
        left = self.room.left[0] - self.groups[0].shift[group, 0]
        state = self.groups[0].target[group]
        out[:, 0] = member(self.groups[0], group, rng.random(n))
        for number, layer in enumerate(self._layers, start=1):
            groups = self.groups[number]
            if isinstance(layer, _Last):
                out[:, number] = layer.draw(state, left, rng)
                break
            group = layer.draw(state, left, rng)
            out[:, number] = member(groups, group, rng.random(n))
            left -= groups.shift[group, 0]
            state = groups.target[group]
        return out


class _Last:
    """The last layer, where all arcs weigh the same: those that fit are a range of them in the order of cost."""

    def __init__(self, groups: Groups, boundary: int, room: Completions):
        _, offset, length = room.table(boundary)
        self.room, self.boundary = room, boundary
        self.first = np.zeros(int((offset + length)[-1]), np.int64)
        self.number = np.zeros(len(self.first), np.int64)
        shift = np.repeat(groups.shift[:, 0], np.diff(groups.first))
        source = np.repeat(groups.source, np.diff(groups.first))
        order = np.lexsort((shift, source))
        self.arcs = groups.arcs[order]
        shift, source = shift[order], source[order]
        for state, (start, size) in enumerate(zip(offset.tolist(), length.tolist(), strict=True)):
            low, high = np.searchsorted(source, [state, state + 1])
            left = np.arange(size) - 1
            top = np.searchsorted(shift[low:high], left, side="right")
            bottom = 0 if room.width is None else np.searchsorted(shift[low:high], left - room.width, side="left")
            self.first[start : start + size] = low + bottom
            self.number[start : start + size] = top - bottom

    @staticmethod
    def suits(groups: Groups) -> bool:
        each = groups.share / np.diff(groups.first)
        return bool(np.allclose(each, each[groups.start[groups.source]], rtol=1e-12, atol=0))

    def draw(self, state: NDArray[Any], left: Ints, rng: np.random.Generator) -> Ints:
        place = self.room.entry(self.boundary, state, left)
        return self.arcs[self.first[place] + (rng.random(len(left)) * self.number[place]).astype(np.int64)]


class _Buckets:
    """The tables of one layer."""

    def __init__(self, groups: Groups, before: int, after: int, room: Completions, come: Floats, entries: int):
        self.groups, self.before, self.after, self.room = groups, before, after, room
        table, offset, length = room.table(before)
        count = np.diff(groups.start)
        number = int(np.clip(entries * len(count) // int(count.sum()), 16, buckets(int(count.max()))))
        self.of = _cut(table, offset, length, come, number)
        first = np.flatnonzero(np.diff(self.of, prepend=-1))
        last = np.append(first[1:], len(table)) - 1
        state = np.searchsorted(offset, first, side="right") - 1
        self.left_from, self.left_to = first - offset[state] - 1, last - offset[state] - 1
        bucket, self.group = spread(groups.start[state], count[state])
        target, shift = groups.target[self.group], groups.shift[self.group]
        lowest = room.place(after, target, self.left_from[bucket, None] - shift)
        fits = room.table(after)[0]
        if room.rising:
            least = fits[lowest]
        else:
            least = _range_min(fits, lowest, room.place(after, target, self.left_to[bucket, None] - shift))
        self.least = groups.share[self.group] * least
        self.start = np.concatenate(([0], np.cumsum(count[state])))
        sums = np.add.reduceat(self.least, self.start[:-1])
        self.accept = np.divide(sums[self.of], table, out=np.zeros(len(table)), where=table > 0).clip(0, 1)
        self.alias = Alias(np.where((sums > 0)[bucket], self.least, 1.0), self.start)

    def draw(self, state: NDArray[Any], left: Ints, rng: np.random.Generator) -> Ints:
        """A group for each row."""
        place = self.room.entry(self.before, state, left)
        bucket, accept = self.of[place], self.accept[place]
        uniform = rng.random(len(left))
        rest = np.flatnonzero(uniform >= accept)
        accept[rest] = 1
        entry = self.alias.pick(bucket, np.minimum(uniform / accept, _BELOW_ONE))
        group = self.group[entry]
        if len(rest):
            group[rest] = self._rest(state[rest], left[rest], bucket[rest], rng.random(len(rest)))
        return group

    def _rest(self, state: NDArray[Any], left: Ints, bucket: NDArray[Any], uniform: Floats) -> Ints:
        group = np.empty(len(left), np.int64)
        for own in np.unique(state).tolist():
            rows = np.flatnonzero(state == own)
            count = int(self.groups.start[own + 1] - self.groups.start[own])
            if self.alias.even:
                known = self.least.reshape(-1, count)[bucket[rows]]
            else:
                known = self.least[self.start[bucket[rows], None] + np.arange(count)]
            group[rows] = scan(self.groups, own, left[rows, None], self.room, self.after, uniform[rows], known)
        return group

    def sent(self, come: Floats) -> tuple[Floats, Ints, Ints]:
        """Odds of groups, what was left before, and the groups, where rows come by the entries as often as told."""
        number = len(self.start) - 1
        often = np.bincount(self.of, come, number)
        first = np.flatnonzero(np.diff(self.of, prepend=-1))
        place = np.bincount(self.of, come * np.arange(len(come)), number)
        middle = np.divide(place, often, out=first.astype(np.float64), where=often > 0).astype(np.int64)
        left = middle - first + self.left_from
        bucket = np.repeat(np.arange(number), np.diff(self.start))
        there = np.maximum(left, 0)[bucket]
        fits = self.groups.share[self.group] * self.room.at(
            self.after, self.groups.target[self.group], there[:, None] - self.groups.shift[self.group]
        )
        total = np.add.reduceat(fits, self.start[:-1])
        scale = np.divide(often, total, out=np.zeros(number), where=total > 0)
        return fits * scale[bucket], there, self.group


_BELOW_ONE = float(np.nextafter(1, 0))


def _cut(table: Floats, offset: Ints, length: Ints, come: Floats, number: int) -> NDArray[np.int32]:
    """About so many buckets: of each entry its bucket, numbered in order. States have buckets of their own, and so have
    the entries at their ends that stand for nothing left and for past the end."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.abs(np.diff(np.log(table), prepend=0.0))
    steps[~np.isfinite(steps)] = 0
    steps[offset] = 0
    x = np.cumsum(np.minimum(steps, 8.0))
    cell = np.minimum((x / max(x[-1], 1e-300) * _CELLS).astype(np.int64), _CELLS - 1)
    density = np.sqrt(np.bincount(cell, come, _CELLS))
    density = density / max(density.sum(), 1e-300) + 0.1 / _CELLS  # some everywhere: rows may come by unforeseen
    reach = np.concatenate(([0.0], np.cumsum(density)))
    share = np.interp(x, np.linspace(0, max(x[-1], 1e-300), _CELLS + 1), reach) / reach[-1]
    bucket = (share * number).astype(np.int64)
    new = np.diff(bucket, prepend=-1) != 0
    new[offset] = True
    new[np.minimum(offset + 1, len(table) - 1)] = True
    new[offset + length - 1] = True
    return np.cumsum(new, dtype=np.int32) - 1


def _range_min(table: Floats, first: Ints, last: Ints) -> Floats:
    """The least entry of each range of a table, both ends included: two ranges of a power of two cover each."""
    out = np.empty(len(first))
    level = np.frexp(last - first + 1)[1] - 1
    least = table.copy()
    for power in range(int(level.max(initial=0)) + 1):
        here = np.flatnonzero(level == power)
        width = 1 << power
        out[here] = np.minimum(least[first[here]], least[last[here] - width + 1])
        least[: len(least) - width] = np.minimum(least[: len(least) - width], least[width:])
    return out
