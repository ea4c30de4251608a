"""Whoever watches a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


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
