"""Optuna's samplers as methods of the same loop.

A choice is a categorical parameter, present under the conditions under which the decision is. Of a subset or an order
every item has a number between 0 and 1: the greatest are chosen, or the items come in the order of their numbers; units
have these and how many of them are kept. A sampler knows neither requirements nor budgets, and proposes what it has
proposed before. What does not lie inside is replaced by the nearest of many random draws inside; of what has been seen
a sampler is asked again, and then a neighbour is taken. It is told what was evaluated in place of what it proposed.

A sampler is made anew for each proposal, from the trials so far and the seed of the proposal, so that a search that was
interrupted goes on as if it had not been.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState, create_trial
from pydantic import Field, PrivateAttr

from nasdsl.compiler.architecture import Architecture, is_present
from nasdsl.compiler.decision import Decision
from nasdsl.runtime.evolution.candidates import Row
from nasdsl.runtime.evolution.methods import POPULATION, History, Idea, Method, draw

ASKED = 5  # times for something that has not been seen
NEAR = 256  # draws among which the nearest is taken
PARAMS, SYSTEM = "params", "system"


class Sampled(Method, ABC):
    """A sampler of Optuna's as a method.

    Attributes:
        population: how many random draws it begins with, at most, and of NSGA the size of its population.
    """

    population: int = Field(default=POPULATION, gt=1)
    _study: optuna.Study | None = PrivateAttr(default=None)
    _told: int = PrivateAttr(default=0)
    _first: Any = PrivateAttr(default=None)

    @abstractmethod
    def make(self, seed: int) -> BaseSampler:
        """The sampler."""

    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        study = self._study_of(history)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.sampler = self.make(int(rng.integers(1 << 32)))
        row: Row | None = None
        system: Mapping[str, Any] = {}
        for _ in range(ASKED):
            asked = study.ask()
            wanted = self._values(asked, history)
            system = {k: v for k, v in study._storage.get_trial(asked._trial_id).system_attrs.items() if _lasts(k)}
            study.tell(asked, state=TrialState.FAIL)  # it is told again when it is evaluated, with what was
            row = self._inside(wanted, history, rng)
            found = history.candidates.new(row[None], history.seen)
            if found is not None:
                break
        else:
            assert row is not None
            found, _ = history.candidates.mutate(row, history.seen, rng)
        if found is None:
            return draw(history, rng)
        return Idea(found, notes={SYSTEM: dict(system)} if system else None)

    def _study_of(self, history: History) -> optuna.Study:
        """A study in memory that has been told all complete trials."""
        first = history.trials[0] if history.trials else None
        known = (
            self._study is not None and self._told <= len(history.trials) and (not self._told or first is self._first)
        )
        if not known:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            self._study = optuna.create_study(directions=["minimize"] * history.losses.shape[1])
            self._told, self._first = 0, first
        assert self._study is not None
        if not self._told:
            self._first = first
        for trial, loss in zip(history.trials[self._told :], history.losses[self._told :].tolist(), strict=True):
            params, distributions = self._params(trial.proposal.architecture, history)
            self._study.add_trial(
                create_trial(
                    values=loss,
                    params=params,
                    distributions=distributions,
                    system_attrs=dict(trial.proposal.notes.get(SYSTEM, {})),
                )
            )
        self._told = len(history.trials)
        return self._study

    def _values(self, asked: optuna.Trial, history: History) -> dict[str, Any]:
        """What a sampler proposes, by path, as indices."""
        values: dict[str, Any] = {}
        for path, decision in history.candidates.graph.decisions.items():
            if not is_present(decision, values):
                continue
            given = {name: asked._suggest(name, way) for name, way in _parameters(decision).items()}
            values[path] = _value(decision, given)
        return values

    def _params(
        self, architecture: Mapping[str, Any], history: History
    ) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """The parameters that give an architecture."""
        graph = history.candidates.graph
        params: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        for path, value in Architecture.of(graph, architecture).indices.items():
            decision = graph.decisions[path]
            distributions |= _parameters(decision)
            params |= _as_params(decision, value)
        return params, distributions

    def _inside(self, wanted: Mapping[str, Any], history: History, rng: np.random.Generator) -> Row:
        """The architecture that a sampler wants, or the nearest one inside."""
        candidates = history.candidates
        row: Row = candidates.encoding.encode([wanted])[0]
        if candidates.holds(row):
            return row
        drawn = candidates.some(NEAR, rng)
        return drawn[int((drawn != row).sum(axis=1).argmin())]


def _lasts(name: str) -> bool:
    """Whether a sampler finds again under this name what it wrote: the generation of a trial."""
    return ":generation" in name


def _parameters(decision: Decision) -> dict[str, BaseDistribution]:
    path = decision.path
    if decision.kind == "choice":
        return {path: CategoricalDistribution(list(range(decision.n)))}
    weights: dict[str, BaseDistribution] = {f"{path}[{i}]": FloatDistribution(0, 1) for i in range(decision.n)}
    return {f"{path} kept": IntDistribution(0, decision.n), **weights} if decision.kind == "units" else weights


def _value(decision: Decision, given: Mapping[str, Any]) -> Any:
    if decision.kind == "choice":
        return given[decision.path]
    weights = np.asarray([given[f"{decision.path}[{i}]"] for i in range(decision.n)])
    ranking = [int(i) for i in np.argsort(-weights, kind="stable")]
    if decision.kind == "order":
        return tuple(ranking)
    kept = given[f"{decision.path} kept"] if decision.kind == "units" else decision.size
    return tuple(sorted(ranking[:kept]))


def _as_params(decision: Decision, value: Any) -> dict[str, Any]:
    """Parameters that `_value` makes the value of."""
    path, n = decision.path, decision.n
    if decision.kind == "choice":
        return {path: value}
    chosen = list(value) + [i for i in range(n) if i not in set(value)]
    weights = {f"{path}[{i}]": 1 - rank / max(1, n) for rank, i in enumerate(chosen)}
    return {f"{path} kept": len(value), **weights} if decision.kind == "units" else weights


class Tpe(Sampled):
    """Optuna's `TPESampler` (Bergstra et al. 2011), which begins with at most 10 random draws."""

    def make(self, seed: int) -> BaseSampler:
        return TPESampler(seed=seed, n_startup_trials=min(10, self.population))


class OptunaNsga2(Sampled):
    """Optuna's `NSGAIISampler`."""

    def make(self, seed: int) -> BaseSampler:
        return NSGAIISampler(seed=seed, population_size=self.population)


class OptunaNsga3(Sampled):
    """Optuna's `NSGAIIISampler` (Deb and Jain 2014)."""

    def make(self, seed: int) -> BaseSampler:
        return NSGAIIISampler(seed=seed, population_size=self.population)
