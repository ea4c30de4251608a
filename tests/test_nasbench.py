"""NAS-Bench-201 and NAS-Bench-MR: the spaces against the published tables, closed forms and plain torch networks.

The plain networks are written here from the papers and know nothing of nasdsl. To check more than a few random ones,
and all of NAS-Bench-MR's table, set NASDSL_NETWORKS.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of, total_cost
from nasdsl.compiler.count import count
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pin import pin
from nasdsl.compiler.population import Population
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.tree import evaluate
from tests import shipped

NETWORKS = int(os.environ.get("NASDSL_NETWORKS", "2"))

# --- NAS-Bench-201 ----------------------------------------------------------------------------------------------------

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SIZES = {
    "nasbench201": (32, 10),
    "nasbench201_cifar100": (32, 100),
    "nasbench201_imagenet16": (16, 120),
}


cells = partial(shipped.graph, "nasbench201")


def edges_of(cell: str) -> dict[tuple[int, int], str]:
    """The operation of each edge of a cell that is written `|a~0|+|b~0|c~1|+|d~0|e~1|f~2|`."""
    nodes = [[edge.split("~") for edge in node.strip("|").split("|")] for node in cell.split("+")]
    return {(target, int(source)): op for target, edges in enumerate(nodes, 1) for op, source in edges}


def values_of(cell: str, graph: Graph) -> dict[str, int]:
    chosen = {f"cell.n{target}[n{source}].edge": op for (target, source), op in edges_of(cell).items()}
    return {path: graph.decisions[path].labels.index(op) for path, op in chosen.items()}


def random_cell(rng: random.Random) -> str:
    return "+".join("|" + "|".join(f"{rng.choice(OPERATIONS)}~{i}" for i in range(n)) + "|" for n in (1, 2, 3))


def closed_form(cell: str, side: int, classes: int) -> dict[str, int]:
    """Of 3x3 and 1x1 convolutions in fifteen cells, two residual blocks, stem, last norm and classifier."""
    filters = sum({"nor_conv_1x1": 1, "nor_conv_3x3": 9}.get(op, 0) for op in edges_of(cell).values())
    norms = sum(op.startswith("nor_conv") for op in edges_of(cell).values())
    macs, params = 27 * 16 * side**2 + 64 * classes, 27 * 16 + 2 * 16 + 2 * 64 + 65 * classes
    for width, pixels in ((16, side**2), (32, side**2 // 4), (64, side**2 // 16)):
        macs += 5 * filters * width**2 * pixels
        params += 5 * (filters * width**2 + norms * 2 * width)
        if width > 16:
            block = (9 / 2 + 9 + 1 / 2) * width**2  # from half as many channels, then as wide; the shortcut
            macs, params = macs + int(block * pixels), params + int(block) + 4 * width
    return {"macs": macs, "params": params}


def test_it_has_as_many_cells_as_published() -> None:
    for name in SIZES:
        assert count(cells(name)).total == 5**6 == 15_625


@pytest.mark.parametrize("name", SIZES)
def test_costs_are_the_closed_form(name: str) -> None:
    rng, costs = random.Random(name), total_cost(cells(name))._asdict()
    for _ in range(500):
        cell = random_cell(rng)
        values = values_of(cell, cells(name))
        found = {measure: evaluate(cost, values) for measure, cost in costs.items()}
        assert found == closed_form(cell, *SIZES[name])


def test_the_largest_cell() -> None:
    """The published figures of the cell of six 3x3 convolutions on CIFAR-10: 220.12M MACs and 1.531546M parameters."""
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    assert cost_of(cells(), values_of(cell, cells())) == {"macs": 220_119_680, "params": 1_531_546}


def test_every_cell_costs_what_the_table_says(shared_data: Path) -> None:
    """MACs (the table's FLOPs) and parameters on CIFAR-100 to the table's precision, two and three places of millions.

    150 rows have the size of another cell, with one convolution more or less, that computes the same function. Row 737
    is one: its cell has four 1x1 convolutions, and the row the MACs of three.
    """
    graph = cells("nasbench201_cifar100")
    with gzip.open(shared_data / "nasbench201.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    costs = total_cost(graph)._asdict()
    found = []
    for row in rows:
        values = values_of(row["arch"], graph)
        found.append({measure: evaluate(cost, values) for measure, cost in costs.items()})
    assert len({row["arch"] for row in rows}) == len(rows) == 15_625
    alike: dict[str, list[dict[str, int]]] = defaultdict(list)
    for row, cost in zip(rows, found, strict=True):
        alike[row["canonical"]].append(cost)

    def fits(row: dict[str, str], cost: dict[str, int]) -> bool:
        macs, params = float(row["flops_m"]) - cost["macs"] / 1e6, float(row["params_m"]) - cost["params"] / 1e6
        return abs(macs) < 0.0051 and abs(params) < 0.00051

    others = [row for row, cost in zip(rows, found, strict=True) if not fits(row, cost)]
    assert len(others) == 150
    for row in others:
        assert any(fits(row, cost) for cost in alike[row["canonical"]])


class Operation(nn.Module):
    def __init__(self, op: str, width: int) -> None:
        super().__init__()
        self.op = op
        if op.startswith("nor_conv"):
            kernel = int(op[-1])
            self.conv, self.norm = nn.Conv2d(width, width, kernel, 1, kernel // 2, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.op == "none":
            return x * 0
        if self.op == "skip_connect":
            return x
        if self.op == "avg_pool_3x3":
            return nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        out: torch.Tensor = self.norm(self.conv(x.relu()))
        return out


class Cell(nn.Module):
    def __init__(self, cell: str, width: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict({f"{t}{s}": Operation(op, width) for (t, s), op in edges_of(cell).items()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = [x]
        for target in (1, 2, 3):
            nodes.append(sum(self.edges[f"{target}{source}"](nodes[source]) for source in range(target)))
        return nodes[3]


class Reduction(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(width // 2, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
        self.second, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(width // 2, width, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside: torch.Tensor = self.norm2(self.second(self.norm1(self.first(x.relu())).relu()))
        outside: torch.Tensor = self.shortcut(nn.functional.avg_pool2d(x, 2))
        return inside + outside


def plain(cell: str) -> nn.Sequential:
    """The network of a cell on CIFAR-10, from the paper's text and figure alone."""
    stages: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)]
    for width in (16, 32, 64):
        stages += [Reduction(width)] if width > 16 else []
        stages += [Cell(cell, width) for _ in range(5)]
    ending = (nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(*stages, *ending)


def test_a_network_computes_what_the_plain_one_does() -> None:
    rng = random.Random(2)
    for _ in range(NETWORKS):
        cell = random_cell(rng)
        reference = plain(cell).eval()
        network = Supernet(pin(cells(), Architecture.at(cells(), values_of(cell, cells())).indices)).eval()
        check_same(network, reference, torch.rand(2, 3, 32, 32))


def check_same(network: nn.Module, reference: nn.Module, image: torch.Tensor) -> None:
    """Two networks with their tensors in the same order give the same output with the same values in them."""
    for (name, ours), theirs in zip(network.state_dict().items(), reference.state_dict().values(), strict=True):
        assert ours.shape == theirs.shape, name
        if theirs.dim() == 1:
            theirs.uniform_(0.7, 1.3)
        ours.copy_(theirs)
    with torch.no_grad():
        expected: Any = reference(image)
        assert (network(image) - expected).abs().max() < 1e-5 * expected.abs().max().clamp(min=1)


# --- NAS-Bench-MR -----------------------------------------------------------------------------------------------------

Module = tuple[int, list[int], list[int]]
"""Number of branches; blocks and channels of each."""


def resolutions(name: str = "nasbench_mr_imagenet50") -> Graph:
    return shipped.graph("nasbench_mr", name)


def numbers_of(graph: Graph, stem: list[int], modules: list[Module], last: int) -> dict[str, int]:
    chosen = {"stem.conv[0].out": stem[0], "stem.conv[1].out": stem[1], "head.last.out": last}
    for branches, blocks, channels in modules:
        chosen[f"stage{branches}.depth"] = sum(module[0] == branches for module in modules)
        for i in range(branches):
            scale = f"[1/{4 * 2**i}]"
            chosen |= {f"stage{branches}.blocks{scale}": blocks[i], f"stage{branches}.channels{scale}": channels[i]}
    return {path: graph.decisions[path].items.index(value) for path, value in chosen.items()}


def random_network(rng: random.Random) -> tuple[list[int], list[Module], int]:
    stages = [
        ([rng.randint(1, 4) for _ in range(n)], [8 * rng.randint(1, 4) for _ in range(n)], rng.randint(1, 4))
        for n in (1, 2, 3, 4)
    ]
    modules = [(len(blocks), blocks, channels) for blocks, channels, times in stages for _ in range(times)]
    return [8 * rng.randint(1, 4) for _ in range(2)], modules, 8 * rng.randint(1, 4)


def test_numbers_of_a_multi_resolution_network() -> None:
    """27: two widths of the stem, for each stage the modules and for each of its branches blocks and width, the last
    width. In two parts lie the networks of the tables, but for seven: multiples of 16, and of 8 up to 64."""
    for name, stem, widths in (("nasbench_mr", 16, 16), ("nasbench_mr_wide", 4, 8), ("nasbench_mr_narrow", 4, 8)):
        graph = resolutions(name)
        assert len(graph.decisions) == 27
        assert count(graph).total == stem**2 * 4**4 * (4 * widths) ** 10 * widths


def test_the_extremes_are_exact_although_all_widths_hang_together() -> None:
    """The distribution of costs is an estimate, its ends are not: the least and the most of everything."""
    graph = resolutions("nasbench_mr")
    population = Population(graph)
    assert not population.exact
    for greatest in (False, True):
        values = {path: decision.n - 1 if greatest else 0 for path, decision in graph.decisions.items()}
        for name in ("macs", "params"):
            found = population.extreme(name, greatest)
            assert found.proven
            assert found.cost == cost_of(graph, values)[name]


def table(shared_data: Path) -> list[tuple[tuple[list[int], list[Module], int], float, float]]:
    """Network, FLOPs and parameters of each row."""
    with gzip.open(shared_data / "nasbench_mr_seg.json.gz") as file:
        rows = json.load(file)["architectures"]
    return [
        ((row["input_channel"], [tuple(m) for m in row["network_setting"]], row["last_channel"]), *map(row.get, SIZE))
        for row in rows
    ]


SIZE = ("flops_g", "params_m")


def normed(stem: list[int], modules: list[Module], last: int, side: int) -> int:
    """How many values of one image are normalised."""
    pixels = [(side // (4 * 2**i)) ** 2 for i in range(4)]
    total, before = stem[0] * (side // 2) ** 2 + stem[1] * pixels[0] + last * pixels[3], 1
    for branches, blocks, channels in modules:
        for i in range(branches):
            total += 2 * blocks[i] * channels[i] * pixels[i]  # two convolutions in a block
            sources = range(max(0, i - 1), min(before, i + 2)) if i < before else (i - 1,)
            total += sum(channels[i] * pixels[max(i, j)] for j in sources)
        before = branches
    return total


def test_networks_cost_what_the_table_says(shared_data: Path) -> None:
    """Parameters exactly. FLOPs exactly too: those of the table are for 50 classes at 128 x 128, and count, beside
    multiply-accumulates, two for each normalised value and one for each bias. Every tenth row is checked, or all.
    """
    graph = resolutions()
    costs = total_cost(graph)
    for network, flops, params in table(shared_data)[:: 1 if NETWORKS > 10 else 10]:
        values = numbers_of(graph, *network)
        assert evaluate(costs.params, values) == round(1e6 * params)
        assert evaluate(costs.macs, values) + 2 * normed(*network, 128) + 50 == round(1e9 * flops)


def test_networks_of_the_table_lie_in_two_parts(shared_data: Path) -> None:
    inside = {"nasbench_mr_wide": 0, "nasbench_mr_narrow": 0}
    rows = table(shared_data)
    for (stem, modules, last), _, _ in rows:
        inside["nasbench_mr_wide"] += not any(c % 16 for c in (*stem, last, *(c for m in modules for c in m[2])))
        inside["nasbench_mr_narrow"] += max(*stem, last, *(c for m in modules for c in m[2])) <= 64
    assert (len(rows), inside) == (2507, {"nasbench_mr_wide": 1999, "nasbench_mr_narrow": 504})


def layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else [])]


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layer(width, width), *layer(width, width, relu=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return (x + out).relu()


class MultiResolution(nn.Module):
    """The network from the paper's text and figure alone, for classification."""

    def __init__(self, stem: list[int], modules: list[Module], last: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*layer(3, stem[0], stride=2), *layer(stem[0], stem[1], stride=2))
        self.modules_ = modules
        self.parts = nn.ModuleDict()
        before = [stem[1]]
        for number, (_, blocks, channels) in enumerate(modules):
            for i, width in enumerate(channels):
                for j in self.sources(i, len(before)):
                    inputs = before[j] if i < len(before) else channels[j]
                    ups = [nn.Upsample(scale_factor=2.0)] if j > i else []
                    parts = layer(inputs, width, 1 if j > i else 3, 2 if j < i else 1) + ups
                    self.parts[f"{number} {i} {j}"] = nn.Sequential(*parts)
            for i, (width, depth) in enumerate(zip(channels, blocks, strict=True)):
                self.parts[f"{number} {i}"] = nn.Sequential(*(Residual(width) for _ in range(depth)))
            before = channels
        self.head = nn.Sequential(*layer(sum(before), last, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(last, classes)

    @staticmethod
    def sources(branch: int, before: int) -> range:
        """From which branches a branch comes: those beside it and itself, or where it is new the output before it."""
        return range(max(0, branch - 1), min(before, branch + 2)) if branch < before else range(branch - 1, branch)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        xs = [self.stem(image)]
        for number, (branches, _, _) in enumerate(self.modules_):
            ys: list[torch.Tensor] = []
            for i in range(branches):
                read = xs if i < len(xs) else ys
                terms = [self.parts[f"{number} {i} {j}"](read[j]) for j in self.sources(i, len(xs))]
                ys.append(sum(terms[1:], terms[0]).relu())
            xs = [self.parts[f"{number} {i}"](y) for i, y in enumerate(ys)]
        size = xs[-1].shape[2:]
        out: torch.Tensor = torch.cat([nn.functional.interpolate(x, size, mode="bilinear") for x in xs], 1)
        out = self.classifier(self.head(out))
        return out


def test_a_multi_resolution_network_computes_what_the_plain_one_does() -> None:
    graph, rng = resolutions(), random.Random(3)
    for _ in range(NETWORKS):
        stem, modules, last = random_network(rng)
        reference = MultiResolution(stem, modules, last, 50).eval()
        network = Supernet(pin(graph, Architecture.at(graph, numbers_of(graph, stem, modules, last)).indices)).eval()
        check_same(network, reference, torch.rand(2, 3, 64, 64))
