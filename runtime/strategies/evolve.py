"""Settings of `search evolve { ... }`: which architectures are evaluated, how, and what is wanted of them.

`runtime/explore.py` runs it, and `runtime/evolution/` has the methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from nasdsl.compiler.population import joined
from nasdsl.runtime.evolution.candidates import Draws
from nasdsl.runtime.known import TableSettings
from nasdsl.runtime.limits import Cost, bound_of, is_share
from nasdsl.runtime.settings import Settings, Train

Method = Literal["random", "regularised", "nsga2", "local", "surrogate", "tpe", "nsga2_optuna", "nsga3_optuna"]

TOURNAMENT = 10  # of 20: NAS-Bench-201 and NAS-Bench-MR reward those who hurry (benchmarks/results/tables.md)
CROSSOVER = 0.9  # Deb et al. 2002


class Evolve(Settings):
    """Settings of `search evolve { ... }`. One of `table`, `function`, `supernet` and `train` says what evaluates.

    Attributes:
        table: known results: a file, or a record as `TableSettings` has it.
        function: called with the architecture (names by path of decision) and the space: an entry point of the group
            `nasdsl.functions`, or from the command line `module:function`.
        supernet: the folder of a `search sample` of the same space: architectures have the weights that they inherit
            from its supernet, and are measured on what its training held back (TrioNet paper, evolutionary search).
        train: training from scratch, as `train { ... }`.
        maximise, minimise: objectives, one or several: metrics of the evaluator, or measures such as `macs`, `params`
            and `latency`. Left out, the one metric of the evaluator is maximised, or the task's headline.
        budget: on any measures, such as `macs <= 600M`, or a list of these. Together with the budgets of the space
            (`require`) they hold for everything that is evaluated.
        method: `random` without replacement; `regularised` evolution (Real et al. 2019); `nsga2` (Deb et al. 2002);
            `local` search (White et al. 2021); `surrogate`, a Gaussian process and expected improvement (of several
            objectives ParEGO, Knowles 2006); or a sampler of Optuna's: `tpe`, `nsga2_optuna`, `nsga3_optuna`.
        draws: how architectures are drawn at random, also those that a method begins with: `hierarchical`, decision by
            decision, so that of two operators each comes up as often, however many settings it has (TrioNet paper,
            Hierarchical Sampling); or `uniform`, each architecture as likely as any other. Both inside the budgets. The
            rows of a table that has only part of the space are always drawn uniformly.
        trials: evaluations in all, by all workers. It may be raised later: the search then goes on.
        population: how many trials may be parents; of the methods that have one.
        tournament: of so many, drawn by chance, the best becomes a parent; by default 10, in `nsga2` 2.
        offspring: in `nsga2`, children of a generation; by default as many as the population. 1 is the steady state.
        mutation: the share of an architecture's decisions that a mutation changes on average, at least one; by default
            exactly one.
        crossover: share of the children that have two parents; by default 0, in `nsga2` 0.9.
        distinct: whether architectures that compute the same `function` count as one, or only equal `architecture`s.
        failures: how many evaluations may fail before the search stops.
        storage: where trials are kept: a `file` in the run's folder, in `memory`, or, from the command line, the URL of
            a database.
        study: the name under which a database keeps them; by default the space's.
        heartbeat: seconds between a worker's signs of life in the database.
    """

    table: TableSettings | None = None
    function: str | None = None
    supernet: str | None = None
    train: Train | None = None
    maximise: tuple[str, ...] = ()
    minimise: tuple[str, ...] = ()
    budget: tuple[Mapping[Cost, float], ...] = ()
    method: Method = "regularised"
    draws: Draws = "hierarchical"
    trials: int = Field(default=500, gt=0)
    population: int = Field(default=20, gt=1)
    tournament: int | None = Field(default=None, gt=0)
    offspring: int | None = Field(default=None, gt=0)
    mutation: float | None = Field(default=None, gt=0, le=1)
    crossover: float | None = Field(default=None, ge=0, le=1)
    distinct: Literal["function", "architecture"] = "function"
    failures: int = Field(default=0, ge=0)
    storage: str = "file"
    study: str | None = Field(default=None, min_length=1)
    heartbeat: int = Field(default=15, gt=0)

    @field_validator("table", mode="before")
    @classmethod
    def _of_a_file(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value

    @field_validator("maximise", "minimise", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and len(value) == 1 and next(iter(value.values())) == 1:
            return (next(iter(value)),)  # `macs` is a cost to the language, not a word
        if isinstance(value, list | tuple):
            return tuple(name for part in value for name in cls._names(part))
        return (value,) if isinstance(value, str) else value

    @field_validator("storage", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return "memory" if value == {"memory": 1} else value  # which is a cost to the language, too

    @field_validator("budget", mode="before")
    @classmethod
    def _limits(cls, value: Any) -> Any:
        return (value,) if isinstance(value, Mapping) else value

    @field_validator("budget")
    @classmethod
    def _whole_costs(cls, value: tuple[Mapping[Cost, float], ...]) -> tuple[Mapping[Cost, float], ...]:
        for limit in value:
            if len(limit) != 1 or any(most <= 0 or is_share(name, most) for name, most in limit.items()):
                raise ValueError("limits whole costs, such as `macs <= 600M` or `[macs <= 600M, params <= 5M]`")
        return value

    @model_validator(mode="after")
    def _one_evaluator(self) -> Evolve:
        if sum(given is not None for given in (self.table, self.function, self.supernet, self.train)) > 1:
            raise ValueError("has one of `table`, `function`, `supernet` and `train`, and not several")
        both = set(self.maximise) & set(self.minimise)
        if both:
            raise ValueError(f"maximises and minimises `{both.pop()}`")
        names = (*self.maximise, *self.minimise)
        if len(set(names)) < len(names):
            raise ValueError("has an objective twice")
        if self.tournament is not None and self.tournament > self.population:
            raise ValueError("has tournaments larger than its population")
        return self

    @property
    def window(self) -> dict[str, tuple[float | None, float | None]]:
        """The budgets, as bounds on measures."""
        out: dict[str, tuple[float | None, float | None]] = {}
        for limit in self.budget:
            ((name, most),) = limit.items()
            measure, bound = bound_of(name, most)
            out = joined(out, {measure: (None, bound)})
        return out

    @property
    def identity(self) -> dict[str, Any]:
        """What must stay the same while a search goes on."""
        return self.model_dump(mode="json", exclude={"trials", "failures", "storage", "study", "heartbeat"})


class Rates:
    """The settings as methods read them, with each method's own defaults."""

    def __init__(self, settings: Evolve):
        nsga2 = settings.method == "nsga2"
        self.population = settings.population
        self.offspring = settings.offspring
        self.mutation = settings.mutation
        self.tournament = settings.tournament or min(2 if nsga2 else TOURNAMENT, settings.population)
        self.crossover = settings.crossover if settings.crossover is not None else (CROSSOVER if nsga2 else 0.0)
