"""Whoever watches a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


class Watch(Protocol):
    """Whoever watches a run: progress bars, or nobody."""

    def start(self, title: str, steps: int, done: int) -> None: ...

    def step(self, done: int, facts: Mapping[str, Any]) -> None: ...

    def note(self, line: str) -> None: ...

    def stop(self) -> None: ...


class Silent:
    """Nobody watches."""

    def start(self, title: str, steps: int, done: int) -> None:
        pass

    def step(self, done: int, facts: Mapping[str, Any]) -> None:
        pass

    def note(self, line: str) -> None:
        pass

    def stop(self) -> None:
        pass


@dataclass(frozen=True)
class Progress:
    """What a run tells whoever watches it.

    Attributes:
        kind: `start` and `stop` of a stretch of work, a `step` of it, or a `note` for people.
        title: what is done: `train`, `search`, `candidates`, ...
        done, total: steps; of a search by evaluations trials.
        facts: what is known at a step, by name: `epoch`, `loss`, metrics, costs.
        text: of a note.
    """

    kind: Literal["start", "step", "note", "stop"]
    title: str = ""
    done: int = 0
    total: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""


OnProgress = Callable[[Progress], None]
"""Called with all that a run tells. What it raises ends the run, which can be gone on with where its folder is kept."""


class Told:
    """Tells a function."""

    def __init__(self, function: OnProgress) -> None:
        self.function = function
        self.title, self.done, self.total = "", 0, 0

    def start(self, title: str, steps: int, done: int) -> None:
        self.title, self.done, self.total = title, done, steps
        self.function(Progress("start", title, done, steps))

    def step(self, done: int, facts: Mapping[str, Any]) -> None:
        self.done = done
        self.function(Progress("step", self.title, done, self.total, dict(facts)))

    def note(self, line: str) -> None:
        self.function(Progress("note", self.title, self.done, self.total, text=line))

    def stop(self) -> None:
        self.function(Progress("stop", self.title, self.done, self.total))


def watching(function: OnProgress | None) -> Watch:
    """Whoever watches through a function, if there is one."""
    return Silent() if function is None else Told(function)
