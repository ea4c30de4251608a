"""Latency tables: measured point by point, taken up again, and used as a cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from lightning_fabric import Fabric

from nasdsl.cli import main
from nasdsl.compiler.asked import MOST, SHARES, asked
from nasdsl.compiler.cost import MissingTable, cost_of, node_cost
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.latency_table import read_table, setting_key
from nasdsl.compiler.measured import measured
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.setting import Setting, setting_of
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.tree import decisions_of, evaluate
from nasdsl.runtime import latency as measuring
from nasdsl.runtime.data import open_data
from nasdsl.runtime.latency import Latency, profile, time_setting
from nasdsl.runtime.limits import costs_told
from nasdsl.runtime.penalty import Penalty, groups_of
from nasdsl.runtime.problem import Learning, Problem
from nasdsl.runtime.results import costs_of
from nasdsl.runtime.runs import About, RunFolder
from nasdsl.runtime.settings import Train
from nasdsl.runtime.strategies.shrink import Shrink, ShrinkSearch
from nasdsl.runtime.tasks import find_task
from nasdsl.runtime.unused import refuse_unused

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
    assert timed.count("transformer") == 4  # of four tokens two of the shares are one
    assert timed.count("conv") == timed.count("classify") == 1
    assert read_table(tmp_path / "table.json") == table
    node = next(n for n in network.graph.operators() if n.op == "mixconv")
    points = table.operators[setting_key(network.settings[node.name])].points
    macs = node_cost(network.graph, node).macs
    assert [p.macs for p in points] == sorted(p.macs for p in points)
    for share, point in zip(SHARES, points, strict=True):
        count = max(1, round(8 * share))
        paths = decisions_of(macs)
        assert point.macs == evaluate(macs, {path: tuple(range(count)) for path in paths})
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
    space = elaborate(Source(SPACE))
    refuse_unused(ShrinkSearch, settings, space, (), ["latency"], ())
    with pytest.raises(CompileError, match="nothing that `search shrink` is told asks for `latency`"):
        by_macs = settings.model_copy(update={"penalty": {"macs": 1e-3}})
        refuse_unused(ShrinkSearch, by_macs, space, (), ["latency"], ())


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
    deep = {p.macs: p.ms for entry in table.operators.values() if entry.node == "op.deep" for p in entry.points}
    assert set(deep) == {64 * kernel**2 * 4 * out for kernel in (1, 3) for out in (4, 6)} - {64 * 4 * 4}  # the stem's
    known = measured(space, {"latency": path}).graph
    once = 3.001  # what an operator without units takes

    def latency(**values: Any) -> float:
        named = {path.replace("__", "."): value for path, value in values.items()}
        return float(cost_of(known, named, names=["latency"])["latency"])

    for out in (0, 1):
        for kernel in (0, 1):
            assert latency(op=2, op__deep__out=out, op__deep__kernel=kernel) == pytest.approx(3 * once)
    hidden = {"op.large.hidden[3]": (0, 5, 6)}
    assert latency(op=1, **hidden) == pytest.approx(once + once + 3 + once, abs=1e-6)


# --- All that a space can ask for -------------------------------------------------------------------------------------

KERNELS = """
space kernels {
  input 3 x 16 x 16
  network {
    stem: conv(8, kernel: 3, stride: 2)
    body: repeat oneof(1..2) { mbconv(8, kernel: oneof(3, 5), expand: oneof(2, 4)) }
    head: classify(classes: 2)
  }
}
"""
STRIDES = """
space strides {
  input 2 x 12 x 12
  network {
    let first = oneof(4, 8, 12)
    let side = oneof(1, 3)
    require side == 1 or first <= 8
    stem: conv(first, kernel: side, stride: oneof(1, 2))
    op: oneof(wide: conv(8, groups: oneof(1, 2)), bare: max_pool(), se: conv(6) -> se(ratio: oneof(1/4, 1/2)))
    classify(classes: 2)
  }
}
"""
LANES = """
space lanes {
  input 2 x 16 x 16
  network {
    a: conv(oneof(4, 6), act: oneof(relu, swish))
    b: (depthwise(kernel: oneof(3, 5), stride: 2) -> upsample(to: 1)) + identity()
    c: oneof(local_attention(8, heads: 2, window: oneof(3, 5)), axial_attention(8, heads: oneof(2, 4)), conv(8))
    classify(classes: 2)
  }
}
"""

ABSENT = """
space absent {
  input 2 x 8 x 8
  network {
    let kind = oneof(plain, bottle, wide)
    let width = oneof(4, 6) if kind == bottle else oneof(8, 10) if kind == wide else 12
    down: conv(width, kernel: oneof(1, 3))
    up: conv(8)
    classify(classes: 2)
  }
}
"""


def made_up(setting: Setting) -> float:
    """A time for a setting that no other has, whatever their MACs: whole microseconds."""
    return (crc32(setting_key(setting).encode()) % 100_000 + 1) / 1000


@pytest.fixture
def own_times(monkeypatch: pytest.MonkeyPatch) -> list[Setting]:
    """Each setting takes a time of its own; those that are measured are noted."""
    seen: list[Setting] = []

    def times(setting: Setting, batch: int, repeats: int, device: str) -> list[float]:
        seen.append(setting)
        return [made_up(setting)] * repeats

    monkeypatch.setattr(measuring, "time_setting", times)
    return seen


@pytest.mark.parametrize("text", [KERNELS, STRIDES, LANES, ABSENT], ids=["kernels", "strides", "lanes", "absent"])
def test_a_latency_is_what_was_measured_of_its_very_settings(
    text: str, tmp_path: Path, own_times: list[Setting]
) -> None:
    """Of every architecture of a space: the sum of the times of what its network is built from."""
    space, path = elaborate(Source(text)), tmp_path / "table.json"
    profile(Supernet(space.graph), path, repeats=1, note=quiet)
    keys = [setting_key(setting) for setting in own_times]
    assert len(set(keys)) == len(keys)  # each once
    known = measured(space, {"latency": path}).graph
    numbering, asked_for = Numbering(space.graph), set()
    for number in range(numbering.total):
        values = numbering.unrank(number).indices
        pinned = pin(space.graph, values)
        settings = [setting_of(pinned, node) for node in pinned.operators()]
        asked_for |= {setting_key(setting) for setting in settings}
        wanted = sum(map(made_up, settings))
        assert cost_of(known, values, names=["latency"])["latency"] == pytest.approx(wanted, abs=1e-9)
    assert asked_for == set(keys)  # and nothing that nobody asks for


MANY = """
space many {
  input 3 x 8 x 8
  network {
    a: conv(4 * oneof(1..20))
    b: conv(4 * oneof(1..20), kernel: oneof(1, 3))
    classify(classes: 2)
  }
}
"""


def test_of_many_widths_some_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel, and of 400 widths five; between these a time that grows with the MACs is told exactly."""
    seen: list[Setting] = []

    def times(setting: Setting, batch: int, repeats: int, device: str) -> list[float]:
        seen.append(setting)
        return [1.0 + setting.macs() / 1e5] * repeats

    monkeypatch.setattr(measuring, "time_setting", times)
    space, path = elaborate(Source(MANY)), tmp_path / "table.json"
    profile(Supernet(space.graph), path, repeats=1, note=quiet)
    of_b = [(s.attrs["kernel"], s.attrs["out"]) for s in seen if s.op == "conv" and s.inputs[0].channels != 3]
    assert sorted(of_b) == [(kernel, out) for kernel in (1, 3) for out in (12, 20, 40, 60, 80)]
    assert len(asked(space.graph, space.graph.nodes["a"])) == 20 < MOST
    known = measured(space, {"latency": path}).graph
    for values in ({"a.out": 6, "b.out": 3, "b.kernel": 0}, {"a.out": 19, "b.out": 0, "b.kernel": 1}):
        pinned = pin(space.graph, values)
        wanted = sum(1.0 + setting_of(pinned, node).macs() / 1e5 for node in pinned.operators())
        assert cost_of(known, values, names=["latency"])["latency"] == pytest.approx(wanted, abs=1e-5)


def test_a_table_of_another_space_is_added_to(tmp_path: Path, own_times: list[Setting]) -> None:
    path = tmp_path / "table.json"
    profile(Supernet(graph(KERNELS.replace("oneof(3, 5)", "3"))), path, repeats=2, note=quiet)
    before, space = len(own_times), elaborate(Source(KERNELS))
    with pytest.raises(CompileError, match=r"has no time for `.*depthwise` with .*kernel = 5, .*expand = 2"):
        measured(space, {"latency": path})
    profile(Supernet(space.graph), path, repeats=2, note=quiet)
    assert [setting.attrs["kernel"] for setting in own_times[before:]] == [5, 5]
    assert measured(space, {"latency": path}).graph.given["latency"]


# --- Limits -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(tmp_path: Path, own_times: list[Setting]) -> tuple[Path, Path, list[float]]:
    """A file with a limit on its latency that half of its architectures meet, the table, and all latencies."""
    space, table, file = elaborate(Source(KERNELS)), tmp_path / "table.json", tmp_path / "kernels.space"
    profile(Supernet(space.graph), table, repeats=1, note=quiet)
    known, numbering = measured(space, {"latency": table}).graph, Numbering(space.graph)
    all_ = [cost_of(known, numbering.unrank(i).indices, names=["latency"])["latency"] for i in range(numbering.total)]
    file.write_text(KERNELS.replace("  network", f"  require latency <= {sorted(all_)[len(all_) // 2]}\n  network"))
    return file, table, [float(one) for one in all_]


def test_a_limit_on_the_latency_is_checked_counted_and_drawn_from(
    limited: tuple[Path, Path, list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    file, table, all_ = limited
    most = sorted(all_)[len(all_) // 2]
    with_table = ["--latency", str(table)]
    assert main(["check", str(file), *with_table]) == 0
    assert "warning" not in "".join(capsys.readouterr())
    assert main(["count", str(file), "--digits", *with_table]) == 0
    assert int(capsys.readouterr().out) == sum(one <= most for one in all_)
    assert main(["sample", str(file), "-n", "30", "--format", "json", *with_table]) == 0
    drawn = json.loads(capsys.readouterr().out)["architectures"]
    assert len(drawn) == 30 and all(one["costs"]["latency"] <= most for one in drawn)
    file.write_text(file.read_text().replace(f"latency <= {most}", f"latency <= {min(all_) / 2}"))
    assert main(["check", str(file), *with_table]) == 1
    assert "no architecture meets `latency <=" in capsys.readouterr().err


def test_a_limit_on_the_latency_without_a_table_is_told(
    limited: tuple[Path, Path, list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    """By a check; a count leaves it out and says so; draws are refused."""
    file, _, all_ = limited
    lacks = "needs a latency table, and none is given"
    assert main(["check", str(file)]) == 0
    said = capsys.readouterr().err
    assert "warning[unreadable-budget]" in said and lacks in said and "--latency" in said
    assert main(["count", str(file)]) == 0
    said = capsys.readouterr().out
    assert f"{len(all_)} architectures" in said and lacks in said
    assert main(["count", str(file), "--digits"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{len(all_)}\n" and lacks in captured.err
    assert main(["count", str(file), "--format", "json"]) == 0
    assert lacks in json.loads(capsys.readouterr().out)["left out"][0]
    for command in ("sample", "cost"):
        assert main([command, str(file)]) == 1
        assert lacks in capsys.readouterr().err
    assert main(["check", str(file), "--latency", str(file.with_name("none.json"))]) == 1
    assert "cannot be read" in capsys.readouterr().err
