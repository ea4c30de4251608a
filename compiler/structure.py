"""What an architecture computes, whatever its layers are called: one hash, and its layers in an order that follows from
it alone. So weights are told from those of another architecture, and go over to the same one under other names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from nasdsl.compiler.decision import FixedUnits
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.ops.auxiliary import AUXILIARY


@dataclass(frozen=True)
class Structure:
    """
    Attributes:
        whole: hash of the operators with their parameters, of what each reads, and of which share weights.
        body: the same without the parameters of the heads, the operators that the network and its sides end in.
        layers: the keys of the weights (`Node.weight`), each once, in the order in which the hash goes through them.
        heads: the keys of the weights of the head, and of those that sides end in (`auxiliary`); those that end in a
            sum have none.
        units: hash of which search units are kept, by number; empty where the widths are plain numbers.
    """

    whole: str
    body: str
    layers: tuple[str, ...]
    heads: tuple[str, ...]
    units: str


def structure(graph: Graph) -> Structure:
    """The structure of an architecture. Two graphs with the same hash are the same network but for the names of nodes:
    they are gone through from the output back, along the inputs of each node in order, and nothing else is hashed.
    Sizes do not count: a network without fixed sizes is the same one for larger images. Nor do weights of losses, or
    merges of one map.

    Args:
        graph: without decisions.
    """
    order: list[Node] = []
    number: dict[str, int] = {}
    for node in _order(graph):
        if _passes(graph, node):
            number[node.name] = number[node.inputs[0].source]
        else:
            number[node.name] = len(order)
            order.append(node)
    layers = list(dict.fromkeys(node.weight for node in order if node.kind == "operator"))
    known = {weight: at for at, weight in enumerate(layers)}
    ends = [graph.nodes[graph.outputs[0]].inputs[0], *[one.inputs[1] for one in order if one.op == AUXILIARY.name]]
    heads = [_head(graph, edge.source) for edge in ends]
    named = {head.name for head in heads if head.kind == "operator"}
    kept = [(at, key, value.kept) for at, node in enumerate(order) for key, value in _units(node.attrs)]
    units = hashlib.sha256(repr(kept).encode()).hexdigest()[:16] if kept else ""
    hashes = []
    for without in (frozenset[str](), named):
        whole = hashlib.sha256()
        for node in order:
            inputs = [number[edge.source] for edge in node.inputs]
            attrs = {} if node.name in without or node.op == AUXILIARY.name else node.attrs
            weight = known[node.weight] if node.kind == "operator" else None
            told = {key: _plain(value) for key, value in attrs.items() if key != "share"}
            whole.update(f"{node.kind} {node.op} {sorted(told.items())} {inputs} {weight}\n".encode())
        hashes.append(whole.hexdigest()[:16])
    keys = tuple(dict.fromkeys(head.weight for head in heads if head.kind == "operator"))
    return Structure(hashes[0], hashes[1], tuple(layers), keys, units)


def _passes(graph: Graph, node: Node) -> bool:
    """Whether a node is a merge of one map that it leaves as it is, as an architecture written out has none."""
    if node.kind != "merge" or node.op not in ("sum", "concat", "mean") or len(node.inputs) != 1:
        return False
    return graph.nodes[node.inputs[0].source].shape == node.shape


def _head(graph: Graph, name: str) -> Node:
    """The operator that a network or a side ends in; what only lets through its input is none."""
    node = graph.nodes[name]
    while node.op == AUXILIARY.name:
        node = graph.nodes[node.inputs[0].source]
    return node


def _order(graph: Graph) -> list[Node]:
    """The nodes that the outputs and the sides hang on, inputs first."""
    import networkx

    inputs = graph.digraph.reverse(copy=False)
    ends = [*graph.outputs, *[node.name for node in graph.nodes.values() if node.op == AUXILIARY.name]]
    order = dict.fromkeys(name for end in ends for name in networkx.dfs_postorder_nodes(inputs, end))
    return [graph.nodes[name] for name in order]


def _units(attrs: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, FixedUnits]]:
    """The decided units among parameters, those in records too."""
    for key, value in attrs.items():
        if isinstance(value, FixedUnits):
            yield f"{before}{key}", value
        elif isinstance(value, Mapping):
            yield from _units(value, f"{before}{key}.")


def _plain(value: Any) -> str:
    """A parameter's value, the same for all that are equal."""
    if isinstance(value, FixedUnits):
        return str(value.count)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_plain(key)}:{_plain(one)}" for key, one in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ",".join(map(_plain, value)) + "]"
    if isinstance(value, int | float | Fraction) and not isinstance(value, bool):
        return f"{float(value):.12g}"
    return str(value)
