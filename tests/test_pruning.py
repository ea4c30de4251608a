"""Partial order pruning: against its definition, on spaces small enough to be gone through."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as runs
from hypothesis import strategies as st

import nasdsl
from nasdsl.cli import main
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.sample import Numbering
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.methods import Nsga2, Random
from nasdsl.runtime.evolution.objectives import Objectives
from nasdsl.runtime.evolution.pruning import PartialOrder, Prune, Pruning
from nasdsl.runtime.evolution.trial import Ledger, Memory, Trial
from nasdsl.runtime.problem import Exploration
from nasdsl.runtime.storage import database_url
from nasdsl.runtime.trials import Database, read_database

SPACE = """
space odds {
  input 1 x 8 x 8
  network {
    stem: conv(oneof(8, 4), stride: oneof(1, 2))
    body: repeat oneof(1..2) { conv(8, kernel: oneof(1, 3), act: oneof(relu, gelu)) }
    mix: mixconv(6, hidden: { 3: units(2) })
    classify(classes: 3)
  }
}
"""
"""Numbers that rise and fall, a depth, alternatives, units, and a stride of which more costs less."""

DIGITS = """
space digits {
  input 1 x 8 x 8
  let base = oneof(2, 4)
  operator segment() {
    block: repeat oneof(1..2) {
      let digit = oneof(1, 2)
      let doublings = previous(doublings, else: 0) + digit - 1
      conv(base * 2^doublings, kernel: 3)
    }
  }
  network {
    a: segment()
    b: segment()
    classify(classes: 3)
  }
}
"""
"""As in SM-NAS: a base width, and a digit for each block that keeps or doubles the width for all that follows."""


@cache
def space_of(text: str) -> Any:
    return nasdsl.loads(text)


@cache
def all_of(text: str) -> list[Architecture]:
    numbering = Numbering(space_of(text).graph)
    return [numbering.unrank(i) for i in range(numbering.total)]


def path_of(space: Any, word: str) -> str:
    return next(path for path in space.graph.decisions if word in path)


# --- The orders, as one would say them --------------------------------------------------------------------------------


def below_by_decisions(x: Architecture, y: Architecture) -> bool:
    """Of the space `odds`."""
    one, other = dict(x.items()), dict(y.items())
    for path, value in one.items():
        if path not in other:
            return False
        if "hidden" in path:
            if not set(value) <= set(other[path]):
                return False
        elif "stride" in path or "act" in path:
            if value != other[path]:
                return False
        elif value > other[path]:
            return False
    return True


def widths_of(x: Architecture) -> tuple[list[int], list[int]]:
    """The widths of the blocks of both segments of the space `digits`, by hand."""
    base, doublings = x["base"], 0
    out = []
    for segment in "ab":
        widths = []
        for i in range(x[f"{segment}.block.depth"]):
            doublings += x[f"{segment}.block[{i}].digit"] - 1
            widths.append(base * 2**doublings)
        out.append(widths)
    return out[0], out[1]


def below_by_widths(x: Architecture, y: Architecture) -> bool:
    return all(
        len(mine) <= len(theirs) and all(a <= b for a, b in zip(mine, theirs, strict=False))
        for mine, theirs in zip(widths_of(x), widths_of(y), strict=True)
    )


CASES: dict[str, tuple[str, Prune, Callable[[Architecture, Architecture], bool]]] = {
    "decisions": (SPACE, Prune(), below_by_decisions),
    "widths": (DIGITS, Prune(by="widths"), below_by_widths),
}


@pytest.mark.parametrize("case", list(CASES))
def test_an_order_is_the_one_that_one_would_say(case: str) -> None:
    text, settings, below = CASES[case]
    candidates = Candidates(space_of(text).graph, None, False)
    order = PartialOrder(space_of(text).graph, candidates, settings, candidates.population.measures)
    everything = all_of(text)
    points = order.points(candidates.encoding.encode(everything))
    some = np.random.default_rng(0).permutation(len(everything))[:60]
    true = 0
    for i in some:
        found = order.below((points[0][i], points[1][i]), points)
        expected = [below(everything[i], other) for other in everything]
        assert found.tolist() == expected
        true += sum(expected)
    assert len(some) < true < 60 * len(everything) / 2


def test_an_order_is_derived_and_what_may_cost_less_is_told() -> None:
    space = space_of(SPACE)
    candidates = Candidates(space.graph, None, False)
    order = PartialOrder(space.graph, candidates, Prune(), candidates.population.measures)
    kinds = {path.rpartition(".")[2] for path in order.ordered}
    assert kinds == {"out", "depth", "kernel", "hidden[3]"} and order.unproven == [path_of(space, "stride")]
    heads = nasdsl.load("trionet_small")
    found = PartialOrder(heads.graph, Candidates(heads.graph), Prune(), ("macs", "params"))
    assert any("expand" in path for path in found.ordered)
    assert found.unproven and all("heads" in path for path in found.unproven)


def test_an_order_may_be_declared() -> None:
    space = space_of(SPACE)
    candidates = Candidates(space.graph, None, False)

    def ordered(*names: str) -> list[str]:
        return PartialOrder(space.graph, candidates, Prune(order=names), ("macs", "params")).ordered

    assert ordered("body.depth") == [path_of(space, "depth")]
    assert len(ordered("kernel", "conv.act")) == 4
    stride = path_of(space, "stride")
    assert ordered(stride, "act")[0] == stride
    for name, message in (("kernels", "no decision is called so"), ("ernel", "no decision is called so")):
        with pytest.raises(RunError, match=f"`prune` orders `{name}`, and {message}") as refused:
            ordered(name)
    assert "kernel" in refused.value.help
    others = nasdsl.loads(
        "space s {\n  input 1 x 8 x 8\n  let order = permute([4, 8, 12])\n  let odd = oneof(4, 8, 2)\n"
        "  network {\n    for out in order { conv(out) }\n    conv(odd)\n    classify(classes: 2)\n  }\n}\n"
    )
    for name, message in (("order", "cannot be more or less"), ("odd", "neither in rising nor in falling order")):
        with pytest.raises(RunError, match=message):
            PartialOrder(others.graph, Candidates(others.graph), Prune(order=(name,)), ("macs",))


# --- What is skipped --------------------------------------------------------------------------------------------------


@cache
def lower(case: str) -> Any:
    """[x, y] whether x is below y, of all architectures."""
    text, _, below = CASES[case]
    return np.asarray([[below(x, y) for y in all_of(text)] for x in all_of(text)])


@cache
def costs_of(text: str, name: str) -> list[int]:
    return [nasdsl.cost(space_of(text), one)[name] for one in all_of(text)]


class Monotone:
    """A random worth for which the assumption holds: that of an architecture is the greatest random number of all that
    lie below it, rounded, so that some are equal."""

    def __init__(self, case: str, seed: int, levels: int):
        text = CASES[case][0]
        drawn = np.random.default_rng(seed).random(len(all_of(text))) ** 4 * np.log(costs_of(text, "macs"))
        worth = np.round(levels * (drawn[:, None] * lower(case)).max(axis=0)).tolist()
        self.number = {one: i for i, one in enumerate(all_of(text))}
        self.worth = dict(zip(self.number, worth, strict=True))

    def evaluate(self, architecture: Architecture, seed: int) -> dict[str, float]:
        return {"worth": self.worth[architecture]}


@cache
def monotone(case: str, seed: int, levels: int) -> Monotone:
    return Monotone(case, seed, levels)


def values_of(case: str, seed: int, levels: int, names: tuple[str, ...]) -> list[tuple[float, ...]]:
    """Worth and costs of all architectures."""
    worth = list(monotone(case, seed, levels).worth.values())
    return list(zip(worth, *(costs_of(CASES[case][0], name) for name in names[1:]), strict=True))


DIRECTIONS = {"worth": True, "macs": False, "params": False}


def searched(
    case: str, seed: int, levels: int, names: tuple[str, ...], ledger: Ledger | None = None, most: int = 10_000
) -> list[Trial]:
    text, settings, _ = CASES[case]
    graph = space_of(text).graph
    candidates = Candidates(graph, None, False)
    objectives = Objectives({name: DIRECTIONS[name] for name in names})
    pruning = Pruning(graph, candidates, objectives, settings)
    kept = Memory() if ledger is None else ledger
    method = Random() if seed % 2 else Nsga2(population=8)
    evaluator = monotone(case, seed, levels)
    Search(candidates, evaluator, objectives, method, kept, most, seed, pruning=pruning).run()
    return [trial for _, trial in sorted(kept.trials.items())]


def pareto(values: list[tuple[float, ...]]) -> set[tuple[float, ...]]:
    """Of (worth, costs ...) what nothing dominates, pair by pair."""

    def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return a != b and a[0] >= b[0] and all(x <= y for x, y in zip(a[1:], b[1:], strict=True))

    different = set(values)
    return {one for one in different if not any(dominates(other, one) for other in different)}


@pytest.mark.parametrize(
    ("case", "names", "seed"),
    [
        ("decisions", ("worth", "macs"), 1),
        ("decisions", ("worth", "macs", "params"), 3),
        ("widths", ("worth", "macs", "params"), 1),
        ("widths", ("worth", "macs"), 2),  # by NSGA-II
    ],
)
def test_what_is_skipped_is_what_the_definition_says(case: str, names: tuple[str, ...], seed: int) -> None:
    space, number = space_of(CASES[case][0]), monotone(case, seed, 4).number
    everything, below = values_of(case, seed, 4, names), lower(case)
    trials = searched(case, seed, 4, names)
    assert len(trials) == len(everything), "each is evaluated or skipped"
    known: list[int] = []
    for trial in trials:
        x = number[Architecture.of(space.graph, trial.architecture)]
        above = [everything[w][0] for w in known if below[x, w]]
        cheaper = [
            everything[y][0]
            for y in known
            if all(a <= b for a, b in zip(everything[y][1:], everything[x][1:], strict=True))
        ]
        expected = any(y >= w for w in above for y in cheaper)
        assert (trial.state == "skipped") == expected, trial.error
        if expected:
            assert trial.error and not trial.objectives
        else:
            known.append(x)
            assert trial.objectives == everything[x]
    assert 0 < len(known) < len(trials)
    assert pareto([everything[x] for x in known]) == pareto(everything), "nothing of the front is missing"


@given(st.integers(0, 1 << 15).map(lambda n: 2 * n + 1), st.sampled_from([1, 3, 1000]), st.sampled_from(list(CASES)))
@runs(max_examples=3, suppress_health_check=list(HealthCheck))
def test_nothing_of_the_front_is_skipped_where_more_is_no_worse(seed: int, levels: int, case: str) -> None:
    names = ("worth", "macs")
    found = [trial.objectives for trial in searched(case, seed, levels, names) if trial.objectives]
    assert pareto(found) == pareto(values_of(case, seed, levels, names))


def test_skipped_trials_are_kept_in_a_database_and_a_search_goes_on(tmp_path: Path) -> None:
    space = space_of(DIGITS)
    expected = searched("widths", 1, 4, ("worth", "macs"), most=20)
    url = database_url(None, tmp_path)
    about = {"space": space.digest()}
    for most in (8, 20):
        ledger = Database(url, "many", {"worth": True, "macs": False}, about, space.graph.decisions, 15)
        found = searched("widths", 1, 4, ("worth", "macs"), ledger, most)
        ledger.close()
    assert [(t.proposal, t.state, t.objectives, t.error) for t in found] == [
        (t.proposal, t.state, t.objectives, t.error) for t in expected
    ]
    again = read_database(url, "many")
    assert sum(trial.state == "skipped" for trial in again.trials.values()) > 0
    again.close()


def test_trials_count_evaluations_alone() -> None:
    worth = monotone("decisions", 1, 4)
    found = nasdsl.search(
        space_of(SPACE),
        lambda one: worth.worth[one],
        maximise="value",
        minimise="macs",
        trials=40,
        distinct="architecture",
        method="random",
        prune={},
    )
    assert len(found.trials) == 40 and found.skipped
    assert nasdsl.search(space_of(SPACE), lambda one: 1.0, trials=5).skipped is None


# --- Settings, and what is told ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"maximise": "value"},
        {"maximise": ["value", "other"], "minimise": "macs"},
        {"maximise": "value", "minimise": ["macs", "other"]},
        {"maximise": "params", "minimise": "macs"},
        {"minimise": "macs"},
    ],
)
def test_pruning_needs_a_metric_and_known_costs(settings: dict[str, Any]) -> None:
    message = "has `prune`, which needs one metric to maximise and `macs`, .* to minimise"
    with pytest.raises(CompileError, match=message):
        nasdsl.search(space_of(SPACE), lambda one: 1.0, prune="widths", **settings)


def test_costs_that_an_evaluation_gives_are_not_known() -> None:
    with pytest.raises(RunError, match="each evaluation gives `macs`"):
        nasdsl.search(space_of(SPACE), lambda one: {"v": 1.0, "macs": 5.0}, maximise="v", minimise="macs", prune={})


def test_the_commands_tell_what_was_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    section = "  search evolve { prune: decisions, maximise: value, minimise: macs, method: random, trials: 25 }\n}\n"
    Path("odds.space").write_text(SPACE.rstrip().removesuffix("}") + section)
    module = f"worth_{tmp_path.name}".replace("-", "_")
    Path(f"{module}.py").write_text("def of(architecture, space):\n    return len(architecture)\n")
    command = ["search", "odds.space", "--out", "best.space", "--function", f"{module}:of", "--format", "json"]
    assert main(command) == 0
    told = capsys.readouterr()
    facts = json.loads(told.out)
    assert facts["skipped"] > 0 and "stem.stride` must be equal, since more may cost less" in told.err
    assert main(["trials", "runs/best", "--format", "json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert sum(record["state"] == "skipped" for record in records) == facts["skipped"]
    assert sum(record["state"] == "complete" for record in records) == facts["trials"]
    assert main(["trials", "runs/best"]) == 0
    assert "skipped: it has no more than trial" in capsys.readouterr().out
    assert main(["report", "runs/best", "-o", "best.html"]) == 0
    assert f"{facts['trials']:,}" in Path("best.html").read_text()
    assert f"trials complete; {facts['skipped']:,} skipped" in Path("best.html").read_text()
    for option, message in (
        ("prune.by=depths", "`prune.by` should be 'decisions' or 'widths'"),
        ("prune.order=[kernels]", "`prune` orders `kernels`, and no decision is called so"),
        ("prune.oder=[kernel]", "has no setting `prune.oder`"),
    ):
        assert main([*command, "--set", option, "--fresh"]) == 1
        assert message in capsys.readouterr().out


def test_a_search_that_does_not_prune_goes_on_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was started with does not speak of pruning."""
    from nasdsl.runtime.search import Options, search

    monkeypatch.chdir(tmp_path)
    (tmp_path / "odds.space").write_text(SPACE)
    (tmp_path / "w.py").write_text("def of(architecture, space):\n    return len(architecture)\n")
    overrides = {"function": "w:of", "trials": 3}
    options = Options(run=tmp_path / "run", overrides=overrides)
    from nasdsl.compiler.parse import read

    found = search(read(tmp_path / "odds.space"), tmp_path / "best.space", options, runtime="evolve").result
    assert isinstance(found, Exploration)
    assert "prune" not in json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
