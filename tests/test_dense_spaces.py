"""Spaces for dense prediction: their sizes, and the published networks in them, parameter by parameter."""

from __future__ import annotations

from functools import cache
from math import prod

import pytest
import torch

from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.count import count
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.layers.mixconv import MixConv
from nasdsl.compiler.sample import sample
from nasdsl.compiler.supernet import Supernet
from tests import shipped
from tests.networks import check_extraction, check_predictions


@cache
def graph(file: str, name: str = "", changes: str = "") -> Graph:
    return shipped.graph(file, name, changes)


# --- U-Net ------------------------------------------------------------------------------------------------------------


def test_u_nets_are_counted() -> None:
    """Of s steps: 2 s + 1 blocks of four kinds, s ways down, up and across; four widths."""
    found = count(graph("unet")).total
    assert found == 4 * sum(4 ** (2 * s + 1) * (2 * 2 * 3) ** s for s in range(2, 6))


def test_the_u_net_of_the_paper_by_closed_form() -> None:
    """Convolutions of 3 x 3 without biases before norms; ways up of 2 x 2 with a bias; 1 x 1 to two classes."""

    def double(inputs: int, out: int) -> int:
        return 9 * inputs * out + 9 * out * out + 2 * 2 * out

    widths = [64 * 2**n for n in range(5)]
    total = double(3, 64) + sum(double(widths[n], widths[n + 1]) for n in range(4))
    total += sum(4 * 2 * c * c + c + double(2 * c, c) for c in widths[:4]) + 64 * 2 + 2
    assert cost_of(graph("unet", "unet_64"), {})["params"] == total == 31_037_698
    macs = 0
    for n, c in enumerate(widths):
        pixels = (512 // 2**n) ** 2
        macs += pixels * (9 * (3 if n == 0 else c // 2) * c + 9 * c * c)
        if n < 4:
            macs += pixels * (2 * c * c + 9 * 2 * c * c + 9 * c * c)  # each pixel of the way up is of one of the 2 x 2
    assert cost_of(graph("unet", "unet_64"), {})["macs"] == macs + 512**2 * 64 * 2


def test_u_nets_of_odd_size_are_what_was_predicted() -> None:
    small = graph("unet", "unet_small", "widths: [4, 6], input 3 x 37 x 22")
    found = sample(small, 4, seed=1)
    for architecture in found[:3]:
        check_predictions(small, architecture)
    check_extraction(small, *found)


# --- EfficientDet -----------------------------------------------------------------------------------------------------

DETECTORS = {  # parameters in the authors' tests, and GMACs that the paper prints
    "d0": (3_880_067, 2.5),
    "d1": (6_625_898, 6.1),
    "d2": (8_097_039, 11),
    "d3": (12_032_296, 25),
    "d4": (20_723_675, 55),
    "d5": (33_653_315, 135),
    "d6": (51_871_782, 226),
    "d7": (51_871_782, 325),
}
BACKBONES = {"d0": 5_288_548 - 320 * 1280 - 2 * 1280 - 1281 * 1000}  # EfficientNet-B0 without what classifies


@pytest.mark.parametrize("name", DETECTORS)
def test_efficientdets_are_the_published_ones(name: str) -> None:
    params, gmacs = DETECTORS[name]
    found = cost_of(graph("efficientdet", f"efficientdet_{name}"), {})
    assert found["params"] == params
    assert found["macs"] / 1e9 == pytest.approx(gmacs, rel=0.025)  # the paper counts biases and resizing, too


def test_the_parts_of_efficientdet_d0_by_closed_form() -> None:
    d0 = graph("efficientdet", "efficientdet_d0")
    width, kinds = 64, 9

    def separable(inputs: int, out: int) -> int:
        return 9 * inputs + inputs * out + out

    def fit(inputs: int) -> int:
        return inputs * width + width + 2 * width

    def tower(out: int) -> int:
        return 3 * (separable(width, width) + 5 * 2 * width) + separable(width, out)

    factors = 2 + 2 + 2 + 2 + 3 + 3 + 3 + 2  # of what meets in the eight nodes of a cell
    cells = 3 * (8 * (separable(width, width) + 2 * width) + factors)
    laterals = fit(40) + 2 * fit(112) + 2 * fit(320) + fit(320)
    assert cost_of(d0, {}, "backbone")["params"] == BACKBONES["d0"] == 3_595_388
    assert cost_of(d0, {}, "neck")["params"] == cells + laterals
    assert cost_of(d0, {}, "head")["params"] == tower(90 * kinds) + tower(4 * kinds)
    assert sum(1 for node in d0.operators() if node.op == "weighted_sum") == 24


def test_what_efficientdet_scales_is_counted() -> None:
    assert count(graph("efficientdet")).total == 7 * 7 * 7 * 3 * sum(8**cells for cells in range(3, 9))


# --- Auto-DeepLab -----------------------------------------------------------------------------------------------------


def paths(layers: int) -> int:
    """Ways of going on from 1/4 for so many layers, each staying, halving or doubling, between 1/4 and 1/32."""
    ways = [1, 0, 0, 0]
    for _ in range(layers - 1):
        ways = [sum(ways[max(0, level - 1) : level + 2]) for level in range(4)]
    return sum(ways)


def test_auto_deeplab_is_counted_as_in_the_paper() -> None:
    """28,657 paths through the network, and 5.6e14 cells: of each block two inputs and two operations."""
    cells = prod((inputs * 8) ** 2 for inputs in range(2, 7))
    assert paths(12) == 28_657 and round(cells / 1e14, 1) == 5.6
    assert count(graph("autodeeplab")).total == 28_657 * cells


def auto_deeplab(filters: int) -> int:
    """Parameters of what the paper found, cell by cell."""

    def conv(inputs: int, out: int, kernel: int = 1) -> int:
        return kernel**2 * inputs * out + 2 * out

    def cell(c: int) -> int:
        separable = {k: 2 * (k * k * c + conv(c, c)) for k in (3, 5)}
        atrous = {k: conv(c, c, k) for k in (3, 5)}
        return 4 * separable[3] + 3 * separable[5] + 2 * atrous[5] + atrous[3]

    before, last = 64, 128
    total = conv(3, 64, 3) + conv(64, 64, 3) + conv(64, 128, 3)
    for level in (0, 0, 0, 1, 2, 1, 2, 2, 3, 3, 2, 1):
        width = filters * 2**level
        total += conv(before, width) + conv(last, width) + cell(width)
        before, last = last, 5 * width
    pool = 2 * conv(last, 256) + 3 * conv(last, 256, 3) + conv(5 * 256, 256)
    decoder = conv(5 * filters, 48) + conv(256 + 48, 256, 3) + conv(256, 256, 3) + 256 * 19 + 19
    return total + pool + decoder


def test_auto_deeplabs_are_the_published_ones() -> None:
    """The printed millions; that the others of the file have them, too, its table is held to."""
    assert cost_of(graph("autodeeplab", "autodeeplab_s"), {})["params"] == auto_deeplab(20) == 10_147_427
    assert [f"{auto_deeplab(filters) / 1e6:.2f}" for filters in (20, 32, 48)] == ["10.15", "21.62", "44.42"]


def test_cells_of_auto_deeplab_are_alike_and_their_weights_are_not() -> None:
    small = graph("autodeeplab", "", "filters: 4, layers: 4, classes: 3, input 3 x 64 x 64")
    (found,) = sample(small, 1, seed=4)
    check_predictions(small, found)
    check_extraction(small, found)
    reads = [path for path in small.decisions if path.startswith(("reads", "kinds"))]
    assert len(reads) == 20 and len(small.decisions) == 23
    supernet = Supernet(small)
    operations = [key for key in supernet.layers if "/b4/right" in key and "/atrous_" in key]
    assert len(operations) == 2 * 4  # two sizes of kernel in each of four cells


# --- HR-NAS, trained anew ---------------------------------------------------------------------------------------------


def test_hr_nas_is_trained_anew_with_gates_and_swish() -> None:
    """Each mixed convolution of D hidden channels gains two maps to and from half of the channels that it reads."""
    changes = "input 3 x 64 x 64, stages: [2], classes: 10, base: 8, entry: 8, tokens: 2, blocks: [1, 1]"
    plain = graph("hrnas", "hrnas_imagenet", changes)
    again = graph("hrnas", "hrnas_imagenet_retrain", changes)
    assert plain.decisions.keys() == again.decisions.keys()
    (found,) = sample(plain, 1, seed=3)
    check_predictions(again, found)
    network = Supernet(again).extract(found)
    mixed = [module for module in network.modules() if isinstance(module, MixConv)]
    gates = [module.squeeze for module in mixed if module.squeeze is not None]
    assert mixed and len(gates) == len(mixed) and all(isinstance(module.act, torch.nn.SiLU) for module in mixed)
    more = sum(parameter.numel() for gate in gates for parameter in gate.parameters())
    assert cost_of(again, found.indices)["params"] == cost_of(plain, found.indices)["params"] + more
    for module, gate in zip(mixed, gates, strict=True):
        assert gate.reduce.out_channels == round(0.5 * module.expand.in_channels)
        assert gate.reduce.in_channels == module.expand.out_channels
