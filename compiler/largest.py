"""The largest setting of every operator: what a supernet has to hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasdsl.compiler import ops
from nasdsl.compiler.decision import Units
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.graph import Graph, Node, Shape
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.bounds import Bounds, known_from
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.function import Interval
from nasdsl.compiler.values.plain import is_number


def largest_values(graph: Graph) -> dict[str, Any]:
    """Every capacity at its greatest and every alternative at its first: all units kept, the greatest number of a
    choice of numbers."""
    values: dict[str, Any] = {}
    for path, decision in graph.decisions.items():
        if decision.present is not True and not expr.holds(decision.present, values):
            continue
        if decision.kind == "units":
            values[path] = tuple(range(decision.n))
        elif decision.kind == "choice":
            values[path] = max(range(decision.n), key=lambda i: decision.items[i]) if decision.ordered else 0
        elif decision.kind == "subset":
            values[path] = tuple(range(decision.size))
        else:
            values[path] = tuple(range(decision.n))
    return values


def largest_sides(graph: Graph) -> tuple[int, int]:
    """Height and width of the input where they are at their greatest."""
    shape = graph.input.shape
    spans = [Bounds().of(side) for side in (shape.height, shape.width)]
    height, width = (int(span[1]) for span in spans if span is not None)
    return height, width


class _Bounds(Bounds):
    """Bounds of attributes too: of widths that are search units, and of what is made of values."""

    def of(self, value: Value) -> Interval:
        """Plain values of the same form."""
        if isinstance(value, Units):
            return value.fix(()), value.fix(tuple(range(value.n)))
        if isinstance(value, dict):
            found = {key: self.of(item) for key, item in value.items()}
            return {key: low for key, (low, _) in found.items()}, {key: high for key, (_, high) in found.items()}
        found_here = super().of(value)
        if found_here is None:
            raise TooWide("how large an attribute gets", len(expr.decisions_of(value)), 1)
        return found_here


def largest_node(graph: Graph, node: Node) -> tuple[Mapping[str, Any], tuple[Shape, ...], Shape]:
    """Attributes, input shapes and output shape with every decision where the most weights are: mostly its greatest.

    Only choices under which the node is reached count: a width that another alternative has costs this one nothing.
    """
    bounds = _Bounds(known_from(node.reached))
    inputs = tuple(_largest_shape(graph.nodes[edge.source].shape, bounds) for edge in node.inputs)
    operator = ops.find(node.op) if node.kind == "operator" else None
    least = () if operator is None else operator.least
    attrs = {name: bounds.of(value)[0 if name in least else 1] for name, value in node.attrs.items()}
    if operator is not None:
        for param in operator.params:  # an even one that no architecture has holds no weights
            if param.type == "odd" and is_number(attrs.get(param.name)):
                attrs[param.name] -= 1 - attrs[param.name] % 2
        shapes = [graph.nodes[edge.source].shape for edge in node.inputs]
        attrs |= operator.covers(shapes, node.attrs, lambda value: bounds.of(value)[1])
        if operator.by_input:
            attrs["places"] = node.places
    return attrs, inputs, _largest_shape(node.shape, bounds)


def _largest_shape(shape: Shape, bounds: _Bounds) -> Shape:
    parts = (shape.channels, shape.height, shape.width, shape.scale, shape.items)
    return Shape(*[bounds.of(part)[1] for part in parts])
