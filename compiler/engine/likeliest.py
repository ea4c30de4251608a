"""The ways through a diagram with the greatest sum of scores, among those whose costs lie inside a window.

A shortest-path problem with resources. *Labels* are beginnings of ways: a state, a score, what was spent. Boundary by
boundary each is continued by all arcs, and dropped

- where no rest brings its costs into the window, as the least and the greatest cost behind its state tell;
- where it cannot become one of the best, as a bound tells. For any multipliers m, the score s and the costs c of a rest
  that stays inside satisfy  s <= max over all rests of (s - m c) + max over the window of m c,  Lagrange's relaxation;
  the multipliers that bound the whole best are found by the ellipsoid method (Shor 1977; Yudin and Nemirovski 1976).
  A bound below all scores says that nothing stays inside;
- where as many labels as are wanted are no worse in score and in what is left of the window at the same state (Irnich
  and Desaulniers 2005, Shortest path problems with resource constraints).

Of what remains the labels with the best bounds are kept, as many as a beam holds. If no bound of a label outside it is
above the score of the last way found, these are the best, else the beam is widened. Without a window the bound is
attained, and the first beam does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.compiler.engine.levels import Floats, Ints, Layer, spread
from nasdsl.compiler.engine.limits import TooWide

SAME = 1e-11
"""Scores that differ by no more, in proportion to the largest there are, count as equal: they are sums of floats."""
EPSILON = float(np.finfo(np.float64).eps)
BEAM = 1 << 8
WIDEST_BEAM = 1 << 17
CUTS = 50  # steps of the ellipsoid method for one measure; several need more, as volumes shrink slower
STEEPEST = 1e3  # the largest multiplier looked for: so many spans of the scores for the span of a cost
NEAR = 1e-7  # how near to the best bound is near enough, in spans of the scores
FRONTS = 32  # where more ways are wanted, labels are not compared


def likeliest_paths(
    layers: Sequence[Layer],
    scores: Sequence[Floats],
    costs: Sequence[Floats],
    low: Sequence[int],
    high: Sequence[int],
    k: int,
) -> tuple[NDArray[np.int32], Floats]:
    """The `k` ways through the layers with the greatest sums of scores, best first, or all where there are fewer.

    Args:
        scores: of each layer, [arcs]; an arc of minus infinity is not taken.
        costs: of each layer, [arcs, measures] whole numbers.
        low, high: [measures] the window of their sums, both included.

    Returns:
        Arcs [ways, layers] and scores [ways]. Of ways with equal scores some come first, always the same.

    Raises:
        TooWide: so many ways are about as good that the best of those inside the window cannot be told (Undecided).
    """
    bottom, top = np.array(low, np.float64), np.array(high, np.float64)
    search = _Search(layers, scores, costs, bottom, top, k)
    beam = max(BEAM, 2 * k)
    while not search.run(beam):
        if not len(search.found):  # where all scores are alike, nothing leads into a narrow window; slightly changed do
            other = _Search(layers, _changed(scores, search.reach), costs, bottom, top, k)
            other.run(beam)
            search.add(other.ways)
        beam *= 8
        if beam > max(WIDEST_BEAM, 2 * k):
            raise Undecided(WIDEST_BEAM)
    return search.ways, search.found


class Undecided(TooWide):
    """So many ways inside a window are about as good that the best cannot be told."""

    def __init__(self, limit: int):
        self.limit = limit
        NasdslError.__init__(
            self,
            f"inside the window so many architectures are about as likely that the likeliest cannot be told: more than "
            f"{limit:,} ways to begin one",
            "a wider window, or one on fewer measures, keeps it exact",
        )


@dataclass(frozen=True)
class _Labels:
    """Beginnings of ways up to one boundary.

    Attributes:
        state, score: [labels].
        spent: [labels, measures].
        arc: [labels] the last one taken.
        parent: [labels] the label before it that it continues.
        bound: [labels] on the score of every way inside the window that begins so.
    """

    state: NDArray[np.int32]
    score: Floats
    spent: Floats
    arc: Ints
    parent: Ints
    bound: Floats

    def __len__(self) -> int:
        return len(self.state)

    def __getitem__(self, at: NDArray[np.bool_] | Ints) -> _Labels:
        return _Labels(self.state[at], self.score[at], self.spent[at], self.arc[at], self.parent[at], self.bound[at])


class _Search:
    """
    Attributes:
        ways, found: the best so far, [ways, layers] arcs and [ways] scores.
        enough: the score that a way has to exceed to be one of the best.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        scores: Sequence[Floats],
        costs: Sequence[Floats],
        low: Floats,
        high: Floats,
        k: int,
    ):
        self.layers, self.scores, self.costs, self.k = layers, scores, costs, k
        self.low, self.high = low, high
        self.ways, self.found = np.empty((0, len(layers)), np.int32), np.empty(0)
        self.enough = -np.inf
        there = [score[:, None] > -np.inf for score in scores]
        saved = [np.where(t, -cost, -np.inf) for t, cost in zip(there, costs, strict=True)]
        spent = [np.where(t, cost, -np.inf) for t, cost in zip(there, costs, strict=True)]
        self.least = [-best for best in self._behind(saved, len(low))]
        self.greatest = self._behind(spent, len(low))
        finite = [np.abs(score[t[:, 0]]).max(initial=0.0) for score, t in zip(scores, there, strict=True)]
        largest = max(1.0, float(sum(finite)))
        self.same = SAME * largest
        self.reach = sum(_span(score) for score in scores) or 1.0  # anything will do where all scores are the same
        self.multipliers = self._multipliers()
        lost = [np.where(t, -score[:, None], -np.inf) for t, score in zip(there, scores, strict=True)]
        self.worst = [-least[:, 0] for least in self._behind(lost, 1)]
        # Bounds may be off by what rounding makes of sums of these sizes.
        sizes = sum((np.abs(cost).max(axis=0, initial=0.0) for cost in costs), np.maximum(np.abs(low), np.abs(high)))
        off = EPSILON * (len(layers) + 8) * (largest + np.abs(self.multipliers) @ sizes)
        relaxed = [s[:, None] - cost @ self.multipliers.T for s, cost in zip(scores, costs, strict=True)]
        self.best = [best + off for best in self._behind(relaxed, len(self.multipliers))]

    def _behind(self, values: Sequence[Floats], columns: int) -> list[Floats]:
        """Of each boundary [states, columns]: the greatest sum of values [arcs, columns] of what can follow."""
        out: list[Floats] = [np.zeros((1, columns))]
        for layer, own in zip(reversed(self.layers), reversed(values), strict=True):
            out.append(np.maximum.reduceat(own + out[-1][layer.target], layer.start[:-1]))
        return out[::-1]

    # --- bounds

    def _multipliers(self) -> Floats:
        """[multipliers, measures]: none, those that bound the best of all, and some near them."""
        measures = len(self.low)
        none = np.zeros((1, measures))
        span = self.greatest[0][0] - self.least[0][0] if self.layers else np.zeros(measures)
        moving = np.flatnonzero((span > 0) & np.isfinite(span))
        if not len(moving):
            return none
        # In units of the spans, so that a ball is a fair beginning.
        center, shape = np.zeros(measures), np.zeros((measures, measures))
        shape[moving, moving] = (STEEPEST * self.reach) ** 2
        n, best, found = len(moving), np.inf, center
        for _ in range(CUTS * n * n):
            bound, slope = self._relaxed(center / np.where(span > 0, span, 1.0))
            if bound < best:
                best, found = bound, center
            slope = np.where(span > 0, slope / np.where(span > 0, span, 1.0), 0.0)
            width = math.sqrt(max(float(slope @ shape @ slope), 0.0))
            if width <= NEAR * self.reach:
                break
            step = shape @ slope / width
            center = center - step / (n + 1)
            if n == 1:
                shape = shape / 4
            else:
                shape = n * n / (n * n - 1) * (shape - 2 / (n + 1) * np.outer(step, step))
        found = found / np.where(span > 0, span, 1.0)
        return np.unique(np.concatenate((none, [found, 0.5 * found, 0.8 * found, 1.25 * found, 2 * found])), axis=0)

    def _relaxed(self, multipliers: Floats) -> tuple[float, Floats]:
        """A bound on all scores inside the window, and how it grows with the multipliers."""
        values = [s - cost @ multipliers for s, cost in zip(self.scores, self.costs, strict=True)]
        behind: list[Floats] = [np.zeros(1)]
        for layer, own in zip(reversed(self.layers), reversed(values), strict=True):
            behind.append(np.maximum.reduceat(own + behind[-1][layer.target], layer.start[:-1]))
        state, spent = 0, np.zeros(len(multipliers))
        for layer, own, cost, after in zip(self.layers, values, self.costs, behind[-2::-1], strict=True):
            arcs = slice(layer.start[state], layer.start[state + 1])
            arc = arcs.start + int((own[arcs] + after[layer.target[arcs]]).argmax())
            spent += cost[arc]
            state = int(layer.target[arc])
        edge = np.where(
            multipliers > 0, self.high, np.where(multipliers < 0, self.low, spent.clip(self.low, self.high))
        )
        return float(behind[-1][0] + multipliers @ edge), edge - spent

    def _bounded(self, labels: _Labels, boundary: int) -> _Labels:
        """The labels that can still end inside the window, with their bounds."""
        low, high = self.low - labels.spent, self.high - labels.spent
        fits = (self.least[boundary][labels.state] <= high) & (self.greatest[boundary][labels.state] >= low)
        inside = fits.all(axis=1) & (labels.score > -np.inf)
        labels, low, high = labels[inside], low[inside], high[inside]
        edge = high @ np.maximum(self.multipliers, 0).T + low @ np.minimum(self.multipliers, 0).T
        rest = (self.best[boundary][labels.state] + edge).min(axis=1)
        bounded = replace(labels, bound=labels.score + rest)
        return bounded[rest >= self.worst[boundary][labels.state] - self.same]

    # --- labels

    def run(self, beam: int) -> bool:
        """Looks for the best ways with at most so many labels at a boundary. Whether they are the best of all."""
        zero = np.zeros(1, np.int64)
        start = _Labels(zero.astype(np.int32), np.zeros(1), np.zeros((1, len(self.low))), zero, zero, np.zeros(1))
        labels = self._bounded(start, 0)
        kept: list[_Labels] = []
        lost = -np.inf
        for number, layer in enumerate(self.layers):
            first = layer.start[labels.state]
            parent, arc = spread(first, layer.start[labels.state + 1] - first)
            labels = self._bounded(
                _Labels(
                    layer.target[arc],
                    labels.score[parent] + self.scores[number][arc],
                    labels.spent[parent] + self.costs[number][arc],
                    arc,
                    parent,
                    labels.bound[parent],
                ),
                number + 1,
            )
            labels = labels[labels.bound > self.enough + self.same]
            if len(self.low):
                labels = labels[self._undominated(labels, number + 1)]
            if len(labels) > beam:
                order = self._order(labels, number + 1)
                lost = max(lost, float(labels.bound[order[beam:]].max()))
                labels = labels[np.sort(order[:beam])]
            kept.append(labels)
        self._collect(labels, kept)
        return lost <= self.enough + self.same

    def _order(self, labels: _Labels, boundary: int) -> Ints:
        """The labels by their bounds, best first, and those with the same bound by how freely they can go on."""
        free = np.minimum(
            self.high - labels.spent - self.least[boundary][labels.state],
            self.greatest[boundary][labels.state] - self.low + labels.spent,
        )
        span = self.greatest[0][0] - self.least[0][0]
        room = (free / np.where(span > 0, span, 1.0)).min(axis=1, initial=np.inf)
        return np.lexsort((-room, -_ranks(labels.bound, self.same)))

    def _collect(self, labels: _Labels, kept: Sequence[_Labels]) -> None:
        """The ways that labels of the last boundary stand for."""
        arcs = np.empty((len(labels), len(self.layers)), np.int32)
        at = np.arange(len(labels))
        for number in range(len(self.layers) - 1, -1, -1):
            arcs[:, number] = kept[number].arc[at]
            at = kept[number].parent[at]
        self.add(arcs)

    def add(self, ways: NDArray[np.int32]) -> None:
        """Counts ways [ways, layers] inside the window among the best, if they are."""
        ways = np.concatenate((self.ways, ways))
        score = np.zeros(len(ways))
        for own, arcs in zip(self.scores, ways.T, strict=True):
            score += own[arcs]
        ways, first = np.unique(ways, axis=0, return_index=True) if len(self.layers) else (ways[:1], np.arange(1))
        score = score[first]
        order = np.argsort(-score, kind="stable")[: self.k]
        self.ways, self.found = ways[order], score[order]
        if len(order) == self.k:
            self.enough = float(self.found[-1])

    def _undominated(self, labels: _Labels, boundary: int) -> Ints:
        """The labels than which fewer than `k` others are as good in every way, ascending."""
        chosen = np.arange(len(labels))
        if len(labels) <= self.k or self.k > FRONTS:
            return chosen
        # What is left of the window matters as far as what can follow comes near its ends.
        above = np.minimum(self.high - labels.spent, self.greatest[boundary][labels.state])
        below = np.maximum(self.low - labels.spent, self.least[boundary][labels.state])
        sides = [side for side in (*above.T, *-below.T) if len(np.unique(side - side[:1])) > 1]
        rank = _ranks(labels.score, self.same)
        for free in range(max(1, len(sides))):
            keys = [side[chosen] for number, side in enumerate(sides) if number != free]
            keys.append(labels.state[chosen].astype(np.float64))
            room = sides[free][chosen] if sides else np.zeros(len(chosen))
            chosen = chosen[_fronts(keys, room, rank[chosen], self.k)]
        return chosen


def _changed(scores: Sequence[Floats], reach: float) -> list[Floats]:
    """Scores with a little added at random."""
    rng = np.random.Generator(np.random.PCG64(0))
    return [score + 1e-2 * reach / len(scores) * rng.random(len(score)) for score in scores]


def _ranks(values: Floats, same: float) -> Ints:
    """Their places among all in ascending order; those that hardly differ share one."""
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(values), np.int64)
    rank[order] = np.cumsum(np.diff(values[order], prepend=values[order[:1]]) > same)
    return rank


def _span(score: Floats) -> float:
    """Of finite scores."""
    finite = score[score > -np.inf]
    return float(finite.max() - finite.min()) if len(finite) else 0.0


def _fronts(keys: Sequence[Floats], room: Floats, rank: Ints, k: int) -> Ints:
    """Of entries with equal keys, those that belong to the first `k` fronts by room and rank, ascending: an entry of a
    later front has one in each front before it that is at least as good in both."""
    order = np.lexsort((-rank, -room, *keys))
    new = np.zeros(len(order), np.bool_)
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    level = np.cumsum(new) * (int(rank.max(initial=0)) + 1) + rank[order]
    taken: list[Ints] = []
    for _ in range(k):
        if not len(order):
            break
        before = np.maximum.accumulate(np.concatenate(([-1], level[:-1])))
        front = level > before
        taken.append(order[front])
        order, level = order[~front], level[~front]
    return np.sort(np.concatenate(taken)) if taken else order
