"""A space with measures that are read from files, such as a latency by the table of a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nasdsl.compiler import measures
from nasdsl.compiler.diagnostics import ArgumentError, CompileError
from nasdsl.compiler.elaborate.budgets import unaffordable
from nasdsl.compiler.elaborate.proofs import PROOF
from nasdsl.compiler.engine.limits import TooWide, bounded
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pin import pin
from nasdsl.compiler.space import Space


def measured(space: Space, files: Mapping[str, Path]) -> Space:
    """The space, with what its nodes add to measures by files, each by its name.

    Raises:
        CompileError: a file cannot be read or does not fit the space, or no architecture meets a budget on its measure.
        ArgumentError: there is no such measure, or it is not read from a file.
    """
    if not files:
        return space
    whole = space.graph if space.whole is None else space.whole
    given = dict(whole.given)
    for name, file in files.items():
        measure = measures.find(name)
        if measure.read is None:
            raise ArgumentError(f"`{name}` is known without a file")
        given[name] = measure.read(file, whole)
    whole = replace(whole, given=given)
    graph = whole if space.whole is None else replace(space.graph, given=_left(whole, space).given)
    _check(graph)
    return replace(space, graph=graph, whole=None if space.whole is None else whole)


def _left(whole: Graph, space: Space) -> Graph:
    """The graph as it is left by the space's pins."""
    narrowed = {}
    for path, decision in space.graph.decisions.items():
        before = whole.decisions[path]
        if decision.kind == "choice" and decision.n < before.n:
            narrowed[path] = tuple(before.labels.index(label) for label in decision.labels)
    return pin(whole, space.pins, narrowed)


def _check(graph: Graph) -> None:
    try:
        with bounded(PROOF):
            found = unaffordable(graph)
    except TooWide:
        return
    if found is not None and found.severity == "error":
        raise CompileError([found])
