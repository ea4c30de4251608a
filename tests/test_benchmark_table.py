"""Tables of known results: how rows are found and read, and what docs/howto/tables.md says of them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nasdsl
from nasdsl import cli
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.space import Space
from nasdsl.runtime.benchmark_table import Pattern, Table, TableSettings, Words
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.objectives import Untrainable

DOCS = Path(__file__).resolve().parents[1] / "docs" / "howto" / "tables.md"

SPACE = """space chain {
  input 1 x 8 x 8
  operator layer() = oneof(skip: identity(), mb3: conv(4, kernel: 3), mb6: conv(4, kernel: 5))
  network {
    stem: conv(4)
    a: layer()
    b: layer()
    c: layer()
    classify(classes: 2)
  }
}
"""
NAMES = {"0": "skip", "1": "mb3", "2": "mb6"}


@pytest.fixture(scope="module")
def space() -> Space:
    return nasdsl.loads(SPACE)


def keys() -> list[str]:
    return ["".join(word) for word in itertools.product("012", repeat=3)]


def pattern_of(space: Space) -> str:
    return "".join(f"{{{path}}}" for path in space.graph.decisions)


def read(space: Space, file: Path, **settings: Any) -> Table:
    wanted = settings.pop("wanted", ())
    return Table(space, file, TableSettings(file=file.name, **settings), wanted)


def accuracies(table: Table) -> dict[tuple[str, ...], float]:
    """By the options' words."""
    return {tuple(map(str, one.to_json().values())): row["acc"] for one, row in table.metrics.items()}


def expected() -> dict[tuple[str, ...], float]:
    return {tuple(NAMES[digit] for digit in key): float(int(key, 3)) for key in keys()}


@pytest.mark.parametrize("form", ["by name", "list", "nested", "csv"])
def test_architectures_without_separators(space: Space, tmp_path: Path, form: str) -> None:
    rows: dict[str, dict[str, Any]] = {key: {"acc": int(key, 3), "seeds": [1, 2]} for key in keys()}
    records = [{"arch": key, **row} for key, row in rows.items()]
    texts = {
        "by name": json.dumps(rows),
        "list": json.dumps(records),
        "nested": json.dumps({"version": 1, "rows": rows}),
        "csv": "arch,acc\n" + "".join(f"{row['arch']},{row['acc']}\n" for row in records),
    }
    file = tmp_path / ("t.csv" if form == "csv" else "t.json")
    file.write_text(texts[form])
    column = {} if form in ("by name", "nested") else {"column": "arch"}
    table = read(space, file, pattern=pattern_of(space), names=NAMES, **column)
    assert accuracies(table) == expected()
    assert len(table.pool(nasdsl.population(space).diagram.encoding)) == 27


def test_names_hold_for_columns_of_decisions_too(space: Space, tmp_path: Path) -> None:
    """A table's word goes before an option of the same name."""
    paths = list(space.graph.decisions)
    file = tmp_path / "t.csv"
    lines = [",".join([*paths, "acc"]), "0,1,mb6,7", "mb3,mb3,mb3,8"]
    file.write_text("\n".join(lines) + "\n")
    assert accuracies(read(space, file, names=NAMES)) == {("skip", "mb3", "mb6"): 7, ("mb3", "mb3", "mb3"): 8}
    swapped = {"mb3": "mb6", "mb6": "mb3", "0": "skip", "1": "mb3"}
    assert accuracies(read(space, file, names=swapped)) == {("skip", "mb3", "mb3"): 7, ("mb6", "mb6", "mb6"): 8}


@pytest.mark.parametrize(
    ("key", "settings", "message"),
    [
        ("013", {"names": NAMES}, r"row 1: `013` is not written as the pattern `.*`"),
        ("01", {"names": NAMES}, "is not written as the pattern"),
        ("0123", {"names": NAMES}, "is not written as the pattern"),
        ("012", {}, "is not written as the pattern"),
        ("012", {"names": {"0": "skipp"}}, "`skipp`, which `names` says for `0`, is no option"),
        ("111", {"names": {"1": "mb3", "11": "mb6", "": "skip"}}, "can be read in several ways"),
        ("012", {"names": NAMES, "column": "arch"}, "the table has no column `arch`"),
        ("012", {"names": NAMES, "at_most": {"accuracy": 1}}, "has no column of numbers `accuracy`"),
        ("012", {"names": NAMES, "at_most": {"acc": 1}}, "no row of t.json lies inside"),
    ],
)
def test_what_is_told(space: Space, tmp_path: Path, key: str, settings: dict[str, Any], message: str) -> None:
    file = tmp_path / "t.json"
    file.write_text(json.dumps({key: {"acc": 5}}))
    with pytest.raises(RunError, match=message):
        read(space, file, pattern=pattern_of(space), **settings)


def test_a_table_that_lists_its_rows_twice_is_asked_about(space: Space, tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text(json.dumps({"a": {"012": {"acc": 1}}, "b": {"012": {"acc": 2}}, "c": 3}))
    settings: dict[str, Any] = {"pattern": pattern_of(space), "names": NAMES}
    with pytest.raises(RunError, match="holds 2 lists of rows: `a`, `b`") as problem:
        read(space, file, **settings)
    assert problem.value.help == "say which with `list: NAME`"
    assert accuracies(read(space, file, list="b", **settings)) == {("skip", "mb3", "mb6"): 2}


def test_rows_of_one_architecture(space: Space, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("arch,acc,loss\n012,1,4\n000,9,9\n012,3,\n012,5,2\n")
    settings: dict[str, Any] = {"column": "arch", "pattern": pattern_of(space), "names": NAMES}
    with pytest.raises(RunError, match=r"row 3: row 1 has the same architecture") as problem:
        read(space, file, **settings)
    assert problem.value.help is not None and "duplicates: mean" in problem.value.help
    first, mean = (read(space, file, duplicates=word, **settings) for word in ("first", "mean"))
    assert list(first.metrics.values()) == [{"acc": 1, "loss": 4}, {"acc": 9, "loss": 9}]
    assert list(mean.metrics.values()) == [{"acc": 3, "loss": 3}, {"acc": 9, "loss": 9}]


@pytest.mark.parametrize("cell", ["", "nan", "inf", "failed"])
def test_a_row_without_a_number_is_a_failed_evaluation(space: Space, tmp_path: Path, cell: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(f"arch,acc,time\n012,{cell},1\n000,9,{cell}\n")
    settings: dict[str, Any] = {"column": "arch", "pattern": pattern_of(space), "names": NAMES}
    table = read(space, file, wanted=("acc",), **settings)
    bad, good = table.architectures
    with pytest.raises(Untrainable, match=r"row 1 of t.csv has no number for `acc`"):
        table.evaluate(bad, 0)
    assert table.evaluate(good, 0) == {"acc": 9}
    inside = read(space, file, at_least={"acc": 0}, **settings)
    assert inside.architectures == [good]


@given(
    st.lists(st.sampled_from(["", "", "-", "ab"]), min_size=2, max_size=5),
    st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=3, unique=True),
    st.text("ab-", max_size=8),
)
def test_close_words_are_read_in_the_one_way_that_there_is(between: list[str], words: list[str], text: str) -> None:
    """Against all that the pattern can write."""
    paths = [f"d{i}" for i in range(len(between) - 1)]
    decisions = {path: Decision(path, "choice", tuple(words)) for path in paths}
    pattern = between[0] + "".join(f"{{{path}}}{part}" for path, part in zip(paths, between[1:], strict=True))
    ways = [
        values
        for values in itertools.product(words, repeat=len(paths))
        if between[0] + "".join(v + part for v, part in zip(values, between[1:], strict=True)) == text
    ]
    reader = Pattern(Words(Graph({}, decisions, (), ()), {}), "arch", pattern)
    if all(between[1:-1]):
        return  # separators are read as they are, whatever stands between
    if len(ways) > 1:
        with pytest.raises(RunError, match="in several ways"):
            reader({"arch": text})
    elif not ways:
        with pytest.raises(RunError, match="is not written as"):
            reader({"arch": text})
    else:
        assert tuple(reader({"arch": text}).values()) == ways[0]


# --- As a user does it ------------------------------------------------------------------------------------------------


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = cli.main(list(words))
    told = capsys.readouterr()
    return status, told.out + told.err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "chain.space").write_text(SPACE)
    rows = {
        key: {"acc": None if key in ("000", "111") else int(key, 3), "ms": float(26 - int(key, 3))} for key in keys()
    }
    (tmp_path / "t.json").write_text(json.dumps(rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


TYPED = ("search", "chain.space", "--table", "t.json", "--out", "best.space")  # a table is for `evolve`


def settings_of(folder: Path, **more: str) -> list[str]:
    named: Mapping[str, str] = {
        "table.pattern": f'"{pattern_of(nasdsl.load(folder / "chain.space"))}"',
        "table.names": "{ 0: skip, 1: mb3, 2: mb6 }",
        "maximise": "acc",
        "method": "random",
        "distinct": "architecture",
        **more,
    }
    return [word for name, value in named.items() for word in ("--set", f"{name}={value}")]


def test_a_search_goes_on_after_empty_cells(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(*TYPED, *settings_of(folder), "--trials", "40", capsys=capsys)
    assert status == 0, text
    assert re.search(r"acc +26", text), text
    status, text = run("trials", "runs/best", "--format", "json", capsys=capsys)
    states = [one["state"] for one in json.loads(text)]
    assert (states.count("complete"), states.count("failed")) == (25, 2)


def test_failures_say_how_many_empty_cells_may_be_met(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(*TYPED, *settings_of(folder, failures="1"), "--trials", "40", capsys=capsys)
    assert status == 1 and "has no number for `acc`" in text and "failures: 1" in text


def test_a_column_can_be_bounded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = settings_of(folder, **{"table.at_least": "{ ms: 10 }", "table.at_most": "{ ms: 20 }"})
    status, text = run(*TYPED, *typed, "--trials", "40", capsys=capsys)
    assert status == 0 and re.search(r"acc +16", text), text
    status, text = run("trials", "runs/best", "--format", "json", capsys=capsys)
    times = sorted(one["metrics"]["ms"] for one in json.loads(text) if one["state"] == "complete")
    assert times == [float(ms) for ms in range(10, 21) if 26 - ms != int("111", 3)]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--set", 'table="other.json"'], "both `--table` and `--set` say what `table` is"),
        (["--set", "table.file=other.json"], "both `--table` and `--set` say what `table` is"),
        (["--trials", "3", "--set", "trials=4"], "both `--trials` and `--set` say what `trials` is"),
    ],
)
def test_what_is_said_twice_is_refused(
    folder: Path, typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = run(*TYPED, *typed, capsys=capsys)
    assert status == 2 and message in text, text
    assert not (folder / "runs").exists()


def test_the_documentation_names_every_setting() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name in TableSettings.model_fields:
        assert re.search(rf"`[^`]*\b{name}\b", text), name
