"""Monotone of costs against the values of all architectures, and tangled costs that only rise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.monotone import Monotone
from nasdsl.compiler.extremes import greatest, least
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.values.expr import Value, add, both, choose, less, multiply
from nasdsl.compiler.values.tree import Case
from tests.enumeration import conditions, cost_of, decisions, enumerate_all, meaning, numbers, space

thorough = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@thorough
@given(st.data())
def test_directions_hold_whatever_else_is_chosen(data: st.DataObject) -> None:
    made = [Decision(d.path, d.kind, d.items, size=d.size) for d in data.draw(decisions())]  # all of them always there
    assume(made)
    value = data.draw(numbers(made, 3))
    if data.draw(st.booleans()):
        value = choose(data.draw(conditions(made, 1)), value, 0)
    directions = Monotone()
    everything = enumerate_all(space(made))
    for d in made:
        if d.kind not in ("choice", "units"):
            continue
        sign = directions.of(value, d.path, d.n if d.kind == "choice" else 0)
        if sign is None:
            continue
        columns: dict[Any, dict[int, int]] = {}
        for values in everything:
            rest = frozenset((path, v) for path, v in values.items() if path != d.path)
            place = values[d.path] if d.kind == "choice" else len(values[d.path])
            columns.setdefault(rest, {})[place] = meaning(value, values)
        for column in columns.values():
            for a, b in pairwise(column[place] for place in sorted(column)):
                assert (b - a) * sign >= 0 if sign else a == b


@thorough
@given(st.data())
def test_extremes_of_products_agree_with_enumeration(data: st.DataObject) -> None:
    """Costs as networks have them: products of widths, there under conditions on depths."""
    paths = [f"d{i}" for i in range(4)]
    width = st.lists(st.integers(0, 5), min_size=3, max_size=3).map(sorted)
    cases = {path: Case(path, tuple(data.draw(width))) for path in paths}
    present = both(less(0, cases["d0"])) if data.draw(st.booleans()) else True
    made = [Decision(path, "choice", (0, 1, 2), present=present if path == "d3" else True) for path in paths]
    terms: list[Value] = []
    for _ in range(data.draw(st.integers(1, 5))):
        factors = [cases[path] for path in data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=3))]
        term = multiply(data.draw(st.integers(-1, 3)), *factors)
        there = less(data.draw(st.integers(0, 3)), cases[data.draw(st.sampled_from(paths))])
        terms.append(choose(there, term, 0) if data.draw(st.booleans()) else term)
    graph, cost = space(made, *data.draw(st.lists(conditions(made[:3], 1), max_size=1))), add(*terms)
    costs = [cost_of(cost, values) for values in enumerate_all(graph)]
    assume(costs)
    assert least(graph, cost)[0] == min(costs)
    assert greatest(graph, cost)[0] == max(costs)


def test_widths_that_all_meet_have_their_extremes_at_once() -> None:
    """A product of every two of forty widths: too tangled for tables, but more always costs more."""
    widths = tuple(range(8, 136, 8))
    cases = [Case(f"w{i}", widths) for i in range(40)]
    cost = add(*[multiply(a, b) for i, a in enumerate(cases) for b in cases[:i]])
    made = [Decision(f"w{i}", "choice", widths) for i in range(40)]
    graph = Graph({}, {d.path: d for d in made}, (), ())
    for extreme, option in ((least, 0), (greatest, 15)):
        found, values = extreme(graph, cost)
        assert found == 40 * 39 // 2 * widths[option] ** 2
        assert dict(values.indices) == dict.fromkeys(graph.decisions, option)
