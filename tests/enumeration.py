"""Random small spaces and their plain enumeration, to hold the engine against."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.diagram import Diagram
from nasdsl.compiler.engine.lattice import Window
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.values.expr import Value, add, at_most, both, choose, either, equal, less, multiply, negate
from nasdsl.compiler.values.tree import Among, Apply, Case, Has, Kept, Slot, apply, case, decisions_of


def space(decisions: list[Decision], *conditions: Value) -> Graph:
    requirements = tuple(Requirement(c, f"condition {i}") for i, c in enumerate(conditions))
    return Graph({}, {d.path: d for d in decisions}, requirements, ())


# --- plain enumeration ------------------------------------------------------------------------------------------------


class Missing(Exception):
    pass


def meaning(value: Value, values: dict[str, Any]) -> Any:
    """What an expression is worth, written once more to share nothing with the engine."""
    if isinstance(value, Apply):
        if value.function == "if":
            return meaning(value.args[1] if meaning(value.args[0], values) else value.args[2], values)
        if value.function in ("and", "or"):
            seen: list[bool | None] = []
            for arg in value.args:
                try:
                    seen.append(bool(meaning(arg, values)))
                except Missing:
                    seen.append(None)
            decided = value.function == "or"
            if decided in seen:
                return decided
            if None in seen:
                raise Missing
            return not decided
        args = [meaning(a, values) for a in value.args]
        plain: dict[str, Any] = {
            "add": lambda *a: sum(a),
            "mul": lambda *a: math.prod(a),
            "eq": lambda a, b: a == b,
            "lt": lambda a, b: a < b,
            "le": lambda a, b: a <= b,
            "not": lambda a: not a,
            "min": min,
            "max": max,
        }
        return plain[value.function](*args)
    if not hasattr(value, "path"):
        return value
    if value.path not in values:
        raise Missing
    here = values[value.path]
    if isinstance(value, Case):
        return value.values[here]
    if isinstance(value, Among):
        return here in value.options
    if isinstance(value, Kept):
        return len(here)
    if isinstance(value, Has):
        return value.item in here
    assert isinstance(value, Slot)
    return value.values[here[value.position]]


def worth(value: Value, values: dict[str, Any], missing: Any) -> Any:
    try:
        return meaning(value, values)
    except Missing:
        return missing


def enumerate_all(graph: Graph) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{}]
    for path, decision in graph.decisions.items():
        longer = []
        for values in found:
            if worth(decision.present, values, False):
                longer += [{**values, path: v} for v in decision.values()]
            else:
                longer.append(values)
        found = longer
    return [v for v in found if all(worth(r.condition, v, True) for r in graph.requirements)]


def frozen(values: Any) -> frozenset[tuple[str, Any]]:
    return frozenset((values.indices if isinstance(values, Architecture) else values).items())


# --- random spaces ----------------------------------------------------------------------------------------------------


KINDS = ("choice", "choice", "units", "subset", "order")


@st.composite
def decisions(draw: Any, kinds: tuple[str, ...] = KINDS) -> list[Decision]:
    made: list[Decision] = []
    total = 1
    for i in range(draw(st.integers(1, 5))):
        present: Value = True
        if made and draw(st.booleans()):
            present = draw(conditions(made, 1))
        kind = draw(st.sampled_from(kinds))
        if kind == "choice":
            n = draw(st.integers(1, 4))
            d = Decision(f"d{i}", "choice", tuple(range(n)), present=present)
        elif kind == "units":
            d = Decision(f"d{i}", "units", range(draw(st.integers(1, 4))), present=present)
        elif kind == "subset":
            n = draw(st.integers(1, 4))
            d = Decision(f"d{i}", "subset", tuple("abcd"[:n]), size=draw(st.integers(0, n)), present=present)
        else:
            items = draw(st.sampled_from(["a", "ab", "abc", "aab", "aabb", "abcd", "abac"]))
            d = Decision(f"d{i}", "order", tuple(items), present=present)
        total *= d.cardinality() + 1
        if total > 20_000:
            break
        made.append(d)
    return made


@st.composite
def numbers(draw: st.DrawFn, made: list[Decision], depth: int) -> Value:
    if depth and draw(st.booleans()):
        a, b = draw(numbers(made, depth - 1)), draw(numbers(made, depth - 1))
        kind = draw(st.sampled_from(["add", "mul", "if", "min", "max"]))
        if kind == "add":
            return add(a, b)
        if kind == "mul":
            return multiply(a, b)
        if kind == "if":
            return choose(draw(conditions(made, 0)), a, b)
        return apply(kind, a, b)
    d = draw(st.sampled_from(made))
    small = st.integers(-3, 3)
    if d.kind == "choice":
        return case(d.path, tuple(draw(st.lists(small, min_size=d.n, max_size=d.n))))
    if d.kind == "units":
        return Kept(d.path, d.n)
    if d.kind == "subset":
        return choose(Has(d.path, draw(st.integers(0, d.n - 1))), draw(small), draw(small))
    weights = {item: draw(small) for item in dict.fromkeys(d.items)}
    return Slot(d.path, draw(st.integers(0, d.n - 1)), tuple(weights[item] for item in d.items))


@st.composite
def conditions(draw: Any, made: list[Decision], depth: int) -> Value:
    kind = draw(st.sampled_from(["leaf", "leaf", "both", "either", "not", "compare"] if depth else ["leaf", "compare"]))
    if kind == "both":
        return both(draw(conditions(made, depth - 1)), draw(conditions(made, depth - 1)))
    if kind == "either":
        return either(draw(conditions(made, depth - 1)), draw(conditions(made, depth - 1)))
    if kind == "not":
        return negate(draw(conditions(made, depth - 1)))
    if kind == "compare":
        a, b = draw(numbers(made, depth)), draw(st.one_of(st.integers(-2, 4), numbers(made, 0)))
        return draw(st.sampled_from([less, at_most, equal]))(a, b)
    d = draw(st.sampled_from(made))
    if d.kind == "choice":
        return case(d.path, tuple(draw(st.lists(st.booleans(), min_size=d.n, max_size=d.n))))
    if d.kind == "units":
        return less(draw(st.integers(0, d.n)), Kept(d.path, d.n))
    if d.kind == "subset":
        return Has(d.path, draw(st.integers(0, d.n - 1)))
    item = draw(st.sampled_from(d.items))
    return Slot(d.path, draw(st.integers(0, d.n - 1)), tuple(other == item for other in d.items))


@st.composite
def graphs(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> Graph:
    made = draw(decisions(kinds))
    assume(made)
    return space(made, *draw(st.lists(conditions(made, 2), max_size=3)))


@st.composite
def measured(
    draw: st.DrawFn, measures: tuple[str, ...] = ("macs", "params"), kinds: tuple[str, ...] = KINDS
) -> tuple[Graph, dict[str, Value]]:
    """A space and costs, each a sum of terms that ask for nothing absent."""
    graph = draw(graphs(kinds))
    made = list(graph.decisions.values())
    costs: dict[str, Value] = {}
    for measure in measures:
        parts = draw(st.lists(numbers(made, 2), min_size=1, max_size=4))
        costs[measure] = add(
            *[choose(both(*_presence(graph, part)), part, 0) for part in parts], draw(st.integers(0, 9))
        )
    return graph, costs


def _presence(graph: Graph, value: Value) -> list[Value]:
    """Conditions under which all decisions that a value mentions are there."""
    return [graph.decisions[path].present for path in sorted(decisions_of(value))]


def cost_of(cost: Value, values: dict[str, Any]) -> int:
    """A cost of that kind, term by term."""
    parts = cost.args if isinstance(cost, Apply) and cost.function == "add" else (cost,)
    return sum(worth(part, values, 0) for part in parts)


# --- diagrams ---------------------------------------------------------------------------------------------------------

Row = frozenset[tuple[str, Any]]


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def known(graph: Graph, costs: dict[str, Value]) -> dict[Row, tuple[int, ...]]:
    """Every architecture and its costs, by enumeration."""
    everything = enumerate_all(graph)
    return {frozen(values): tuple(cost_of(cost, values) for cost in costs.values()) for values in everything}


def decoded(diagram: Diagram, matrix: Any) -> list[Row]:
    return list(map(frozen, diagram.encoding.decode(matrix)))


def even(seen: Counter[Row], everything: set[Row]) -> None:
    """Each is drawn, and as often as every other: chi-squared within five standard deviations."""
    assert set(seen) <= everything
    mean = seen.total() / len(everything)
    assert mean >= 20
    distance = sum((seen[row] - mean) ** 2 / mean for row in everything)
    free = len(everything) - 1
    assert distance <= free + 5 * math.sqrt(2 * free) + 5


def assignments(graph: Graph, row: Row) -> Fraction:
    """The odds of an architecture where decisions are drawn one after the other, before requirements are looked at."""
    return Fraction(1, math.prod(graph.decisions[path].cardinality() for path, _ in row))


def proportional(seen: Counter[Row], odds: Mapping[Row, Fraction]) -> None:
    """Each is drawn, if it is at all likely, and as often as its odds say: Pearson's statistic within five standard
    deviations of its own, which where counts are small exceed those of chi-squared."""
    assert set(seen) <= set(odds)
    total = sum(odds.values())
    means = {row: float(seen.total() * own / total) for row, own in odds.items()}
    assert all(seen[row] for row, mean in means.items() if mean >= 40)
    distance = sum((seen[row] - mean) ** 2 / mean for row, mean in means.items())
    free = len(odds) - 1
    variance = 2 * free + sum(1 / mean for mean in means.values())
    assert distance <= free + 5 * math.sqrt(variance) + 5


@st.composite
def windows(draw: st.DrawFn, costs: list[tuple[int, ...]]) -> Window:
    """Bounds around the costs of some architecture, so that there is something inside."""
    middle = draw(st.sampled_from(costs))
    near = st.one_of(st.none(), st.integers(0, 6))
    window = {}
    for measure, cost in zip(("macs", "params"), middle, strict=True):
        below, above = draw(near), draw(near)
        window[measure] = (None if below is None else cost - below, None if above is None else cost + above)
    return window


def within(window: Window, cost: tuple[int, ...]) -> bool:
    pairs = zip(window.values(), cost, strict=False)  # a window may leave out the last measures
    return all((low is None or low <= c) and (high is None or c <= high) for (low, high), c in pairs)
