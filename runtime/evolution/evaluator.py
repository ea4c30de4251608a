"""What gives an architecture its worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.arrays.encoding import Encoding
from nasdsl.runtime.evolution.candidates import Rows
from nasdsl.runtime.problem import Problem, Result


class Evaluator(Protocol):
    """All that the loop of a search asks for."""

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        """Metrics by name. The same seed gives the same ones where that can be had.

        Raises:
            EvaluationError: this architecture cannot be evaluated; others may.
        """
        ...


class NamedEvaluator(ABC):
    """An evaluator that `search evolve { NAME: settings }` names: one of `runtime/evaluators.py`, or an entry point in
    the group `nasdsl.evaluators`, which is a class of this kind.

    Attributes:
        settings: what may stand behind its name: a model, or another type that pydantic knows.
        needs_data: whether the problem must have data, a task and devices.
        open_input: whether the size of the input may be open to choice. `Problem.at` then has the data at each size.
        headline: the metric that is wanted where nothing else is asked for.
        higher_is_better: whether it is then maximised.
    """

    settings: ClassVar[Any]
    needs_data: ClassVar[bool] = False
    open_input: ClassVar[bool] = False
    headline: str | None = None
    higher_is_better: bool = True

    @classmethod
    @abstractmethod
    def make(cls, problem: Problem, settings: Any, wanted: Collection[str]) -> Self:
        """The evaluator of a search.

        Args:
            wanted: the names of the objectives: what takes time is measured only where it is asked for.

        Raises:
            RunError: what the settings name cannot be used.
        """

    @classmethod
    def contents(cls, settings: Any, base: Path | None) -> Mapping[str, str]:
        """Hashes of the content of what is read, by name: a search goes on only while they are the same.

        Args:
            base: the folder of the `.space` file.
        """
        return {}

    @abstractmethod
    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        """As `Evaluator` has it."""

    def told(self) -> list[str]:
        """What the user is to be told before the first evaluation, a line each."""
        return []

    def pool(self, encoding: Encoding) -> Rows | None:
        """[n, width] the only architectures that can be evaluated; None for all of the space."""
        return None

    def result(self, architecture: Architecture, costs: Mapping[str, float]) -> Result | None:
        """An architecture with the weights that it was evaluated with; None where it has none to keep."""
        return None
