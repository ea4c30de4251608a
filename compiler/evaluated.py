"""The network as it is evaluated: what runs in training alone is gone."""

from __future__ import annotations

from dataclasses import replace

from nasdsl.compiler.graph import Edge, Graph, Node
from nasdsl.compiler.ops.auxiliary import AUXILIARY


def evaluated(graph: Graph) -> Graph:
    """The graph without the sides that `auxiliary { ... }` leads to: what is measured, exported and timed. Decisions
    inside them stay, and do nothing."""
    alias: dict[str, str] = {}
    nodes: dict[str, Node] = {}
    for node in graph.nodes.values():
        if node.aside:
            continue
        if node.op == AUXILIARY.name:
            source = node.inputs[0].source
            alias[node.name] = alias.get(source, source)
        else:
            nodes[node.name] = node
    if len(nodes) == len(graph.nodes):
        return graph
    for node in nodes.values():
        edges = tuple(Edge(alias.get(edge.source, edge.source), edge.when) for edge in node.inputs)
        nodes[node.name] = replace(node, inputs=edges)
    return replace(graph, nodes=nodes, outputs=tuple(alias.get(name, name) for name in graph.outputs))
