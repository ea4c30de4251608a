"""The largest setting of every operator: what a supernet has to hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nasdsl.compiler import expr, ops
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
    return _extreme(value, max)


def lower(value: Value) -> Any:
    """A plain value that no choice falls below."""
    return _extreme(value, min)


def _extreme(value: Value, best: Callable[..., Any]) -> Any:
    """With `best` either `max` or `min`."""
    if isinstance(value, Units):
        return value.fix(tuple(range(value.n)) if best is max else ())
    if isinstance(value, tuple):
        return tuple(_extreme(item, best) for item in value)
    if isinstance(value, dict):
        return {key: _extreme(item, best) for key, item in value.items()}
    if not isinstance(value, Expr):
        return value
    if isinstance(value, Kept):
        return value.n if best is max else 0
    if isinstance(value, Case | Slot):
        return best(value.values) if all(expr.is_number(v) for v in value.values) else value.values[0]
    if isinstance(value, Among):
        return True
    if isinstance(value, Apply):
        if value.function == "if":
            options = [_extreme(value.args[1], best), _extreme(value.args[2], best)]
            return best(options) if all(expr.is_number(v) for v in options) else options[0]
        if value.function in ("div", "floordiv", "ceildiv"):
            divisor = _extreme(value.args[1], min if best is max else max)  # never 0 where the quotient is used
            return expr.FUNCTIONS[value.function](_extreme(value.args[0], best), divisor or 1)
        if value.function in ("add", "mul", "floor", "ceil", "max", "min", "round"):
            return expr.FUNCTIONS[value.function](*[_extreme(arg, best) for arg in value.args])
    return True  # a condition


def largest_node(graph: Graph, node: Node) -> tuple[Mapping[str, Any], tuple[Shape, ...], Shape]:
    """Attributes, input shapes and output shape with every decision where the most weights are: mostly its greatest."""
    inputs = tuple(_largest_shape(graph.nodes[edge.source].shape) for edge in node.inputs)
    operator = ops.find(node.op) if node.kind == "operator" else None
    least = () if operator is None else operator.least
    attrs = {name: lower(value) if name in least else upper(value) for name, value in node.attrs.items()}
    return attrs, inputs, _largest_shape(node.shape)


def _largest_shape(shape: Shape) -> Shape:
    return Shape(*[upper(part) for part in (shape.channels, shape.height, shape.width, shape.scale, shape.items)])
