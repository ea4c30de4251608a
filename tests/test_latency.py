"""Latency tables: measured point by point, taken up again, and used as a cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from nasdsl.compiler.cost import MissingTable, cost_of, node_cost
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.elaborate.program import elaborate
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.latency_table import read_table, setting_key
from nasdsl.compiler.measured import measured
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values import expr
from nasdsl.runtime import latency as measuring
from nasdsl.runtime.data import open_data
from nasdsl.runtime.latency import SHARES, Latency, profile, time_setting
from nasdsl.runtime.limits import costs_told
from nasdsl.runtime.penalty import Penalty, groups_of
from nasdsl.runtime.problem import Learning, Problem
from nasdsl.runtime.runs import About, RunFolder
from nasdsl.runtime.search import costs_of
from nasdsl.runtime.settings import Train
from nasdsl.runtime.strategies.shrink import Shrink, ShrinkSearch
from nasdsl.runtime.tasks import find_task

SPACE = """
space small {
  input 1 x 16 x 16
  network {
    stem: conv(4, kernel: 3, stride: 2)
    residual { a: mixconv(4, hidden: { 3: units(8), 5: units(8) }) }
    residual { b: mixconv(4, hidden: { 3: units(8), 5: units(8) }) }
    residual { t: transformer(4, tokens: units(4), size: 4) }
    classify(classes: 10)
  }
}
"""


@cache
def graph(text: str = SPACE) -> Graph:
    return elaborate(Source(text)).graph


@pytest.fixture
def network() -> Supernet:
    return Supernet(graph())


def quiet(line: str) -> None:
    pass


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Times are made up, 3 ms and 1 ms for every 10,000 MACs' worth of channels, and noted by operator."""
    seen: list[str] = []

    def times(setting: Any, batch: int, repeats: int, device: str) -> list[float]:
        seen.append(setting.op)
        arguments = setting.arguments()
        units = sum(arguments["hidden"].values()) if setting.op == "mixconv" else arguments.get("tokens", 0)
        return [3.0 + units + 0.001 * i for i in range(repeats)]

    monkeypatch.setattr(measuring, "time_setting", times)
    return seen


def test_every_distinct_operator_is_measured_once(network: Supernet, tmp_path: Path, timed: list[str]) -> None:
    table = profile(network, tmp_path / "table.json", repeats=5, note=quiet)
    assert timed.count("mixconv") == len(SHARES)  # the two blocks are alike
    assert timed.count("transformer") == len(SHARES)
    assert timed.count("conv") == timed.count("classify") == 1
    assert read_table(tmp_path / "table.json") == table
    node = next(n for n in network.graph.operators() if n.op == "mixconv")
    points = table.operators[setting_key(network.settings[node.name])].points
    macs = node_cost(network.graph, node).macs
    assert [p.macs for p in points] == sorted(p.macs for p in points)
    for share, point in zip(SHARES, points, strict=True):
        count = max(1, round(8 * share))
        paths = expr.decisions_of(macs)
        assert point.macs == expr.evaluate(macs, {path: tuple(range(count)) for path in paths})
        assert point.ms == pytest.approx(3.002 + 2 * count) and point.runs == 5


def test_a_profile_goes_on_where_it_was_stopped(network: Supernet, tmp_path: Path, timed: list[str]) -> None:
    whole = profile(network, tmp_path / "whole.json", repeats=5, note=quiet)
    timed.clear()
    path = tmp_path / "table.json"

    def stop(line: str) -> None:
        if len(json.loads(path.read_text())["operators"]) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile(network, path, repeats=5, note=stop)
    before = len(timed)
    assert len(json.loads(path.read_text())["operators"]) == 2
    assert profile(network, path, repeats=5, note=quiet) == whole
    assert timed[before:].count("conv") == 0
    timed.clear()
    profile(network, path, repeats=5, note=quiet)
    assert not timed


def test_another_batch_is_measured_anew(network: Supernet, tmp_path: Path, timed: list[str]) -> None:
    profile(network, tmp_path / "table.json", repeats=5, note=quiet)
    timed.clear()
    table = profile(network, tmp_path / "table.json", batch=2, repeats=5, note=quiet)
    assert timed and table.batch == 2


def test_times_are_of_the_operator_at_its_width(network: Supernet) -> None:
    for name, setting in network.settings.items():
        times = time_setting(setting, 2, 3, "cpu")
        assert len(times) == 3 and all(t > 0 for t in times), name


def test_a_unit_costs_its_macs_times_the_slope(network: Supernet, tmp_path: Path, timed: list[str]) -> None:
    path = tmp_path / "table.json"
    table = profile(network, path, repeats=5, note=quiet)
    penalty = Penalty(network, "exact", False, 1e-3, Latency.read(path, network))
    plain = Penalty(network, "exact", False, 1e-3)
    for group, other in zip(penalty.groups, plain.groups, strict=True):
        points = table.operators[setting_key(network.settings[group.node])].points
        (x0, y0), (x1, y1) = ((p.macs, p.ms) for p in points[-2:])
        n = len(group.kept)
        assert penalty.cost(group, n) == pytest.approx(plain.cost(other, n) * (y1 - y0) / (x1 - x0))
    paper = Penalty(
        network, "paper", False, 1e-3, Latency.read(path, network)
    )  # the form is of MACs, which do not count
    assert [paper.cost(g, 2) for g in paper.groups] == [penalty.cost(g, 2) for g in penalty.groups]
    first = penalty.cost(penalty.groups[0], 8)
    network.shrink({g.path: (0,) for g in groups_of(network)})
    penalty.refresh(network)
    assert penalty.cost(penalty.groups[0], 1) == pytest.approx(first, rel=0.2)  # times are linear here
    normalised = Penalty(network, "exact", True, 1e-3, Latency.read(path, Supernet(graph())))
    deltas = [normalised.cost(g, len(g.kept)) * normalised.scale for g in normalised.groups]
    assert sum(deltas) / len(deltas) == pytest.approx(1, rel=1e-4)


def test_noise_never_makes_a_unit_free(network: Supernet) -> None:
    nodes = {group.node for group in groups_of(network)}
    falling = Latency({node: [(100.0, 2.0), (1e9, 1.0)] for node in nodes})
    single = Latency({node: [(0.0, 2.0)] for node in nodes})
    for table in (falling, single):
        assert all(table.slope(node, network) > 0 for node in nodes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"operators": []}',
        '{"operators": {"x": {}}}',
        '{"operators": {"x": {"points": []}}}',
    ],
)
def test_what_is_no_table_is_refused(network: Supernet, tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    actions: tuple[Callable[[], Any], ...] = (
        lambda: Latency.read(path, network),
        lambda: profile(network, path, note=quiet),
    )
    for action in actions:
        with pytest.raises(CompileError, match=r"is not a latency table|has no time for"):
            action()
    assert path.read_text() == text
    with pytest.raises(CompileError, match="cannot be read: No such file"):
        Latency.read(tmp_path / "none.json", network)


def test_the_table_of_another_space_is_refused(network: Supernet, tmp_path: Path, timed: list[str]) -> None:
    path = tmp_path / "table.json"
    profile(Supernet(graph(SPACE.replace("5: units(8)", "5: units(9)"))), path, repeats=5, note=quiet)
    with pytest.raises(CompileError) as caught:
        Latency.read(path, network)
    (found,) = caught.value.diagnostics
    assert found.code == "bad-latency-table" and "another space" in found.help and found.span is not None


def problem(folder: Path, table: Path | None, known: bool = False) -> Problem:
    space = elaborate(Source(SPACE))
    if known and table is not None:
        space = measured(space, {"latency": table})
    splits = open_data(None, "classification", size=(16, 16), channels=1)
    task = find_task("classification").from_data(splits)
    fabric = Fabric(accelerator="cpu", devices=1)
    run = RunFolder(folder, About(space="s", search="shrink", seed=0, settings={}))
    return Problem(space, lambda: run, Learning(task, splits, fabric), latency=None if table is None else str(table))


def test_a_search_by_latency(network: Supernet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    table = tmp_path / "table.json"
    profile(network, table, repeats=4, note=quiet)
    train = Train.model_validate({"epochs": 0.2, "batch": 64, "recalibrate": 1})
    settings = Shrink.model_validate(
        {"penalty": {"latency": 1e-3}, "target": {"macs": 0.7}, "every": 0.1, "train": train}
    )
    result = ShrinkSearch().search(problem(tmp_path / "run", table), settings)
    assert result.metrics["top1"] > 0 and result.costs["macs"] > 0
    with pytest.raises(CompileError, match="no latency table"):
        ShrinkSearch().search(problem(tmp_path / "one", None), settings)
    with pytest.raises(CompileError, match="on MACs"):
        by_macs = settings.model_copy(update={"penalty": {"macs": 1e-3}})
        ShrinkSearch().search(problem(tmp_path / "two", table), by_macs)


def test_a_search_for_a_latency(network: Supernet, tmp_path: Path, timed: list[str]) -> None:
    """The target is met by the table, and the search says so in its history and its result."""
    torch.manual_seed(0)
    table = tmp_path / "table.json"
    profile(network, table, repeats=4, note=quiet)
    whole = cost_of(
        measured(elaborate(Source(SPACE)), {"latency": table}).graph, largest_values(graph()), names=["latency"]
    )
    target = 0.8 * whole["latency"]
    train = Train.model_validate({"epochs": 0.2, "batch": 64, "recalibrate": 1})
    settings = Shrink.model_validate({"target": {"latency": target}, "every": 0.05, "train": train})
    asked = problem(tmp_path / "run", table, known=True)
    result = ShrinkSearch().search(asked, settings)
    assert 0.5 * target < result.costs["latency"] <= target
    assert result.costs == costs_told(asked.space.graph, result.architecture.indices, ["latency"])
    assert "ms of latency" in costs_of(result.costs) and "FLOPs" not in costs_of(result.costs)
    rows = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert rows[-1]["latency"] == result.costs["latency"]
    low = settings.model_copy(update={"target": {"latency": 0.5}})
    with pytest.raises(CompileError, match=r"no architecture of the space has latency <= 0\.5"):
        ShrinkSearch().search(problem(tmp_path / "two", table, known=True), low)
    with pytest.raises(MissingTable, match="there is no latency table"):
        ShrinkSearch().search(problem(tmp_path / "three", None), settings)


def test_operators_of_every_alternative_are_measured_at_their_greatest(tmp_path: Path, timed: list[str]) -> None:
    text = """
space nested {
  input 1 x 8 x 8
  network {
    stem: conv(4)
    op: oneof(small: conv(4), large: mixconv(4, hidden: { 3: units(8) }), deep: conv(oneof(4, 6), kernel: oneof(1, 3)))
    classify(classes: 2)
  }
}
"""
    space, path = elaborate(Source(text)), tmp_path / "table.json"
    network = Supernet(space.graph)
    table = profile(network, path, repeats=3, note=quiet)
    points = {entry.node: entry.points for entry in table.operators.values()}
    assert [p.ms for p in points["op.large"]] == [pytest.approx(3.001 + n) for n in (1, 2, 4, 6, 8)]
    assert [p.macs for p in points["op.large"]] == [64 * n * (4 + 9 + 4) for n in (1, 2, 4, 6, 8)]
    assert [p.macs for p in points["op.deep"]] == [64 * 9 * 4 * 6]
    known = measured(space, {"latency": path}).graph
    once = 3.001  # what an operator without units takes at its greatest; with fewer MACs in proportion

    def latency(**values: Any) -> float:
        named = {path.replace("__", "."): value for path, value in values.items()}
        return float(cost_of(known, named, names=["latency"])["latency"])

    assert latency(op=2, op__deep__out=1, op__deep__kernel=1) == pytest.approx(3 * once)
    assert latency(op=2, op__deep__out=0, op__deep__kernel=1) == pytest.approx(once + 2 * once * 4 / 6, abs=1e-6)
    assert latency(op=2, op__deep__out=1, op__deep__kernel=0) == pytest.approx(2 * once + once / 9, abs=1e-6)
    hidden = {"op.large.hidden[3]": (0, 5, 6)}
    assert latency(op=1, **hidden) == pytest.approx(once + once * 4 / 6 + once + 3, abs=1e-6)
