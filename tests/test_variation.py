"""Mutation and crossover on whole arrays: small random spaces against enumeration, published ones inside budgets."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.budget import Within
from nasdsl.compiler.engine.diagram import Diagram
from nasdsl.compiler.engine.histogram import distribution
from nasdsl.compiler.engine.lattice import Window
from nasdsl.compiler.engine.variation import Variation
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.values.expr import Value, add, choose, equal, less, multiply
from nasdsl.compiler.values.tree import Case, Has, Kept, Slot
from tests.enumeration import (
    Row,
    cost_of,
    decoded,
    enumerate_all,
    even,
    frozen,
    generator,
    known,
    measured,
    space,
    windows,
    within,
)
from tests.known_spaces import once_for_all, option, trionet

thorough = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(params=["lists", "all"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With sorted lists where there are such, and by looking at all that comes into question."""
    if request.param == "all":
        monkeypatch.setattr(Variation, "_open_below", property(lambda self: False))
    return str(request.param)


@thorough
@given(measured(), st.data())
def test_mutants_stay_inside(path: str, made: tuple[Graph, dict[str, Value]], data: st.DataObject) -> None:
    graph, costs = made
    expected = known(graph, costs)
    assume(1 < len(expected) < 3000)
    window: Window = data.draw(st.one_of(st.just({}), windows(list(expected.values()))))
    if data.draw(st.booleans()):
        window = {name: bound for name, bound in window.items() if name == "macs"}
    if data.draw(st.booleans()):
        window = {name: (None, high) for name, (_, high) in window.items()}
    inside = {row for row, cost in expected.items() if within(window, cost)}
    for widest in (1 << 16, 3):
        diagram = Diagram(graph, costs, widest)
        found = Within(diagram, window)
        matrix = diagram.matrix(found.draw(400, generator(1)), generator(2))
        variation = Variation(diagram, found)
        mutants, decision = variation.mutate_matrix(matrix, generator(3))
        names = list(graph.decisions)
        for old, new, changed in zip(
            decoded(diagram, matrix), decoded(diagram, mutants), decision.tolist(), strict=True
        ):
            assert new in inside
            before, after = dict(old), dict(new)
            if changed < 0:
                assert new == old
                assert not any(near(before, dict(other)) for other in inside)
            else:
                assert before[names[changed]] != after[names[changed]]
        if not window:
            assert (decision >= 0).all()
        child = variation.crossover_matrix(matrix, mutants, generator(4))
        for mother, father, new in zip(*(decoded(diagram, m) for m in (matrix, mutants, child)), strict=True):
            assert new in inside
            values = [dict(mother), dict(father)]
            assert all(value in [parent.get(name) for parent in values] for name, value in dict(new).items())


def near(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two architectures have the same decisions, and differ in one of them."""
    return a.keys() == b.keys() and sum(a[name] != b[name] for name in a) == 1


@thorough
@given(measured())
def test_mutation_reaches_everything(made: tuple[Graph, dict[str, Value]]) -> None:
    graph, costs = made
    expected = set(map(frozen, enumerate_all(graph)))
    assume(1 < len(expected) <= 60)
    diagram = Diagram(graph, costs)
    variation = Variation(diagram)
    start = diagram.matrix(diagram.draw(1, generator(0)), generator(1))
    reached = {decoded(diagram, start)[0]: start[0]}
    rng = generator(2)
    new = [start[0]]
    while new:
        mutants, _ = variation.mutate_matrix(np.repeat(np.array(new), 60 * len(graph.decisions), axis=0), rng)
        rows, first = np.unique(mutants, axis=0, return_index=True)
        found = dict(zip(decoded(diagram, rows), rows, strict=True))
        new = [row for key, row in found.items() if key not in reached]
        reached.update(found)
        assert len(first)
    assert set(reached) == expected


@st.composite
def independent(draw: st.DrawFn) -> tuple[list[Decision], dict[str, Value]]:
    """Decisions of all kinds that are always there, none of which asks anything of another."""
    made: list[Decision] = []
    costs: dict[str, Value] = {}
    for i in range(draw(st.integers(1, 4))):
        path, kind = f"d{i}", draw(st.sampled_from(["choice", "choice", "units", "subset", "order"]))
        small = st.integers(0, 4)
        if kind == "choice":
            values = tuple(draw(st.lists(small, min_size=2, max_size=4)))
            made.append(Decision(path, "choice", tuple(range(len(values)))))
            costs[path] = Case(path, values)
        elif kind == "units":
            made.append(Decision(path, "units", range(draw(st.integers(1, 3)))))
            costs[path] = multiply(draw(small), Kept(path, made[-1].n))
        elif kind == "subset":
            made.append(Decision(path, "subset", tuple("abcd"), size=2))
            costs[path] = choose(Has(path, 0), draw(small), draw(small))
        else:
            made.append(Decision(path, "order", tuple("aab")))
            costs[path] = Slot(path, 0, (1, 1, draw(small)))
    return made, costs


@thorough
@given(independent(), st.integers(0, 8), st.data())
def test_each_decision_and_each_value_that_fits_is_as_likely(
    path: str, made: tuple[list[Decision], dict[str, Value]], room: int, data: st.DataObject
) -> None:
    decisions, costs = made
    graph, cost = space(decisions), add(*costs.values())
    everything = enumerate_all(graph)
    parent = data.draw(st.sampled_from(everything))
    high = cost_of(cost, parent) + room
    expected: dict[Row, float] = {}
    able = {}
    for d in decisions:
        others = [{**parent, d.path: value} for value in d.values() if value != parent[d.path]]
        able[d.path] = [other for other in others if cost_of(cost, other) <= high]
    changeable = [others for others in able.values() if others]
    for others in changeable:
        for other in others:
            expected[frozen(other)] = 1 / len(changeable) / len(others)
    diagram = Diagram(graph, {"macs": cost}, data.draw(st.sampled_from([1 << 16, 4])))
    matrix = diagram.encoding.encode([parent] * 4000)
    variation = Variation(diagram, Within(diagram, {"macs": (None, high)}))
    mutants, decision = variation.mutate_matrix(matrix, generator(data.draw(st.integers(0, 9))))
    if not expected:
        assert (decision == -1).all() and (mutants == matrix).all()
        return
    seen = Counter(decoded(diagram, mutants))
    assert set(seen) <= set(expected)
    distance = sum((seen[row] - 4000 * share) ** 2 / (4000 * share) for row, share in expected.items())
    free = len(expected) - 1
    assert distance <= free + 5 * math.sqrt(2 * free) + 10


def test_what_a_change_brings_into_being_is_drawn_uniformly() -> None:
    made = [Decision("depth", "choice", (1, 2, 3))]
    for i in range(3):
        present: Value = True if i == 0 else option("depth", 3, *range(i, 3))
        made.append(Decision(f"k{i}", "choice", (3, 5, 7, 9), present=present))
    diagram = Diagram(space(made))
    parent = {"depth": 0, "k0": 2}
    mutants, decision = Variation(diagram).mutate_matrix(diagram.encoding.encode([parent] * 20_000), generator(0))
    rows = [dict(row) for row in decoded(diagram, mutants[decision == 0])]
    assert abs(len(rows) - 10_000) < 400
    assert all(row["k0"] == 2 for row in rows)
    for depth, alternatives in ((1, 4), (2, 16)):
        mine = Counter(frozen(row) for row in rows if row["depth"] == depth)
        assert len(mine) == alternatives
        assert abs(mine.total() - 5000) < 300
        even(mine, set(mine))


def test_a_change_that_a_requirement_hands_on() -> None:
    made = [Decision(name, "choice", (0, 1, 2)) for name in "abc"]
    cases = [Case(name, (0, 1, 2)) for name in "abc"]
    diagram = Diagram(space(made, equal(cases[0], cases[2])), widest=3)
    matrix = diagram.encoding.encode([{"a": 1, "b": 2, "c": 1}] * 500)
    mutants, _ = Variation(diagram).mutate_matrix(matrix, generator(0))
    seen = Counter(tuple(row) for row in mutants.tolist())
    assert set(seen) == {(1, 0, 1), (1, 1, 1), (0, 2, 0), (2, 2, 2)}


@pytest.mark.parametrize(
    ("build", "shares"), [(once_for_all, (None, 0.01)), (once_for_all, (0.4, 0.41)), (trionet, (None, 0.01))]
)
def test_populations_of_large_spaces_stay_inside(build: Any, shares: tuple[float | None, float]) -> None:
    diagram = Diagram(*build())
    macs = distribution(diagram, "macs")
    low, high = (None if share is None else macs.quantile(share) for share in shares)
    window = Within(diagram, {"macs": (low, high)})
    variation = Variation(diagram, window)
    rng = generator(0)
    paths = window.draw(1000, rng)
    for _ in range(4):
        mutants = variation.mutate(paths, rng)
        assert mutants.changed.all() if low is None else mutants.changed.mean() > 0.5  # a narrow one holds some fast
        assert ((mutants.paths != paths).any(axis=1) == mutants.changed).all()
        child, taken = variation.crossover(mutants.paths, paths, rng)
        assert taken.any() and not taken.all()
        for family in (mutants.paths, child):
            costs = diagram.costs(family)[:, 0]
            assert costs.max() <= high and (low is None or costs.min() >= low)
            assert (diagram.find(diagram.matrix(family)) == family).all()
        paths = child


def test_one_change_is_one_decision() -> None:
    graph, costs = once_for_all()
    diagram = Diagram(graph, costs)
    matrix = diagram.matrix(diagram.draw(2000, generator(0)))
    mutants, decision = Variation(diagram).mutate_matrix(matrix, generator(1))
    differ = mutants != matrix
    kernel = ~np.isin(decision, [list(graph.decisions).index(f"stage{s}.depth") for s in range(1, 6)])
    assert (differ[kernel].sum(axis=1) == 1).all()
    assert differ[np.arange(2000), decision].all()
    # Each decision that is there is as likely: 5 depths, and two for each of 10 to 20 blocks.
    share = (matrix[~kernel] >= 0).sum(axis=1)
    assert abs((~kernel).mean() - (5 / (matrix >= 0).sum(axis=1)).mean()) < 0.02
    assert share.min() >= 25


def test_many_units_under_a_tight_budget() -> None:
    """Values of units number 2^300 here; those that fit are a vanishing part of them."""
    made = [Decision(f"u{i}", "units", range(300)) for i in range(4)]
    some = [less(0, Kept(d.path, 300)) for d in made]
    diagram = Diagram(space(made, *some), {"macs": add(*[Kept(d.path, 300) for d in made])})
    window = Within(diagram, {"macs": (None, 40)})
    rng = generator(0)
    paths = window.draw(500, rng)
    variation = Variation(diagram, window)
    for _ in range(5):
        matrix = diagram.matrix(paths, rng)
        mutants, decision = variation.mutate_matrix(matrix, rng)
        assert (decision >= 0).all()
        changed = (mutants != matrix).reshape(500, 4, 300).any(axis=2)
        assert (changed.sum(axis=1) == 1).all()
        assert changed[np.arange(500), decision].all()
        assert (mutants.sum(axis=1) <= 40).all() and mutants.reshape(500, 4, 300).any(axis=2).all()
        paths = diagram.find(mutants)


def test_parents_must_be_architectures() -> None:
    diagram = Diagram(*once_for_all())
    matrix = diagram.matrix(diagram.draw(3, generator(0)))
    matrix[1, 1] = 7
    with pytest.raises(ValueError, match="row 1"):
        Variation(diagram).mutate_matrix(matrix, generator(0))
    paths = diagram.draw(3, generator(0))
    with pytest.raises(ValueError, match="3 first parents and 2"):
        Variation(diagram).crossover(paths, paths[:2], generator(0))


def test_a_space_of_one_architecture_stays_as_it_is() -> None:
    diagram = Diagram(space([Decision("a", "choice", (1,))]), {"macs": Case("a", (3,))})
    mutants = Variation(diagram).mutate(diagram.draw(3, generator(0)), generator(0))
    assert not mutants.changed.any()
    empty = Diagram(space([]), {"macs": 3})
    for variation in (Variation(empty), Variation(empty, Within(empty, {"macs": (None, 3)}))):
        assert not variation.mutate(empty.draw(3, generator(0)), generator(0)).changed.any()
        assert variation.crossover(empty.draw(3, generator(0)), empty.draw(3, generator(0)), generator(0))[0].shape == (
            3,
            0,
        )
