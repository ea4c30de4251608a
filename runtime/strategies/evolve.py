"""Search by evaluations: architectures are proposed, evaluated and written down one by one.

`runtime/evolution/` has the methods, the loop and the ledger of trials, `runtime/evaluators.py` what evaluates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, ValidationError, create_model, field_validator, model_validator

from nasdsl.compiler import measures
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.arrays.encoding import Encoding
from nasdsl.compiler.cost import is_known
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import NasdslError, error
from nasdsl.compiler.plugins import PluginError
from nasdsl.compiler.population import joined
from nasdsl.compiler.space import Space
from nasdsl.compiler.stored import fault
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evaluators import VALUE, find_evaluators
from nasdsl.runtime.evolution.candidates import Candidates, Draws
from nasdsl.runtime.evolution.evaluator import Evaluator, NamedEvaluator
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.methods import POPULATION, Method
from nasdsl.runtime.evolution.objectives import Objectives, front
from nasdsl.runtime.evolution.pruning import Prune, Pruning
from nasdsl.runtime.evolution.registry import find_methods
from nasdsl.runtime.evolution.trial import Ledger, Memory, Trial
from nasdsl.runtime.files import folder_of
from nasdsl.runtime.limits import Cost, bound_of, is_share
from nasdsl.runtime.problem import Exploration, Needs, Problem, Result
from nasdsl.runtime.settings import Settings
from nasdsl.runtime.watch import Silent, Watch

FREE = frozenset({"trials", "failures", "storage", "study", "heartbeat"})
"""Settings that may change while a search goes on."""

SHARED = ("population", "tournament", "offspring", "mutation", "crossover")
"""Settings of methods that stand beside `method`, since several methods have them."""


class Evolve(Settings):
    """Settings of `search evolve { ... }`. Beside these the settings of one evaluator, under its name, say what
    evaluates (`evolve_settings`):

    - `table`: known results: a file, or a record as `TableSettings` has it;
    - `function`: called with the architecture (names by path of decision) and the space: an entry point of the group
      `nasdsl.functions`, or from the command line `module:function`;
    - `supernet`: the folder of a `search sample` of the same space: architectures have the weights that they inherit
      from its supernet, and are measured on what its training held back (TrioNet paper, evolutionary search);
    - `train`: training from scratch, as `train { ... }`;
    - the name of an evaluator of another package, found in the group `nasdsl.evaluators`.

    Attributes:
        maximise, minimise: objectives, one or several: metrics of the evaluator, or measures such as `macs`, `params`
            and `latency`, which without a table of latencies is, with `train`, the milliseconds that the network takes
            for an image on this device. Left out, the one metric of the evaluator is maximised, or the task's headline,
            which of errors is minimised.
        budget: on any measures, such as `macs <= 600M`, or a list of these. Together with the budgets of the space
            (`require`) they hold for everything that is evaluated.
        method: `random` without replacement; `regularised` evolution (Real et al. 2019); `nsga2` (Deb et al. 2002);
            `local` search (White et al. 2021); `surrogate`, a Gaussian process and expected improvement (of several
            objectives ParEGO, Knowles 2006); a sampler of Optuna's: `tpe`, `nsga2_optuna`, `nsga3_optuna`; or one of
            another package. Settings of its own stand in a record with its name: `method: { name: mine, heat: 2 }`.
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
        prune: leaves out what cannot enter the front, as far as more is no worse (`Prune`; partial order pruning, Li et
            al. 2019). One metric is maximised then, and costs are minimised.
        distinct: whether architectures that compute the same `function` count as one, or only equal `architecture`s.
        failures: how many evaluations may fail before the search stops. Left out, none may but those of architectures
            that cannot be trained, because they diverge or do not fit in memory: of these as many as are complete, and
            10.
        storage: where trials are kept: a `file` in the run's folder, in `memory`, or, from the command line, the URL of
            a database.
        study: the name under which a database keeps them; by default the space's.
        heartbeat: seconds between a worker's signs of life in the database.
    """

    maximise: tuple[str, ...] = ()
    minimise: tuple[str, ...] = ()
    budget: tuple[Mapping[Cost, float], ...] = ()
    method: str | Mapping[str, Any] = "regularised"
    draws: Draws = "hierarchical"
    trials: int = Field(default=500, gt=0)
    population: int = Field(default=POPULATION, gt=1)
    tournament: int | None = Field(default=None, gt=0)
    offspring: int | None = Field(default=None, gt=0)
    mutation: float | None = Field(default=None, gt=0, le=1)
    crossover: float | None = Field(default=None, ge=0, le=1)
    prune: Prune | None = None
    distinct: Literal["function", "architecture"] = "function"
    failures: int | None = Field(default=None, ge=0)
    storage: str = "file"
    study: str | None = Field(default=None, min_length=1)
    heartbeat: int = Field(default=15, gt=0)

    @field_validator("maximise", "minimise", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and len(value) == 1:  # `macs` is a cost to the language, not a word
            ((name, factor),) = value.items()
            multiple = next((one.name for one in measures.BUILT_IN.values() if one.of == (factor, name)), None)
            return (name,) if factor == 1 else value if multiple is None else (multiple,)
        if isinstance(value, list | tuple):
            parts = [cls._names(part) for part in value]
            return tuple(name for part in parts for name in (part if isinstance(part, tuple) else (part,)))
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

    @field_validator("method")
    @classmethod
    def _known(cls, value: str | Mapping[str, Any]) -> str | Mapping[str, Any]:
        name = value if isinstance(value, str) else value.get("name")
        if not isinstance(name, str) or name not in find_methods():
            raise ValueError(f"should be one of {', '.join(find_methods())}")
        return name if not isinstance(value, str) and len(value) == 1 else value

    @model_validator(mode="after")
    def _one_of_each(self) -> Evolve:
        if len(self.evaluators) > 1:
            raise ValueError(f"has one of {_listed(find_evaluators())}, and not several")
        both = set(self.maximise) & set(self.minimise)
        if both:
            raise ValueError(f"maximises and minimises `{both.pop()}`")
        names = (*self.maximise, *self.minimise)
        if len(set(names)) < len(names):
            raise ValueError("has an objective twice")
        if self.prune is not None and not self._may_prune:
            raise ValueError(
                f"has `prune`, which needs one metric to maximise and {_listed(measures.known(), 'or')} to minimise"
            )
        if self.tournament is not None and self.tournament > self.population:
            raise ValueError("has tournaments larger than its population")
        try:
            self.proposer()
        except ValidationError as problem:
            raise ValueError(f"has a method `{self._method[0]}` that it cannot have: {fault(problem)}") from None
        return self

    @property
    def _may_prune(self) -> bool:
        known = set(measures.known())
        return (
            len(self.maximise) == 1
            and not known & set(self.maximise)
            and 0 < len(self.minimise) == len(known & set(self.minimise))
        )

    @property
    def evaluators(self) -> dict[str, Any]:
        """What is said of evaluators, by their names."""
        names = [name for name in type(self).model_fields if name not in Evolve.model_fields]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def _method(self) -> tuple[str, dict[str, Any]]:
        """The name of the method, and its own settings."""
        if isinstance(self.method, str):
            return self.method, {}
        own = dict(self.method)
        return str(own.pop("name")), own

    def proposer(self) -> Method:
        """The method, with its settings. A new one for each search."""
        name, own = self._method
        kind = find_methods()[name]
        shared = {one: getattr(self, one) for one in SHARED if one in kind.model_fields}
        return kind.model_validate({**{one: value for one, value in shared.items() if value is not None}, **own})

    def objectives(self, headline: str | None, higher: bool = True) -> Objectives:
        """What is wanted.

        Args:
            headline: the metric that is wanted where nothing is said.
            higher: whether it is maximised.

        Raises:
            CompileError: there is none, either.
        """
        directions = {**dict.fromkeys(self.maximise, True), **dict.fromkeys(self.minimise, False)}
        if not directions and headline is None:
            raise error(
                "no-objective",
                "nothing says what is wanted",
                None,
                help="set `maximise` or `minimise` to a column of the table, or to a measure such as `macs`",
            )
        return Objectives(directions or {str(headline): higher})

    @property
    def window(self) -> dict[str, tuple[float | None, float | None]]:
        """The budgets, as bounds on measures."""
        out: dict[str, tuple[float | None, float | None]] = {}
        for limit in self.budget:
            ((name, most),) = limit.items()
            measure, bound = bound_of(name, most)
            out = joined(out, {measure: (None, bound)})
        return out


def _listed(names: Iterable[str], word: str = "and") -> str:
    """`a`, `b` and `c`"""
    *most, last = [f"`{name}`" for name in names]
    return f"{', '.join(most)} {word} {last}" if most else last


def evolve_settings() -> type[Evolve]:
    """The settings with an entry for each evaluator, under its name.

    Raises:
        PluginError: as `find_evaluators`; or an evaluator has the name of another setting.
    """
    return _with_evaluators(tuple(find_evaluators().items()))


@lru_cache(maxsize=8)
def _with_evaluators(kinds: tuple[tuple[str, type[NamedEvaluator]], ...]) -> type[Evolve]:
    for name, kind in kinds:
        if name in Evolve.model_fields:
            where = f"{kind.__module__}:{kind.__qualname__}"
            raise PluginError(f"{where}, offered as `{name}` in nasdsl.evaluators, has the name of another setting")
    entries: dict[str, Any] = {name: (kind.settings | None, None) for name, kind in kinds}
    return create_model("Evolve", __base__=Evolve, **entries)


class _Settings:
    """Evaluators are looked for when somebody asks, and not when this is imported."""

    def __get__(self, instance: object, owner: type | None = None) -> type[Evolve]:
        return evolve_settings()


class EvolveSearch:
    """The runtime `evolve`.

    Args:
        evaluator: what gives an architecture its worth, and `method`: what proposes; by default as the settings say.
    """

    name: ClassVar[str] = "evolve"
    shared: ClassVar[bool] = True
    settings: ClassVar[type[BaseModel]] = _Settings()  # type: ignore[assignment]

    def __init__(self, evaluator: Evaluator | None = None, method: Method | None = None) -> None:
        self.evaluator, self.method = evaluator, method

    @classmethod
    def handles(cls, decision: Decision) -> bool:
        """Everything."""
        return True

    @staticmethod
    def free(settings: Evolve) -> frozenset[str]:
        """Settings that may change while a search goes on."""
        return FREE if settings.prune is not None else FREE | {"prune"}

    @classmethod
    def needs(cls, settings: Evolve, space: Space) -> Needs:
        """What its evaluator needs.

        Raises:
            CompileError: none is named.
        """
        kind, own = _evaluator(settings)
        return Needs(kind.needs_data, kind.open_input, cls.free(settings), kind.contents(own, folder_of(space)))

    def search(self, problem: Problem, settings: Evolve) -> Exploration:
        """Runs, or goes on with, the search. Several processes may run it at once; they share the work.

        Raises:
            RunError: no trial is complete.
        """
        from nasdsl.runtime.storage import told_of_trials

        if problem.learning is not None and problem.fabric.world_size > 1:
            raise RunError(
                "processes that train one network together cannot share the trials of `evolve`",
                "start the command several times, each with one device: they share the work",
            )
        evaluator = self.evaluator
        if evaluator is None:
            kind, own = _evaluator(settings)
            evaluator = kind.make(problem, own, (*settings.maximise, *settings.minimise))
        for line in evaluator.told() if isinstance(evaluator, NamedEvaluator) else ():
            problem.watch.note(line)
        method = self.method or settings.proposer()

        def ledger(objectives: Objectives) -> Ledger:
            return _ledger(problem, settings, objectives)

        with told_of_trials("the same command goes on with the search"):
            return explore(problem.space, evaluator, settings, problem.seed, method, ledger, problem.watch)


def _evaluator(settings: Evolve) -> tuple[type[NamedEvaluator], Any]:
    """The evaluator that settings name, and its own settings."""
    kinds = find_evaluators()
    if not settings.evaluators:
        raise error(
            "no-evaluator",
            "nothing says how architectures are evaluated",
            None,
            help=f"set {_listed(kinds, 'or')} in `search evolve`, or give `--table` or the like",
        )
    ((name, own),) = settings.evaluators.items()
    return kinds[name], own


def _ledger(problem: Problem, settings: Evolve, objectives: Objectives) -> Ledger:
    run, space = problem.run, problem.space
    if settings.storage == "memory":
        return Memory()
    from nasdsl.runtime.storage import database_url
    from nasdsl.runtime.trials import Database

    url = database_url(None if settings.storage == "file" else settings.storage, run.path)
    name = settings.study or space.name
    return Database(url, name, objectives.directions, run.about.told(), space.graph.decisions, settings.heartbeat)


def _is_measure(space: Space, name: str) -> bool:
    """Whether an objective may be a cost, which is known without an evaluation."""
    return measures.lookup(name) is not None and is_known(space.graph, name)


def explore(
    space: Space,
    evaluator: Evaluator,
    settings: Evolve,
    seed: int = 0,
    method: Method | None = None,
    ledger: Callable[[Objectives], Ledger] = lambda objectives: Memory(),
    watch: Watch | None = None,
) -> Exploration:
    """Proposes and evaluates until there are enough trials, or nothing is left.

    Args:
        method: by default that of the settings.
        ledger: opens the ledger, once it is known that there is something to search.

    Raises:
        Infeasible: no architecture lies inside the budgets.
        RunError: too many evaluations failed, or no trial is complete.
    """
    search = prepared(space, evaluator, settings, seed, method, ledger, watch)
    try:
        search.run()
    except NasdslError:
        search.ledger.take_back()
        raise
    finally:
        search.ledger.close()
    return explored(space, search)


def prepared(
    space: Space,
    evaluator: Evaluator | None,
    settings: Evolve,
    seed: int = 0,
    method: Method | None = None,
    ledger: Callable[[Objectives], Ledger] = lambda objectives: Memory(),
    watch: Watch | None = None,
) -> Search:
    """A search that is about to begin, or to go on.

    Args:
        evaluator: None where somebody else evaluates; the one metric is then `value`, and is maximised, unless the
            settings say otherwise.

    The others are as in `explore`.

    Raises:
        Infeasible: no architecture lies inside the budgets.
    """
    named = evaluator if isinstance(evaluator, NamedEvaluator) else None
    if evaluator is None:
        objectives = settings.objectives(VALUE)
    else:
        headline = getattr(evaluator, "headline", None)
        objectives = settings.objectives(headline, getattr(evaluator, "higher_is_better", True))
    pool = named.pool(Encoding(space.graph.decisions)) if named is not None else None
    distinct = settings.distinct == "function"
    asked = [measures.base(one)[1] for one in objectives.names if _is_measure(space, one)]
    candidates = Candidates(space.graph, settings.window, distinct, pool, settings.draws, asked)
    watch = watch or Silent()
    pruning = None if settings.prune is None else Pruning(space.graph, candidates, objectives, settings.prune)
    if pruning is not None and pruning.order.unproven:
        some, more = pruning.order.unproven[0], len(pruning.order.unproven) - 1
        others = f" and {more:,} others" if more else ""
        watch.note(f"prune: `{some}`{others} must be equal, since more may cost less; `order` says otherwise")
    method = method or settings.proposer()
    opened, most, failures = ledger(objectives), settings.trials, settings.failures
    return Search(candidates, evaluator, objectives, method, opened, most, seed, failures, watch, pruning)


def explored(space: Space, search: Search) -> Exploration:
    """What a search has found so far.

    Raises:
        RunError: no trial is complete.
    """
    named = search.evaluator if isinstance(search.evaluator, NamedEvaluator) else None
    tally, objectives = search.ledger.tally, search.objectives
    trials = list(tally.complete)
    if not trials:
        raise RunError("no trial is complete, so there is no best one")
    skipped = [trial for _, trial in sorted(tally.trials.items()) if trial.state == "skipped"]

    def result_of(trial: Trial) -> Result | None:
        if named is None:
            return None
        architecture = Architecture.of(space.graph, trial.architecture)
        return named.result(architecture, {name: float(cost) for name, cost in trial.costs.items()})

    losses = objectives.losses([trial.objectives for trial in trials])
    best = [trials[at] for at in front(losses)]
    return Exploration(trials, best, objectives, result_of, None if search.pruning is None else skipped)
