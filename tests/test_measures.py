"""Measures: what they count, held against torch and against enumeration; tables of times; those of other packages."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nasdsl
from nasdsl.cli import main
from nasdsl.compiler import cost, measures
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.arrays.evaluator import Evaluator
from nasdsl.compiler.cost import MissingTable, cost_of, in_units, node_cost, totals
from nasdsl.compiler.diagnostics import ArgumentError, CompileError
from nasdsl.compiler.engine.budget import UnreadableBudget, budget_windows
from nasdsl.compiler.engine.limits import Infeasible
from nasdsl.compiler.latency_table import read_table, setting_key
from nasdsl.compiler.pin import pin
from nasdsl.compiler.plugins import PluginError
from nasdsl.compiler.population import Population
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.setting import largest_settings, setting_of
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.tree import evaluate, holds
from nasdsl.runtime import latency as measuring
from nasdsl.runtime.evolution.objectives import Objectives
from nasdsl.runtime.latency import profile
from nasdsl.runtime.limits import is_share, window_of
from nasdsl.runtime.penalty import Penalty, code_cost, groups_of
from nasdsl.runtime.strategies.thin import thin_evenly
from nasdsl.testing import check_measure
from tests.networks import image_for, torch_traffic

TEXT = """
space small {
  input 1 x 12 x 12

  operator body() {
    residual { mixconv(4, hidden: { 3: units(2), 5: units(1) }) }
  }

  network {
    stem: conv(4, kernel: oneof(3, 5), stride: 2)
    repeat oneof(0..2) { body() }
    wide: conv(oneof(4, 6), kernel: 3)
    residual { maybe: oneof(avg_pool(3), none) }
    classify(classes: 3)
  }
}
"""


@cache
def small() -> Space:
    return nasdsl.loads(TEXT)


@cache
def everything() -> tuple[Architecture, ...]:
    numbering = Numbering(small().graph)
    return tuple(map(numbering.unrank, range(numbering.total)))


def times(setting: Any, batch: int, repeats: int, device: str) -> list[float]:
    """Made-up times in milliseconds, which do not rise evenly."""
    arguments = setting.arguments()
    units = sum(arguments["hidden"].values()) if setting.op == "mixconv" else arguments.get("kernel_size", 0)
    return [round(0.013 * len(setting.op) + 0.017 * units**1.5, 5)] * repeats


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latency table of the small space."""
    path = tmp_path_factory.mktemp("table") / "table.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "time_setting", times)
        profile(Supernet(small().graph), path, repeats=3, note=lambda line: None)
    return path


@pytest.fixture(scope="module")
def timed(table: Path) -> Space:
    return nasdsl.measured(small(), latency=table)


def latency_of(graph: Any, table: Path, values: Architecture) -> float:
    """The latency once more: each operator that is there by itself, as it was measured; one with units along the line
    between its two nearest points."""
    found = read_table(table).operators
    settings = largest_settings(graph)
    pinned = pin(graph, values.indices)
    total = 0.0
    for node in pinned.operators():
        setting = setting_of(pinned, node)
        macs = setting.macs()
        points: dict[float, float] = {}
        for point in found[setting_key(settings[node.name] if node.op == "mixconv" else setting)].points:
            points[point.macs] = min(point.ms, points.get(point.macs, point.ms))
        xs = sorted(points)
        if len(xs) == 1:
            total += points[xs[0]] * (macs / xs[0] if xs[0] else 1)
            continue
        at = min(max(int(np.searchsorted(xs, macs)), 1), len(xs) - 1)
        low, high = xs[at - 1], xs[at]
        slope = (points[high] - points[low]) / (high - low)
        total += max(0.0, points[low] + slope * (macs - low))
    return total


# --- What they count --------------------------------------------------------------------------------------------------


def test_activations_and_accesses_are_what_torch_moves() -> None:
    """Also where a mixconv has no channel left, so that a sum has one term alone, and is none."""
    space = small()
    supernet = Supernet(space.graph).eval()
    image = image_for(space.graph)
    seen = set()
    for architecture in everything()[:: len(everything()) // 37]:
        found = nasdsl.cost(space, architecture, measures=("memory", "access", "params"))
        supernet.activate(architecture)
        assert torch_traffic(supernet, image) == (found["memory"], found["access"])
        alone = supernet.extract()
        assert torch_traffic(alone, image) == (found["memory"], found["access"])
        assert sum(p.numel() for p in alone.parameters()) == found["params"]
        seen.add(found["memory"])
    assert len(seen) > 3


def test_memory_is_what_the_outputs_of_modules_take() -> None:
    """By hooks on the modules of the network that is taken out."""
    space = small()
    architecture = everything()[-1]
    network = Supernet(space.graph).extract(architecture).eval()
    sizes: list[int] = []

    def note(module: Any, args: Any, output: torch.Tensor) -> None:
        sizes.append(output.numel() * output.element_size())

    for layer in network.layers.values():
        layer.register_forward_hook(note)
    network(image_for(space.graph))
    assert sum(sizes) == nasdsl.cost(space, architecture, measures=["memory"])["memory"]


@pytest.mark.parametrize("copies", [1, 3])
def test_shared_weights_count_once_and_are_read_by_each(copies: int) -> None:
    layers = f"repeat {copies} {{ conv(8, kernel: 3, share: weights) }}"
    space = nasdsl.loads(f"space s {{ input 1 x 8 x 8, network {{ conv(8), {layers}, classify(2) }} }}")
    found = nasdsl.cost(space, measures=("macs", "flops", "params", "memory", "access"))
    image, layer = 8 * 8 * 8, 9 * 8 * 8 + 2 * 8
    stem, head = 8 + 2 * 8, 8 * 2 + 2
    assert found == {
        "macs": 64 * (8 + copies * 9 * 64) + 16,
        "flops": 2 * found["macs"],
        "params": stem + layer + head,
        "memory": 4 * ((copies + 1) * image + 2),
        "access": 64 + stem + image + copies * (2 * image + layer) + image + head + 2,
    }


def test_by_default_macs_and_parameters_are_told() -> None:
    space, architecture = small(), everything()[5]
    assert list(nasdsl.cost(space, architecture)) == ["macs", "params"]
    assert nasdsl.cost(space, architecture) == cost_of(space.graph, architecture.indices)
    assert list(nasdsl.cost_range(space)) == ["macs", "params"]
    with pytest.raises(ArgumentError, match="there is no measure `speed`") as refused:
        nasdsl.cost(space, architecture, measures=("speed",))
    assert refused.value.help == "there are macs, flops, params, memory, access, profiler_macs, latency"
    with pytest.raises(MissingTable, match="there is no latency table"):
        nasdsl.cost(space, architecture, measures=("latency",))


def test_a_check_computes_no_measure_that_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError("a measure is computed")

    monkeypatch.setattr(cost, "_sum", refuse)
    monkeypatch.setattr(measures, "find_plugins", refuse)
    nasdsl.loads(TEXT)
    asked: list[str] = []

    def note(graph: Any, measure: Any, places: Any) -> int:
        asked.append(measure.name)
        return 5

    monkeypatch.setattr(cost, "_sum", note)
    nasdsl.loads(TEXT.replace("  network {", "  require memory <= 10K\n  network {"))
    assert set(asked) == {"memory"}


# --- Over all architectures -------------------------------------------------------------------------------------------

NAMES = ("macs", "flops", "params", "memory", "access", "latency")


@pytest.fixture(scope="module")
def costs(timed: Space) -> dict[str, list[float]]:
    """Of each measure the costs of all architectures, one by one."""
    values = totals(timed.graph, NAMES)
    whole = {name: [int(evaluate(values[name], one.indices)) for one in everything()] for name in NAMES}
    found = {name: [measures.find(name).amount(cost) for cost in row] for name, row in whole.items()}
    for number in range(0, len(everything()), 41):
        one = cost_of(timed.graph, everything()[number].indices, names=NAMES)
        assert one == {name: found[name][number] for name in NAMES}
    return found


def test_arrays_are_costed_as_one_by_one(timed: Space, costs: dict[str, list[float]]) -> None:
    evaluator = Evaluator(timed.graph)
    matrix = evaluator.encoding.encode(everything())
    for name in NAMES:
        assert evaluator.costs(matrix, (name,))[:, 0].tolist() == costs[name]


@pytest.mark.parametrize("name", NAMES)
def test_extremes_and_distributions_are_those_of_all(name: str, timed: Space, costs: dict[str, list[float]]) -> None:
    population, values = nasdsl.population(timed), np.asarray(costs[name])
    assert population.extreme(name).cost == values.min() == nasdsl.cost_range(timed, [name])[name][0]
    assert population.extreme(name, greatest=True).cost == values.max() == nasdsl.cost_range(timed, [name])[name][1]
    best = population.extreme(name).architecture
    assert nasdsl.cost(timed, best, [name])[name] == values.min()
    spread = population.spread(name)
    assert spread.exact and spread.mean == pytest.approx(values.mean()) and spread.std == pytest.approx(values.std())
    middle = float(np.median(values))
    assert spread.share_at_most(middle) == pytest.approx((values <= middle).mean())
    assert spread.quantile(0.25) == np.sort(values)[int(np.ceil(0.25 * len(values))) - 1]
    edges, shares = spread.histogram(5)
    assert (edges[0], edges[-1]) == (values.min(), values.max()) and shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("names", [(name,) for name in NAMES] + [("memory", "latency"), ("macs", "access")])
def test_counts_and_draws_inside_a_window_are_those_of_all(
    names: tuple[str, ...], timed: Space, costs: dict[str, list[float]]
) -> None:
    population = nasdsl.population(timed)
    window: dict[str, tuple[float | None, float | None]] = {}
    inside = np.ones(len(everything()), bool)
    for name in names:
        low, high = (float(np.quantile(costs[name], q, method="nearest")) for q in (0.1, 0.7))
        window[name] = (low, high)
        inside &= (np.asarray(costs[name]) >= low) & (np.asarray(costs[name]) <= high)
    part = population.part(window)
    assert part.exact and part.count == inside.sum() > 0
    drawn = population.decode(population.draw(500, seed=3, window=window))
    number = {one: i for i, one in enumerate(everything())}
    assert {number[one] for one in drawn} <= set(np.flatnonzero(inside).tolist())


@pytest.mark.parametrize("name", NAMES)
def test_every_measure_keeps_to_its_word(name: str, table: Path) -> None:
    check_measure(measures.BUILT_IN[name], file=table if name == "latency" else None, space=small())


def test_nothing_lies_beyond_the_ends(timed: Space, costs: dict[str, list[float]]) -> None:
    population, least = nasdsl.population(timed), min(costs["latency"])
    assert population.part({"latency": (None, least - 1e-6)}).count == 0
    assert population.part({"latency": (None, least)}).count == costs["latency"].count(least)
    with pytest.raises(Infeasible, match=r"no architecture has latency of at most 0\.001: the cheapest has 0\."):
        population.draw(1, 0, {"latency": (None, 0.001)})


def test_where_exact_answers_are_out_of_reach(timed: Space, costs: dict[str, list[float]]) -> None:
    population = Population(timed.graph, ("macs", "latency"), patience=1)
    assert not population.exact
    for name in ("macs", "latency", "memory"):
        spread, values = population.spread(name), np.asarray(costs[name])
        assert not spread.exact and abs(spread.mean - values.mean()) < 6 * spread.error
        assert {type(spread.quantile(0.5)), type(population.extreme(name).cost)} == {type(costs[name][0])}
        assert values.min() <= population.extreme(name).cost <= population.extreme(name, greatest=True).cost
    limit = float(np.median(costs["latency"]))
    part = population.part({"latency": (None, limit), "access": (1, None)})
    assert abs(part.share - np.mean([cost <= limit for cost in costs["latency"]])) < 6 * part.error
    drawn = population.draw(200, 0, {"latency": (None, limit)})
    assert (population.costs(drawn, ["latency"]) <= limit).all()


def test_what_an_evaluation_tells_goes_before_a_cost() -> None:
    aims = Objectives({"memory": False, "flops": False, "top1": True})
    assert aims.of({"memory": 3.0, "top1": 0.5}, {"macs": 4, "memory": 7}) == (3.0, 8.0, 0.5)
    assert aims.of({"top1": 0.5}, {"macs": 4, "memory": 7}) == (7.0, 8.0, 0.5)


def test_limits_of_settings(timed: Space, costs: dict[str, list[float]]) -> None:
    population = nasdsl.population(timed)
    most = max(costs["memory"])

    def greatest(name: str) -> float:
        return population.extreme(name, greatest=True).cost

    assert window_of(greatest, {"memory": 0.5, "flops": 3000}, {"latency": 0.2}) == {
        "memory": (None, 0.5 * most),
        "macs": (None, 1500),
        "latency": (0.2, None),
    }
    assert is_share("memory", 0.5) and not is_share("latency", 0.5)


# --- What a published profiler tells --------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["centred", "none"])
@pytest.mark.parametrize("decoder", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_profiler_of_hrnas_misses_what_its_hooks_miss(position: str, decoder: bool, stride: int) -> None:
    """Of a transformer it tells n E (c + 2) + n E c' + 4 n E^2 + 2 n^2 E + 4 n: the decoder's
    attention goes unseen, and a linear layer on n tokens is n MACs."""
    more = f"stride: {stride}, position: {position}, decoder: {str(decoder).lower()}"
    steps = f"transformer(10, tokens: units(6), size: 3, {more})"
    space = nasdsl.loads(f"space net {{\n input 5 x 8 x 8\n network {{ t: {steps}\n classify(classes: 3) }}\n}}")
    (path,) = [path for path, decision in space.graph.decisions.items() if decision.kind == "units"]
    for kept in ((0,), (1, 4), tuple(range(6))):
        n, e, c, out = len(kept), 9, 5 + (2 if position == "centred" else 0), 10
        rest = 3 * 10  # the head
        told = nasdsl.cost(space, {path: list(kept)}, ["macs", "profiler_macs"])
        layers = 2 if decoder else 1
        assert told["profiler_macs"] == rest + n * e * c + n * e * out + 4 * n * e**2 + 2 * n**2 * e + 2 * layers * n
        assert told["macs"] == rest + n * e * c + n * e * out + layers * (6 * n * e**2 + 2 * n**2 * e)


def test_a_token_costs_in_the_penalty_what_the_profiler_tells() -> None:
    """The penalty of the published code goes by the profiler, at its 224 x 224 pixels."""
    steps = "c: conv(6, stride: 4)\n t: transformer(10, tokens: units(6), size: 3)\n classify(classes: 3)"
    space = nasdsl.loads(f"space net {{\n input 3 x 224 x 224\n network {{ {steps} }}\n}}")
    (path,) = space.graph.decisions
    one, two = (nasdsl.cost(space, {path: list(range(n))}, ["profiler_macs"])["profiler_macs"] for n in (4, 5))
    (group,) = groups_of(Supernet(space.graph))
    assert code_cost(space.graph, group, 5) == two - one


def test_without_transformers_the_profiler_agrees(costs: dict[str, list[float]]) -> None:
    for architecture, macs in list(zip(everything(), costs["macs"], strict=True))[::97]:
        assert nasdsl.cost(small(), architecture, ["profiler_macs"]) == {"profiler_macs": macs}


# --- Latency by a table -----------------------------------------------------------------------------------------------


def test_a_latency_is_the_sum_of_the_times_of_the_table(
    timed: Space, table: Path, costs: dict[str, list[float]]
) -> None:
    operators = sum(1 for _ in timed.graph.operators())
    for architecture, found in list(zip(everything(), costs["latency"], strict=True))[::53]:
        assert found == pytest.approx(latency_of(timed.graph, table, architecture), abs=1e-6 * operators)
        assert found * 1e6 == pytest.approx(round(found * 1e6), abs=1e-6)


def test_the_greatest_network_takes_what_was_measured(timed: Space, table: Path, costs: dict[str, list[float]]) -> None:
    entries = read_table(table).operators
    settings = largest_settings(timed.graph)
    largest = everything()[int(np.argmax(costs["macs"]))]
    wanted = [
        entries[setting_key(settings[node.name])].points[-1].ms
        for node in timed.graph.operators()
        if holds(node.present, largest.indices)
    ]
    assert cost_of(timed.graph, largest.indices, names=["latency"])["latency"] == pytest.approx(sum(wanted), abs=1e-9)


def test_a_pinned_space_keeps_its_latency(timed: Space, table: Path, tmp_path: Path) -> None:
    """Also one that a file pins or narrows: the table is that of the whole supernet."""
    values = {"wide.out": 6, "repeat.depth": 1}
    one = nasdsl.pin(timed, values)
    other = nasdsl.measured(nasdsl.pin(small(), values), latency=table)
    changes = "space less = small with { wide.out: 6, repeat.depth: oneof(1, 2) }"
    file = nasdsl.measured(nasdsl.loads(TEXT + changes, "less"), latency=table)
    for architecture in everything()[::97]:
        wanted = nasdsl.cost(timed, architecture, ["latency"])
        rest = {path: value for path, value in architecture.items() if path not in values}
        if all(architecture[path] == value for path, value in values.items()):
            assert nasdsl.cost(one, rest, ["latency"]) == nasdsl.cost(other, rest, ["latency"]) == wanted
        if architecture["wide.out"] == 6 and architecture["repeat.depth"] > 0:
            left = {path: value for path, value in architecture.items() if path in file.graph.decisions}
            assert nasdsl.cost(file, left, ["latency"]) == wanted


def test_budgets_on_a_latency(table: Path, costs: dict[str, list[float]], tmp_path: Path) -> None:
    limit = float(np.quantile(costs["latency"], 0.4, method="nearest"))
    budget = f"latency <= {limit:.6f}"
    space = nasdsl.loads(TEXT.replace("  network {", f"  require {budget}\n  network {{"))  # a check needs no table
    for act in (nasdsl.population, nasdsl.sample):
        with pytest.raises(UnreadableBudget, match=f"`{budget}` needs a latency table, and none is given") as refused:
            act(space)
        assert "nasdsl profile" in refused.value.help and refused.value.span is not None
    timed = nasdsl.measured(space, latency=table)
    assert budget_windows(timed.graph) == {"latency": (None, limit)}
    assert nasdsl.population(timed).part({}).count == sum(one <= limit for one in costs["latency"])
    assert all(nasdsl.cost(timed, one, ["latency"])["latency"] <= limit for one in nasdsl.sample(timed, 50))
    low = nasdsl.loads(TEXT.replace("  network {", "  require latency < 0.001\n  network {"))
    with pytest.raises(CompileError, match=r"no architecture meets `latency < 0\.001`") as impossible:
        nasdsl.measured(low, latency=table)
    assert impossible.value.diagnostics[0].label.startswith("the least is 0.")
    both = f"  require latency <= {limit:.6f}\n  require latency >= {limit + 1e-6:.6f}\n"
    with pytest.raises(CompileError, match="no architecture meets"):
        nasdsl.measured(nasdsl.loads(TEXT.replace("  network {", both + "  network {")), latency=table)


def test_tables_that_do_not_fit(table: Path, tmp_path: Path) -> None:
    other = nasdsl.loads(TEXT.replace("classes: 3", "classes: 4"))
    with pytest.raises(CompileError, match="has no time for `classify`"):
        nasdsl.measured(other, latency=table)
    with pytest.raises(CompileError, match="cannot be read"):
        nasdsl.measured(small(), latency=tmp_path / "none.json")
    with pytest.raises(ArgumentError, match="`macs` is known without a file"):
        nasdsl.measured(small(), macs=table)


# --- On the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.space"
    path.write_text(TEXT)
    return path


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert main([*argv, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_commands_tell_any_measure(
    file: Path, table: Path, capsys: pytest.CaptureFixture[str], costs: dict[str, list[float]]
) -> None:
    timing = ["--latency", str(table)]
    found = told(capsys, "cost", "small.space", "--measure", "memory", "--by", "latency", *timing)
    for name in ("macs", "params", "memory", "latency"):
        assert (found[name]["least"]["value"], found[name]["greatest"]["value"]) == (min(costs[name]), max(costs[name]))
    assert "access" not in found
    limit = sorted(costs["latency"])[len(costs["latency"]) // 3]
    budget = ["--budget", f"latency <= {limit:.6f}"]
    count = told(capsys, "count", "small.space", *budget, *timing)
    assert count["inside"]["count"] == str(sum(one <= limit for one in costs["latency"]))
    drawn = told(capsys, "sample", "small.space", "-n", "20", *budget, *timing, "--measure", "access")
    for row in drawn["architectures"]:
        assert row["costs"] == nasdsl.cost(
            nasdsl.measured(small(), latency=table), row["architecture"], ["macs", "params", "latency", "access"]
        )
        assert row["costs"]["latency"] <= limit and isinstance(row["costs"]["macs"], int)
    asked = ["--measure", "flops", "--measure", "latency"]
    summary = told(capsys, "compile", "small.space", "--stage", "space", *asked, *timing)
    assert summary["costs"]["flops"] == {"least": min(costs["flops"]), "greatest": max(costs["flops"])}
    assert summary["costs"]["latency"]["least"] == min(costs["latency"])


def test_commands_write_any_measure(file: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timing = ["--latency", str(table)]
    assert main(["cost", "small.space", "--by", "latency", "--svg", "a.svg", "--least", "least.space", *timing]) == 0
    out = capsys.readouterr().out
    assert "ms of latency" in out and "ms of latency" in Path("a.svg").read_text()
    assert "least latency: 0." in Path("least.space").read_text()
    assert main(["cost", "least.space", "--measure", "memory", *timing, "--by", "latency"]) == 0
    assert "bytes of activations" in capsys.readouterr().out
    assert main(["sample", "small.space", "-n", "3", "--measure", "latency", *timing]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(["sample", "small.space", "-n", "2", "--measure", "latency", *timing, "--format", "csv"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("macs,params,latency,") and len(rows) == 2 and "." not in rows[0].split(",")[0]
    assert main(["compile", "small.space", "--stage", "space", "--measure", "memory"]) == 0
    assert "bytes of activations" in capsys.readouterr().out


def test_what_is_wrong_on_the_command_line(file: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("count", "sample", "cost"):
        assert main([command, "small.space", "--budget", "latency <= 5"]) == 1
        told = capsys.readouterr().err
        assert "`latency <= 5` needs a latency table" in told and "--latency" in told and "<command line>:3:11" in told
    assert main(["cost", "small.space", "--by", "latency"]) == 1
    assert "there is no latency table" in capsys.readouterr().err
    assert main(["cost", "small.space", "--by", "speed"]) == 2
    assert "there is no measure `speed`" in capsys.readouterr().err
    assert main(["count", "small.space", "--measured", "table.json"]) == 2
    assert "--measured takes NAME=FILE" in capsys.readouterr().err
    assert main(["count", "small.space", "--latency", "none.json"]) == 1
    assert "none.json cannot be read" in capsys.readouterr().err


# --- In searches ------------------------------------------------------------------------------------------------------


def test_a_search_with_objectives_and_budgets_on_any_measure(
    file: Path,
    table: Path,
    costs: dict[str, list[float]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (file.parent / "their_worth.py").write_text("def worth(architecture, space):\n    return len(str(architecture))\n")
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.delitem(sys.modules, "their_worth", raising=False)
    limit = sorted(costs["memory"])[len(costs["memory"]) // 2]
    words = ["--runtime", "evolve", "--function", "their_worth:worth", "--trials", "4", "--out", "best.space"]
    aims = ["--set", "maximise=value", "--set", "minimise=[latency, flops]", "--budget", f"memory <= {limit}"]
    assert main(["search", "small.space", *words, *aims, "--latency", str(table)]) == 0
    capsys.readouterr()
    trials = told(capsys, "trials", "runs/best")
    space = nasdsl.measured(small(), latency=table)
    for trial in trials:
        known = nasdsl.cost(space, trial["architecture"], ("macs", "params", "memory", "latency"))
        assert trial["costs"] == known and known["memory"] <= limit
        assert trial["objectives"]["latency"] == known["latency"] and trial["objectives"]["flops"] == 2 * known["macs"]
    assert main(["trials", "runs/best"]) == 0
    head = capsys.readouterr().out.splitlines()[0].split()
    assert head == ["trial", "value", "flops", "macs", "params", "memory", "latency", "seconds", "parents", "state"]
    note = Path("best.space").read_text().splitlines()[0]
    assert "MACs" in note and "bytes of activations" in note and "ms of latency" in note
    assert main(["report", "runs/best", "-o", "best.html", "--pictures", "1", "--latency", str(table)]) == 0
    page = Path("best.html").read_text()
    assert "ms of latency of its architectures" in page and "bytes of activations of its architectures" in page


def test_an_objective_that_nothing_tells(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = list(small().graph.decisions)
    row = next(one for one in everything() if one["repeat.depth"] == 0)
    cells = [str(row.get(path, "")) for path in columns]
    (file.parent / "known.csv").write_text(f"{','.join(columns)},worth\n{','.join(cells)},1\n")
    words = ["--runtime", "evolve", "--table", "known.csv", "--out", "x.space"]
    assert main(["search", "small.space", *words, "--set", "minimise=latency"]) == 1
    err = capsys.readouterr().err
    assert "nothing measures `latency`" in err and "`worth`" in err
    assert main(["search", "small.space", *words, "--set", "minimise=[worth, access]", "--fresh"]) == 0


def test_a_penalty_on_parameters_is_what_a_unit_adds_to_them() -> None:
    graph = small().graph
    network = Supernet(graph)
    penalty = Penalty(network, "exact", False, 1e-3, measure="params")
    whole = {**{p: tuple(range(d.n)) for p, d in graph.decisions.items() if d.kind == "units"}, "repeat.depth": 2}
    rest = {path: 0 for path, d in graph.decisions.items() if path not in whole}
    for group in penalty.groups:
        values = {**rest, **whole}
        less = {**values, group.path: group.kept[1:]}
        saved = cost_of(graph, values)["params"] - cost_of(graph, less)["params"]
        assert penalty.cost(group, len(group.kept)) == saved > 0
    with pytest.raises(CompileError, match="the penalty is on memory, to which no search unit adds anything"):
        Penalty(network, "exact", True, 1e-3, measure="memory")


def test_a_space_is_thinned_to_a_latency(timed: Space) -> None:
    rest = {"stem.kernel": 5, "repeat.depth": 2, "wide.out": 6, "maybe": "none"}
    graph = nasdsl.pin(timed, rest).graph
    value = in_units(graph, "latency")
    whole = float(evaluate(value, {path: range(d.n) for path, d in graph.decisions.items()}))
    thin = thin_evenly(graph, value, 0.9 * whole)
    assert float(evaluate(value, thin)) <= 0.9 * whole


# --- Of other packages ------------------------------------------------------------------------------------------------

THEIRS = """
import json
from nasdsl.compiler.measures.measure import Measure
from nasdsl.compiler.values import expr

def read(path, graph):
    each = json.loads(path.read_text())
    return {node.name: each.get(node.op, 0) for node in graph.operators()}

ENERGY = Measure(
    "energy", "nJ of energy", "By the MACs and the accesses.", unit="nJ", scale=1000,
    term=lambda place: expr.add(expr.multiply(3, place.cost.macs), place.written),
)
HEAT = Measure("heat", "mJ of heat", "By a table.", scale=10, read=read, made_with="measure it")
ALL = [ENERGY, HEAT, Measure("twice", "nJ twice", "Twice.", scale=1000, of=(2, "energy"))]
"""


@pytest.fixture
def package(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module of a package that offers measures, beside a file."""
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.delitem(sys.modules, "their_measures", raising=False)
    entry = EntryPoint("theirs", "their_measures:ALL", measures.GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [entry] if group == entry.group else [])
    measures.plugins.cache_clear()
    path = file.parent / "their_measures.py"
    path.write_text(THEIRS)
    yield path
    measures.plugins.cache_clear()


def test_a_measure_of_another_package(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = small()

    def energy(one: Architecture) -> float:
        whole = 0
        for node in space.graph.nodes.values():
            if node.kind in ("operator", "merge") and holds(node.reached, one.indices):
                shape = node.shape
                parts = (node_cost(space.graph, node).macs, shape.channels, shape.pixels)
                macs, channels, pixels = (evaluate(part, one.indices) for part in parts)
                whole += 3 * macs + channels * pixels
        return whole / 1000

    known = [energy(one) for one in everything()]
    assert [nasdsl.cost(space, one, ["energy"])["energy"] for one in everything()[::29]] == known[::29]
    assert nasdsl.cost_range(space, ["energy", "twice"]) == {
        "energy": (min(known), max(known)),
        "twice": (2 * min(known), 2 * max(known)),
    }
    limit = sorted(known)[len(known) // 2]
    Path("tight.space").write_text(TEXT.replace("  network {", f"  require energy <= {limit}\n  network {{"))
    count = told(capsys, "count", "tight.space")
    assert count["inside"]["count"] == str(sum(one <= limit for one in known)) and count["inside"]["exact"]
    drawn = told(capsys, "sample", "tight.space", "-n", "5", "--measure", "twice")
    assert all(row["costs"]["twice"] == pytest.approx(2 * row["costs"]["energy"]) for row in drawn["architectures"])
    assert main(["cost", "small.space", "--by", "energy", "--svg", "e.svg"]) == 0
    assert "nJ of energy" in capsys.readouterr().out and "nJ of energy" in Path("e.svg").read_text()
    ends = min(known), limit
    count = told(
        capsys, "count", "small.space", "--budget", f"energy in {ends[0]}..{ends[1]}", "--budget", "2 * energy > 1"
    )
    assert count["inside"]["count"] == str(sum(one <= limit for one in known))
    count = told(capsys, "count", "small.space", "--budget", f"energy == {limit}")
    assert count["inside"]["count"] == str(known.count(limit))
    Path("low.space").write_text(TEXT.replace("  network {", "  require energy <= 0.001\n  network {"))
    assert main(["check", "low.space"]) == 1
    assert "no architecture meets `energy <= 0.001`" in capsys.readouterr().err


def test_a_measure_of_another_package_that_is_read_from_a_file(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("heat.json").write_text('{"conv": 15, "mixconv": 7}')
    found = told(capsys, "cost", "small.space", "--measure", "heat", "--measured", "heat=heat.json")
    assert found["heat"]["least"]["value"] == 3.0  # two convolutions
    assert main(["count", "small.space", "--budget", "heat <= 3.5"]) == 1
    err = capsys.readouterr().err
    assert "`heat <= 3.5` needs a heat table" in err and "measure it" in err
    count = told(capsys, "count", "small.space", "--budget", "heat <= 3.5", "--measured", "heat=heat.json")
    space = nasdsl.measured(small(), heat="heat.json")
    assert count["inside"]["count"] == str(sum(nasdsl.cost(space, a, ["heat"])["heat"] <= 3.5 for a in everything()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ALL = 7", "their_measures:ALL is neither a Measure nor a list of them"),
        ("ALL = 1 / 0", "loading their_measures:ALL fails: ZeroDivisionError"),
        (THEIRS.replace('"heat"', '"macs"'), "has a measure named `macs`, which is taken"),
        (THEIRS.replace("read=read", "of=None"), "has one of `term`, `of` and `read`"),
        (THEIRS.replace('(2, "energy")', '(2, "power")'), "`twice` is no whole multiple of a measure"),
    ],
)
def test_a_broken_package_is_named(package: Path, text: str, message: str) -> None:
    package.write_text(text)
    with pytest.raises(PluginError, match="package `their_measures`") as refused:
        measures.lookup("heat")
    assert message in refused.value.message
    assert measures.lookup("macs") is measures.BUILT_IN["macs"]  # what is built in does not hang on it
