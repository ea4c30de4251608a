"""The layered diagram: small random spaces against enumeration, published ones against closed forms."""

from __future__ import annotations

import math
import os
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of as nasdsl_cost
from nasdsl.compiler.cost import total_cost
from nasdsl.compiler.count import count
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine import budget, histogram, lattice
from nasdsl.compiler.engine.budget import UnreadableBudget, Within, budget_windows
from nasdsl.compiler.engine.diagram import Diagram
from nasdsl.compiler.engine.histogram import count_within, distribution
from nasdsl.compiler.engine.lattice import Window
from nasdsl.compiler.engine.limits import Infeasible, TooWide
from nasdsl.compiler.extremes import greatest, least
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.values.expr import Value, add, at_most, both, either, equal, less, multiply, negate, terms
from nasdsl.compiler.values.tree import Case, Kept, Slot, Total, decisions_of
from tests.enumeration import (
    assignments,
    cost_of,
    decoded,
    enumerate_all,
    even,
    generator,
    known,
    measured,
    proportional,
    space,
    windows,
    within,
)
from tests.known_spaces import once_for_all, trionet

thorough = settings(
    max_examples=int(os.environ.get("NASDSL_EXAMPLES", "50")), deadline=None, suppress_health_check=list(HealthCheck)
)


@thorough
@given(measured())
def test_counts_costs_extremes_and_draws_agree_with_enumeration(made: tuple[Graph, dict[str, Value]]) -> None:
    graph, costs = made
    expected = known(graph, costs)
    if not expected:
        with pytest.raises(Infeasible):
            Diagram(graph, costs)
        return
    for widest in (1 << 16, 4):
        diagram = Diagram(graph, costs, widest)
        assert diagram.total == len(expected)
        n = min(40 * len(expected), 8000)
        paths = diagram.draw(n, generator(3))
        matrix = diagram.matrix(paths, generator(4))
        rows = decoded(diagram, matrix)
        assert [tuple(row) for row in diagram.costs(paths).tolist()] == [expected[row] for row in rows]
        assert (diagram.find(matrix) == paths).all()
        if n == 40 * len(expected):
            even(Counter(rows), set(expected))
        for i, measure in enumerate(costs):
            values = sorted(cost[i] for cost in expected.values())
            for find, extreme in ((diagram.least, values[0]), (diagram.greatest, values[-1])):
                cost, path = find(measure)
                assert cost == extreme == diagram.costs(path[None])[0, i]
            k = min(len(values), 300)
            cheapest, matrix = diagram.cheapest(k, measure)
            assert cheapest.tolist() == values[:k]
            assert [expected[row][i] for row in decoded(diagram, matrix)] == values[:k]
            assert len(set(decoded(diagram, matrix))) == k


@thorough
@given(measured())
def test_only_architectures_have_a_path(made: tuple[Graph, dict[str, Value]]) -> None:
    graph, costs = made
    expected = known(graph, costs)
    assume(expected)
    diagram = Diagram(graph, costs)
    loose = Diagram(Graph({}, graph.decisions, (), ()))
    matrix = loose.matrix(loose.draw(200, generator(0)), generator(1))
    paths = diagram.find(matrix)
    assert ((paths >= 0).all(axis=1) == [row in expected for row in decoded(loose, matrix)]).all()
    assert ((paths >= 0).all(axis=1) == (paths >= 0).any(axis=1)).all() or not diagram.size
    noise = generator(2).integers(-2, 5, matrix.shape).astype(matrix.dtype)
    for row, path in zip(noise, diagram.find(noise), strict=True):
        if diagram.size and (path >= 0).all():
            assert decoded(diagram, row[None])[0] in expected


def test_a_space_without_decisions() -> None:
    diagram = Diagram(space([]), {"macs": 7})
    assert diagram.total == 1
    paths = diagram.draw(3, generator(0))
    assert paths.shape == (3, 0)
    assert diagram.costs(paths).tolist() == [[7]] * 3
    assert diagram.matrix(paths).shape == (3, 0)
    assert diagram.least("macs")[0] == diagram.greatest("macs")[0] == 7
    assert diagram.cheapest(5, "macs")[0].tolist() == [7]
    with pytest.raises(Infeasible):
        Diagram(space([], False))


def test_a_stage_of_once_for_all_is_one_layer() -> None:
    graph, costs = once_for_all()
    diagram = Diagram(graph, costs)
    assert diagram.total == 7371**5 == 21_758_655_492_572_485_851
    assert [(len(layer), layer.before) for layer in diagram.layers] == [(7371, 1)] * 5
    assert all(diagram.costs(diagram.least(measure)[1][None])[0, 0] > 0 for measure in costs)


def test_trionet_is_counted_by_its_closed_form() -> None:
    diagram = Diagram(*trionet())
    b = 70
    stages = [b + b**2, b**2 + b**3, b**3 + b**4 + b**5 + b**6, b + b**2 + b**3]
    assert diagram.total == math.prod(stages)
    paths = diagram.draw(1000, generator(1))
    assert (diagram.find(diagram.matrix(paths)) == paths).all()


def test_units_by_the_thousand() -> None:
    """Blocks of which some unit must remain: the weights of arcs are far beyond floating point."""
    made, kept = [], []
    costs: dict[str, list[Value]] = {"macs": [], "params": []}
    for block in range(12):
        paths = [f"b{block}.{name}" for name in ("k3", "k5")]
        made += [Decision(path, "units", range(1152)) for path in paths]
        kept.append(either(*[less(0, Kept(path, 1152)) for path in paths]))
        costs["macs"] += [multiply(weight, Kept(path, 1152)) for path, weight in zip(paths, (9, 25), strict=True)]
        costs["params"] += [Kept(path, 1152) for path in paths]
    graph = space(made, *kept)
    diagram = Diagram(graph, {name: add(*terms) for name, terms in costs.items()})
    assert diagram.total == (2**2304 - 1) ** 12
    assert diagram.least("macs")[0] == 9 * 12
    assert diagram.greatest("macs")[0] == 12 * 34 * 1152
    drawn = diagram.draw(4000, generator(0))
    params = diagram.costs(drawn)[:, 1]
    assert abs(params.mean() - 12 * 1152) < 5 * math.sqrt(24 * 1152 / 4) / math.sqrt(4000)
    assert abs(params.var() / (24 * 1152 / 4) - 1) < 5 * math.sqrt(2 / 4000)
    matrix = diagram.matrix(drawn[:20], generator(1))
    assert (matrix.sum(axis=1) == params[:20]).all()
    assert (diagram.find(matrix) == drawn[:20]).all()
    cheapest, matrix = diagram.cheapest(100, "macs")
    assert cheapest.tolist() == [108] * 100
    assert len(np.unique(matrix, axis=0)) == 100


def test_seeds_give_the_same_draws_and_others_do_not() -> None:
    diagram = Diagram(*once_for_all())
    one, same, other = (diagram.draw(100, generator(seed)) for seed in (5, 5, 6))
    assert (one == same).all()
    assert (one != other).any()
    assert one[0].tolist() == [4944, 6422, 1402, 765, 7103]  # on every machine


def test_the_k_cheapest_of_a_large_space_come_in_order() -> None:
    graph, costs = once_for_all()
    diagram = Diagram(graph, costs)
    cheapest, matrix = diagram.cheapest(500, "macs")
    assert (np.diff(cheapest) >= 0).all()
    assert len(np.unique(matrix, axis=0)) == 500
    assert (diagram.costs(diagram.find(matrix))[:, 0] == cheapest).all()
    depths = [architecture.indices["stage1.depth"] for architecture in diagram.encoding.decode(matrix[:5])]
    assert depths == [0] * 5


def test_what_hangs_together_too_much_is_refused_by_name() -> None:
    made = [Decision(f"d{i}", "choice", tuple(range(40))) for i in range(8)]
    tangled = [equal(Case(f"d{i}", tuple(range(40))), Case(f"d{7 - i}", tuple(range(40)))) for i in range(4)]
    order = Decision("order", "order", tuple("abcdefghij"))
    wide = less(add(*[Slot("order", i, tuple(range(10))) for i in range(7)]), 20)
    with pytest.raises(TooWide) as caught:
        Diagram(space([order], wide))
    assert caught.value.paths == ("order",)
    assert Diagram(space(made, *tangled)).total == 40**4  # the order of elimination brings the pairs together


def test_costs_must_be_whole_numbers() -> None:
    graph = space([Decision("a", "choice", (1, 2))])
    with pytest.raises(ValueError, match="no whole number"):
        Diagram(graph, {"macs": Case("a", (1, 0.5))})
    with pytest.raises(ValueError, match="no measure"):
        Diagram(graph, {"macs": Case("a", (1, 2))}).least("params")


def test_values_left_open_need_a_generator() -> None:
    diagram = Diagram(space([Decision("u", "units", range(5))]), {"macs": Kept("u", 5)})
    with pytest.raises(ValueError, match="`u`"):
        diagram.matrix(diagram.draw(3, generator(0)))


def test_a_path_decodes_to_an_architecture() -> None:
    graph, costs = once_for_all()
    diagram = Diagram(graph, costs)
    cost, path = diagram.least("macs")
    (architecture,) = diagram.encoding.decode(diagram.matrix(path[None]))
    assert architecture == Architecture.of(graph, dict(architecture))
    assert cost_of(costs["macs"], dict(architecture.indices)) == cost


# --- distributions ----------------------------------------------------------------------------------------------------


@thorough
@given(measured())
def test_distributions_agree_with_enumeration(made: tuple[Graph, dict[str, Value]]) -> None:
    graph, costs = made
    expected = known(graph, costs)
    assume(expected)
    diagram = Diagram(graph, costs)
    for i, measure in enumerate(costs):
        values = np.array([cost[i] for cost in expected.values()])
        found = distribution(diagram, measure)
        assert found.exact and found.error == 0
        counts = Counter(values.tolist())
        assert found.values.tolist() == sorted(counts)
        assert [found.count(j) for j in range(len(found.values))] == [counts[value] for value in sorted(counts)]
        assert (found.least, found.greatest) == (values.min(), values.max())
        assert found.mean == pytest.approx(values.mean(), abs=1e-9)
        assert found.std == pytest.approx(values.std(), abs=1e-6)
        for share in (0.0, 0.1, 0.5, 0.9, 1.0):
            assert found.quantile(share) == np.quantile(values, share, method="inverted_cdf")
        for cost in range(values.min() - 1, values.max() + 2):
            assert found.share_at_most(cost) == pytest.approx((values <= cost).mean())
        edges, shares = found.histogram(3)
        assert len(edges) == 4 and shares.sum() == pytest.approx(1)


@thorough
@given(measured(), st.data())
def test_counts_within_windows_agree_with_enumeration(
    made: tuple[Graph, dict[str, Value]], data: st.DataObject
) -> None:
    graph, costs = made
    expected = known(graph, costs)
    assume(expected)
    diagram = Diagram(graph, costs)
    window = data.draw(windows(list(expected.values())))
    inside = [cost for cost in expected.values() if within(window, cost)]
    for listed in (histogram.LISTED, 0):  # one by one, and on a lattice
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(histogram, "LISTED", listed)
            try:
                found = count_within(diagram, window)
            except Infeasible:
                assert not inside
                continue
        assert found.exact
        assert found.number == len(inside)
        assert found.share == pytest.approx(len(inside) / len(expected))


def test_the_distribution_of_two_stages_is_that_of_a_sum() -> None:
    graph, costs = once_for_all()
    stages = []
    for stage in ("stage1", "stage2"):
        made = [d for path, d in graph.decisions.items() if path.startswith(stage) and "[3]" not in path]
        mine = {d.path for d in made}
        parts = [part for part in terms(costs["macs"]) if len(decisions_of(part)) > 0 and decisions_of(part) <= mine]
        stages.append((made, add(*parts)))
    found = distribution(
        Diagram(space([*stages[0][0], *stages[1][0]]), {"macs": add(*[cost for _, cost in stages])}), "macs"
    )
    sums = [np.array([cost_of(cost, values) for values in enumerate_all(space(made))]) for made, cost in stages]
    values, counts = np.unique(np.add.outer(*sums), return_counts=True)
    assert found.values.tolist() == values.tolist()
    assert [found.count(i) for i in range(len(values))] == counts.tolist()


def test_the_distribution_of_a_large_space_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    diagram = Diagram(*once_for_all())
    found = distribution(diagram, "macs")
    assert found.exact
    assert sum(found.count(i) for i in range(len(found.values))) == diagram.total
    third = int(found.quantile(0.3))
    tally = count_within(diagram, {"macs": (None, third)})
    assert tally.exact
    below = [found.count(i) for i in range(int(np.searchsorted(found.values, third, side="right")))]
    assert tally.number == sum(below)

    monkeypatch.setattr(lattice, "MOST_POINTS", 10_000)
    rounded = distribution(diagram, "macs")
    assert not rounded.exact and 0 < rounded.error < 0.01 * (found.greatest - found.least)
    assert (rounded.mean, rounded.std) == (found.mean, found.std)
    assert rounded.shares.sum() == pytest.approx(1)
    for share in (0.001, 0.01, 0.5, 0.9, 1.0):
        cost = found.quantile(share)
        assert rounded.share_at_most(cost - rounded.error) <= found.share_at_most(cost) + 1e-12
        assert rounded.share_at_most(cost) == pytest.approx(found.share_at_most(cost), abs=0.003)
        assert rounded.share_at_most(cost + rounded.error) >= found.share_at_most(cost) - 1e-12
    fewer = count_within(diagram, {"macs": (found.quantile(0.1), third)})
    assert not fewer.exact
    inside = found.share_at_most(third) - found.share_at_most(found.quantile(0.1) - 1)
    assert 0.95 * inside < fewer.share <= inside


# --- budgets ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["tables", "blocks", "scan", "tilted"])
def sampler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way to draw inside a window, also where it would not be chosen."""
    if request.param == "blocks":
        monkeypatch.setattr(budget, "work", lambda groups: len(groups) ** 3)
    monkeypatch.setattr(budget, "FEW", 1 << 30 if request.param == "scan" else 0)
    if request.param == "tilted":
        monkeypatch.setattr(lattice, "FAR", 0.01)
    return str(request.param)


@settings(thorough, max_examples=20)
@given(measured(), st.data())
def test_hierarchical_draws_inside_a_window_take_decision_by_decision(
    sampler: str, made: tuple[Graph, dict[str, Value]], data: st.DataObject
) -> None:
    graph, costs = made
    expected = known(graph, costs)
    assume(expected)
    odds = {row: assignments(graph, row) for row in expected}
    window = data.draw(windows(list(expected.values())))
    inside = {row: own for row, own in odds.items() if within(window, expected[row])}
    values = math.prod(decision.cardinality() for decision in graph.decisions.values())
    for widest in (1 << 16, 4):
        diagram = Diagram(graph, costs, widest, hierarchical=True)
        assert diagram.total == values * sum(odds.values())
        found = Within(diagram, window)
        assert found.share == pytest.approx(float(sum(inside.values()) / sum(odds.values())))
        for source, chances in ((diagram, odds), (found, inside)):
            paths = source.draw(min(40 * len(chances), 5000), generator(5))
            assert (diagram.costs(paths) == Diagram(graph, costs, widest).costs(paths)).all()
            proportional(Counter(decoded(diagram, diagram.matrix(paths, generator(6)))), chances)


@settings(thorough, max_examples=20)
@given(measured(), st.data())
def test_draws_inside_a_window_are_uniform(
    sampler: str, made: tuple[Graph, dict[str, Value]], data: st.DataObject
) -> None:
    graph, costs = made
    expected = known(graph, costs)
    assume(expected)
    window = data.draw(windows(list(expected.values())))
    if data.draw(st.booleans()):
        window = {"macs": window["macs"]}
    inside = {row for row, cost in expected.items() if within(window, cost)}
    for widest in (1 << 16, 4):
        diagram = Diagram(graph, costs, widest)
        found = Within(diagram, window)
        assert found.exact and found.covered == 1
        assert found.share == pytest.approx(len(inside) / len(expected))
        assert found.count.number == pytest.approx(len(inside))
        paths = found.draw(min(40 * len(inside), 5000), generator(5))
        drawn = Counter(decoded(diagram, diagram.matrix(paths, generator(6))))
        assert set(drawn) <= inside
        if drawn.total() == 40 * len(inside):
            even(drawn, inside)


def test_an_empty_window_is_infeasible() -> None:
    diagram = Diagram(*once_for_all())
    least, greatest = diagram.least("macs")[0], diagram.greatest("macs")[0]
    for window in ({"macs": (None, least - 1)}, {"macs": (greatest + 1, None)}, {"macs": (2e8, 1e8)}):
        with pytest.raises(Infeasible, match=f"{least:,}"):
            Within(diagram, window)
    only = Within(diagram, {"macs": (None, least)})
    assert only.count.number == 1
    assert (only.draw(5, generator(0)) == diagram.least("macs")[1]).all()
    with pytest.raises(Infeasible, match="the least of each measure"):
        Within(diagram, {"macs": (None, least), "params": (diagram.greatest("params")[0], None)})
    with pytest.raises(ValueError, match="no measure"):
        Within(diagram, {"latency": (None, 3)})
    assert Within(diagram, {}).count.number == diagram.total


@pytest.mark.parametrize("window", [{"macs": (None, 290e6)}, {"macs": (300e6, 301e6)}, {"macs": (450e6, None)}])
def test_draws_inside_a_budget_of_a_large_space(window: Window) -> None:
    diagram = Diagram(*once_for_all())
    found = Within(diagram, window)
    paths = found.draw(20_000, generator(1))
    macs = diagram.costs(paths)[:, 0]
    low, high = window["macs"]
    assert (low is None or macs.min() >= low) and (high is None or macs.max() <= high)
    # The distribution inside is that of the whole space, cut off.
    whole = distribution(diagram, "macs")
    inside = (whole.values >= (low or 0)) & (whole.values <= (high or math.inf))
    values, shares = whole.values[inside], whole.shares[inside] / whole.shares[inside].sum()
    assert found.share == pytest.approx(whole.shares[inside].sum())
    reached = np.searchsorted(np.sort(macs), values, side="right") / len(macs)
    assert np.abs(reached - np.cumsum(shares)).max() < 2.2 / math.sqrt(len(macs))  # Kolmogorov and Smirnov, 1e-4


def test_rounded_costs_keep_draws_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_KEPT", 1 << 19)
    diagram = Diagram(*trionet())
    for window in ({"macs": (None, 7e8)}, {"macs": (7e8, 8e8)}, {"macs": (None, 8e8), "params": (None, 4e6)}):
        found = Within(diagram, window)
        assert not found.exact and 0 < found.covered < 1
        costs = diagram.costs(found.draw(2000, generator(2)))
        for column, (low, high) in enumerate(window.values()):
            assert costs[:, column].max() <= high
            assert low is None or costs[:, column].min() >= low


def test_a_budget_in_the_far_tail() -> None:
    """Of 2^4000 architectures those with at most 100 units kept: shares far below floating point."""
    made = [Decision(f"u{i}", "units", range(400)) for i in range(10)]
    diagram = Diagram(space(made), {"macs": add(*[multiply(7, Kept(d.path, 400)) for d in made])})
    found = Within(diagram, {"macs": (None, 700)})
    exactly = sum(math.comb(4000, k) for k in range(101))
    assert found.share == 0
    assert found.count.number / exactly == pytest.approx(1, rel=1e-6)
    kept = diagram.costs(found.draw(5000, generator(0)))[:, 0] // 7
    assert kept.max() == 100
    expected = sum(k * math.comb(4000, k) for k in range(101)) / exactly
    assert kept.mean() == pytest.approx(expected, abs=5 * kept.std() / math.sqrt(5000))
    most = Within(diagram, {"macs": (7 * 3900, None)})
    assert most.count.number / exactly == pytest.approx(1, rel=1e-6)
    assert diagram.costs(most.draw(100, generator(0)))[:, 0].min() == 7 * 3900


def budget_of(*conditions: Value) -> Graph:
    requirements = tuple(Requirement(c, f"budget {i}", "budget") for i, c in enumerate(conditions))
    return Graph({}, {"a": Decision("a", "choice", (1, 2))}, requirements, ())


def test_budgets_are_read_as_windows() -> None:
    macs, params = Total("macs"), Total("params")
    flops = multiply(2, macs)
    assert budget_windows(budget_of()) == {}
    assert budget_windows(budget_of(at_most(macs, 600), less(params, 50))) == {
        "macs": (None, 600),
        "params": (None, 49),
    }
    assert budget_windows(budget_of(at_most(flops, 601))) == {"macs": (None, 300)}
    assert budget_windows(budget_of(at_most(300, macs), at_most(macs, 600))) == {"macs": (300, 600)}
    assert budget_windows(budget_of(both(less(300, macs), less(macs, 600)))) == {"macs": (301, 599)}
    assert budget_windows(budget_of(negate(less(macs, 300)))) == {"macs": (300, None)}
    assert budget_windows(budget_of(at_most(add(macs, 5), Fraction(21, 2)))) == {"macs": (None, 5)}
    assert budget_windows(budget_of(equal(macs, 7))) == {"macs": (7, 7)}
    assert budget_windows(budget_of(at_most(Total("flops"), 7))) == {"macs": (None, 3)}
    assert budget_windows(budget_of(at_most(-600, multiply(-1, macs)))) == {"macs": (None, 600)}
    for unreadable in (
        at_most(Total("latency"), 5),
        at_most(add(macs, params), 5),
        at_most(multiply(macs, macs), 5),
        either(at_most(macs, 5), at_most(params, 5)),
        both(at_most(macs, 5), Case("a", (True, False))),
        at_most(macs, Case("a", (5, 6))),
    ):
        with pytest.raises(UnreadableBudget, match="budget 0"):
            budget_windows(budget_of(unreadable))


def test_rounding_is_fine_where_nearly_all_cost_about_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the costs of many units only a small part occurs: the lattice is laid over that."""
    made = [Decision(f"u{i}", "units", range(200)) for i in range(10)]
    weights = (9, 25, 49, 81, 121) * 2
    macs = add(*[multiply(weight, Kept(d.path, 200)) for d, weight in zip(made, weights, strict=True)])
    diagram = Diagram(space(made), {"macs": macs})
    exact = distribution(diagram, "macs")
    assert exact.exact
    low, middle, high = (exact.quantile(share) for share in (0.01, 0.5, 0.99))
    mean, std = sum(weights) * 100, math.sqrt(sum(w * w for w in weights) * 50)
    assert exact.mean == pytest.approx(mean)
    assert exact.std == pytest.approx(std)
    bounds = ((None, low), (low, middle), (high, None))
    shares = [count_within(diagram, {"macs": bound}).share for bound in bounds]

    monkeypatch.setattr(lattice, "MOST_POINTS", 10_000)
    monkeypatch.setattr(budget, "MOST_KEPT", 50_000)
    rounded = distribution(diagram, "macs")
    assert not rounded.exact and rounded.shares.sum() == pytest.approx(1)
    for share, cost in ((0.01, low), (0.5, middle), (0.99, high)):
        assert rounded.share_at_most(cost) == pytest.approx(share, abs=0.002)
    for bound, share in zip(bounds, shares, strict=True):
        assert count_within(diagram, {"macs": bound}).share == pytest.approx(share, rel=0.02)
        found = Within(diagram, {"macs": bound})
        assert 0.5 < found.covered <= found.share / share * 1.001 <= 1.001
        drawn = diagram.costs(found.draw(4000, generator(7)))[:, 0]
        assert (bound[0] or 0) <= drawn.min() and drawn.max() <= (bound[1] or math.inf)
        inside = (exact.values >= (bound[0] or 0)) & (exact.values <= (bound[1] or math.inf))
        expected = np.average(exact.values[inside], weights=exact.shares[inside])
        assert drawn.mean() == pytest.approx(expected, abs=5 * drawn.std() / math.sqrt(4000) + found.error)
    far = Within(diagram, {"macs": (None, int(mean - 22 * std))})
    assert far.diagram.costs(far.draw(1000, generator(8)))[:, 0].max() <= mean - 22 * std
    assert far.covered > 0.01


@pytest.mark.parametrize("name", ["hrnas_small", "nasbench201", "ofa_mobilenetv3", "tiny", "trionet"])
def test_shipped_spaces_agree_with_elimination(name: str) -> None:
    graph = nasdsl.load(Path(__file__).parents[1] / "spaces" / f"{name}.space").graph
    cost = total_cost(graph)
    costs = {"macs": cost.macs, "params": cost.params}
    diagram = Diagram(graph, costs)
    assert diagram.total == count(graph).total
    for measure, value in costs.items():
        assert diagram.least(measure)[0] == least(graph, value)[0]
        assert diagram.greatest(measure)[0] == greatest(graph, value)[0]
    paths = diagram.draw(20, generator(0))
    matrix = diagram.matrix(paths, generator(1))
    assert (diagram.find(matrix) == paths).all()
    for row, (macs, params) in zip(diagram.encoding.decode(matrix), diagram.costs(paths).tolist(), strict=True):
        assert Architecture.of(graph, dict(row)) == row
        assert nasdsl_cost(graph, row.indices) == {"macs": macs, "params": params}
