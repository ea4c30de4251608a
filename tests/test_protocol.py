"""One protocol: what every method and every evaluator keeps to, whether it is built in or of another package."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from pydantic import Field

import nasdsl
from nasdsl.cli import main
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.elaborate.settings import read_values
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.plugins import PluginError
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.space import Space
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evaluators import EVALUATORS, find_evaluators
from nasdsl.runtime.evolution.evaluator import NamedEvaluator
from nasdsl.runtime.evolution.methods import History, Idea, Method, Nsga2, draw
from nasdsl.runtime.evolution.registry import METHODS, find_method, find_methods
from nasdsl.runtime.problem import Exploration, Problem
from nasdsl.runtime.search import Options, search
from nasdsl.runtime.settings import Settings
from nasdsl.runtime.strategies.evolve import evolve_settings
from nasdsl.testing import check_evaluator, check_method

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
    repeat oneof(0..1) { body(8) }
    classify(classes: 10)
  }
  search sample { train: { epochs: 0.05, batch: 64, recalibrate: 1 }, candidates: 1, follow: [] }
}
"""


def text_of(architecture: Architecture) -> str:
    return json.dumps(architecture.to_json(), sort_keys=True)


# --- Of another package -----------------------------------------------------------------------------------------------


class Annealing(Method):
    """Simulated annealing: a neighbour of the last trial, or of the best so far as the temperature falls."""

    heat: float = Field(default=1.0, gt=0)

    def propose(self, history: History, rng: np.random.Generator) -> Idea | None:
        if not history.trials:
            return draw(history, rng)
        best = int(history.losses[:, 0].argmin())
        hot = rng.random() < self.heat / (1 + history.index)
        trial = history.trials[-1 if hot else best]
        row, _ = history.candidates.mutate(history.row(trial), history.seen, rng)
        return draw(history, rng) if row is None else Idea(row, (trial.index,))


class Lookup(NamedEvaluator):
    """Numbers from a JSON file, by the text of an architecture."""

    class Entries(Settings):
        word: ClassVar[str | None] = "file"
        file: str
        scale: float = 1.0

    settings: ClassVar[Any] = Entries
    headline = "looked_up"

    def __init__(self, found: Mapping[str, float], scale: float):
        self.found, self.scale = found, scale

    @classmethod
    def make(cls, problem: Problem, settings: Any, wanted: Collection[str]) -> Self:
        assert problem.space.source.path is not None
        text = (problem.space.source.path.parent / settings.file).read_text()
        return cls(json.loads(text), settings.scale)

    @classmethod
    def contents(cls, settings: Any, base: Path | None) -> Mapping[str, str]:
        assert base is not None
        return {"lookup": (base / settings.file).read_text()}

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        return {"looked_up": self.scale * self.found[text_of(architecture)]}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that offers a method and an evaluator."""
    points = [
        EntryPoint("annealing", f"{__name__}:Annealing", "nasdsl.methods"),
        EntryPoint("lookup", f"{__name__}:Lookup", "nasdsl.evaluators"),
    ]
    _offered(monkeypatch, *points)


def _offered(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    here = {"Annealing": Annealing, "Lookup": Lookup, "SPACE": SPACE}
    monkeypatch.setattr(EntryPoint, "load", lambda point: here[point.value.partition(":")[2]])
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [point for point in points if point.group == group]
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "odds.space").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASDSL_TRACEBACK", "1")
    return tmp_path


@pytest.fixture(scope="module")
def odds() -> Any:
    return nasdsl.loads(SPACE)


def all_of(space: Any) -> list[Architecture]:
    numbering = Numbering(space.graph)
    return [numbering.unrank(i) for i in range(numbering.total)]


class Worth:
    """Worth what it costs, up to a pattern of small steps."""

    def __init__(self, space: Any):
        self.space = space

    def evaluate(self, architecture: Architecture, seed: int) -> dict[str, float]:
        cost = nasdsl.cost(self.space, architecture)
        return {"worth": cost["params"] % 97 + cost["macs"] / 1e6}


# --- Methods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*METHODS, "annealing"])
def test_every_method_keeps_to_the_protocol(installed: None, name: str) -> None:
    check_method(find_method(name))


def test_methods_are_found_by_name(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(find_methods()) == [*METHODS, "annealing"]
    with pytest.raises(RunError, match="there is no method `aneling`") as refused:
        find_method("aneling")
    assert "annealing" in refused.value.help
    _offered(monkeypatch, EntryPoint("nsga2", f"{__name__}:Annealing", "nasdsl.methods"))
    with pytest.raises(PluginError, match=r"offers `nsga2` in nasdsl\.methods, but that name is taken"):
        find_methods()
    _offered(monkeypatch, EntryPoint("words", f"{__name__}:SPACE", "nasdsl.methods"))
    with pytest.raises(PluginError, match="is not a method"):
        find_methods()


def test_settings_of_a_method_stand_in_its_record_and_those_of_several_beside_it(installed: None) -> None:
    made = evolve_settings().model_validate({"method": {"name": "annealing", "heat": 3}, "population": 7}).proposer()
    assert isinstance(made, Annealing) and made.heat == 3
    shared = evolve_settings().model_validate({"method": "nsga2", "population": 7, "mutation": 0.5}).proposer()
    assert shared == Nsga2(population=7, mutation=0.5)
    with pytest.raises(ValueError, match="a method `annealing` that it cannot have: `heat` should be greater than 0"):
        evolve_settings().model_validate({"method": {"name": "annealing", "heat": 0}})
    with pytest.raises(ValueError, match="it has `heats`, which is not known"):
        evolve_settings().model_validate({"method": {"name": "annealing", "heats": 1}})


# --- Evaluators -------------------------------------------------------------------------------------------------------


def some_of(space: Space) -> list[Architecture]:
    return all_of(space)[::3]


def table(folder: Path, space: Space) -> Any:
    rows = [{**dict.fromkeys(space.graph.decisions), **one.to_json(), "acc": i} for i, one in enumerate(some_of(space))]
    (folder / "t.json").write_text(json.dumps(rows))
    return {"file": "t.json"}


def function(folder: Path, space: Space) -> Any:
    (folder / f"worth_{folder.name}.py").write_text("def of(architecture, space):\n    return len(architecture)\n")
    return f"worth_{folder.name}:of"


def supernet(folder: Path, space: Space) -> Any:
    search(read(folder / "odds.space"), folder / "one.space", Options(run=folder / "shot", accelerator="cpu"))
    return "shot"


def train(folder: Path, space: Space) -> Any:
    return {"epochs": 0.05, "batch": 64, "recalibrate": 1}


def lookup(folder: Path, space: Space) -> Any:
    (folder / "l.json").write_text(json.dumps({text_of(one): i for i, one in enumerate(all_of(space))}))
    return {"file": "l.json", "scale": 2.0}


EXAMPLES = {"table": table, "function": function, "supernet": supernet, "train": train, "lookup": lookup}
"""Settings of each evaluator that there is, with the files that they name."""
READS = {"table": "t.json", "supernet": "shot/supernet.safetensors", "lookup": "l.json"}


def test_every_evaluator_has_an_example(installed: None) -> None:
    assert set(find_evaluators()) == set(EXAMPLES)


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_every_evaluator_keeps_to_the_protocol(installed: None, folder: Path, name: str) -> None:
    space = elaborate(read(folder / "odds.space"))
    settings = EXAMPLES[name](folder, space)
    check_evaluator(find_evaluators()[name], settings, space=space, reads=READS.get(name))


def test_an_evaluator_may_not_have_the_name_of_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    _offered(monkeypatch, EntryPoint("trials", f"{__name__}:Lookup", "nasdsl.evaluators"))
    with pytest.raises(PluginError, match=r"`trials` in nasdsl\.evaluators, has the name of another setting"):
        evolve_settings()
    _offered(monkeypatch, EntryPoint("table", f"{__name__}:Lookup", "nasdsl.evaluators"))
    with pytest.raises(PluginError, match="that name is taken"):
        evolve_settings()
    assert list(EVALUATORS) == ["table", "function", "supernet", "train"]


def test_a_file_names_both(installed: None, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = elaborate(read(folder / "odds.space"))
    (folder / "l.json").write_text(json.dumps({text_of(one): i for i, one in enumerate(all_of(space))}))
    section = '  search evolve { lookup: "l.json", method: { name: annealing, heat: 2 }, trials: 9 }\n}\n'
    (folder / "odds.space").write_text(SPACE.split("  search")[0] + section)
    command = ["search", "odds.space", "--out", "best.space", "--format", "json"]
    assert main([*command, "--set", "lookup.scale=3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trials"] == 9 and told["looked_up"] % 3 == 0
    assert main([*command, "--set", "lookup.scale=3", "--trials", "12"]) == 0
    (folder / "l.json").write_text((folder / "l.json").read_text() + " ")
    assert main([*command, "--set", "lookup.scale=3"]) == 1
    assert "was started with another lookup" in capsys.readouterr().out
    assert main([*command, "--set", "lookup.scales=3", "--fresh"]) == 1
    assert "has no setting `lookup.scales`" in capsys.readouterr().out
    assert main([*command, "--set", 'method.name="aneling"', "--fresh"]) == 1
    assert "`method` should be one of" in capsys.readouterr().out


# --- From Python ------------------------------------------------------------------------------------------------------


def test_a_search_from_python_is_that_of_the_command_line(folder: Path) -> None:
    space = nasdsl.load(folder / "odds.space")
    (folder / f"w_{folder.name}.py").write_text(
        "import nasdsl\ndef of(architecture, space):\n    return nasdsl.cost(space, architecture)['params'] % 97\n"
    )
    overrides = {"function": f"w_{folder.name}:of", "maximise": "value", "minimise": "macs", "trials": 20}
    overrides |= read_values({"method": "nsga2", "population": "6", "budget": "macs <= 40K"})
    options = Options(run=folder / "run", overrides=overrides, seed=5)
    typed = search(read(folder / "odds.space"), folder / "best.space", options, runtime="evolve").result
    assert isinstance(typed, Exploration)
    for method in ("nsga2", Nsga2(population=6)):
        found = nasdsl.search(
            space,
            lambda architecture: nasdsl.cost(space, architecture)["params"] % 97,
            method=method,
            maximise="value",
            minimise="macs",
            budget="macs <= 40K",
            trials=20,
            seed=5,
            settings={"population": 6} if method == "nsga2" else None,
        )
        assert [t.proposal for t in found.trials] == [t.proposal for t in typed.trials]
        assert [t.objectives for t in found.front] == [t.objectives for t in typed.front]
    assert nasdsl.cost(space, found.front[0].architecture)["macs"] == found.front[0].objectives[1]


def test_a_search_from_python_takes_any_evaluator(odds: Any) -> None:
    everything = [nasdsl.cost(odds, one) for one in all_of(odds)]
    found = nasdsl.search(odds, Worth(odds), maximise="worth", distinct="architecture")
    assert len(found.trials) == len(everything)
    assert found.front[0].objectives[0] == max(cost["params"] % 97 + cost["macs"] / 1e6 for cost in everything)
    alone = nasdsl.search(odds, lambda architecture: -len(architecture), trials=200)
    assert alone.objectives is not None and alone.objectives.directions == {"value": True}
    with pytest.raises(CompileError, match="nothing says what is wanted"):
        nasdsl.search(odds, Worth(odds))
    with pytest.raises(CompileError, match="has no setting `trails`"):
        nasdsl.search(odds, Worth(odds), maximise="worth", trails=5)
    with pytest.raises(RunError, match="trial 0 cannot be evaluated: `broken` raised ZeroDivisionError"):
        nasdsl.search(odds, broken)


def broken(architecture: Any) -> float:
    return 1 / 0
