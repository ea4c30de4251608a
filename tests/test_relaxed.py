"""The relaxed supernet: at one architecture what the activated one computes, between them what a plain mixture does.

To relax more random programs, set NASDSL_EXAMPLES.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

import nasdsl
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.relaxed import Relaxed
from nasdsl.compiler.sample import sample
from tests import shipped
from tests.networks import image_for, tensors_of, unsettle

PROGRAMS = int(os.environ.get("NASDSL_EXAMPLES", "40"))


def loads(body: str, shape: str = "3 x 8 x 8") -> Graph:
    return nasdsl.loads(f"space made {{\n  input {shape}\n{body}\n}}\n").graph


def relaxed(graph: Graph, double: bool = False) -> Relaxed:
    torch.manual_seed(0)
    network = Relaxed(graph)
    unsettle(network)
    return network.double() if double else network


def at(network: Relaxed, architecture: Architecture, elsewhere: float = 0.0) -> dict[str, torch.Tensor]:
    """All weight on one architecture; of decisions that it does not have, on their first value."""
    like = next(network.parameters())
    weights = {}
    for path, values in network.gates.values.items():
        own = architecture.indices.get(path, values[0])
        weights[path] = like.new_tensor([1.0 if value == own else elsewhere for value in values])
    return weights


def close(found: Any, expected: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    for one, other in zip(tensors_of(found), tensors_of(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


def check_vertices(graph: Graph, x: torch.Tensor, n: int = 3, open_too: bool = True) -> None:
    """One path, and all options of which the others weigh next to nothing, against what is activated."""
    network = relaxed(graph).eval()
    for one in sample(graph, n, seed=1):
        network.activate(one)
        with torch.no_grad():
            expected = network(x)
            network.relax(at(network, one))
            close(network(x), expected, 0, 0)
            if open_too:
                network.relax(at(network, one, elsewhere=1e-30))
                close(network(x), expected)
            network.relax(None)
            close(network(x), expected, 0, 0)


# --- At one architecture ----------------------------------------------------------------------------------------------

SHIPPED = {
    "nasbench201": ("nasbench201", "nasbench201", "cells: 1", 32),
    "ofa_mobilenetv3": ("ofa_mobilenetv3", "ofa_mobilenetv3", "", 64),
    "trionet_small": ("trionet_small", "trionet_small", "", 32),
    "autofpn_small": ("autofpn_small", "autofpn_small", "", None),
    "hitdetector_small": ("hitdetector_small", "hitdetector_small", "", None),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_space_that_ships_relaxed_at_an_architecture_is_that_architecture(name: str) -> None:
    file, space, changes, size = SHIPPED[name]
    graph = shipped.graph(file, space, changes)
    shape = graph.input.shape
    height, width = (size, size) if size else (int(shape.height), int(shape.width))
    x = torch.randn(1, int(shape.channels), height, width, generator=torch.Generator().manual_seed(0))
    check_vertices(graph, x, 2)


MADE = {
    "choices of choices": """
        network {
          conv(4)
          oneof(
            a: conv(4)
            b: { conv(8) -> oneof(c: conv(4, kernel: 3), d: skip(4), e: oneof(f: conv(4), g: conv(4, kernel: 5))) }
            none
          ) + identity()
          classify(2)
        }
    """,
    "edges that may be absent, chosen by subsets": """
        fusion edges { same: oneof(c: conv(8, order: [act, conv, norm]), avg: avg_pool(3), none), merge: sum() }
        operator nodes() {
          n0: identity()
          n1: conv(8)
          n2: fuse(edges, from: manyof(1, earlier))
          n3: fuse(edges, from: manyof(2, earlier))
        }
        network { conv(8) -> nodes() + identity() -> classify(2) }
    """,
    "an operator used twice decides once": """
        operator block() = oneof(a: conv(8, kernel: oneof(1, 3)), b: depthwise(kernel: oneof(3, 5)), c: identity())
        network {
          conv(8)
          let b = block()
          b -> b -> b
          classify(2)
        }
    """,
    "depth": """
        network {
          conv(8)
          repeat oneof(1..3) { residual { conv(oneof(4, 8), kernel: oneof(1, 3)) -> conv(8, act: none) } }
          repeat oneof(0..2) { oneof(a: conv(8), none) + identity() }
          classify(2)
        }
    """,
    "widths, kernels and squeeze-excite": """
        network {
          conv(oneof(4, 8), kernel: oneof(1, 3, 5))
          let e = oneof(2, 3)
          conv(8 * e) -> depthwise(kernel: oneof(3, 5, 7), act: swish) -> se(ratio: oneof(1/4, 1/2)) -> conv(8)
          conv(oneof(4, 8), norm: none) -> norm() -> relu() -> max_pool(3)
          global_pool() -> linear(oneof(4, 6)) -> linear(2, act: none)
        }
    """,
    "a norm in front": """
        network {
          conv(oneof(4, 8))
          conv(oneof(4, 8), order: [norm, act, conv]) -> depthwise(order: [norm, act, conv])
          conv(oneof(4, 8), kernel: 3, order: [norm, conv, act])
          classify(2)
        }
    """,
    "functions of which zero is not zero": """
        network {
          conv(oneof(4, 8), act: sigmoid) -> sigmoid() -> conv(oneof(4, 8), order: [act, conv, norm], act: sigmoid)
          conv(4, act: oneof(relu, sigmoid, swish)) -> h_sigmoid()
          classify(2)
        }
    """,
    "concat behind widths": """
        network {
          conv(8)
          concat(conv(oneof(4, 8)), conv(oneof(2, 4)), identity())
          conv(8, kernel: 3)
          concat(oneof(a: conv(4), b: identity()), conv(oneof(2, 4)))
          classify(2)
        }
    """,
    "group norm, groups, standardised filters": """
        network {
          conv(oneof(8, 16), norm: group, norm_groups: 4)
          conv(16, groups: oneof(1, 2, 4), kernel: 3)
          conv(oneof(8, 16), standardise: true)
          conv(16, norm: oneof(none, batch))
          let w = oneof(8, 16)
          conv(w) -> conv(16, groups: w, kernel: 3) -> conv(w, groups: w)
          classify(2)
        }
    """,
    "attention": """
        network {
          conv(16)
          oneof(a: axial_attention(16, heads: 2), b: conv(16, kernel: 3))
          local_attention(oneof(8, 16), window: oneof(3, 5), heads: 4)
          classify(2)
        }
    """,
    "pooling and maps of two sizes": """
        network {
          conv(8)
          avg_pool(oneof(2, 3)) + conv(8)
          max_pool(oneof(1, 3, 5))
          concat(oneof(a: identity(), b: conv(8, kernel: 3)), { conv(8, stride: 2) -> oneof(c: conv(8), d: identity()) })
          dropout(oneof(0, 1/2))
          classify(2, dropout: 1/4)
        }
    """,
    "widths that are tied by a requirement": """
        network {
          let a = oneof(4, 8)
          let b = oneof(4, 8)
          require a == b
          conv(8)
          conv(a) + conv(b, kernel: 3)
          conv(8)
          classify(2)
        }
    """,
    "skips between widths": """
        network {
          conv(oneof(4, 12, 16)) -> skip(8) -> conv(oneof(8, 16)) -> skip(16) -> mean()
          flatten() -> linear(oneof(4, 8)) -> linear(2)
        }
    """,
}


@pytest.mark.parametrize("name", MADE)
def test_a_program_relaxed_at_an_architecture_is_that_architecture(name: str) -> None:
    graph = loads(MADE[name])
    check_vertices(graph, image_for(graph, 2), 8)
