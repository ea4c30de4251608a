"""The largest setting of every operator: what a supernet has to hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nasdsl.compiler import ops
from nasdsl.compiler.decision import Units
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.graph import Graph, Node, Shape
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Among, Apply, Case, Expr, Kept, Slot, Value
from nasdsl.compiler.values.function import FUNCTIONS, Interval
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


Known = Mapping[str, frozenset[int]]
"""By path of a choice: the options that are left."""


def upper(value: Value, known: Known = MappingProxyType({})) -> Any:
    """A plain value that no choice exceeds: widths and kernel sizes of the weights that all choices share."""
    return _Bounds(known).of(value)[1]


def lower(value: Value, known: Known = MappingProxyType({})) -> Any:
    """A plain value that no choice falls below."""
    return _Bounds(known).of(value)[0]


class _Bounds:
    """The least and the greatest that values can be, where some options of choices are known to be out.

    Parts that values share are looked at once: the sizes of deep networks are made of few parts, used over and over.
    """

    def __init__(self, known: Known) -> None:
        self.known = known
        self.found: dict[int, tuple[Expr, Interval]] = {}  # the expression stays alive, its identity its own

    def of(self, value: Value) -> Interval:
        """Plain values of the same form; twice the first possible one of what has no order."""
        if isinstance(value, Units):
            return value.fix(()), value.fix(tuple(range(value.n)))
        if isinstance(value, tuple):
            pairs = [self.of(item) for item in value]
            return tuple([low for low, _ in pairs]), tuple([high for _, high in pairs])
        if isinstance(value, dict):
            found = {key: self.of(item) for key, item in value.items()}
            return {key: low for key, (low, _) in found.items()}, {key: high for key, (_, high) in found.items()}
        if not isinstance(value, Expr):
            return value, value
        if id(value) not in self.found:
            self.found[id(value)] = (value, self._of(value))
        return self.found[id(value)][1]

    def _of(self, value: Expr) -> Interval:
        if isinstance(value, Kept):
            return 0, value.n
        if isinstance(value, Case | Slot):
            values = value.values
            if isinstance(value, Case) and value.path in self.known:
                values = tuple(values[i] for i in sorted(self.known[value.path]))
            return _span(values)
        if not isinstance(value, Apply):
            return False, True  # a condition
        function = FUNCTIONS[value.function]
        if function.picks:
            return _hull([self.of(branch) for branch in _possible(value, self.known)])
        possible = expr.options(value) if function.bounds is None else None
        if possible is not None:
            return _span(sorted(possible, key=str))
        found = None if function.bounds is None else function.bounds(*[self.of(arg) for arg in value.args])
        if found is None:
            raise TooWide(f"the least and the greatest value of `{value.function}`", len(value.decisions), 1)
        return found


def _span(values: Sequence[Any]) -> Interval:
    return (min(values), max(values)) if all(map(is_number, values)) else (values[0], values[0])


def _hull(intervals: Sequence[Interval]) -> Interval:
    ends = [end for interval in intervals for end in interval]
    return _span(ends)


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
    attrs = {name: bounds.of(value)[0 if name in least else 1] for name, value in node.attrs.items()}
    return attrs, inputs, _largest_shape(node.shape, bounds)


def _largest_shape(shape: Shape, bounds: _Bounds) -> Shape:
    parts = (shape.channels, shape.height, shape.width, shape.scale, shape.items)
    return Shape(*[bounds.of(part)[1] for part in parts])
