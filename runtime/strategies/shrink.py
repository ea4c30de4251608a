"""Progressive shrinking: train one supernet, drive the scales of costly units to zero, and cut them out as it trains.

HR-NAS paper, section 3: L = L_task + lambda * sum_i Delta_i |alpha_i|, units with |alpha| below a threshold are removed
every few epochs, and what is left at the end is the architecture, usable at once. Beside the paper's plain threshold a
`target` on the cost can be set: the weakest units then go on a schedule that meets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, Field, field_validator

from nasdsl.compiler import measures
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import in_units
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.extremes import least, structural
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.tree import decisions_of, evaluate, holds
from nasdsl.runtime.latency import Latency
from nasdsl.runtime.limits import Cost, is_share, names_told, told
from nasdsl.runtime.loop import run_stages
from nasdsl.runtime.penalty import Group, Penalty, macs_of, units_left
from nasdsl.runtime.pretrained import begin
from nasdsl.runtime.problem import Problem, Result
from nasdsl.runtime.runs import KEPT, Board
from nasdsl.runtime.settings import Settings, Train, amount
from nasdsl.runtime.trainer import Trainer, finite

CLOSE = 0.95
"""The share of a budget that removals should leave in use."""

NEAR = 1.25
"""A target below this times the least cost leaves so little choice that the removals are led by the least."""


class Shrink(Settings):
    """Settings of `search shrink { ... }`.

    Attributes:
        penalty: lambda of the penalty, written `1.6e-4 * macs`, or of another measure to which search units add.
        cost_form: how Delta is computed: "exact" (this space's MACs at its own input), "paper", "code" (at 224 x 224),
            or "uniform". With a penalty on another measure it is what a unit adds to that, whatever the form, but for
            "uniform"; of a latency the table's times.
        normalise: divide Delta by its mean, so that lambda means the same for every space.
        threshold: |alpha| below which a unit is dead.
        every: epochs between removals.
        free, warmup: epochs without penalty, and epochs over which lambda then rises to its full value.
        least: MACs that must be prunable for a removal to be worth it.
        least_form: how these MACs are counted: "exact" (at the space's own input), "paper", or "code" (at 224 x 224
            whatever the input is, as the HR-NAS code compares them).
        target: the cost to end at, of any measure, written `macs <= 0.3G`, or as a share of the supernet
            `macs <= 0.3`; a latency always in milliseconds.
        until: with a target, the share of the run by which it is met; the rest trains what is left.
        rank: with a target, what units are ranked by: "scale" |alpha|, or "scale_per_cost" |alpha| / Delta.
        train: how weights are trained meanwhile.
    """

    penalty: dict[Cost, float] = Field(default={"macs": 1.6e-4})
    cost_form: Literal["exact", "paper", "code", "uniform"] = "exact"
    normalise: bool = True
    threshold: float = Field(default=1e-3, ge=0)
    every: float = Field(default=5, gt=0)
    free: float = Field(default=0, ge=0)
    warmup: float = Field(default=25, ge=0)
    least: float = Field(default=0, ge=0)
    least_form: Literal["exact", "paper", "code"] = "exact"
    target: dict[Cost, float] | None = None
    until: float = Field(default=0.6, gt=0, le=1)
    rank: Literal["scale", "scale_per_cost"] = "scale_per_cost"
    train: Train = Train()

    @field_validator("every", "free", "warmup", mode="before")
    @classmethod
    def _in_epochs(cls, value: Any) -> Any:
        return amount(value, "epochs")

    @field_validator("penalty")
    @classmethod
    def _one_cost(cls, value: dict[str, float]) -> dict[str, float]:
        if len(value) != 1:
            raise ValueError("names one cost, such as `1.6e-4 * macs`")
        if min(value.values()) < 0:
            raise ValueError("should not be negative")
        return value

    @field_validator("target")
    @classmethod
    def _one_limit(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None and (len(value) != 1 or min(value.values()) <= 0):
            raise ValueError("limits one cost, such as `macs <= 0.3G` or `macs <= 0.3`")
        return value


def _figure(name: str, cost: float) -> float:
    """A cost as it is written down: a whole number where it is counted in such."""
    return int(cost) if measures.find(name).scale == 1 else cost


@dataclass
class Removal:
    """One removal: how many units were there and are left, and the MACs and parameters of what is left."""

    epoch: float
    units: int
    left: int
    macs: int
    params: int


class Shrinker:
    """Hangs penalty and removals into a trainer."""

    def __init__(self, trainer: Trainer, settings: Shrink, latency: Latency | None = None):
        self.trainer, self.settings = trainer, settings
        self.graph: Graph = trainer.network.graph
        (penalised,) = settings.penalty
        self.penalty = Penalty(
            trainer.network, settings.cost_form, settings.normalise, settings.threshold, latency, penalised
        )
        self.measure = "macs" if settings.target is None else next(iter(settings.target))
        told = names_told(self.graph, (self.measure,))
        self._values = {name: in_units(self.graph, name) for name in told}
        self.cost = self._values[self.measure]
        self.start = self.costs(largest_values(self.graph))
        self.target: float | None = None
        if settings.target is not None:
            value = settings.target[self.measure]
            self.target = value * self.start[self.measure] if is_share(self.measure, value) else value
        self.cheapest = self._cheapest()
        self._known: tuple[int, bool] | None = None
        trainer.on_gradients = self._penalise

    def costs(self, values: Mapping[str, Any]) -> dict[str, float]:
        return {name: float(evaluate(value, values)) for name, value in self._values.items()}

    def now(self) -> dict[str, float]:
        """Costs of the network as it is."""
        return self.costs({**largest_values(self.graph), **self.trainer.network.kept})

    # --- Penalty ------------------------------------------------------------------------------------------------------

    def weight(self) -> float:
        """lambda at the current step."""
        (full,) = self.settings.penalty.values()
        if self.reached():
            return 0.0
        epoch = self.trainer.step / self.trainer.steps_per_epoch
        if epoch < self.settings.free:
            return 0.0
        rise = self.settings.warmup - self.settings.free
        return full if rise <= 0 else full * min(1.0, (epoch - self.settings.free) / rise)

    def reached(self) -> bool:
        """Whether there is a target and the network meets it."""
        if self.target is None:
            return False
        left, _ = units_left(self.trainer.network)  # it only ever falls, so it tells one network from another
        if self._known is None or self._known[0] != left:
            self._known = (left, self.now()[self.measure] <= self.target)
        return self._known[1]

    def _cheapest(self) -> dict[str, int]:
        """How many units of each group the cheapest architecture needs, where the target is near its cost; else none.

        Near the least cost it matters which unit holds up a block that nothing may pass by: without these the
        removals could end where no further one is allowed, and the target not met.

        Raises:
            CompileError: no architecture of the space meets the target; the message has the least cost there is.
        """
        if self.target is None:
            return {}
        value, architecture = least(self.graph, self.cost)
        if value > self.target:
            raise error(
                "budget-too-small",
                f"no architecture of the space has {self.measure} <= {told(self.measure, self.target)}",
                None,
                help=f"the least is {told(self.measure, value)}",
            )
        if self.target > NEAR * value:
            return {}
        units = {path: d for path, d in self.graph.decisions.items() if d.kind == "units"}
        return {path: len(architecture.indices[path]) for path in units if path in architecture}

    def _penalise(self, trainer: Trainer) -> None:
        self.penalty.add_gradient(self.weight())

    # --- Removal ------------------------------------------------------------------------------------------------------

    def interval(self) -> int:
        """Steps between removals."""
        return max(1, round(self.settings.every * self.trainer.steps_per_epoch))

    def remove(self) -> Removal | None:
        """Removes what is due; None where nothing is."""
        if self.reached():
            return None
        self.penalty.refresh(self.trainer.network)
        groups = self.penalty.groups
        raw = self.penalty.importance(dict(self.trainer.network.named_parameters()))
        average = self.trainer.average
        smooth = self.penalty.importance(average.values) if average is not None else raw
        last = self.trainer.step >= self.trainer.steps
        threshold = self.settings.threshold
        keep = [
            (s > threshold) if last else (s > threshold) | (r > threshold) for r, s in zip(raw, smooth, strict=True)
        ]
        form = self.settings.least_form
        saved = sum(float((~k).sum()) * macs_of(self.graph, g, form) for k, g in zip(keep, groups, strict=True))
        if saved < self.settings.least and not last:
            keep = [torch.ones_like(k) for k in keep]
        self._keep_alive(groups, smooth, keep)
        if self.target is not None:
            self._meet(self.budget(), groups, smooth, keep)
        kept = {
            g.path: tuple(u for u, stays in zip(g.kept, k.tolist(), strict=True) if stays)
            for g, k in zip(groups, keep, strict=True)
        }
        kept = {path: units for path, units in kept.items() if len(units) != len(self._now_kept(path))}
        if not kept:
            return None
        before, _ = units_left(self.trainer.network)
        self.trainer.shrink(kept)
        self.penalty.refresh(self.trainer.network)
        left, _ = units_left(self.trainer.network)
        cost = self.now()
        return Removal(
            self.trainer.step / self.trainer.steps_per_epoch, before, left, int(cost["macs"]), int(cost["params"])
        )

    def _now_kept(self, path: str) -> tuple[int, ...]:
        return self.trainer.network.kept.get(path, tuple(range(self.graph.decisions[path].n)))

    def budget(self) -> float:
        """The cost allowed after this removal: down to the target at `until`, evenly in the logarithm."""
        assert self.target is not None
        interval, step, start = self.interval(), self.trainer.step, self.start[self.measure]
        end = max(interval, round(self.settings.until * self.trainer.steps) // interval * interval)
        if step >= min(end, self.trainer.steps):
            return self.target
        return float(start * (self.target / start) ** (step / end))

    def _meet(
        self, budget: float, groups: list[Group], importance: list[torch.Tensor], keep: list[torch.Tensor]
    ) -> None:
        """Marks the weakest units until the cost is at most `budget`. Stops there: units above the threshold or not.

        A unit that a requirement hangs on stays. Where one removal took much at once, as a transformer's last token
        does, and left the cost far below the budget, the strongest of the marked units that fit stay after all.
        """
        values = {**largest_values(self.graph), **self.trainer.network.kept}
        terms = self._terms_by_path(groups)
        alive = [int(k.sum()) for k in keep]
        living: dict[str, int] = {g.path: n for g, n in zip(groups, alive, strict=True)}
        cost = self._cost_with(values, living)
        guards = self._guards_by_path(groups)
        order: list[tuple[float, int, int]] = []
        for i, (group, scores) in enumerate(zip(groups, importance, strict=True)):
            if self.graph.nodes[group.node].aside:  # it costs nothing
                continue
            per = self.penalty.cost(group, alive[i]) if self.settings.rank == "scale_per_cost" else 1.0
            order.extend((score / per, i, j) for j, score in enumerate(scores.tolist()) if keep[i][j])
        order.sort()
        marked: list[tuple[int, int]] = []
        for _, i, j in order:
            if cost <= budget:
                break
            path = groups[i].path
            if living[path] <= self.cheapest.get(path, 0):
                continue
            before = self._term_cost(terms[path], values, living)
            living[path] -= 1
            if not all(holds(guard, self._here(guard, values, living)) for guard in guards[path]):
                living[path] += 1
                continue
            cost += self._term_cost(terms[path], values, living) - before
            keep[i][j] = False
            marked.append((i, j))
        if cost >= CLOSE * budget:
            return
        for i, j in reversed(marked):
            path = groups[i].path
            before = self._term_cost(terms[path], values, living)
            living[path] += 1
            more = self._term_cost(terms[path], values, living) - before
            if cost + more > budget:
                living[path] -= 1
                continue
            cost += more
            keep[i][j] = True

    def _terms_by_path(self, groups: list[Group]) -> dict[str, list[Any]]:
        """The terms of the cost that each group's count changes."""
        out: dict[str, list[Any]] = {group.path: [] for group in groups}
        for term in expr.terms(self.cost):
            for path in decisions_of(term):
                if path in out:
                    out[path].append(term)
        return out

    def _guards_by_path(self, groups: list[Group]) -> dict[str, list[Any]]:
        """The conditions of the space's requirements that each group's count may break."""
        out: dict[str, list[Any]] = {group.path: [] for group in groups}
        for requirement in structural(self.graph):
            for path in decisions_of(requirement.condition):
                if path in out:
                    out[path].append(requirement.condition)
        return out

    @staticmethod
    def _here(value: Any, values: dict[str, Any], living: Mapping[str, int]) -> dict[str, Any]:
        """The decisions of a value, with as many units as are living."""
        return {p: range(living[p]) if p in living else values[p] for p in decisions_of(value)}

    def _term_cost(self, terms: list[Any], values: dict[str, Any], living: Mapping[str, int]) -> float:
        return float(sum(evaluate(term, self._here(term, values, living)) for term in terms))

    def _cost_with(self, values: dict[str, Any], living: Mapping[str, int]) -> float:
        return float(evaluate(self.cost, {**values, **{p: range(n) for p, n in living.items()}}))

    def _keep_alive(self, groups: list[Group], importance: list[torch.Tensor], keep: list[torch.Tensor]) -> None:
        """Puts back the strongest units wherever a requirement breaks without them (a sum that nothing would reach)."""
        for group, scores, k in zip(groups, importance, keep, strict=True):
            for j in scores.argsort(descending=True)[: self.cheapest.get(group.path, 0)].tolist():
                k[j] = True
        index = {group.path: i for i, group in enumerate(groups)}
        values: dict[str, Any] = {**largest_values(self.graph), **self.trainer.network.kept}
        for group, k in zip(groups, keep, strict=True):
            values[group.path] = range(int(k.sum()))
        for requirement in structural(self.graph):
            mine = [index[path] for path in decisions_of(requirement.condition) if path in index]
            gone = [(s, i, j) for i in mine for j, s in enumerate(importance[i].tolist()) if not keep[i][j]]
            for _, i, j in sorted(gone, reverse=True):
                if holds(requirement.condition, values):
                    break
                keep[i][j] = True
                values[groups[i].path] = range(int(keep[i].sum()))


def check_units(network: Supernet, penalty: Penalty) -> None:
    """That all search units are trained: importance is what training with the penalty leaves of their scales.

    Raises:
        CompileError: some lie in a frozen part.
    """
    for group in penalty.groups:
        if not network.get_parameter(group.parameter).requires_grad:
            message = f"the search units of `{group.path}` lie in a frozen part, where no penalty reaches them"
            raise error("frozen-units", message, None, help="freeze less, or pin them")


class ShrinkSearch:
    """The runtime `shrink`."""

    name: ClassVar[str] = "shrink"
    settings: ClassVar[type[BaseModel]] = Shrink

    @classmethod
    def handles(cls, decision: Decision) -> bool:
        """Search units; whatever else is open has to be pinned first."""
        return decision.kind == "units"

    def search(self, problem: Problem, settings: Shrink) -> Result:
        """Shrinks, from the beginning or from the run's checkpoint."""
        graph = problem.space.graph
        torch.manual_seed(problem.seed)
        network = Supernet(graph)
        for line in begin(network, settings.train.init, problem.space):
            problem.watch.note(line)
        trainer = Trainer(
            network, problem.task, problem.data, settings.train, problem.fabric, problem.seed, problem.workers
        )
        latency = self._latency(problem, settings, network)
        shrinker = Shrinker(trainer, settings, latency)
        check_units(network, shrinker.penalty)
        if problem.run.restore(trainer):
            shrinker.penalty.refresh(network)
        self._loop(problem, trainer, shrinker)
        with trainer.averaged(settings.train.recalibrate) as best:
            metrics = finite(trainer.measure())
            left = Architecture.at(graph, {**largest_values(graph), **network.kept})
            found = best.extract(left)
        return Result(left, found, metrics, shrinker.now())

    def _latency(self, problem: Problem, settings: Shrink, network: Supernet) -> Latency | None:
        wanted = "latency" in settings.penalty
        if wanted and problem.latency is None:
            raise error(
                "no-latency-table",
                "the penalty is on latency, and there is no latency table",
                None,
                help="make one with `nasdsl profile` and name it with `--latency`",
            )
        return Latency.read(Path(problem.latency), network) if wanted and problem.latency is not None else None

    def _loop(self, problem: Problem, trainer: Trainer, shrinker: Shrinker) -> None:
        run_stages(
            trainer,
            problem.run,
            problem.watch,
            "shrink",
            shrinker.interval(),
            lambda: self._remove(trainer, shrinker),
            (trainer.task.headline, *dict.fromkeys(("macs", measures.base(shrinker.measure)[1])), "units"),
            lambda board, row: self._log(board, trainer, shrinker, row),
        )

    def _remove(self, trainer: Trainer, shrinker: Shrinker) -> dict[str, Any]:
        """Removes, then evaluates what is left; what was measured."""
        weight = shrinker.weight()
        before = dict(trainer.network.kept)
        removal = shrinker.remove()
        measured = trainer.evaluate()
        left, whole = units_left(trainer.network)
        cost = shrinker.now()
        return {
            "step": trainer.step,
            "epoch": trainer.step / trainer.steps_per_epoch,
            "lambda": weight,
            "penalty": shrinker.penalty.value(),
            **measured,
            "removed": 0 if removal is None else removal.units - removal.left,
            "units": left,
            "units_at_start": whole,
            **{name: _figure(name, value) for name, value in cost.items() if measures.find(name).of is None},
            KEPT: {path: len(units) for path, units in trainer.network.kept.items() if before.get(path) != units},
        }

    def _log(self, board: Board, trainer: Trainer, shrinker: Shrinker, row: dict[str, Any]) -> None:
        board.measured(row, trainer.step)
        importance = shrinker.penalty.importance(dict(trainer.network.named_parameters()))
        for kind in ("channel", "token"):
            scales = [v for g, v in zip(shrinker.penalty.groups, importance, strict=True) if g.kind == kind]
            if scales:
                board.histogram(f"scales/{kind}", torch.cat(scales).float().cpu().numpy(), trainer.step)
