"""Pinning: decisions become values, and the graph becomes smaller. An architecture is the graph with no decision
left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nasdsl.compiler.decision import Decision, Units
from nasdsl.compiler.graph import Edge, Graph, Node, Requirement, Shape
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Among, Case, Value


def pin(graph: Graph, values: Mapping[str, Any], narrowed: Mapping[str, tuple[int, ...]] | None = None) -> Graph:
    """The graph with some decisions replaced by values, and others narrowed to some of their options.

    What can no longer be present is gone; a selection or a sum with one input left is that input.

    Args:
        values: by path; an option's index, a tuple of kept or chosen indices, an order.
        narrowed: by path of a choice: the options that stay, in their order; of search units the first ones, of which
            each stays open.
    """
    narrowed = narrowed or {}

    def replaced(leaf: Any) -> Value | None:
        if isinstance(leaf, expr.Total):
            return None
        path: str = leaf.path
        if path in values:
            value = values[path]
            return leaf.fix(value) if isinstance(leaf, Units) else leaf.evaluate(values)
        if path in narrowed:
            stay = narrowed[path]
            if isinstance(leaf, Units | expr.Kept):
                return replace(leaf, n=len(stay))
            if isinstance(leaf, Case):
                return expr.case(path, tuple(leaf.values[i] for i in stay))
            if isinstance(leaf, Among):
                return expr.among(
                    path, len(stay), frozenset(new for new, old in enumerate(stay) if old in leaf.options)
                )
        return None

    known: dict[int, Value] = {}

    def put(value: Any) -> Any:
        return expr.substitute(value, replaced, known)  # the parts that many values share are replaced once

    requirements = []
    for requirement in graph.requirements:
        condition = put(requirement.condition)
        if condition is not True:
            requirements.append(Requirement(condition, requirement.message, requirement.origin, requirement.span))
    presences = {path: put(decision.present) for path, decision in graph.decisions.items() if path not in values}
    asked = expr.decisions_of((*presences.values(), *[requirement.condition for requirement in requirements]))

    decisions: dict[str, Decision] = {}
    for path, present in presences.items():
        if present is False and path not in asked:  # what speaks of one that is never present asks nothing
            continue
        decision = graph.decisions[path]
        if path in narrowed:
            stay = narrowed[path]
            if decision.kind == "units":
                decision = replace(decision, items=range(len(stay)))
            else:
                labels = tuple(decision.labels[i] for i in stay)
                decision = replace(decision, items=tuple(decision.items[i] for i in stay), labels=labels)
        decisions[path] = replace(decision, present=present)

    nodes: dict[str, Node] = {}
    alias: dict[str, str] = {}
    for node in graph.nodes.values():
        present = put(node.present)
        if present is False:
            continue
        edges = tuple(
            Edge(source, when, place)
            for e, place in zip(node.inputs, node.places, strict=True)
            if (when := put(e.when)) is not False and (source := alias.get(e.source, e.source)) in nodes
        )
        if len(edges) == len(node.inputs):
            edges = tuple(replace(new, place=old.place) for new, old in zip(edges, node.inputs, strict=True))
        only = _only_input(node, edges)
        if only is not None:
            alias[node.name] = only
            continue
        shape = Shape(*[put(getattr(node.shape, part)) for part in ("channels", "height", "width", "scale", "items")])
        attrs, reached = put(dict(node.attrs)), put(node.reached)
        nodes[node.name] = replace(node, attrs=attrs, inputs=edges, shape=shape, reached=reached, present=present)

    outputs = tuple(alias.get(name, name) for name in graph.outputs)
    given = {
        measure: {name: put(term) for name, term in terms.items() if name in nodes}
        for measure, terms in graph.given.items()
    }
    return Graph(nodes, decisions, tuple(requirements), outputs, graph.instances, given)


def _only_input(node: Node, edges: tuple[Edge, ...]) -> str | None:
    """The node that a selection or merge comes down to, where only one is left."""
    if node.kind not in ("select", "merge") or len(edges) != 1:
        return None
    if edges[0].when is not True or (node.kind == "merge" and node.op != "sum"):
        return None
    return edges[0].source
