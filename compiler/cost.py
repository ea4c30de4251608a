"""What a network costs: exact MACs and parameters of every node, of a space as a value over its decisions, of an
architecture as a number.

MACs are multiply-accumulates for one image of the declared size; FLOPs are twice as many. Batch norm, activations,
pooling and resizing count none; the windows of local attention count as full (`Cost` in `ops/operator.py`). Parameters
are those of the modules, batch norm's scale and shift included and running statistics not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasdsl.compiler import ops
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.ops.operator import Cost
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value

MEASURES = ("macs", "flops", "params")


def node_cost(graph: Graph, node: Node) -> Cost:
    """Of one node wherever it is reached, over the decisions that its attributes and shapes mention."""
    if node.kind != "operator":
        return Cost()
    operator = ops.find(node.op)
    assert operator is not None, node.op
    cost = operator.cost([graph.nodes[edge.source].shape for edge in node.inputs], node.shape, node.attrs)
    return Cost(expr.multiply(cost.macs, node.shape.items), cost.params)


def total_cost(graph: Graph, under: str = "") -> Cost:
    """Of the whole network, or of its nodes under a path such as `backbone`, as sums of terms over few decisions each.

    Shared weights count once, their work each time.
    """
    macs: list[Value] = []
    params: list[Value] = []
    shared: dict[str, list[tuple[Value, Value]]] = {}
    for node in graph.operators():
        if under and not lies_under(node.name, under):
            continue
        cost = node_cost(graph, node)
        macs.append(expr.choose(node.reached, cost.macs, 0))
        if node.weight == node.name and node.weight not in shared:
            params.append(expr.choose(node.reached, cost.params, 0))
        else:
            shared.setdefault(node.weight, []).append((node.reached, cost.params))
    for users in shared.values():
        first = users[0][1]
        if all(own == first for _, own in users):
            params.append(expr.choose(expr.either(*[reached for reached, _ in users]), first, 0))
        else:  # the weights of the largest serve the others
            params.append(expr.apply("max", *[expr.choose(reached, own, 0) for reached, own in users]))
    return Cost(expr.add(*macs), expr.add(*params))


def lies_under(name: str, path: str) -> bool:
    """Whether a node or decision goes by a path or lies inside it: `backbone.c1[0].conv` lies under `backbone.c1`."""
    return name.startswith(path) and name[len(path) : len(path) + 1] in ("", ".", "[")


def measure(cost: Cost, name: str) -> Value:
    """One of MEASURES from a cost."""
    return {"macs": cost.macs, "flops": expr.multiply(2, cost.macs), "params": cost.params}[name]


def cost_of(graph: Graph, values: Mapping[str, Any], under: str = "") -> dict[str, int]:
    """MACs and parameters of one architecture, or of its nodes under a path."""
    cost = total_cost(graph, under)
    return {"macs": int(expr.evaluate(cost.macs, values)), "params": int(expr.evaluate(cost.params, values))}
