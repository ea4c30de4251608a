"""Mutation and crossover of whole populations, inside the space and inside a window of costs.

Nothing is tried until it fits: what does not fit is never drawn. Of a single measure with an upper bound, the lists of
`neighbours` are sorted by cost, so what fits is the beginning of a list. For other windows all that comes into question
is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.arrays.encoding import Encoding
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.engine.budget import Within
from nasdsl.compiler.engine.diagram import Diagram, Paths, chunks, encoded
from nasdsl.compiler.engine.fits import Ceiling, Inside
from nasdsl.compiler.engine.levels import Floats, Ints, spread
from nasdsl.compiler.engine.members import Members
from nasdsl.compiler.engine.neighbours import NEVER, Neighbours, Tree
from nasdsl.compiler.engine.pick import pick, weighted

_SMALL = (1 << 31) - 1
MOST_PAIRS = 1 << 20  # of rows and what comes into question for them, looked at at a time


class Mutants(NamedTuple):
    """What became of some architectures.

    Attributes:
        paths: [n, layers].
        decision: [n] the number of the decision that was changed, among those of the graph; -1 where none can be.
    """

    paths: Paths
    decision: NDArray[np.int32]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """[n] whether there was anything to change."""
        return self.decision >= 0


class Variation:
    """Changes architectures of a diagram so that they stay inside a window.

    Args:
        diagram: of the space.
        window: to stay inside; None for none. Parents should lie inside: the children of others do, where that takes
            one change, and else stay as they are.
    """

    def __init__(self, diagram: Diagram, window: Within | None = None):
        self.diagram = diagram
        self.within = window if window is not None and window.bounds.columns and diagram.layers else None
        self._fits: Ceiling | Inside
        if self.within is None:
            self._fits = Ceiling(diagram, None, NEVER)
        elif len(self.within.bounds.columns) == 1 and self._open_below:
            self._fits = Ceiling(diagram, self.within.bounds.columns[0], self.within.bounds.high[0])
        else:
            self._fits = Inside(self.within)

    @property
    def _open_below(self) -> bool:
        assert self.within is not None
        column, low = self.within.bounds.columns[0], self.within.bounds.low[0]
        return low <= self.diagram.least(self.diagram.measures[column])[0]

    # mutation

    def mutate(self, paths: Paths, rng: np.random.Generator) -> Mutants:
        """Each architecture with one decision changed: each of its decisions that can be changed is as likely as the
        others, and so is each new value.

        The other decisions keep their values where they can. What the change brings into being is drawn uniformly; what
        does not fit behind it any more is drawn anew.
        """
        out = np.array(paths, np.int32, order="F")
        decision = np.full(len(paths), -1, np.int32)
        for rows in chunks(len(paths)):
            part = out[rows]
            if isinstance(self._fits, Ceiling):
                decision[rows] = self._mutate_below(part, self._fits, rng)
            else:
                decision[rows] = self._mutate_inside(part, self._fits, rng)
        return Mutants(out, decision)

    @cached_property
    def _neighbours(self) -> list[Neighbours]:
        found = []
        for number, layer in enumerate(self.diagram.layers):
            costs, behind = np.zeros(len(layer), np.int64), np.zeros(layer.after, np.int64)
            if isinstance(self._fits, Ceiling) and self._fits.column is not None:
                costs, behind = layer.costs[:, self._fits.column], self._fits.behind[number + 1]
            found.append(Neighbours(self.diagram.network, layer, costs, behind))
        return found

    @cached_property
    def _ranked(self) -> list[tuple[Ints, NDArray[np.int32], Ints] | None]:
        """Of layers in which nothing leads astray, for each arc: how much more the change of a decision costs at least,
        ascending, in rows of 2^k - 1; which decisions these are; and how many can change at all."""
        found: list[tuple[Ints, NDArray[np.int32], Ints] | None] = []
        for near in self._neighbours:
            if near.astray is not None:
                found.append(None)
                continue
            order = np.argsort(near.nearest, axis=1, kind="stable")
            width = (1 << near.nearest.shape[1].bit_length()) - 1
            more = np.full((len(near.nearest), width), NEVER)
            more[:, : near.nearest.shape[1]] = np.take_along_axis(near.nearest, order, axis=1)
            able = (near.nearest < NEVER).sum(axis=1)
            if np.abs(more[more < NEVER]).max(initial=0) < _SMALL:  # half the size is twice as fast
                more = np.minimum(more, _SMALL).astype(np.int32)
            found.append((more, order.astype(np.int32), able))
        return found

    def _mutate_below(self, paths: Paths, fits: Ceiling, rng: np.random.Generator) -> NDArray[np.int32]:
        """Mutates paths in place."""
        n, layers = len(paths), self.diagram.layers
        decision = np.full(n, -1, np.int32)
        if not layers:
            return decision
        spent = [fits.amount(number, paths[:, number]) for number in range(len(layers))]
        slack = fits.high - sum(spent)
        behind: list[Ints] = [np.zeros(n, np.int64)] * len(layers)  # what the path costs after each layer
        for number in range(len(layers) - 1, 0, -1):
            behind[number - 1] = behind[number] + spent[number]
        counts = np.empty((len(layers) + 1, n), np.int64)
        counts[0] = 0
        for number in range(len(layers)):
            able = self._able(number, paths[:, number], slack, behind[number])
            np.add(counts[number], able, out=counts[number + 1])
        wanted = (rng.random(n) * counts[-1]).astype(np.int64)
        uniform = rng.random(n)
        for number, layer in enumerate(layers):
            rows = np.flatnonzero((wanted >= counts[number]) & (wanted < counts[number + 1]))
            if not len(rows):
                continue
            arc = paths[rows, number]
            after = behind[number][rows]
            place = self._nth(number, arc, slack[rows], after, wanted[rows] - counts[number, rows])
            near = self._neighbours[number]
            new = pick(near, arc, place, slack[rows], after, fits.limited, uniform[rows])
            paths[rows, number] = new
            decision[rows] = np.asarray(layer.decisions, np.int32)[place]
            if near.astray is not None:
                astray = layer.target[new] != layer.target[arc]
                self._go_on(paths, rows[astray], number + 1, rng)
        return decision

    def _able(self, number: int, arc: NDArray[Any], slack: Any, behind: Any) -> NDArray[Any]:
        """[n] how many decisions of a layer can change."""
        near, ranked = self._neighbours[number], self._ranked[number]
        if ranked is None:
            return self._which(near, arc, slack, behind).sum(axis=1)
        more, _, able = ranked
        if not self._fits.limited:
            return able[arc]
        flat, width = more.ravel(), more.shape[1]
        if more.dtype == np.int32:
            slack = np.minimum(slack, _SMALL - 1).astype(np.int32)
        base = arc.astype(np.int64) * width
        at = base.copy()
        step = (width + 1) // 2
        while step:  # by halves: how many are no more than the slack
            at += step * (flat[at + (step - 1)] <= slack)
            step //= 2
        at -= base
        return at

    @staticmethod
    def _which(near: Neighbours, arc: NDArray[Any], slack: Any, behind: Any) -> NDArray[np.bool_]:
        """[n, decisions] which decisions can change."""
        level = near.nearest[arc] <= np.minimum(slack, NEVER - 1)[:, None]
        astray: NDArray[np.bool_] = near.nearest_astray[arc] <= np.minimum(slack + behind, NEVER - 1)[:, None]
        return level | astray

    def _nth(self, number: int, arc: NDArray[Any], slack: Any, behind: Any, nth: Ints) -> Ints:
        """[n] of the decisions of a layer that can change, the n-th."""
        ranked = self._ranked[number]
        if ranked is not None:
            return ranked[1][arc, nth].astype(np.int64)
        which = np.cumsum(self._which(self._neighbours[number], arc, slack, behind), axis=1)
        return (which <= nth[:, None]).sum(axis=1)

    def _go_on(self, paths: Paths, rows: Ints, first: int, rng: np.random.Generator) -> None:
        """Leads paths on, from a state that is not the one that their next arc leaves."""
        fits, layers = self._fits, self.diagram.layers
        if not len(rows) or first == len(layers):
            return
        used, rest = fits.nothing(len(rows)), fits.nothing(len(rows))
        for number in range(len(layers)):
            amount = fits.amount(number, paths[rows, number])
            used, rest = (used + amount, rest) if number < first else (used, rest + amount)
        state = layers[first - 1].target[paths[rows, first - 1]]
        for number in range(first, len(layers)):
            layer, old = layers[number], paths[rows, number]
            done = (layer.source[old] == state) & fits.completes(len(layers), np.zeros_like(state), used + rest)
            if done.any():
                rows, old, state, used, rest = (part[~done] for part in (rows, old, state, used, rest))
            if not len(rows):
                return
            rest = rest - fits.amount(number, old)
            new = np.full(len(rows), -1, np.int64)
            # Rows with the same arc and state have the same to choose from.
            pairs, which = np.unique(old.astype(np.int64) * layer.before + state, return_inverse=True)
            owner, arc = self._tree(number).walk(0, pairs % layer.before, pairs // layer.before)
            bounds = np.searchsorted(owner, np.arange(len(pairs) + 1))
            for part in _parts(np.diff(bounds)[which]):
                new[part] = self._fitting(number, which[part], bounds, arc, used[part], rng)
            lost = np.flatnonzero(new < 0)
            for part in _parts(np.diff(layer.start)[state[lost]]):
                here = lost[part]
                new[here] = self._fitting(number, state[here], layer.start, np.arange(len(layer)), used[here], rng)
            paths[rows, number] = new
            used = used + fits.amount(number, new)
            state = layer.target[new]

    def _tree(self, number: int) -> Tree:
        known = self._trees.get(number)
        if known is None:
            known = self._trees[number] = Tree(self.diagram.layers[number])
        return known

    @cached_property
    def _trees(self) -> dict[int, Tree]:
        return {}

    def _fitting(self, number: int, which: Ints, bounds: Ints, arcs: Ints, used: Any, rng: np.random.Generator) -> Ints:
        """For each row one of its arcs that lead on inside the window, by weight; -1 where there is none.

        Those of a row are `arcs` from bounds[which] to bounds[which + 1] - 1.
        """
        layer = self.diagram.layers[number]
        row, entry = spread(bounds[which], bounds[which + 1] - bounds[which])
        arc = arcs[entry]
        fits = self._fits.completes(number + 1, layer.target[arc], used[row] + self._fits.amount(number, arc))
        row, arc = row[fits], arc[fits]
        chosen = weighted(row, layer.weights.log2[arc] * math.log(2), len(which), rng.random(len(which)))
        return np.where(chosen >= 0, arc[chosen], -1) if len(arc) else np.full(len(which), -1)

    def _mutate_inside(self, paths: Paths, fits: Inside, rng: np.random.Generator) -> NDArray[np.int32]:
        """Mutates paths in place, looking at all that comes into question."""
        decision = np.full(len(paths), -1, np.int32)
        each = sum(float(_lengths(near).max(initial=1)) for near in self._neighbours)
        for rows in chunks(len(paths), max(1, int(MOST_PAIRS / max(each, 1)))):
            decision[rows] = self._mutate_few(paths[rows], fits, rng)
        return decision

    def _mutate_few(self, paths: Paths, fits: Inside, rng: np.random.Generator) -> NDArray[np.int32]:
        n, layers = len(paths), self.diagram.layers
        decision = np.full(n, -1, np.int32)
        if not layers:
            return decision
        total = self.diagram.costs(paths)[:, list(fits.columns)]
        used = fits.nothing(n)
        found: list[tuple[Ints, Ints, Ints, Floats]] = []  # row, decision, arc, logarithm of the weight
        width = len(self.diagram.network.variables)
        for number, layer in enumerate(layers):
            near, own = self._neighbours[number], paths[:, number]
            for lists in (near.level, near.astray):
                if lists is None:
                    continue
                which, entry = spread(lists.start[own].ravel(), (lists.end[own] - lists.start[own]).ravel())
                row, place = np.divmod(which, len(layer.decisions))
                arc = lists.arc[entry]
                weight = lists.weight[entry]
                if lists is near.level:
                    costs = total[row] + layer.costs[arc][:, fits.columns] - layer.costs[own[row]][:, fits.columns]
                    inside = ((costs >= fits.low) & (costs <= fits.high)).all(axis=1)
                    if near.shared:  # the arc itself stands for the other values of its cell
                        same = arc == own[row]
                        with np.errstate(divide="ignore"):
                            others = np.log1p(-np.exp(-near.own[own[row]]))
                        weight = np.where(same, weight + others, weight)
                        inside &= weight > -math.inf
                else:
                    inside = fits.completes(number + 1, layer.target[arc], used[row] + fits.amount(number, arc))
                decisions = np.asarray(layer.decisions)[place]
                found.append((row[inside], decisions[inside], arc[inside].astype(np.int64), weight[inside]))
            used = used + fits.amount(number, own)
        row, changed, arc = (np.concatenate([part[i] for part in found]) for i in (0, 1, 2))
        weight = np.concatenate([part[3] for part in found])
        # One of the decisions of a row for which anything fits, then one of the arcs that change it.
        order = np.lexsort((changed, row))
        row, changed, arc, weight = row[order], changed[order], arc[order], weight[order]
        able, group = np.unique(row * width + changed, return_inverse=True)
        chosen = weighted(able // width, np.zeros(len(able)), n, rng.random(n))
        taken = weighted(group, weight, len(able), rng.random(len(able)))
        rows = np.flatnonzero(chosen >= 0)
        if not len(rows):
            return decision
        decision[rows] = able[chosen[rows]] % width
        new = arc[taken[chosen[rows]]]
        home = self._home[decision[rows]]
        for number in np.unique(home).tolist():
            here = rows[home == number]
            old = paths[here, number]
            paths[here, number] = new[home == number]
            astray = layers[number].target[old] != layers[number].target[paths[here, number]]
            self._go_on(paths, here[astray], number + 1, rng)
        return decision

    @cached_property
    def _home(self) -> Ints:
        """The layer of each decision."""
        home = np.zeros(len(self.diagram.network.variables), np.int64)
        for number, layer in enumerate(self.diagram.layers):
            home[list(layer.decisions)] = number
        return home

    # crossover

    def crossover(self, a: Paths, b: Paths, rng: np.random.Generator) -> tuple[Paths, NDArray[np.bool_]]:
        """For each pair an architecture between the two, and [n, layers] what it has from the second.

        Between two boundaries at which both are in the same state, the layers of one can stand in for those of the
        other. Each such piece comes from either parent with equal odds. Inside a window the child starts as the first
        parent, and takes over the pieces so chosen in random order, as far as it stays inside.

        Raises:
            ArgumentError: not as many first parents as second ones.
        """
        if a.shape != b.shape:
            raise ArgumentError(f"{len(a)} first parents and {len(b)} second ones")
        child = np.array(a, np.int32, order="F")
        taken = np.zeros(a.shape, np.bool_, order="F")
        for rows in chunks(len(a)):
            taken[rows] = self._cross(a[rows], b[rows], rng)
            child[rows][taken[rows]] = b[rows][taken[rows]]
        return child, taken

    def _cross(self, a: Paths, b: Paths, rng: np.random.Generator) -> NDArray[np.bool_]:
        n, layers = len(a), self.diagram.layers
        if not layers:
            return np.zeros((n, 0), np.bool_)
        piece = np.zeros((n, len(layers)), np.int64)  # by the layer that it begins with
        for number in range(1, len(layers)):
            before = layers[number - 1]
            same = before.target[a[:, number - 1]] == before.target[b[:, number - 1]]
            piece[:, number] = np.where(same, number, piece[:, number - 1])
        wanted = rng.random((n, len(layers))) < 0.5
        if self.within is None:
            return np.take_along_axis(wanted, piece, axis=1)
        columns = list(self.within.bounds.columns)
        total = self.diagram.costs(a)[:, columns]
        low, high = np.array(self.within.bounds.low), np.array(self.within.bounds.high)
        change = np.zeros((n, len(layers), len(columns)), np.int64)
        for number, layer in enumerate(layers):
            costs = layer.costs[:, columns]
            change[np.arange(n), piece[:, number]] += costs[b[:, number]] - costs[a[:, number]]
        taken = np.zeros((n, len(layers)), np.bool_)
        order = np.argsort(rng.random((n, len(layers))), axis=1)
        row = np.arange(n)
        for step in range(len(layers)):
            tried = order[:, step]
            new = total + change[row, tried]
            ok = wanted[row, tried] & (piece[row, tried] == tried)
            ok &= ((new >= low) & (new <= high)).all(axis=1)
            taken[row, tried] = ok
            total = np.where(ok[:, None], new, total)
        return np.take_along_axis(taken, piece, axis=1)

    # matrices

    def mutate_matrix(self, matrix: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """As `mutate`, of rows of the diagram's encoding: the new rows, and the decision changed in each.

        Where an arc leaves open which of many values a decision takes, it keeps its value unless it is the one to
        change.

        Raises:
            ArgumentError: a row that is no architecture of the diagram.
        """
        paths = self._found(matrix)
        mutants = self.mutate(paths, rng)
        out = self.diagram.matrix(mutants.paths, rng)
        for number, layer, place in self.diagram.drawn_in:
            columns, cells = self.diagram.columns(number), self.diagram.layers[layer].cells[:, place]
            old, new = cells[paths[:, layer]], cells[mutants.paths[:, layer]]
            kept = np.flatnonzero((old == new) & (mutants.decision != number))
            out[kept, columns] = matrix[kept, columns]
            again = np.flatnonzero((old == new) & (mutants.decision == number))
            same = again[(out[again, columns] == matrix[again, columns]).all(axis=1)]
            for row in same.tolist():  # of the few that were drawn as they had been
                out[row, columns] = self._another(number, int(new[row]), matrix[row, columns], rng)
        return out, mutants.decision

    def crossover_matrix(self, a: NDArray[Any], b: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """As `crossover`, of rows of the diagram's encoding.

        Raises:
            ArgumentError: a row that is no architecture of the diagram, or not as many first parents as second ones.
        """
        _, taken = self.crossover(self._found(a), self._found(b), rng)
        out = np.array(a, self.diagram.encoding.dtype)
        for number, layer in enumerate(self.diagram.layers):
            rows = np.flatnonzero(taken[:, number])
            for decision in layer.decisions:
                columns = self.diagram.columns(decision)
                out[rows, columns] = b[rows, columns]
        return out

    def _found(self, matrix: NDArray[Any]) -> Paths:
        paths = self.diagram.find(matrix)
        if paths.size and paths.min() < 0:
            row = int((paths < 0).any(axis=1).argmax())
            raise ArgumentError(f"row {row} is no architecture of the space")
        return paths

    def _another(self, decision: int, cell: int, old: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """A uniform value of a cell other than the old one, by its rank there."""
        variable = self.diagram.network.variables[decision]
        assert variable.decision is not None
        path, members = variable.decision.path, Members(variable.decision, variable.cells[cell])
        rank = members.rank(Encoding({path: variable.decision}).decode(old[None])[0].indices[path])
        assert rank is not None
        other = _below(variable.cells[cell].count - 1, rng)
        return encoded(variable.decision, members.unrank(other + (other >= rank)), self.diagram.encoding.dtype)


def _lengths(near: Neighbours) -> Ints:
    """[arcs] how many neighbours there are."""
    lengths = (near.level.end - near.level.start).sum(axis=1)
    return lengths if near.astray is None else lengths + (near.astray.end - near.astray.start).sum(axis=1)


def _parts(lengths: Ints) -> Iterator[slice]:
    """Consecutive rows that have not too much to choose from together."""
    ends = np.cumsum(lengths)
    first = 0
    while first < len(lengths):
        base = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, base + MOST_PAIRS, side="right")))
        yield slice(first, last)
        first = last


def _below(bound: int, rng: np.random.Generator) -> int:
    """Uniform from 0 to bound - 1, of any size, to within 2^-64."""
    words = rng.integers(0, 1 << 64, bound.bit_length() // 64 + 2, np.uint64)
    number = int.from_bytes(words.tobytes(), "little")
    return number * bound >> 64 * len(words)
