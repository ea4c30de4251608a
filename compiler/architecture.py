"""An architecture: one value for every decision that is present, and nothing for the others.

People and files say what each value is: the option itself, the items, the kept units. The compiler's own code works
with indices (`values/tree.py`). This is the one place where the first become the second.
"""

from __future__ import annotations

import re
from collections.abc import Collection, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from nasdsl.compiler import notebook
from nasdsl.compiler.decision import Decision, runs
from nasdsl.compiler.diagnostics import ArgumentError, CompileError, Diagnostic, shortened, suggest
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.values.plain import FAULTS
from nasdsl.compiler.values.tree import decisions_of, evaluate, holds

MOST_NAMED = 8
"""Options, decisions or mistakes that one message names."""
MOST_TEXT = 60
"""Characters of a value that a message shows."""
MOST_SHOWN = 6
"""Decisions that the short form of an architecture shows."""


class ArchitectureError(CompileError, ArgumentError):
    """Values that are no architecture of a graph, with a diagnostic for each mistake. `path` names the decision of the
    first."""

    code = "architecture"

    def __init__(self, path: str, diagnostics: Sequence[Diagnostic]):
        super().__init__(diagnostics)
        self.path = path

    def __str__(self) -> str:
        told = [str(one) for one in self.diagnostics[:MOST_NAMED]]
        more = len(self.diagnostics) - MOST_NAMED
        return "\n".join(told + ([f"and {more:,} more mistakes"] if more > 0 else []))


def wrong(code: str, path: str, message: str, help: str = "") -> ArchitectureError:
    """An error with one diagnostic."""
    return ArchitectureError(path, [Diagnostic(code, message, help=help)])


class HasGraph(Protocol):
    """A space, a population, a supernet."""

    @property
    def graph(self) -> Graph: ...


@dataclass(frozen=True, eq=False, repr=False)
class Architecture:
    """The values of the present decisions by path, in the graph's order of decisions. Made by `Architecture.of`.

    It reads like a mapping: a choice has its option (`5`, `"conv"`), a subset and an order have a list of items, units
    a list of the kept ones. `indices` is the same as an assignment that `tree.evaluate` takes. To the type checker it
    is no `Mapping`, since those are assignments of indices. Architectures are equal where their values are.

    Attributes:
        decisions: of the graph that it is an architecture of.
        items_in_order: path and index, or tuple of indices, of each present decision.
    """

    decisions: Mapping[str, Decision]
    items_in_order: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, space: Graph | HasGraph, values: Values) -> Architecture:
        """The architecture that `values` describe; values of absent decisions are checked and dropped.

        Args:
            values: an option, or a list of items or units by path; units also as `"0..11, 14"`. An architecture of
                another space, too.

        Raises:
            ArchitectureError: a path that no decision has, a present decision without a value, a value outside its
                domain, or values that break a requirement other than a budget.
        """
        graph = space if isinstance(space, Graph) else space.graph
        if isinstance(values, Architecture) and values.decisions is graph.decisions:
            return values
        given, mistakes = _read(graph, values)
        found: dict[str, Any] = {}
        missing: list[str] = []
        for path, decision in graph.decisions.items():
            if not is_present(decision, found):
                continue
            if path in given:
                found[path] = given[path]
            elif path not in mistakes:
                missing.append(path)
        if missing:
            mistakes[missing[0]] = _missing(graph, missing)
        if not mistakes:
            made = cls(graph.decisions, tuple(found.items()))
            for requirement in made.violations(graph):
                if requirement.origin != "budget":
                    mistakes[requirement.message] = _broken(graph, requirement, found)
        if mistakes:
            raise ArchitectureError(next(iter(mistakes)), list(mistakes.values()))
        return made

    @classmethod
    def at(cls, graph: Graph, indices: Mapping[str, Any]) -> Architecture:
        """The architecture of an assignment of the compiler's own; values of absent decisions are dropped.

        Raises:
            ArchitectureError: a path that no decision has, a present decision without a value, or a value outside its
                domain.
        """
        for path in indices:
            if path not in graph.decisions:
                raise ArchitectureError(path, [_unknown(graph, path)])
        found: dict[str, Any] = {}
        for path, decision in graph.decisions.items():
            if is_present(decision, found):
                if path not in indices:
                    raise ArchitectureError(path, [_missing(graph, [path])])
                found[path] = canonical(decision, indices[path])
        return cls(graph.decisions, tuple(found.items()))

    @classmethod
    def written(cls, decisions: Mapping[str, Decision], values: Mapping[str, Any]) -> Architecture:
        """The architecture that `to_json` has written of one of a graph with these decisions. Requirements are not
        looked at: it has met them.

        Raises:
            ArchitectureError: a value outside its domain.
        """
        return cls(decisions, tuple((path, index_of(decisions[path], value)) for path, value in values.items()))

    @cached_property
    def indices(self) -> Mapping[str, Any]:
        """Of a choice the index of its option, of units and a subset a sorted tuple of indices, of an order a tuple of
        indices."""
        return MappingProxyType(dict(self.items_in_order))

    def __getitem__(self, path: str) -> Any:
        return value_of(self.decisions[path], self.indices[path])

    def get(self, path: str, default: Any = None) -> Any:
        return self[path] if path in self.indices else default

    def __iter__(self) -> Iterator[str]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.items_in_order)

    def __contains__(self, path: object) -> bool:
        return path in self.indices

    def keys(self) -> KeysView[str]:
        return self.indices.keys()

    def values(self) -> ValuesView[Any]:
        return self._plain.values()

    def items(self) -> ItemsView[str, Any]:
        return self._plain.items()

    @property
    def _plain(self) -> dict[str, Any]:
        return {path: value_of(self.decisions[path], index) for path, index in self.items_in_order}

    @cached_property
    def _key(self) -> frozenset[tuple[str, Any]]:
        return frozenset((path, _hashable(self.decisions[path], index)) for path, index in self.items_in_order)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Architecture):
            return isinstance(other, Mapping) and self._plain == other
        if self.decisions is other.decisions:
            return self.items_in_order == other.items_in_order
        return self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        shown = [f"{path}: {self.decisions[path].describe(x)}" for path, x in self.items_in_order[:MOST_SHOWN]]
        shown = [shortened(text, MOST_TEXT) for text in shown]
        more = len(self) - len(shown)
        return f"Architecture({', '.join(shown)}{f', … {more:,} more' if more else ''})"

    def _repr_html_(self) -> str | None:
        return notebook.html(self)

    def __copy__(self) -> Architecture:
        return self

    def __deepcopy__(self, memo: object) -> Architecture:
        """Nothing in an architecture changes, so copies of a supernet share it."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the views that it keeps for speed, which cannot be copied or pickled."""
        return Architecture, (self.decisions, self.items_in_order)

    def violations(self, graph: Graph) -> tuple[Requirement, ...]:
        """The requirements that the architecture breaks."""
        return tuple(r for r in graph.requirements if not holds(r.condition, self.indices))

    def to_json(self) -> dict[str, Any]:
        """The values with units in short: `{"op": "conv", "kernel": 5, "inputs": ["a", "b"], "hidden": "0..11, 14"}`.
        `Architecture.of` reads them."""
        return {path: value_to_json(self.decisions[path], index) for path, index in self.items_in_order}


Mapping.register(Architecture)  # `isinstance` says so, the type checker must not

Values: TypeAlias = Architecture | Mapping[str, Any]
"""What a user says of an architecture: one, or values by path."""


def some(space: Graph | HasGraph, values: Values) -> dict[str, Any]:
    """The indices of some decisions, for what leaves the others open.

    Raises:
        ArchitectureError: a path that no decision has, or a value outside its domain.
    """
    graph = space if isinstance(space, Graph) else space.graph
    if isinstance(values, Architecture) and values.decisions is graph.decisions:
        return dict(values.indices)
    given, mistakes = _read(graph, values)
    if mistakes:
        raise ArchitectureError(next(iter(mistakes)), list(mistakes.values()))
    return given


def _read(graph: Graph, values: Values) -> tuple[dict[str, Any], dict[str, Diagnostic]]:
    """The indices of what can be read, and a mistake for each path that cannot."""
    if not isinstance(values, Mapping | Architecture):
        help = 'such as {"stage.depth": 2}, or an `Architecture`'
        raise wrong("no-values", "", f"an architecture is values by path, and not {_shown(values)}", help)
    given: dict[str, Any] = {}
    mistakes: dict[str, Diagnostic] = {}
    for path, value in values.items():
        decision = graph.decisions.get(path) if isinstance(path, str) else None
        if decision is None:
            mistakes[str(path)] = _unknown(graph, path)
            continue
        try:
            given[path] = index_of(decision, value)
        except ArchitectureError as mistake:
            mistakes[path] = mistake.diagnostics[0]
    return given, mistakes


def _unknown(graph: Graph, path: Any) -> Diagnostic:
    help = suggest(path, graph.decisions) if isinstance(path, str) else "a path is a word such as `stage.depth`"
    if not help and len(graph.decisions) <= MOST_NAMED:
        known = ", ".join(f"`{known}`" for known in graph.decisions)
        help = f"it has {known}" if known else "it has none left"
    return Diagnostic("unknown-decision", f"the space has no decision {_quoted(path)}", help=help)


def _missing(graph: Graph, paths: Sequence[str]) -> Diagnostic:
    if len(paths) == 1:
        return Diagnostic("missing-decision", f"`{paths[0]}` has no value", help=_domain(graph.decisions[paths[0]]))
    named = ", ".join(f"`{path}`" for path in paths[:MOST_NAMED]) + (", …" if len(paths) > MOST_NAMED else "")
    return Diagnostic("missing-decision", f"{len(paths):,} decisions have no value: {named}")


def _broken(graph: Graph, requirement: Requirement, indices: Mapping[str, Any]) -> Diagnostic:
    paths = [path for path in decisions_of(requirement.condition) if path in indices]
    told = [f"`{path}` is {graph.decisions[path].describe(indices[path])}" for path in sorted(paths)[:MOST_NAMED]]
    message = f"with these values `{requirement.message}` does not hold"
    return Diagnostic("requirement-broken", message, help=", ".join(told))


def _domain(decision: Decision) -> str:
    """What a decision takes."""
    if decision.kind == "units":
        return f'it takes numbers from 0 to {decision.n - 1}, such as [0, 1] or "0..{decision.n - 1}"'
    words = ", ".join(_quoted(word) for word in decision.words[:MOST_NAMED])
    words += ", …" if decision.n > MOST_NAMED else ""
    if decision.kind == "choice":
        return f"it takes {words}"
    return f"it takes {decision.size} of {words}" if decision.kind == "subset" else f"it orders {words}"


def _quoted(word: Any) -> str:
    return f"`{word}`" if isinstance(word, str) else _shown(word)


def _shown(value: Any) -> str:
    return shortened(repr(value), MOST_TEXT)


def is_present(decision: Decision, indices: Mapping[str, Any]) -> bool:
    """Whether a decision exists under the values of those before it. A condition on an absent decision is not met."""
    if decision.present is True:
        return True
    try:
        return bool(evaluate(decision.present, indices))
    except FAULTS:
        return False


def canonical(decision: Decision, index: Any) -> Any:
    """The one form of the index or indices of a value: sorted where order means nothing, equal items of an order by
    index.

    Raises:
        ArchitectureError: there is no such value.
    """
    path, n = decision.path, decision.n
    if decision.kind == "choice":
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < n:
            raise wrong("unknown-option", path, f"`{path}` has options from 0 to {n - 1}, not {index!r}")
        return index
    if not isinstance(index, tuple | list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in index):
        raise wrong("not-a-list", path, f"`{path}` takes a tuple of indices, not {index!r}")
    if len(set(index)) != len(index) or any(not 0 <= i < n for i in index):
        raise wrong("no-such-item", path, f"`{path}` takes different indices from 0 to {n - 1}, not {list(index)}")
    if decision.kind == "units":
        return tuple(sorted(index))
    if decision.kind == "subset":
        if len(index) != decision.size:
            raise wrong("wrong-count", path, f"`{path}` takes {decision.size} of {n} items, not {len(index)}")
        return tuple(sorted(index))
    if len(index) != n:
        raise wrong("bad-order", path, f"`{path}` orders all {n} items, not {len(index)}")
    rising: dict[Any, Iterator[int]] = {
        item: iter([i for i in range(n) if decision.items[i] == item]) for item in set(decision.items)
    }
    return tuple(next(rising[decision.items[i]]) for i in index)


# --- Values -----------------------------------------------------------------------------------------------------------


def value_of(decision: Decision, index: Any) -> Any:
    """The value that an index stands for: an option; a list of items; a list of units."""
    if decision.kind == "choice":
        return decision.words[index]
    return list(index) if decision.kind == "units" else [decision.words[i] for i in index]


def value_to_json(decision: Decision, index: Any) -> Any:
    """As `value_of`, but units in short: `"0..11, 14"`."""
    return runs(index)[1:-1] if decision.kind == "units" else value_of(decision, index)


def _hashable(decision: Decision, index: Any) -> Any:
    if decision.kind == "choice":
        return decision.words[index]
    return index if decision.kind == "units" else tuple([decision.words[i] for i in index])


def index_of(decision: Decision, value: Any) -> Any:
    """The index of an option, or the tuple of indices of a list, in its one form.

    Raises:
        ArchitectureError: the decision does not take this value.
    """
    path = decision.path
    if decision.kind == "choice":
        return _option(decision, value)
    if decision.kind == "units" and isinstance(value, str):
        return _units(decision, _read_runs(decision, value))
    listed = _listed(decision, value)
    if decision.kind == "units":
        return _units(decision, listed)
    taken: list[int] = []
    for item in listed:
        here = _places(decision, item)
        left = [i for i in here if i not in taken]
        if not here:
            raise _no_option(decision, item, "an item")
        if not left:
            code = "bad-order" if decision.kind == "order" else "duplicate"
            raise wrong(code, path, f"{_quoted(item)} stands too often in `{path}`", _domain(decision))
        taken.append(left[0])
    if decision.kind == "order":
        if len(taken) != decision.n:
            message = f"`{path}` is an order of all {decision.n} items, and here are {len(taken)}"
            raise wrong("bad-order", path, message, _domain(decision))
        return tuple(taken)
    if len(taken) != decision.size:
        raise wrong(
            "wrong-count", path, f"`{path}` takes {decision.size} items, and here are {len(taken)}", _domain(decision)
        )
    return tuple(sorted(taken))


def _option(decision: Decision, value: Any) -> int:
    found = _places(decision, value)
    if not found:
        raise _no_option(decision, value, "an option")
    return found[0]


def _places(decision: Decision, value: Any) -> Sequence[int]:
    """The indices of an item; none where there is no such item."""
    try:
        found = decision.places.get((type(value), value))
    except TypeError:  # a list, which cannot be looked up
        found = None
    if found is not None:
        return found
    if isinstance(value, str):
        return [i for i, text in enumerate(_texts(decision)) if text is not None and _normal(text) == _normal(value)]
    if isinstance(value, Integral) and not isinstance(value, bool):  # of numpy, say
        return decision.places.get((int, int(value)), ())
    if isinstance(value, Real) and not isinstance(value, Integral):
        return [
            i
            for i, item in enumerate(decision.items)
            if isinstance(item, Real) and not isinstance(item, int) and (item == value or float(item) == value)
        ]
    return ()


def _texts(decision: Decision) -> Iterator[str | None]:
    """How each item can be written as a text: its word, or a fraction as a file has it; a whole number can't."""
    for i, word in enumerate(decision.words):
        yield word if isinstance(word, str) else decision.labels[i] if isinstance(word, float) else None


def _normal(text: str) -> str:
    return re.sub(r"\s+", "", text).removesuffix("()")


def _no_option(decision: Decision, value: Any, what: str) -> ArchitectureError:
    words = [str(word) for word in decision.words]
    help = (suggest(value, words) if isinstance(value, str) else "") or _domain(decision)
    return wrong("unknown-option", decision.path, f"{_quoted(value)} is not {what} of `{decision.path}`", help)


def _listed(decision: Decision, value: Any) -> list[Any]:
    """The items of a list, or of a set where their order means nothing."""
    given = getattr(value, "tolist", None)
    listed = given() if callable(given) else value  # an array
    never = str | bytes | Mapping | Architecture | (set | frozenset if decision.kind == "order" else bytes)
    if isinstance(listed, never) or not isinstance(listed, Collection):
        what = "units" if decision.kind == "units" else "items"
        message = f"`{decision.path}` takes a list of {what}, and not {_shown(value)}"
        raise wrong("not-a-list", decision.path, message, _domain(decision))
    return list(listed)


def _units(decision: Decision, units: Sequence[Any]) -> tuple[int, ...]:
    path, n = decision.path, decision.n
    for unit in units:
        if isinstance(unit, bool) or not isinstance(unit, Integral) or not 0 <= int(unit) < n:
            raise wrong("no-such-item", path, f"`{path}` has no unit {_shown(unit)}", _domain(decision))
    kept = tuple(sorted(int(unit) for unit in units))
    if len(set(kept)) != len(kept):
        twice = next(a for a, b in pairwise(kept) if a == b)
        raise wrong("duplicate", path, f"the unit {twice} stands twice in `{path}`")
    return kept


def _read_runs(decision: Decision, text: str) -> list[int]:
    kept: list[int] = []
    inner = text.strip()
    inner = inner[1:-1] if inner.startswith("[") and inner.endswith("]") else inner
    for part in filter(None, (p.strip() for p in inner.split(","))):
        run = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", part, re.ASCII)
        first, last = (_number(run[1]), _number(run[2] or run[1])) if run is not None else (0, decision.n)
        if last >= decision.n or first > last:  # before a range is made: a file may say anything
            message = f"`{decision.path}` has no units `{shortened(part, MOST_TEXT)}`"
            raise wrong("no-such-item", decision.path, message, _domain(decision))
        kept.extend(range(first, last + 1))
    return kept


def _number(digits: str) -> int:
    """A number of few digits as it is; of many, which may cost much to read, one that is beyond all units."""
    return int(digits) if len(digits) < 12 else 10**12
