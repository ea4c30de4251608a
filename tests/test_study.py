"""A search that is asked and told: the same proposals as one that evaluates by itself, from memory or a database."""

from __future__ import annotations

import gc
import math
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import nasdsl
from nasdsl.compiler.diagnostics import ArgumentError, CompileError
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evolution.methods import Nsga2
from nasdsl.runtime.evolution.registry import METHODS
from tests.test_protocol import SPACE

ODDS = SPACE.partition("  search sample")[0] + "}\n"


def space_of() -> nasdsl.Space:
    return nasdsl.loads(ODDS)


def worth(architecture: Any) -> float:
    cost = nasdsl.cost(space_of(), architecture)
    return float(cost["params"] % 97) + cost["macs"] / 1e6


WANTED: list[dict[str, Any]] = [
    {},
    {"maximise": "value", "minimise": "macs", "budget": "macs <= 40K"},
    {"minimise": ["params", "value"], "distinct": "architecture", "population": 4},
]


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("method", [*METHODS, Nsga2(population=3)], ids=str)
def test_told_in_order_it_is_a_search(method: Any, wanted: dict[str, Any], tmp_path: Path) -> None:
    given = {key: value for key, value in wanted.items() if key != "population" or isinstance(method, str)}
    if "population" in given and "population" not in (METHODS[method].model_fields if isinstance(method, str) else ()):
        del given["population"]
    searched = nasdsl.search(space_of(), worth, method=method, trials=9, seed=4, **given)
    storage = tmp_path / "t.db" if method == "regularised" else None
    with nasdsl.study(space_of(), method=method, trials=9, seed=4, storage=storage, **given) as study:
        while (trial := study.ask()) is not None:
            told = study.tell(trial, worth(trial.architecture))
            assert told.state == "complete" and told.metrics == {"value": worth(trial.architecture)}
        assert [one.proposal for one in study.trials] == [one.proposal for one in searched.trials]
        assert [one.objectives for one in study.front] == [one.objectives for one in searched.front]
        assert study.best is not None and study.best.index == searched.front[0].index
        found = study.found
        assert found.architecture == searched.architecture and found.costs == searched.costs
        assert repr(study).startswith("Study(odds: 9 trials, best ") or len(study.trials) < 9


def test_a_trial_has_what_an_evaluation_needs() -> None:
    study = nasdsl.study(space_of())
    trial = study.ask()
    assert trial is not None and isinstance(trial.architecture, nasdsl.Architecture)
    assert trial.costs == nasdsl.cost(study.space, trial.architecture) and trial.seed >= 0 and trial.parents == ()
    network = nasdsl.supernet(study.space)
    network.activate(trial.architecture)
    assert study.best is None and not study.trials and [one.index for one in study.pending] == [0]
    assert repr(study) == "Study(odds: 0 trials, 1 pending)"
    told = study.tell(0, {"value": 3, "other": 1.5}, seconds=2.5)
    assert told.metrics == {"value": 3.0, "other": 1.5} and told.seconds == 2.5 and told.objectives == (3.0,)


def test_several_are_asked_for_at_once(tmp_path: Path) -> None:
    for storage in (None, tmp_path / "several.db"):
        found = []
        for _ in range(2):
            with nasdsl.study(space_of(), method="nsga2", population=4, seed=2, trials=12, storage=storage) as study:
                keys: list[str] = []
                while trials := [trial for _ in range(3) if (trial := study.ask()) is not None]:
                    assert len({trial.index for trial in trials}) == len(trials) == len(study.pending)
                    keys += [trial.proposal.function for trial in trials]
                    for trial in reversed(trials):
                        study.tell(trial, worth(trial.architecture))
                assert len(set(keys)) == len(keys) <= 12
                found.append([trial.proposal for trial in study.trials])
            if storage is not None:
                break
        assert all(len(proposals) == len(found[0]) for proposals in found) and found[0] == found[-1]
    with nasdsl.study(space_of(), trials=2) as study:
        assert study.ask() and study.ask() and study.ask() is None, "two are enough, unless one fails"
        study.tell(0, ValueError("no"))
        assert study.ask() is not None and study.ask() is None


def test_threads_share_a_study(tmp_path: Path) -> None:
    for storage in (None, tmp_path / "threads.db"):
        with nasdsl.study(space_of(), storage=storage, trials=15, seed=1) as study:

            def work(number: int, study: nasdsl.Study = study) -> int:
                done = 0
                while (trial := study.ask()) is not None:
                    study.tell(trial, float(number))
                    done += 1
                return done

            with ThreadPoolExecutor(3) as pool:
                done = sum(pool.map(work, range(3)))
            assert done == len(study.trials) and len({one.proposal.function for one in study.trials}) == done


def test_a_study_goes_on(tmp_path: Path) -> None:
    given: dict[str, Any] = {"storage": tmp_path / "kept.db", "seed": 3, "maximise": "value", "minimise": "macs"}
    whole = nasdsl.search(space_of(), worth, trials=10, seed=3, maximise="value", minimise="macs")
    with nasdsl.study(space_of(), **given) as study:
        for _ in range(4):
            trial = study.ask()
            assert trial is not None
            study.tell(trial, worth(trial.architecture))
        left = study.ask()
    with pytest.raises(RunError, match="the study is closed"):
        study.ask()
    assert len(study.trials) == 4, "what is known stays known"
    with nasdsl.study(space_of(), **given) as study:
        assert [one.proposal for one in study.trials] == [one.proposal for one in whole.trials[:4]]
        taken = study.ask()
        assert taken is not None and left is not None and taken.proposal == left.proposal, "it was not told"
        study.tell(taken, worth(taken.architecture))
        for _ in range(5):
            trial = study.ask()
            assert trial is not None
            study.tell(trial, worth(trial.architecture))
        assert [one.proposal for one in study.trials] == [one.proposal for one in whole.trials]
    with pytest.raises(RunError, match="another seed"):
        nasdsl.study(space_of(), **{**given, "seed": 4})
    with nasdsl.study(space_of(), **{**given, "seed": 4}, name="other") as study:
        assert not study.trials
    study = nasdsl.study(space_of(), **given, name="dropped")
    lost = study.ask()
    del study
    gc.collect()
    with nasdsl.study(space_of(), **given, name="dropped") as study:
        again = study.ask()
        assert lost is not None and again is not None and again.proposal == lost.proposal


def test_a_killed_process_leaves_its_trial_to_others(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            study = nasdsl.study(space_of(), storage=tmp_path / "killed.db")
            study.ask()
            (tmp_path / "asked").touch()
            time.sleep(60)
        finally:
            os._exit(1)
    while not (tmp_path / "asked").exists():
        time.sleep(0.02)
    with nasdsl.study(space_of(), storage=tmp_path / "killed.db") as study:
        second = study.ask()
        assert second is not None and second.index == 1, "the first is in the other's hands"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with nasdsl.study(space_of(), storage=tmp_path / "killed.db") as study:
        indices = {trial.index for _ in range(2) if (trial := study.ask()) is not None}
        assert indices == {0, 1}


def test_what_fails_is_not_asked_for_again() -> None:
    study = nasdsl.study(space_of(), seed=5)
    for number in range(20):
        trial = study.ask()
        assert trial is not None
        told = study.tell(trial, RuntimeError("too large") if number % 2 else 1.0)
        assert told.state == ("failed" if number % 2 else "complete")
    assert len(study.failed) == len(study.trials) == 10
    assert study.failed[0].error == "RuntimeError: too large"
    assert len({one.proposal.function for one in (*study.failed, *study.trials)}) == 20
    strict = nasdsl.study(space_of(), failures=1)
    for expected in (None, RunError):
        trial = strict.ask()
        assert trial is not None
        if expected is None:
            strict.tell(trial, ValueError("no"))
            continue
        with pytest.raises(expected, match="trial 1 cannot be evaluated"):
            strict.tell(trial, ValueError("no"))


def test_it_ends_when_nothing_is_left() -> None:
    notes: list[str] = []
    study = nasdsl.study(space_of(), distinct="architecture", on_progress=lambda one: notes.append(one.text))
    while (trial := study.ask()) is not None:
        study.tell(trial, 1.0)
    assert len(study.trials) == nasdsl.count(study.space).total
    assert any("nothing is left to evaluate after" in note and "1,000,000" not in note for note in notes)


def test_pruned_trials_are_not_asked_for() -> None:
    text = (
        "space p { input 1 x 8 x 8\n  network { conv(oneof(2, 4, 6, 8)) -> conv(oneof(2, 4, 6, 8)) -> classify(3) } }\n"
    )
    study = nasdsl.study(nasdsl.loads(text), maximise="value", minimise="macs", prune={}, method="random")
    while (trial := study.ask()) is not None:
        study.tell(trial, 1.0)
    assert study.skipped and len(study.trials) + len(study.skipped) == 16


def test_mistakes_are_told(tmp_path: Path) -> None:
    study = nasdsl.study(space_of(), maximise="accuracy")
    trial = study.ask()
    assert trial is not None
    with pytest.raises(RunError, match="nothing measures `accuracy`"):
        study.tell(trial, {"loss": 1.0})
    for value in ({"accuracy": math.nan}, {"accuracy": math.inf}, {"accuracy": "good"}, "0.5", True, None):
        with pytest.raises(ArgumentError):
            study.tell(trial, value)  # type: ignore[arg-type]
    study.tell(trial, {"accuracy": 0.5})
    with pytest.raises(ArgumentError, match="trial 0 is complete"):
        study.tell(trial, {"accuracy": 0.5})
    with pytest.raises(ArgumentError, match="trial 7 was not asked for"):
        study.tell(7, {"accuracy": 0.5})
    with pytest.raises(CompileError, match="no search or method named `nsga`"):
        nasdsl.study(space_of(), method="nsga")
    with pytest.raises(ArgumentError, match="`search shrink` learns from data"):
        nasdsl.study(space_of(), method="shrink")
    with pytest.raises(ArgumentError, match="no use for `table`"):
        nasdsl.study(space_of(), table="t.csv")
    with pytest.raises(CompileError, match="has no setting `trails`"):
        nasdsl.study(space_of(), trails=3)
    with pytest.raises(RunError, match="cannot be opened"):
        nasdsl.study(space_of(), storage=tmp_path / "no" / "folder.db")


def test_whoever_watches_may_raise() -> None:
    def watch(progress: nasdsl.Progress) -> None:
        if progress.kind == "step":
            raise KeyboardInterrupt

    study = nasdsl.study(space_of(), on_progress=watch)
    trial = study.ask()
    assert trial is not None
    with pytest.raises(KeyboardInterrupt):
        study.tell(trial, 1.0)
    assert [one.objectives for one in study.trials] == [(1.0,)] and not study.pending
    with pytest.raises(ArgumentError, match="is complete"):
        study.tell(trial, 1.0)


def test_a_file_says_how(tmp_path: Path) -> None:
    section = (
        '  search evolve { function: "some:thing", method: random, trials: 3, minimise: value, maximise: macs }\n}\n'
    )
    (tmp_path / "said.space").write_text(ODDS.rstrip()[:-1] + section)
    study = nasdsl.study(tmp_path / "said.space")
    trials = []
    while (trial := study.ask()) is not None:
        trials.append(study.tell(trial, worth(trial.architecture)))
    assert len(trials) == 3 and study.objectives.directions == {"macs": True, "value": False}
    by = nasdsl.search(tmp_path / "said.space", worth, seed=0)
    assert [one.proposal for one in by.trials] == [one.proposal for one in study.trials]


def test_a_report_of_a_study(tmp_path: Path) -> None:
    with nasdsl.study(space_of(), maximise="value", minimise="macs") as study:
        for _ in range(5):
            trial = study.ask()
            assert trial is not None
            study.tell(trial, worth(trial.architecture))
        assert nasdsl.report(study, tmp_path / "r.html").told.startswith("5 trials")
