"""An architecture: one value for every decision that is present, and nothing for the others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from nasdsl.compiler.decision import Decision, runs
from nasdsl.compiler.diagnostics import NasdslError, suggest
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.values.expr import evaluate, holds
from nasdsl.compiler.values.plain import FAULTS


class ArchitectureError(NasdslError, ValueError):
    """Values that are no architecture of a graph. `path` names the decision at fault."""

    code = "architecture"

    def __init__(self, path: str, message: str, help: str = ""):
        super().__init__(message, help)
        self.path = path


@dataclass(frozen=True, eq=False)
class Architecture(Mapping[str, Any]):
    """The values of the present decisions by path, in the graph's order of decisions. Made by `Architecture.of`.

    A choice has the index of its option, units and a subset have a sorted tuple of indices, an order has a tuple of
    indices. As a mapping it is an assignment that `expr.evaluate` takes. Architectures are equal where their present
    decisions agree.
    """

    items_in_order: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, graph: Graph, values: Mapping[str, Any]) -> Architecture:
        """The architecture that `values` describe; values of absent decisions are dropped.

        Raises:
            ArchitectureError: a path that no decision has, a present decision without a value, or a value outside its
                domain.
        """
        for path in values:
            if path not in graph.decisions:
                raise ArchitectureError(path, f"the space has no decision `{path}`", suggest(path, graph.decisions))
        found: dict[str, Any] = {}
        for path, decision in graph.decisions.items():
            if not is_present(decision, found):
                continue
            if path not in values:
                raise ArchitectureError(path, f"`{path}` has no value, but is present")
            found[path] = canonical(decision, values[path])
        return cls(tuple(found.items()))

    @cached_property
    def values_by_path(self) -> Mapping[str, Any]:
        return MappingProxyType(dict(self.items_in_order))

    def __getitem__(self, path: str) -> Any:
        return self.values_by_path[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_path)

    def __len__(self) -> int:
        return len(self.items_in_order)

    def __contains__(self, path: object) -> bool:
        return path in self.values_by_path

    @cached_property
    def _key(self) -> frozenset[tuple[str, Any]]:
        return frozenset(self.items_in_order)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return "Architecture(" + ", ".join(f"{path}={value}" for path, value in self.items_in_order) + ")"

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the views that it keeps for speed, which cannot be copied or pickled."""
        return Architecture, (self.items_in_order,)

    def violations(self, graph: Graph) -> tuple[Requirement, ...]:
        """The requirements that the architecture breaks."""
        return tuple(r for r in graph.requirements if not holds(r.condition, self.values_by_path))

    def to_json(self, graph: Graph) -> dict[str, Any]:
        """Items in place of indices: `{"op": "conv", "kernel": 5, "inputs": ["a", "b"], "hidden": "0..11, 14"}`."""
        return {path: value_to_json(graph.decisions[path], value) for path, value in self.items_in_order}

    @classmethod
    def from_json(cls, graph: Graph, data: Mapping[str, Any]) -> Architecture:
        """What `to_json` wrote.

        Raises:
            ArchitectureError: as `of`, or an item that a decision does not have.
        """
        known = graph.decisions
        values = {path: value_from_json(known[path], x) if path in known else x for path, x in data.items()}
        return cls.of(graph, values)


def is_present(decision: Decision, values: Mapping[str, Any]) -> bool:
    """Whether a decision exists under the values of those before it. A condition on an absent decision is not met."""
    if decision.present is True:
        return True
    try:
        return bool(evaluate(decision.present, values))
    except FAULTS:
        return False


def canonical(decision: Decision, value: Any) -> Any:
    """The one form of a value of a decision: sorted where order means nothing, equal items of an order by index.

    Raises:
        ArchitectureError: the value is outside the domain.
    """
    path, n = decision.path, decision.n
    if decision.kind == "choice":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n:
            raise ArchitectureError(path, f"`{path}` takes an option from 0 to {n - 1}, not {value!r}")
        return value
    if not isinstance(value, tuple | list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in value):
        raise ArchitectureError(path, f"`{path}` takes a tuple of indices, not {value!r}")
    if len(set(value)) != len(value) or any(not 0 <= i < n for i in value):
        raise ArchitectureError(path, f"`{path}` takes different indices from 0 to {n - 1}, not {list(value)}")
    if decision.kind == "units":
        return tuple(sorted(value))
    if decision.kind == "subset":
        if len(value) != decision.size:
            raise ArchitectureError(path, f"`{path}` takes {decision.size} of {n} items, not {len(value)}")
        return tuple(sorted(value))
    if len(value) != n:
        raise ArchitectureError(path, f"`{path}` orders all {n} items, not {len(value)}")
    rising: dict[Any, Iterator[int]] = {
        item: iter([i for i in range(n) if decision.items[i] == item]) for item in set(decision.items)
    }
    return tuple(next(rising[decision.items[i]]) for i in value)


def _words(decision: Decision) -> list[Any]:
    """What a file calls each item: a number or a word, made unique by its index where two items read alike."""
    words = [
        item if isinstance(item, int | str) and not isinstance(item, bool) else label
        for item, label in zip(decision.items, decision.labels or map(str, decision.items), strict=True)
    ]
    if decision.kind != "order" and len(set(words)) < len(words):
        return [f"{word}#{i}" if words.count(word) > 1 else word for i, word in enumerate(words)]
    return words


def value_to_json(decision: Decision, value: Any) -> Any:
    """A value with items in place of indices: a word or number, a list of these, or `"0..11, 14"` for units."""
    if decision.kind == "units":
        return runs(value)[1:-1]
    words = _words(decision)
    return words[value] if decision.kind == "choice" else [words[i] for i in value]


def value_from_json(decision: Decision, data: Any) -> Any:
    """What `value_to_json` wrote.

    Raises:
        ArchitectureError: an item that the decision does not have.
    """
    if decision.kind == "units":
        return _read_runs(decision, data)
    words = _words(decision)
    if decision.kind == "choice":
        return _index(decision, words, data)
    if not isinstance(data, list | tuple):
        raise ArchitectureError(decision.path, f"`{decision.path}` takes a list of items, not {data!r}")
    taken: list[int] = []
    for word in data:
        taken.append(_index(decision, words, word, taken if decision.kind == "order" else ()))
    return tuple(taken)


def _index(decision: Decision, words: list[Any], word: Any, taken: list[int] | tuple[()] = ()) -> int:
    for i, other in enumerate(words):
        if type(other) is type(word) and other == word and i not in taken:
            return i
    if word in words:
        raise ArchitectureError(decision.path, f"`{decision.path}` has the item {word!r} too often")
    hint = suggest(str(word), map(str, words)) or "its items are " + ", ".join(map(str, words))
    raise ArchitectureError(decision.path, f"`{decision.path}` has no item {word!r}", hint)


def _read_runs(decision: Decision, text: Any) -> tuple[int, ...]:
    if isinstance(text, list | tuple):
        return tuple(text)
    kept: list[int] = []
    for part in filter(None, (p.strip() for p in str(text).split(","))):
        run = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", part)
        if run is None or int(run[2] or run[1]) >= decision.n:  # before a range is made: a file may say anything
            message = f"`{decision.path}` takes units from 0 to {decision.n - 1}, not {part!r}"
            raise ArchitectureError(decision.path, message)
        kept.extend(range(int(run[1]), int(run[2] or run[1]) + 1))
    return tuple(kept)
