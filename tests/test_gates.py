"""Gates against enumeration: the probability that an edge is used where its node is reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch

import nasdsl
from nasdsl.compiler.architecture import is_present
from nasdsl.compiler.gates import Gates
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.values.tree import holds

PROGRAMS = {
    "a choice of choices": """
        network {
          conv(4)
          oneof(
            a: conv(4)
            b: oneof(c: conv(4, kernel: 3), d: identity(), e: oneof(f: conv(4), g: identity()))
            none
          ) + identity()
          classify(2)
        }
    """,
    "depth, and choices in what is repeated": """
        network {
          conv(4)
          repeat oneof(1..3) { oneof(a: conv(4), b: conv(4, kernel: oneof(1, 3)), none) + identity() }
          classify(2)
        }
    """,
    "edges by subset, and by a choice made elsewhere": """
        fusion edges { same: oneof(c: conv(4), none), merge: sum() }
        operator nodes() {
          n0: identity()
          n1: conv(4)
          n2: fuse(edges, from: manyof(1, earlier))
          n3: fuse(edges, from: manyof(2, earlier))
        }
        network {
          conv(4)
          let kind = oneof(0, 1, 2)
          nodes() + match kind {
            0: identity()
            1: oneof(d: conv(4), e: identity())
            2: conv(4)
          }
          match kind { 0: conv(4), 1: identity(), 2: identity() }
          classify(2)
        }
    """,
    "a residual that may be passed by": """
        network {
          conv(4)
          oneof(small: { conv(4) -> repeat oneof(0..2) { conv(4) } }, large: repeat oneof(0..1) { conv(4) })
          classify(2)
        }
    """,
}


def loads(body: str, shape: str = "1 x 8 x 8") -> Any:
    return nasdsl.loads(f"space made {{\n  input {shape}\n{body}\n}}\n")


def likelihoods(graph: Graph, p: Mapping[str, torch.Tensor]) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    """All joint values, each decision made where it is present, with their probabilities."""
    found: list[tuple[dict[str, Any], torch.Tensor]] = [({}, torch.ones((), dtype=torch.float64))]
    for path, decision in graph.decisions.items():
        found = [
            (grown, likely * share)
            for values, likely in found
            for grown, share in (
                [({**values, path: value}, p[path][i]) for i, value in enumerate(decision.values())]
                if is_present(decision, values)
                else [(values, torch.ones((), dtype=torch.float64))]
            )
        ]
    yield from found


def random_probabilities(graph: Graph, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        path: torch.rand(len(list(decision.values())), generator=generator, dtype=torch.float64).softmax(0)
        for path, decision in graph.decisions.items()
    }


def conditional(graph: Graph, p: Mapping[str, torch.Tensor], when: Any, reached: Any) -> torch.Tensor:
    both, given = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for values, likely in likelihoods(graph, p):
        if holds(reached, values):
            given = given + likely
            both = both + likely * holds(when, values)
    return both / given


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_gate_is_the_conditional_probability(name: str) -> None:
    graph = loads(PROGRAMS[name]).graph
    logits = {path: one.log().requires_grad_() for path, one in random_probabilities(graph).items()}
    p = {path: one.softmax(0) for path, one in logits.items()}
    gates = Gates(graph)
    edges = [(edge.when, node.reached) for node in graph.nodes.values() for edge in node.inputs]
    numbers = [gates.add(*edge) for edge in edges]
    values = gates.table(range(len(gates)))(gates.vector(p))
    assert len(edges) > len(set(numbers)), "what is always so is looked at once"
    weights = torch.rand(len(edges), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([conditional(graph, p, *edge) for edge in edges])
    torch.testing.assert_close(values[numbers], expected, rtol=1e-12, atol=1e-14)
    found, wanted = (
        torch.autograd.grad(made @ weights, list(logits.values()), retain_graph=True, materialize_grads=True)
        for made in (values[numbers], expected)
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PROGRAMS)
def test_conditions_that_are_taken_apart_are_exact_where_all_is_decided(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasdsl.compiler.gates.MOST_JOINT", 6)
    graph = loads(PROGRAMS[name]).graph
    gates = Gates(graph)
    edges = [(edge.when, node.reached) for node in graph.nodes.values() for edge in node.inputs]
    numbers = [gates.add(*edge) for edge in edges]
    table = gates.table(numbers)
    for seed in range(20):
        one = nasdsl.sample(loads(PROGRAMS[name]), 1, seed=seed)[0]
        sure = {path: torch.zeros(len(values)) for path, values in gates.values.items()}
        for path, values in gates.values.items():
            sure[path][values.index(one.indices[path]) if path in one.indices else 0] = 1
        for (when, reached), found in zip(edges, table(gates.vector(sure)).tolist(), strict=True):
            if holds(reached, one.indices):
                assert found == holds(when, one.indices)
