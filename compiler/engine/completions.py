"""How much fits into what is left of a budget, and draws by looking at all that does."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.engine.lattice import Bounds, Groups, Lattice, behind_states
from nasdsl.compiler.engine.levels import Floats, Ints
from nasdsl.compiler.engine.limits import Infeasible


class Completions:
    """Of what can follow on a state, the share that fits into what is left of a window, as tables over the lattice.

    What is *left* is the number of steps between what has been spent so far, with the least that can follow, and the
    window's upper end. It is never negative.

    Attributes:
        left: at the beginning, [measures].
        width: of a window of one measure that is closed at both ends, in steps; else None.
        log_share: natural logarithm of the share of all architectures that the window holds.

    Raises:
        Infeasible: the window is empty.
    """

    def __init__(self, lattice: Lattice, wanted: Bounds, boundaries: Collection[int]):
        self.lattice = lattice
        self.left = np.array(lattice.shape, np.int64) - 1
        # What was rounded up may lie as far below a bound as the error says.
        margin = lattice.error if lattice.up else (0,) * len(lattice.error)
        parts = zip(wanted.low, lattice.least, lattice.step, margin, strict=True)
        first = [-(-(low + error - least) // step) if low > least else 0 for low, least, step, error in parts]
        width = [int(last) - start for last, start in zip(self.left, first, strict=True)]
        if min(width) < 0:
            raise Infeasible("no architecture lies inside the window, as far as rounded costs tell")
        # Sums over all that costs at most so much are running sums; where a window has two ends, or shares are tilted,
        # these would cancel, and a box at the end takes their place.
        boxed = [start > 0 or (bool(lattice.theta) and axis == lattice.axis) for axis, start in enumerate(first)]
        self.width = width[0] if len(width) == 1 and first[0] > 0 else None
        end = np.ones([w + 1 if box else 1 for w, box in zip(width, boxed, strict=True)])
        scale = 0.0
        if lattice.theta:
            scale = max(0.0, -lattice.theta * width[lattice.axis])
            tilt = np.exp(-lattice.theta * np.arange(width[lattice.axis] + 1) - scale)
            end *= np.moveaxis(tilt.reshape(-1, *[1] * (end.ndim - 1)), 0, lattice.axis)
        self.rising = not any(boxed)  # what fits grows with what is left
        self._tables: dict[int, Floats] = {}
        self._offset: dict[int, Ints] = {}
        self._length: dict[int, Ints] = {}
        last = len(lattice.groups)
        for number, behind in enumerate(behind_states(lattice.groups, end, lattice.cut)):
            if last - number in boundaries or number == last:
                self._keep(last - number, behind, boxed)
        share = float(self.at(0, np.zeros(1, np.int64), self.left[None])[0])
        if not share > 0:
            raise Infeasible("no architecture lies inside the window, as far as rounded costs tell")
        tilted = (
            lattice.theta * float(self.left[lattice.axis]) + scale + float(lattice.tilts[0][0])
            if lattice.theta
            else 0.0
        )
        self.log_share = math.log(share) + tilted

    def _keep(self, boundary: int, behind: list[NDArray[Any]], boxed: list[bool]) -> None:
        tables = []
        for table in behind:
            for axis, box in enumerate(boxed):
                if not box:
                    table = np.cumsum(table, axis=axis)
            # Nothing fits into less than nothing; past the end of a box nothing does, past a running sum all.
            tables.append(np.pad(table, [(1, int(box)) for box in boxed]))
        self._length[boundary] = np.array([table.shape for table in tables], np.int64)
        self._offset[boundary] = np.cumsum([0] + [table.size for table in tables])[:-1]
        self._tables[boundary] = np.concatenate([table.ravel() for table in tables])

    def place(self, boundary: int, state: NDArray[Any], left: NDArray[Any]) -> Ints:
        """Where in the tables of a boundary a state finds what is left [..., measures]."""
        length = self._length[boundary][state]
        if left.shape[-1] == 1:
            alone: Ints = left[..., 0] + 1
            np.minimum(np.maximum(alone, 0, out=alone), length[..., 0] - 1, out=alone)
            alone += self._offset[boundary][state]
            return alone
        index: Any = 0
        for axis in range(left.shape[-1]):
            own = length[..., axis]
            index = index * own + np.minimum(np.maximum(left[..., axis] + 1, 0), own - 1)
        place: Ints = self._offset[boundary][state] + index
        return place

    def entry(self, boundary: int, state: NDArray[Any], left: Ints) -> Ints:
        """As `place`, for rows [rows] of one measure with something left."""
        _, offset, length = self.table(boundary)
        if len(offset) == 1:
            return np.minimum(left + 1, length[0] - 1)
        return offset[state] + np.minimum(left + 1, length[state] - 1)

    def at(self, boundary: int, state: NDArray[Any], left: NDArray[Any]) -> Floats:
        """The share that fits, up to a factor that is the same for all states."""
        return self._tables[boundary][self.place(boundary, state, left)]

    def table(self, boundary: int) -> tuple[Floats, Ints, Ints]:
        """All entries, the first of each state (for -1 left), and how many it has, of one measure."""
        return self._tables[boundary], self._offset[boundary], self._length[boundary][:, 0]


def scan(
    groups: Groups,
    state: int,
    left: Ints,
    room: Completions,
    boundary: int,
    uniform: Floats,
    known: Floats | None = None,
) -> Ints:
    """For rows [rows, measures] in one state a group of arcs, in proportion to what fits behind it.

    Args:
        boundary: behind the groups.
        uniform: [rows] in [0, 1).
        known: [rows, groups] weights that are not to be counted.
    """
    part = slice(int(groups.start[state]), int(groups.start[state + 1]))
    shift, target, share = groups.shift[part], groups.target[part], groups.share[part]
    picked = np.empty(len(left), np.int64)
    rows = max(1, (1 << 15) // len(share))
    for first in range(0, len(left), rows):
        here = slice(first, first + rows)
        weights = room.at(boundary, target, left[here, None, :] - shift)
        weights *= share
        if known is None:
            sums = np.cumsum(weights, axis=1)
        else:
            rest = weights - known[here]
            sums = np.cumsum(np.maximum(rest, 0, out=rest), axis=1)
            nothing = np.flatnonzero(sums[:, -1] <= 0)  # by rounding
            sums[nothing] = np.cumsum(weights[nothing], axis=1)
        total = sums[:, -1]
        wanted = np.minimum(uniform[here] * total, np.nextafter(total, 0))
        picked[here] = part.start + (sums <= wanted[:, None]).sum(axis=1)
    return picked


def member(groups: Groups, group: Ints, uniform: Floats) -> Ints:
    """An arc of each group, each equally likely: arcs of different weight are in different groups."""
    first = groups.first[group]
    return groups.arcs[first + (uniform * (groups.first[group + 1] - first)).astype(np.int64)]
