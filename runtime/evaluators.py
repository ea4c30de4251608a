"""What gives an architecture its worth: a table of known results, a function of the user's, a supernet's weights, or
training from scratch.

Whatever has `evaluate(architecture, seed) -> {metric: number}` is one (`evolution/loop.py`).
"""

from __future__ import annotations

import importlib
import os
import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import cause
from nasdsl.compiler.space import Space
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.objectives import EvaluationError

if TYPE_CHECKING:
    from nasdsl.runtime.inherit import Inherited
    from nasdsl.runtime.problem import Result

FUNCTION = "value"
"""The metric of a function that gives one number."""


def find_function(name: str) -> Callable[..., Any]:
    """The function `module:function`; the module may lie in the present folder.

    Raises:
        RunError: there is none.
    """
    module, colon, path = name.partition(":")
    if not colon or not module or not path:
        raise RunError(f"`{name}` names no function", "write `module:function`, such as `my_module:accuracy`")
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as problem:
        missing = f"the module `{problem.name}`"
        by = "" if problem.name == module else f", which `{module}` imports,"
        raise RunError(
            f"{missing}{by} is not found", "it is looked for in this folder and where Python looks"
        ) from None
    except (Exception, SystemExit) as problem:  # it is the user's code that runs here
        raise RunError(f"the module `{module}` cannot be imported: {cause(problem)}") from problem
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise RunError(f"the module `{module}` has no function `{path}`")
    return found


def numbers(given: Any, where: str) -> dict[str, float]:
    """What a function gave as metrics by name.

    Raises:
        EvaluationError: it is neither a number nor a mapping of names to numbers.
    """
    metrics = given if isinstance(given, Mapping) else {FUNCTION: given}
    try:
        if any(isinstance(value, bool | str) for value in metrics.values()):
            raise TypeError
        return {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError, OverflowError):
        raise EvaluationError(f"{where} gave {reprlib.repr(given)}, and neither a number nor numbers by name") from None


class FunctionEvaluator:
    """A function of the user's, called as `function(architecture, space)`: an `Architecture`, which reads like a
    mapping of paths to values and is what the functions of `nasdsl` take, and the space.

    It gives a number, which is the metric `value`, or a dict of numbers by name. What it raises is a failed trial.

    Raises:
        RunError: there is no such function.
    """

    def __init__(self, name: str, space: Space):
        self.name, self.space = name, space
        self.function = find_function(name)

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        try:
            given = self.function(architecture, self.space)
        except (Exception, SystemExit) as problem:  # it is the user's code that runs here
            raise EvaluationError(f"`{self.name}` raised {cause(problem)}") from problem
        return numbers(given, f"`{self.name}`")


class ScratchEvaluator:
    """Trains each architecture from scratch, and measures it on the validation split.

    The metrics are the task's, with its `loss`. The seed of a trial sets its first weights and the order of its images.

    Args:
        data, task, fabric: as a problem has them.
        settings: how long and how.
    """

    def __init__(self, space: Space, data: Any, task: Any, fabric: Any, settings: Any, workers: int = 0):
        self.space, self.data, self.task, self.fabric = space, data, task, fabric
        self.settings, self.workers = settings, workers

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        import torch

        from nasdsl.compiler.pin import pin
        from nasdsl.compiler.supernet import Supernet
        from nasdsl.runtime.optim import initialise
        from nasdsl.runtime.trainer import Trainer

        torch.manual_seed(seed)
        network = Supernet(pin(self.space.graph, architecture.indices))
        initialise(network, self.settings.init)
        trainer = Trainer(network, self.task, self.data, self.settings, self.fabric, seed, self.workers)
        trainer.fit()
        return trainer.evaluate()


class SupernetEvaluator:
    """Scores architectures with the weights that they inherit from a supernet. TrioNet paper, evolutionary search.

    Args:
        inherited: the supernet, with the data that its training held back.
    """

    def __init__(self, inherited: Inherited):
        self.inherited = inherited

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        return self.inherited.evaluate(architecture)  # nothing is drawn

    def result(self, architecture: Architecture, costs: Mapping[str, float]) -> Result:
        """The architecture's own network, with inherited weights and norm statistics estimated for it."""
        from nasdsl.runtime.problem import Result

        metrics = self.inherited.evaluate(architecture)
        return Result(architecture, self.inherited.trainer.network.extract(architecture), metrics, costs)


def known_file(path: str, base: Path | None) -> Path:
    """A file that a `.space` file names lies beside it; one of the command line in this folder."""
    given = Path(path)
    beside = base / given if base is not None else given
    return beside if beside.exists() or not given.exists() else given
