"""Drawing from many discrete distributions at once, each in constant time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.engine.levels import Floats, Ints


class Alias:
    """Walker's alias tables of several distributions that lie one after the other.

    Each entry of a distribution over n outcomes stands for a share 1/n of the whole: the first part of it, `keep`,
    belongs to the outcome itself, the rest to another one, `other`. Entries with more than their share fill up those
    with less; taken in order, what the ones lack and what the others have to spare are two running sums, and where
    these cross says who fills up whom.

    Args:
        weights: of all outcomes, not negative, not all zero in any distribution.
        start: [distributions + 1] the first outcome of each.
    """

    def __init__(self, weights: Floats, start: NDArray[np.integer[Any]]):
        count = np.diff(start)
        owner = np.repeat(np.arange(len(count)), count)
        self.start = np.asarray(start[:-1], np.int64)
        self.count = np.asarray(count, np.int64)
        self.even = int(count[0]) if len(count) and (count == count[0]).all() else 0  # outcomes of each, if all alike
        self.keep = np.ones(len(weights))
        self.other = np.arange(len(weights), dtype=np.int32)
        if not len(weights):
            return
        weights = weights / np.maximum.reduceat(weights, start[:-1])[owner]  # sums of tiny ones have no reciprocal
        share = weights * (count / np.add.reduceat(weights, start[:-1]))[owner]
        full = np.minimum(1, np.maximum.reduceat(share, start[:-1]))[owner]  # below 1 by rounding alone
        poor, rich = np.flatnonzero(share < full), np.flatnonzero(share >= full)
        if not len(poor):
            return
        lack = np.concatenate(([0.0], np.cumsum(1 - share[poor])))
        spare = np.cumsum(share[rich] - 1)
        # Every distribution has rich entries, and its lack equals what it can spare; rounding must not lead out of it.
        first = np.searchsorted(owner[rich], np.arange(len(count)))
        last = np.searchsorted(owner[rich], np.arange(len(count)), side="right") - 1
        giver = np.clip(np.searchsorted(spare, lack[:-1]), first[owner[poor]], last[owner[poor]])
        self.keep[poor] = np.maximum(share[poor], 0)
        self.other[poor] = rich[giver]
        # A rich entry that has given more than it could spare is filled up by the next one.
        end = np.searchsorted(owner[poor], owner[rich], side="right")
        over = lack[np.minimum(np.searchsorted(lack, spare, side="right"), end)] - spare
        gives = np.arange(len(rich)) < last[owner[rich]]
        self.keep[rich[gives]] = np.clip(1 - over[gives], 0, 1)
        self.other[rich[gives]] = rich[np.flatnonzero(gives) + 1]

    def pick(self, which: NDArray[np.integer[Any]] | int, uniform: Floats) -> Ints:
        """An outcome of a distribution for each of the numbers in [0, 1), by its place among all outcomes."""
        scaled = uniform * (self.even or self.count[which])
        entry = scaled.astype(np.int64)
        scaled -= entry
        entry += which * self.even if self.even else self.start[which]
        picked: Ints = np.where(scaled < self.keep[entry], entry, self.other[entry])
        return picked
