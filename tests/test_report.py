"""The report of a search: what it says is so, nothing in it comes alive or leaves the page, and a browser opens it."""

from __future__ import annotations

import html
import itertools
import json
import math
import random
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import nasdsl
from benchmarks.report import FLAGS
from nasdsl import cli
from nasdsl.commands import search as search_command
from nasdsl.compiler.declarations import declarations_of
from nasdsl.compiler.space import Space
from nasdsl.page.candidates import kendall
from nasdsl.page.charts import HIGH, WIDE, Curve, Place, curves, heat
from nasdsl.page.examples import examples_section
from nasdsl.page.read import read_study
from nasdsl.page.study import Objective, Record, Study
from nasdsl.page.write import page
from nasdsl.runtime.attempts import read_attempts
from nasdsl.runtime.chosen import CHOICES, DECODED, probabilities_told, scores_told
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.examples import Example, Examples
from nasdsl.runtime.found import FoundClasses, Names
from nasdsl.runtime.problem import Narrowing
from nasdsl.runtime.provenance import ORIGIN, read_origin, write_origin
from nasdsl.runtime.runs import ABOUT, HISTORY, About
from nasdsl.runtime.search import Found

CHROMIUM = shutil.which("chromium")
EVIL = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">&amp;"

PROPOSAL = {"architecture": {}, "key": "k", "function": "k", "seed": 0, "parents": [], "notes": {}}

TEXT = """
space small {
  input 3 x 16 x 16
  network {
    conv(8, kernel: oneof(3, 5, 7))
    body: repeat oneof(1..3) { look: oneof(a: conv(8), b: mixconv(8, hidden: { 3: units(16) })) }
    classify(classes: 4)
  }
}
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    file = tmp_path_factory.mktemp("space") / "small.space"
    file.write_text(TEXT, encoding="utf-8")
    return nasdsl.load(file)


def study_of(space: Space, n: int, aims: int = 2, evil: bool = False) -> Study:
    """Trials of random architectures, better with more MACs; some failed, the last one runs."""
    generator = random.Random(0)
    population = nasdsl.population(space)
    matrix = population.draw(n, seed=0)
    records = []
    for i, (values, (macs, params)) in enumerate(
        zip(population.diagram.encoding.decode(matrix), population.costs(matrix).tolist(), strict=True)
    ):
        state: Any = "running" if i == n - 1 else "failed" if i % 50 == 7 else "complete"
        quality = math.log(macs) + generator.gauss(0, 0.3)
        records.append(
            Record(
                number=i,
                state=state,
                objectives=(quality, float(macs))[:aims] if state == "complete" else (),
                costs={"macs": macs, "params": params},
                decisions=values.to_json(),
                seconds=generator.random() * 100 if state == "complete" else None,
                parents=tuple(generator.sample(range(i), min(2, i))),
                seed=i,
                metrics={"loss": -quality} if state == "complete" else {},
                error=EVIL if state == "failed" else "",
            )
        )
    objectives = (Objective(EVIL if evil else "accuracy", True), Objective("macs", False))[:aims]
    return Study(EVIL if evil else "found", objectives, records, {"seed": EVIL if evil else "0"})


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


# --- Figures ----------------------------------------------------------------------------------------------------------


COSTS = {"macs": 1000, "params": 10}


def plain_study(values: list[tuple[float, ...]], ups: tuple[bool, ...]) -> Study:
    objectives = tuple(Objective(f"o{i}", up) for i, up in enumerate(ups))
    return Study(
        "x", objectives, [Record(i, "complete", v, {"macs": 1, "params": 1}, {}) for i, v in enumerate(values)]
    )


numbers = st.integers(0, 6).map(float)


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=12), st.tuples(*[st.booleans()] * 3))
def test_the_front_is_what_nothing_dominates(values: list[tuple[float, ...]], ups: tuple[bool, ...]) -> None:
    study = plain_study(values, ups)

    def losses(i: int) -> tuple[float, ...]:
        return tuple(-v if up else v for v, up in zip(values[i], ups, strict=True))

    def dominated(i: int) -> bool:
        better = (all(a <= b for a, b in zip(losses(j), losses(i), strict=True)) for j in range(len(values)))
        return any(b and losses(j) != losses(i) for j, b in enumerate(better)) or losses(i) in map(losses, range(i))

    assert sorted(study.front) == [i for i in range(len(values)) if not dominated(i)]
    assert study.front == sorted(study.front, key=losses)
    assert study.reference == tuple(
        (min if up else max)(column) for up, column in zip(ups, zip(*values, strict=True), strict=True)
    )


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12))
def test_the_hypervolume_is_the_cells_that_are_dominated(values: list[tuple[float, ...]]) -> None:
    """Counted in the unit cells between the values; an axis without any extent has one cell, which all reach."""
    study = plain_study(values, (True, False))
    lows, highs = ([int(edge(column)) for column in zip(*values, strict=True)] for edge in (min, max))
    cells = list(itertools.product(*(range(low, max(high, low + 1)) for low, high in zip(lows, highs, strict=True))))
    found = study.hypervolume()
    assert [n for n, _ in found] == list(range(1, len(values) + 1))

    def beats(v: tuple[float, ...], a: int, b: int) -> bool:
        return (v[0] > a or lows[0] == highs[0]) and v[1] <= b

    for n, share in found:
        assert share == pytest.approx(sum(any(beats(v, *cell) for v in values[:n]) for cell in cells) / len(cells))


def test_one_objective_has_its_front_with_macs() -> None:
    records = [
        Record(i, "complete", (q,), {"macs": m, "params": 1}, {})
        for i, (q, m) in enumerate([(1.0, 5), (2.0, 9), (0.5, 6)])
    ]
    study = Study("x", (Objective("accuracy", True),), records)
    assert study.front == [1, 0]
    assert Study("x", (Objective("flops", False),), []).aims == (Objective("flops", False),)


def test_pictures_go_from_one_end_of_the_front_to_the_other() -> None:
    study = plain_study([(float(i), float(i)) for i in range(40)], (True, False))
    assert study.pictured(3) == [39, 19, 0] or study.pictured(3) == [39, 20, 0]
    assert len(study.pictured(100)) == 40


# --- The page ---------------------------------------------------------------------------------------------------------


def test_the_page_holds_every_trial(space: Space) -> None:
    study = study_of(space, 60)
    text = page(space, study)
    data = data_of(text)
    assert data["front"] == study.front
    assert data["state"] == "".join(record.state[0] for record in study.records)
    for i, record in enumerate(study.records):
        told = {
            path: data["words"][k][choice]
            for k, path in enumerate(data["paths"])
            if (choice := data["choices"][k][i]) >= 0
        }
        assert told.keys() == record.decisions.keys()
        for path, value in record.decisions.items():
            decision = space.graph.decisions[path]
            assert told[path] == str(value) or (decision.kind == "units" and told[path].endswith(f" of {decision.n}"))
        values = {column["name"]: column["values"][i] for column in data["columns"]}
        assert (values["macs"], values["params"], values["seconds"]) == (*record.costs.values(), record.seconds)
        assert values["accuracy"] == (record.objectives[0] if record.objectives else None)
    assert text.count('class="drawing') == (min(6, len(study.front)) if shutil.which("neato") else 0)


@pytest.mark.parametrize("aims", [1, 2])
def test_nothing_leads_out_of_the_page(space: Space, aims: int) -> None:
    text = page(space, study_of(space, 30, aims))
    links = set(re.findall(r"(?:https?:)?//[\w.]+[^\s\"'<)]*", text))
    assert links <= {"http://www.w3.org/2000/svg"}
    markup = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"<(?:link|iframe|object|embed|base)\b|\bsrc=|@import|url\(", markup)
    assert "default-src 'none'" in text
    names = re.findall(r' id="([^"]*)"', text)
    assert len(names) == len(set(names))


def test_what_users_wrote_stays_text(space: Space) -> None:
    text = page(space, study_of(space, 30, evil=True))
    assert "<img" not in text and 'onerror="document' not in text
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert html.escape(EVIL) in text
    assert EVIL in data_of(text)["errors"].values()


def test_fields_in_what_users_wrote_are_not_filled_in(space: Space) -> None:
    study = study_of(space, 5)
    about = {"seed": "${nothing}", "space": "of another name"}
    text = page(space, Study("${data}", study.objectives, study.records, about))
    assert "study ${data}" in text and "${nothing}" in text and "of another name" not in text


def test_a_study_of_nothing_but_failures(space: Space) -> None:
    records = [Record(0, "failed", (), COSTS, study_of(space, 1).records[0].decisions, error="no memory")]
    data = data_of(page(space, Study("x", (Objective("accuracy", True),), records)))
    assert data["front"] == data["drawn"] == data["volume"] == []


def test_numbers_that_json_lacks(space: Space) -> None:
    record = study_of(space, 2).records[0]
    odd = Record(0, "complete", (1.0,), COSTS, record.decisions, metrics={"loss": math.nan, "gap": math.inf})
    columns = {
        c["name"]: c["values"] for c in data_of(page(space, Study("x", (Objective("a", True),), [odd])))["columns"]
    }
    assert columns["loss"] == columns["gap"] == [None]


# --- Trials in a database ---------------------------------------------------------------------------------------------


def write_trials(file: Path, study: Study) -> None:
    """As searches write them."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(
        storage=f"sqlite:///{file}",
        study_name=study.name,
        directions=["maximize" if one.maximise else "minimize" for one in study.objectives],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made.set_metric_names([one.name for one in study.objectives])
    made.set_user_attr("about", {"seed": 0, "settings": {"population": 50, "objectives": ["a", "b"], "none": None}})
    for record in study.records:
        attributes: dict[str, Any] = {
            "architecture": record.decisions,
            "key": str(record.number),
            "function": str(record.number),
            "notes": {},
            "costs": dict(record.costs),
            "seed": record.seed,
            "parents": list(record.parents),
            "metrics": dict(record.metrics),
        }
        if record.seconds is not None:
            attributes["seconds"] = record.seconds
        if record.error:
            attributes["error"] = record.error
        state = {"complete": "COMPLETE", "failed": "FAIL", "running": "RUNNING", "waiting": "WAITING"}[record.state]
        made.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[state],
                values=list(record.objectives) or None,
                user_attrs=attributes,
            )
        )
    made._storage.remove_session()


@pytest.fixture
def run(space: Space, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run"
    folder.mkdir()
    write_trials(folder / "trials.db", study_of(space, 20))
    write_origin(folder, space)
    yield folder


def test_trials_come_back_as_they_were_written(space: Space, run: Path) -> None:
    before, after = study_of(space, 20), read_study(f"sqlite:///{run / 'trials.db'}")
    assert after.objectives == before.objectives
    assert list(after.records) == before.records
    assert after.about == {"seed": "0", "settings": "population 50, objectives a, b"}


def test_attempts_of_dead_workers_are_one_trial(tmp_path: Path) -> None:
    """The first that lived counts; what was tried before is not there."""
    url = f"sqlite:///{tmp_path / 't.db'}"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=url, study_name="s")
    plan: list[tuple[str, dict[str, Any]]] = [
        ("FAIL", {}),  # 0: died
        ("FAIL", {"withdrawn": "like trial 0"}),
        ("FAIL", {"error": "too large"}),  # 1: cannot be evaluated
        ("COMPLETE", {"root": 0}),  # 0 again
        ("FAIL", {}),  # 2: died, nobody has taken it up yet
    ]
    for state, attributes in plan:
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[state],
                values=[1.0] if state == "COMPLETE" else None,
                user_attrs={**PROPOSAL, **attributes},
            )
        )
    study._storage.remove_session()
    records = read_study(url).records
    assert [(record.number, record.state) for record in records] == [(0, "complete"), (2, "failed"), (3, "waiting")]


def test_the_command_writes_a_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(run)]) == 0
    text = (run / "report.html").read_text(encoding="utf-8")
    assert len(data_of(text)["number"]) == 20
    assert "the run names no trained network" in text and "<img" not in text
    assert "20 trials" in capsys.readouterr().out


def test_the_space_can_be_named(space: Space, run: Path, tmp_path: Path) -> None:
    (run / ORIGIN).unlink()
    assert cli.main(["report", str(run)]) == 1
    out = tmp_path / "page.html"
    assert cli.main(["report", str(run), "--file", str(space.source.path), "-o", str(out), "--pictures", "1"]) == 0
    assert out.exists()


def test_a_space_that_changed_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.space"
    file.write_text(TEXT, encoding="utf-8")
    write_origin(run, nasdsl.load(file))
    assert read_origin(run).name == "small"
    file.write_text(TEXT.replace("classes: 4", "classes: 5"), encoding="utf-8")
    assert cli.main(["report", str(run)]) == 1
    assert "has changed since the run" in capsys.readouterr().err
    file.write_text(TEXT.replace("look:", "gaze:"), encoding="utf-8")
    assert cli.main(["report", str(run), "--file", str(file)]) == 1
    assert "has no architecture of small: the space has no decision" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nowhere"], "there is no folder nowhere"),
        (["report", "."], "has no trials (trials.db is missing)"),
        (["report", "{run}", "--study", "other"], "there is no study `other`"),
        (["report", "{run}", "--storage", "sqlite:///nowhere/trials.db"], "there is no database"),
        (["report", "{run}", "--storage", "no url"], "cannot be opened"),
        (["report", "{run}", "-D", "classes=3"], "speak of the file that --file names"),
        (["report", "{run}", "--pictures", "0"], "at least 1"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    assert cli.main([word.format(run=run) for word in arguments]) != 0
    assert message in capsys.readouterr().err
    assert not (run / "report.html").exists()


def test_several_studies_and_those_of_others(run: Path) -> None:
    url = f"sqlite:///{run / 'trials.db'}"
    study = optuna.create_study(storage=url, study_name="another")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    study._storage.remove_session()
    with pytest.raises(RunError, match="there are 2 studies") as caught:
        read_study(url)
    assert "`found`, `another`" in caught.value.help
    with pytest.raises(RunError, match="trial 0 of the database is not a trial of nasdsl: it lacks `architecture`"):
        read_study(url, "another")


# --- Choices ----------------------------------------------------------------------------------------------------------


CHOOSING = """
space choosing {
  input 3 x 16 x 16
  operator op() = oneof(none: zero(), conv(in, kernel: 3), conv(in, kernel: 5))
  network {
    conv(8, kernel: 3)
    body: repeat oneof(1..2) { conv(8) + op() }
    conv(oneof(8, 16))
    classify(classes: 4)
  }
}
"""
LAST = {
    "body.depth": [0.4, 0.6],
    "body[0].op": [0.2, 0.5, 0.3],
    "body[1].op": [0.6, 0.3, 0.1],
    "conv[1].out": [0.9, 0.1],
}
FIRST = {path: [1 / len(one)] * len(one) for path, one in LAST.items()}
ALONE = {"body.depth": 2, "body[0].op": "conv(kernel: 3)", "body[1].op": "none", "conv[1].out": 8}
TAKEN = ALONE | {"body[1].op": "conv(kernel: 5)"}
SCORES = [[0.5, 0.4, 0.3], [0.4, 0.0, 0.6], [0.2, 0.0, 0.7]]
DECODED_ = {"alone": ALONE, "likeliest": [{"architecture": TAKEN, "log_probability": -3.2}], "taken": 0}


def lines_of(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def run_of(folder: Path, search: str, choices: list[dict[str, Any]], epochs: int = 3) -> Path:
    """A run's folder as a search leaves it that has measured after each epoch."""
    folder.mkdir()
    file = folder.parent / "choosing.space"
    file.write_text(CHOOSING, encoding="utf-8")
    space = nasdsl.load(file)
    write_origin(folder, space)
    about = About(space=space.digest(), search=search, seed=0, settings={"train": {"epochs": float(epochs)}})
    (folder / ABOUT).write_text(json.dumps(about.told()), encoding="utf-8")
    rows = [
        {"step": 10 * n, "epoch": float(n), "entropy": 1 / n, "expected macs": 1e6 / n, "top1 of the likeliest": 0.5}
        for n in range(1, len(choices) + 1)
    ]
    (folder / HISTORY).write_text(lines_of(rows), encoding="utf-8")
    (folder / CHOICES).write_text(lines_of(choices), encoding="utf-8")
    return folder


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    """The folder of a search by gradient that has ended."""
    choices = [{"epoch": n, "probabilities": one} for n, one in ((1.0, FIRST), (2.0, LAST), (3.0, LAST))]
    run = run_of(tmp_path / "searched", "gradient", choices)
    (run / DECODED).write_text(json.dumps(DECODED_), encoding="utf-8")
    return run


@pytest.fixture
def screened(tmp_path: Path) -> Path:
    """The folder of a screening that has ended."""
    labels = ("none", "conv(kernel: 3)", "conv(kernel: 5)")
    scores = [{"op": dict(zip(labels, one, strict=True))} for one in SCORES]
    choices = [{"epoch": n, "scores": one} for n, one in enumerate(scores, 1)]
    return run_of(tmp_path / "screened", "screen", choices)


def reported(run: Path) -> str:
    assert cli.main(["report", str(run)]) == 0
    return (run / "report.html").read_text(encoding="utf-8")


def test_choices_over_time_are_shown(searched: Path) -> None:
    text = reported(searched)
    for label in ("entropy", "expected MACs", "top1 of the likeliest"):
        assert f"<h3>{label}</h3>" in text
    assert '<h3>op <span class="soft">2 places</span></h3>' in text
    for option, mean in (("none", "0.40"), ("conv(kernel: 3)", "0.40"), ("conv(kernel: 5)", "0.20")):
        assert f"</i>{option} <b>{mean}</b>" in text
    assert "body[1].op: conv(kernel: 5) 0.1" in text  # a field of the map
    pictures = re.findall(r"<svg viewBox.*?</svg>", text, re.DOTALL)
    assert len(pictures) == 3 + 3 + 3
    assert all(ElementTree.fromstring(one) is not None for one in pictures)


@pytest.mark.parametrize(
    ("taken", "why"),
    [
        (TAKEN, "all those together do not meet the requirements and budgets"),
        ({"body.depth": 1, "body[0].op": "conv(kernel: 3)", "conv[1].out": 8}, "with what they bring along, are less"),
    ],
)
def test_what_is_not_the_likeliest_is_marked(searched: Path, taken: dict[str, Any], why: str) -> None:
    """Without a second cell there is one factor less, 0.4 instead of 0.6 x 0.6: no requirement is needed for that."""
    told = {**DECODED_, "likeliest": [{"architecture": taken, "log_probability": -1.0}]}
    (searched / DECODED).write_text(json.dumps(told), encoding="utf-8")
    text = reported(searched)
    assert f"In 1 of {len(taken)} places (marked) another option was taken" in text and why in text
    assert text.count('class="other"') == 1
    assert text.count('style="stroke:var(--red)"') == 1 and text.count('style="stroke:var(--ink)"') == len(taken) - 1
    assert text.count('class="gone"') == (1 if len(taken) < 4 else 0)


def test_the_best_of_the_likeliest_is_told(searched: Path) -> None:
    both = [
        {"architecture": ALONE, "log_probability": -1.0, "score": 0.5},
        {"architecture": TAKEN, "log_probability": -2.0, "score": 0.75},
    ]
    (searched / DECODED).write_text(json.dumps({"alone": ALONE, "likeliest": both, "taken": 1}), encoding="utf-8")
    text = reported(searched)
    assert "Of the 2 likeliest architectures number 2 was taken" in text and "requirements and budgets:" not in text
    cells = "<td>2</td><td>-2.000</td><td>0.7500</td>"
    assert f'<tr class="front">{cells}<td class="left wrap">body[1].op conv(kernel: 5)</td></tr>' in text


def test_a_search_that_has_not_ended_has_a_report(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (searched / DECODED).unlink()
    text = reported(searched)
    assert "has not ended: this is how it stood after epoch 3" in text
    assert "What was taken" not in text and 'var(--ink)"' not in text
    (searched / HISTORY).unlink()
    assert cli.main(["report", str(searched)]) == 1
    assert "nothing has been measured yet" in capsys.readouterr().err


def test_a_screening_tells_what_went_and_when(screened: Path) -> None:
    text = reported(screened)
    assert 'op <span class="soft">2 of 3 options, 2 places</span>' in text
    rows = re.findall(r'<td class="left">([^<]*)</td><td>([^<]*)</td><td class="left">([^<]*)</td>', text)
    assert rows == [
        ("conv(kernel: 5)", "0.7", "stayed"),
        ("none", "0.2", "stayed"),
        ("conv(kernel: 3)", "0.4", "removed by epoch 2"),
    ]
    about = json.loads((screened / ABOUT).read_text(encoding="utf-8"))
    about["settings"]["train"]["epochs"] = 5.0
    (screened / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    text = reported(screened)
    assert "has not ended" in text and "Which options are left" in text and "stayed" not in text


CUT = lines_of([{"epoch": 1.0, "probabilities": FIRST}])[:-20]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (CHOICES, CUT, f"line 1 of {{run}}/{CHOICES} is not what the choices of a run were"),
        (CHOICES, '{"epoch": 1, "weights": {}}', "it lacks `probabilities`"),
        (CHOICES, '{"epoch": 1, "probabilities": {}, "more": 1}', "`more`, which is not known"),
        (CHOICES, lines_of([{"epoch": 1, "probabilities": {}}]), "it lacks the decision `body.depth`"),
        (CHOICES, lines_of([{"epoch": 1, "probabilities": FIRST | {"x": []}}]), "the space has no decision `x`"),
        (CHOICES, lines_of([{"epoch": 1, "probabilities": FIRST | {"body.depth": [1]}}]), "has 2 options and not 1"),
        (CHOICES, None, "cannot be read: No such file"),
        (DECODED, json.dumps(DECODED_)[:40], "is not what a search by gradient took in the end"),
        (DECODED, json.dumps({**DECODED_, "taken": 1}), "`taken` is 1, and there are 1 architectures"),
        (DECODED, json.dumps({**DECODED_, "alone": {"body.depth": 7}}), "is not of choosing"),
        (HISTORY, '{"step": 1}\n{"step', "cannot be read"),
        (HISTORY, "[]", "holds no measurements"),
    ],
)
def test_files_of_choices_that_are_damaged(
    searched: Path, file: str, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is None:
        (searched / file).unlink()
    else:
        (searched / file).write_text(text, encoding="utf-8")
    assert cli.main(["report", str(searched)]) == 1
    assert message.format(run=searched) in capsys.readouterr().err
    assert not (searched / "report.html").exists()


@pytest.mark.parametrize("scores", [{"op": {"none": 1.0}}, {"other": {"none": 1.0}}])
def test_scores_of_another_space_are_refused(
    screened: Path, scores: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (screened / CHOICES).write_text(lines_of([{"epoch": 1.0, "scores": scores}]), encoding="utf-8")
    assert cli.main(["report", str(screened)]) == 1
    assert "is not of choosing" in capsys.readouterr().err


def test_a_space_whose_decisions_have_no_probabilities_is_refused(
    searched: Path, space: Space, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(searched), "--file", str(space.source.path)]) == 1
    assert "is not of small: `body[0].look.b.hidden[3]` cannot have probabilities" in capsys.readouterr().err


def test_lists_of_thousands_stay_small(searched: Path) -> None:
    file = searched.parent / "long.space"
    items = ", ".join(str(8 * n) for n in range(1, 401))
    file.write_text(CHOOSING.replace("oneof(8, 16)", f"oneof({items})"), encoding="utf-8")
    last = LAST | {"conv[1].out": [1 / 400] * 400}
    (searched / CHOICES).write_text(lines_of([{"epoch": 1.0, "probabilities": last}] * 2), encoding="utf-8")
    assert cli.main(["report", str(searched), "--file", str(file)]) == 0
    text = (searched / "report.html").read_text(encoding="utf-8")
    assert "393 others (100 drawn), together <b>0.98</b>" in text and "conv[1].out: 361 others together 0.902" in text


def test_pictures_hold_what_users_wrote_as_text() -> None:
    for picture in (
        curves(EVIL, [Curve(EVIL, [1.0], [2.0]), Curve("x", [], [])], "epochs"),
        heat(EVIL, [EVIL, "b"], [Place(EVIL, EVIL, [0.5, 0.5], 0)]),
    ):
        tree = ElementTree.fromstring(picture)
        assert tree.get("aria-label") == EVIL
        assert EVIL in [one.text for one in tree.iter("title")]
        assert not {one.tag for one in tree.iter()} & {"script", "img"}


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=20))
def test_a_curve_lies_where_its_values_do(ys: list[float]) -> None:
    """Heights are linear in the values, and all lie in the picture."""
    tree = ElementTree.fromstring(curves("t", [Curve("x", [float(i) for i in range(len(ys))], ys)], "epochs"))
    path = next(one for one in tree.iter("path"))
    points = np.array([[float(n) for n in one.split()] for one in (path.get("d") or "")[1:].split("L")])
    assert np.all(np.diff(points[:, 0]) > 0)
    assert np.all((points >= 0) & (points <= [WIDE, HIGH]))
    if max(ys) - min(ys) > 1e-3:
        slope = (points[np.argmax(ys), 1] - points[np.argmin(ys), 1]) / (max(ys) - min(ys))
        assert np.allclose(points[:, 1], points[np.argmin(ys), 1] + slope * (np.array(ys) - min(ys)), atol=0.11)


def test_curves_for_tensorboard_are_means_over_copies(searched: Path) -> None:
    told = probabilities_told(declarations_of(nasdsl.load(searched.parent / "choosing.space").graph), LAST)
    assert told["choices/op/none"] == pytest.approx(0.4) and told["choices/depth/2"] == 0.6
    copies = [torch.distributions.Categorical(torch.tensor(LAST[f"body[{i}].op"])).entropy().item() for i in range(2)]
    assert told["entropy/op"] == pytest.approx(sum(copies) / 2 / math.log(3), rel=1e-5)
    assert scores_told({"op": {"a": 0.5, "b": 0.0}}) == {"scores/op/a": 0.5, "scores/op/b": 0.0}


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_end_of_a_screening_is_told_by_declaration(searched: Path, form: str) -> None:
    space = nasdsl.load(searched.parent / "choosing.space")
    narrowing = Narrowing({"body[0].op": (0, 2), "body[1].op": (0, 2)}, "")
    facts = search_command._facts(nasdsl.Found(Found(narrowing, space, [], Path("r")), Path("o.space")), form)
    assert (facts.pop("out"), facts.pop("run")) == ("o.space", "r")
    if form == "text":
        assert facts == {"op": "2 of 3 options stay, in 2 places: none, conv(kernel: 5)"}
    else:
        assert facts == {"screened": {"op": {"places": 2, "options": 3, "stay": ["none", "conv(kernel: 5)"]}}}


def test_attempts_are_what_optuna_reads(tmp_path: Path) -> None:
    """Read at once from the tables: whatever Optuna keeps of other studies, of values and of attributes."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'some.db'}")
    for name in ("other", "mine"):
        study = optuna.create_study(storage=storage, study_name=name, directions=["maximize", "minimize"])
        for values in ((1.5, math.inf), (-math.inf, 2e300), (0.1 + 0.2, -3.0)):
            trial = study.ask()
            trial.suggest_categorical("option", ["a", "b"])
            trial.set_user_attr("costs", {"macs": 3, "latency": 0.1 + 0.2})
            trial.set_user_attr("error", 'äöü "quoted" </script>')
            study.tell(trial, values)
        study.enqueue_trial({"option": "a"}, user_attrs={"seed": 2**63})
        study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
        study.ask()
    found = read_attempts(storage.engine, "mine")
    expected = optuna.load_study(study_name="mine", storage=storage).get_trials()
    assert [(one.number, one.state, one.values, one.user_attrs) for one in found] == [
        (one.number, one.state, one.values, one.user_attrs) for one in expected
    ]
    assert len(found) == 5 and read_attempts(storage.engine, "none") == []
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("update trial_user_attributes set value_json = 'no json'")
    with pytest.raises(RunError, match="cannot be read"):
        read_attempts(storage.engine, "mine")
    storage.remove_session()
    storage.engine.dispose()


# --- Other trainings --------------------------------------------------------------------------------------------------

UNITS = """
space narrowing {
  input 3 x 16 x 16
  network { conv(8) -> repeat 2 { mixconv(8, hidden: { 3: units(16), 5: units(10) }) } -> classify(classes: 4) }
}
"""


def training_of(folder: Path, search: str, text: str, rows: list[dict[str, Any]]) -> Path:
    """A run's folder as the training of a network leaves it."""
    folder.mkdir()
    file = folder.parent / "trained.space"
    file.write_text(text, encoding="utf-8")
    space = nasdsl.load(file)
    write_origin(folder, space)
    about = About(space=space.digest(), search=search, seed=0, settings={"train": {"epochs": 4.0}})
    (folder / ABOUT).write_text(json.dumps(about.told()), encoding="utf-8")
    (folder / HISTORY).write_text(lines_of(rows), encoding="utf-8")
    return folder


def shrunk_rows(paths: Sequence[str]) -> list[dict[str, Any]]:
    kept = [{paths[0]: 12, paths[1]: 6}, {paths[0]: 4}, {}, {paths[0]: 0, paths[3]: 1}]
    return [
        {"step": n, "epoch": float(n), "top1": 0.2 * n, "macs": 1000 - n, "units": 40 - n, "removed": n, "kept": one}
        for n, one in enumerate(kept, 1)
    ]


@pytest.fixture
def narrowed(tmp_path: Path) -> Path:
    file = tmp_path / "trained.space"
    file.write_text(UNITS, encoding="utf-8")
    paths = list(nasdsl.load(file).graph.decisions)
    return training_of(tmp_path / "narrowed", "shrink", UNITS, shrunk_rows(paths))


def test_units_are_shown_where_and_when_they_went(narrowed: Path) -> None:
    text = reported(narrowed)
    (bars,) = re.findall(r'<svg[^>]*aria-label="units left in each place">.*?</svg>', text, re.DOTALL)
    svg = ElementTree.fromstring(bars)
    rows: dict[str, list[tuple[float, str]]] = {}
    for rect in svg.iter("rect"):
        title = rect.find("title")
        assert title is not None and title.text is not None
        path, _, what = title.text.partition(": ")
        rows.setdefault(path, []).append((float(rect.get("width") or 0), what))
    paths = list(nasdsl.load(narrowed.parent / "trained.space").graph.decisions)
    assert [what for _, what in rows[paths[0]]] == [
        "4 removed by epoch 1",
        "8 removed by epoch 2",
        "4 removed by epoch 4",
    ]
    assert [what for _, what in rows[paths[1]]] == ["4 removed by epoch 1", "6 left"]
    assert [what for _, what in rows[paths[2]]] == ["16 left"]
    assert all(sum(width for width, _ in row) == pytest.approx(260, abs=0.3) for row in rows.values())
    assert [one.text for one in svg.iter("text") if " of " in (one.text or "")] == [
        "0 of 16",
        "6 of 10",
        "16 of 16",
        "1 of 10",
    ]
    for heading in ("top1", "MACs", "units left", "units removed"):
        assert f"<h3>{heading}</h3>" in text


@pytest.mark.parametrize("kept", [3, {"nowhere": 1}, {"a": -1}, {"a": 1.5}])
def test_removals_that_are_none_are_refused(narrowed: Path, kept: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (narrowed / HISTORY).write_text(lines_of([{"step": 1, "epoch": 1.0, "kept": kept}]))
    assert cli.main(["report", str(narrowed)]) == 1
    assert "units" in capsys.readouterr().err


def test_a_shrinking_of_an_earlier_version_says_what_it_lacks(narrowed: Path) -> None:
    (narrowed / HISTORY).write_text(lines_of([{"step": 1, "epoch": 1.0, "macs": 5, "units": 7, "top1": 0.5}]))
    assert "The run does not say where" in reported(narrowed)


@pytest.fixture
def sampled(tmp_path: Path) -> Path:
    """The folder of a sampled supernet whose candidates have been scored."""
    names = [f"candidate {n}" for n in range(1, 6)]
    scores = [[1, 2, 3, 4, 5], [1, 2, 3, 5, 4], [5, 4, 3, 2, 1]]
    rows = [
        {"step": n, "epoch": float(n), **{f"top1 of {name}": s / 10 for name, s in zip(names, one, strict=True)}}
        for n, one in enumerate(reversed(scores), 1)
    ]
    run = training_of(tmp_path / "sampled", "sample", TEXT, rows)
    space = nasdsl.load(tmp_path / "trained.space")
    found = nasdsl.sample(space, 20, seed=1)
    lines = [
        {"architecture": one.to_json(), "top1": 0.5 + i / 100, "loss": 1.0, "macs": 1000.0 * i, "params": 500.0}
        for i, one in enumerate(found)
    ]
    (run / "candidates.jsonl").write_text(lines_of(lines), encoding="utf-8")
    return run


def test_candidates_are_shown_by_what_they_cost(sampled: Path) -> None:
    text = reported(sampled)
    assert "What the supernet says of 20 candidates" in text
    assert "Kendall's tau between the two: 1.00" in html.unescape(text)  # the dearer, the better
    (first,) = re.findall(r'<tr class="front"><td>1</td><td>([^<]*)</td><td>([^<]*)</td>', text)
    assert first == ("0.69", "19K")
    assert text.count("third</td>") == 3 and "cheapest third" in text
    (settled,) = re.findall(r'aria-label="rank correlation.*?</svg>', text, re.DOTALL)
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", re.findall(r'class="curve" d="([^"]*)"', settled)[0])
    heights = [float(y) for _, y in points]  # of taus -1, 0.8 and 1
    assert (heights[0] - heights[1]) / (heights[0] - heights[2]) == pytest.approx(1.8 / 2, abs=0.01)


@pytest.mark.parametrize("lines", ["nothing", "[]\n", '{"architecture": 3}\n'])
def test_candidates_that_are_none_are_refused(sampled: Path, lines: str, capsys: pytest.CaptureFixture[str]) -> None:
    (sampled / "candidates.jsonl").write_text(lines)
    assert cli.main(["report", str(sampled)]) == 1
    assert "candidates.jsonl" in capsys.readouterr().err


def test_a_supernet_without_candidates_yet(sampled: Path) -> None:
    (sampled / "candidates.jsonl").unlink()
    assert "No candidates have been scored yet" in reported(sampled)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12))
def test_kendalls_tau(pairs: list[tuple[int, int]]) -> None:
    a, b = zip(*pairs, strict=True)
    agree = both = x_only = y_only = 0
    for i in range(len(pairs)):
        for j in range(i):
            x, y = (a[i] > a[j]) - (a[i] < a[j]), (b[i] > b[j]) - (b[i] < b[j])
            agree, both = agree + x * y, both + 1
            x_only, y_only = x_only + (x != 0), y_only + (y != 0)
    found = kendall(a, b)
    if not x_only or not y_only:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(agree / math.sqrt(x_only * y_only))


def test_the_training_of_a_network_has_its_curves(tmp_path: Path) -> None:
    rows = [{"step": n, "epoch": float(n), "top1": n / 10, "loss": 1 / n} for n in (1, 2, 3)]
    text = reported(training_of(tmp_path / "alone", "train", UNITS, rows))
    assert "<h3>top1</h3>" in text and "<h3>loss</h3>" in text and "What was removed" not in text


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium without a window and without a network."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=CHROMIUM,
            args=[f"--{flag}" for flag in FLAGS],
            headless=True,
            offline=True,
            viewport={"width": 1366, "height": 768},
        )
        yield context
        context.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """`opened(text)`: a page of the browser with that text; at the end it must not have complained or asked for
    anything."""
    tab = browser.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda problem: said.append(str(problem)))
    tab.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)

    def show(text: str) -> Any:
        file = tmp_path / "report.html"
        file.write_text(text, encoding="utf-8")
        tab.goto(file.as_uri())
        tab.wait_for_selector("html[data-ready=yes]")
        return tab

    yield show
    tab.close()
    assert not said


def test_rows_sort_and_open(space: Space, opened: Any) -> None:
    study = study_of(space, 60)
    tab = opened(page(space, study))
    best = study.records[study.front[0]]
    rows = tab.locator("#body tr.trial")
    assert rows.count() == 25
    assert rows.first.get_attribute("id") == f"trial-{best.number}"  # the best first
    rows.first.click()
    detail = tab.locator("#body tr.detail").inner_text()
    assert f"{best.costs['macs']:,}" in detail
    for path in best.decisions:
        assert path.partition(".")[2] in detail or path in detail
    tab.click("#head button:text-is('trial')")
    assert tab.locator("#body tr.trial").first.get_attribute("id") == "trial-0"
    tab.click("#after")
    assert "26 to 50 of 60" in tab.locator("#where").inner_text()
    tab.select_option("#which", "front")
    assert tab.locator("#body tr.trial").count() == min(25, len(study.front))
    tab.fill("#find", str(best.number))
    assert tab.locator("#body tr.trial").count() == 1


def test_the_chart_takes_any_two_values_and_opens_trials(space: Space, opened: Any) -> None:
    study = study_of(space, 60)
    tab = opened(page(space, study))
    for label in ("parameters", "loss", "seconds", "MACs"):
        tab.select_option("#across", label=label)
        assert label in tab.locator("#scatter svg").text_content()
    tab.check("#everything")
    place = tab.evaluate(
        f"""() => {{ const i = {study.front[0]}; const box = scatter.svg.getBoundingClientRect();
        const scale = box.width / scatter.width;
        const x = scatter.x(scatter.h.values[i]), y = scatter.y(scatter.v.values[i]);
        return [box.left + scale * x, box.top + scale * y] }}"""
    )
    tab.mouse.move(*place)
    assert f"trial {study.front[0]}:" in tab.locator(".tip").inner_text()
    tab.mouse.click(*place)
    assert tab.locator("#body tr.open").get_attribute("id") == f"trial-{study.front[0]}"


def test_images_on_the_page_are_shown(space: Space, opened: Any) -> None:
    names = Names((EVIL, "other"))
    seen = FoundClasses(np.array([0, 1]), np.array([0.75, 0.25]))
    shown = Example(3, Image.new("RGB", (40, 30), "red"), seen, FoundClasses(np.array([1]), np.ones(1)), 0.25, False)
    section = examples_section(Examples(names, "chance", "it is likeliest", (shown,), 0, 1, EVIL), 0.3)
    tab = opened(page(space, study_of(space, 20), examples=section))
    assert tab.locator("img").count() == 1
    assert tab.evaluate("document.querySelector('img').naturalWidth") == 480
    assert "wrong image 3: chance 0.25" in tab.locator(".examples").inner_text()
    assert EVIL in tab.locator("body").inner_text() and tab.title() != "run"


def test_what_users_wrote_does_not_run(space: Space, opened: Any) -> None:
    tab = opened(page(space, study_of(space, 60, evil=True)))
    tab.select_option("#which", "f")
    tab.locator("#body tr.trial").first.click()
    assert EVIL in tab.locator("#body tr.detail").inner_text()
    assert tab.title() != "run" and tab.locator("img").count() == 0


@pytest.mark.slow
def test_ten_thousand_trials_open(space: Space, opened: Any) -> None:
    tab = opened(page(space, study_of(space, 10_000)))
    assert "1 to 25 of 10,000" in tab.locator("#where").inner_text()
    width = tab.evaluate("document.documentElement.scrollWidth")
    assert width <= 1366  # nothing has to be scrolled sideways
    assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF")
