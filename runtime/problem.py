"""What every search is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from pydantic import BaseModel

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, error
from nasdsl.compiler.graph import Node
from nasdsl.compiler.ops.auxiliary import AUXILIARY
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.data import DataSplits
from nasdsl.runtime.evolution.objectives import Objectives
from nasdsl.runtime.evolution.trial import Trial
from nasdsl.runtime.runs import RunFolder
from nasdsl.runtime.tasks import Task
from nasdsl.runtime.watch import Silent as Silent
from nasdsl.runtime.watch import Watch as Watch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

InputSize: TypeAlias = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True)
class Learning:
    """What networks learn, from what, and on which devices.

    Attributes:
        at: the data and the task at another size of the input than `data` has; opened once for each size.
    """

    task: Task
    data: DataSplits
    fabric: Fabric
    at: Callable[[InputSize], tuple[DataSplits, Task]] | None = None


@dataclass
class Problem:
    """A space, what its networks learn, and where and how to run.

    Attributes:
        open_run: makes the run's folder, or opens the one that is there. It is called when the search first asks for
            `run`: a mistake that is found before leaves no folder behind. All processes of a search ask at the same
            point.
        learning: None where the search has said that it needs no data (`Needs`).
    """

    space: Space
    open_run: Callable[[], RunFolder]
    learning: Learning | None = None
    seed: int = 0
    workers: int = 0
    latency: str | None = None
    watch: Watch = field(default_factory=Silent)

    @cached_property
    def run(self) -> RunFolder:
        return self.open_run()

    @property
    def opened(self) -> RunFolder | None:
        """The run's folder, if the search has asked for it."""
        return self.run if "run" in self.__dict__ else None

    @property
    def task(self) -> Task:
        return self._learning.task

    @property
    def data(self) -> DataSplits:
        return self._learning.data

    @property
    def fabric(self) -> Fabric:
        return self._learning.fabric

    @property
    def _learning(self) -> Learning:
        assert self.learning is not None, "a search that trains says that it needs data"
        return self.learning


@dataclass
class Result:
    """One architecture that a search found, its network with its weights, and how good it is.

    Attributes:
        front: others that the search would have taken next, itself the first; none where it looked at one alone.
    """

    architecture: Architecture
    network: Supernet
    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    front: Sequence[Result] = ()


@dataclass(frozen=True)
class Narrowing:
    """What a search that shortens lists of options leaves of a space.

    Attributes:
        narrowed: by path of a choice, the options that stay.
        note: what is said of it above the result.
    """

    narrowed: Mapping[str, tuple[int, ...]]
    note: str


@dataclass(frozen=True)
class Exploration:
    """What a search that evaluates many architectures found.

    Attributes:
        trials: complete ones, by index.
        front: those that nothing dominates, the best in the first objective first; with one objective the best alone.
        result_of: a trial's architecture with the weights that it was evaluated with; None where there are none.
        skipped: by index, what could not have entered the front and was not evaluated; None where nothing was pruned.
    """

    trials: list[Trial]
    front: list[Trial]
    objectives: Objectives
    result_of: Callable[[Trial], Result | None] = field(default=lambda trial: None, repr=False)
    skipped: list[Trial] | None = None


@dataclass(frozen=True)
class Needs:
    """What a search needs, by its settings, beside the space, and what must stay as it is while it goes on.

    Attributes:
        data: data, a task and devices.
        open_input: whether the size of the input may be open to choice.
        free: settings that may change from one start to the next.
        contents: hashes of the content of files that it reads, by name.
    """

    data: bool = True
    open_input: bool = False
    free: frozenset[str] = frozenset()
    contents: Mapping[str, str] = field(default_factory=dict)


class Strategy(Protocol):
    """A search. One file in `runtime/strategies/`, or an entry point in the group `nasdsl.runtimes`.

    A strategy may have `reads`, the names of the `search` sections whose settings it takes, by default its own;
    `uses`, those of the settings that it has a use for, by default all; `shared`, whether several processes may be at
    work in one run's folder, by default not; and a class method `needs(settings, space) -> Needs`, by default
    `Needs()`.
    """

    name: ClassVar[str]
    settings: ClassVar[type[BaseModel]]

    @classmethod
    def handles(cls, decision: Decision) -> bool:
        """Whether the search can decide such a decision."""
        ...

    def search(self, problem: Problem, settings: Any) -> Result | Exploration | Narrowing:
        """Runs, or goes on with, the search."""
        ...


RESIZES = ("classification", "segmentation")
"""Tasks whose networks may be shown images in a size of their own: no target is in pixels."""


def head_of(space: Space) -> Node:
    """The operator that a space's network ends in; of several, which a choice decides between, one."""
    graph = space.graph
    node = graph.nodes[graph.outputs[0]]
    while node.kind in ("output", "select") or node.op == AUXILIARY.name:
        node = graph.nodes[node.inputs[0].source]
    return node


def sides_of(space: Space) -> list[tuple[Node, list[Node]]]:
    """Each `auxiliary` of a space, and the operators that its side ends in: of several, which a choice decides between,
    all."""
    graph = space.graph
    found = []
    for node in graph.nodes.values():
        if node.op != AUXILIARY.name:
            continue
        ends: dict[str, Node] = {}
        waiting = [node.inputs[1].source]
        while waiting:
            end = graph.nodes[waiting.pop()]
            if end.kind == "select":
                waiting += [edge.source for edge in reversed(end.inputs)]
            elif end.op == AUXILIARY.name:
                waiting.append(end.inputs[0].source)
            else:
                ends[end.name] = end
        found.append((node, list(ends.values())))
    return found


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
