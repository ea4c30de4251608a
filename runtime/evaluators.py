"""What gives an architecture its worth: a table of known results (`benchmark_table.py`), a function of the user's, a
supernet's weights, or training from scratch. All of them by name."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from lightning_fabric import Fabric

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import cause
from nasdsl.compiler.pin import pin
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.benchmark_table import Table
from nasdsl.runtime.data import DataSplits
from nasdsl.runtime.data.plugins import is_child_of, with_entry_points
from nasdsl.runtime.errors import Diverged
from nasdsl.runtime.evolution.evaluator import NamedEvaluator
from nasdsl.runtime.evolution.objectives import EvaluationError, Untrainable
from nasdsl.runtime.files import content, folder_of, known_file
from nasdsl.runtime.functions import FUNCTIONS, find_function
from nasdsl.runtime.inherit import SUPERNET, Inherited, load
from nasdsl.runtime.memory import lack_of_memory, release_memory
from nasdsl.runtime.pretrained import begin, files_of
from nasdsl.runtime.problem import InputSize, Problem, Result
from nasdsl.runtime.settings import Train
from nasdsl.runtime.tasks import Task
from nasdsl.runtime.timing import milliseconds
from nasdsl.runtime.trainer import Trainer, finite

VALUE = "value"
"""The metric of a function that gives one number."""
LATENCY = "latency"
"""The metric of a network's measured time."""


def numbers(given: Any, where: str) -> dict[str, float]:
    """What a function gave as metrics by name.

    Raises:
        EvaluationError: it is neither a number nor a mapping of names to numbers.
    """
    metrics = given if isinstance(given, Mapping) else {VALUE: given}
    try:
        if any(isinstance(value, bool | str) for value in metrics.values()):
            raise TypeError
        return {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError, OverflowError):
        raise EvaluationError(f"{where} gave {reprlib.repr(given)}, and neither a number nor numbers by name") from None


class FunctionEvaluator(NamedEvaluator):
    """A function of the user's. It is given an `Architecture`, which reads like a mapping of paths to values and is
    what the functions of `nasdsl` take; one that is found by name (`runtime/functions.py`) the space as well.

    It gives a number, which is the metric `value`, or a dict of numbers by name. What it raises is a failed trial.
    """

    settings: ClassVar[Any] = str
    headline = VALUE

    def __init__(self, function: Callable[[Architecture], Any], name: str):
        self.function, self.name = function, name

    @classmethod
    def make(cls, problem: Problem, settings: str, wanted: Collection[str]) -> Self:
        """
        Raises:
            RunError: there is no such function.
        """
        function, space = find_function(settings, FUNCTIONS), problem.space
        return cls(lambda architecture: function(architecture, space), settings)

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        try:
            given = self.function(architecture)
        except (Exception, SystemExit) as problem:  # it is the user's code that runs here
            raise EvaluationError(f"`{self.name}` raised {cause(problem)}") from problem
        return numbers(given, f"`{self.name}`")


class ScratchEvaluator(NamedEvaluator):
    """Trains each architecture from scratch, and measures it on the validation split.

    The metrics are the task's, with its `loss`. The seed of a trial sets its first weights and the order of its images.
    Files of first weights are for the largest architecture, of which the others have parts.

    Args:
        data, task, fabric: as a problem has them.
        settings: how long and how.
        at: the data and the task at any size of the input, where that is open to choice: an architecture sees the
            images in its own.
        latency: whether the metric `latency` is measured, too: the milliseconds that a trained network takes for one
            image on this device.
    """

    settings: ClassVar[Any] = Train
    needs_data = True
    open_input = True

    def __init__(
        self,
        space: Space,
        data: DataSplits,
        task: Task,
        fabric: Fabric,
        settings: Train,
        workers: int = 0,
        at: Callable[[InputSize], tuple[DataSplits, Task]] | None = None,
        latency: bool = False,
    ):
        self.space, self.data, self.task, self.fabric = space, data, task, fabric
        self.train, self.workers, self.at, self.latency = settings, workers, at, latency
        self.headline, self.higher_is_better = task.headline, task.higher_is_better

    @classmethod
    def make(cls, problem: Problem, settings: Train, wanted: Collection[str]) -> Self:
        space, learning, latency = problem.space, problem.learning, LATENCY in wanted
        assert learning is not None
        given = (learning.data, learning.task, learning.fabric)
        return cls(space, *given, settings, problem.workers, learning.at, latency)

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        """
        Raises:
            Untrainable: the loss becomes infinite or no number, or the memory does not suffice.
        """
        try:
            return self._trained(architecture, seed)
        except (MemoryError, RuntimeError) as problem:
            reason = lack_of_memory(problem)
            if reason is None:
                raise
        # What the traceback held has gone by now: the next architecture has the memory for itself.
        release_memory()
        raise Untrainable(reason)

    def _trained(self, architecture: Architecture, seed: int) -> dict[str, float]:
        graph = pin(self.space.graph, architecture.indices)
        shape = graph.input.shape
        size = (shape.channels, shape.height, shape.width)
        data, task = self.at(size) if self.at is not None else (self.data, self.task)
        torch.manual_seed(seed)
        if files_of(self.train.init):
            network = Supernet(self.space.graph)
            begin(network, self.train.init, self.space)
            network = network.extract(architecture)
        else:
            network = Supernet(graph)
            begin(network, self.train.init, self.space)
        trainer = Trainer(network, task, data, self.train, self.fabric, seed, self.workers)
        try:
            trainer.fit()
            metrics = trainer.evaluate()
        except Diverged as problem:
            raise Untrainable(f"it has diverged: {problem.why}") from None
        if self.latency:
            with trainer.autocast():
                metrics[LATENCY] = milliseconds(network, size, self.fabric.device)
        return metrics

    def told(self) -> list[str]:
        """What is to be told of files of first weights.

        Raises:
            CompileError: one does not fit.
        """
        from nasdsl.compiler.supernet import Supernet
        from nasdsl.runtime.pretrained import begin, files_of

        files = files_of(self.train.init)
        return begin(Supernet(self.space.graph), self.train.init, self.space) if files else []


class SupernetEvaluator(NamedEvaluator):
    """Scores architectures with the weights that they inherit from a supernet. TrioNet paper, evolutionary search.

    Args:
        inherited: the supernet, with the data that its training held back.
    """

    settings: ClassVar[Any] = str
    needs_data = True
    open_input = True

    def __init__(self, inherited: Inherited):
        self.inherited = inherited
        task = inherited.trainer.task
        self.headline, self.higher_is_better = task.headline, task.higher_is_better

    @classmethod
    def make(cls, problem: Problem, settings: str, wanted: Collection[str]) -> Self:
        run = known_file(settings, folder_of(problem.space))
        return cls(load(run, problem.space, problem.task, problem.data, problem.fabric, problem.workers))

    @classmethod
    def contents(cls, settings: str, base: Path | None) -> Mapping[str, str]:
        return {"supernet": content(known_file(settings, base) / SUPERNET)}

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        """
        Raises:
            Untrainable: with the weights that it inherits its loss is no finite number.
        """
        try:
            return finite(self.inherited.evaluate(architecture))  # nothing is drawn
        except Diverged as problem:
            raise Untrainable(f"with the weights that it inherits {problem.why}") from None

    def result(self, architecture: Architecture, costs: Mapping[str, float]) -> Result:
        """The architecture's own network, with inherited weights and norm statistics estimated for it."""
        metrics = self.inherited.evaluate(architecture)
        return Result(architecture, self.inherited.trainer.network.extract(architecture), metrics, costs)


EVALUATORS: Mapping[str, type[NamedEvaluator]] = {
    "table": Table,
    "function": FunctionEvaluator,
    "supernet": SupernetEvaluator,
    "train": ScratchEvaluator,
}


def find_evaluators() -> dict[str, type[NamedEvaluator]]:
    """The built-in evaluators and those that installed packages offer in the entry-point group `nasdsl.evaluators`.

    Raises:
        PluginError: a name is taken twice, or an entry point is not a child of `NamedEvaluator`.
    """
    return with_entry_points("nasdsl.evaluators", EVALUATORS, is_child_of(NamedEvaluator))
