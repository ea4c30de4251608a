"""What to try next: the variants of one loop.

A method is its settings, with a function `propose` of the trials so far and of random numbers that follow from the seed
and the number of the proposal. What it keeps between proposals spares time only: a search goes on from its ledger
alone, with any number of workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator

from nasdsl.runtime.evolution.candidates import Candidates, Row
from nasdsl.runtime.evolution.objectives import Objectives, Values, front, order
from nasdsl.runtime.evolution.trial import Trial
from nasdsl.runtime.settings import Settings

POPULATION = 20
TOURNAMENT = 10  # of 20: NAS-Bench-201 and NAS-Bench-MR reward those who hurry (benchmarks/results/tables.md)
CROSSOVER = 0.9  # Deb et al. 2002


@dataclass
class History:
    """What is known when a proposal is made.

    Attributes:
        trials: complete ones, by rising index.
        losses: [n, objectives] theirs; less is better.
        objectives: what these are.
        pending: trials that wait or that someone evaluates, by rising index.
        seen: functions (or keys) of all trials, also of those that are not complete.
        index: how many proposals there were before.
        rows: of trials, by index, as far as they were asked for.
        spent: indices of trials all of whose neighbours have been seen.
    """

    trials: list[Trial]
    losses: Values
    objectives: Objectives
    pending: list[Trial]
    seen: Collection[str]
    index: int
    rows: dict[int, Row]
    spent: set[int]
    candidates: Candidates

    def row(self, trial: Trial) -> Row:
        known = self.rows.get(trial.index)
        if known is None:
            known = self.rows[trial.index] = self.candidates.row(trial.proposal.architecture)
        return known


@dataclass(frozen=True)
class Idea:
    """A row to evaluate, the indices of the trials it was made from, and notes for the method itself."""

    row: Row
    parents: tuple[int, ...] = ()
    notes: Mapping[str, Any] | None = None


class Method(Settings, ABC):
    """What proposes: a model of its own settings. `search evolve { method: NAME }` finds it by name, built in or an
    entry point in the group `nasdsl.methods`."""

    @abstractmethod
    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        """The next architecture to evaluate, one that has not been seen; None where there is none left."""


def draw(history: History, rng: np.random.Generator) -> Idea | None:
    """As `Candidates` draws, but nothing twice."""
    row = history.candidates.draw(history.seen, rng)
    return None if row is None else Idea(row)


class Random(Method):
    """Random search without replacement."""

    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        return draw(history, rng)


class Breeding(Method, ABC):
    """
    Attributes:
        population: how many trials may be parents.
        tournament: of so many, drawn by chance, the best becomes a parent.
        mutation: the share of an architecture's decisions that a mutation changes on average, at least one; by default
            exactly one.
        crossover: share of the children that have two parents.
    """

    population: int = Field(default=POPULATION, gt=1)
    tournament: int | None = Field(default=None, gt=0)
    mutation: float | None = Field(default=None, gt=0, le=1)
    crossover: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _draws_from_all(self) -> Breeding:
        if self.tournament is not None and self.tournament > self.population:
            raise ValueError("has tournaments larger than its population")
        return self

    def _child(self, first: int, second: int, history: History, rng: np.random.Generator) -> Idea | None:
        """An unseen child: with the odds of `crossover` between two parents, and then changed in one decision, or with
        `mutation` in as many as that share of them gives by chance, at least one."""
        parents = [history.trials[first]]
        row = history.row(parents[0])
        if second != first and rng.random() < self.crossover:
            parents.append(history.trials[second])
            row = history.candidates.cross(row, history.row(parents[1]), rng)
            # What is new without a mutation is taken as it is where mutations are rare.
            if self.mutation is not None and rng.random() < (1 - self.mutation) ** _size(row, history):
                child = history.candidates.new(row[None], history.seen)
                if child is not None:
                    return Idea(child, tuple(parent.index for parent in parents))
        steps = 1 if self.mutation is None else max(1, int(rng.binomial(_size(row, history), self.mutation)))
        child, _ = history.candidates.mutate(row, history.seen, rng, steps)
        if child is None:
            return draw(history, rng)
        return Idea(child, tuple(parent.index for parent in parents))


class Regularised(Breeding):
    """Regularised (aged) evolution, Real et al. 2019: the population is the youngest `population` trials; the best of a
    random `tournament` of them, by default 10, has a child. Whoever is old dies, however good."""

    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        if len(history.trials) < self.population:
            return draw(history, rng)
        young = np.arange(len(history.trials))[-self.population :]
        size = self.tournament or min(TOURNAMENT, self.population)
        parent, other = _best_of(young, size, history, rng), _best_of(young, size, history, rng)
        return self._child(parent, other, history, rng)


class Nsga2(Breeding):
    """NSGA-II, Deb et al. 2002: the parents of a generation are the best `population` of all trials of those before it,
    by rank of non-domination, of one rank the least crowded; of two random ones the better becomes a parent.

    Attributes:
        offspring: children of a generation; by default as many as the population. 1 is the steady state.
    """

    offspring: int | None = Field(default=None, gt=0)
    crossover: float = Field(default=CROSSOVER, ge=0, le=1)
    _kept: tuple[dict[int, Row], int, NDArray[np.int64]] | None = PrivateAttr(None)
    """The parents of the generation, and of which search and of how many trials they are the best."""

    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        offspring = self.offspring or self.population
        begun = self.population + max(0, history.index - self.population) // offspring * offspring
        before = bisect_left(history.trials, begun, key=lambda trial: trial.index)
        if history.index < self.population or not before:
            return draw(history, rng)
        if self._kept is None or self._kept[0] is not history.rows or self._kept[1] != before:
            parents = order(history.losses[:before])[: self.population]  # best first
            self._kept = history.rows, before, parents
        parents = self._kept[2]
        size = self.tournament or min(2, self.population)
        first, second = (int(parents[rng.integers(len(parents), size=size).min()]) for _ in range(2))
        return self._child(first, second, history, rng)


class Local(Method):
    """Local search, White et al. 2021: the unseen neighbours of the best architecture so far in random order; the first
    that is better takes its place. Where none is, it starts again from a random one.

    With several objectives it begins with `population` random ones, and looks at a neighbour of a random one of the
    front each time (Pareto local search, Paquete et al. 2004).

    Attributes:
        population: with how many random ones it begins where there are several objectives.
    """

    population: int = Field(default=POPULATION, gt=1)

    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        for at in _centres(history, self.population, rng):
            trial = history.trials[at]
            if trial.index in history.spent:
                continue
            row = history.candidates.neighbour(history.row(trial), history.seen, rng)
            if row is not None:
                return Idea(row, (trial.index,))
            history.spent.add(trial.index)
        return draw(history, rng)


def _centres(history: History, population: int, rng: np.random.Generator) -> list[int]:
    """The numbers of the trials whose neighbours are to be looked at; none where it is time for a random one."""
    if not history.trials:
        return []
    if history.losses.shape[1] > 1:
        if history.index < population:
            return []
        return [int(at) for at in rng.permutation(front(history.losses))]
    best = 0
    for at, trial in enumerate(history.trials):
        started, improved = not trial.proposal.parents, history.losses[at, 0] < history.losses[best, 0]
        if started or (improved and trial.proposal.parents == (history.trials[best].index,)):
            best = at
    return [best]


def _best_of(among: Any, size: int, history: History, rng: np.random.Generator) -> int:
    """The best of a few different ones drawn by chance."""
    drawn = rng.choice(among, min(size, len(among)), replace=False)
    return int(drawn[order(history.losses[drawn])[0]])


def _size(row: Row, history: History) -> int:
    """How many decisions of an architecture are present."""
    (architecture,) = history.candidates.encoding.decode(row[None])
    return len(architecture)
