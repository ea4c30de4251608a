"""Counting, extremes, proofs and draws: small random spaces against enumeration, large ones against closed forms."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.count import brief, count, decimal, scientific
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine import factors
from nasdsl.compiler.engine.limits import Infeasible, TooWide
from nasdsl.compiler.extremes import conflict, counterexample, feasible, greatest, least
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.pin import pin
from nasdsl.compiler.sample import Numbering, rank, sample, unrank
from nasdsl.compiler.values.expr import Value, add, at_most, both, choose, either, equal, less, multiply, negate
from nasdsl.compiler.values.tree import Among, Case, Has, Kept, Slot, apply, decisions_of
from tests.enumeration import Missing, conditions, enumerate_all, frozen, graphs, meaning, numbers, space, worth


@pytest.fixture(params=[2, 128], ids=["split", "direct"], autouse=True, scope="module")
def direct(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything once with tables as they are, once with all that can be split into intermediates."""
    before, factors.DIRECT = factors.DIRECT, request.param
    yield
    factors.DIRECT = before


thorough = settings(
    max_examples=int(os.environ.get("NASDSL_EXAMPLES", "60")), deadline=None, suppress_health_check=list(HealthCheck)
)


@thorough
@given(graphs())
def test_count_and_feasibility_agree_with_enumeration(graph: Graph) -> None:
    everything = enumerate_all(graph)
    found = count(graph)
    assert found.total == len(everything)
    if found.total:
        assert math.prod(f.total for f in found.factors) == found.total
        for factor in found.factors:
            assert factor.split is None or sum(number for _, number in factor.split.options) == factor.count
    witness = feasible(graph)
    assert (witness is None) == (not everything)
    if witness is not None:
        assert frozen(witness) in set(map(frozen, everything))
        assert witness.violations(graph) == ()


@thorough
@given(st.data())
def test_what_pinning_leaves_is_what_agrees(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    everything = enumerate_all(graph)
    assume(everything)
    conditions = [requirement.condition for requirement in graph.requirements]
    spoken = decisions_of((*conditions, *[decision.present for decision in graph.decisions.values()]))
    assume(all(graph.decisions[path].present is True for path in spoken))  # the others fold, present or not
    wanted = data.draw(st.sampled_from(everything))
    drawn = data.draw(st.lists(st.sampled_from(list(graph.decisions)))) if graph.decisions else []
    paths: set[str] = set(drawn)
    for path in reversed(list(graph.decisions)):  # with each all on which its presence hangs, which stand before it
        if path in paths:
            paths |= decisions_of(graph.decisions[path].present)
    values = {path: value for path, value in wanted.items() if path in paths}
    left = [one for one in everything if {path: one[path] for path in one if path in paths} == values]
    pinned = pin(graph, values)
    rest = [{path: value for path, value in one.items() if path not in paths} for one in left]
    assert Counter(map(frozen, enumerate_all(pinned))) == Counter(map(frozen, rest))
    assert count(pinned).total == len(rest)


def test_what_speaks_of_a_decision_that_pinning_removes_asks_nothing() -> None:
    units = Decision("u", "units", range(2))
    some = Decision("a", "choice", (0, 1, 2), present=less(0, Kept("u", 2)))
    inner = Decision("b", "choice", (0, 1), present=Among("a", 3, frozenset({1})))
    third = Requirement(Among("a", 3, frozenset({2})), "the third", "require")
    graph = Graph({}, {"u": units, "a": some, "b": inner}, (third,), ())
    assert count(graph).total == len(enumerate_all(graph)) == 4
    for kept, number in (((), 1), ((1,), 1)):
        pinned = pin(graph, {"u": kept})
        assert count(pinned).total == len(enumerate_all(pinned)) == number


@thorough
@given(st.data())
def test_extremes_agree_with_enumeration(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    parts = data.draw(st.lists(numbers(list(graph.decisions.values()), 2), min_size=1, max_size=5))
    cost = add(*[apply("max", 0, part) if data.draw(st.booleans()) else part for part in parts])
    everything = enumerate_all(graph)
    try:
        costs = [meaning(cost, values) for values in everything]
    except Missing:
        assume(False)
    if not everything:
        with pytest.raises(Infeasible):
            least(graph, cost)
        return
    for find, expected in ((least, min(costs)), (greatest, max(costs))):
        value, architecture = find(graph, cost)
        assert value == expected
        assert meaning(cost, dict(architecture.indices)) == expected
        assert frozen(architecture) in set(map(frozen, everything))


@thorough
@given(st.data())
def test_counterexamples_and_conflicts_agree_with_enumeration(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    condition = data.draw(conditions(list(graph.decisions.values()), 2))
    everything = enumerate_all(graph)
    shown = counterexample(graph, condition)
    broken = [values for values in everything if not worth(condition, values, True)]
    assert (shown is None) == (not broken)
    if shown is not None:
        assert frozen(shown) in set(map(frozen, broken))
    blamed = conflict(graph)
    assert bool(blamed) == (not everything)
    for i in range(len(blamed)):
        rest = Graph({}, graph.decisions, blamed[:i] + blamed[i + 1 :], ())
        assert enumerate_all(rest)
    if blamed:
        assert not enumerate_all(Graph({}, graph.decisions, blamed, ()))


# --- closed forms -----------------------------------------------------------------------------------------------------


def choice(path: str, n: int, **more: Any) -> Decision:
    return Decision(path, "choice", tuple(range(n)), **more)


def units(path: str, n: int, **more: Any) -> Decision:
    return Decision(path, "units", range(n), **more)


def test_a_space_without_decisions_is_one_architecture() -> None:
    assert count(space([])).total == 1
    assert feasible(space([])) == Architecture({}, ())
    assert least(space([]), 7) == (7, Architecture({}, ()))
    assert count(space([], False)).total == 0


def test_blocks_of_units_of_which_some_must_remain() -> None:
    widths = [(18, 36, 72, 64), (2304, 576, 144, 64), (48, 96, 192, 64)] * 20
    made, kept, cost = [], [], []
    for b, block in enumerate(widths):
        paths = [f"b{b}.{name}" for name in ("k3", "k5", "k7", "tokens")]
        made += [units(p, n) for p, n in zip(paths, block, strict=True)]
        kept.append(either(*[less(0, Kept(p, n)) for p, n in zip(paths, block, strict=True)]))
        cost += [multiply(w, Kept(p, n)) for p, n, w in zip(paths, block, (9, 25, 49, 7), strict=True)]
    graph = space(made, *kept)
    found = count(graph)
    assert found.total == math.prod(2 ** sum(block) - 1 for block in widths)
    assert [f.copies for f in found.factors] == [1] * 60  # undeclared decisions are not copies of each other
    value, architecture = least(graph, add(*cost))
    assert value == 7 * 60
    assert sum(map(len, architecture.values())) == 60
    assert greatest(graph, add(*cost))[0] == sum(9 * a + 25 * b + 49 * c + 7 * d for a, b, c, d in widths)


def test_equal_copies_of_a_declaration_collapse() -> None:
    found = count(space([choice(f"edge[{i}]", 5, declaration="3:7") for i in range(6)]))
    assert found.total == 15_625
    assert found.product == "5^6"
    assert found.factors[0].declarations == ("3:7",)


def test_a_searchable_depth_is_split_by_its_options() -> None:
    made = []
    for s in range(5):
        made.append(Decision(f"s{s}.depth", "choice", (4, 5, 6), ("4", "5", "6"), declaration="1:1"))
        for i in range(6):
            present = True if i < 4 else Among(f"s{s}.depth", 3, frozenset(range(i - 3, 3)))
            made.append(choice(f"s{s}[{i}].op", 3, present=present, declaration="2:5"))
    found = count(space(made))
    assert found.total == (81 * (1 + 3 + 9)) ** 5 == 1053**5
    copies = [f for f in found.factors if f.split is not None]
    assert [f.copies for f in copies] == [5]
    assert copies[0].split is not None
    assert copies[0].split.options == (("4", 1), ("5", 3), ("6", 9))


def test_presence_nests() -> None:
    made = [
        choice("depth", 2),
        choice("op", 3, present=Among("depth", 2, frozenset({1}))),
        units("width", 100, present=both(Among("op", 3, frozenset({2})), Among("depth", 2, frozenset({1})))),
    ]
    assert count(space(made)).total == 1 + 2 + 2**100
    assert least(space(made), choose(Among("depth", 2, frozenset({1})), 5, 0))[0] == 0


def test_a_sum_over_many_decisions_is_split_by_partial_sums() -> None:
    depths = [Decision(f"d{i}", "choice", (1, 2, 3, 4)) for i in range(40)]
    total = add(*[Case(d.path, (1, 2, 3, 4)) for d in depths])
    polynomial = [1]
    for _ in depths:
        longer = range(len(polynomial) + 4)
        polynomial = [sum(polynomial[k - j] for j in (1, 2, 3, 4) if 0 <= k - j < len(polynomial)) for k in longer]
    assert count(space(depths, at_most(total, 75))).total == sum(polynomial[:76])
    assert count(space(depths, negate(at_most(total, 75)))).total == sum(polynomial[76:])
    assert least(space(depths, less(75, total)), total)[0] == 76


def test_a_running_width_is_a_chain() -> None:
    made = [choice(f"double[{i}]", 2) for i in range(30)]
    width: Value = 16
    widths = []
    for d in made:
        width = multiply(width, Case(d.path, (1, 2)))
        widths.append(width)
    graph = space(made, at_most(width, 256))
    assert count(graph).total == sum(math.comb(30, k) for k in range(5))
    value, architecture = greatest(graph, add(*widths))
    assert value == 256 * 27 + 32 + 64 + 128
    assert [architecture.indices[d.path] for d in made] == [1] * 4 + [0] * 26


def test_a_width_that_mentions_the_one_before_it_twice_is_no_tree() -> None:
    made = [choice(f"double[{i}]", 2) for i in range(60)]
    width: Value = 32
    layers: list[Value] = []
    for d in made:
        after = choose(Among(d.path, 2, frozenset({1})), multiply(2, width), width)
        layers.append(multiply(9, width, after))
        width = after
    graph = space(made, at_most(width, 1024))
    assert count(graph).total == sum(math.comb(60, k) for k in range(6))
    value, architecture = greatest(graph, add(*layers))
    assert [i for i, d in enumerate(made) if architecture.indices[d.path]] == [0, 1, 2, 3, 4]
    assert value == 9 * (sum(32 * 2**i * 64 * 2**i for i in range(5)) + 55 * 1024**2)


def test_independent_sets_of_a_grid() -> None:
    """All decisions hang together; row by row there is another way to count."""
    on = {(i, j): Among(f"{i}.{j}", 2, frozenset({1})) for i in range(8) for j in range(8)}
    made = [choice(f"{i}.{j}", 2) for i, j in on]
    pairs = [(at, (at[0] + di, at[1] + dj)) for at in on for di, dj in ((0, 1), (1, 0))]
    apart = [negate(both(on[a], on[b])) for a, b in pairs if b in on]
    rows = [row for row in range(256) if not row & (row << 1)]
    ways = dict.fromkeys(rows, 1)
    for _ in range(7):
        ways = {row: sum(number for other, number in ways.items() if not row & other) for row in rows}
    assert count(space(made, *apart)).total == sum(ways.values())


def test_what_is_too_tangled_says_how_wide_it_is() -> None:
    order = Decision("order", "order", tuple("abcdefghij"))
    first = [Slot("order", i, tuple(range(10))) for i in range(10)]
    with pytest.raises(TooWide, match="`order`") as caught:
        count(space([order], less(add(*first[:5]), add(*first[5:]))))
    assert (caught.value.width, caught.value.paths) == (math.factorial(10), ("order",))


def test_orders_count_by_the_positions_that_are_mentioned() -> None:
    order = Decision("order", "order", tuple("aabbcdefgh"))
    assert count(space([order])).total == math.factorial(10) // 4
    first = Slot("order", 0, tuple(item == "a" for item in order.items))
    assert count(space([order], first)).total == math.factorial(9) // 2
    assert count(space([order], negate(first))).total == math.factorial(10) // 4 - math.factorial(9) // 2


def test_a_floating_budget_is_left_out_and_listed() -> None:
    graph = Graph({}, {"a": choice("a", 3)}, (Requirement(less(Case("a", (1, 2, 3)), 2), "too dear", "budget"),), ())
    assert count(graph).total == 3
    assert count(graph).budgets_left_out == graph.requirements


def test_products_of_widths_take_the_ends_of_their_cells() -> None:
    made = [units(f"u{i}", 256) for i in range(20)]
    graph = space(made, *[less(3, Kept(d.path, d.n)) for d in made])
    kept = [Kept(d.path, d.n) for d in made]
    layers = add(*[multiply(9, a, b) for a, b in pairwise(kept)])
    assert least(graph, layers)[0] == 9 * 19 * 16
    assert greatest(graph, layers)[0] == 9 * 19 * 256**2
    assert greatest(graph, multiply(-1, layers))[0] == -9 * 19 * 16
    assert least(graph, add(layers, multiply(-9 * 256, kept[0])))[0] == 9 * (256 * 4 + 16 * 18 - 256 * 256)


def test_a_network_whose_nodes_must_be_alive() -> None:
    """Layers of two nodes, every edge of three operators or none; the first node must reach the end."""
    made, alive, layers = [], [True, True], 12
    for layer in range(layers):
        edges = [[f"e{layer}.{i}.{j}" for j in range(2)] for i in range(2)]
        made += [choice(path, 4) for row in edges for path in row]
        present = [[Among(path, 4, frozenset({0, 1, 2})) for path in row] for row in edges]
        alive = [either(*[both(p, a) for p, a in zip(row, alive, strict=True)]) for row in present]
    some, ends = {(True, True): 1}, [True, False]
    for _ in range(layers):
        after: dict[tuple[bool, bool], int] = {}
        for (a, b), ways in some.items():
            reach = {True: (a + b == 2) * 15 + (a + b == 1) * 12, False: (1, 4, 16)[2 - a - b]}
            for x in ends:
                for y in ends:
                    after[x, y] = after.get((x, y), 0) + ways * reach[x] * reach[y]
        some = after
    assert count(space(made, alive[0])).total == some[True, True] + some[True, False]


def test_fractions_stay_exact() -> None:
    made = [choice("a", 3), choice("b", 3)]
    product = multiply(Case("b", (Fraction(1, 3), 2, 3)), Case("a", (1, 2, 3)))
    cost = add(Case("a", (Fraction(1, 3), Fraction(1, 2), 1)), product)
    assert least(space(made), cost)[0] == Fraction(2, 3)


def test_a_division_by_zero_breaks_a_requirement_only_where_it_is_reached() -> None:
    made = [choice("heads", 2), choice("width", 2)]
    divides = apply("divides", Case("heads", (0, 4)), Case("width", (16, 18)))
    assert count(space(made, divides)).total == 1
    shown = counterexample(space(made), divides)
    assert shown is not None and (shown.indices["heads"], shown.indices["width"]) != (1, 0)
    sound = both(Among("heads", 2, frozenset({1})), Among("width", 2, frozenset({0})))
    assert counterexample(space(made, sound), divides) is None


def test_shownfor_people() -> None:
    shown = (0, 7371, 2**576, 2**48 - 1, 5**60, 6**44)
    assert [brief(n) for n in shown] == ["0", "7,371", "2^576", "2^48 - 1", "5^60", "6^44"]
    assert scientific(129_999) == "1.3e5"
    assert scientific(99_999) == "1.0e5"
    assert scientific(7) == "7.0e0"
    assert scientific(10**15_000) == "1.0e15000"
    assert scientific(10**15_000 - 1, 4) == "1.000e15000"
    assert scientific(2**50_000) == "3.2e15051"
    long = 7**20_000
    digits = decimal(long)
    assert len(digits) == 16_902
    assert (digits[:3], digits[-4:]) == (scientific(long, 12).replace(".", "")[:3], f"{pow(7, 20_000, 10_000):04}")
    counted = Counter(decimal(10**9000))
    assert counted == {"1": 1, "0": 9000}


# --- numbers and draws ------------------------------------------------------------------------------------------------


@thorough
@given(graphs())
def test_shownand_architectures_are_one_to_one(graph: Graph) -> None:
    everything = enumerate_all(graph)
    assume(0 < len(everything) <= 2000)
    numbering = Numbering(graph)
    assert numbering.total == len(everything)
    found = [numbering.unrank(number) for number in range(numbering.total)]
    assert set(map(frozen, found)) == set(map(frozen, everything))
    assert [numbering.rank(architecture) for architecture in found] == list(range(numbering.total))
    assert [Architecture.of(graph, dict(architecture)) for architecture in found] == found
    with pytest.raises(IndexError):
        numbering.unrank(numbering.total)


def test_draws_are_uniform_over_architectures() -> None:
    made = [
        choice("depth", 3),
        choice("op", 2, present=less(0, Case("depth", (0, 1, 2)))),
        units("width", 4, present=Among("depth", 3, frozenset({2}))),
        Decision("inputs", "subset", tuple("abcd"), size=2),
        Decision("order", "order", tuple("aab"), present=Among("op", 2, frozenset({1}))),
    ]
    graph = space(made, either(negate(Has("inputs", 0)), less(1, Kept("width", 4))))
    everything = enumerate_all(graph)
    drawn = sample(graph, 40 * len(everything), seed=3)
    seen = Counter(map(frozen, drawn))
    assert set(seen) == set(map(frozen, everything))
    chi_squared = sum((number - 40) ** 2 / 40 for number in seen.values())
    free = len(everything) - 1
    assert abs(chi_squared - free) < 4 * math.sqrt(2 * free)
    assert drawn == sample(graph, 40 * len(everything), seed=3)
    assert drawn != sample(graph, 40 * len(everything), seed=4)


def test_an_architecture_that_breaks_a_requirement_has_no_number() -> None:
    graph = space([choice("a", 3), choice("b", 3)], equal(Case("a", (0, 1, 2)), Case("b", (0, 1, 2))))
    with pytest.raises(ValueError, match="breaks a requirement"):
        rank(graph, Architecture.at(graph, {"a": 0, "b": 1}))
    assert unrank(graph, rank(graph, Architecture.at(graph, {"a": 2, "b": 2}))).indices["b"] == 2
    with pytest.raises(Infeasible):
        sample(space([choice("a", 3)], False), 1, seed=0)


def test_draws_from_a_wide_space() -> None:
    made = [units(f"u{i}", n) for i, n in enumerate((2304, 576, 64, 9) * 20)]
    some = [less(d.n // 3, Kept(d.path, d.n)) for d in made[::2]]
    graph = space(made, *some, *[less(0, Kept(d.path, d.n)) for d in made])
    numbering = Numbering(graph)
    for architecture in numbering.draws(3, seed=0):
        assert architecture.violations(graph) == ()
        assert numbering.unrank(numbering.rank(architecture)) == architecture
        assert abs(len(architecture["u0"]) - 1152) < 240  # ten standard deviations
    ends = numbering.unrank(0), numbering.unrank(numbering.total - 1)
    assert [numbering.rank(end) for end in ends] == [0, numbering.total - 1]


def test_draws_follow_a_running_sum() -> None:
    depths = [Decision(f"d{i}", "choice", (1, 2, 3, 4)) for i in range(30)]
    graph = space(depths, at_most(add(*[Case(d.path, (1, 2, 3, 4)) for d in depths]), 45))
    numbering = Numbering(graph)
    for architecture in numbering.draws(20, seed=1):
        assert sum(option + 1 for option in architecture.indices.values()) <= 45
        assert numbering.unrank(numbering.rank(architecture)) == architecture
