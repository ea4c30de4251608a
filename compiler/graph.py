"""The graph of a space: operators, selections and merges over decisions. An architecture is the graph with none left.

A node computes one tensor. `present` says under which decisions it exists, every input edge says under which it is
used, and all
attributes are values over decisions (`values/tree.py`). Nodes stand in an order in which inputs come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from nasdsl.compiler import notebook
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.source import Span
from nasdsl.compiler.values.expr import Value

if TYPE_CHECKING:
    import networkx

NodeKind = Literal["input", "operator", "select", "merge", "output"]


@dataclass(frozen=True)
class Shape:
    """Of one tensor without its batch axis: `channels` x `height` x `width` pixels at `scale` of the input's
    resolution.

    A vector (after global pooling) has height and width None. `items` says how many of them one image gives: 1, or the
    number of regions that a detector's head works on.
    """

    channels: Value
    height: Value
    width: Value
    scale: Value
    items: Value = 1

    @property
    def pixels(self) -> Value:
        """Of one item."""
        return 1 if self.height is None else self.height * self.width

    def with_channels(self, channels: Value) -> Shape:
        return replace(self, channels=channels)


@dataclass(frozen=True)
class Edge:
    """One input of a node: the node it comes from, and the condition under which it is used.

    `place` says which of the node's inputs it was, where some of them are gone; -1 where all are there.
    """

    source: str
    when: Value = True
    place: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class Node:
    """One tensor of the network.

    Attributes:
        name: unique, hierarchical (`stage[2].parallel[1/8].repeat[0].searching.mixconv`).
        op: the catalogue's operator; for a merge `sum` or `concat`.
        attrs: the operator's parameters, constants or values over decisions.
        shape: of the output.
        reached: condition under which the node is run: what comes in is there, and no choice passes it by.
        present: condition under which the tensor exists: it is reached, and the operator has an output (one without a
            unit left has none).
        weight: nodes with the same key share weights.
        span: where the source asks for it.
        aside: whether it stands in the braces of an `auxiliary`, and so runs in training alone.
    """

    name: str
    kind: NodeKind
    op: str
    attrs: Mapping[str, Any]
    inputs: tuple[Edge, ...]
    shape: Shape
    reached: Value = True
    present: Value = True
    weight: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)
    aside: bool = False

    @property
    def places(self) -> tuple[int, ...]:
        """Of each input, which one it was when all were there."""
        return tuple(number if edge.place < 0 else edge.place for number, edge in enumerate(self.inputs))


@dataclass(frozen=True)
class Requirement:
    """What must hold of every architecture. `origin` says who asks: the text, or the compiler and for which reason."""

    condition: Value
    message: str
    origin: Literal["require", "budget", "live"] = "require"
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, repr=False)
class Graph:
    """All nodes by name in topological order, the decisions they depend on, and what must hold between these.

    `instances` names the operator of the file that is used at a path, for whoever shows the graph to people. `given`
    has the measures that were read from a file: by name what each node adds, as `measures.measure.Terms`.
    """

    nodes: Mapping[str, Node]
    decisions: Mapping[str, Decision]
    requirements: tuple[Requirement, ...]
    outputs: tuple[str, ...]
    instances: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    given: Mapping[str, Mapping[str, Value]] = field(default_factory=dict, compare=False, repr=False)

    def __repr__(self) -> str:
        """`Graph(29 layers, 61 nodes, 18 decisions)`"""
        layers = sum(1 for _ in self.operators())
        return f"Graph({layers:,} layers, {len(self.nodes):,} nodes, {len(self.decisions):,} decisions)"

    def _repr_html_(self) -> str | None:
        return notebook.html(self)

    def __deepcopy__(self, memo: object) -> Graph:
        """Nothing in a graph changes, so copies of a supernet share it."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        made = ("sums", "digraph")  # anew where they are asked for: measures may hold functions
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def operators(self) -> Iterator[Node]:
        """The nodes that may have weights."""
        return (node for node in self.nodes.values() if node.kind == "operator")

    @property
    def input(self) -> Node:
        return next(node for node in self.nodes.values() if node.kind == "input")

    @cached_property
    def digraph(self) -> networkx.DiGraph[str]:
        """Which node reads which, for networkx's algorithms: an edge leads from each node to what reads it.
        `as_networkx.py` has the same with attributes."""
        import networkx

        graph: networkx.DiGraph[str] = networkx.DiGraph()
        graph.add_nodes_from(self.nodes)
        graph.add_edges_from((edge.source, node.name) for node in self.nodes.values() for edge in node.inputs)
        return graph

    @cached_property
    def sums(self) -> dict[Any, Value]:
        """What measures come to, by the measure and the path, as far as it was asked for: `cost.totals` has them."""
        return {}

    def users(self) -> dict[str, list[Node]]:
        """For each node the nodes that read it."""
        out: dict[str, list[Node]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for edge in node.inputs:
                out[edge.source].append(node)
        return out
