"""Products, weighted sums, gates and pyramids: against torch, and in every architecture where inputs may be absent."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.count import count
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.layers.merge import Product, WeightedSum
from nasdsl.compiler.layers.norm import Gain
from nasdsl.compiler.layers.resample import AdaptivePool, ResizeLike
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample, unrank
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.export import batch_to_compare, export_python, verify_python
from tests.networks import check_extraction, check_predictions, image_for, same

OPTIONAL = """
space optional {
  input 3 x 20 x 28
  operator maybe(x) = x -> (none if oneof(true, false) else conv(6, kernel: 3))
  network {
    a: conv(6, kernel: 3, stride: 2)
    b: maybe(a)
    c: maybe(a)
    d: a -> conv(6)
    w: branches(b, c, d) -> weighted_sum(weights: WEIGHTS)
    g: branches(c, b, w) -> product()
    v: g -> global_pool() -> conv(6, act: sigmoid)
    k: g -> conv(1, act: sigmoid)
    branches(g, v, k) -> product() -> gain(2)
    segment(classes: 3)
  }
}
"""

PYRAMIDS = """
space pyramids {
  input 3 x 24 x 40
  let wide = oneof(6, 8)
  network {
    x: conv(wide, kernel: 3, stride: 2)
    y: aspp(oneof(6, 9), rates: [1, 2], image: oneof(true, false))
    z: pyramid_pool(oneof(8, 10), bins: [1, 2, 5])
    attention_gate(z, by: x, mid: 4)
    segment(classes: 3)
  }
}
"""


@cache
def graph_of(weights: str) -> Graph:
    text = PYRAMIDS if weights == "pyramids" else OPTIONAL.replace("WEIGHTS", weights)
    return elaborate(Source(text, "optional")).graph


def random(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64, requires_grad=True)


def compare(ours: torch.Tensor, theirs: torch.Tensor, leaves: list[torch.Tensor]) -> None:
    """Values and gradients agree."""
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    grads = [torch.autograd.grad((y * weights).sum(), leaves, allow_unused=True) for y in (ours, theirs)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


# --- layers -----------------------------------------------------------------------------------------------------------


def test_a_product_spreads_vectors_and_single_channels() -> None:
    x, y, v, k = random(2, 5, 6, 7), random(2, 5, 5, 7), random(2, 5), random(2, 1, 6, 7)
    at_size = F.interpolate(y, (6, 7), mode="bilinear", align_corners=False)
    expected = torch.einsum("bchw,bchw,bc,bhw->bchw", x, at_size, v, k[:, 0])
    compare(Product()(x, y, v, k), expected, [x, y, v, k])
    u, w = random(3, 4), random(3, 1)
    compare(Product()(u, w), u * w.expand(-1, 4), [u, w])


@pytest.mark.parametrize("weights", ["fast", "softmax", "free"])
def test_a_weighted_sum_is_that_of_the_paper(weights: str) -> None:
    layer = WeightedSum(3, weights, eps=1e-4, init=0.5).double()
    assert layer.factors.tolist() == [0.5, 0.5, 0.5]
    with torch.no_grad():
        layer.factors.copy_(torch.tensor([0.7, -0.2, 1.9]))
    xs = [random(2, 5, 6, 7), random(2, 5, 6, 7), random(2, 5, 3, 4)]
    whole = torch.stack([*xs[:2], F.interpolate(xs[2], (6, 7), mode="bilinear", align_corners=False)])
    w = layer.factors
    if weights == "fast":
        factors = F.relu(w) / (1e-4 + F.relu(w).sum())
    else:
        factors = torch.exp(w) / torch.exp(w).sum() if weights == "softmax" else w
    compare(layer(*xs), torch.tensordot(factors, whole, 1), [*xs, w])


def test_gains_grids_and_sizes() -> None:
    x, v, like = random(2, 5, 6, 9), random(2, 5), torch.zeros(2, 3, 12, 20)
    gain = Gain(3.0).double()
    compare(gain(x), torch.einsum("bchw,k->bchw", x, gain.factor), [x, gain.factor])
    compare(AdaptivePool(4)(x), nn.AdaptiveAvgPool2d(4)(x), [x])
    compare(ResizeLike()(x, like), nn.Upsample((12, 20), mode="bilinear", align_corners=False)(x), [x])
    compare(ResizeLike("nearest")(x, like), nn.Upsample((12, 20), mode="nearest")(x), [x])
    compare(ResizeLike()(v, like), v[:, :, None, None].repeat(1, 1, 12, 20), [v])


# --- inputs that may be absent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["fast", "softmax", "free", "pyramids"])
def test_every_architecture_is_what_it_is_in_the_supernet(weights: str) -> None:
    graph = graph_of(weights)
    architectures = [unrank(graph, number) for number in range(count(graph).total)]
    assert len(architectures) == (16 if weights == "pyramids" else 4)
    for architecture in architectures:
        check_predictions(graph, architecture)
    supernet = Supernet(graph).eval()
    for layer in supernet.layers.values():
        if isinstance(layer, WeightedSum):
            with torch.no_grad():
                layer.factors.copy_(torch.tensor([0.3, 1.1, 0.6]))
    for architecture in architectures:
        supernet.activate(architecture)
        image = image_for(graph, 2)
        with torch.no_grad():
            same([supernet(image)], [supernet.extract()(image)])
    check_extraction(graph, *architectures)


def test_a_factor_belongs_to_its_input() -> None:
    """Without the first input, the second and the third have the factors that they have beside it."""
    graph = graph_of("free")
    supernet = Supernet(graph)
    (layer,) = [layer for layer in supernet.layers.values() if isinstance(layer, WeightedSum)]
    with torch.no_grad():
        layer.factors.copy_(torch.tensor([2.0, 3.0, 5.0]))
    found = {}
    for number in range(4):
        architecture = unrank(graph, number)
        network = supernet.extract(architecture)
        own = [layer for layer in network.layers.values() if isinstance(layer, WeightedSum)]
        found[tuple(architecture.to_json().values())] = own[0].factors.tolist()
        supernet.activate(architecture)
        supernet.zero_grad()
        supernet(image_for(graph, 2)).sum().backward()
        assert layer.factors.grad is not None
        assert [f for f, g in zip([2.0, 3.0, 5.0], layer.factors.grad.tolist(), strict=True) if g] == own[
            0
        ].factors.tolist()
    assert sorted(found.values()) == [[2.0, 3.0, 5.0], [2.0, 5.0], [3.0, 5.0], [5.0]]


def test_copies_that_share_weights_take_theirs() -> None:
    """Two copies with the same weights, of which one reads an input less: the larger one holds the factors of both."""
    text = """
    space copies {
      input 3 x 16 x 16
      network {
        x: conv(4, kernel: 3, stride: 2)
        y: x -> conv(4, stride: 2)
        branches(x, y) -> parallel(share: weights) {
          own: identity()
          other: none if scale == 1/2 else own -> conv(4, share: none)
          branches(own, other) -> weighted_sum()
        }
        concat() -> segment(classes: 2)
      }
    }
    """
    graph = elaborate(Source(text, "copies")).graph
    network = Supernet(graph).eval()
    (layer,) = [layer for layer in network.layers.values() if isinstance(layer, WeightedSum)]
    assert len(layer.factors) == 2
    check_predictions(graph, unrank(graph, 0))
    check_extraction(graph, unrank(graph, 0))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("v: a -> global_pool()\n branches(v, a) -> product()", "begins with a vector"),
        ("k: a -> conv(3)\n branches(a, k) -> product()", "input 1 has 6 channels and input 2 3"),
        ("k: a -> conv(6, stride: 2)\n branches(a, k) -> weighted_sum()", "one scale"),
        ("k: a -> conv(oneof(3, 6))\n branches(a, k) -> weighted_sum()", "equal widths, whatever is chosen"),
        ("v: a -> global_pool()\n branches(a, v) -> weighted_sum()", "not both"),
        (
            "k: none if oneof(true, false) else a -> conv(6)\n v: a -> global_pool()\n branches(k, v) -> product()",
            "may not be there",
        ),
        ("a -> weighted_sum(weights: hard)", "fast"),
        ("a -> weighted_sum(eps: 2)", "eps"),
        ("a -> adaptive_pool(0)", "bins"),
        ("v: a -> global_pool()\n branches(a, v) -> resize_like()", "feature map"),
    ],
)
def test_mistakes_are_told(steps: str, message: str) -> None:
    network = f"a: conv(6, kernel: 3)\n {steps}\n classify(classes: 2)"
    text = f"space wrong {{\n input 3 x 16 x 16\n network {{\n {network}\n }}\n}}"
    with pytest.raises(CompileError) as caught:
        elaborate(Source(text, "wrong"))
    assert any(message in str((d.message, d.help, d.label)) for d in caught.value.diagnostics), caught.value.diagnostics


def test_biggest_and_smallest_cost() -> None:
    """Each input that is there brings its own factor, and its convolution."""
    graph = graph_of("fast")
    params = {cost_of(graph, unrank(graph, n).indices)["params"] for n in range(4)}
    conv = 9 * 36 + 12
    least = min(params)
    assert params == {least, least + conv + 1, least + 2 * (conv + 1)}


# --- library ----------------------------------------------------------------------------------------------------------


def test_pyramids_have_the_parameters_of_their_papers() -> None:
    """DeepLabv3's on 2048 channels, PSPNet's on 2048: convolutions without biases, each before a norm."""

    def params(step: str) -> int:
        head = "space whole {\n input 2048 x 16 x 16\n network {\n " + step + "\n segment(classes: 1)\n }\n}"
        graph = elaborate(Source(head, "whole")).graph
        (segment,) = [node for node in graph.operators() if node.op == "segment"]
        return cost_of(graph, {})["params"] - graph.nodes[segment.inputs[0].source].shape.channels - 1

    def conv(inputs: int, out: int, kernel: int = 1) -> int:
        return kernel**2 * inputs * out + 2 * out

    aspp = 2 * conv(2048, 256) + 3 * conv(2048, 256, 3) + conv(5 * 256, 256)
    assert params("aspp()") == aspp
    assert params("pyramid_pool()") == 4 * conv(2048, 512) + conv(4096, 512, 3)


def test_networks_with_pyramids_are_exported(tmp_path: Path) -> None:
    text = OPTIONAL.replace("WEIGHTS", "fast").replace("segment", "aspp(6, rates: [1, 2])\n pyramid_pool(8)\n segment")
    graph = elaborate(Source(text, "whole")).graph
    network = Supernet(graph).eval().extract(sample(graph, 1, seed=5)[0])
    path = export_python(network, tmp_path / "alone.py")[0]
    assert verify_python(path, network, batch_to_compare(network)) < 1e-5


def test_an_open_batch_is_recorded() -> None:
    graph = graph_of("pyramids")
    (architecture,) = sample(graph, 1, seed=5)
    network = Supernet(graph).extract(architecture).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (image_for(graph, 2),), dynamic_shapes=({0: batch},))
    image = image_for(graph, 5)
    with torch.no_grad():
        same([program.module()(image)], [network(image)])
