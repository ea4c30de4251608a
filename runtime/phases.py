"""Phases of one-shot training: which decisions are drawn from when on. What is not open yet is at its greatest.

Once-for-All paper, progressive shrinking: kernels first, then depths as well, then widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pydantic import Field, field_validator

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import error, suggest
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pin import pin
from nasdsl.compiler.write import plain_steps
from nasdsl.runtime.sampling import Drawn, Rule, Sampler
from nasdsl.runtime.sandwich import SandwichExtremes
from nasdsl.runtime.settings import Settings, amount


class Phase(Settings):
    """A part of the training: `{ epochs: 25, open: [kernel, depth] }`.

    Attributes:
        epochs: how long it lasts; the last one lasts to the end, however long that is.
        open: the decisions that are drawn, by words that follow each other in their paths: `depth`,
            `"stage.width"`; none: the largest network alone is trained.
    """

    epochs: float = Field(gt=0)
    open: tuple[str, ...] = ()

    @field_validator("epochs", mode="before")
    @classmethod
    def _in_epochs(cls, value: Any) -> Any:
        return amount(value, "epochs")


class Phased:
    """Draws the architectures of steps by a rule, in each phase among those that differ in what is open alone.

    Args:
        steps_per_epoch: steps of the training.

    Raises:
        CompileError: a phase opens what no decision is called, or the rule cannot be followed in its part of the space.
    """

    def __init__(self, graph: Graph, rule: Rule, phases: Sequence[Phase], steps_per_epoch: int):
        self.graph = graph
        self.ends: list[int] = []  # the step behind each phase
        self._samplers: list[tuple[dict[str, Any], Sampler]] = []
        for phase in phases:
            self.ends.append(round(phase.epochs * steps_per_epoch) + (self.ends[-1] if self.ends else 0))
            closed = self._closed(phase)
            self._samplers.append((closed, Sampler(pin(graph, closed) if closed else graph, rule)))

    def architectures(self, seed: int, step: int) -> list[Drawn]:
        """Those of one step."""
        number = next((i for i, end in enumerate(self.ends) if step < end), len(self.ends) - 1)
        closed, sampler = self._samplers[number]
        drawn = sampler.architectures(seed, step)
        return [Drawn(self._whole(one.architecture, closed), one.role) for one in drawn] if closed else drawn

    def _closed(self, phase: Phase) -> dict[str, Any]:
        """The values of all decisions that a phase does not open."""
        wanted = {word: word.split(".") for word in phase.open}
        opened: set[str] = set()
        for word, steps in wanted.items():
            found = {path for path in self.graph.decisions if _follow(plain_steps(path), steps)}
            if not found:
                known = {step for path in self.graph.decisions for step in plain_steps(path)}
                help = suggest(word, sorted(known)) or "a phase opens decisions by words of their paths"
                raise error("unknown-decision", f"no decision is called `{word}`", None, help=help)
            opened |= found
        greatest = self._greatest
        return {path: greatest[path] for path in self.graph.decisions if path not in opened and path in greatest}

    @cached_property
    def _greatest(self) -> dict[str, Any]:
        return dict(SandwichExtremes(self.graph).extreme(True).indices)

    def _whole(self, drawn: Architecture, closed: dict[str, Any]) -> Architecture:
        """An architecture of the whole space: of what is closed it has what is there."""
        return Architecture.at(self.graph, {**closed, **drawn.indices})


def _follow(steps: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether some words follow each other among the steps of a path."""
    n = len(wanted)
    return any(list(steps[i : i + n]) == list(wanted) for i in range(len(steps) - n + 1))
