"""What a measure is: a cost of the whole network as the sum of what its nodes add to it, in one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from nasdsl.compiler import ops
from nasdsl.compiler.graph import Edge, Graph, Node, Shape
from nasdsl.compiler.ops.operator import Cost
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value

Terms: TypeAlias = Mapping[str, Value]
"""What nodes add to a measure, by their names, as values over decisions: whole numbers, as `Measure.scale` counts."""


@dataclass(frozen=True)
class Place:
    """One node of a graph, as the rules of measures see it: an operator, or a merge of several tensors."""

    graph: Graph
    node: Node

    @cached_property
    def cost(self) -> Cost:
        """MACs for one image, of all its items, and parameters, by the operator's own rule."""
        node = self.node
        if node.kind != "operator":
            return Cost()
        operator = ops.find(node.op)
        assert operator is not None, node.op
        inputs = [self.graph.nodes[edge.source].shape for edge in node.inputs]
        attrs = node.attrs
        if operator.by_input:
            attrs = {**attrs, "there": tuple(self.used(edge) for edge in node.inputs)}
        cost = operator.cost(inputs, node.shape, attrs)
        return Cost(expr.multiply(cost.macs, node.shape.items), cost.params)

    def used(self, edge: Edge) -> Value:
        """The condition under which a tensor comes in by an edge."""
        return expr.both(edge.when, self.graph.nodes[edge.source].present)

    @property
    def made(self) -> Value:
        """The condition under which the node makes a tensor of its own. A sum of one is that one."""
        if self.node.kind != "merge" or self.node.op != "sum":
            return self.node.present
        inputs = [expr.choose(self.used(edge), 1, 0) for edge in self.node.inputs]
        return expr.both(self.node.present, expr.less(1, expr.add(*inputs)))

    @property
    def read(self) -> Value:
        """How many numbers come in, where it runs."""
        edges = self.node.inputs
        if len(edges) == 1:  # without it the node would not be reached
            return size(self.graph.nodes[edges[0].source].shape)
        return expr.add(*[expr.choose(self.used(e), size(self.graph.nodes[e.source].shape), 0) for e in edges])

    @property
    def written(self) -> Value:
        """How many numbers go out, where it runs."""
        return size(self.node.shape)


def size(shape: Shape) -> Value:
    """How many numbers a tensor holds for one image."""
    return expr.multiply(shape.channels, shape.pixels, shape.items)


def _reached(place: Place) -> Value:
    return place.node.reached


@dataclass(frozen=True)
class Measure:
    """One entry of the registry. Either `term`, or `of`, or `read` says what the measure is.

    Attributes:
        name: in the language, on the command line and in Python.
        label: for people, behind an amount: `MACs`, `ms of latency`.
        doc: what exactly is counted, in a sentence or two.
        unit: that amounts are told in, where they are not plainly counted: `bytes`, `ms`.
        scale: whole numbers for one unit. Everything exact is done in these: nanoseconds of a latency in milliseconds.
        term: what a node adds to it where it counts, as a whole number over the decisions that its attributes and
            shapes mention.
        when: the condition under which a node counts: it is `reached`, or it has made its output (`Place.made`).
        shared: how the terms of nodes that share their weights combine: `each` counts, as work does; or they count
            `once`, as parameters do, the largest where they differ.
        of: of a derived one the factor and the measure that it is a multiple of, which has the same scale: FLOPs are
            2 x MACs.
        read: of one that is known from a file alone: (path, graph) -> what each of its nodes adds, in place of `term`.
            A node that is not there adds nothing.
        made_with: how to come by such a file, for messages.
    """

    name: str
    label: str
    doc: str
    unit: str = ""
    scale: int = 1
    term: Callable[[Place], Value] | None = None
    when: Callable[[Place], Value] = _reached
    shared: Literal["each", "once"] = "each"
    of: tuple[int, str] | None = None
    read: Callable[[Path, Graph], Terms] | None = None
    made_with: str = ""

    def amount(self, whole: int) -> int | float:
        """A whole number of the engine in the measure's unit."""
        return whole if self.scale == 1 else float(whole / self.scale)


def sized(size: float) -> str:
    """A number of bytes in words: `56.4 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
