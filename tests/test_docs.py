"""What the documentation says of the spaces that ship is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nasdsl import spaces
from nasdsl.compiler.as_networkx import as_networkx
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.count import count, scientific
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.parse import read
from nasdsl.files import names_in
from tests import shipped

DOCS = Path(__file__).parent.parent / "docs"
ROW = dict[str, str]


def tables(text: str) -> Iterator[list[ROW]]:
    """The rows of each table, by column."""
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        yield [dict(zip(head, row, strict=True)) for row in rows]


SIZES, *NETWORKS = tables((DOCS / "spaces.md").read_text(encoding="utf-8"))


@cache
def defined() -> dict[str, str]:
    """By name of a space that ships: its file."""
    return {name: file for file in spaces.names() for name in names_in(read(spaces.path(file)))}


def name_of(row: ROW) -> str:
    return next(iter(row.values())).strip("`")


def graph_of(row: ROW) -> Graph:
    return shipped.graph(defined()[name_of(row)], name_of(row))


def of_its_file(row: ROW) -> Any:
    """In one process with other tests of its file."""
    name = name_of(row)
    marks = [pytest.mark.xdist_group(defined().get(name, name).partition("_")[0])]
    wide = defined().get(name) == "spinenet" and name != "spinenet"  # each takes seconds to elaborate
    return pytest.param(row, id=name, marks=[*marks, pytest.mark.docs] if wide else marks)


def product(text: str) -> int:
    """`4,095^4 (35 · 215)^3`: a power binds closest, and what stands side by side is multiplied."""
    text = text.replace(",", "").replace("^", "**").replace("·", "*")
    return int(eval(re.sub(r"(?<=[\d)]) (?=\()", " * ", text)))  # of this repository's own text


def test_each_file_is_in_the_table() -> None:
    assert {row["space"].strip("`") for row in SIZES} >= set(spaces.names())


@pytest.mark.parametrize("row", [of_its_file(row) for row in SIZES])
def test_sizes(row: ROW) -> None:
    graph = graph_of(row)
    total = count(graph).total
    assert product(row["exactly"]) == total
    assert row["architectures"] == scientific(total)
    assert int(row["decisions"]) == len(graph.decisions)
    assert all(float(row[step].replace(",", "")) > 0 for step in ("check, ms", "count, ms"))


@pytest.mark.parametrize("row", [of_its_file(row) for table in NETWORKS for row in table])
def test_networks(row: ROW) -> None:
    graph = graph_of(row)
    only = "backbone" if re.fullmatch(r"`e\d`", row["network"]) else ""  # of SM-NAS
    cost = cost_of(graph, {}, only)
    meant = {"parameters, M": cost["params"] / 1e6, "FLOPs, G": 2 * cost["macs"] / 1e9, "MACs, G": cost["macs"] / 1e9}
    for part in ("backbone", "neck", "head"):
        if f"{part}, M" in row:
            meant[f"{part}, M"] = cost_of(graph, {}, part)["params"] / 1e6
    meant["whole, M"] = meant["parameters, M"]
    checked = 0
    for column, value in meant.items():
        if column in row:
            shown = row[column].strip("*")
            assert f"{value:.{len(shown.partition('.')[2])}f}" == shown, column
            checked += 1
    assert checked


def test_the_attributes_of_the_graph_are_in_its_table() -> None:
    text = (DOCS / "api" / "graph.md").read_text(encoding="utf-8")
    graph = as_networkx(shipped.space("tiny"))
    names = {name for _, data in graph.nodes(data=True) for name in data if not name.endswith(("_least", "_most"))}
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    assert names == set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert all(f"`{name}`" in text for name in (*graph.graph, "input", "when"))
