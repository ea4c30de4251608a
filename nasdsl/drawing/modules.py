"""Parts of a graph that a picture of modules shows as one box each: choices between whole modules, permuted blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import networkx

from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.values.tree import Expr, decisions_of
from nasdsl.drawing.paths import prefixes, without_indices


@dataclass(frozen=True)
class Module:
    """A choice whose options are more than a layer each, where it is used.

    Attributes:
        path: where it is used; the options lie under it by their labels.
        decision: the path of the choice.
        nodes: of all options, and what selects between them.
    """

    path: str
    decision: str
    nodes: frozenset[str]

    def named(self, word: str) -> bool:
        return word in {self.path, self.decision, without_indices(self.path), without_indices(self.decision)}

    def under(self, word: str) -> bool:
        paths = (self.path, without_indices(self.path))
        return any(path.startswith((word + ".", word + "[")) for path in paths)


def choices_between_modules(graph: Graph, owner: Mapping[str, str], users: Mapping[str, list[Node]]) -> list[Module]:
    """The choices between modules, outer ones first, in the order of the graph.

    An option lies under the choice's path by its label. One is a module if it has several boxes or several outputs.

    Args:
        owner: the box of each node that belongs to a block.
    """
    return _Modules(graph, owner, users).found()


class _Modules:
    def __init__(self, graph: Graph, owner: Mapping[str, str], users: Mapping[str, list[Node]]):
        self.graph, self.owner, self.users = graph, owner, users

    def found(self) -> list[Module]:
        selects: dict[tuple[str, str], list[str]] = {}
        for node in self.graph.nodes.values():
            if node.kind == "select":
                for path in sorted(decisions_of(tuple(edge.when for edge in node.inputs))):
                    for place in places(node.name):
                        selects.setdefault((place, path), []).append(node.name)
        out = []
        for (place, path), names in selects.items():
            decision = self.graph.decisions.get(path)
            if decision is None or decision.kind != "choice" or decision.ordered:
                continue
            options = [self.under.get(f"{place}.{label}", []) for label in decision.labels]
            nodes = frozenset([*names, *(name for option in options for name in option)])
            boxes = (len({self.owner.get(name, name) for name in option}) for option in options)
            if any(options) and (max(boxes) > 1 or len(names) > 1) and self._convex(nodes):
                out.append(Module(place, path, nodes))
        position = {name: i for i, name in enumerate(self.graph.nodes)}
        out.sort(key=lambda m: (-len(m.nodes), min(position[name] for name in m.nodes)))
        return out

    @cached_property
    def under(self) -> dict[str, list[str]]:
        """The nodes below each path."""
        found: dict[str, list[str]] = {}
        for name in self.graph.nodes:
            for path in prefixes(name, whole=True):
                found.setdefault(path, []).append(name)
        return found

    def _convex(self, nodes: frozenset[str]) -> bool:
        """Whether nothing outside lies on a way from the nodes back to them, so that one box can stand for them."""
        after = list({user.name for name in nodes for user in self.users[name]} - nodes)
        return not any(nodes.intersection(names) for names in networkx.bfs_layers(self.graph.digraph, after))


def places(name: str) -> list[str]:
    """Where the choice may be written that a selection's name comes from: `a.match[1/4]` and `a[1/4].1` from `a`."""
    plain = re.sub(r"(\[[^\[\]]*\])?(\.\d+)?$", "", name)
    return list(dict.fromkeys([name, plain, re.sub(r"\.(match|oneof|if)(\[\d+\])?$", "", plain)]))


def opened(modules: Sequence[Module], words: Iterable[str]) -> tuple[list[Module], list[str]]:
    """The modules that stay closed, outermost ones only, and the words that open none.

    A word that is a module's path or decision opens it; one that is a path above opens the outermost ones below.
    """
    words = list(words)
    used: set[str] = set()
    closed: list[Module] = []
    above: list[tuple[Module, str]] = []  # opened by a path above
    for module in modules:
        if any(module.nodes <= other.nodes for other in closed):
            continue
        named = {word for word in words if module.named(word)}
        over = {word for word in words if module.under(word)}
        over -= {word for other, word in above if module.nodes < other.nodes}
        used |= named | over
        above.extend((module, word) for word in over)
        if not named | over:
            closed.append(module)
    return closed, [word for word in words if word not in used]


def permuted_blocks(graph: Graph) -> list[str]:
    """Uses of an operator that form a scale-permuted network, in their order (Du et al., SpineNet, CVPR 2020).

    These are at least three uses of one operator, each with one output and at least two inputs, of more than one scale
    (or one that is still open), some of which read earlier ones than the one before.
    """
    out: list[str] = []
    families: dict[str, list[str]] = {}
    for path, operator in graph.instances.items():
        families.setdefault(operator, []).append(path)
    inside: dict[str, list[Node]] = {}
    for node in graph.nodes.values():
        for path in prefixes(node.name, whole=True):
            if path in graph.instances:
                inside.setdefault(path, []).append(node)
    readers: dict[str, set[str]] = {}
    for node in graph.nodes.values():
        for edge in node.inputs:
            readers.setdefault(edge.source, set()).add(node.name)
    for paths in families.values():
        paths = [path for path in paths if path in inside]
        if len(paths) < 3:
            continue
        names = {path: {node.name for node in inside[path]} for path in paths}
        order = {name: i for i, path in enumerate(paths) for name in names[path]}
        if len(order) < sum(len(found) for found in names.values()):
            continue  # one inside another
        fused, back = True, False
        scales: list[Any] = []
        for i, path in enumerate(paths):
            sources = {edge.source for node in inside[path] for edge in node.inputs} - names[path]
            ends = [node for node in inside[path] if readers.get(node.name, set()) - names[path]]
            fused = fused and len(sources) > 1 and len(ends) == 1
            back = back or any(order.get(source, i) < i - 1 for source in sources)
            scales += [node.shape.scale for node in ends]
        if fused and back and (any(isinstance(scale, Expr) for scale in scales) or scales != sorted(scales)[::-1]):
            out.extend(paths)
    found = set(out)
    out = [path for path in out if found.isdisjoint(prefixes(path))]
    position = {path: i for i, path in enumerate(inside)}
    return sorted(out, key=position.__getitem__)


def block_name(path: str) -> str:
    """What a file calls a block: `b[3]` for `backbone.for[0][3].b`."""
    *before, last = re.findall(r"[^.\[\]]+|\[[^\]]*\]", path)
    index = next((step for step in reversed(before) if re.fullmatch(r"\[\d+\]", step)), "")
    return last if last.startswith("[") else last + index


def chain_links(order: Sequence[str]) -> set[tuple[str, str]]:
    """Each block with the one before it."""
    return set(pairwise(order))
