"""Search by gradient: every choice is a mixture, its probabilities are trained, and the likeliest architecture stays.

DARTS paper (first order): weights and choices learn in turn, from two parts of the training samples,

    min over w       L_weights(w, a),
    min over a       L_choices(w, a) + lambda * C(a),

with a the logits of the choices and C the expected cost of the space under their probabilities: exactly, with all
conditions and requirements (`compiler/odds.py`). At the end the likeliest architecture inside all requirements and
budgets is taken, exactly too, which the likeliest option in each place by itself need not be. Other rules than DARTS's
are in `runtime/choices.py`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator, model_validator
from torch import Tensor

from nasdsl.compiler.architecture import Architecture, value_to_json
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.declarations import declarations_of
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.files import write_text
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.odds import Odds
from nasdsl.compiler.population import extremes_of
from nasdsl.compiler.relaxable import is_relaxable
from nasdsl.compiler.relaxed import Relaxed
from nasdsl.runtime.bilevel import Turns, odds_of, relaxed
from nasdsl.runtime.choices import Choices, Learning, Rule
from nasdsl.runtime.chosen import DECODED, Decoded, Likely, probabilities_told
from nasdsl.runtime.data import Loader
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.inherit import Inherited
from nasdsl.runtime.limits import Cost, Limits, costs_told, is_share, window_of
from nasdsl.runtime.loop import run_stages
from nasdsl.runtime.problem import Problem, Result
from nasdsl.runtime.runs import Board
from nasdsl.runtime.settings import Settings, Train, amount
from nasdsl.runtime.trainer import Trainer, finite


class Price(Settings):
    """`cost: { ... }`, or the names of measures: what the choices pay for what networks cost.

    Attributes:
        of: measures; the expected cost of each is taken as a share of what it is where all options are equally likely,
            and several are averaged. Auto-FPN paper: `[macs, params, access]`; Hit-Detector paper: `macs`.
        weight: of the cost against the task's loss (lambda).
        target: the most that is expected, `macs <= 60M`: the weight then rises as long as more is expected, and falls
            while less is.
        rate: with a target, how much the weight changes in a step, times the share by which the target is missed.
    """

    word: ClassVar[str | None] = "of"

    of: tuple[Cost, ...] = ()
    weight: float = Field(default=0.01, ge=0)
    target: Limits | None = None
    rate: float = Field(default=0.01, gt=0)

    @field_validator("of", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and all(factor == 1 for factor in value.values()):  # `macs` is a cost to the
            return tuple(value)  # language, not a word
        if isinstance(value, list | tuple):
            return tuple(name for one in value for name in (cls._names(one) if isinstance(one, Mapping) else (one,)))
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_thing(self) -> Price:
        if self.target is not None and (len(self.target) > 1 or (self.of and set(self.of) != set(self.target))):
            raise ValueError("has a `target` on one measure, which is then what is paid for")
        if self.target is None and not self.of:
            raise ValueError("needs the measures that are paid for, `of: macs`, or a `target`")
        return self

    @property
    def measures(self) -> tuple[str, ...]:
        return tuple(self.target) if self.target is not None else self.of


class Screen(Settings):
    """`screen: { ... }`: what `search screen` does with the lists of options before this search. By default as in the
    Hit-Detector paper.

    Attributes:
        keep: options that stay of each list.
        weight: of the term that suppresses an option in all places at once (mu).
        until: the share of the time in which scores learn, after which all that go are gone.
        parts: paths under which lists are screened, such as `backbone`; by default everywhere.
    """

    keep: int = Field(default=8, gt=0)
    weight: float = Field(default=0.1, ge=0)
    until: float = Field(default=0.9, gt=0, le=1)
    parts: tuple[str, ...] = ()

    @field_validator("parts", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Gradient(Settings):
    """Settings of `search gradient { ... }`.

    Attributes:
        rule: how options count in a step; a word, or a record with its `name`.
        choices: how the logits of the choices are trained.
        split: share of the training samples that the choices learn from; the weights learn from the others.
        cost: what choices pay for expected costs.
        budget: what the architecture that is taken at the end costs at most, beside the budgets of the space.
        candidates: how many of the likeliest architectures are scored with the weights that they inherit, on the
            samples of the choices. The best of them is the result; all are written beside it, the best first.
        every: epochs between measurements of the likeliest architecture; 0 leaves them out.
        screen: what `search screen` does, which goes before where lists are long.
        train: how the weights are trained. `epochs` counts the samples that the weights learn from.
    """

    rule: Rule = Rule()
    choices: Learning = Learning()
    split: float = Field(default=0.5, gt=0, lt=1)
    cost: Price | None = None
    budget: Limits | None = None
    candidates: int = Field(default=1, gt=0)
    every: float = Field(default=1, ge=0)
    screen: Screen = Screen()
    train: Train = Train()

    @field_validator("every", mode="before")
    @classmethod
    def _in_epochs(cls, value: Any) -> Any:
        return amount(value, "epochs")

    @field_validator("cost", mode="before")
    @classmethod
    def _of(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and not set(value) & set(Price.model_fields):
            return {"of": value}
        return {"of": value} if isinstance(value, list | tuple) else value

    @property
    def asked(self) -> tuple[str, ...]:
        """The measures that are paid for or bounded."""
        return (*(self.cost.measures if self.cost is not None else ()), *(self.budget or ()))


def greatest(graph: Graph, name: str) -> float:
    """The most that an architecture costs."""
    return float(extremes_of(graph, (name,))[name][1].cost)


class Paid:
    """The cost in the loss of the choices, and its weight."""

    def __init__(self, price: Price, odds: Odds, start: Mapping[str, Tensor]) -> None:
        self.price, self.odds = price, odds
        self.weight = 0.0 if price.target is not None else price.weight
        self._at_first = odds.expected(start, price.measures).detach()
        self._most: float | None = None
        if price.target is not None:
            ((name, limit),) = price.target.items()
            self._most = limit * (greatest(odds.graph, name) if is_share(name, limit) else 1.0)

    def __call__(self, log_p: Mapping[str, Tensor]) -> Tensor:
        """What is added to the loss; with a target the weight is then moved."""
        found = self.odds.expected(log_p, self.price.measures)
        if self._most is None:
            return self.weight * (found / self._at_first.clamp(min=1e-12)).mean()
        share = found[0] / self._most
        self.weight = max(0.0, self.weight + self.price.rate * (float(share.detach()) - 1))
        return self.weight * share


class Search(Turns):
    """Logits of choices beside the training of the weights."""

    def __init__(self, trainer: Trainer, network: Relaxed, settings: Gradient, choosing: Loader, odds: Odds) -> None:
        self.settings, self.odds = settings, odds
        self.choices = Choices(network.graph, trainer.fabric.device)
        super().__init__(trainer, network, settings.choices, choosing, self.choices.parameters())
        self.price = None if settings.cost is None else Paid(settings.cost, odds, self.now())
        self.window = window_of(partial(greatest, network.graph), settings.budget)
        with contextlib.suppress(TooWide):  # there may be none inside, which should be known before the training
            odds.likeliest(self.now(), 1, self.window)

    def now(self) -> dict[str, Tensor]:
        """The log-probabilities."""
        return {path: one.detach() for path, one in self.choices.log_probabilities().items()}

    def _weights(self, for_choices: bool) -> dict[str, Tensor]:
        key = (self.trainer.seed, self.trainer.step, int(for_choices))
        return self.choices.weights(self.settings.rule, key, self.share, for_choices, self.odds)

    def for_weights(self) -> dict[str, Tensor]:
        return self._weights(False)

    def for_choices(self) -> dict[str, Tensor]:
        return self._weights(True)

    def paid(self) -> Tensor | None:
        return None if self.price is None else self.price(self.choices.log_probabilities())

    def state(self) -> dict[str, Any]:
        return {**super().state(), "weight": None if self.price is None else self.price.weight}

    def load(self, state: Mapping[str, Any]) -> None:
        super().load(state)
        if self.price is not None:
            self.price.weight = state["weight"]

    # --- What is seen -------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Where the choices stand: their entropy, and what is expected of costs."""
        paid = () if self.settings.cost is None else self.settings.cost.measures
        names = tuple(dict.fromkeys(["macs", "params", *paid]))
        expected = self.odds.expected(self.now(), names)
        found = {"entropy": self.choices.entropy()}
        found |= {f"expected {name}": float(value) for name, value in zip(names, expected, strict=True)}
        if self.price is not None:
            found["cost weight"] = self.price.weight
        return found

    def probabilities(self) -> dict[str, list[float]]:
        return {path: [round(p, 5) for p in one.exp().tolist()] for path, one in self.now().items()}

    def log_probability(self, indices: Mapping[str, Any]) -> float:
        """Of the values of an architecture together, up to a constant."""
        now, values = self.now(), self.choices.values
        return sum(float(now[path][values[path].index(index)]) for path, index in indices.items())

    def likeliest(self, k: int = 1) -> list[tuple[Architecture, float]]:
        """The likeliest architectures inside all requirements and budgets."""
        try:
            return self.odds.likeliest(self.now(), k, self.window)
        except TooWide as problem:  # nearly all are equally likely, and few lie inside
            raise RunError(
                f"the likeliest architecture inside the budgets cannot be told: {problem.message}",
                "bound costs from above alone, or train the choices longer",
            ) from None


class GradientSearch:
    """The runtime `gradient`."""

    name: ClassVar[str] = "gradient"
    settings: ClassVar[type[BaseModel]] = Gradient
    uses: ClassVar[tuple[str, ...]] = tuple(name for name in Gradient.model_fields if name != "screen")

    @classmethod
    def handles(cls, decision: Decision) -> bool:
        """Choices, and subsets that are not too many."""
        return is_relaxable(decision)

    def search(self, problem: Problem, settings: Gradient) -> Result:
        """Trains weights and choices, from the beginning or from the run's checkpoint, and takes the likeliest."""
        odds = odds_of(problem.space.graph, settings.asked)
        network, trainer, choosing = relaxed(problem, settings.train, settings.split)
        search = Search(trainer, network, settings, choosing, odds)
        search.check_memory(problem.watch)  # and that all can be mixtures, before a run's folder is there
        problem.run.restore(trainer)
        self._train(problem, search)
        return self._result(problem, search)

    def _train(self, problem: Problem, search: Search) -> None:
        settings, trainer = search.settings, search.trainer
        headline = problem.task.headline
        inherited = Inherited(trainer, settings.train.recalibrate)
        interval = max(1, round((settings.every or 1) * trainer.steps_per_epoch))
        declarations = declarations_of(trainer.network.graph)

        def measured() -> dict[str, Any]:
            row: dict[str, Any] = {"step": trainer.step, "epoch": trainer.step / trainer.steps_per_epoch}
            row |= search.facts()
            if settings.every:
                (best, log_p), *_ = search.likeliest()
                with trainer.averaged(0):
                    row |= {f"{key} of the likeliest": value for key, value in inherited.evaluate(best).items()}
                row["log-probability of the likeliest"] = log_p
            search.tell(problem.run, {"epoch": row["epoch"], "probabilities": search.probabilities()})
            return row

        def log(board: Board, row: dict[str, Any]) -> None:
            board.measured(row, trainer.step)
            board.scalars(probabilities_told(declarations, search.probabilities()), trainer.step)

        shown = ["entropy", "expected macs"] + ([f"{headline} of the likeliest"] if settings.every else [])
        run_stages(
            trainer,
            problem.run,
            problem.watch,
            "gradient",
            interval,
            measured,
            shown,
            log,
        )

    def _result(self, problem: Problem, search: Search) -> Result:
        settings, trainer = search.settings, search.trainer
        graph, task = problem.space.graph, problem.task
        found = search.likeliest(settings.candidates)
        alone = search.choices.likeliest()
        breaks = search.log_probability(alone) > search.log_probability(found[0][0].indices) + 1e-6
        for line in told(alone, found[0][0], breaks):
            problem.watch.note(line)
        inherited = Inherited(trainer, settings.train.recalibrate)
        scored: list[Result] = []
        with trainer.averaged(0):
            for one, _ in found if len(found) > 1 else ():  # compared on the samples of the choices
                metrics = inherited.evaluate(one)
                costs = costs_told(graph, one.indices, settings.asked)
                scored.append(Result(one, trainer.network.extract(one), metrics, costs))
            sign = 1 if task.higher_is_better else -1
            whole = [all(math.isfinite(one.metrics.get(key, 0.0)) for key in (task.headline, "loss")) for one in scored]
            scores = [
                one.metrics[task.headline] if ok else math.nan for one, ok in zip(scored, whole, strict=True)
            ] or [math.nan]
            worth = [-math.inf if math.isnan(score) else sign * score for score in scores]
            order = sorted(range(len(scores)), key=worth.__getitem__, reverse=True)  # of equal ones the likelier first
            taken = order[0]
            if problem.fabric.is_global_zero:
                told_ = decoded(graph, alone, found, scores, taken)
                write_text(problem.run.path / DECODED, told_.model_dump_json(indent=1) + "\n")
            best = found[taken][0]
            trainer.network.activate(best)
            if settings.train.recalibrate:
                trainer.recalibrate(settings.train.recalibrate)
            metrics = finite(trainer.measure(problem.data.val))
            network = trainer.network.extract(best)
        return Result(
            best,
            network,
            metrics,
            costs_told(graph, best.indices, settings.asked),
            [scored[i] for i in order if whole[i]] if scored else (),
        )


def decoded(
    graph: Graph,
    alone: Mapping[str, Any],
    found: Sequence[tuple[Architecture, float]],
    scores: Sequence[float],
    taken: int,
) -> Decoded:
    """What is kept of how the choices ended.

    Args:
        alone: of each decision that is there the likeliest value by itself.
        found: the likeliest architectures, with the logarithms of their probabilities.
        scores: of these; NaN where there is none.
        taken: which of them.
    """
    return Decoded(
        alone={path: value_to_json(graph.decisions[path], index) for path, index in alone.items()},
        likeliest=[
            Likely(architecture=one.to_json(), log_probability=log_p, score=None if not math.isfinite(score) else score)
            for (one, log_p), score in zip(found, scores, strict=True)
        ],
        taken=taken,
    )


def told(alone: Mapping[str, Any], best: Architecture, breaks: bool) -> list[str]:
    """How the likeliest architecture differs from the likeliest option in each place by itself.

    Args:
        breaks: whether these options together break a requirement or a budget. They need not: with what an option
            brings along it may be less likely than another that brings nothing.
    """
    changed = [path for path in best.indices if path not in alone or alone[path] != best.indices[path]]
    if not changed:
        return ["the likeliest option in each place meets all requirements and budgets"]
    rest = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    names = ", ".join(f"`{path}`" for path in changed[:3])
    why = "breaks a requirement or a budget" if breaks else "is less likely with all that it brings along"
    return [f"the likeliest option in each place {why}; another is taken in {names}{rest}"]
