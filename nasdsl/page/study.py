"""What a page tells of: the trials of a search, what it was after, and who of them is best; or one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.measures import base, lookup, with_default
from nasdsl.runtime.chosen import Decoded, Probabilities, Scores
from nasdsl.runtime.evolution.objectives import front
from nasdsl.runtime.evolution.trial import State

CHECKPOINTS = 250


def label_of(name: str) -> str:
    """A measure as people call it, `MACs`, and what is expected of one; else the name."""
    first, _, rest = name.partition(" ")
    before, bare = ("expected ", rest) if first == "expected" else ("", name)
    measure = lookup(bare)
    return name if measure is None else f"{before}{measure.label}"


@dataclass(frozen=True)
class Objective:
    """What is measured of each architecture, and whether more of it is better."""

    name: str
    maximise: bool


@dataclass(frozen=True)
class Record:
    """One trial.

    Attributes:
        number: counts the trials from 0.
        objectives: in the order of the study's; empty unless the trial is complete.
        costs: MACs, parameters and other measures, by name and in their units.
        decisions: the architecture, as `Architecture.to_json` writes it.
        seconds: that the evaluation took.
        parents: numbers of the trials that it was made from.
        metrics: what else was measured.
        error: why it failed, or was skipped.
    """

    number: int
    state: State
    objectives: tuple[float, ...]
    costs: Mapping[str, float]
    decisions: Mapping[str, Any]
    seconds: float | None = None
    parents: tuple[int, ...] = ()
    seed: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Training:
    """A run that trains one network, of an architecture or of a space.

    Attributes:
        search: what trains: `shrink`, `sample`, or `train` where it is an architecture.
        rows: the numbers of each measurement, by name.
        about: as of a study.
        choices: what a search by gradient or a screening tells of its choices.
        removals: of a search that removes units, at each measurement that found fewer than the one before.
        candidates: of a sampled supernet, what was scored with its weights at the end.
    """

    search: str
    rows: Sequence[Mapping[str, float]]
    about: Mapping[str, str] = field(default_factory=dict)
    choices: Gradient | Screening | None = None
    removals: Sequence[Removal] = ()
    candidates: Sequence[Candidate] = ()

    @property
    def numbers(self) -> Mapping[str, float]:
        """What was measured last."""
        return self.rows[-1] if self.rows else {}


@dataclass(frozen=True)
class Removal:
    """How many search units decisions have left, by path, from an epoch on; of those that have fewer than before."""

    epoch: float
    left: Mapping[str, int]


@dataclass(frozen=True)
class Candidate:
    """An architecture, as `Architecture.to_json` writes it, and what is known of it: metrics, costs."""

    decisions: Mapping[str, Any]
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Gradient:
    """The choices of a search by gradient, at each measurement, and how they ended; None while they have not."""

    measured: Sequence[Probabilities]
    decoded: Decoded | None


@dataclass(frozen=True)
class Screening:
    """The scores of a screening, at each measurement, and whether it has ended."""

    measured: Sequence[Scores]
    ended: bool


@dataclass(frozen=True)
class Study:
    """The trials of a search.

    Attributes:
        records: by rising number.
        about: what else there is to know: names and values, for people.
    """

    name: str
    objectives: tuple[Objective, ...]
    records: Sequence[Record]
    about: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def complete(self) -> list[int]:
        """Places in `records` of the trials that are complete."""
        return [i for i, record in enumerate(self.records) if record.state == "complete"]

    @cached_property
    def aims(self) -> tuple[Objective, ...]:
        """What the front is of: the objectives; where there is one alone, the MACs as well."""
        if len(self.objectives) > 1 or any(self._is_cost(one.name) for one in self.objectives):
            return self.objectives
        return (*self.objectives, Objective("macs", False))

    @staticmethod
    def _is_cost(name: str) -> bool:
        measure = lookup(name)
        return measure is not None and base(name)[1] == "macs"

    @cached_property
    def costs(self) -> tuple[str, ...]:
        """The measures that are told of its trials."""
        return with_default(name for record in self.records for name in record.costs)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """[complete, aims]: of which less is always better."""
        signs = [-1.0 if aim.maximise else 1.0 for aim in self.aims]
        records = [self.records[i] for i in self.complete]
        rows = [(*r.objectives, r.costs.get("macs", 0.0))[: len(self.aims)] for r in records]
        return np.asarray(rows, np.float64).reshape(len(records), len(self.aims)) * signs

    @cached_property
    def front(self) -> list[int]:
        """Places in `records` of what nothing dominates, from the best to the worst by the first objective; of equal
        ones the first."""
        return [self.complete[i] for i in front(self.losses)]

    @cached_property
    def reference(self) -> tuple[float, ...]:
        """The worst value of each aim among all trials, as measured: what the hypervolume is taken from."""
        worst = self.losses.max(axis=0) if len(self.losses) else np.zeros(len(self.aims))
        return tuple(float(-w if aim.maximise else w) for w, aim in zip(worst, self.aims, strict=True))

    def hypervolume(self) -> list[tuple[int, float]]:
        """How the trials fill the box between the best values and the reference: the share that is dominated after some
        of them, the earlier the denser. Pairs of how many are complete and the share."""
        if len(self.losses) < 2 or len(self.aims) < 2:
            return []
        best, worst = self.losses.min(axis=0), self.losses.max(axis=0)
        scaled = (self.losses - best) / np.where(worst > best, worst - best, 1.0)
        out: list[tuple[int, float]] = []
        best_so_far = np.zeros((0, scaled.shape[1]))
        ends = np.unique(np.geomspace(1, len(scaled), CHECKPOINTS).round().astype(int))
        start = 0
        for end in ends:
            best_so_far = np.concatenate((best_so_far, scaled[start:end]))
            best_so_far = best_so_far[moocore.is_nondominated(best_so_far, keep_weakly=False)]
            out.append((int(end), float(moocore.hypervolume(best_so_far, ref=np.ones(scaled.shape[1])))))
            start = end
        return out

    def pictured(self, most: int) -> list[int]:
        """Places of those worth a drawing: from one end of the front to the other, the best first."""
        if len(self.front) <= most:
            return self.front
        return [self.front[round(i)] for i in np.linspace(0, len(self.front) - 1, most)]
