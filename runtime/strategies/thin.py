"""The baseline that a shrinking search has to beat: the same space thinned evenly to the same cost, trained as long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import BaseModel

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import in_units
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import evaluate
from nasdsl.runtime.limits import costs_told, is_share
from nasdsl.runtime.loop import run_epochs
from nasdsl.runtime.pretrained import begin
from nasdsl.runtime.problem import Problem, Result
from nasdsl.runtime.runs import KEPT
from nasdsl.runtime.strategies.shrink import Shrink
from nasdsl.runtime.trainer import Trainer, finite


def thin_evenly(graph: Graph, cost: Value, target: float) -> dict[str, Any]:
    """Every set of units cut to the same share, the largest that keeps the cost at most at `target`; at least one unit
    stays in each. What whole units leave of the target is filled by one unit more where most was cut off.

    Raises:
        CompileError: even one unit in each costs more.
    """
    sizes = {path: decision.n for path, decision in graph.decisions.items() if decision.kind == "units"}
    rest = largest_values(graph)

    def counts(share: float) -> dict[str, int]:
        return {path: max(1, int(share * n)) for path, n in sizes.items()}

    def cost_of(kept: Mapping[str, int]) -> float:
        return float(evaluate(cost, {**rest, **{path: range(n) for path, n in kept.items()}}))

    least = cost_of(counts(0.0))
    if least > target:
        digits = ",.0f" if least >= 100 else ",.4g"
        message = f"with one unit in each place the cost is {least:{digits}}, above the target {target:{digits}}"
        raise error("budget-too-small", message, None)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if cost_of(counts(middle)) <= target else (low, middle)
    kept = counts(low)
    for path in sorted(sizes, key=lambda path: kept[path] - low * sizes[path]):
        more = {**kept, path: kept[path] + 1}
        if kept[path] < sizes[path] and cost_of(more) <= target:
            kept = more
    return {**rest, **{path: tuple(range(n)) for path, n in kept.items()}}


class ThinSearch:
    """The runtime `thin`. It takes the settings of the `shrink` it is compared with, and reads `target` and `train`."""

    name: ClassVar[str] = "thin"
    settings: ClassVar[type[BaseModel]] = Shrink
    reads: ClassVar[tuple[str, ...]] = ("thin", "shrink")
    uses: ClassVar[tuple[str, ...]] = ("target", "train")

    @classmethod
    def handles(cls, decision: Decision) -> bool:
        """Search units."""
        return decision.kind == "units"

    def search(self, problem: Problem, settings: Shrink) -> Result:
        """Thins, then trains."""
        if settings.target is None:
            raise error("no-target", "`thin` needs a target", None, help='name one with `--target "macs <= 0.3"`')
        graph = problem.space.graph
        ((name, limit),) = settings.target.items()
        cost = in_units(graph, name)
        whole = float(evaluate(cost, largest_values(graph)))
        values = thin_evenly(graph, cost, limit * whole if is_share(name, limit) else limit)
        torch.manual_seed(problem.seed)
        network = Supernet(graph)
        network.shrink({path: units for path, units in values.items() if graph.decisions[path].kind == "units"})
        for line in begin(network, settings.train.init, problem.space):
            problem.watch.note(line)
        trainer = Trainer(
            network, problem.task, problem.data, settings.train, problem.fabric, problem.seed, problem.workers
        )
        problem.run.restore(trainer)
        kept = {path: len(units) for path, units in network.kept.items()}
        run_epochs(trainer, problem.run, problem.watch, "thin", {KEPT: kept})
        costs = costs_told(graph, values, (name,))
        with trainer.averaged(settings.train.recalibrate) as best:
            metrics = finite(trainer.measure())
            found = Architecture.at(graph, values)
            return Result(found, best.extract(found), metrics, costs)
