"""What a search is after: objectives, who is better, fronts and hypervolume.

Sorting and hypervolume are moocore's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler import measures
from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.runtime.errors import RunError


class EvaluationError(NasdslError):
    """One architecture that cannot be evaluated; others may."""

    code = "evaluation"


class Untrainable(EvaluationError):
    """An architecture whose training cannot come to its end: it diverges, or does not fit in memory. That some do is no
    mistake of whoever evaluates, and a search goes on without them."""


Values = NDArray[np.float64]
"""[n, objectives]"""


@dataclass(frozen=True)
class Objectives:
    """The names of what is measured, and of each whether more of it is better."""

    directions: Mapping[str, bool]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.directions)

    @property
    def maximised(self) -> list[bool]:
        return list(self.directions.values())

    def of(self, metrics: Mapping[str, float], costs: Mapping[str, float]) -> tuple[float, ...]:
        """The values of one architecture, as measured.

        Raises:
            RunError: what is neither a metric nor a cost; the message says what there is.
            EvaluationError: a value that is no finite number.
        """
        derived = [one.name for one in measures.BUILT_IN.values() if one.of is not None]
        derived += [name for name in self.names if measures.lookup(name) is not None and name not in costs]
        bases = {name: measures.base(name) for name in derived}
        multiples = {name: factor * costs[of] for name, (factor, of) in bases.items() if of in costs}
        known = {**costs, **multiples, **metrics}
        for name in self.names:
            if name not in known:
                raise RunError(f"nothing measures `{name}`", f"there are {', '.join(f'`{one}`' for one in known)}")
            if not math.isfinite(known[name]):
                raise EvaluationError(f"`{name}` is {known[name]}")
        return tuple(float(known[name]) for name in self.names)

    def losses(self, values: Sequence[tuple[float, ...]]) -> Values:
        """[n, objectives] of which less is always better."""
        signs = np.where(self.maximised, -1.0, 1.0)
        return np.asarray(values, np.float64).reshape(-1, len(self.names)) * signs


def ranks(losses: Values) -> NDArray[np.int64]:
    """[n] 0 for what nothing dominates, 1 for what only these dominate, and so on; equal ones have equal ranks."""
    if losses.shape[1] == 1:
        return np.unique(losses[:, 0], return_inverse=True)[1].astype(np.int64)
    import moocore

    return np.asarray(moocore.pareto_rank(losses), np.int64)


def crowding(losses: Values, rank: NDArray[np.int64]) -> NDArray[np.float64]:
    """[n] how much room each has among those of its rank (NSGA-II, Deb et al. 2002): the sum over the objectives of the
    difference of its neighbours on both sides, as a share of the range; infinite at the ends."""
    room = np.zeros(len(losses))
    for front in np.unique(rank):
        members = np.flatnonzero(rank == front)
        for column in losses[members].T:
            order = np.argsort(column, kind="stable")
            values = column[order]
            span = values[-1] - values[0]
            room[members[order[[0, -1]]]] = math.inf
            if span > 0:
                room[members[order[1:-1]]] += (values[2:] - values[:-2]) / span
    return room


def order(losses: Values) -> NDArray[np.int64]:
    """[n] best first: by rank, of one rank the least crowded, of these the first."""
    rank = ranks(losses)
    if losses.shape[1] == 1:
        return np.argsort(rank, kind="stable")
    return np.lexsort((-crowding(losses, rank), rank))


def front(losses: Values) -> NDArray[np.int64]:
    """The numbers of those that nothing dominates, by rising first loss; of equal ones the first."""
    if not len(losses):
        return np.zeros(0, np.int64)
    import moocore

    kept = np.flatnonzero(moocore.is_nondominated(losses, keep_weakly=False))
    return kept[np.lexsort(losses[kept].T[::-1])]


def hypervolume(losses: Values, reference: Sequence[float]) -> float:
    """How much of the room below a reference point (of losses) is dominated."""
    import moocore

    below = losses[(losses < np.asarray(reference)).all(axis=1)]
    return float(moocore.hypervolume(below, ref=np.asarray(reference, np.float64))) if len(below) else 0.0


def named(values: Sequence[float], names: Sequence[str]) -> dict[str, Any]:
    """Objectives by name."""
    return dict(zip(names, values, strict=True))
