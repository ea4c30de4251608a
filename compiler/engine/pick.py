"""Random entries of sorted lists, by weight, of those that fit: for many rows at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.engine.levels import Floats, Ints
from nasdsl.compiler.engine.neighbours import Lists, Neighbours


def weighted(owner: Ints, logs: Floats, count: int, uniform: Floats) -> Ints:
    """[count] for each owner one of its entries, which are consecutive, by weight; -1 where it has none.

    Args:
        logs: of the weights.
    """
    out = np.full(count, -1)
    if not len(owner):
        return out
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    number = np.cumsum(np.diff(owner, prepend=-1) != 0) - 1
    weights = np.exp(logs - np.maximum.reduceat(logs, first)[number])
    sums = np.cumsum(weights / np.add.reduceat(weights, first)[number])
    last = np.append(first[1:], len(owner)) - 1
    before = np.where(first > 0, sums[first - 1], 0.0)
    wanted = before + uniform[owner[first]] * (sums[last] - before)
    out[owner[first]] = np.clip(np.searchsorted(sums, wanted, side="right"), first, last)
    return out


def pick(near: Neighbours, arc: NDArray[Any], place: Ints, slack: Any, behind: Any, limited: bool, u: Floats) -> Ints:
    """For each row an arc that changes the decision at a place, among those that fit.

    Args:
        slack: by how much more the path may cost.
        behind: what the path costs after this layer.
        u: [n] in [0, 1).
    """
    limit = near.costs[arc] + slack if limited else None
    which = arc.astype(np.int64) * near.width + place
    level = near.level
    first, last = _fitting_entries(level, which, limit)
    own = near.place[arc] if near.shared else None
    if near.astray is None:
        return _entry(level, which, first, last, own, near.own[arc], u)
    first_astray, last_astray = _fitting_entries(near.astray, which, None if limit is None else limit + behind)
    stay = _weight(level, first, last, own, near.own[arc])
    leave = _weight(near.astray, first_astray, last_astray, None, near.own[arc])
    odds = np.exp(stay - np.logaddexp(stay, leave))
    stays = u < odds
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.where(stays, u / odds, (u - odds) / (1 - odds)).clip(0, _BELOW_ONE)
    out = np.empty(len(arc), np.int64)
    here, away = np.flatnonzero(stays), np.flatnonzero(~stays)
    mine = None if own is None else own[here]
    log = near.own[arc]
    out[here] = _entry(level, which[here], first[here], last[here], mine, log[here], u[here])
    out[away] = _entry(near.astray, which[away], first_astray[away], last_astray[away], None, log[away], u[away])
    return out


def _fitting_entries(lists: Lists, which: Ints, limit: Ints | None) -> tuple[Ints, Ints]:
    """Where lists begin, and where what fits ends."""
    first, last = lists.start.ravel()[which], lists.end.ravel()[which]
    if limit is not None and len(lists.key):
        some = np.flatnonzero(lists.key[np.maximum(last - 1, 0)] > limit)  # not all of the list
        last[some] = _bisect(lists.key, first[some], last[some], limit[some])
    return first, last


_BELOW_ONE = float(np.nextafter(1, 0))


def _weight(lists: Lists, first: Ints, last: Ints, own: Ints | None, log: Floats) -> Floats:
    """Logarithm of the sum of weights of entries, less one where the own is among them; minus infinity for nothing."""
    total = np.where(last > first, lists.sums[np.maximum(last - 1, 0)] if len(lists.sums) else 0.0, -math.inf)
    if own is None:
        return total
    with np.errstate(divide="ignore", invalid="ignore"):
        less = total + np.log1p(-np.exp(-total))
        less = np.where((last == first + 1) & (log <= 0), -math.inf, less)
    return np.where((own >= first) & (own < last), less, total)


def _entry(lists: Lists, which: Ints, first: Ints, last: Ints, own: Ints | None, log: Floats, u: Floats) -> Ints:
    """The arc of an entry from `first` to `last` - 1 by weight; of the `own` entry, one value less counts."""
    number = last - first
    if own is None:
        even = lists.even.ravel()[which]
        entry = first + (u * number).astype(np.int64)
        rows = np.flatnonzero(~even)
        if len(rows):
            with np.errstate(divide="ignore"):
                wanted = lists.sums[last[rows] - 1] + np.log(u[rows])
            entry[rows] = np.minimum(_bisect(lists.sums, first[rows], last[rows], wanted), last[rows] - 1)
        return lists.arc[entry].astype(np.int64)
    if bool((log <= 0).all()) and bool(lists.even.ravel()[which].all()):  # no cell has another value: skip the own
        among = (own >= first) & (own < last)
        entry = first + (u * (number - among)).astype(np.int64)
        return lists.arc[entry + (among & (entry >= own))].astype(np.int64)
    # In shares of all up to `last`: what lies before the own entry, what counts of it, and what lies after it.
    among = (own >= first) & (own < last)
    whole = lists.sums[last - 1]
    mine = np.clip(own, first, last - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        before = np.where(mine > first, np.exp(lists.sums[np.maximum(mine - 1, 0)] - whole), 0.0)
        one = np.where(among, np.exp(-whole), 0.0)
        counts = np.where(among, np.where(log > 0, np.exp(log - whole) - one, 0.0), 0.0)
        after = np.where(among, 1 - np.exp(lists.sums[mine] - whole), 0.0)
        before = np.where(among, before, 1.0)
        v = u * (before + counts + after)
        wanted = whole + np.log(np.where(v < before, v, np.minimum(v + one, 1.0)))
    entry = _bisect(lists.sums, first, last, wanted)
    low = np.where(among & (v >= before), np.where(v < before + counts, mine, mine + 1), first)
    high = np.where(among, np.where(v < before, mine - 1, np.where(v < before + counts, mine, last - 1)), last - 1)
    return lists.arc[np.clip(entry, np.minimum(low, high), high)].astype(np.int64)


def _bisect(values: NDArray[Any], first: Ints, last: Ints, bound: NDArray[Any]) -> Ints:
    """In each range of ascending values the first that is greater than a bound, else the end of the range."""
    low, high = first.copy(), last.copy()
    rows = np.flatnonzero(low < high)
    while len(rows):
        middle = (low[rows] + high[rows]) >> 1
        up = values[middle] <= bound[rows]
        low[rows[up]] = middle[up] + 1
        high[rows[~up]] = middle[~up]
        rows = rows[low[rows] < high[rows]]
    return low
