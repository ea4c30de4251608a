"""The cheapest ways through a diagram, in order and one at a time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.engine.levels import Ints, Layer


def best_behind(layers: Sequence[Layer], column: int, sign: int = 1) -> list[Ints]:
    """Of each boundary between layers: the least of `sign` x cost of what can follow on each state."""
    behind: list[Ints] = [np.zeros(1, np.int64)]
    for layer in reversed(layers):
        costs = sign * layer.costs[:, column] + behind[-1][layer.target]
        behind.append(np.minimum.reduceat(costs, layer.start[:-1]))
    return behind[::-1]


def paths_in_order(layers: Sequence[Layer], column: int) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """All paths [layers] by rising cost.

    The recursive enumeration of k shortest paths: each state knows the completions that were asked of it so far, and
    the next best comes from asking the state behind one of its arcs for the next one there.
    """
    if not layers:
        yield 0, np.empty(0, np.int32)
        return
    behind = best_behind(layers, column)
    queues: dict[tuple[int, int], _Completions] = {}

    def completions(number: int, state: int) -> _Completions:
        known = queues.get((number, state))
        if known is None:
            layer = layers[number]
            arcs = np.arange(layer.start[state], layer.start[state + 1])
            costs = layer.costs[arcs, column] + behind[number + 1][layer.target[arcs]]
            order = np.argsort(costs, kind="stable")
            known = queues[number, state] = _Completions(arcs[order], costs[order])
        return known

    def extend(number: int, state: int, rank: int) -> bool:
        """Sees to it that a state knows its completion of this rank; false where there are not so many."""
        asked = [(number, state, rank)]
        while asked:
            number, state, rank = asked[-1]
            mine = completions(number, state)
            if rank < len(mine.found) or mine.exhausted:
                asked.pop()
                continue
            if mine.pending is not None:  # the successor of what was taken last, now that the state behind was asked
                arc, other = mine.pending
                target = int(layers[number].target[arc])
                if number + 1 < len(layers):
                    below = completions(number + 1, target)
                    if other >= len(below.found) and not below.exhausted:
                        asked.append((number + 1, target, other))
                        continue
                    if other < len(below.found):
                        cost = int(layers[number].costs[arc, column]) + below.found[other][0]
                        heapq.heappush(mine.queue, (cost, arc, other))
                mine.pending = None
            mine.take()
        return rank < len(completions(number, state).found)

    rank = 0
    while extend(0, 0, rank):
        path = np.empty(len(layers), np.int32)
        state, place = 0, rank
        cost = completions(0, 0).found[rank][0]
        for number, layer in enumerate(layers):
            extend(number, state, place)
            _, path[number], place = completions(number, state).found[place]
            state = int(layer.target[path[number]])
        yield cost, path
        rank += 1


class _Completions:
    """Of one state: its arcs by the cost of their best completion, and the completions found so far.

    Attributes:
        found: cost, arc, and the rank among the completions of the state behind the arc.
        pending: arc and rank that follow on the one found last; they enter the queue before the next is taken.
        exhausted: all completions are found.
    """

    def __init__(self, arcs: Ints, costs: Ints):
        self.arcs, self.costs = arcs, costs
        self.opened = 0  # so many arcs are or were in the queue
        self.queue: list[tuple[int, int, int]] = []
        self.found: list[tuple[int, int, int]] = []
        self.pending: tuple[int, int] | None = None
        self.exhausted = False

    def take(self) -> None:
        if self.opened < len(self.arcs) and (not self.queue or int(self.costs[self.opened]) <= self.queue[0][0]):
            heapq.heappush(self.queue, (int(self.costs[self.opened]), int(self.arcs[self.opened]), 0))
            self.opened += 1
        if not self.queue:
            self.exhausted = True
            return
        cost, arc, rank = heapq.heappop(self.queue)
        self.found.append((cost, arc, rank))
        self.pending = (arc, rank + 1)
