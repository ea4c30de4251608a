"""Convolutional networks with well-known totals, pinned in the spaces that ship, and the published sizes of these."""

from __future__ import annotations

from math import comb

import pytest
import torch

from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.count import count
from nasdsl.compiler.supernet import Supernet
from tests.shipped import graph

# File, network, parameters, and where they are published to a million MACs.
TOTALS = [
    ("mobilenet", "mobilenet_v2", 3_504_872, None),
    ("mobilenet", "mobilenet_v3_large", 5_483_032, None),
    ("mobilenet", "mobilenet_v3_small", 2_542_856, None),
    ("fbnet", "fbnet_c", 5_572_200, None),
    ("fbnet", "proxylessnas_mobile", 4_080_512, 320),
    ("fbnet", "proxylessnas_mobile_14", 6_857_568, None),
    ("fbnet", "proxylessnas_gpu", 7_119_848, 465),
    ("fbnet", "proxylessnas_cpu", 4_361_648, 439),
    ("spos", "shufflenet_v2", 2_278_604, None),
    ("efficientnet", "efficientnet_b0", 5_288_548, None),
    ("efficientnet", "efficientnet_b1", 7_794_184, None),
    ("efficientnet", "efficientnet_b2", 9_109_994, None),
    ("efficientnet", "efficientnet_b3", 12_233_232, None),
    ("efficientnet", "efficientnet_b4", 19_341_616, None),
    ("efficientnet", "efficientnet_b5", 30_389_784, None),
    ("efficientnet", "efficientnet_b6", 43_040_704, None),
    ("efficientnet", "efficientnet_b7", 66_347_960, None),
    ("regnet", "regnet_x_400mf", 5_495_976, None),
    ("regnet", "regnet_y_400mf", 4_344_144, 402),
    ("trionet", "resnet50", 25_557_032, 4_089),
]


@pytest.mark.parametrize(("file", "name", "params", "macs"), TOTALS)
def test_totals_are_those_published(file: str, name: str, params: int, macs: int | None) -> None:
    """Of the graph, and of the network that is built."""
    network = graph(file, name)
    cost = cost_of(network, {})
    assert cost["params"] == params
    assert macs is None or round(cost["macs"] / 1e6) == macs
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in Supernet(network).parameters()) == params


# Depth, start, slope, ratio and group width of the line; parameters.
REGNETS = {
    "regnet_x": [
        ("22 24 24.48 2.54 16", 5_495_976),
        ("16 56 35.73 2.28 16", 7_259_656),
        ("18 80 34.01 2.25 24", 9_190_136),
        ("25 88 26.31 2.25 48", 15_296_552),
        ("23 80 49.56 2.88 120", 39_572_648),
        ("22 216 55.59 2.1 128", 54_278_536),
        ("23 320 69.86 2.0 168", 107_811_560),
    ],
    "regnet_y": [
        ("16 48 27.89 2.09 8", 4_344_144),
        ("14 56 38.84 2.4 16", 6_432_512),
        ("27 48 20.71 2.65 24", 11_202_430),
        ("21 80 42.63 2.66 24", 19_436_338),
        ("17 192 76.82 2.19 56", 39_381_472),
        ("18 200 106.23 2.48 112", 83_590_140),
        ("20 232 115.89 2.53 232", 145_046_770),
    ],
}


@pytest.mark.parametrize("name", REGNETS)
def test_regnets_follow_from_their_lines(name: str) -> None:
    """From 400M to 32G MACs."""
    for numbers, params in REGNETS[name]:
        depth, start, slope, ratio, group = numbers.split()
        line = {"depth": depth, "start": start, "slope": slope, "ratio": ratio, "group_width": group}
        assert cost_of(graph("regnet", name, **line), {})["params"] == params


def test_members_of_the_first_space_are_these_networks() -> None:
    for kind in "xy":
        assert cost_of(graph("regnet", f"regnet_{kind}_400mf"), {}) == cost_of(graph("regnet", f"regnet_{kind}"), {})


def test_attentivenas_networks_have_the_published_macs() -> None:
    for number, macs in enumerate((203, 279, 317, 357, 444, 491, 709)):
        assert round(cost_of(graph("attentivenas", f"attentivenas_a{number}"), {})["macs"] / 1e6) == macs


def test_fbnet_a_has_the_published_costs() -> None:
    cost = cost_of(graph("fbnet", "fbnet_a"), {})
    assert cost["params"] // 10**5 == 43 and cost["macs"] // 10**6 == 249


def test_sizes_of_spaces() -> None:
    assert count(graph("fbnet")).total == 9**22
    assert count(graph("fbnet", "proxylessnas")).total == 6**6 * 7**15
    assert count(graph("spos")).total == 4**20
    per_stage = [8, 36, 48, 48, 108, 48, 8]  # widths, depths, kernels, expansions
    product = 4 * 2 * 2  # resolutions, first and last width
    for n in per_stage:
        product *= n
    assert count(graph("attentivenas")).total == product == 440_301_256_704
    assert count(graph("attentivenas", "attentivenas_224")).total == product // 4
    assert count(graph("mobilenet")).total == 6**11 * 7**3 * 43
    assert count(graph("efficientnet")).total == (4 * 2 * 2 * 2 * 3) ** 7 * 2**2 * 3**5
    depths, widths, ratios, groups = 16, 128, 3, 6
    assert count(graph("regnet")).total == (depths * widths * ratios * groups) ** 4
    assert count(graph("regnet", "anynet_c")).total == (depths * widths) ** 4 * ratios * groups
    rising = comb(widths + 3, 4)
    assert count(graph("regnet", "anynet_e")).total == comb(depths + 3, 4) * rising * ratios * groups
