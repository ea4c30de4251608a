"""Searches by evaluations: on spaces small enough to be gone through, against brute force, from the command line."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

import nasdsl
from nasdsl.cli import main
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import CompileError, NasdslError
from nasdsl.compiler.engine.limits import Infeasible
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import Numbering
from nasdsl.runtime.benchmark_table import Pattern, Table, TableSettings, Words
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.candidates import Candidates, Draws
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.objectives import Objectives, crowding, front, hypervolume, order, ranks
from nasdsl.runtime.evolution.trial import Memory, Trial
from nasdsl.runtime.functions import FUNCTIONS
from nasdsl.runtime.problem import Exploration
from nasdsl.runtime.search import Found, Options, search
from nasdsl.runtime.strategies.evolve import Evolve
from tests.enumeration import assignments, frozen, proportional

METHODS = ("random", "regularised", "nsga2", "local", "surrogate", "tpe", "nsga2_optuna")

SPACE = """
space odds {
  input 1 x 8 x 8
  operator body(out) = oneof(
    plain: conv(out, kernel: 3)
    deep: { conv(out, kernel: oneof(1, 3)) -> conv(out) }
  )
  network {
    stem: conv(4)
    a: body(oneof(4, 8))
    repeat oneof(0..2) { body(8) }
    classify(classes: 3)
  }
}
"""

KINDS = """
space kinds {
  input 1 x 8 x 8
  let order = permute([4, 8, 12])
  network {
    mixconv(8, hidden: { 3: units(3), 5: units(2) })
    for out in order { conv(out) }
    a: conv(8), b: conv(8, kernel: 1), c: conv(8, kernel: 5)
    sum(from: manyof(2, [a, b, c]))
    classify(classes: 3)
  }
}
"""


@pytest.fixture(scope="module")
def odds() -> Any:
    return nasdsl.loads(SPACE)


@pytest.fixture(scope="module")
def kinds() -> Any:
    return nasdsl.loads(KINDS)


class Dear:
    """Worth what it costs, up to a pattern of small steps, so that there are many hills."""

    def __init__(self, space: Any):
        self.space = space
        self.asked: list[Architecture] = []

    def evaluate(self, architecture: Architecture, seed: int) -> dict[str, float]:
        self.asked.append(architecture)
        cost = nasdsl.cost(self.space, architecture)
        return {"worth": cost["params"] % 97 + cost["macs"] / 1e6}


def all_of(space: Any) -> list[Architecture]:
    numbering = Numbering(space.graph)
    return [numbering.unrank(i) for i in range(numbering.total)]


def searched(
    space: Any,
    method: str,
    trials: int,
    seed: int = 0,
    directions: dict[str, bool] | None = None,
    pool: Any = None,
    distinct: bool = False,
    **settings: Any,
) -> tuple[list[Trial], Dear]:
    made = Evolve.model_validate({"method": method, "trials": trials, "population": 6, **settings})
    candidates = Candidates(space.graph, made.window, distinct, pool)
    evaluator = Dear(space)
    objectives = Objectives(directions or {"worth": True})
    found = Search(candidates, evaluator, objectives, made.proposer(), Memory(), trials, seed).run()
    return found, evaluator


# --- What is evaluated ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_space_is_exhausted_without_a_repetition(odds: Any, method: str) -> None:
    everything = all_of(odds)
    assert len(everything) < 200
    trials, evaluator = searched(odds, method, 10_000)
    assert len(evaluator.asked) == len(set(evaluator.asked)) == len(trials) == len(everything)
    assert set(evaluator.asked) == set(everything)


@pytest.mark.parametrize("method", METHODS)
def test_budgets_hold_for_all_and_leave_out_none(odds: Any, method: str) -> None:
    costs = {one: nasdsl.cost(odds, one) for one in all_of(odds)}
    macs = sorted(cost["macs"] for cost in costs.values())[len(costs) // 2]
    params = sorted(cost["params"] for cost in costs.values())[2 * len(costs) // 3]
    inside = {one for one, cost in costs.items() if cost["macs"] <= macs and cost["params"] <= params}
    _, evaluator = searched(odds, method, 10_000, budget=[{"macs": macs}, {"params": params}])
    assert set(evaluator.asked) == inside and len(evaluator.asked) == len(inside) > 10


@pytest.mark.parametrize("method", METHODS)
def test_subsets_orders_and_units_are_searched(kinds: Any, method: str) -> None:
    everything = set(all_of(kinds))
    trials, evaluator = searched(kinds, method, 60)
    assert len(trials) == len(set(evaluator.asked)) == 60
    assert set(evaluator.asked) <= everything
    for trial, asked in zip(trials, evaluator.asked, strict=True):
        assert Architecture.of(kinds.graph, trial.proposal.architecture) == asked
        assert dict(trial.proposal.costs) == nasdsl.cost(kinds, asked)


def test_equal_functions_are_evaluated_once() -> None:
    space = nasdsl.load("nasbench201")
    candidates = Candidates(space.graph, None, True)
    rows = candidates.population.draw(300, 1)
    known = candidates.know(rows)
    trials, _ = searched(space, "random", len(set(known)) + 50, pool=rows, distinct=True)
    assert {trial.proposal.function for trial in trials} == set(known)
    assert len(trials) == len(set(known)) < len({row.tobytes() for row in rows})


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_is_exhausted_and_not_left(odds: Any, method: str) -> None:
    everything = all_of(odds)
    few = everything[::3]
    encoding = nasdsl.population(odds).diagram.encoding
    _, evaluator = searched(odds, method, 10_000, pool=encoding.encode(few))
    assert sorted(map(repr, evaluator.asked)) == sorted(map(repr, few))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("directions", [{"worth": True}, {"worth": True, "macs": False}])
def test_the_same_seed_gives_the_same_trials(odds: Any, method: str, directions: dict[str, bool]) -> None:
    first, again, other = (
        [trial.proposal for trial in searched(odds, method, 25, seed, directions)[0]] for seed in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.parametrize("draws", ["hierarchical", "uniform"])
@pytest.mark.parametrize("bounded", [True, False])
def test_random_draws_follow_their_law_inside_a_budget(odds: Any, draws: Draws, bounded: bool) -> None:
    costs = {frozen(one): nasdsl.cost(odds, one)["macs"] for one in all_of(odds)}
    limit = sorted(costs.values())[2 * len(costs) // 3] if bounded else max(costs.values())
    inside = {one for one, macs in costs.items() if macs <= limit}
    candidates = Candidates(odds.graph, {"macs": (None, limit)} if bounded else None, False, None, draws)
    rows = candidates.some(60 * len(inside), np.random.default_rng(1))
    seen = Counter(map(frozen, candidates.encoding.decode(rows)))
    flat = Fraction(1)
    proportional(seen, {one: assignments(odds.graph, one) if draws == "hierarchical" else flat for one in inside})


def test_nothing_inside_a_budget_is_told(odds: Any) -> None:
    with pytest.raises(Infeasible, match="no architecture has macs"):
        Candidates(odds.graph, {"macs": (None, 10)})


# --- Methods ----------------------------------------------------------------------------------------------------------


def test_children_of_aged_evolution_have_young_parents_and_differ_in_one_decision(kinds: Any) -> None:
    trials, _ = searched(kinds, "regularised", 50, population=10)
    assert all(trial.proposal.parents == () for trial in trials[:10])
    born = [trial for trial in trials[10:] if trial.proposal.parents]
    assert len(born) > 30
    near = 0
    for child in born:
        (parent,) = child.proposal.parents
        assert child.index - 10 <= parent < child.index
        other, mine = trials[parent].proposal.architecture, child.proposal.architecture
        near += sum(other.get(path) != mine.get(path) for path in {*other, *mine}) == 1
    assert near > 0.9 * len(born)  # of the others, all neighbours of the parent were known


def test_parents_of_nsga2_are_the_best_of_earlier_generations(kinds: Any) -> None:
    directions = {"worth": True, "macs": False}
    trials, _ = searched(kinds, "nsga2", 60, directions=directions, population=10)
    losses = Objectives(directions).losses([trial.objectives for trial in trials])
    for child in trials[10:]:
        begun = child.index // 10 * 10
        dominated_by = [sum(_dominates(losses[j], losses[i]) for j in range(begun)) for i in range(begun)]
        for parent in child.proposal.parents:
            assert parent < begun
            better = sum(count == 0 for count in dominated_by)
            assert dominated_by[parent] == 0 or better < 10


def test_local_search_goes_uphill(odds: Any) -> None:
    trials, _ = searched(odds, "local", 60)
    centre = 0
    for child in trials[1:]:
        if child.proposal.parents:
            assert child.proposal.parents == (centre,)
            if child.objectives > trials[centre].objectives:
                centre = child.index
        else:
            centre = child.index
    assert any(not trial.proposal.parents for trial in trials[1:])


def test_local_search_of_a_front_looks_at_neighbours_of_all_of_it(kinds: Any) -> None:
    directions = {"worth": True, "macs": False}
    trials, _ = searched(kinds, "local", 60, directions=directions, population=10)
    losses = Objectives(directions).losses([trial.objectives for trial in trials])
    assert not any(trial.proposal.parents for trial in trials[:10])
    born = [trial for trial in trials[10:] if trial.proposal.parents]
    assert len({trial.proposal.parents for trial in born}) > 1
    for child in born:
        (parent,) = child.proposal.parents
        assert not any(_dominates(losses[i], losses[parent]) for i in range(child.index))


def test_aged_evolution_beats_random_search_where_neighbours_are_alike() -> None:
    space = nasdsl.load("nasbench201")
    costs: dict[str, list[float]] = {method: [] for method in ("random", "regularised")}
    for method, found in costs.items():
        for seed in range(2):
            trials, _ = searched(space, method, 60, seed, {"macs": True})
            found.append(max(trial.objectives[0] for trial in trials))
    assert np.mean(costs["regularised"]) > np.mean(costs["random"])


# --- Objectives -------------------------------------------------------------------------------------------------------

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25)


def _dominates(a: Any, b: Any) -> bool:
    return bool(np.all(a <= b) and np.any(a < b))


@given(points, st.integers(1, 3))
def test_ranks_and_fronts_are_those_of_peeling(values: list[Any], columns: int) -> None:
    losses = np.asarray(values, float)[:, :columns]
    left, expected, rank = set(range(len(losses))), np.zeros(len(losses), int), 0
    while left:
        free = {i for i in left if not any(_dominates(losses[j], losses[i]) for j in left)}
        for i in free:
            expected[i] = rank
        left, rank = left - free, rank + 1
    assert ranks(losses).tolist() == expected.tolist()
    found = front(losses)
    assert {tuple(losses[i]) for i in found} == {tuple(losses[i]) for i in np.flatnonzero(expected == 0)}
    assert len({tuple(losses[i]) for i in found}) == len(found)
    assert expected[order(losses)].tolist() == sorted(expected.tolist())


@given(points)
@runs(max_examples=40)
def test_hypervolume_is_the_number_of_cells_that_are_dominated(values: list[Any]) -> None:
    losses = np.asarray(values, float)
    cells = itertools.product(range(7), repeat=3)
    expected = sum(any(np.all(point <= cell) for point in losses) for cell in map(np.asarray, cells))
    assert hypervolume(losses, (7, 7, 7)) == pytest.approx(expected)


def test_crowding_is_the_room_between_neighbours() -> None:
    losses = np.asarray([(0, 10), (1, 6), (4, 5), (10, 0), (20, 20)], float)
    found = crowding(losses, ranks(losses))
    assert found[[0, 3, 4]].tolist() == [np.inf] * 3
    assert found[1] == pytest.approx(4 / 10 + 5 / 10)
    assert found[2] == pytest.approx(9 / 10 + 6 / 10)


def test_a_measure_that_nothing_gives_is_named() -> None:
    with pytest.raises(RunError, match="nothing measures `top1`") as refused:
        Objectives({"top1": True}).of({"top5": 1.0}, {"macs": 2})
    assert refused.value.help == "there are `macs`, `flops`, `top5`"


# --- Tables -----------------------------------------------------------------------------------------------------------


def table_file(folder: Path, space: Any, name: str) -> Path:
    """A table of all architectures in each of the forms."""
    file = folder / name
    rows = [one.to_json() for one in all_of(space)]
    paths = list(space.graph.decisions)
    results = [{"worth": str(i), "other": "x"} for i in range(len(rows))]
    if ".csv" in name:
        opened: Any = gzip.open if name.endswith(".gz") else open
        with opened(file, "wt") as out:
            writer = csv.DictWriter(out, [*paths, "worth", "other"])
            writer.writeheader()
            for row, result in zip(rows, results, strict=True):
                writer.writerow({path: row.get(path, "") for path in paths} | result)
    else:
        records = [{**{path: row.get(path) for path in paths}, "m": {"worth": i}} for i, row in enumerate(rows)]
        text = json.dumps({"name": "t", "rows": records})
        file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.json", "t.json.gz"])
def test_tables_are_read(odds: Any, tmp_path: Path, name: str) -> None:
    table = Table(odds, table_file(tmp_path, odds, name), TableSettings(file=name))
    column = "worth" if "csv" in name else "m.worth"
    for number, architecture in enumerate(all_of(odds)):
        assert table.evaluate(architecture, 0) == {column: number}


def test_a_pattern_says_how_a_table_writes_architectures(tmp_path: Path) -> None:
    space = nasdsl.loads(
        "space s {\n  input 1 x 8 x 8\n  network {\n    a: conv(oneof(4, 8))\n"
        "    b: oneof(c3: conv(4, kernel: 3), c1: conv(4))\n    classify(classes: 2)\n  }\n}\n"
    )
    first, second = space.graph.decisions
    (tmp_path / "t.csv").write_text("arch,worth\n<4|c3>,1\n<8|c1>,2\n")
    given: dict[str, Any] = {"file": "t.csv", "column": "arch"}
    table = Table(space, tmp_path / "t.csv", TableSettings(pattern=f"<{{{first}}}|{{{second}}}>", **given))
    found = [one.to_json() for one in table.architectures]
    assert found == [{first: 4, second: "c3"}, {first: 8, second: "c1"}]
    assert [table.evaluate(one, 0) for one in table.architectures] == [{"worth": 1}, {"worth": 2}]
    with pytest.raises(RunError, match=r"row 1: `<4\|c3>` is not written as the pattern"):
        Table(space, tmp_path / "t.csv", TableSettings(pattern=f"<{{{first}}},{{{second}}}>", **given))


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("a,b\n1,2\n", {}, "the table has no column `"),
        ("a,b\n1,2,3\n", {}, "not as many columns"),
        ("", {}, "has no rows"),
        ("x\n1\n", {"column": "x", "pattern": "{nothing}"}, "is no decision"),
        ("x\n1\n", {"column": "x", "pattern": "y"}, "names no decision"),
        ("x\n1\n", {"column": "x"}, "needs the `pattern`"),
        ("x\n1\n", {"rows": "json:nothing"}, "has no function `nothing`"),
        ("x\n1\n", {"rows": "json:"}, "names no function"),
        ("x\n1\n", {"rows": "json"}, "no function that is installed in `nasdsl.rows`"),
        ("x\n1\n", {"rows": "no_such_module:f"}, "`no_such_module` is not found"),
    ],
)
def test_tables_with_mistakes(odds: Any, tmp_path: Path, text: str, settings: dict[str, Any], message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(RunError, match=message):
        Table(odds, tmp_path / "t.csv", TableSettings(file="t.csv", **settings))


def test_a_table_that_is_not_there(odds: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no table"):
        Table(odds, tmp_path / "t.csv", TableSettings(file="t.csv"))
    (tmp_path / "t.csv.gz").write_bytes(b"nothing packed")
    with pytest.raises(RunError, match="cannot be read"):
        Table(odds, tmp_path / "t.csv.gz", TableSettings(file="t.csv.gz"))


def test_tables_that_never_end_are_not_read(odds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasdsl.runtime.benchmark_table.LARGEST", 1 << 20)
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "device.json").symlink_to("/dev/zero")
    with (tmp_path / "sparse.csv.gz").open("wb") as sparse:
        sparse.truncate(1 << 40)
    with gzip.open(tmp_path / "bomb.csv.gz", "wb") as bomb:
        bomb.write(bytes(1 << 21))
    for name, message in (
        ("pipe.csv", "it is a pipe or a device, and no file"),
        ("device.json", "it is a pipe or a device, and no file"),
        ("sparse.csv.gz", "it has 1,099,511,627,776 bytes, and at most 1,048,576 are read"),
        ("bomb.csv.gz", "it unpacks to more than 1,048,576 bytes, and no more are read"),
    ):
        with pytest.raises(RunError, match=f"cannot be read: {message}"):
            Table(odds, tmp_path / name, TableSettings(file=name))


def test_nas_bench_201_is_read_by_a_pattern(shared_data: Path) -> None:
    from benchmarks.tables import expected_best, table_of

    _, table = table_of("nasbench201", shared_data)
    assert len(table.architectures) == 15_625
    accuracies = [row["cifar10_test"] for row in table.metrics.values()]
    exact = [round(expected_best(accuracies, n), 3) for n in (10, 50, 100, 200, 500)]
    assert exact == [93.095, 93.688, 93.847, 93.975, 94.117]


# --- From a file to files ---------------------------------------------------------------------------------------------

FUNCTION = """
def cost(architecture, space):
    import nasdsl
    found = nasdsl.cost(space, architecture)
    return {"worth": found["params"] % 97, "size": found["params"]}

def broken(architecture, space):
    raise ZeroDivisionError("out of luck")

def words(architecture, space):
    return "good"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    name = f"functions_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(FUNCTION)
    section = "  search evolve { maximise: worth, trials: 12, population: 4 }\n}\n"
    (tmp_path / "odds.space").write_text(SPACE.rstrip().removesuffix("}") + section)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASDSL_TRACEBACK", "1")
    return tmp_path


def function_of(folder: Path, name: str) -> str:
    return f"{next(folder.glob('functions_*.py')).stem}:{name}"


def explored(file: Path, out: Path, options: Options, runtime: str | None = None) -> tuple[Exploration, Found]:
    found = search(read(file), out, options, runtime=runtime)
    assert isinstance(found.result, Exploration)
    return found.result, found


def run(folder: Path, name: str = "found", overrides: Mapping[str, Any] | None = None, **options: Any) -> Exploration:
    return run_to_files(folder, name, overrides, **options)[0]


def run_to_files(
    folder: Path, name: str = "found", overrides: Mapping[str, Any] | None = None, **options: Any
) -> tuple[Exploration, list[Path]]:
    settings = {"function": function_of(folder, "cost"), **(overrides or {})}
    options |= {"run": folder / name, "overrides": settings}
    result, found = explored(folder / "odds.space", folder / f"{name}.space", Options(**options))
    return result, found.files


def test_the_result_file_is_the_best_trial(folder: Path) -> None:
    found, (file,) = run_to_files(folder)
    assert len(found.trials) == 12
    best = max(found.trials, key=lambda trial: trial.objectives)
    space = elaborate(read(file))
    assert not space.graph.decisions
    assert nasdsl.cost(space) == dict(best.proposal.costs)
    assert nasdsl.cost(space)["params"] % 97 == best.objectives[0] == found.front[0].objectives[0]


def test_a_front_is_a_folder_of_files(folder: Path) -> None:
    found, (whole, *files) = run_to_files(folder, overrides={"minimise": ["macs"]})
    values = [trial.objectives for trial in found.trials]
    best = {v for v in values if not any(w != v and w[0] >= v[0] and w[1] <= v[1] for w in values)}
    assert {trial.objectives for trial in found.front} == best and len(best) > 1
    assert sorted((folder / "found_front").glob("[!.]*")) == files
    for file, trial in zip(files, found.front, strict=True):
        cost = nasdsl.cost(elaborate(read(file)))
        assert (cost["params"] % 97, cost["macs"]) == trial.objectives
    assert nasdsl.cost(elaborate(read(whole))) == nasdsl.cost(elaborate(read(files[0])))


def test_more_trials_go_on_and_other_settings_are_refused(folder: Path) -> None:
    first = run(folder)
    more = run(folder, overrides={"trials": 20})
    assert [t.proposal for t in more.trials][:12] == [t.proposal for t in first.trials] and len(more.trials) == 20
    with pytest.raises(RunError, match=r"(?m)started with another population \(4, now 5\)$"):
        run(folder, overrides={"population": 5})
    with pytest.raises(RunError, match=r"(?m)started with another seed \(0, now 1\)$"):
        run(folder, seed=1)
    assert len(run(folder, seed=1, fresh=True).trials) == 12
    text = (folder / "odds.space").read_text()
    (folder / "odds.space").write_text(text.replace("conv(4)", "conv(8)"))
    with pytest.raises(RunError, match=r"(?m)started with another space$"):
        run(folder, seed=1)


def test_a_function_that_raises_stops_the_search(folder: Path) -> None:
    with pytest.raises(RunError, match=r"trial 0 cannot be evaluated: `.*:broken` raised ZeroDivisionError: out of"):
        run(folder, overrides={"function": function_of(folder, "broken")})
    with pytest.raises(RunError, match="gave 'good', and neither a number"):
        run(folder, "other", overrides={"function": function_of(folder, "words")})


@pytest.mark.parametrize(
    ("settings", "word", "help"),
    [
        ('table: { file: "t.csv", rows: "canary:touch" }', '"canary:touch"', "--set 'table.rows=\"canary:touch\"'"),
        ('table: { file: "t.csv", rows: "canary:os.system" }', '"canary:os.system"', "nasdsl.rows"),
        ('function: "canary:touch"', '"canary:touch"', "--function canary:touch"),
        ('function: "canary:touch", storage: "sqlite:///elsewhere.db"', '"canary:touch"', "nasdsl.functions"),
        ('storage: "sqlite:///elsewhere.db"', '"sqlite:///elsewhere.db"', "--storage sqlite:///elsewhere.db"),
    ],
)
def test_a_file_runs_no_code_and_chooses_no_database(folder: Path, settings: str, word: str, help: str) -> None:
    (folder / "canary.py").write_text("import os, pathlib\ntouch = lambda *_: pathlib.Path('ran').touch()\ntouch()\n")
    (folder / "t.csv").write_text("touch ran,acc\n1,2\n")
    section = f"  search evolve {{ maximise: acc, trials: 2, {settings} }}\n}}\n"
    (folder / "evil.space").write_text(SPACE.rstrip().removesuffix("}") + section)
    for run_of in ("found", "again"):  # also where a run has begun
        with pytest.raises(CompileError) as refused:
            explored(folder / "evil.space", folder / "evil_found.space", Options(run=folder / run_of))
        (told,) = refused.value.diagnostics
        assert told.span is not None and told.span.text == word and help in told.help
    assert not (folder / "ran").exists() and not list(folder.glob("*.db"))


def test_what_the_command_line_says_goes_before_what_a_file_may_not(folder: Path) -> None:
    text = (folder / "odds.space").read_text()
    (folder / "odds.space").write_text(text.replace("maximise:", 'function: "canary:touch", maximise:'))
    assert len(run(folder).trials) == 12


def test_a_file_names_functions_that_are_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("worth_of_mine", function_of(folder, "cost"), FUNCTIONS)
    monkeypatch.setattr("nasdsl.runtime.functions.entry_points", lambda group: [point] if group == FUNCTIONS else [])
    monkeypatch.syspath_prepend(folder)
    typed = run(folder).trials
    text = (folder / "odds.space").read_text()
    (folder / "odds.space").write_text(text.replace("maximise:", "function: worth_of_mine, maximise:"))
    named = run(folder, "named", overrides={"function": "worth_of_mine"}).trials
    assert [(trial.proposal, trial.metrics) for trial in named] == [(trial.proposal, trial.metrics) for trial in typed]
    options = Options(run=folder / "unnamed")
    found, _ = explored(folder / "odds.space", folder / "unnamed.space", options)
    assert [trial.proposal for trial in found.trials] == [trial.proposal for trial in typed]
    with pytest.raises(RunError, match=r"`worth_of_mind` is no function that is installed in `nasdsl\.functions`"):
        run(folder, "other", overrides={"function": "worth_of_mind"})


def test_rows_are_read_by_a_function_that_is_typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = elaborate(read(folder / "odds.space"))
    numbering = Numbering(space.graph)
    found = [numbering.unrank(i).to_json() for i in range(6)]
    lines = ["number,acc", *(f"{i},{i * i}" for i in range(len(found)))]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    (folder / "reading.py").write_text(f"FOUND = {found!r}\ndef row(row):\n    return FOUND[int(row['number'])]\n")
    command = ["search", "odds.space", "--out", "best.space", "--set", "maximise=acc", "--table", "t.csv"]
    assert main([*command, "--set", 'table.rows="reading:row"', "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["acc"] == 25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "simulated"}, "`method` should be"),
        ({"tournament": 9}, "tournaments larger than its population"),
        ({"budget": {"macs": 0.5}}, "limits whole costs"),
        ({"budget": {"macs": 5}}, "no architecture has macs"),
        ({"table": "t.csv"}, "one of `table`, `function`, `supernet` and `train`"),
        ({"minimise": ["worth"]}, "maximises and minimises `worth`"),
        ({"trails": 5}, "has no setting `trails`"),
        ({"function": None}, "nothing says how architectures are evaluated"),
    ],
)
def test_settings_with_mistakes(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(NasdslError, match=message):
        run(folder, overrides=settings)
    assert not (folder / "found").exists()


def test_the_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", "odds.space", "--out", "best.space", "--trials", "8", "--budget", "params <= 900"]
    command += ["--function", function_of(folder, "cost")]
    assert main([*command, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trials"] == 8 and told["params"] <= 900
    assert main(["trials", "runs/best", "--format", "json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["trial"] for record in records] == list(range(8))
    assert max(record["objectives"]["worth"] for record in records) == told["worth"]
    assert main(["trials", "runs/best", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["key"] for row in rows] == [record["key"] for record in records]
    assert main(["trials", "runs/best"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9
    assert main(["trials", "runs"]) == 1
    assert "runs has no trials.db" in capsys.readouterr().err


def test_training_from_scratch_evaluates(folder: Path) -> None:
    train = {"epochs": 0.2, "batch": 64}
    (folder / "digits.space").write_text(SPACE.replace("classes: 3", "classes: 10"))
    overrides = {"train": train, "trials": 2, "population": 2}
    results = []
    for name in ("one", "two"):
        options = Options(run=folder / name, overrides=overrides, accelerator="cpu")
        found, _ = explored(folder / "digits.space", folder / f"{name}.space", options, runtime="evolve")
        results.append([(trial.proposal, dict(trial.metrics)) for trial in found.trials])
    assert results[0] == results[1]
    assert all(0 <= metrics["top1"] <= 1 for _, metrics in results[0])


@given(st.lists(st.sampled_from(["", "|", "-", "ab", "|-"]), min_size=2, max_size=6), st.text("ab|-", max_size=12))
def test_a_pattern_reads_as_the_regular_expression_that_it_stands_for(between: list[str], text: str) -> None:
    paths = [f"d{i}" for i in range(len(between) - 1)]
    decisions = {path: Decision(path, "choice", tuple("abc")) for path in paths}
    written = between[0] + "".join(f"{{{path}}}{part}" for path, part in zip(paths, between[1:], strict=True))
    pattern = Pattern(Words(Graph({}, decisions, (), ()), {}), "arch", written)
    expected = re.fullmatch("(.*?)".join(map(re.escape, between)), text, re.DOTALL)
    assert pattern._read(text) == (None if expected is None else list(expected.groups()))


def test_a_pattern_of_many_paths_takes_no_time_where_it_does_not_fit() -> None:
    paths = [f"d{i}" for i in range(40)]
    decisions = {path: Decision(path, "choice", tuple("abc")) for path in paths}
    pattern = Pattern(Words(Graph({}, decisions, (), ()), {}), "arch", "|".join(f"{{{path}}}" for path in paths) + "!")
    assert pattern._read("|" * 100_000) is None
