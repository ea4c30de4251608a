"""The largest setting of every operator: what a supernet has to hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
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


Known = Mapping[str, frozenset[int]]
"""By path of a choice: the options that are left."""


def upper(value: Value, known: Known = MappingProxyType({})) -> Any:
    """A plain value that no choice exceeds: widths and kernel sizes of the weights that all choices share."""
    return _Bounds(known).of(value, max)


def lower(value: Value, known: Known = MappingProxyType({})) -> Any:
    """A plain value that no choice falls below."""
    return _Bounds(known).of(value, min)


class _Bounds:
    """The greatest and the least that values can be, where some options of choices are known to be out.

    Parts that values share are looked at once: the sizes of deep networks are made of few parts, used over and over.
    """

    def __init__(self, known: Known) -> None:
        self.known = known
        self.found: dict[tuple[int, bool], tuple[Expr, Any]] = {}  # the expression stays alive, its identity its own

    def of(self, value: Value, best: Callable[..., Any]) -> Any:
        """With `best` either `max` or `min`."""
        if isinstance(value, Units):
            return value.fix(tuple(range(value.n)) if best is max else ())
        if isinstance(value, tuple):
            return tuple(self.of(item, best) for item in value)
        if isinstance(value, dict):
            return {key: self.of(item, best) for key, item in value.items()}
        if not isinstance(value, Expr):
            return value
        key = (id(value), best is max)
        if key not in self.found:
            self.found[key] = (value, self._of(value, best))
        return self.found[key][1]

    def _of(self, value: Expr, best: Callable[..., Any]) -> Any:
        if isinstance(value, Kept):
            return value.n if best is max else 0
        if isinstance(value, Case | Slot):
            values = value.values
            if isinstance(value, Case) and value.path in self.known:
                values = tuple(values[i] for i in sorted(self.known[value.path]))
            return best(values) if all(expr.is_number(v) for v in values) else values[0]
        if isinstance(value, Among):
            return True
        if isinstance(value, Apply):
            if value.function == "if":
                options = [self.of(branch, best) for branch in _possible(value, self.known)]
                return best(options) if all(expr.is_number(v) for v in options) else options[0]
            if value.function in ("div", "floordiv", "ceildiv"):
                divisor = self.of(value.args[1], min if best is max else max)  # never 0 where the quotient is used
                return expr.FUNCTIONS[value.function](self.of(value.args[0], best), divisor or 1)
            if value.function in ("add", "mul", "floor", "ceil", "max", "min", "round"):
                return expr.FUNCTIONS[value.function](*[self.of(arg, best) for arg in value.args])
            possible = expr.options(value)  # of what need not rise with its arguments, such as an item of a list
            if possible is not None and all(expr.is_number(option) for option in possible):
                return best(possible)
        return True  # a condition


def _possible(value: Apply, known: Known) -> tuple[Value, ...]:
    """The branches of an `if` that can be taken."""
    test, then, otherwise = value.args
    if isinstance(test, Among) and test.path in known:
        left = known[test.path]
        if left <= test.options or not left & test.options:
            return (then if left <= test.options else otherwise,)
    return then, otherwise


def _known(condition: Value) -> Known:
    """What a condition says of choices by themselves."""
    parts = condition.args if isinstance(condition, Apply) and condition.function == "and" else (condition,)
    return {part.path: part.options for part in parts if isinstance(part, Among)}


def largest_node(graph: Graph, node: Node) -> tuple[Mapping[str, Any], tuple[Shape, ...], Shape]:
    """Attributes, input shapes and output shape with every decision where the most weights are: mostly its greatest.

    Only choices under which the node is reached count: a width that another alternative has costs this one nothing.
    """
    bounds = _Bounds(_known(node.reached))
    inputs = tuple(_largest_shape(graph.nodes[edge.source].shape, bounds) for edge in node.inputs)
    operator = ops.find(node.op) if node.kind == "operator" else None
    least = () if operator is None else operator.least
    attrs = {name: bounds.of(value, min if name in least else max) for name, value in node.attrs.items()}
    return attrs, inputs, _largest_shape(node.shape, bounds)


def _largest_shape(shape: Shape, bounds: _Bounds) -> Shape:
    parts = (shape.channels, shape.height, shape.width, shape.scale, shape.items)
    return Shape(*[bounds.of(part, max) for part in parts])
