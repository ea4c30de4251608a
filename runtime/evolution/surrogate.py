"""Search with a model: a Gaussian process learns from the trials so far what architectures are worth, and of many that
come into question the one is evaluated that promises most.

What comes into question is drawn inside the budgets, half of it anywhere, half near the best trials. Promise is
expected improvement (Jones et al. 1998), and less of it where hardly anything is left to learn (Huang et al. 2006). Of
several objectives each has a process of its own, but for costs, which are known; what is improved is the greatest of
them, weighted at random anew for each proposal (ParEGO, Knowles 2006). Values are modelled by their ranks, as normal
quantiles, so that a few failures do not count for all.

Architectures that other workers have in hand count as evaluated with the value that the model expects of them (kriging
believer, Ginsbourger et al. 2010), so that workers look in different places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from nasdsl.compiler.cost import is_known
from nasdsl.compiler.measures import lookup
from nasdsl.runtime.evolution.candidates import Rows
from nasdsl.runtime.evolution.features import Features, Floats, Points, squared
from nasdsl.runtime.evolution.methods import History, Idea, Method, draw
from nasdsl.runtime.evolution.objectives import Values, order
from nasdsl.runtime.evolution.process import Process, Scales, fitted
from nasdsl.runtime.evolution.trial import Trial

FIRST = 10  # trials that are random draws
CANDIDATES = 1024
CELLS = 1 << 24  # of all candidates; where architectures have tens of thousands of columns there are fewer
LEADERS = 10  # the best trials, near which is searched
POOL = 4096  # rows of a pool that are all looked at
MOST = 512  # trials that a process learns from
LEARNT = 256  # trials that its scales are fitted to
GROWTH = 1.1  # scales are fitted anew when there are so many times more trials
DRAWS = 16  # of what candidates may be worth, of several objectives
LEAST = 1e-9  # improvement that is to be expected; where there is less the lowest bound counts
AUGMENTED = 0.05  # the share of the sum in a scalarisation (Knowles 2006)


class Surrogate(Method):
    """A Gaussian process and expected improvement; of several objectives ParEGO (Knowles 2006).

    What it keeps between proposals follows from the trials and spares time only."""

    _known: _Known | None = PrivateAttr(default=None)

    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        """The unseen candidate of greatest promise; a random draw while there are few trials, or nothing is near."""
        if len(history.trials) + len(history.pending) < FIRST or len(history.trials) < 2:
            return draw(history, rng)
        if self._known is None or self._known.rows is not history.rows:
            self._known = _Known(history)
        known = self._known
        asked = _candidates(history, rng)
        if known.features.ways:
            promise = _promise(known, history, asked.rows, rng)
        else:
            promise = np.zeros(len(asked.rows))
        for at in np.argsort(-promise, kind="stable"):
            if history.candidates.new(asked.rows[at : at + 1], history.seen) is not None:
                parents = dict.fromkeys(int(i) for i in asked.parents[at] if i >= 0)
                return Idea(asked.rows[at], tuple(history.trials[i].index for i in parents))
        return draw(history, rng)


class _Known:
    """What follows from the trials of one search, computed once."""

    def __init__(self, history: History):
        self.rows = history.rows
        self.features = Features(history.candidates)
        self._points: dict[int, Points] = {}
        self._scales: dict[tuple[int, ...], Scales] = {}
        self._pool: Points | None = None

    def of_candidates(self, rows: Rows) -> Points:
        """Points of rows; those of a pool are always the same."""
        if rows is not self.features.candidates.pool:
            return self.features(rows)
        if self._pool is None:
            self._pool = self.features(rows)
        return self._pool

    def of_trials(self, trials: Sequence[Trial], history: History) -> Points:
        missing = [trial for trial in trials if trial.index not in self._points]
        if missing:
            blocks = self.features(np.stack([history.row(trial) for trial in missing]))
            for i, trial in enumerate(missing):
                self._points[trial.index] = [block[i] for block in blocks]
        found = [self._points[trial.index] for trial in trials]
        return [np.stack(block) for block in zip(*found, strict=True)]

    def scales(self, objective: int, history: History) -> Scales:
        """Fitted to the trials that there were when their number had last grown by `GROWTH`."""
        n = FIRST
        while math.ceil(n * GROWTH) <= len(history.trials):
            n = math.ceil(n * GROWTH)
        n = min(n, len(history.trials))
        some = np.unique(np.linspace(0, n - 1, min(n, LEARNT)).astype(int))
        trials = [history.trials[i] for i in some]
        key = (objective, *(trial.index for trial in trials))
        if key not in self._scales:
            points = self.of_trials(trials, history)
            self._scales[key] = fitted(squared(points, points), _quantiles(history.losses[some, objective]))
        return self._scales[key]


# --- What comes into question


@dataclass(frozen=True)
class _Candidates:
    """
    Attributes:
        rows: [n, width].
        parents: [n, 2] the numbers of the trials that each was made from, -1 for none.
    """

    rows: Rows
    parents: NDArray[np.int64]


def _candidates(history: History, rng: np.random.Generator) -> _Candidates:
    """Uniform draws, mutants of the best trials and of crosses between two of these; of a pool, the rows near them."""
    candidates = history.candidates
    leaders = order(history.losses)[:LEADERS]
    rows = [history.row(history.trials[at]) for at in leaders]
    if candidates.pool is not None:
        if len(candidates.pool) <= POOL:
            found = candidates.pool
        else:
            found = np.concatenate((candidates.some(CANDIDATES, rng), *map(candidates.neighbours, rows)))
        return _Candidates(found, np.full((len(found), 2), -1))
    half = max(16, min(CANDIDATES, CELLS // max(1, candidates.encoding.width)) // 2)
    drawn = candidates.some(half, rng)
    first, second = rng.integers(len(leaders), size=(2, half))
    second[half // 2 :] = first[half // 2 :]
    children, kept = candidates.children(np.stack(rows)[first], np.stack(rows)[second], rng)
    parents = np.stack((leaders[first], leaders[second]), axis=1)[kept]
    return _Candidates(np.concatenate((drawn, children)), np.concatenate((np.full((half, 2), -1), parents)))


# --- What it promises


def _promise(known: _Known, history: History, rows: Rows, rng: np.random.Generator) -> Floats:
    """[n] of candidates; more is better."""
    used = _learnt_from(history.losses)
    trials = [history.trials[i] for i in used]
    losses = history.losses[used]
    values = np.stack([_quantiles(column) for column in losses.T], axis=1)
    points, own = known.of_candidates(rows), known.of_trials(trials, history)
    pending = known.of_trials(history.pending, history) if history.pending else None
    mean, deviation = np.zeros((2, len(rows), losses.shape[1]))
    news = np.zeros(len(rows))
    for number, up in enumerate(history.objectives.maximised):
        cost = _known_cost(history.objectives.names[number], rows, history)
        if cost is not None:
            mean[:, number] = _quantiles_of(-cost if up else cost, losses[:, number], values[:, number])
        elif np.ptp(losses[:, number]) > 0:
            process, seen = _process(known.scales(number, history), own, values[:, number], pending)
            mean[:, number], deviation[:, number] = process.at(squared(seen, points))
            news = np.maximum(news, _news(deviation[:, number], process.variance * process.scales.noise))
    if not deviation.any():
        news[:] = 1  # nothing is uncertain
    if losses.shape[1] == 1:
        expected, bound = _improvement(mean[:, 0], deviation[:, 0], float(values.min()))
    else:
        expected, bound = _scalar_improvement(mean, deviation, values, rng)
    expected = expected * news
    return expected if expected.max(initial=0) > LEAST else -bound


def _learnt_from(losses: Values) -> NDArray[np.int64]:
    """The numbers of the trials that a process learns from: all, or the best and the latest."""
    n = len(losses)
    if n <= MOST:
        return np.arange(n)
    best = order(losses)[: MOST // 2]
    rest = np.setdiff1d(np.arange(n), best)
    return np.sort(np.concatenate((best, rest[-(MOST // 2) :])))


def _process(scales: Scales, own: Points, values: Floats, pending: Points | None) -> tuple[Process, Points]:
    """The process, and the points that it has seen; what is pending with the value that is expected of it."""
    apart = squared(own, own)
    process = Process(apart, values, scales)
    if pending is None:
        return process, own
    believed, _ = process.at(squared(own, pending))
    both = [np.concatenate(pair) for pair in zip(own, pending, strict=True)]
    return Process(squared(both, both), np.concatenate((values, believed)), scales), both


def _known_cost(name: str, rows: Rows, history: History) -> NDArray[Any] | None:
    """[n] an objective that is known without an evaluation; None where it is none."""
    population = history.candidates.population
    known = lookup(name) is not None and is_known(population.graph, name)
    if not known or any(name in trial.metrics for trial in history.trials):
        return None  # what an evaluation gives goes before the cost of the same name
    found: NDArray[Any] = population.evaluator.costs(rows, [name])[:, 0]
    return found


def _quantiles(losses: Floats) -> Floats:
    """[n] the normal quantiles of their ranks."""
    found: Floats = ndtri((rankdata(losses) - 0.5) / len(losses))
    return found


def _quantiles_of(wanted: Any, losses: Floats, values: Floats) -> Floats:
    """[m] where other losses lie among those that have quantiles; beyond them in proportion."""
    known, at = np.unique(losses, return_index=True)
    heights = values[at]
    span = known[-1] - known[0]
    slope = (heights[-1] - heights[0]) / span if span > 0 else 1.0
    beyond = np.minimum(wanted - known[0], 0) + np.maximum(wanted - known[-1], 0)
    found: Floats = np.interp(wanted, known, heights) + slope * beyond
    return found


def _improvement(mean: Floats, deviation: Floats, best: float) -> tuple[Floats, Floats]:
    """[n] expected improvement on the best value, and [n] how low it may go."""
    deviation = np.maximum(deviation, 1e-9)
    z = (best - mean) / deviation
    expected: Floats = deviation * (z * ndtr(z) + np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))
    return expected, mean - deviation


def _news(deviation: Floats, noise: float) -> Floats:
    """[n] the share of what an evaluation tells that is not noise (Huang et al. 2006): little where an equal one is
    known. Without it architectures that differ in what does not matter would be evaluated one after the other.

    Args:
        noise: its variance.
    """
    found: Floats = 1 - np.sqrt(noise / np.maximum(deviation**2 + noise, 1e-300))
    return found


def _scalar_improvement(
    mean: Floats, deviation: Floats, values: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """[n] the same of a random augmented Chebyshev scalarisation, on average over draws from the processes."""
    weights = rng.dirichlet(np.ones(values.shape[1]))
    low, span = values.min(axis=0), np.maximum(np.ptp(values, axis=0), 1e-9)

    def scalar(losses: Floats) -> Floats:
        weighted = weights * (losses - low) / span
        out: Floats = weighted.max(axis=-1) + AUGMENTED * weighted.sum(axis=-1)
        return out

    best = scalar(values).min()
    drawn = mean + deviation * rng.standard_normal((DRAWS, *mean.shape))
    expected: Floats = np.maximum(best - scalar(drawn), 0).mean(axis=0)
    return expected, scalar(mean - deviation)
