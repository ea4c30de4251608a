"""Screening: which options of a declaration are worth searching. Hit-Detector paper, its first stage.

Every option i of every place l has a score a_li, with which it counts in the mixture; all places that one `oneof` in
the text makes are screened together:

    min over a   f(a) + weight * sum over i of sqrt(sum over l of a_li^2)

f is the task's loss of the relaxed network. The second term suppresses an option in all places at once. Options are
ranked by sqrt(sum over l of a_li^2), and the last are removed, a few at a time, until `keep` are left. What the result
has is the space with shorter lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from nasdsl.compiler.cost import lies_under
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.declarations import Declaration, declarations_of
from nasdsl.compiler.diagnostics import error, suggest
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.odds import Odds
from nasdsl.compiler.relaxable import is_relaxable
from nasdsl.compiler.relaxed import Relaxed
from nasdsl.runtime.bilevel import Turns, odds_of, relaxed
from nasdsl.runtime.choices import Choices, Rule
from nasdsl.runtime.chosen import scores_told
from nasdsl.runtime.data import Loader
from nasdsl.runtime.loop import run_stages
from nasdsl.runtime.problem import Narrowing, Problem
from nasdsl.runtime.runs import Board
from nasdsl.runtime.strategies.gradient import Gradient
from nasdsl.runtime.trainer import Trainer


def groups_of(graph: Graph, parts: Sequence[str], keep: int) -> list[Declaration]:
    """The declarations of choices that have more than `keep` options, with those of their decisions that lie inside.

    Args:
        parts: paths under which they lie; none means everywhere.

    Raises:
        CompileError: a part names nothing, or there is nothing to screen.
    """
    for part in parts:
        if not any(lies_under(path, part) for path in graph.decisions):
            steps = sorted({path.partition(".")[0].partition("[")[0] for path in graph.decisions})
            raise error("unknown-part", f"no decision lies under `{part}`", None, help=suggest(part, steps))
    found = []
    for one in declarations_of(graph):
        inside = tuple(path for path in one.paths if not parts or any(lies_under(path, part) for part in parts))
        if inside and one.kind == "choice" and len(one.labels) > keep:
            found.append(replace(one, paths=inside))
    if not found:
        where = f" under {', '.join(f'`{part}`' for part in parts)}" if parts else ""
        raise error("nothing-to-screen", f"no choice{where} has more than {keep} options", None)
    return found


class Screening(Turns):
    """Scores of options beside the training of the weights."""

    def __init__(
        self,
        trainer: Trainer,
        network: Relaxed,
        settings: Gradient,
        choosing: Loader,
        odds: Odds,
        groups: Sequence[Declaration],
    ) -> None:
        self.screen, self.groups, self.odds = settings.screen, groups, odds
        device = trainer.fabric.device
        self.others = Choices(network.graph, device)  # all alike: what is not screened is drawn
        self.scores = [
            torch.full((len(group.paths), len(group.labels)), 1 / len(group.labels), device=device, requires_grad=True)
            for group in groups
        ]
        self.left = [torch.ones(len(group.labels), dtype=torch.bool, device=device) for group in groups]
        super().__init__(trainer, network, settings.choices, choosing, self.scores)

    def _weights(self, turn: int) -> dict[str, Tensor]:
        """What every option counts for: its score; and one value of each decision that is not screened."""
        key = (self.trainer.seed, self.trainer.step, turn)
        drawn = self.others.weights(Rule(name="gumbel"), key, 0.0, False, self.odds)
        found = {path: one.detach() for path, one in drawn.items()}
        for group, scores, left in zip(self.groups, self.scores, self.left, strict=True):
            found |= dict(zip(group.paths, torch.where(left, scores, 0.0).unbind(), strict=True))
        return found

    def for_weights(self) -> dict[str, Tensor]:
        return self._weights(0)

    def for_choices(self) -> dict[str, Tensor]:
        return self._weights(1)

    def paid(self) -> Tensor:
        sizes = [self._size(*pair).sum() for pair in zip(self.scores, self.left, strict=True)]
        return self.screen.weight * torch.stack(sizes).sum()

    def chosen(self) -> None:
        self.remove(self.share_of_choices / self.screen.until)

    @staticmethod
    def _size(scores: Tensor, left: Tensor) -> Tensor:
        """Of each option: sqrt(sum over places of its score squared)."""
        return torch.linalg.vector_norm(torch.where(left, scores, 0.0)[:, left], dim=0)

    @torch.no_grad()
    def remove(self, share: float) -> None:
        """Removes the options with the least scores, a share of all those that go; all of them from 1 on."""
        screen = self.screen
        for number, (scores, left) in enumerate(zip(self.scores, self.left, strict=True)):
            n = len(left)
            wanted = screen.keep + round((n - screen.keep) * max(0.0, 1 - share))
            sizes = torch.linalg.vector_norm(scores, dim=0).masked_fill(~left, -1.0)
            stay = sizes.argsort(descending=True, stable=True)[: min(wanted, int(left.sum()))]
            self.left[number] = torch.zeros_like(left).index_fill_(0, stay, True)

    def sizes(self) -> dict[str, dict[str, float]]:
        """By group and option, the scores over all places; 0 of those that are gone."""
        found = {}
        for group, scores, left in zip(self.groups, self.scores, self.left, strict=True):
            sizes = torch.where(left, torch.linalg.vector_norm(scores.detach(), dim=0), 0.0)
            found[group.name] = dict(zip(group.labels, [float(f"{size:.5g}") for size in sizes], strict=True))
        return found

    def state(self) -> dict[str, Any]:
        return {**super().state(), "left": list(self.left)}

    def load(self, state: Mapping[str, Any]) -> None:
        super().load(state)
        self.left = [left.to(self.trainer.fabric.device) for left in state["left"]]


class ScreenSearch:
    """The runtime `screen`. It takes the settings of the `gradient` that searches what it leaves."""

    name: ClassVar[str] = "screen"
    settings: ClassVar[type[BaseModel]] = Gradient
    reads: ClassVar[tuple[str, ...]] = ("screen", "gradient")
    uses: ClassVar[tuple[str, ...]] = ("screen", "choices", "split", "every", "train")

    @classmethod
    def handles(cls, decision: Decision) -> bool:
        """As the search by gradient."""
        return is_relaxable(decision)

    def search(self, problem: Problem, settings: Gradient) -> Narrowing:
        """Trains weights and scores, from the beginning or from the run's checkpoint, and shortens the lists."""
        graph = problem.space.graph
        groups = groups_of(graph, settings.screen.parts, settings.screen.keep)
        odds = odds_of(graph)
        network, trainer, choosing = relaxed(problem, settings.train, settings.split)
        screening = Screening(trainer, network, settings, choosing, odds, groups)
        screening.check_memory(problem.watch)  # and that all can be mixtures, before a run's folder is there
        problem.run.restore(trainer)
        self._train(problem, settings, screening)
        screening.remove(1.0)  # few steps may end before
        return Narrowing(self._narrowed(screening), self._note(screening))

    def _train(self, problem: Problem, settings: Gradient, screening: Screening) -> None:
        trainer = screening.trainer
        every = settings.every or 1

        def measured() -> dict[str, Any]:
            sizes = screening.sizes()
            row: dict[str, Any] = {"step": trainer.step, "epoch": trainer.step / trainer.steps_per_epoch}
            row |= {f"options left of {name}": sum(size > 0 for size in one.values()) for name, one in sizes.items()}
            screening.tell(problem.run, {"epoch": row["epoch"], "scores": sizes})
            return row

        def log(board: Board, row: dict[str, Any]) -> None:
            board.measured(row, trainer.step)
            board.scalars(scores_told(screening.sizes()), trainer.step)

        shown = [f"options left of {group.name}" for group in screening.groups]
        run_stages(
            trainer,
            problem.run,
            problem.watch,
            "screen",
            max(1, round(every * trainer.steps_per_epoch)),
            measured,
            shown,
            log,
        )

    @staticmethod
    def _narrowed(screening: Screening) -> dict[str, tuple[int, ...]]:
        return {
            path: tuple(np.flatnonzero(left.cpu().numpy()).tolist())
            for group, left in zip(screening.groups, screening.left, strict=True)
            for path in group.paths
        }

    @staticmethod
    def _note(screening: Screening) -> str:
        told = [
            f"{int(left.sum())} of {len(left)} options of {group.name}"
            for group, left in zip(screening.groups, screening.left, strict=True)
        ]
        return "screened: " + ", ".join(told)
