"""Cells that are decided once and used in many places, which a picture draws once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from nasdsl.compiler.decision import runs
from nasdsl.compiler.graph import Edge, Graph, Node
from nasdsl.compiler.values.tree import decisions_of
from nasdsl.drawing.paths import common_path, last_word, prefixes, stage_of

LEAST_CHOICES = 4  # of a cell: what has fewer is told in a box


@dataclass(frozen=True)
class Cell:
    """An operator of the file whose uses are all decided by the same decisions, made elsewhere.

    Attributes:
        name: that its decisions have in common, or else that of the operator.
        uses: its paths.
        decisions: the choices between operations that all its uses go by.
    """

    name: str
    uses: tuple[str, ...]
    decisions: frozenset[str]

    def named(self, word: str) -> bool:
        """Whether a word means this cell: its name, one of its uses, or one of its decisions."""
        return word == self.name or word in self.uses or word in self.decisions


def tied_cells(graph: Graph) -> list[Cell]:
    """The cells of a graph, outermost ones only."""
    choices: dict[str, set[str]] = {}
    for node in graph.nodes.values():
        if node.kind == "select":
            made = [path for path in decisions_of(tuple(edge.when for edge in node.inputs)) if _between(graph, path)]
            for place in prefixes(node.name, whole=True):
                if place in graph.instances:
                    choices.setdefault(place, set()).update(path for path in made if not _under(path, place))
    families: dict[tuple[str, frozenset[str]], list[str]] = {}
    for place, made_there in choices.items():
        if len(made_there) >= LEAST_CHOICES:
            families.setdefault((graph.instances[place], frozenset(made_there)), []).append(place)
    found: list[Cell] = []
    for (operator, paths), uses in families.items():
        around = common_path(uses)
        local = bool(around) and all(_under(path, around) for path in paths)  # copies of a loop are folded as they are
        if len(uses) > 1 and not local:
            first = {re.split(r"[.\[]", path, maxsplit=1)[0] for path in paths if re.match(r"\w+\.", path)}
            name = first.pop() if len(first) == 1 else operator
            found.append(Cell(name, tuple(uses), paths))
    inside = {use for cell in found for use in cell.uses for other in found if any(_under(use, u) for u in other.uses)}
    return [cell for cell in found if inside.isdisjoint(cell.uses)]


def _between(graph: Graph, path: str) -> bool:
    decision = graph.decisions.get(path)
    return decision is not None and decision.kind == "choice" and not decision.ordered


def _under(path: str, place: str) -> bool:
    return path.startswith((f"{place}.", f"{place}["))


def uses_in_words(cell: Cell) -> str:
    """Where a cell is used: `cell[0, 1, 3, 4]`."""
    around = common_path(cell.uses)
    rests = [use.removeprefix(around).lstrip(".") for use in cell.uses]
    shortened = [stage_of(last_word(around) + rest if rest.startswith("[") else rest) for rest in rests]
    names = shortened if len(set(shortened)) == len(shortened) else list(cell.uses)
    out = []
    for word, group in groupby(names, key=lambda name: name.partition("[")[0]):
        same = list(group)
        numbers = [re.fullmatch(rf"{re.escape(word)}\[(\d+)\]", name) for name in same]
        if len(same) > 1 and all(numbers):
            out.append(word + runs(tuple(int(number[1]) for number in numbers if number)))
        else:
            out += same
    return ", ".join(out)


def inside_of(cell: Cell, whole: Graph, graph: Graph) -> tuple[Graph, Graph]:
    """One use of a cell as a graph of its own, whose inputs are what the use reads: of the whole space, and what of it
    an architecture has. Of several uses that which reads most tensors, and of these the one with the fewest nodes.
    """
    taken = {use: _nodes(whole, use) for use in cell.uses}
    reads = {use: _sources(whole, nodes) for use, nodes in taken.items()}
    use = max(cell.uses, key=lambda use: (len(reads[use]), -len(taken[use])))
    sources = reads[use]
    labels = {source: f"inputs[{i}]" if len(sources) > 1 else "in" for i, source in enumerate(sources)}
    new = {name: name.removeprefix(use).lstrip(".") or cell.name for name in taken[use]} | labels
    nodes: dict[str, Node] = {}
    for source in sources:
        nodes[labels[source]] = Node(labels[source], "input", "input", {}, (), whole.nodes[source].shape)
    for name, node in taken[use].items():
        edges = tuple(replace(edge, source=new[edge.source]) for edge in node.inputs)
        nodes[new[name]] = replace(node, name=new[name], inputs=edges)
    users = whole.users()
    ends = [name for name in taken[use] if any(user.name not in taken[use] for user in users[name])]
    shape = whole.nodes[ends[-1]].shape
    nodes["out"] = Node("out", "output", "output", {}, tuple(Edge(new[name]) for name in ends), shape)
    instances = {
        place.removeprefix(f"{use}."): name for place, name in whole.instances.items() if place.startswith(f"{use}.")
    }
    outer = replace(whole, nodes=nodes, requirements=(), outputs=("out",), instances=instances)
    left = {new_name: nodes[new_name] for new_name in (*labels.values(), "out")}
    for name, node in graph.nodes.items():
        if name in taken[use]:
            left[new[name]] = replace(node, name=new[name], inputs=nodes[new[name]].inputs)
    kept = {name: left[name] for name in nodes if name in left}
    return outer, replace(graph, nodes=kept, requirements=(), outputs=("out",), instances=instances)


def _nodes(graph: Graph, use: str) -> dict[str, Node]:
    return {name: node for name, node in graph.nodes.items() if name == use or _under(name, use)}


def _sources(graph: Graph, nodes: Mapping[str, Node]) -> Sequence[str]:
    """What some nodes read from outside, in the graph's order."""
    read = {edge.source for node in nodes.values() for edge in node.inputs} - nodes.keys()
    return _in_order(graph, read)


def _in_order(graph: Graph, names: Iterable[str]) -> list[str]:
    wanted = set(names)
    return [name for name in graph.nodes if name in wanted]
