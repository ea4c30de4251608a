"""The least and the greatest of a cost, witnesses, and why there are none: exact, over all architectures at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from nasdsl.compiler.architecture import Architecture, is_present
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.eliminate import EXISTS, GREATEST, LEAST, Semiring, eliminate
from nasdsl.compiler.engine.factors import Constraint, FactorGraph
from nasdsl.compiler.engine.limits import Infeasible, spend
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import Expr, Remembering, decisions_of, holds, value_at


def structural(graph: Graph) -> tuple[Requirement, ...]:
    """The requirements on decisions; those on costs (`budget`) are sums over the whole network, left to the search."""
    return tuple(r for r in graph.requirements if r.origin != "budget")


def least(graph: Graph, cost: Value) -> tuple[Any, Architecture]:
    """The least value of a cost over all architectures that meet the requirements but budgets, and one that attains it.

    The cost is a sum of terms over few decisions each; a term over absent decisions costs nothing.

    Raises:
        Infeasible: there is no architecture.
        TooWide: too many decisions hang together for the exact answer.
    """
    return _extreme(graph, cost, LEAST, min)


def greatest(graph: Graph, cost: Value) -> tuple[Any, Architecture]:
    """As `least`, for the greatest value."""
    return _extreme(graph, cost, GREATEST, max)


def _extreme(
    graph: Graph, cost: Value, semiring: Semiring, better: Callable[[Any, Any], Any]
) -> tuple[Any, Architecture]:
    constraints = [Constraint(r.condition) for r in structural(graph)]
    result = eliminate(FactorGraph(graph.decisions, constraints, cost, better), semiring)
    values = result.best()
    if values is None:
        raise Infeasible("no architecture meets all requirements")
    return result.total, Architecture.at(graph, values)


def feasible(graph: Graph) -> Architecture | None:
    """An architecture that meets all requirements (budgets aside), or None."""
    return _witness(graph, [Constraint(r.condition) for r in structural(graph)])


def counterexample(graph: Graph, condition: Value, given: Sequence[Requirement] | None = None) -> Architecture | None:
    """An architecture that meets the `given` requirements (all but budgets) and breaks the condition; None is a proof.

    A requirement without a value counts as met: that it has one may be what is to be proven.

    Proved on the condition's own decisions where that is enough, as it mostly is, then on all that hang together with
    them.
    """
    given = structural(graph) if given is None else given
    denial = Constraint(condition, wanted=False)
    own = _with_presence(graph, decisions_of(condition))
    inner = [r.condition for r in given if decisions_of(r.condition) <= own.keys()]  # each of them perhaps at fault too
    proven = _tried(condition, own, inner)
    if proven or (proven is None and not _possible(own, [denial])):
        return None
    near = _connected(graph, own, given)
    inside = [Constraint(r.condition, doubtful=True) for r in given if decisions_of(r.condition) <= near.keys()]
    if not _possible(near, [*inside, denial]):
        return None
    return _witness(graph, [*(Constraint(r.condition, doubtful=True) for r in given), denial])


MOST_TRIED = 200_000
"""Values of a few decisions together that are tried one by one, times the parts of the condition: less work than tables
of a long condition."""


def _tried(condition: Value, decisions: Mapping[str, Decision], given: Sequence[Value]) -> bool | None:
    """Whether a condition holds for all values of decisions that meet the `given` ones; None where they are many."""
    size = 1 + _size(condition)
    left = MOST_TRIED // size if all(d.kind != "units" for d in decisions.values()) else 0
    if math.prod(d.cardinality() for d in decisions.values() if d.present is True) > left:
        return None
    for values in _assignments(list(decisions.values()), {}):
        left -= 1
        if left < 0:
            return None
        spend(size // 10)
        if _meets(values, given) and not holds(condition, Remembering(values)):
            return False
    return True


def _size(value: Value) -> int:
    """How many different parts an expression has."""
    seen: dict[int, Value] = {}
    queue = [value]
    while queue:
        part = queue.pop()
        if isinstance(part, Expr) and id(part) not in seen:
            seen[id(part)] = part
            queue.extend(part.children())
    return len(seen)


def _assignments(decisions: Sequence[Decision], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All values of decisions whose presence depends on those before them."""
    if not decisions:
        yield values
        return
    first, *rest = decisions
    if is_present(first, values):
        for value in first.values():
            yield from _assignments(rest, {**values, first.path: value})
    else:
        yield from _assignments(rest, values)


def _meets(values: Mapping[str, Any], conditions: Sequence[Value]) -> bool:
    return all(value_at(condition, values) is not False for condition in conditions)


def conflict(graph: Graph) -> tuple[Requirement, ...]:
    """Requirements that no architecture meets together, none of which can be left out; empty where there is one."""
    candidates = list(structural(graph))
    if _possible(graph.decisions, _constraints(candidates)):
        return ()
    near, blamed = _prefix(graph, candidates)
    kept: list[Requirement] = []
    while blamed:
        tried = blamed.pop()
        if _possible(near, _constraints([*blamed, *kept])):
            kept.insert(0, tried)
    return tuple(kept)


def _prefix(graph: Graph, candidates: list[Requirement]) -> tuple[dict[str, Decision], list[Requirement]]:
    """The requirements up to the first that cannot be met with all before it, as far as they hang together with it.

    With them the decisions that do.
    """
    low, high = 0, len(candidates)  # the first `low` can be met together, the first `high` cannot
    while high - low > 1:
        middle = (low + high) // 2
        if _possible(graph.decisions, _constraints(candidates[:middle])):
            low = middle
        else:
            high = middle
    if high == 0:  # without any requirement there is no architecture: a decision has no value
        return {}, []
    prefix = candidates[:high]
    near = _connected(graph, _with_presence(graph, decisions_of(prefix[-1].condition)), prefix)
    return near, [r for r in prefix if decisions_of(r.condition) <= near.keys()]


def _constraints(requirements: Iterable[Requirement]) -> list[Constraint]:
    return [Constraint(r.condition) for r in requirements]


def _possible(decisions: Any, constraints: Iterable[Constraint]) -> bool:
    return eliminate(FactorGraph(decisions, constraints), EXISTS).total is not None


def _witness(graph: Graph, constraints: Iterable[Constraint]) -> Architecture | None:
    values = eliminate(FactorGraph(graph.decisions, constraints), EXISTS).best()
    return None if values is None else Architecture.at(graph, values)


def _with_presence(graph: Graph, paths: Iterable[str]) -> dict[str, Decision]:
    """Decisions with all that their presence depends on, in the graph's order."""
    found: set[str] = set()
    queue = list(paths)
    while queue:
        path = queue.pop()
        if path not in found:
            found.add(path)
            queue.extend(decisions_of(graph.decisions[path].present))
    return {path: decision for path, decision in graph.decisions.items() if path in found}


def _connected(graph: Graph, start: dict[str, Decision], given: Sequence[Requirement]) -> dict[str, Decision]:
    """All decisions that hang together with those at the start, by requirements or presence."""
    links = [decisions_of(r.condition) for r in given]
    links += [decisions_of(d.present) | {path} for path, d in graph.decisions.items() if d.present is not True]
    touching: dict[str, list[int]] = {}
    for number, link in enumerate(links):
        for path in link:
            touching.setdefault(path, []).append(number)
    found = set(start)
    queue = list(start)
    while queue:
        for number in touching.get(queue.pop(), ()):
            fresh = links[number] - found
            found |= fresh
            queue.extend(fresh)
    return {path: decision for path, decision in graph.decisions.items() if path in found}
