"""A diagram under pins: random spaces against enumeration, those that ship against the same pins made in the graph."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.compiler.count import count
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.engine import conditioned
from nasdsl.compiler.engine.conditioned import Conditioned
from nasdsl.compiler.engine.diagram import Diagram, encoded
from nasdsl.compiler.engine.histogram import distribution
from nasdsl.compiler.engine.lattice import Bounds
from nasdsl.compiler.engine.limits import Infeasible
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pin import pin
from nasdsl.compiler.population import Population, extremes_of
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import ABSENT
from tests import shipped
from tests.enumeration import decoded, generator, known, measured
from tests.test_diagram import thorough


def met(row: frozenset[tuple[str, Any]], pins: dict[str, Any], narrowed: dict[str, tuple[int, ...]]) -> bool:
    values = dict(row)
    fixed = all(values[path] == value for path, value in pins.items() if path in values)
    return fixed and all(values[path] in options for path, options in narrowed.items() if path in values)


@thorough
@given(measured(), st.data())
def test_what_is_left_under_pins_agrees_with_enumeration(made: tuple[Graph, dict[str, Value]], data: Any) -> None:
    graph, costs = made
    everything = known(graph, costs)
    if not everything:
        return
    diagram = Diagram(graph, costs)
    base = Conditioned(diagram)
    for _ in range(3):  # of one base, which keeps what it found
        pins: dict[str, Any] = {}
        narrowed: dict[str, tuple[int, ...]] = {}
        for path, decision in graph.decisions.items():
            which = data.draw(st.sampled_from(["open", "open", "pin", "narrow"]))
            values = list(decision.values())
            if which == "pin":
                pins[path] = data.draw(st.sampled_from(values))
            elif which == "narrow" and decision.kind == "choice":
                narrowed[path] = tuple(data.draw(st.sets(st.sampled_from(values), min_size=1)))
        under = base.under(pins, narrowed)
        left = {row: cost for row, cost in everything.items() if met(row, pins, narrowed)}
        assert under.total == len(left)
        assert under.empty == (not left)
        window = _window(data, list(everything.values()))
        for path in graph.decisions:
            _holds_for_a_decision(under, path, everything, pins, narrowed, window)
        if not left:
            with pytest.raises(Infeasible):
                _ = under.diagram
            continue
        for column, name in enumerate(costs):
            values = sorted(cost[column] for cost in left.values())
            assert (under.least(name), under.greatest(name)) == (values[0], values[-1])
            spread = under.spread(name)
            assert spread is not None and spread.exact
            assert spread.mean == pytest.approx(sum(values) / len(values), abs=1e-9)
            assert spread.std == pytest.approx(float(np.std(values)), abs=1e-6)
            expected = Counter(values)
            assert dict(zip(spread.values.tolist(), (spread.shares * len(left)).round(6).tolist(), strict=True)) == {
                value: pytest.approx(number, abs=1e-5) for value, number in expected.items()
            }
        rows = decoded(under.diagram, under.diagram.matrix(under.diagram.draw(60, generator(0)), generator(1)))
        assert set(rows) <= set(left)
        assert under.diagram.total == len(left)


def _window(data: Any, costs: list[tuple[int, ...]]) -> Bounds:
    some = data.draw(st.sampled_from(costs))
    return Bounds((0,), (some[0] - data.draw(st.integers(0, 5)),), (some[0] + data.draw(st.integers(0, 5)),))


def _holds_for_a_decision(
    under: conditioned.Under,
    path: str,
    everything: dict[frozenset[tuple[str, Any]], tuple[int, ...]],
    pins: dict[str, Any],
    narrowed: dict[str, tuple[int, ...]],
    window: Bounds,
) -> None:
    """What each cell of a decision would leave, its own pin taken back."""
    others = {p: v for p, v in pins.items() if p != path}, {p: v for p, v in narrowed.items() if p != path}
    rows = {row: cost for row, cost in everything.items() if met(row, *others)}
    number = under.base.number[path]
    decision = under.base.diagram.network.variables[number].decision
    assert decision is not None
    inside = under.base.diagram.inside(number)
    seen: dict[int, list[tuple[int, ...]]] = {}
    for row, cost in rows.items():
        value = dict(row).get(path, ABSENT)
        block = encoded(decision, value, under.base.diagram.encoding.dtype)
        seen.setdefault(int(inside.locate(block[None])[0]), []).append(cost)
    found = under.ranges(path)
    possible = under.possible(found, window)
    for cell in range(len(under.cells(path))):
        costs = seen.get(cell, [])
        assert (found[cell, 0] == 0) == bool(costs)
        if costs:
            width = len(costs[0])
            assert found[cell, 1 : 1 + width].tolist() == [min(c[i] for c in costs) for i in range(width)]
            assert (-found[cell, 1 + width :]).tolist() == [max(c[i] for c in costs) for i in range(width)]
        firsts = [c[0] for c in costs]
        assert possible[cell] == (bool(costs) and min(firsts) <= window.high[0] and max(firsts) >= window.low[0])


@pytest.mark.parametrize("name", ["tiny", "trionet_small", "hitdetector_small", "darts", "nasbench201", "mlp"])
def test_a_space_that_ships_is_what_its_pinned_graph_is(name: str) -> None:
    graph = shipped.graph(name)
    population = Population(graph)
    base = Conditioned(population.diagram)
    rng = random.Random(0)
    pins: dict[str, Any] = {}
    for path in rng.sample(list(graph.decisions), 4):
        decision = graph.decisions[path]
        value: Any = rng.randrange(decision.n)
        if decision.kind == "units":
            value = tuple(range(value + 1))
        elif decision.kind == "subset":
            value = tuple(sorted(rng.sample(range(decision.n), decision.size)))
        if not base.under({**pins, path: value}).empty:
            pins[path] = value
    under = base.under(pins)
    pinned = pin(graph, pins)
    assert under.total == count(pinned).total
    for measure, (low, high) in extremes_of(pinned).items():
        assert (under.least(measure), under.greatest(measure)) == (low.cost, high.cost)
    assert base.under({}).total == population.total


@pytest.mark.parametrize("name", ["tiny", "trionet_small", "darts"])
def test_a_distribution_on_the_circle_is_that_on_the_lattice(name: str) -> None:
    population = Population(shipped.graph(name))
    found = Conditioned(population.diagram).under({}).spread("macs")
    expected = distribution(population.diagram, "macs")
    assert found is not None
    assert found.mean == pytest.approx(expected.mean) and found.std == pytest.approx(expected.std)
    for share in (0.01, 0.2, 0.5, 0.8, 0.99):
        assert abs(found.quantile(share) - expected.quantile(share)) <= 0.01 * expected.std


def test_costs_spread_wide_are_laid_around_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """A circle that does not hold all costs holds those that occur."""
    population = Population(shipped.graph("tiny"))
    monkeypatch.setattr(conditioned, "POINTS", 256)
    found = Conditioned(population.diagram).under({}).spread("macs")
    expected = distribution(population.diagram, "macs")
    assert found is not None and not found.exact and len(found.values) <= 256
    for share in (0.05, 0.5, 0.95):
        assert abs(found.quantile(share) - expected.quantile(share)) <= 0.15 * expected.std


def test_what_is_too_much_work_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Conditioned(Population(shipped.graph("trionet_small")).diagram)
    monkeypatch.setattr(conditioned, "MOST_WORK", 1)
    assert base.under({}).spread("macs") is None


def test_wrong_pins_are_refused() -> None:
    base = Conditioned(Population(shipped.graph("nasbench201")).diagram)
    with pytest.raises(ArgumentError, match="no decision `other`"):
        base.under({"other": 0})
    path = next(iter(base.number))
    with pytest.raises(ArgumentError, match="has options from 0 to 4"):
        base.under({path: 99})
