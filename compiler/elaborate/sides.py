"""What the sides of a network, which run in training alone, may not do."""

from __future__ import annotations

from collections.abc import Iterator

from nasdsl.compiler.braces import braces
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, Label
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.ops import dense, proposals, regions
from nasdsl.compiler.ops.auxiliary import AUXILIARY

OF_DETECTORS = frozenset(one.name for family in (dense, proposals, regions) for one in family.OPERATORS)
"""Operators that learn from boxes, or read them."""


def check_sides(graph: Graph) -> None:
    """
    Raises:
        CompileError: the network is a detector, or reads in evaluation what a side makes.
    """
    problems = [*_of_detectors(graph), *_read_outside(graph)]
    if problems:
        raise CompileError(problems)


def _of_detectors(graph: Graph) -> Iterator[Diagnostic]:
    if any(node.op in OF_DETECTORS for node in graph.nodes.values()):
        for node in graph.nodes.values():
            if node.op == AUXILIARY.name and node.span is not None:
                message = "a detector cannot have an `auxiliary`: its parts have losses of their own, in training"
                yield Diagnostic("auxiliary-detector", message, node.span, help="leave it out")


def _read_outside(graph: Graph) -> Iterator[Diagnostic]:
    inside = braces(graph)
    for node in graph.nodes.values():
        sources = node.inputs[:1] if node.op == AUXILIARY.name else node.inputs
        around = inside.get(node.name, ())
        for source in (graph.nodes[edge.source] for edge in sources):
            if source.aside and (not around or not inside[source.name]) and source.span is not None:
                message = "this is made in the braces of an `auxiliary`, which run in training alone, but read outside"
                others = () if node.span is None else (Label(node.span, "reads it"),)
                help = "make it in front of the `auxiliary`"
                yield Diagnostic("read-outside", message, source.span, others=others, help=help)
