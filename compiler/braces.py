"""In the braces of which `auxiliary` a node belongs."""

from __future__ import annotations

from nasdsl.compiler.graph import Graph
from nasdsl.compiler.ops.auxiliary import AUXILIARY


def braces(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Of each node that runs in training alone the nodes of the `auxiliary`s around it, the outermost first: those that
    all of what it leads to stand in. One that leads out of all of them has none; one that leads nowhere stands where
    what it reads does."""
    found: dict[str, tuple[str, ...]] = {}
    unread: dict[str, tuple[str, ...]] = {}
    outermost: tuple[str, ...] = ()
    for node in reversed(tuple(graph.nodes.values())):
        if node.op == AUXILIARY.name and not node.aside:
            outermost = (node.name,)  # what runs in training alone in front of it stands in its braces
        if node.aside and node.name not in found:
            if node.op != AUXILIARY.name:
                unread[node.name] = outermost
                continue
            found[node.name] = outermost
        around = found.get(node.name, ()) if node.aside else ()
        for place, edge in enumerate(node.inputs):
            if graph.nodes[edge.source].aside:
                inside = (*around, node.name) if node.op == AUXILIARY.name and place == 1 else around
                found[edge.source] = _common(found.get(edge.source, inside), inside)
    for name, around in reversed(unread.items()):
        read = (found.get(edge.source, ()) for edge in graph.nodes[name].inputs)
        found[name] = max((around, *(other for other in read if other[:1] == around)), key=len)
    return found


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """What both begin with."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same]
