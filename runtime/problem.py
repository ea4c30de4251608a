"""What every search is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from lightning_fabric import Fabric
from pydantic import BaseModel

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, error
from nasdsl.compiler.graph import Node
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.data import DataSplits
from nasdsl.runtime.runs import RunFolder
from nasdsl.runtime.tasks import Task
from nasdsl.runtime.watch import Silent as Silent
from nasdsl.runtime.watch import Watch as Watch


@dataclass
class Problem:
    """A space, a task with data, and where and how to run."""

    space: Space
    task: Task
    data: DataSplits
    fabric: Fabric
    run: RunFolder
    seed: int = 0
    workers: int = 0
    latency: str | None = None
    watch: Watch = field(default_factory=Silent)


@dataclass
class Result:
    """What a search found: an architecture, its network with its weights, and how good it is."""

    architecture: Architecture
    network: Supernet
    metrics: Mapping[str, float]
    costs: Mapping[str, float]


class Strategy(Protocol):
    """A search. One file in `runtime/strategies/`, or an entry point in the group `nasdsl.runtimes`.

    A strategy may have `reads`, the names of the `search` sections whose settings it takes; by default its own.
    """

    name: ClassVar[str]
    settings: ClassVar[type[BaseModel]]

    @classmethod
    def handles(cls, decision: Decision) -> bool:
        """Whether the search can decide such a decision."""
        ...

    def search(self, problem: Problem, settings: Any) -> Result:
        """Runs, or goes on with, the search."""
        ...


def head_of(space: Space) -> Node:
    """The operator that a space's network ends in; of several, which a choice decides between, one."""
    graph = space.graph
    node = graph.nodes[graph.outputs[0]]
    while node.kind in ("output", "select"):
        node = graph.nodes[node.inputs[0].source]
    return node


def task_of(space: Space) -> str:
    """The task that a space's network is for, by its head.

    Raises:
        CompileError: the network ends in no head that a task is known for.
    """
    from nasdsl.runtime.tasks import find_tasks

    node = head_of(space)
    tasks = find_tasks()
    for name, task in tasks.items():
        if node.op in task.heads:
            return name
    heads = ", ".join(f"`{head}`" for task in tasks.values() for head in task.heads)
    raise error(
        "no-task",
        f"no task is known for a network that ends in `{node.op}`",
        node.span,
        help=f"heads with a task are {heads}",
    )


def check_decisions(strategy: type[Strategy], space: Space) -> None:
    """
    Raises:
        CompileError: naming decisions that the search cannot decide.
    """
    problems: dict[str, Diagnostic] = {}
    for decision in space.graph.decisions.values():
        if not strategy.handles(decision) and decision.declaration not in problems:
            words = {"choice": "a choice", "subset": "a subset", "order": "an order", "units": "search units"}[
                decision.kind
            ]
            problems[decision.declaration] = Diagnostic(
                "unhandled-decision",
                f"`{strategy.name}` cannot decide `{decision.path}`, which is {words}",
                decision.span,
                help="pin it with `with { ... }`, or use another search",
            )
    if problems:
        raise CompileError(list(problems.values()))
