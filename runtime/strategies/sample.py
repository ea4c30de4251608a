"""One-shot training: one supernet holds the weights of all architectures; each step trains a few that a rule draws.

TrioNet paper, Hierarchical Sampling and the sandwich rule within operators; BigNAS paper, in-place distillation;
FairNAS paper, strict fairness. At the end some architectures are drawn, scored with the weights that they inherit, and
the best of them is the result; the supernet stays in the run's folder for other searches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import nn

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import CompileError, error
from nasdsl.compiler.files import to_json, write_text
from nasdsl.compiler.layers.auxiliary import Sided
from nasdsl.compiler.slices import take
from nasdsl.compiler.space import Space
from nasdsl.compiler.stored import Stored
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import save_weights
from nasdsl.runtime.data.holdout import held_back
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.inherit import SUPERNET, Inherited
from nasdsl.runtime.limits import Limits, costs_told
from nasdsl.runtime.loop import run_stages
from nasdsl.runtime.optim import decayed
from nasdsl.runtime.phases import Phase, Phased
from nasdsl.runtime.pretrained import begin
from nasdsl.runtime.problem import RESIZES, Needs, Problem, Result, task_of
from nasdsl.runtime.sampling import Inside, Rule, Sampler, by_decision, generator
from nasdsl.runtime.sandwich import SandwichExtremes, is_size
from nasdsl.runtime.settings import Settings, Train, amount
from nasdsl.runtime.stored import parsed
from nasdsl.runtime.tasks import loss_of, loss_of_sides
from nasdsl.runtime.trainer import Trainer, finite

MOST_SHOWN = 8
"""Operators whose largest networks are followed through the training, and candidates, at most."""


class Distil(Settings):
    """In-place distillation: what the largest architecture of a step says is what the others learn. BigNAS paper.

    Attributes:
        weight: of the largest network's word against the labels; 1 takes it alone.
        temperature: by which the logits of both are divided.
    """

    weight: float = Field(default=1.0, gt=0, le=1)
    temperature: float = Field(default=1.0, gt=0)


class Sample(Settings):
    """Settings of `search sample { ... }`.

    Attributes:
        rule: how the architectures of a step are drawn; a word, or a record with its `name`.
        phases: what is drawn from when on, as in Once-for-All: `[{ epochs: 25, open: [kernel] }, { epochs: 25, open:
            [kernel, depth] }]`. The last lasts to the end; without any all is drawn from the beginning.
        weight_decay_of: `all` parameters that a step has run, or those that its `largest` architecture has, as in the
            TrioNet paper.
        distil: in-place distillation, `distil: { weight: 1 }`.
        hold_back: training samples on which architectures are compared: a share of all, or their number. 0 takes the
            validation split.
        every: epochs between measurements.
        follow: the networks that are measured then: the `smallest` and the `largest` of the space, the largest that
            has the same `operators` in all places, one for each operator, and the first `candidates`, whose ranks tell
            when the supernet's word can be taken.
        candidates: how many architectures are drawn at the end inside the target: decision by decision or, where the
            rule draws uniformly, each as likely as any other.
        target: the most that a candidate costs, `macs <= 4M`, or as a share of the greatest cost `macs <= 0.5`.
        train: `epochs` counts the training samples that are not held back.
    """

    rule: Rule = Rule(name="sandwich")
    phases: tuple[Phase, ...] = ()
    weight_decay_of: str = "all"
    distil: Distil | None = None
    hold_back: float = Field(default=0.1, ge=0)
    every: float = Field(default=1, gt=0)
    follow: tuple[str, ...] = ("smallest", "largest", "operators")
    candidates: int = Field(default=20, gt=0)
    target: Limits | None = None
    train: Train = Train()

    @field_validator("rule", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("every", mode="before")
    @classmethod
    def _in_epochs(cls, value: Any) -> Any:
        return amount(value, "epochs")

    @field_validator("weight_decay_of")
    @classmethod
    def _one_of(cls, value: str) -> str:
        if value not in ("all", "largest"):
            raise ValueError("should be `all` or `largest`")
        return value

    @field_validator("follow")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if set(value) - {"smallest", "largest", "operators", "candidates"}:
            raise ValueError("takes `smallest`, `largest`, `operators` and `candidates`")
        return value

    @model_validator(mode="after")
    def _has_a_largest(self) -> Sample:
        largest = self.rule.name == "sandwich" and self.rule.largest
        if self.distil is not None and not largest:
            raise ValueError("distil needs a rule that draws a largest architecture: `rule: sandwich`")
        if self.weight_decay_of == "largest":
            if not largest:
                raise ValueError("weight_decay_of: largest needs a rule that draws one: `rule: sandwich`")
            if self.train.weight_decay_form != "loss":
                raise ValueError("weight_decay_of: largest needs `weight_decay_form: loss` in `train`")
        return self


def distillation(logits: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """The mean Kullback-Leibler divergence of a network's classes (B C, or B C H W) from its teacher's, times the
    temperature squared, so that gradients keep their size. No gradient reaches the teacher."""
    target = (teacher.detach() / temperature).log_softmax(1)
    found = (logits / temperature).log_softmax(1)
    divergence = F.kl_div(found, target, reduction="none", log_target=True).sum(1)
    return divergence.mean() * temperature**2


class OneShot:
    """Hangs a rule into a trainer: each step sums the gradients of the architectures that the rule draws for it."""

    def __init__(self, trainer: Trainer, settings: Sample, sampler: Sampler | Phased):
        self.trainer, self.settings, self.sampler = trainer, settings, sampler
        self._largest: list[tuple[nn.Parameter, tuple[Any, ...]]] = []
        if settings.distil is not None and not trainer.task.distils:
            raise RunError(
                f"networks for {trainer.task.name} cannot learn from each other's outputs", "leave `distil` out"
            )
        trainer.gradients = self.gradients
        if settings.weight_decay_of == "largest":
            trainer.decay = self.decay

    def gradients(self, images: torch.Tensor, targets: Any) -> float:
        """The gradients of all architectures of the step, summed; the mean of their losses."""
        trainer = self.trainer
        drawn = self.sampler.architectures(trainer.seed, trainer.step)
        teacher: torch.Tensor | None = None
        total = torch.zeros((), device=images.device)
        for one in drawn:
            trainer.network.activate(one.architecture)
            with trainer.autocast():
                outputs = trainer.model(images, targets)
                loss = self._loss(outputs, targets, teacher)
            trainer.fabric.backward(loss)
            total += loss.detach()
            if one.role == "largest":
                teacher = _main(outputs).detach() if self.settings.distil is not None else None
                self._largest = trainer.network.parts()
        return float(total) / len(drawn)

    def _loss(self, outputs: Any, targets: Any, teacher: torch.Tensor | None) -> torch.Tensor:
        task, distil = self.trainer.task, self.settings.distil
        if distil is None or teacher is None:
            return loss_of(task, outputs, targets)
        loss = distillation(_main(outputs), teacher, distil.temperature)
        if distil.weight != 1:
            loss = distil.weight * loss + (1 - distil.weight) * task.loss(_main(outputs), targets)
        if isinstance(outputs, Sided):  # sides learn from the data alone
            loss = loss + loss_of_sides(task, outputs, targets)
        return loss

    @torch.no_grad()
    def decay(self, weight: float) -> None:
        """The gradient of 0.5 * weight * the sum of squares of what the step's largest architecture uses."""
        uses: dict[int, list[tuple[Any, ...]]] = {}
        for parameter, index in self._largest:
            uses.setdefault(id(parameter), []).append(index)
        for name, parameter in self.trainer.network.named_parameters():
            if id(parameter) not in uses or not decayed(name, parameter) or parameter.grad is None:
                continue
            mine = uses[id(parameter)]
            if len(mine) == 1 and all(part is None or isinstance(part, slice) for part in mine[0]):
                take(parameter.grad, mine[0]).add_(take(parameter, mine[0]), alpha=weight)
            else:
                parameter.grad.addcmul_(parameter, used(parameter, mine), value=weight)


def _main(outputs: Any) -> Any:
    """What a network gives in training, without what its sides give."""
    return outputs.output if isinstance(outputs, Sided) else outputs


def used(parameter: torch.Tensor, uses: Sequence[tuple[Any, ...]]) -> torch.Tensor:
    """1 at the entries of a parameter that any of its uses has, each given by its entries along the axes; else 0."""
    found = torch.zeros_like(parameter)
    for index in uses:
        axes = []
        for axis, part in enumerate(index):
            line = parameter.new_zeros(parameter.shape[axis])
            line[slice(None) if part is None else part] = 1
            axes.append(line.view(-1, *[1] * (parameter.dim() - axis - 1)))
        found = found.maximum(math.prod(axes, start=torch.ones_like(parameter)))
    return found


def followed(problem: Problem, settings: Sample, pool: Sequence[Architecture]) -> dict[str, Architecture]:
    """The networks whose metrics the history has, by name: `smallest`, `largest`, an operator's word for the largest
    network that has it wherever it can be, and `candidate 1` and so on, the first of the pool. Places that do not offer
    an operator have their first one."""
    graph = problem.space.graph
    ends = SandwichExtremes(graph)
    out: dict[str, Architecture] = {}
    operators = {path: d for path, d in graph.decisions.items() if not is_size(d)}
    first = {path: next(iter(decision.values())) for path, decision in operators.items()}
    choices = {path: decision for path, decision in operators.items() if decision.kind == "choice"}
    words = list(dict.fromkeys(label for decision in choices.values() for label in labels(decision)))
    wanted: dict[str, Callable[[], Architecture]] = {}
    if "smallest" in settings.follow:
        wanted["smallest"] = lambda: ends.extreme(False)
    if "largest" in settings.follow:
        wanted["largest"] = lambda: ends.extreme(True)
    if "operators" in settings.follow:
        for word in words[:MOST_SHOWN]:
            chosen = {
                path: labels(decision).index(word) for path, decision in choices.items() if word in labels(decision)
            }
            wanted[word] = partial(ends.largest, {**first, **chosen})
    for name, find in wanted.items():
        try:
            out[name] = find()
        except CompileError as why:  # no network may have an operator everywhere, such as one that passes nothing on
            problem.watch.note(f"{name} is not followed: {why.message}")
    if "candidates" in settings.follow:
        out |= {f"candidate {number}": one for number, one in enumerate(pool[:MOST_SHOWN], 1)}
    return out


def labels(decision: Decision) -> list[str]:
    """What a file calls the options."""
    return list(decision.labels) or [str(item) for item in decision.items]


class SampleSearch:
    """The runtime `sample`."""

    name: ClassVar[str] = "sample"
    settings: ClassVar[type[BaseModel]] = Sample

    @classmethod
    def handles(cls, decision: Decision) -> bool:
        """Everything."""
        return True

    @classmethod
    def needs(cls, settings: Sample, space: Space) -> Needs:
        """Data. The size of the images may be a choice where targets don't speak of pixels."""
        one_depth = isinstance(space.graph.input.shape.channels, int)
        return Needs(open_input=one_depth and task_of(space) in RESIZES)

    def search(self, problem: Problem, settings: Sample) -> Result:
        """Trains the supernet, from the beginning or from the run's checkpoint, and picks the best candidate."""
        if settings.distil is not None and problem.task.name not in ("classification", "segmentation"):
            message = f"distillation is of classes, and {problem.task.name} has none"
            raise error("no-classes", message, None, help="leave `distil` out")
        graph = problem.space.graph
        sampler = None if settings.phases else Sampler(graph, settings.rule)
        pool = candidates(problem, settings)
        shown = followed(problem, settings, pool)
        data = held_back(problem.data, settings.hold_back)
        torch.manual_seed(problem.seed)
        network = Supernet(graph)
        for line in begin(network, settings.train.init, problem.space):
            problem.watch.note(line)
        trainer = Trainer(
            network, problem.task, data, settings.train, problem.fabric, problem.seed, problem.workers, in_parts=True
        )
        drawn = sampler or Phased(graph, settings.rule, settings.phases, trainer.steps_per_epoch)
        if isinstance(drawn, Phased) and any(end >= trainer.steps for end in drawn.ends[:-1]):
            message = "the last of the phases begins when the training has ended"
            raise error("bad-setting", message, None, help="give `train` more epochs, or the phases fewer")
        OneShot(trainer, settings, drawn)
        problem.run.restore(trainer)
        self._train(problem, trainer, settings, shown)
        with trainer.averaged(0) as averaged:
            if problem.fabric.is_global_zero:
                about = {"space": problem.space.name, "digest": problem.space.digest(), "task": problem.task.name}
                save_weights(problem.run.path / SUPERNET, averaged.state_dict(), about)
            problem.fabric.barrier()
            best = self._best(problem, settings, Inherited(trainer, settings.train.recalibrate), pool)
            averaged.activate(best)
            if settings.train.recalibrate:
                trainer.recalibrate(settings.train.recalibrate)
            metrics = finite(trainer.measure(problem.data.val))
            found = averaged.extract(best)
        return Result(best, found, metrics, costs(problem, settings, best))

    def _train(self, problem: Problem, trainer: Trainer, settings: Sample, shown: Mapping[str, Architecture]) -> None:
        inherited = Inherited(trainer, settings.train.recalibrate)
        headline = problem.task.headline

        def measured() -> dict[str, Any]:
            row: dict[str, Any] = {"step": trainer.step, "epoch": trainer.step / trainer.steps_per_epoch}
            with trainer.averaged(0):
                for name, architecture in shown.items():
                    row |= {f"{key} of {name}": value for key, value in inherited.evaluate(architecture).items()}
            return row

        run_stages(
            trainer,
            problem.run,
            problem.watch,
            "sample",
            max(1, round(settings.every * trainer.steps_per_epoch)),
            measured,
            [f"{headline} of {name}" for name in shown],
            lambda board, row: board.measured(row, trainer.step),
        )

    def _best(self, problem: Problem, settings: Sample, inherited: Inherited, pool: list[Architecture]) -> Architecture:
        """Scores the candidates, going on where an earlier run stopped; the best by the task's metric."""
        file, task = problem.run.path / "candidates.jsonl", problem.task
        main = problem.fabric.is_global_zero
        lines = problem.fabric.broadcast(read_scores(file, [one.to_json() for one in pool]) if main else [])
        problem.watch.start("candidates", len(pool), len(lines))
        try:
            for architecture in pool[len(lines) :]:
                scores = inherited.evaluate(architecture)
                lines.append(
                    {"architecture": architecture.to_json(), **scores, **costs(problem, settings, architecture)}
                )
                if main:
                    write_text(file, "".join(to_json(line) + "\n" for line in lines))
                problem.watch.step(len(lines), {task.headline: scores[task.headline]})
        finally:
            problem.watch.stop()
        sign = 1 if task.higher_is_better else -1
        values = [sign * line[task.headline] if is_scored(line, task.headline) else -math.inf for line in lines]
        return pool[max(range(len(pool)), key=values.__getitem__)]


def is_scored(line: Mapping[str, Any], headline: str) -> bool:
    """Whether a candidate has a score, and no loss that is no number."""
    return all(value is not None and math.isfinite(value) for value in (line[headline], line.get("loss", 0.0)))


class Candidate(Stored):
    """A line of candidates.jsonl: an architecture, as `Architecture.to_json` writes it, and its metrics and costs by
    name, None where the training has failed."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=True)
    __pydantic_extra__: dict[str, float | None]

    architecture: dict[str, Any]


def read_scores(file: Path, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of candidates.jsonl; none where there is no such file yet.

    Args:
        wanted: the candidates of this run, in order.

    Raises:
        RunError: a line is something else, or speaks of another candidate.
    """
    if not file.exists():
        return []
    help = f"remove {file.name}, and the candidates are measured anew"
    found = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        where = f"{file}, line {number},"
        one = parsed(Candidate, line, where, "a measured candidate", help)
        if number > len(wanted) or one.architecture != wanted[number - 1]:
            raise RunError(f"{where} is no candidate of this run", help)
        found.append(one.model_dump())
    return found


def candidates(problem: Problem, settings: Sample) -> list[Architecture]:
    """The architectures among which the result is: random ones inside the target, each once."""
    graph, uniform = problem.space.graph, "uniform" in (settings.rule.name, settings.rule.draw)
    source = Inside(graph, settings.target) if uniform else by_decision(graph, settings.target)
    drawn = source.draw(settings.candidates, generator(problem.seed, CANDIDATES))
    return list(dict.fromkeys(drawn))


CANDIDATES = 1 << 62
"""In place of a step, for the random numbers of the candidates."""


def costs(problem: Problem, settings: Sample, architecture: Architecture) -> dict[str, float]:
    """What is told of an architecture's costs: MACs, FLOPs, parameters, and what budgets and the target bound."""
    return costs_told(problem.space.graph, architecture.indices, settings.target or ())
