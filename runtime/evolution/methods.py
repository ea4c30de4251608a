"""What to try next: the variants of one loop.

Each method is a function of the trials so far and of random numbers that follow from the seed and the number of the
proposal. It keeps nothing between proposals, so a search goes on from its ledger alone, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nasdsl.runtime.evolution.candidates import Candidates, Row
from nasdsl.runtime.evolution.objectives import Objectives, Values, front, order
from nasdsl.runtime.evolution.trial import Trial


class Rates(Protocol):
    """The settings that methods read; see `strategies/evolve.py` for what they mean."""

    @property
    def population(self) -> int: ...
    @property
    def tournament(self) -> int: ...
    @property
    def offspring(self) -> int | None: ...
    @property
    def mutation(self) -> float | None: ...
    @property
    def crossover(self) -> float: ...


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


class Method(Protocol):
    """The next architecture to evaluate, one that has not been seen; None where there is none left."""

    def __call__(self, history: History, rates: Rates, rng: np.random.Generator) -> Idea | None: ...


def draw(history: History, rates: Rates, rng: np.random.Generator) -> Idea | None:
    """Random search without replacement: as `Candidates` draws, but nothing twice."""
    row = history.candidates.draw(history.seen, rng)
    return None if row is None else Idea(row)


def regularised(history: History, rates: Rates, rng: np.random.Generator) -> Idea | None:
    """Regularised (aged) evolution, Real et al. 2019: the population is the youngest `population` trials; the best of a
    random `tournament` of them has a child. Whoever is old dies, however good."""
    if len(history.trials) < rates.population:
        return draw(history, rates, rng)
    young = np.arange(len(history.trials))[-rates.population :]
    parent = _best_of(young, rates.tournament, history, rng)
    other = _best_of(young, rates.tournament, history, rng)
    return _child(parent, other, history, rates, rng)


def nsga2(history: History, rates: Rates, rng: np.random.Generator) -> Idea | None:
    """NSGA-II, Deb et al. 2002: the parents of a generation are the best `population` of all trials of those before it,
    by rank of non-domination, of one rank the least crowded; of two random ones the better becomes a parent."""
    offspring = rates.offspring or rates.population
    begun = rates.population + max(0, history.index - rates.population) // offspring * offspring
    before = np.asarray([i for i, trial in enumerate(history.trials) if trial.index < begun], np.int64)
    if history.index < rates.population or not len(before):
        return draw(history, rates, rng)
    parents = before[order(history.losses[before])[: rates.population]]  # best first
    first, second = (int(parents[rng.integers(len(parents), size=rates.tournament).min()]) for _ in range(2))
    return _child(first, second, history, rates, rng)


def local(history: History, rates: Rates, rng: np.random.Generator) -> Idea | None:
    """Local search, White et al. 2021: the unseen neighbours of the best architecture so far in random order; the first
    that is better takes its place. Where none is, it starts again from a random one.

    With several objectives it begins with `population` random ones, and looks at a neighbour of a random one of the
    front each time (Pareto local search, Paquete et al. 2004).
    """
    for at in _centres(history, rates, rng):
        trial = history.trials[at]
        if trial.index in history.spent:
            continue
        row = history.candidates.neighbour(history.row(trial), history.seen, rng)
        if row is not None:
            return Idea(row, (trial.index,))
        history.spent.add(trial.index)
    return draw(history, rates, rng)


def _centres(history: History, rates: Rates, rng: np.random.Generator) -> list[int]:
    """The numbers of the trials whose neighbours are to be looked at; none where it is time for a random one."""
    if not history.trials:
        return []
    if history.losses.shape[1] > 1:
        if history.index < rates.population:
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


def _child(first: int, second: int, history: History, rates: Rates, rng: np.random.Generator) -> Idea | None:
    """An unseen child: with the odds of `crossover` between two parents, and then changed in one decision, or with
    `mutation` in as many as that share of them gives by chance, at least one."""
    parents = [history.trials[first]]
    row = history.row(parents[0])
    if second != first and rng.random() < rates.crossover:
        parents.append(history.trials[second])
        row = history.candidates.cross(row, history.row(parents[1]), rng)
        # What is new without a mutation is taken as it is where mutations are rare.
        if rates.mutation is not None and rng.random() < (1 - rates.mutation) ** _size(row, history):
            child = history.candidates.new(row[None], history.seen)
            if child is not None:
                return Idea(child, tuple(parent.index for parent in parents))
    steps = 1 if rates.mutation is None else max(1, int(rng.binomial(_size(row, history), rates.mutation)))
    child, _ = history.candidates.mutate(row, history.seen, rng, steps)
    if child is None:
        return draw(history, rates, rng)
    return Idea(child, tuple(parent.index for parent in parents))


def _size(row: Row, history: History) -> int:
    """How many decisions of an architecture are present."""
    (architecture,) = history.candidates.encoding.decode(row[None])
    return len(architecture)


METHODS: Mapping[str, Method] = {"random": draw, "regularised": regularised, "nsga2": nsga2, "local": local}
