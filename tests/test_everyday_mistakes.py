"""What goes wrong around nasdsl every day: each is told in the user's words, and nothing is left or lost."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import nasdsl
from nasdsl.cli import main
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.parse import read
from nasdsl.runtime import lock, storage
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.search import Options, search
from nasdsl.runtime.tasks import TaskError
from nasdsl.tell import diagnostics_of

CHOICES = """
space s {
  input 1 x 8 x 8
  network { conv(4, stride: 2) -> conv(4, kernel: oneof(1, 3, 5)) -> classify(classes: 10) }
  search sample { candidates: 2, follow: [], train: { epochs: 1, batch: 512, recalibrate: 0 } }
}
"""
ALONE = """
space one {
  input 1 x 8 x 8
  network { conv(4, stride: 2) -> classify(classes: 10) }
  train { epochs: 1, batch: 512, recalibrate: 0 }
}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.space").write_text(CHOICES)
    (tmp_path / "one.space").write_text(ALONE)
    (tmp_path / "worth.py").write_text("def f(a, s):\n    return float(len(str(dict(a))))\n")
    monkeypatch.delitem(sys.modules, "worth", raising=False)
    return tmp_path


def evolve(*more: str, trials: int = 2) -> int:
    start = ["search", "s.space", "--runtime", "evolve", "--function", "worth:f", "--trials", str(trials)]
    return main([*start, "--out", "b.space", *more])


# --- Options ----------------------------------------------------------------------------------------------------------

UNUSED = [
    (["--data", "."], "--data"),
    (["--data", ".", "--reader", "IDX files"], "--data"),
    (["--device", "cpu"], "--device"),
    (["--workers", "2"], "--workers"),
]


@pytest.mark.parametrize(("more", "named"), UNUSED)
def test_an_option_that_a_search_without_data_does_not_use_is_refused(
    here: Path, more: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evolve(*more) == 1
    assert f"error[unused-option]: `{named}` is of no use" in capsys.readouterr().err
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("search", "setting"),
    [("thin", "every=2"), ("thin", "penalty=1e-3 * macs"), ("screen", "rule=gumbel"), ("gradient", "screen.keep=2")],
)
def test_a_setting_that_another_search_uses_is_refused(
    here: Path, search: str, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "s.space", "--runtime", search, "--set", setting, "--out", "b.space"]) == 1
    name = setting.partition("=")[0].partition(".")[0]
    assert f"error[unused-option]: `search {search}` does not use `{name}`" in capsys.readouterr().err
    assert not (here / "runs").exists()


@pytest.mark.parametrize("runtime", ["sample", "evolve", "gradient"])
def test_a_latency_table_that_nothing_asks_for_is_refused(here: Path, runtime: str) -> None:
    table = here / "table.json"
    assert main(["profile", "s.space", "-o", str(table), "--repeats", "1"]) == 0
    overrides: dict[str, Any] = {"function": "worth:f"} if runtime == "evolve" else {}
    options = Options(latency=str(table), overrides=overrides)
    with pytest.raises(CompileError, match=r"`--latency` names a table, and nothing that `search .*` is told asks for"):
        search(read(Path("s.space")), Path("b.space"), options, runtime=runtime)
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    "option",
    [
        ["--target", "macs <= 1M", "--runtime", "evolve"],
        ["--trials", "5"],
        ["--budget", "macs <= 1M"],
        ["--supernet", "runs/x"],
        ["--storage", "memory"],
        ["--table", "t.csv"],
        ["--function", "worth:f"],
    ],
)
def test_a_short_option_of_another_search_is_refused_by_name(
    here: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "s.space", "--out", "b.space", *option]) == 1
    assert f"has no setting `{option[0][2:]}`" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_a_reader_without_data_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["search", "s.space", "--out", "b.space"], ["train", "one.space"], ["eval", "one.space"]):
        assert main([*command, "--reader", "IDX files"]) == 2
        assert "--reader says how --data is read" in capsys.readouterr().err


# --- Where weights go -------------------------------------------------------------------------------------------------


def test_a_training_has_a_place_for_its_weights_and_replaces_no_others(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "one.space", "--run", "a"]) == 0
    assert "the weights go to one.safetensors" in capsys.readouterr().err
    first = load_file("one.safetensors")
    assert main(["train", "one.space", "--run", "a"]) == 0  # the same run again: they are its own
    assert "the weights go to one.safetensors" in capsys.readouterr().err
    assert main(["train", "one.space", "--run", "b", "--seed", "1"]) == 0
    assert "the weights go to one_trained.safetensors" in capsys.readouterr().err
    kept, others = load_file("one.safetensors"), load_file("one_trained.safetensors")
    assert all(torch.equal(tensor, first[name]) for name, tensor in kept.items())
    assert not all(torch.equal(tensor, first[name]) for name, tensor in others.items())
    assert main(["train", "one.space", "--run", "c", "--seed", "2"]) == 2
    assert "one.safetensors and one_trained.safetensors hold other weights" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ALONE.encode())))
    assert main(["train", "-", "--run", "d"]) == 2


# --- Databases --------------------------------------------------------------------------------------------------------


def garbage(file: Path) -> None:
    file.write_bytes(b"this is no database" * 100)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def holes(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[4096:12288] = bytes(8192)
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [garbage, cut, holes])
def test_a_damaged_database_is_told(here: Path, damage: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert evolve() == 0
    capsys.readouterr()
    for file in (here / "runs" / "b").glob("trials.db-*"):
        file.unlink()
    damage(here / "runs" / "b" / "trials.db")
    for command in (["trials", "runs/b"], ["report", "runs/b", "-o", "x.html"]):
        code = main(command)
        assert "internal" not in capsys.readouterr().err
        assert code == 1
    assert evolve(trials=3) == 1
    assert "error[run]: the database" in capsys.readouterr().err


def test_a_database_that_is_locked_is_waited_for_once(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evolve() == 0
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.2)
    owner = sqlite3.connect("runs/b/trials.db", isolation_level=None)
    owner.execute("begin exclusive")
    try:
        assert evolve(trials=3) == 1
    finally:
        owner.close()
    said = capsys.readouterr().err
    assert "database is locked" in said and "internal" not in said
    assert evolve(trials=3) == 0


def test_a_database_that_can_only_be_read_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evolve() == 0
    url = f"sqlite:///file:{here}/runs/b/trials.db?mode=ro&uri=true"
    assert evolve("--storage", url, "--run", "other") == 1
    said = capsys.readouterr().err
    assert "readonly" in said and "internal" not in said


def test_a_database_that_vanishes_ends_a_search_in_words(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "worth.py").write_text(
        "import os, sqlite3\n"
        "def f(a, s):\n"
        "    with sqlite3.connect('runs/b/trials.db') as database:\n"
        "        database.execute('drop table trials')\n"
        "    return 1.0\n"
    )
    assert evolve() == 1
    said = capsys.readouterr().err
    assert "the database of the trials has failed" in said and "internal" not in said


@pytest.mark.parametrize("kind", ["trials", "attributes", "directions"])
def test_another_programs_study_of_the_same_name_is_left_alone(
    here: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{here}/theirs.db"
    ways: list[Literal["minimize", "maximize"]] = ["minimize", "maximize"] if kind == "directions" else ["maximize"]
    theirs = optuna.create_study(storage=url, study_name="s", directions=ways)
    if kind == "trials":
        theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    elif kind == "attributes":
        theirs.set_user_attr("owner", "me")
    before = (theirs.user_attrs, len(theirs.trials))
    assert evolve("--storage", url) == 1
    assert "was not started by nasdsl" in capsys.readouterr().err
    again = optuna.load_study(storage=url, study_name="s")
    assert (again.user_attrs, len(again.trials)) == before
    assert evolve("--storage", url, "--set", "study=mine", "--run", "mine") == 0


# --- Memory, devices --------------------------------------------------------------------------------------------------

LACKS = [
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f8")),  # type: ignore[attr-defined]
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("std::bad_alloc"),
]


@pytest.mark.parametrize("problem", LACKS, ids=lambda problem: type(problem).__name__)
def test_too_little_memory_is_no_mistake_of_nasdsl(problem: Exception) -> None:
    (told,) = diagnostics_of(problem)
    assert told.code == "memory"


@pytest.mark.parametrize("device", ["gpu0", "cuda:7", "", "mps"])
def test_a_device_that_is_not_there_is_told(here: Path, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["search", "s.space", "--out", "b.space"],
        ["train", "one.space"],
        ["profile", "s.space", "-o", "p"],
    ):
        assert main([*command, "--device", device]) == 1
        assert "error[run]: " in capsys.readouterr().err
    assert not (here / "runs").exists()


# --- Several processes ------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from nasdsl.runtime.lock import hold
hold(Path(sys.argv[1]), shared=sys.argv[2] == "shared")
print("held", flush=True)
sys.stdin.read()
"""


def holder(folder: Path, how: str) -> subprocess.Popen[str]:
    """Another process that is at work in a run's folder."""
    command = [sys.executable, "-c", HOLDER, str(folder), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks there")
def test_two_runs_in_one_folder_at_once_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "one.space", "--run", "run"]) == 0
    capsys.readouterr()
    with holder(here / "run", "alone") as other:
        for more in ([], ["--fresh"]):
            assert main(["train", "one.space", "--run", "run", *more]) == 1
            assert "error[run]: another process is at work in run" in capsys.readouterr().err
        other.kill()
        other.wait()
    assert (here / "run" / "run.json").exists()
    assert main(["train", "one.space", "--run", "run", "--fresh"]) == 0  # the lock has died with its process


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks there")
def test_workers_of_one_search_share_its_folder_and_none_of_them_starts_over(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evolve() == 0
    with holder(here / "runs" / "b", "shared") as other:
        assert evolve(trials=3) == 0
        assert evolve("--fresh") == 1
        assert "another process is at work" in capsys.readouterr().err
        other.kill()
        other.wait()
    assert evolve("--fresh") == 0


def test_one_process_may_go_on_in_its_folder_and_gives_it_back(tmp_path: Path) -> None:
    lock.hold(tmp_path)
    lock.hold(tmp_path)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    lock.hold(tmp_path)  # the folder that is there now
    lock.let_go(tmp_path)
    lock.let_go(tmp_path)
    with holder(tmp_path, "alone") as other:
        with pytest.raises(RunError, match="another process is at work"):
            lock.hold(tmp_path)
        other.kill()


def test_one_of_several_processes_prints(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "one.space", "--run", "a"]) == 0
    alone = capsys.readouterr().out
    monkeypatch.setenv("RANK", "1")
    assert main(["eval", "one.space"]) == 0
    assert main(["eval", "missing.space", "--format", "json"]) == 1
    said = capsys.readouterr()
    assert alone and said.out == said.err == ""


# --- Degenerate sizes -------------------------------------------------------------------------------------------------


def images(folder: Path, counts: dict[str, dict[str, int]], side: int = 8) -> str:
    rng = np.random.default_rng(0)
    for split, classes in counts.items():
        for name, n in classes.items():
            (folder / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return str(folder)


VECTOR = """
space vector {
  param classes = 2
  input 3 x SIDE x SIDE
  network { conv(4, kernel: oneof(1, 3), norm: none) -> global_pool() -> norm(norm: NORM) -> classify(classes) }
  search sample { candidates: 1, follow: [], train: { epochs: 1, batch: BATCH, recalibrate: 1 } }
}
"""


def vector(batch: int, side: int = 8, norm: str = "batch") -> str:
    return VECTOR.replace("SIDE", str(side)).replace("BATCH", str(batch)).replace("NORM", norm)


@pytest.mark.parametrize("runtime", ["sample", "gradient"])
@pytest.mark.parametrize("side", [1, 8])
def test_a_batch_of_one_at_a_norm_is_told_before_training(here: Path, runtime: str, side: int) -> None:
    data = images(here / "data", {"train": {"a": 4, "b": 5}, "val": {"a": 1, "b": 1}}, side)
    file = here / "vector.space"
    file.write_text(vector(side=side, batch=1))
    options = Options(data=data, accelerator="cpu", overrides={"train": {"epochs": 1, "batch": 1}})
    with pytest.raises(RunError, match=r"gets one value of each channel.*the batch is one image"):
        search(read(file), here / "out.space", options, runtime=runtime)
    assert not (here / "runs").exists()


@pytest.mark.parametrize("batch", [4, 1])
def test_rests_of_one_image_and_other_norms_do_no_harm(here: Path, batch: int) -> None:
    data = images(here / "data", {"train": {"a": 4, "b": 5}, "val": {"a": 1, "b": 1}})
    file = here / "vector.space"
    file.write_text(vector(batch=batch, norm="group, norm_groups: 2" if batch == 1 else "batch"))
    options = Options(data=data, accelerator="cpu")
    assert search(read(file), here / "out.space", options).files == [here / "out.space"]


def test_one_image_and_one_class_are_told(here: Path) -> None:
    file = here / "vector.space"
    file.write_text(vector(batch=2))
    one = images(here / "one", {"train": {"a": 1, "b": 1}, "val": {"a": 1, "b": 1}})
    with pytest.raises(RunError, match="one image is left to train on"):
        search(read(file), here / "out.space", Options(data=one, accelerator="cpu"))
    alike = images(here / "alike", {"train": {"a": 5}, "val": {"a": 2}})
    with pytest.raises(TaskError, match="needs at least 2 classes to tell apart, and the data has `a`"):
        search(read(file), here / "out.space", Options(data=alike, accelerator="cpu"))
    assert not (here / "runs").exists()


# --- Ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["regularised", "random", "local"])
def test_a_search_that_has_evaluated_all_there_is_says_so_and_is_complete(
    here: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # again: there is still nothing left
        assert evolve("--set", f"method={method}", "--set", "distinct=architecture", trials=50) == 0
        said = capsys.readouterr()
        assert "the search is complete: nothing is left to evaluate after 3 of 50 trials" in said.err
        assert " trials  3" in said.out
    assert nasdsl.load("b.space").name == "b"
    assert os.path.exists("runs/b/trials.db")
