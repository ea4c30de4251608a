"""Sampling rules against plain enumeration: what can come, how often it comes, and where the ends are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.runtime.sampling import Drawn, Rule, Sampler
from nasdsl.runtime.sandwich import SandwichExtremes, is_size
from nasdsl.runtime.settings import read_settings
from nasdsl.runtime.strategies.sample import Sample
from tests.enumeration import enumerate_all, frozen, graphs

BLOCKS = """
space blocks {
  input 3 x 8 x 8
  operator block(out) {
    let op = oneof(dense, grouped)
    match op {
      dense: conv(out, kernel: oneof(5, 1, 3))
      grouped: conv(out, kernel: 3, groups: oneof(1, 2))
    }
  }
  network {
    stem: conv(8)
    stage: repeat oneof(1..2) { block(8) }
    classify(classes: 3)
  }
}
"""


@cache
def blocks(require: str = "") -> Graph:
    """Two blocks of which one may be left out; 5 forms each, so 5 + 25 architectures."""
    text = BLOCKS.replace("  network {", f"  {require}\n  network {{", 1)
    return elaborate(Source(text)).graph


def law(graph: Graph) -> dict[frozenset[tuple[str, Any]], float]:
    """Of each architecture the product of one over the number of options of what it has, among those allowed."""
    shares = {}
    for values in enumerate_all(graph):
        shares[frozen(values)] = math.prod(1 / graph.decisions[path].cardinality() for path in values)
    total = sum(shares.values())
    return {row: share / total for row, share in shares.items()}


def among(law: Mapping[Any, float], rows: Iterable[Any]) -> dict[Any, float]:
    """A law given that one of some rows comes up."""
    found = list(rows)
    share = sum(law[row] for row in found)
    return {row: law[row] / share for row in found}


def uniform(rows: Iterable[Any]) -> dict[Any, float]:
    found = list(rows)
    return dict.fromkeys(found, 1 / len(found))


def assert_follows(seen: Counter[Any], expected: Mapping[Any, float]) -> None:
    """Chi-squared within five standard deviations, and nothing that cannot be."""
    assert set(seen) <= set(expected)
    total = seen.total()
    assert min(expected.values()) * total >= 10
    distance = sum((seen[row] - total * share) ** 2 / (total * share) for row, share in expected.items())
    free = len(expected) - 1
    assert distance <= free + 5 * math.sqrt(2 * free) + 5


def drawn(graph: Graph, steps: int, seed: int = 0, **rule: Any) -> list[list[Drawn]]:
    sampler = Sampler(graph, Rule(**rule))
    return [sampler.architectures(seed, step) for step in range(steps)]


def counted(steps: list[list[Drawn]], role: str = "random", which: int | None = None) -> Counter[Any]:
    rows = [[one for one in step if one.role == role] for step in steps]
    return Counter(
        frozen(one.architecture) for row in rows for one in (row if which is None else row[which : which + 1])
    )


# --- How often --------------------------------------------------------------------------------------------------------


def test_uniform() -> None:
    everything = uniform(map(frozen, enumerate_all(blocks())))
    assert len(everything) == 30
    assert_follows(counted(drawn(blocks(), 1500, name="uniform", architectures=2)), everything)


def test_hierarchical() -> None:
    expected = law(blocks())
    assert len(set(expected.values())) > 2  # it is not uniform
    assert_follows(counted(drawn(blocks(), 2500, name="hierarchical", architectures=2)), expected)


@given(graph=graphs(), seed=st.integers(0, 99))
@hypothesis_settings(max_examples=25, derandomize=True)
def test_hierarchical_in_random_spaces_with_requirements(graph: Graph, seed: int) -> None:
    """Decisions that requirements tie follow the same law among what is allowed."""
    free = Graph(graph.nodes, graph.decisions, (), graph.outputs)
    whole = law(free)
    allowed = {frozen(values) for values in enumerate_all(graph)}
    assume(sum(whole[row] for row in allowed) > 0.02 and len(allowed) <= 40)
    expected = among(whole, allowed)
    n = 400
    assume(min(expected.values()) * n >= 10)
    assert_follows(counted(drawn(graph, n, seed, name="hierarchical")), expected)


def test_fair_marginals() -> None:
    """Each of the architectures of a step by itself follows the hierarchical law."""
    steps = drawn(blocks(), 4000, name="fair", architectures=3)
    for which in range(3):
        assert_follows(counted(steps, which=which), law(blocks()))


@given(graph=graphs(), rows=st.integers(1, 7), seed=st.integers(0, 99))
@hypothesis_settings(max_examples=60)
def test_fair_deals_options_evenly(graph: Graph, rows: int, seed: int) -> None:
    graph = Graph(graph.nodes, graph.decisions, (), graph.outputs)
    (step,) = drawn(graph, 1, seed, name="fair", architectures=rows)
    assert len(step) == rows
    for path, decision in graph.decisions.items():
        taken = Counter(one.architecture.indices[path] for one in step if path in one.architecture)
        if decision.kind == "choice" and taken:
            low, high = taken.total() // decision.n, -(-taken.total() // decision.n)
            assert all(low <= taken[option] <= high for option in range(decision.n))


def test_fair_takes_as_many_as_the_largest_choice_has_options() -> None:
    (step,) = drawn(blocks(), 1, name="fair")
    assert len(step) == 3


def test_budget() -> None:
    graph = blocks()
    macs = {frozen(values): cost_of(graph, values)["macs"] for values in enumerate_all(graph)}
    params = {frozen(values): cost_of(graph, values)["params"] for values in enumerate_all(graph)}
    low, high = sorted(macs.values())[8], sorted(macs.values())[22]
    inside = [row for row, cost in macs.items() if low <= cost <= high]
    assert 5 < len(inside) < 25
    limits: dict[str, Any] = {"at_most": {"macs": high}, "at_least": {"macs": low}}
    assert_follows(counted(drawn(graph, 2000, name="budget", **limits)), uniform(inside))
    share = 0.6
    below = [row for row, cost in macs.items() if cost <= share * max(macs.values())]
    for limit in ({"macs": share}, {"flops": 2 * share * max(macs.values())}):
        assert_follows(counted(drawn(graph, 1500, name="budget", at_most=limit)), uniform(below))
        assert_follows(
            counted(drawn(graph, 1500, name="budget", draw="hierarchical", at_most=limit)), among(law(graph), below)
        )
    few = [row for row, cost in params.items() if cost <= sorted(params.values())[10] and macs[row] >= low]
    both: dict[str, Any] = {"at_most": {"params": sorted(params.values())[10]}, "at_least": {"macs": low}}
    if few:
        assert_follows(counted(drawn(graph, 1000, name="budget", **both)), uniform(few))


def test_budgets_of_the_space_hold_for_uniform_and_hierarchical_draws() -> None:
    free = blocks()
    macs = {frozen(values): cost_of(free, values)["macs"] for values in enumerate_all(free)}
    limit = sorted(macs.values())[15]
    graph = blocks(f"require macs <= {limit}")
    assert_follows(
        counted(drawn(graph, 2000, name="uniform")), uniform(row for row, cost in macs.items() if cost <= limit)
    )
    below = [row for row, cost in macs.items() if cost <= limit]
    assert_follows(counted(drawn(graph, 2000, name="hierarchical")), among(law(free), below))
    with pytest.raises(CompileError, match="budget"):
        Sampler(graph, Rule(name="fair"))
    (step,) = drawn(graph, 1, name="sandwich")  # the ends are not bounded by it
    assert macs[frozen(step[0].architecture)] > limit


# --- Sandwich ---------------------------------------------------------------------------------------------------------


def operators_of(graph: Graph, values: Mapping[str, Any]) -> dict[str, Any]:
    return {path: value for path, value in values.items() if not is_size(graph.decisions[path])}


def agree(graph: Graph, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    a, b = operators_of(graph, one), operators_of(graph, other)
    return all(a[path] == b[path] for path in a.keys() & b.keys())


@pytest.mark.parametrize("draw", ["hierarchical", "uniform"])
def test_a_sandwich_shares_its_operators_and_reaches_the_ends(draw: str) -> None:
    graph = blocks()
    everything = enumerate_all(graph)
    seen = set()
    for step in drawn(graph, 60, name="sandwich", draw=draw):
        assert [one.role for one in step] == ["largest", "random", "random", "smallest"]
        largest = step[0].architecture
        assert largest["stage.depth"] == 2
        seen.add(frozen(operators_of(graph, largest.indices)))
        same = [values for values in everything if agree(graph, values, largest.indices)]
        macs = [cost_of(graph, values)["macs"] for values in same]
        assert all(agree(graph, one.architecture.indices, largest.indices) for one in step)
        assert cost_of(graph, largest.indices)["macs"] == max(macs)
        assert cost_of(graph, step[-1].architecture.indices)["macs"] == min(macs)
    assert len(seen) == 4


@pytest.mark.parametrize("draw", ["hierarchical", "uniform"])
def test_a_sandwich_of_stages_of_any_depth_shares_its_operators(draw: str) -> None:
    """Operators of blocks that only deeper architectures have are drawn in any order."""
    stages = "first: repeat oneof(1..3) { block(8) }\n    stage: repeat oneof(1..3)"
    text = BLOCKS.replace("stage: repeat oneof(1..2)", stages)
    graph = elaborate(Source(text)).graph
    for step in drawn(graph, 300, name="sandwich", draw=draw):
        largest = step[0].architecture
        assert all(agree(graph, one.architecture.indices, largest.indices) for one in step)


def test_the_random_part_of_a_hierarchical_sandwich_follows_the_hierarchical_law() -> None:
    steps = drawn(blocks(), 4000, name="sandwich", random=1)
    assert_follows(counted(steps), law(blocks()))


def test_the_random_part_of_a_uniform_sandwich() -> None:
    """Operators as uniform draws have them; then each architecture that has them is as likely as any other."""
    graph = blocks()
    everything = enumerate_all(graph)
    first, second = [path for path in graph.decisions if path.endswith(".op")]
    deep = [values for values in everything if second in values]
    expected: dict[Any, float] = {}
    for a, b in product(range(2), range(2)):
        with_both = sum(values[first] == a and values[second] == b for values in deep) / len(everything)
        alone = sum(values[first] == a and second not in values for values in everything) / len(everything)
        other = sum(values[second] == b for values in deep) / len(deep)
        same = [v for v in everything if v[first] == a and v.get(second, b) == b]
        for values in same:
            share = (with_both + alone * other) / len(same)
            expected[frozen(values)] = expected.get(frozen(values), 0.0) + share
    assert sum(expected.values()) == pytest.approx(1)
    assert_follows(counted(drawn(graph, 4000, name="sandwich", draw="uniform", random=1)), expected)


@given(graph=graphs(), seed=st.integers(0, 99))
@hypothesis_settings(max_examples=80)
def test_whatever_a_rule_draws_is_an_architecture(graph: Graph, seed: int) -> None:
    allowed = {frozen(values) for values in enumerate_all(graph)}
    for rule in ("uniform", "hierarchical", "fair", "sandwich"):
        try:
            steps = drawn(graph, 2, seed, name=rule)
        except CompileError as refused:
            codes = {found.code for found in refused.diagnostics}
            assert codes <= {"empty-window", "requirement-and-rule", "no-end", "too-wide"}
            assert allowed == set() or rule != "uniform"
            continue
        assert {frozen(one.architecture) for step in steps for one in step} <= allowed


def test_ends_where_the_extremes_together_are_forbidden() -> None:
    text = """space pairs {
      input 3 x 8 x 8
      operator pair() {
        let a = oneof(4, 8, 12)
        let b = oneof(4, 8, 12)
        require a + b in 12..16
        conv(a) -> conv(b)
      }
      network { pair() -> classify(classes: 3) }
    }"""
    graph = elaborate(Source(text)).graph
    everything = enumerate_all(graph)
    ends = SandwichExtremes(graph)
    macs = [cost_of(graph, values)["macs"] for values in everything]
    assert len(everything) == 5
    assert cost_of(graph, ends.largest({}).indices)["macs"] == max(macs)
    assert cost_of(graph, ends.smallest({}).indices)["macs"] == min(macs)
    assert cost_of(graph, ends.extreme(True).indices)["macs"] == max(macs)


def test_what_is_a_size() -> None:
    graph = blocks()
    sizes = {path.rpartition(".")[2] for path, decision in graph.decisions.items() if is_size(decision)}
    assert sizes == {"depth", "kernel", "groups"}


# --- The same again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["uniform", "hierarchical", "fair", "sandwich", "budget"])
def test_steps_hang_on_seed_and_number_alone(name: str) -> None:
    rule = Rule(name=name, at_most={"macs": 0.8}) if name == "budget" else Rule(name=name)  # type: ignore[arg-type]
    forwards, backwards = Sampler(blocks(), rule), Sampler(blocks(), rule)
    ahead = [forwards.architectures(3, step) for step in range(6)]
    assert [backwards.architectures(3, step) for step in reversed(range(6))] == ahead[::-1]
    assert [forwards.architectures(4, step) for step in range(6)] != ahead
    assert len({tuple(one.architecture for one in step) for step in ahead}) > 1


# --- Settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"rule": "unifrom"}, "uniform"),
        ({"rule": {"name": "uniform", "random": 2}}, "has no `random`"),
        ({"rule": {"name": "sandwich", "architectures": 2}}, "has no `architectures`"),
        ({"rule": {"name": "sandwich", "smallest": 0, "largest": 0, "random": 0}}, "no architecture"),
        ({"rule": {"name": "budget"}}, "at_most"),
        ({"rule": {"name": "budget", "at_most": {"macs": 0}}}, "limits costs"),
        ({"rule": "uniform", "distil": {}}, "largest"),
        ({"rule": "uniform", "weight_decay_of": "largest"}, "largest"),
        ({"weight_decay_of": "largest", "train": {"weight_decay_form": "optimiser"}}, "weight_decay_form"),
        ({"weight_decay_of": "some"}, "`all` or `largest`"),
        ({"follow": ["middle"]}, "smallest"),
    ],
)
def test_settings_that_do_not_fit(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        read_settings(Sample, entries, {}, "`search sample`")


def test_an_empty_budget() -> None:
    with pytest.raises(CompileError, match="nothing to draw"):
        Sampler(blocks(), Rule(name="budget", at_most={"macs": 2}))


def test_numpy_streams_differ_between_steps() -> None:
    from nasdsl.runtime.sampling import generator

    numbers = [generator(seed, step).integers(1 << 60) for seed in range(3) for step in range(3)]
    assert len(np.unique(numbers)) == 9
