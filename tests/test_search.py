"""Whole searches: from a file to a smaller file, through kills, changes of mind, targets and tables."""

from __future__ import annotations

import dataclasses
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.elaborate.settings import read_values
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.runtime import search as searching
from nasdsl.runtime.checkpoint import load_checkpoint, load_weights
from nasdsl.runtime.data import DataSplits
from nasdsl.runtime.data.datasets import ClassificationSet
from nasdsl.runtime.data.images import Cached
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.fit import evaluate_space, train
from nasdsl.runtime.problem import Result, Silent
from nasdsl.runtime.search import Options, search
from nasdsl.runtime.settings import Settled, Train
from nasdsl.runtime.settle import settle
from nasdsl.runtime.tasks import TaskError
from nasdsl.runtime.trained import load_network
from nasdsl.runtime.trainer import Trainer
from tests.forks import Forks

pytestmark = pytest.mark.usefixtures("bars")

ROOT = Path(__file__).resolve().parents[1]

SPACE = """
space small {
  input 1 x 12 x 12
  operator searching(out, stride = 1) {
    mixconv(out, stride, hidden: { 3: units(12), 5: units(8) })
      + transformer(out, stride, tokens: units(4), size: 4) + skip(out, stride)
  }
  network {
    stem: conv(8, kernel: 3, stride: 2)
    a: searching(8)
    b: searching(8, stride: 2)
    classify(classes: 3)
  }
  search shrink {
    penalty: 1e-3 * macs, every: 1 epochs, warmup: 1, target: macs <= 0.5
    train: { epochs: 4, batch: 8, optimiser: { lr: 0.005 }, augment: flip, recalibrate: 2 }
  }
}
"""


def small_data(*args: Any, **options: Any) -> DataSplits:
    """Bars that stand, lie, or are not there, in noise."""

    def split(n: int, seed: int) -> ClassificationSet:
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 100, (n, 1, 12, 12), dtype=torch.uint8, generator=generator)
        labels = torch.arange(n) % 3
        pixels[labels == 1, :, :, 5:7] = 250
        pixels[labels == 2, :, 5:7, :] = 250
        return ClassificationSet(Cached.of(pixels), labels)

    classes = ("none", "standing", "lying")
    return DataSplits(split(44, 0), split(21, 1), "classification", classes, 1, (12, 12), "bars")


@pytest.fixture
def space(tmp_path: Path) -> Path:
    file = tmp_path / "small.space"
    file.write_text(SPACE)
    return file


def run(space: Path, name: str = "found", watch: Any = None, runtime: str | None = None, **given: Any) -> Result:
    """A search into `name`.space and the folder `name`; settings are text by dotted name."""
    settings = {key.replace("__", "."): value for key, value in given.pop("settings", {}).items()}
    out = space.parent / f"{name}.space"
    folder = given.pop("folder", space.parent / name)
    options = Options(run=folder, accelerator="cpu", overrides=read_values(settings), **given)
    found = search(read(space), out, options, runtime=runtime, watch=watch).result
    assert isinstance(found, Result)
    return found


def text_and_weights(space: Path, name: str = "found") -> tuple[str, dict[str, torch.Tensor]]:
    out = space.parent / f"{name}.space"
    return out.read_text().replace(name, "NAME"), load_weights(out.with_suffix(".safetensors"))[0]


def assert_same_results(space: Path, one: str, other: str) -> None:
    first, second = text_and_weights(space, one), text_and_weights(space, other)
    assert first[0] == second[0]
    assert set(first[1]) == set(second[1])
    for name, tensor in first[1].items():
        assert torch.equal(tensor, second[1][name]), name


# --- What a search gives ----------------------------------------------------------------------------------------------


def test_a_search_ends_at_its_target_with_a_network_that_works(space: Path) -> None:
    result = run(space)
    found = elaborate(read(space.parent / "found.space"))
    assert not found.graph.decisions
    network, about = load_network(found)
    assert cost_of(found.graph, {}) == {key: int(result.costs[key]) for key in ("macs", "params")}
    for name, tensor in result.network.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])
    assert sum(p.numel() for p in network.parameters()) == result.costs["params"]
    said = load_weights(space.parent / "found.safetensors")[1]
    assert about.task == "classification" and float(said["top1"]) == result.metrics["top1"]
    measured = evaluate_space(elaborate(read(space.parent / "found.space")), Options(accelerator="cpu"), None, 8)
    assert measured["top1"] == result.metrics["top1"]
    rows = [json.loads(line) for line in (space.parent / "found" / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    start = rows[0]["units_at_start"]
    assert start == 48 and all(a["units"] >= b["units"] for a, b in pairwise(rows))
    assert rows[-1]["macs"] == result.costs["macs"] and rows[-1]["units"] < start
    assert rows[0]["lambda"] == pytest.approx(1e-3) and rows[-1]["lambda"] == 0  # the target is met before the end
    units = elaborate(read(space)).graph.decisions
    left = {path: decision.n for path, decision in units.items()}
    for row in rows:  # each tells of what has become fewer, and together of all
        assert all(n < left[path] for path, n in row["kept"].items())
        left |= row["kept"]
        assert sum(left.values()) == row["units"]
    assert left == {path: len(result.architecture.indices.get(path, ())) for path in units}


def test_thinning_says_what_it_left(space: Path) -> None:
    result = run(space, runtime="thin", settings={"train__epochs": "2", "train__batch": "8"})
    rows = [json.loads(line) for line in (space.parent / "found" / "history.jsonl").read_text().splitlines()]
    assert rows[0]["kept"] == {path: len(units) for path, units in result.architecture.indices.items()}
    assert "kept" not in rows[1]


@pytest.mark.parametrize(
    ("target", "measure"), [("macs <= 0.4", "macs"), ("params <= 0.7", "params"), ("macs <= 20000", "macs")]
)
def test_targets(space: Path, target: str, measure: str) -> None:
    graph = elaborate(read(space)).graph
    whole = cost_of(graph, largest_values(graph))[measure]
    limit = float(target.split()[-1])
    limit *= whole if limit <= 1 else 1
    result = run(space, settings={"target": target, "train__epochs": "2"})
    assert 0.8 * limit <= result.costs[measure] <= limit  # a unit is much of so small a network
    assert elaborate(read(space.parent / "found.space")).graph.decisions == {}


def test_an_impossible_target_names_the_least(space: Path) -> None:
    with pytest.raises(CompileError) as caught:
        run(space, settings={"target": "macs <= 100"})
    (found,) = caught.value.diagnostics
    assert found.code == "budget-too-small" and "macs <= 100" in found.message
    assert "the least is " in found.help


def test_without_a_target_the_threshold_decides(space: Path) -> None:
    text = SPACE.replace(", target: macs <= 0.5", ", threshold: 0.985").replace("1e-3 * macs", "0.3 * macs")
    space.write_text(text)
    result = run(space, settings={"train__epochs": "2"})
    assert sum(len(v) for v in result.architecture.values()) < 48


def test_a_space_with_other_decisions_is_refused(space: Path) -> None:
    space.write_text(SPACE.replace("kernel: 3, stride: 2", "kernel: oneof(3, 5), stride: 2"))
    with pytest.raises(CompileError) as caught:
        run(space)
    (found,) = caught.value.diagnostics
    assert found.code == "unhandled-decision" and "stem" in found.message


def test_what_a_file_may_lack(space: Path) -> None:
    head, _, _ = SPACE.partition("  search shrink")
    space.write_text(head + "}\n")
    with pytest.raises(CompileError, match="no `search` section"):
        run(space)
    with pytest.raises(CompileError, match="no search named `shrnk`"):
        run(space, runtime="shrnk")
    result = run(space, runtime="shrink", settings={"train__epochs": "1", "train__batch": "8"})
    assert result.metrics["top1"] >= 0


def test_options_that_a_task_does_not_have(space: Path) -> None:
    space.write_text(SPACE.replace("augment: flip", "augment: flop"))
    with pytest.raises(TaskError, match="flop"):
        run(space)


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_seeds_have_a_range(seed: int) -> None:
    with pytest.raises(CompileError, match="seed"):
        Options(seed=seed)


# --- The same again ---------------------------------------------------------------------------------------------------


def test_the_same_seed_finds_the_same_and_another_does_not(space: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        run(space, name, seed=seed, settings={"train__epochs": "2"})
    assert_same_results(space, "one", "two")
    assert text_and_weights(space, "one")[0] != text_and_weights(space, "three")[0]


def test_a_finished_run_gives_its_result_again_without_training(space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"train__epochs": "2"}
    first = run(space, "one", settings=settings)
    history = (space.parent / "one" / "history.jsonl").read_bytes()

    def no_step(*args: Any) -> float:
        raise AssertionError("a finished run has nothing to train")

    monkeypatch.setattr(Trainer, "train_step", no_step)
    again = run(space, "two", folder=space.parent / "one", settings=settings)
    assert (first.metrics, first.costs) == (again.metrics, again.costs)
    assert_same_results(space, "one", "two")
    assert (space.parent / "one" / "history.jsonl").read_bytes() == history


class Stop(Silent):
    """Stops a run at a step, as a user with Ctrl-C does."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.notes: list[str] = []

    def step(self, done: int, facts: Any) -> None:
        if done >= self.at:
            raise KeyboardInterrupt

    def note(self, line: str) -> None:
        self.notes.append(line)


def test_a_run_by_the_defaults_says_what_they_were_and_goes_on(space: Path) -> None:
    text, start = SPACE, SPACE.index("    train: {")
    space.write_text(text[:start] + "    train: { epochs: 3 }\n  }\n}\n")
    watch = Stop(8)
    with pytest.raises(KeyboardInterrupt):
        run(space, "one", watch=watch)
    settled = settle(Train(epochs=3), len(small_data().train))
    assert watch.notes[0] == f"data: {small_data().description}"
    assert watch.notes[-1:] == [f"shrink: 3 epochs of 5 batches of {settled.batch}, adamw at {settled.optimiser.lr}"]
    told = json.loads((space.parent / "one" / "run.json").read_text())["settings"]["train"]
    assert Settled.model_validate(told) == settled
    for name in ("one", "two"):
        run(space, name)
    assert_same_results(space, "one", "two")
    given = {"train__batch": str(settled.batch), "train__optimiser__lr": str(settled.optimiser.lr)}
    run(space, "one", settings=given)  # the same, said
    with pytest.raises(RunError, match=rf"another train.batch \({settled.batch}, now 4\)"):
        run(space, "one", settings={"train__batch": "4", "train__optimiser__lr": str(settled.optimiser.lr)})


@pytest.fixture
def stopped(space: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        run(space, watch=Stop(6))
    return space


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "another seed"),
        ({"settings": {"train__epochs": "5"}}, r"another train.epochs \(4, now 5\)"),
        ({"settings": {"target": "macs <= 0.4"}}, r"another target.macs \(0.5, now 0.4\)"),
        ({"data": "other"}, "another data"),
    ],
)
def test_a_run_with_something_else_is_refused(stopped: Path, change: dict[str, Any], named: str) -> None:
    before = {file: file.read_bytes() for file in (stopped.parent / "found").glob("*.*")}
    with pytest.raises(RunError, match=named) as caught:
        run(stopped, **change)
    assert "--fresh" in caught.value.help
    assert {file: file.read_bytes() for file in (stopped.parent / "found").glob("*.*")} == before


def test_a_run_of_another_kind_is_left_alone(stopped: Path) -> None:
    before = {file: file.read_bytes() for file in (stopped.parent / "found").glob("*.*")}
    for fresh in (False, True):
        with pytest.raises(RunError, match="holds a run of `search shrink`, another search") as caught:
            run(stopped, runtime="thin", fresh=fresh)
        assert "--fresh" not in caught.value.help
    assert {file: file.read_bytes() for file in (stopped.parent / "found").glob("*.*")} == before


def test_a_changed_space_or_other_data_is_refused(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped.write_text(SPACE.replace("units(12)", "units(13)"))
    with pytest.raises(RunError, match="another space"):
        run(stopped)
    stopped.write_text(SPACE)
    fewer = dataclasses.replace(small_data(), description="fewer bars")
    monkeypatch.setattr(searching, "open_data", lambda *args, **options: fewer)
    with pytest.raises(RunError, match="another data"):
        run(stopped)


def test_fresh_starts_over(stopped: Path) -> None:
    run(stopped, fresh=True, seed=1, settings={"train__epochs": "2"})
    run(stopped, "other", seed=1, settings={"train__epochs": "2"})
    assert_same_results(stopped, "found", "other")
    run(stopped, "new", fresh=True, seed=1, settings={"train__epochs": "1"})  # nothing there yet


def test_folders_that_are_no_runs_are_left_alone(space: Path) -> None:
    folder = space.parent / "found"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(RunError, match="holds no run"):
            run(space, fresh=fresh)
    assert (folder / "thesis.txt").exists()
    with pytest.raises(RunError, match="is not a folder"):
        run(space, folder=space)


@pytest.mark.parametrize("fresh", [False, True])
def test_what_a_kill_in_the_first_moment_leaves_is_no_obstacle(space: Path, fresh: bool) -> None:
    folder = space.parent / "found"
    (folder / "events").mkdir(parents=True)
    (folder / ".run.json.x8d2.part").write_text("{")
    run(space, fresh=fresh, settings={"train__epochs": "1"})


def test_broken_files_of_a_run_are_told_of(stopped: Path) -> None:
    folder = stopped.parent / "found"
    whole = load_checkpoint(folder / "checkpoint.pt")
    (path, *_), (name, *_) = whole["kept"] or {"none": []}, whole["network"]
    other = {**whole["network"], name: torch.zeros(3, 1, 4)}
    for damage, message in (
        ({}, r"checkpoint.pt is no checkpoint: it lacks `step`"),
        ({**whole, "step": "4"}, r"is no checkpoint: `step` should be a valid integer"),
        ({**whole, "newer": 1}, r"is no checkpoint: it has `newer`, which is not known"),
        ({**whole, "kept": {path: [10**6]}}, rf"is that of another network: `{re.escape(path)}` has no such units"),
        ({**whole, "network": other}, rf"is that of another network: `{re.escape(name)}` differs"),
        ({**whole, "optimiser": {"a": {}}}, "is that of another network: its optimiser knows `a`"),
        (torch.zeros(3), "it is no checkpoint, but a Tensor"),
    ):
        torch.save(damage, folder / "checkpoint.pt")
        with pytest.raises(RunError, match=message) as caught:
            run(stopped)
        assert "`--fresh`" in caught.value.help
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match="cannot be read"):
        run(stopped)
    (folder / "run.json").write_text("[1]")
    with pytest.raises(RunError, match=r"run\.json is not what a run was started with: should be an object"):
        run(stopped)


# --- Kills ------------------------------------------------------------------------------------------------------------

KILLER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import test_search as t
import torch.utils.tensorboard
from nasdsl.compiler import files
from nasdsl.runtime import search as searching
from nasdsl.runtime import loop
from nasdsl.runtime.problem import Silent
searching.open_data = t.small_data
space, kills = Path(sys.argv[2]), [kill.split(":") for kill in sys.argv[3:]]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class KillAt(Silent):
    def __init__(self, at):
        self.at = at

    def step(self, done, facts):
        if done >= self.at:
            die()


def search(name, how, value):
    loop.CHECKPOINT_SECONDS = 0  # after every step
    watch = None
    if how == "step":
        watch = KillAt(int(value))
    if how == "write":  # in the middle of the n-th file
        plain, left = files.os.fsync, [int(value)]
        def fsync(handle):
            left[0] -= 1
            if left[0] == 0:
                os.ftruncate(handle, 100)
                die()
            plain(handle)
        files.os.fsync = fsync
    if how == "rename":  # before the n-th file gets its name
        plain, left = files.os.replace, [int(value)]
        def replace(*names):
            left[0] -= 1
            if left[0] == 0:
                die()
            plain(*names)
        files.os.replace = replace
    t.run(space, name, watch=watch)


def forked(name, how="", value=""):
    child = os.fork()  # before any gradient is computed here, so that a fork is as good as a new process
    if child == 0:
        search(name, how, value)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


assert forked("unbroken") == 0
for how, value in kills:
    code = forked("broken", how, value)
    assert code == -signal.SIGKILL, (how, value, code)
assert forked("broken") == 0
print("done")
"""


def killed(forks: Forks, space: Path, *kills: str) -> None:
    script = space.parent / "killer.py"
    script.write_text(KILLER)
    done = forks.script(script, str(Path(__file__).parent), str(space), *kills)
    assert done.code == 0, done.said
    assert_same_results(space, "unbroken", "broken")
    rows = [(space.parent / name / "history.jsonl").read_text() for name in ("unbroken", "broken")]
    assert rows[0] == rows[1]


def test_a_killed_search_ends_as_the_unbroken_one(space: Path, forks: Forks) -> None:
    """Killed within an epoch, while a checkpoint is written, and after a removal."""
    killed(forks, space, "step:3", "write:3", "rename:4", "step:11", "step:20")


# --- Training of what was found ---------------------------------------------------------------------------------------


def test_what_was_found_trains_and_goes_on_when_stopped(space: Path) -> None:
    run(space, settings={"train__epochs": "1"})
    source = read(space.parent / "found.space")
    overrides = {"epochs": 3, "batch": 8}

    def trained(name: str, watch: Any = None, inherit: Path | None = None) -> Result:
        folder = space.parent / name
        options = Options(run=folder, accelerator="cpu", overrides=overrides)
        return train(source, folder.with_suffix(".safetensors"), options, None, {}, inherit, watch)

    unbroken = trained("unbroken")
    for at in (3, 5, 11):
        with pytest.raises(KeyboardInterrupt):
            trained("broken", Stop(at))
    assert trained("broken").metrics == unbroken.metrics
    one, other = (load_weights(space.parent / f"{name}.safetensors")[0] for name in ("unbroken", "broken"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    histories = [(space.parent / name / "history.jsonl").read_text() for name in ("unbroken", "broken")]
    assert histories[0] == histories[1]
    tuned = trained("tuned", inherit=space.parent / "found.safetensors")
    assert tuned.costs == unbroken.costs and tuned.metrics != unbroken.metrics
    with pytest.raises(CompileError, match="are missing"):
        trained("lost", inherit=space.parent / "lost.safetensors")
