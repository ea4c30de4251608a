"""Decisions that a user sets from Python: the smaller space in which they have values."""

from __future__ import annotations

from dataclasses import replace

from nasdsl.compiler.architecture import ArchitectureError, Values, some, wrong
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import Diagnostic
from nasdsl.compiler.elaborate.budgets import nothing_left
from nasdsl.compiler.elaborate.proofs import PROOF
from nasdsl.compiler.engine.limits import TooWide, bounded
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pin import pin
from nasdsl.compiler.space import Space


def decide(space: Space, values: Values) -> Space:
    """The space in which some decisions have values; an architecture where all have.

    Raises:
        ArchitectureError: a path that no decision has, a value outside its domain, or values with which a requirement
            or a budget cannot hold.
    """
    indices = some(space, values)
    graph = pin(space.graph, indices)
    _check(graph)
    whole = space.graph if space.whole is None else space.whole
    ours = {path: _of_whole(whole.decisions[path], space.graph.decisions[path], x) for path, x in indices.items()}
    return replace(space, graph=graph, whole=whole, pins={**space.pins, **ours}, decided={**space.decided, **ours})


def _of_whole(whole: Decision, left: Decision, index: object) -> object:
    """The index in the domain of a choice before it was narrowed."""
    if whole.n == left.n or not isinstance(index, int):
        return index
    return whole.labels.index(left.labels[index])


def _check(graph: Graph) -> None:
    """
    Raises:
        ArchitectureError: no architecture is left.
    """
    broken = [r for r in graph.requirements if r.condition is False and r.origin != "budget"]
    try:
        with bounded(PROOF):
            blamed = nothing_left(graph, broken)
    except TooWide:
        return
    if isinstance(blamed, Diagnostic):
        raise ArchitectureError("", [replace(blamed, span=None, label="", others=())])
    if blamed is not None:
        raise wrong("requirement-broken", "", f"with these values `{blamed[0].message}` cannot hold")
