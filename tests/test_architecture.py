"""An architecture is the values of its present decisions, however it was put together."""

from __future__ import annotations

import json
import pickle

import pytest

from nasdsl.compiler.architecture import Architecture, ArchitectureError
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.graph import Graph, Requirement
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.values.expr import Among, Case, Kept, less
from nasdsl.compiler.values.plain import Symbol
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
VALUES = {"op": 0, "op.kernel": 1, "inputs": (2, 0), "levels": (2, 1, 0), "hidden": [3, 1, 2]}


def test_values_are_canonical_and_absent_decisions_do_not_count() -> None:
    one = Architecture.of(GRAPH, VALUES)
    assert dict(one) == {"op": 0, "op.kernel": 1, "inputs": (0, 2), "levels": (2, 0, 1), "hidden": (1, 2, 3)}
    local = Architecture.of(GRAPH, {**VALUES, "op": 1})
    assert "op.kernel" not in local
    assert local == Architecture.of(GRAPH, {**VALUES, "op": 1, "op.kernel": 2})
    assert len({local, Architecture.of(GRAPH, {**local}), one}) == 2


def test_violations_are_named_and_absent_decisions_break_nothing() -> None:
    assert Architecture.of(GRAPH, VALUES).violations(GRAPH) == ()
    large = {**VALUES, "op.kernel": 2, "hidden": tuple(range(12))}
    assert Architecture.of(GRAPH, large).violations(GRAPH) == (FEW, SMALL)
    assert Architecture.of(GRAPH, {**large, "op": 1}).violations(GRAPH) == (FEW,)


def test_json_reads_as_the_source_and_comes_back_equal() -> None:
    one = Architecture.of(GRAPH, {**VALUES, "hidden": [0, 1, 2, 3, 9]})
    data = one.to_json(GRAPH)
    assert data == {"op": "conv", "op.kernel": 5, "inputs": ["a", "c"], "levels": [4, 3, 3], "hidden": "0..3, 9"}
    assert Architecture.from_json(GRAPH, json.loads(json.dumps(data))) == one
    nothing = Architecture.of(GRAPH, {**VALUES, "hidden": ()})
    assert Architecture.from_json(GRAPH, nothing.to_json(GRAPH)) == nothing


def test_items_that_read_alike_are_told_apart() -> None:
    graph = Graph({}, {"x": Decision("x", "choice", (Symbol("p"), Symbol("q")), ("same", "same"))}, (), ())
    second = Architecture.of(graph, {"x": 1})
    assert second.to_json(graph) == {"x": "same#1"}
    assert Architecture.from_json(graph, second.to_json(graph)) == second


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"op.kernl": 1}, "op.kernl", "did you mean `op.kernel`"),
        ({"op": 2}, "op", "from 0 to 1"),
        ({"op": True}, "op", "option"),
        ({"inputs": (0,)}, "inputs", "2 of 3"),
        ({"inputs": (0, 0)}, "inputs", "different"),
        ({"levels": (0, 1)}, "levels", "all 3"),
        ({"hidden": (20,)}, "hidden", "from 0 to 19"),
        ({"hidden": 3}, "hidden", "tuple"),
    ],
)
def test_what_is_no_architecture_says_where(change: dict[str, object], path: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message) as caught:
        Architecture.of(GRAPH, {**VALUES, **change})
    assert caught.value.path == path


def test_a_missing_decision_is_named() -> None:
    with pytest.raises(ArchitectureError, match=r"`op\.kernel` has no value"):
        Architecture.of(GRAPH, {path: value for path, value in VALUES.items() if path != "op.kernel"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op": "cnv"}, "did you mean `conv`"),
        ({"op.kernel": 9}, "its items are 3, 5, 7"),
        ({"levels": [4, 4, 3]}, "too often"),
        ({"hidden": "0..99999999999"}, "units from 0 to 19"),
        ({"hidden": "x"}, "units from 0 to 19"),
        ({"inputs": "a"}, "list of items"),
    ],
)
def test_what_a_file_may_get_wrong(change: dict[str, object], message: str) -> None:
    data = Architecture.of(GRAPH, VALUES).to_json(GRAPH)
    with pytest.raises(ArchitectureError, match=message):
        Architecture.from_json(GRAPH, {**data, **change})


@pytest.mark.parametrize(
    "mistake",
    [
        ArchitectureError("op.kernel", "wrong"),
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
