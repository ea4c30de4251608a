"""Declarations: every decision belongs to one, those with the same text and options to the same, and names tell."""

from __future__ import annotations

from pathlib import Path

import pytest

import nasdsl
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.declarations import Declaration, declarations_of
from nasdsl.compiler.graph import Graph

SPACES = Path(nasdsl.__file__).resolve().parent / "spaces"

TEXT = """
space s {
  input 3 x 16 x 16
  operator edge() = oneof(identity(), conv(in, kernel: 3))
  network {
    body: repeat 2 { edge() -> conv(8, kernel: oneof(3, 5)) }
    edge()
    conv(8, kernel: oneof(3, 5))
    classify(classes: 4)
  }
}
"""


@pytest.mark.parametrize("name", ["nasbench201", "hitdetector_small", "autofpn_small", "hrnas_small"])
def test_every_decision_belongs_to_one_and_names_tell(name: str) -> None:
    graph = nasdsl.load(SPACES / f"{name}.space").graph
    found = declarations_of(graph)
    assert sorted(path for one in found for path in one.paths) == sorted(graph.decisions)
    assert len({one.name for one in found}) == len(found)
    for one in found:
        copies = [graph.decisions[path] for path in one.paths]
        assert {(d.declaration, d.kind, d.n, d.size) for d in copies} == {
            (copies[0].declaration, one.kind, len(one.labels), one.size)
        }
        assert len(set(one.labels)) == len(one.labels)


def test_names_are_as_short_as_they_can_be() -> None:
    found = {one.name: one for one in declarations_of(nasdsl.loads(TEXT).graph)}
    assert {name: one.paths for name, one in found.items()} == {
        "body.conv.kernel": ("body[0].conv.kernel", "body[1].conv.kernel"),
        "edge": ("body[0].edge", "body[1].edge", "edge"),
        "conv.kernel": ("conv.kernel",),
    }
    assert found["edge"].values == ("identity", "conv")


def test_values_of_a_subset_stand_in_the_order_of_its_probabilities() -> None:
    decision = Decision("x", "subset", ("a", "b", "c"), ("a", "b", "c"), 2)
    values = Declaration("x", "subset", ("x",), ("a", "b", "c"), 2).values
    assert list(values) == [decision.describe(value) for value in decision.values()]


def test_options_that_read_alike_are_told_apart() -> None:
    graph = Graph({}, {"x": Decision("x", "choice", (1, 2, 3), ("same", "same", "other"))}, (), ())
    (found,) = declarations_of(graph)
    assert (found.name, found.labels) == ("x", ("same#0", "same#1", "other"))
