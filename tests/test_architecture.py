"""An architecture is the values of its present decisions, however it was put together."""

from __future__ import annotations

import copy
import json
import pickle
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from nasdsl.compiler.architecture import Architecture, ArchitectureError, wrong
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.values.expr import less
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import Among, Case, Kept
from nasdsl.runtime.data.errors import DataError
from nasdsl.runtime.errors import RunError

CONV = Among("op", 2, frozenset({0}))
DECISIONS = [
    Decision("op", "choice", (Symbol("conv"), Symbol("local")), ("conv", "local")),
    Decision("op.kernel", "choice", (3, 5, 7), ("3", "5", "7"), present=CONV),
    Decision("inputs", "subset", ("a", "b", "c"), ("a", "b", "c"), size=2),
    Decision("levels", "order", (3, 3, 4), ("3", "3", "4")),
    Decision("hidden", "units", range(20)),
]
FEW = Requirement(less(Kept("hidden", 20), 10), "keep fewer than ten")
SMALL = Requirement(less(Case("op.kernel", (3, 5, 7)), 7), "no large kernel")
GRAPH = Graph({}, {d.path: d for d in DECISIONS}, (FEW, SMALL), ())
VALUES = {"op": "conv", "op.kernel": 5, "inputs": ["c", "a"], "levels": [4, 3, 3], "hidden": [3, 1, 2]}


def test_values_are_canonical_and_absent_decisions_do_not_count() -> None:
    one = Architecture.of(GRAPH, VALUES)
    assert dict(one) == {**VALUES, "inputs": ["a", "c"], "hidden": [1, 2, 3]} == one
    assert one.indices == {"op": 0, "op.kernel": 1, "inputs": (0, 2), "levels": (2, 0, 1), "hidden": (1, 2, 3)}
    assert Architecture.at(GRAPH, {**one.indices, "levels": (2, 1, 0), "inputs": (2, 0)}) == one
    local = Architecture.of(GRAPH, {**VALUES, "op": "local"})
    assert "op.kernel" not in local and local.get("op.kernel", "none") == "none"
    assert local == Architecture.of(GRAPH, {**VALUES, "op": "local", "op.kernel": 7})
    assert len({local, Architecture.of(GRAPH, {**local}), one}) == 2


def test_a_value_that_is_changed_by_whoever_has_it_leaves_the_architecture_as_it_is() -> None:
    one = Architecture.of(GRAPH, VALUES)
    one["inputs"].append("b")
    assert one == Architecture.of(GRAPH, VALUES)


def test_violations_are_named_and_absent_decisions_break_nothing() -> None:
    assert Architecture.of(GRAPH, VALUES).violations(GRAPH) == ()
    large = {**Architecture.of(GRAPH, VALUES).indices, "op.kernel": 2, "hidden": tuple(range(12))}
    assert Architecture.at(GRAPH, large).violations(GRAPH) == (FEW, SMALL)
    assert Architecture.at(GRAPH, {**large, "op": 1}).violations(GRAPH) == (FEW,)


def test_what_breaks_a_requirement_is_no_architecture_and_a_budget_is_another_matter() -> None:
    with pytest.raises(ArchitectureError, match="no large kernel") as caught:
        Architecture.of(GRAPH, {**VALUES, "op.kernel": 7})
    assert codes(caught.value) == ["requirement-broken"]
    bounded = replace(GRAPH, requirements=(replace(SMALL, origin="budget"),))
    assert Architecture.of(bounded, {**VALUES, "op.kernel": 7}).violations(bounded)


def codes(mistake: ArchitectureError) -> list[str]:
    return [one.code for one in mistake.diagnostics]


def test_values_come_back_from_json() -> None:
    one = Architecture.of(GRAPH, {**VALUES, "hidden": [0, 1, 2, 3, 9]})
    data = one.to_json()
    assert data == {"op": "conv", "op.kernel": 5, "inputs": ["a", "c"], "levels": [4, 3, 3], "hidden": "0..3, 9"}
    assert Architecture.of(GRAPH, json.loads(json.dumps(data))) == one
    assert Architecture.of(GRAPH, json.loads(json.dumps(dict(one)))) == one
    nothing = Architecture.of(GRAPH, {**VALUES, "hidden": ()})
    assert Architecture.of(GRAPH, nothing.to_json()) == nothing


def test_items_that_read_alike_are_told_apart() -> None:
    graph = Graph({}, {"x": Decision("x", "choice", (Symbol("p"), Symbol("q")), ("same", "same"))}, (), ())
    second = Architecture.at(graph, {"x": 1})
    assert second == {"x": "same#1"}
    assert Architecture.of(graph, second.to_json()) == second
    with pytest.raises(ArchitectureError, match="did you mean `same#"):
        Architecture.of(graph, {"x": "same"})


NUMBERS = Decision("x", "choice", (1, Fraction(1, 2), 0.25, True), ("1", "1/2", "0.25", "true"))


@pytest.mark.parametrize(
    ("value", "index"),
    [(1, 0), (np.int64(1), 0), (0.5, 1), (Fraction(1, 2), 1), ("1/2", 1), (0.25, 2), (np.float64(0.25), 2)],
)
def test_numbers_are_found_however_they_come(value: object, index: int) -> None:
    graph = Graph({}, {"x": replace(NUMBERS, items=NUMBERS.items[:3], labels=NUMBERS.labels[:3])}, (), ())
    assert Architecture.of(graph, {"x": value}).indices["x"] == index
    assert json.dumps(Architecture.of(graph, {"x": value}).to_json()) in ('{"x": 1}', '{"x": 0.5}', '{"x": 0.25}')


@pytest.mark.parametrize("value", [0, 2, "1", True, 0.75, None, [1], {}, float("nan"), 10**400, "1 / 3", b"1"])
def test_what_only_looks_like_a_number_of_the_choice_is_none(value: object) -> None:
    graph = Graph({}, {"x": replace(NUMBERS, items=NUMBERS.items[:3], labels=NUMBERS.labels[:3])}, (), ())
    with pytest.raises(ArchitectureError) as caught:
        Architecture.of(graph, {"x": value})
    assert codes(caught.value) == ["unknown-option"]


@pytest.mark.parametrize("kept", [(1, 3), {3, 1}, range(1, 4, 2), np.asarray([3, 1]), "1, 3", "[1, 3]", "3, 1..1"])
def test_units_are_found_however_they_come(kept: object) -> None:
    assert Architecture.of(GRAPH, {**VALUES, "hidden": kept})["hidden"] == [1, 3]


MISTAKES: list[tuple[dict[str, object], str, str, str]] = [
    ({"op.kernl": 5}, "op.kernl", "unknown-decision", "did you mean `op.kernel`"),
    ({"op": 0}, "op", "unknown-option", "0 is not an option of `op`\nhelp: it takes `conv`, `local`"),
    ({"op": "cnv"}, "op", "unknown-option", "did you mean `conv`"),
    ({"op": True}, "op", "unknown-option", "True"),
    ({"op.kernel": 9}, "op.kernel", "unknown-option", "it takes 3, 5, 7"),
    ({"op.kernel": "5"}, "op.kernel", "unknown-option", "`5` is not"),
    ({"inputs": ["a"]}, "inputs", "wrong-count", "takes 2 items"),
    ({"inputs": ["a", "a"]}, "inputs", "duplicate", "too often"),
    ({"inputs": [0, 2]}, "inputs", "unknown-option", "0 is not an item"),
    ({"inputs": "a"}, "inputs", "not-a-list", "list of items"),
    ({"levels": [4, 3]}, "levels", "bad-order", "all 3"),
    ({"levels": [4, 4, 3]}, "levels", "bad-order", "too often"),
    ({"levels": {4, 3}}, "levels", "not-a-list", "list"),
    ({"hidden": [20]}, "hidden", "no-such-item", "from 0 to 19"),
    ({"hidden": [-1]}, "hidden", "no-such-item", "from 0 to 19"),
    ({"hidden": [True]}, "hidden", "no-such-item", "True"),
    ({"hidden": [1, 1]}, "hidden", "duplicate", "1 stands twice"),
    ({"hidden": 3}, "hidden", "not-a-list", "list of units"),
    ({"hidden": "0..99999999999999999999"}, "hidden", "no-such-item", "no units"),
    ({"hidden": "5..3"}, "hidden", "no-such-item", "no units"),
    ({"hidden": "x"}, "hidden", "no-such-item", "no units"),
    ({7: 1}, "7", "unknown-decision", "7"),  # type: ignore[dict-item]
]


@pytest.mark.parametrize(("change", "path", "code", "message"), MISTAKES)
def test_what_is_no_architecture_says_where_and_why(
    change: dict[str, object], path: str, code: str, message: str
) -> None:
    with pytest.raises(ArchitectureError, match=re.escape(message)) as caught:
        Architecture.of(GRAPH, {**VALUES, **change})
    assert caught.value.path == path
    assert codes(caught.value) == [code]


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ArchitectureError) as caught:
        Architecture.of(GRAPH, {"op": "conv", "op.kernel": 4, "levls": [4, 3, 3], "inputs": ["a", "b"]})
    assert codes(caught.value) == ["unknown-option", "unknown-decision", "missing-decision"]
    assert "2 decisions have no value: `levels`, `hidden`" in str(caught.value)


@pytest.mark.parametrize("values", [None, 3, "op", ["op"], Decision])
def test_what_is_no_mapping_is_no_architecture(values: object) -> None:
    with pytest.raises(ArchitectureError, match="values by path") as caught:
        Architecture.of(GRAPH, values)  # type: ignore[arg-type]
    assert codes(caught.value) == ["no-values"]


def test_a_missing_decision_is_named_with_what_it_takes() -> None:
    with pytest.raises(ArchitectureError, match=r"`op\.kernel` has no value\nhelp: it takes 3, 5, 7"):
        Architecture.of(GRAPH, {path: value for path, value in VALUES.items() if path != "op.kernel"})


def test_an_architecture_of_another_graph_is_read_by_its_values() -> None:
    one = Architecture.of(GRAPH, VALUES)
    assert Architecture.of(GRAPH, one) is one
    kernels = replace(DECISIONS[1], items=(5, 7), labels=("5", "7"))
    other = replace(GRAPH, decisions={**GRAPH.decisions, "op.kernel": kernels}, requirements=())
    moved = Architecture.of(other, one)
    assert moved == one and hash(moved) == hash(one) and moved.indices["op.kernel"] == 0
    with pytest.raises(ArchitectureError, match="3 is not an option"):
        Architecture.of(other, Architecture.of(GRAPH, {**VALUES, "op.kernel": 3}))


def test_an_architecture_survives_copies_and_other_processes() -> None:
    one = Architecture.of(GRAPH, VALUES)
    assert copy.deepcopy(one) is copy.copy(one) is one
    there = pickle.loads(pickle.dumps(one))
    assert there == one and hash(there) == hash(one) and Architecture.of(GRAPH, there) == one


def test_an_architecture_of_many_decisions_has_a_short_form() -> None:
    many = {f"d{i}": Decision(f"d{i}", "units", range(500)) for i in range(1000)}
    graph = Graph({}, many, (), ())
    shown = repr(Architecture.of(graph, dict.fromkeys(many, range(0, 500, 2))))
    assert len(shown) < 600 and "994 more" in shown
    with pytest.raises(ArchitectureError) as caught:
        Architecture.of(graph, {})
    assert "1,000 decisions have no value" in str(caught.value) and len(str(caught.value)) < 200
    with pytest.raises(ArchitectureError) as caught:
        Architecture.of(graph, dict.fromkeys(many, 3))
    assert "and 992 more mistakes" in str(caught.value)


@pytest.mark.parametrize(
    "mistake",
    [
        wrong("unknown-option", "op.kernel", "wrong", "right"),
        error("code", "a message", Span(Source("text"), 1, 3), "label", help="help"),
        TooWide("count", 100, 10, ["a"]),
        RunError("no run", "begin one"),
        DataError("no data", help="find some"),
    ],
    ids=lambda mistake: type(mistake).__name__,
)
def test_mistakes_reach_other_processes(mistake: Exception) -> None:
    """As they come from workers of a pool."""
    found = pickle.loads(pickle.dumps(mistake))
    assert type(found) is type(mistake) and str(found) == str(mistake)
    assert repr(vars(found)) == repr(vars(mistake))


def test_a_choice_in_a_choice_in_a_choice_stands_behind_those_that_it_hangs_on() -> None:
    space = elaborate(
        Source(
            "space s { input 1 x 8 x 8\n"
            "network { oneof(a: conv(4), b: oneof(c: conv(4), d: oneof(e: conv(4), f: identity()))) -> classify(2) } }"
        )
    )
    assert list(space.graph.decisions) == ["oneof", "oneof.b", "oneof.b.d"]
    deep = Architecture.of(space.graph, {"oneof": "b", "oneof.b": "d", "oneof.b.d": "f"})
    assert deep.to_json() == {"oneof": "b", "oneof.b": "d", "oneof.b.d": "f"}
