"""The commands `count`, `cost` and `sample`, against every architecture of a small space taken one by one."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import nasdsl
from nasdsl.cli import main
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of, total_cost
from nasdsl.compiler.population import Population
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.values.tree import evaluate

TEXT = """\
space small {
  input 3 x 16 x 16

  operator block(out, stride = 1) {
    let op = oneof(wide, deep)
    match op {
      wide: conv(out, stride, kernel: oneof(3, 5))
      deep: { conv(out, kernel: oneof(1, 3)) -> conv(out, stride, kernel: oneof(1, 3, 5)) }
    }
  }

  network {
    conv(oneof(4, 8))
    stage1: repeat oneof(1..2) { block(8) }
    stage2: repeat oneof(0..1) { block(oneof(8, 12), stride: 2) }
    classify(classes: 10)
  }

  published { printed: { macs: 200K, params: 5K }, other: { params: 3K } }
}

space limited = small with { require macs <= 150K, require params in 1K..4K }

space one = small with { stage1: { depth: 1, block.op: wide, block.wide.kernel: 3 }, stage2.depth: 0, conv.out: 4 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.space"
    path.write_text(TEXT)
    return path


@cache
def every() -> dict[Architecture, dict[str, int]]:
    """All architectures with their costs, one by one."""
    graph = nasdsl.loads(TEXT).graph
    numbering, total = Numbering(graph), total_cost(graph)
    found = [numbering.unrank(number) for number in range(numbering.total)]
    return {one: {name: evaluate(getattr(total, name), one.indices) for name in ("macs", "params")} for one in found}


def run(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    assert main([str(arg) for arg in args]) == 0
    return capsys.readouterr().out


def test_the_distribution_is_that_of_all(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = nasdsl.load(file).graph
    told = json.loads(run(capsys, "cost", file, "--format", "json", "--bins", 7))
    assert told["exact"]
    for name in ("macs", "params"):
        costs = np.array([cost[name] for cost in every().values()])
        figures = told[name]
        assert figures["exact"]
        assert figures["least"]["value"] == costs.min()
        assert figures["greatest"]["value"] == costs.max()
        for end in ("least", "greatest"):
            assert figures[end]["proven"]
            found = Architecture.of(graph, figures[end]["architecture"])
            assert cost_of(graph, found.indices)[name] == figures[end]["value"]
        assert figures["mean"] == pytest.approx(costs.mean())
        assert figures["deviation"] == pytest.approx(costs.std())
        assert figures["quantiles"]["0.5"] == np.quantile(costs, 0.5, method="inverted_cdf")
        assert figures["quantiles"]["0.01"] == np.quantile(costs, 0.01, method="inverted_cdf")
        counts, edges = np.histogram(costs, 7)
        assert figures["histogram"]["edges"] == pytest.approx(edges)
        assert np.abs(np.array(figures["histogram"]["shares"]) * len(costs) - counts).max() < 1e-6
    assert told["marks"] == {"printed": 200_000, "one": nasdsl.cost(nasdsl.load(file, "one"))["macs"]}


def test_pictures_and_files(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = file.parent
    out = run(capsys, "cost", file, "--svg", folder / "a.svg", "--least", folder / "least.space", "--mark", "mine=90K")
    assert "mine" in out
    assert "printed" in out
    picture = ElementTree.fromstring((folder / "a.svg").read_text())
    words = {element.text for element in picture.iter() if element.text}
    assert {"mine", "printed", "one", "50%", "MACs"} <= words
    assert nasdsl.cost(nasdsl.load(folder / "least.space"))["macs"] == nasdsl.cost_range(nasdsl.load(file))["macs"][0]


def test_an_architecture_has_one_cost(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run(capsys, "cost", file, "--space", "one", "--format", "json")) == {
        "space": "one",
        **nasdsl.cost(nasdsl.load(file, "one")),
    }
    assert main(["cost", str(file), "--space", "one", "--svg", "x.svg"]) == 2
    assert "--svg" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["in the file", "on the command line"])
def test_budgets_count_and_draw(file: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    inside = set()
    graph = nasdsl.load(file).graph
    for found, cost in every().items():
        if cost["macs"] <= 150_000 and 1000 <= cost["params"] <= 4000:
            inside.add(found)
    assert 10 < len(inside) < len(every())
    if how == "in the file":
        told = json.loads(run(capsys, "count", file, "--space", "limited", "--format", "json"))
        drawn = run(capsys, "sample", file, "--space", "limited", "-n", 3000, "--format", "json")
    else:
        budgets = ("macs <= 150K", "params in 1K..4K")
        more = [word for budget in budgets for word in ("--budget", budget)]
        told = json.loads(run(capsys, "count", file, *more, "--format", "json"))
        drawn = run(capsys, "sample", file, *more, "-n", 3000, "--format", "json")
    assert told["total"] == str(len(every()))
    assert told["inside"]["count"] == str(len(inside))
    rows = json.loads(drawn)["architectures"]
    drawings = [Architecture.of(graph, row["architecture"]) for row in rows]
    assert set(drawings) == inside
    assert all(every()[one] == row["costs"] for one, row in zip(drawings, rows, strict=True))
    expected = len(drawings) / len(inside)
    times = Counter(drawings)
    deviation = sum((times[one] - expected) ** 2 / expected for one in inside)
    assert deviation < len(inside) + 5 * (2 * len(inside)) ** 0.5  # chi-square, five deviations
    assert nasdsl.sample(nasdsl.load(file, "limited"), 5, seed=1)[0] in inside


def test_one_draw_is_written_as_an_architecture(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file to write ends in `.space`; the same draw as in a folder of them."""
    monkeypatch.chdir(file.parent)
    run(capsys, "sample", file, "-n", 1, "--seed", 3, "--out", "one.space")
    run(capsys, "sample", file, "-n", 1, "--seed", 3, "--files", "drawn")
    (other,) = (file.parent / "drawn").iterdir()
    one, same = (nasdsl.load(path) for path in (file.parent / "one.space", other))
    assert nasdsl.sample(one, 1) == nasdsl.sample(same, 1)
    run(capsys, "sample", file, "-n", 2, "--out", "two.csv")
    assert (file.parent / "two.csv").read_text().startswith("macs,params,")
    run(capsys, "sample", file, "-n", 2, "--out", "two.json")
    assert len(json.loads((file.parent / "two.json").read_text())["architectures"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n", "2", "--out", "one.space"], "one.space holds one architecture"),
        (["-n", "1", "--out", "one.space", "--format", "csv"], "`--format csv` is of a table"),
        (["--files", "drawn", "--format", "json"], "`--format json` is of a table"),
        (["--files", "drawn", "--out", "a.csv"], "`--files` writes a file for each architecture"),
    ],
)
def test_what_draws_cannot_be_written_as(
    file: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert main(["sample", str(file), *words]) == 2
    told = capsys.readouterr()
    assert message in told.err + told.out
    assert not {"one.space", "drawn", "a.csv"} & {path.name for path in file.parent.iterdir()}


def test_tables_and_files_of_draws(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "sample", file, "-n", 20, "--seed", 3, "--format", "csv")
    assert text == run(capsys, "sample", file, "-n", 20, "--seed", 3, "--format", "csv")
    assert text != run(capsys, "sample", file, "-n", 20, "--seed", 4, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 20
    assert {row["conv.out"] for row in rows} == {"4", "8"}
    run(capsys, "sample", file, "-n", 3, "--seed", 3, "--files", file.parent / "drawn")
    for number, path in enumerate(sorted((file.parent / "drawn").glob("*.space"))):
        assert nasdsl.cost(nasdsl.load(path))["macs"] == int(rows[number]["macs"])
    different = run(capsys, "sample", file, "-n", 2000, "--different", "--format", "csv").splitlines()
    assert len(different) == len(set(different))
    assert main(["sample", str(file), "--budget", "macs <= 1"]) == 1
    assert main(["sample", str(file), "-n", "0"]) == 2
    assert main(["cost", str(file), "--mark", "x"]) == 2


def test_an_estimate_says_so(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where exact costs take too long, a sample stands in: near the truth by its own error, and never unmarked."""
    graph = nasdsl.load(file).graph
    whole, tangled = Population(graph), Population(graph, patience=10)
    assert whole.exact
    assert not tangled.exact
    assert tangled.total == whole.total
    for name in ("macs", "params"):
        exact, estimate = whole.spread(name), tangled.spread(name)
        assert not estimate.exact
        assert abs(estimate.mean - exact.mean) < 5 * estimate.error
        assert abs(estimate.share_at_most(exact.quantile(0.3)) - exact.share_at_most(exact.quantile(0.3))) < 0.01
        for greatest in (False, True):
            found = tangled.extreme(name, greatest)
            assert not found.proven
            assert found.cost == whole.extreme(name, greatest).cost  # a space so small is climbed to its top
            assert cost_of(graph, found.architecture.indices)[name] == found.cost
    window = {"macs": (None, whole.spread("macs").quantile(0.2))}
    exact_part, part = whole.part(window), tangled.part(window)
    assert not part.exact
    assert abs(part.share - exact_part.share) < 5 * part.error
    drawn = tangled.costs(tangled.draw(500, 0, window), ["macs"])
    assert (drawn <= window["macs"][1]).all()
    monkeypatch.setattr("nasdsl.compiler.population.PATIENCE", 10)
    out = run(capsys, "cost", file)
    assert "estimated from" in out
    assert "?" in out
    assert "without proof" in out


@pytest.mark.parametrize("width", [1_000_000, 10_000_000])  # costs beyond 2^53, and beyond 2^63
def test_costs_too_large_for_floating_point_are_exact_or_said_to_be_estimates(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nasdsl.compiler.population.SAMPLED", 2_000)
    body = f"repeat oneof(1, 2, 3) {{ conv(oneof(8, {width}), kernel: oneof(1, 3)) }}\n classify(classes: 2)"
    Path("b.space").write_text(f"space b {{\n input 3 x 256 x 256\n network {{\n {body}\n }}\n}}\n")
    space = nasdsl.load("b.space")
    costs = [cost_of(space.graph, one.indices)["macs"] for one in sample_all(space)]
    assert main(["cost", "b.space", "--format", "json", "--svg", "b.svg"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert max(costs) > 1 << 53 and not told["exact"]
    for word, end in (("least", min), ("greatest", max)):
        found = told["macs"][word]
        assert found["proven"] and found["value"] == end(costs)
        assert nasdsl.cost(space, found["architecture"])["macs"] == end(costs)
    mean = sum(costs) / len(costs)
    assert abs(told["macs"]["mean"] - mean) < 5 * told["macs"]["error"]
    assert set(told["macs"]["quantiles"].values()) <= set(costs)
    assert ElementTree.parse("b.svg").getroot() is not None
    middle = sorted(costs)[len(costs) // 2]
    assert main(["sample", "b.space", "-n", "50", "--budget", f"macs <= {middle}", "--format", "json"]) == 0
    for drawn in json.loads(capsys.readouterr().out)["architectures"]:
        assert drawn["costs"] == nasdsl.cost(space, drawn["architecture"]) and drawn["costs"]["macs"] <= middle
    assert main(["cost", "b.space"]) == 0
    assert "costs of all architectures are exact up to 9,007,199,254,740,992" in capsys.readouterr().out
    for rest in (["count", "b.space"], ["check", "b.space"], ["draw", "b.space", "-o", "drawn.svg"]):
        assert main(rest) == 0


def sample_all(space: nasdsl.Space) -> list[Architecture]:
    numbering = Numbering(space.graph)
    return [numbering.unrank(number) for number in range(nasdsl.count(space).total)]
