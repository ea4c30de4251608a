"""In the braces of which `auxiliary` a node belongs."""

from __future__ import annotations

from nasdsl.compiler.graph import Graph
from nasdsl.compiler.ops.auxiliary import AUXILIARY


def braces(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Of each node that runs in training alone and leads somewhere the nodes of the `auxiliary`s around it, the
    outermost first: those that all of what it leads to stand in. One that leads out of all of them has none."""
    found: dict[str, tuple[str, ...]] = {}
    for node in reversed(tuple(graph.nodes.values())):
        around = found.get(node.name, ()) if node.aside else ()
        for place, edge in enumerate(node.inputs):
            if graph.nodes[edge.source].aside:
                inside = (*around, node.name) if node.op == AUXILIARY.name and place == 1 else around
                found[edge.source] = _common(found.get(edge.source, inside), inside)
    return found


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """What both begin with."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same]
