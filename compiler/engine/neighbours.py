"""What becomes of an arc when one of its decisions changes: lists of the arcs that come into question, by cost.

The decisions of a layer have an order, in which those that govern others come first. Changed is one decision; those
before it stay; those after it stay where they can, and where they cannot (because they come into being, or a
requirement does not let them) every value that is possible comes into question. Without a window, each new value of the
changed decision is as likely as every other, and so is every way to go on from there.

An arc to the same state leaves the layers after it as they are (*level*); one to another state does not (*astray*).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.engine.factors import FactorGraph
from nasdsl.compiler.engine.levels import Floats, Ints, Layer, spread
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.values.plain import ABSENT

NEVER = 1 << 62
"""A cost that no window allows."""

MOST_NEIGHBOURS = 1 << 24  # of all arcs of a layer together


class Tree:
    """The arcs of a layer by the decisions that they take, one after the other.

    A node at depth j is what arcs have in common that leave the same state and agree on the first j decisions.
    """

    def __init__(self, layer: Layer):
        self.layer = layer
        self.sizes = [int(layer.cells[:, j].max(initial=0)) + 1 for j in range(len(layer.decisions))]
        node = layer.source.astype(np.int64)
        self.nodes: list[NDArray[Any]] = [node]  # [arcs] of each depth
        self.codes: list[Ints] = []  # of each node its parent and its cell, ascending
        self.first: list[Ints] = []  # of each node its first child
        self.child: list[NDArray[np.int32]] = []  # by such a code the node one deeper, -1 where there is none
        for j, size in enumerate(self.sizes):
            code = node * size + layer.cells[:, j]
            new = np.flatnonzero(np.diff(code, prepend=-1))
            self.codes.append(code[new].astype(np.int64))
            self.first.append(np.searchsorted(node[new], np.arange(int(node[-1]) + 2)))
            child = np.full((int(node[-1]) + 1) * size, -1, np.int32)
            child[code[new]] = np.arange(len(new))
            self.child.append(child)
            node = np.cumsum(np.diff(code, prepend=-1) != 0) - 1
            self.nodes.append(node)

    def children(self, depth: int, node: NDArray[Any]) -> tuple[Ints, Ints]:
        """Rows and nodes one deeper: all children of each node."""
        first = self.first[depth][node]
        return spread(first, self.first[depth][node + 1] - first)

    def follow(self, depth: int, node: Ints, cell: NDArray[Any]) -> tuple[Ints, Ints]:
        """Rows and nodes one deeper: the child with a cell where there is one, else all children."""
        child = self.child[depth][node * self.sizes[depth] + cell].astype(np.int64)
        there = child >= 0
        if there.all():
            return np.arange(len(node)), child
        first = np.where(there, child, self.first[depth][node])
        count = np.where(there, 1, self.first[depth][node + 1] - first)
        return spread(first, count)

    def walk(self, depth: int, node: Ints, like: NDArray[Any]) -> tuple[Ints, Ints]:
        """Rows and arcs that follow on nodes at a depth, `like` certain arcs where they can be."""
        row = np.arange(len(node))
        for j in range(depth, len(self.sizes)):
            step, node = self.follow(j, node, self.layer.cells[like[row], j])
            row = row[step]
        return row, node


@dataclass(frozen=True)
class Lists:
    """For each arc and decision a list of arcs, ascending by key.

    Attributes:
        start, end: [arcs, decisions] of the list among all entries.
        arc: [entries] that come into question.
        key: [entries] their cost; if they lead astray, with the least that can follow.
        weight: [entries] its logarithm.
        sums: [entries] logarithm of the sum of weights from the start of the list up to here.
        even: [arcs, decisions] whether all weights of the list are equal.
    """

    start: Ints
    end: Ints
    arc: NDArray[np.int32]
    key: Ints
    weight: Floats
    sums: Floats
    even: NDArray[np.bool_]


class Neighbours:
    """The lists of one layer.

    Args:
        costs: [arcs] of the measure by which lists are sorted.
        behind: [states after] the least that can follow.

    Attributes:
        level, astray: lists of arcs to the same state, and to others; None where there are none at all.
        shared: whether a list holds all arcs out of a state, the arc itself included: in a layer of one decision.
        own: [arcs] logarithm of how many values the cell of an arc has, if lists are shared.
        place: [arcs] the entry of each arc itself in its level list, if lists are shared.
        costs: [arcs] as given.
        width: the number of decisions.
        nearest: [arcs, decisions] the least key that is another choice, less the arc's own cost; of level lists.
        nearest_astray: the same of the other lists.

    Raises:
        TooWide: more than MOST_NEIGHBOURS come into question.
    """

    def __init__(self, network: FactorGraph, layer: Layer, costs: Ints, behind: Ints):
        self.layer, self.costs, self.width = layer, costs, len(layer.decisions)
        self.absent = np.array([_absent(network, decision) for decision in layer.decisions])
        counts = [[cell.count for cell in network.variables[d].cells] for d in layer.decisions]
        self.logs = [np.array([math.log(c) if c else -math.inf for c in own]) for own in counts]
        self.shared = len(layer.decisions) == 1
        self.own = self.logs[0][layer.cells[:, 0]] if self.shared else np.zeros(len(layer))
        reach = costs + behind[layer.target]
        if self.shared:
            self.level, self.astray = self._shared(costs, reach)
        else:
            self.level, self.astray = self._explicit(costs, reach)
        self.nearest = self._nearest(self.level, costs)
        self.nearest_astray = self._nearest(self.astray, costs)
        if not (self.nearest_astray < NEVER).any():
            self.astray = None

    def _present(self, place: int) -> NDArray[np.bool_]:
        there: NDArray[np.bool_] = self.layer.cells[:, place] != self.absent[place]
        return there

    def _shared(self, costs: Ints, reach: Ints) -> tuple[Lists, Lists | None]:
        layer = self.layer
        there = np.flatnonzero(self._present(0))
        pair = layer.source.astype(np.int64) * layer.after + layer.target
        pairs, which = np.unique(pair[there], return_inverse=True)
        level = _lists(which, there, costs[there], self.own[there], len(pairs))
        self.place = np.zeros(len(layer), np.int64)
        self.place[level.arc] = np.arange(len(level.arc))
        if layer.after == 1:
            return self._spread_out(level, there, which), None
        # All arcs from the same state to other ones, once for each state that arcs lead to.
        lows = np.searchsorted(layer.source[there], np.arange(layer.before + 1))
        source = pairs // layer.after
        owner, other = spread(lows[source], lows[source + 1] - lows[source])
        arc = there[other]
        away = layer.target[arc] != pairs[owner] % layer.after
        owner, arc = owner[away], arc[away]
        astray = _lists(owner, arc, reach[arc], self.own[arc], len(pairs))
        return self._spread_out(level, there, which), self._spread_out(astray, there, which)

    def _spread_out(self, lists: Lists, arcs: Ints, which: Ints) -> Lists:
        """Lists as those of the arcs that share them; the other arcs have empty ones."""
        start, end = np.zeros((2, len(self.layer), 1), np.int64)
        even = np.ones((len(self.layer), 1), np.bool_)
        start[arcs], end[arcs], even[arcs] = lists.start[which], lists.end[which], lists.even[which]
        return replace(lists, start=start, end=end, even=even)

    def _explicit(self, costs: Ints, reach: Ints) -> tuple[Lists, Lists | None]:
        layer, tree = self.layer, Tree(self.layer)
        width = len(layer.decisions)
        ways = layer.weights.log2 * math.log(2)
        parts: list[tuple[Ints, Ints, Floats]] = []  # list, arc, logarithm of the weight
        entries = 0
        for place in range(width):
            origin = np.flatnonzero(self._present(place))
            row, node = tree.children(place, tree.nodes[place][origin])
            cell = tree.codes[place][node] % tree.sizes[place]
            changed = cell != layer.cells[origin[row], place]
            row, node, cell = row[changed], node[changed], cell[changed]
            value, arc = tree.walk(place + 1, node, origin[row])
            entries += len(arc)
            if entries > MOST_NEIGHBOURS:
                raise TooWide("changes of one decision", entries, MOST_NEIGHBOURS)
            total = _log_sums(value, ways[arc], len(row))
            weight = self.logs[place][cell[value]] + ways[arc] - total[value]
            parts.append((origin[row[value]] * width + place, arc, weight))
            log = self.logs[place][layer.cells[origin, place]]
            several = np.flatnonzero(log > 0)  # another value of the same cell
            with np.errstate(divide="ignore"):
                others = log[several] + np.log1p(-np.exp(-log[several]))
            parts.append((origin[several] * width + place, origin[several], others))
        which, arc = (np.concatenate([part[i] for part in parts]).astype(np.int64) for i in (0, 1))
        weight = np.concatenate([part[2] for part in parts])
        level = layer.target[arc] == layer.target[which // width]
        lists: list[Lists] = []
        for kept, key in ((level, costs), (~level, reach)):
            found = _lists(which[kept], arc[kept], key[arc[kept]], weight[kept], len(layer) * width)
            parted = {name: getattr(found, name).reshape(len(layer), width) for name in ("start", "end", "even")}
            lists.append(replace(found, **parted))
        return lists[0], lists[1] if len(lists[1].arc) else None

    def _nearest(self, lists: Lists | None, costs: Ints) -> Ints:
        out = np.full(self.layer.cells.shape, NEVER)
        if lists is None or not len(lists.arc):
            return out
        some = lists.end > lists.start
        first = np.where(some, lists.start, 0)
        out[some] = lists.key[first[some]]
        if self.shared and lists is self.level:  # the arc itself is no change, unless its cell has other values
            alone = some[:, 0] & (self.own == 0) & (lists.arc[first[:, 0]] == np.arange(len(costs)))
            more = lists.end[:, 0] > lists.start[:, 0] + 1
            out[alone & ~more, 0] = NEVER
            out[alone & more, 0] = lists.key[first[alone & more, 0] + 1]
        out[out < NEVER] -= np.broadcast_to(costs[:, None], out.shape)[out < NEVER]
        return out


def _absent(network: FactorGraph, decision: int) -> int:
    """The number of the cell of absence, -1 where there is none."""
    cells = network.variables[decision].cells
    return len(cells) - 1 if cells and cells[-1].value is ABSENT else -1


def _log_sums(owner: Ints, logs: Floats, count: int) -> Floats:
    """Logarithms of the sums of e^logs of each owner, whose entries are consecutive."""
    out = np.full(count, -math.inf)
    if len(owner):
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        out[owner[first]] = np.logaddexp.reduceat(logs, first)
    return out


def _lists(owner: Ints, arc: Ints, key: Ints, weight: Floats, count: int) -> Lists:
    """Entries sorted by owner and key, with running sums of their weights."""
    order = np.lexsort((arc, key, owner))
    owner, arc, key, weight = owner[order], arc[order], key[order], weight[order]
    start = np.searchsorted(owner, np.arange(count))
    end = np.searchsorted(owner, np.arange(count), side="right")
    sums = weight.copy()
    length = end - start
    # All lists at once, one step of each: as many steps as the longest has entries.
    by_length = np.argsort(-length, kind="stable")
    longest = int(length.max(initial=0))
    active = np.searchsorted(-length[by_length], -np.arange(longest + 1), side="left")
    for step in range(1, longest):
        at = start[by_length[: active[step]]] + step
        sums[at] = np.logaddexp(sums[at - 1], weight[at])
    even = np.ones(count, np.bool_)
    if len(weight):
        uneven = np.abs(weight - weight[start.clip(max=len(weight) - 1)[owner]]) > 1e-12
        even[owner[uneven]] = False
    return Lists(start[:, None], end[:, None], arc.astype(np.int32), key, weight, sums, even[:, None])
