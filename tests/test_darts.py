"""DARTS: how many cells there are, what the paper's found network is made of, and a search by gradient."""

from __future__ import annotations

from math import comb
from pathlib import Path

from nasdsl import spaces
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.count import count
from nasdsl.compiler.parse import read
from nasdsl.compiler.values.tree import decisions_of
from nasdsl.runtime.problem import Result
from nasdsl.runtime.search import Options, search
from tests import shipped

EDGES = (range(2), range(2, 5), range(5, 9), range(9, 14))
"""Those into each node."""


def test_cells_are_counted_as_in_the_paper() -> None:
    """Two of the edges into each node, and one of seven operations on each of them."""
    cell = 1
    for edges in EDGES:
        cell *= comb(len(edges), 2) * 7**2
    assert count(shipped.graph("darts")).total == cell**2


def test_a_cell_gives_what_its_four_nodes_made() -> None:
    """Side by side, in order, in the space and in the network that the paper found."""
    for name in ("darts", "darts_v2"):
        graph = shipped.graph("darts", name)
        read = [[edge.source for edge in node.inputs] for node in graph.nodes.values() if node.op == "concat"]
        cells = [[source.rpartition(".node[")[2] for source in sources] for sources in read if len(sources) == 4]
        assert len(cells) == {"darts": 8, "darts_v2": 20}[name]
        assert all(cell == ["0].sum", "1].sum", "2].sum", "3].sum"] for cell in cells)


def test_the_network_of_the_paper_has_its_weights() -> None:
    """Layer by layer, from the paper's description: convolutions without biases, each before a norm."""

    def conv(channels: int, out: int) -> int:
        return channels * out + 2 * out

    def separable(channels: int, kernel: int) -> int:
        return kernel**2 * channels + conv(channels, channels)

    width, cells = 36, 20
    before, last, total = 3 * width, 3 * width, 27 * 3 * width + 2 * 3 * width
    channels = width
    for number in range(cells):
        if halves := number in (cells // 3, 2 * cells // 3):
            channels *= 2
        total += conv(before, channels) + conv(last, channels)
        if not halves:  # five separable convolutions, which are two each, and a dilated one; two skips
            total += 5 * 2 * separable(channels, 3) + separable(channels, 3)
        before, last = last, 4 * channels  # a reduction skips from nodes inside, and pools
    total += 4 * channels * 10 + 10
    assert cost_of(shipped.graph("darts", "darts_v2"), {})["params"] == total == 3_349_342


def test_uses_of_a_cell_share_decisions_and_no_weights() -> None:
    graph = shipped.graph("darts")
    assert len(graph.decisions) == 28  # of 8 cells with 14 edges
    edges = [node for node in graph.operators() if node.name.startswith("cell[") and node.op == "depthwise"]
    assert {node.weight for node in edges} == {node.name for node in edges}
    concerned = [node for node in edges if "sep[0]" not in node.name and decisions_of(node.present)]
    cells: dict[str, set[str]] = {}
    for node in concerned:
        cells.setdefault(node.name.split(".")[0], set()).update(decisions_of(node.present))
    normal, reduce = ({path for path in graph.decisions if path.startswith(kind)} for kind in ("normal", "reduce"))
    kinds = [cells[f"cell[{number}]"] for number in range(8)]
    assert kinds == [reduce if number in (2, 5) else normal for number in range(8)]


def test_a_search_by_gradient_takes_two_edges_into_each_node(tmp_path: Path) -> None:
    defines = {"width": "2", "cells": "6"}
    overrides = {"train": {"epochs": 0.05, "batch": 16, "recalibrate": 0}, "choices": {"optimiser": {"lr": 0.1}}}
    options = Options(run=tmp_path / "run", accelerator="cpu", overrides=overrides)
    found = search(read(spaces.path("darts")), tmp_path / "found.space", options, None, defines).result
    assert isinstance(found, Result)
    words = found.architecture.to_json()
    for cell in ("normal", "reduce"):
        for node, edges in enumerate(EDGES):
            kinds = [words[f"{cell}.node[{node}].kinds[{edge}]"] for edge in range(len(edges))]
            assert sum(kind != "none" for kind in kinds) == 2
