"""Once-for-All on MobileNetV3: the space against closed forms, a plain torch network, and published networks.

The plain network is written here from the MobileNetV3 and Once-for-All papers and knows nothing of nasdsl. It has
MobileNetV3-Large's published parameters, which is in no space: its expansions are no multiples of the input. To check
more than a few random networks, set NASDSL_NETWORKS.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of, total_cost
from nasdsl.compiler.count import count
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.extremes import greatest, least
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from tests import shipped

NETWORKS = int(os.environ.get("NASDSL_NETWORKS", "2"))

WIDTHS, STRIDES = (24, 40, 80, 112, 160), (2, 2, 2, 1, 2)
ACTS, SQUEEZED = (nn.ReLU, nn.ReLU, nn.Hardswish, nn.Hardswish, nn.Hardswish), (False, True, False, True, True)
Stage = Sequence[tuple[int, int]]
"""Kernel and expansion of each block."""


def make_divisible(v: float, divisor: int = 8) -> int:
    """The rounding of the MobileNet papers' code."""
    rounded = max(divisor, int(v + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * v else rounded


def graph_of(name: str = "ofa_mobilenetv3", side: int = 224) -> Graph:
    return shipped.graph("ofa_mobilenetv3", name, side=str(side))


def values_of(graph: Graph, stages: Sequence[Stage]) -> Architecture:
    values: dict[str, Any] = {}
    for number, blocks in enumerate(stages, 1):
        wanted: dict[str, int] = {f"stage{number}.depth": len(blocks)}
        for i, (kernel, expand) in enumerate(blocks):
            wanted |= {f"stage{number}[{i}].mbconv.kernel": kernel, f"stage{number}[{i}].mbconv.expand": expand}
        values |= {path: graph.decisions[path].items.index(value) for path, value in wanted.items()}
    return Architecture.at(graph, values)


def random_stages(rng: random.Random) -> list[Stage]:
    return [[(rng.choice((3, 5, 7)), rng.choice((3, 4, 6))) for _ in range(rng.randint(2, 4))] for _ in range(5)]


# --- A plain network --------------------------------------------------------------------------------------------------


class Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = make_divisible(channels // 4)
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * ((self.layers(x) + 3) / 6).clamp(0, 1)


def conv(
    inputs: int, outputs: int, kernel: int, stride: int, groups: int, act: type[nn.Module] | None
) -> Iterator[nn.Module]:
    yield nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    yield nn.BatchNorm2d(outputs)
    if act is not None:
        yield act()


class Block(nn.Module):
    def __init__(self, inputs: int, mid: int, out: int, kernel: int, stride: int, act: Any, squeezed: bool) -> None:
        super().__init__()
        layers = list(conv(inputs, mid, 1, 1, 1, act)) if mid != inputs else []
        layers += conv(mid, mid, kernel, stride, mid, act)
        layers += [Gate(mid)] if squeezed else []
        self.layers = nn.Sequential(*layers, *conv(mid, out, 1, 1, 1, None))
        self.residual = stride == 1 and inputs == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + x if self.residual else self.layers(x)


def network_of(blocks: Sequence[Block], first: int, last: tuple[int, int, int], bias: bool) -> nn.Sequential:
    return nn.Sequential(
        *conv(3, first, 3, 2, 1, nn.Hardswish),
        *blocks,
        *conv(last[0], last[1], 1, 1, 1, nn.Hardswish),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(last[1], last[2], bias),
        nn.Hardswish(),
        nn.Linear(last[2], 1000),
    )


def plain(stages: Sequence[Stage], widen: float = 1) -> nn.Sequential:
    first, *widths, last = (make_divisible(width * widen) for width in (16, *WIDTHS, 960))
    blocks, inputs = [Block(first, first, first, 3, 1, nn.ReLU, False)], first
    for stage, out, stride, act, squeezed in zip(stages, widths, STRIDES, ACTS, SQUEEZED, strict=True):
        for i, (kernel, expand) in enumerate(stage):
            mid = make_divisible(inputs * expand)
            blocks.append(Block(inputs, mid, out, kernel, 1 if i else stride, act, squeezed))
            inputs = out
    return network_of(blocks, first, (inputs, last, make_divisible(1280 * widen)), bias=False)


def counts(network: nn.Module, side: int) -> dict[str, int]:
    """MACs of the convolutions and linear layers, from their outputs for one image, and parameters."""
    macs = 0

    def add(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal macs
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        macs += output.numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(add)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side))
    return {"macs": macs, "params": sum(p.numel() for p in network.parameters())}


LARGE = """16 3 16 16 . R 1/16 3 64 24 . R 2/24 3 72 24 . R 1/24 5 72 40 s R 2/40 5 120 40 s R 1/40 5 120 40 s R 1
40 3 240 80 . H 2/80 3 200 80 . H 1/80 3 184 80 . H 1/80 3 184 80 . H 1/80 3 480 112 s H 1/112 3 672 112 s H 1
112 5 672 160 s H 2/160 5 960 160 s H 1/160 5 960 160 s H 1"""


def test_the_plain_network_is_mobilenetv3() -> None:
    """MobileNetV3-Large: 219M MACs and 5.4M parameters in the paper (5.48M with the norms of the usual code)."""
    blocks = []
    for row in LARGE.replace("\n", "/").split("/"):
        inputs, kernel, mid, out, squeezed, act, stride = row.split()
        act_of = {"R": nn.ReLU, "H": nn.Hardswish}[act]
        blocks.append(Block(int(inputs), int(mid), int(out), int(kernel), int(stride), act_of, squeezed == "s"))
    found = counts(network_of(blocks, 16, (160, 960, 1280), bias=True), 224)
    assert found["params"] == 5_483_032
    assert 216e6 < found["macs"] < 219e6


# --- The space --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ofa_mobilenetv3", "ofa_mobilenetv3_wide"])
def test_it_has_as_many_architectures_as_published(name: str) -> None:
    """Above 2 * 10^19: five stages of two to four blocks, nine alternatives each."""
    assert count(graph_of(name)).total == (9**2 + 9**3 + 9**4) ** 5 == 21_758_655_492_572_485_851


@pytest.mark.parametrize("name", ["ofa_mobilenetv3", "ofa_mobilenetv3_wide"])
def test_costs_are_those_of_a_plain_network(name: str) -> None:
    rng = random.Random(name)
    uniform: list[list[Stage]] = [[[(k, e)] * d] * 5 for k, e, d in ((3, 3, 2), (7, 6, 4))]
    for side in (224, 128, 148):
        graph = graph_of(name, side)
        for stages in uniform + [random_stages(rng) for _ in range(NETWORKS)]:
            widen = 1.2 if name.endswith("wide") else 1
            assert cost_of(graph, values_of(graph, stages).indices) == counts(plain(stages, widen), side)


def test_the_smallest_and_the_largest_are_the_extremes() -> None:
    graph = graph_of()
    for extreme, blocks in ((least, [(3, 3)] * 2), (greatest, [(7, 6)] * 4)):
        for measure, value in total_cost(graph)._asdict().items():
            cost, found = extreme(graph, value)
            assert found == values_of(graph, [blocks] * 5)
            assert cost == cost_of(graph, found.indices)[measure]


@pytest.mark.parametrize(
    ("side", "stages", "macs", "params"),
    [
        (152, "53 33/54 53/34 34 54/34 53 74/36 33 53 53", 101, 4.6),
        (140, "33 33/53 53/74 33/53 34/36 76", 67, 4.3),
    ],
    ids=["note8_lat@31ms", "note8_lat@22ms"],
)
def test_published_networks(side: int, stages: str, macs: int, params: float) -> None:
    """Two networks specialised for the Samsung Note8, with MACs and parameters (in millions) as the authors publish
    them. Written kernel and expansion of each block, stage by stage."""
    graph = graph_of(side=side)
    blocks = [[(int(block[0]), int(block[1])) for block in stage.split()] for stage in stages.split("/")]
    cost = cost_of(graph, values_of(graph, blocks).indices)
    assert (round(cost["macs"] / 1e6), round(cost["params"] / 1e6, 1)) == (macs, params)


def test_a_network_computes_what_the_plain_one_does() -> None:
    graph, rng = graph_of(side=128), random.Random(1)
    image = torch.rand(2, 3, 128, 128)
    for _ in range(NETWORKS):
        stages = random_stages(rng)
        reference, network = plain(stages).eval(), Supernet(pin(graph, values_of(graph, stages).indices)).eval()
        for (name, ours), theirs in zip(network.state_dict().items(), reference.state_dict().values(), strict=True):
            assert ours.shape == theirs.shape, name
            if theirs.dim() == 1:
                theirs.uniform_(0.7, 1.3)
            ours.copy_(theirs)
        with torch.no_grad():
            expected = reference(image)
            assert (network(image) - expected).abs().max() < 1e-5 * expected.abs().max().clamp(min=1)


def test_resolutions_are_those_of_the_paper() -> None:
    for side in (128, 132, 224):
        assert graph_of(side=side).input.shape.width == side
    for side in (124, 130, 228):
        with pytest.raises(CompileError, match="cannot be"):
            graph_of(side=side)


def test_widths_are_rounded_as_in_mobilenet_code() -> None:
    widths, divisors = range(1, 400), (1, 8, 10)
    steps = "\n".join(f"    conv(divisible({v}, {d}))" for d in divisors for v in widths)
    graph = elaborate(Source(f"space s {{\n  input 3 x 1 x 1\n  network {{\n{steps}\n  }}\n}}\n", "s")).graph
    found = [node.shape.channels for node in graph.nodes.values() if node.op == "conv"]
    assert found == [make_divisible(v, d) for d in divisors for v in widths]
