"""The largest setting of every operator: what a supernet has to hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasdsl.compiler import expr
from nasdsl.compiler.decision import Units
from nasdsl.compiler.expr import Among, Apply, Case, Expr, Kept, Slot, Value
from nasdsl.compiler.graph import Graph, Node, Shape


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


def upper(value: Value) -> Any:
    """A plain value that no choice exceeds: widths and kernel sizes of the weights that all choices share."""
    if isinstance(value, Units):
        return value.fix(tuple(range(value.n)))
    if isinstance(value, tuple):
        return tuple(upper(item) for item in value)
    if isinstance(value, dict):
        return {key: upper(item) for key, item in value.items()}
    if not isinstance(value, Expr):
        return value
    if isinstance(value, Kept):
        return value.n
    if isinstance(value, Case | Slot):
        return max(value.values) if all(expr.is_number(v) for v in value.values) else value.values[0]
    if isinstance(value, Among):
        return True
    if isinstance(value, Apply):
        if value.function == "if":
            options = [upper(value.args[1]), upper(value.args[2])]
            return max(options) if all(expr.is_number(v) for v in options) else options[0]
        if value.function in ("add", "mul", "floor", "ceil", "max", "min", "round", "ceildiv", "floordiv", "div"):
            return expr.FUNCTIONS[value.function](*[upper(arg) for arg in value.args])
    return True  # a condition


def largest_node(graph: Graph, node: Node) -> tuple[Mapping[str, Any], tuple[Shape, ...], Shape]:
    """Attributes, input shapes and output shape with every decision at its greatest."""
    inputs = tuple(_largest_shape(graph.nodes[edge.source].shape) for edge in node.inputs)
    return upper(dict(node.attrs)), inputs, _largest_shape(node.shape)


def _largest_shape(shape: Shape) -> Shape:
    return Shape(*[upper(part) for part in (shape.channels, shape.height, shape.width, shape.scale, shape.items)])
