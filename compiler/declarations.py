"""The declarations of a space: what in its text made its decisions, each with all its copies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from nasdsl.compiler.decision import Decision, Kind
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.write import plain_steps


@dataclass(frozen=True)
class Declaration:
    """The decisions that one expression in the text makes, with the same options.

    Attributes:
        name: what their paths end in, without indices; with as much before it as no other declaration has. Where there
            is no such end it is the first path.
        paths: of the decisions, in the order of the graph.
        labels: how a file writes each option; where two read alike, with their index: `same#1`.
        size: how many items a subset has.
    """

    name: str
    kind: Kind
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    size: int = 0

    @cached_property
    def values(self) -> tuple[str, ...]:
        """How each value of a choice or a subset reads, in the order of `Decision.values`."""
        if self.kind == "choice":
            return self.labels
        assert self.kind == "subset", "the values of others are too many"
        return tuple(f"[{', '.join(items)}]" for items in combinations(self.labels, self.size))


def declarations_of(graph: Graph) -> list[Declaration]:
    """The declarations of a graph's decisions, in its order."""
    found: dict[tuple[object, ...], list[Decision]] = {}
    for path, decision in graph.decisions.items():
        key = (decision.declaration or path, decision.kind, decision.size, _labels(decision))
        found.setdefault(key, []).append(decision)
    groups = list(found.values())
    names = _names([copies[0].path for copies in groups])
    return [
        Declaration(name, copies[0].kind, tuple(one.path for one in copies), _labels(copies[0]), copies[0].size)
        for name, copies in zip(names, groups, strict=True)
    ]


def _names(paths: list[str]) -> list[str]:
    """Of each path the shortest end without indices that no other has; else the path."""
    steps = [plain_steps(path) for path in paths]
    ends = [[tuple(one[-length:]) for length in range(1, len(one) + 1)] for one in steps]
    count: dict[tuple[str, ...], int] = {}
    for own in ends:
        for end in own:
            count[end] = count.get(end, 0) + 1
    return [
        next((".".join(end) for end in own if count[end] == 1), path) for path, own in zip(paths, ends, strict=True)
    ]


def _labels(decision: Decision) -> tuple[str, ...]:
    labels = decision.labels or tuple(map(str, decision.items))
    return tuple(f"{label}#{i}" if labels.count(label) > 1 else label for i, label in enumerate(labels))
