"""Architectures that are trained from scratch one after the other: inputs of any size, what cannot be trained, time."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

import nasdsl
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.parse import read
from nasdsl.runtime import evaluators, timing
from nasdsl.runtime import search as searching
from nasdsl.runtime.data import DataSplits, open_data
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.evaluators import ScratchEvaluator
from nasdsl.runtime.evolution.loop import FORGIVEN
from nasdsl.runtime.evolution.objectives import EvaluationError, Untrainable
from nasdsl.runtime.memory import lack_of_memory
from nasdsl.runtime.problem import Exploration
from nasdsl.runtime.search import Options, search
from nasdsl.runtime.settings import Train
from nasdsl.runtime.tasks import Task, find_task
from nasdsl.runtime.trainer import Trainer

SPACE = """
space sized {
  input oneof(1 x 8 x 8, 1 x 12 x 8, 3 x 12 x 12)
  network {
    stem: conv(oneof(2, 4), kernel: 3)
    classify(classes: 10)
  }
  search evolve { train: { epochs: 0.1, batch: 128, recalibrate: 0 }, method: random, trials: 6 }
}
"""
CHOICES = {"1 x 8 x 8": (1, 8, 8), "1 x 12 x 8": (1, 12, 8), "3 x 12 x 12": (3, 12, 12)}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sized.space"
    path.write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    return path


def run(file: Path, **overrides: Any) -> Exploration:
    options = Options(run=file.parent / "run", accelerator="cpu", overrides=overrides)
    found = search(read(file), file.parent / "best.space", options, runtime="evolve").result
    assert isinstance(found, Exploration)
    return found


def scratch(space: Any, **settings: Any) -> ScratchEvaluator:
    data = open_data(None, "classification", size=(8, 8), channels=1)
    task = find_task("classification").from_data(data)
    train = Train.model_validate({"epochs": 0.2, "batch": 128, "recalibrate": 0})
    return ScratchEvaluator(space, data, task, Fabric(accelerator="cpu", devices=1), train, **settings)


SMALL = """
space small {
  input 1 x 8 x 8
  network { conv(oneof(2, 4, 6, 8), kernel: oneof(1, 3)) -> classify(classes: 10) }
}
"""


@pytest.fixture(scope="module")
def small() -> Any:
    return nasdsl.loads(SMALL)


# --- Inputs of several sizes ------------------------------------------------------------------------------------------


def test_every_architecture_is_trained_at_its_own_input(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[int, ...]] = []
    seen: dict[Any, set[tuple[int, ...]]] = {}

    def open_sized(*args: Any, size: tuple[int, int], channels: int, **options: Any) -> DataSplits:
        opened.append((channels, *size))
        return open_data(*args, size=size, channels=channels, **options)

    class Watched(Trainer):
        def one_pass(self, images: torch.Tensor, targets: Any) -> float:
            shape = self.network.graph.input.shape
            seen.setdefault((shape.channels, shape.height, shape.width), set()).add(tuple(images.shape[1:]))
            return super().one_pass(images, targets)

    monkeypatch.setattr(searching, "open_data", open_sized)
    monkeypatch.setattr(evaluators, "Trainer", Watched)
    found = run(file, distinct="architecture")
    assert len(found.trials) == 6 == len({str(trial.architecture) for trial in found.trials})
    assert Counter(str(trial.architecture["input"]) for trial in found.trials) == dict.fromkeys(CHOICES, 2)
    assert seen == {size: {size} for size in CHOICES.values()}
    assert sorted(opened) == sorted(CHOICES.values()), "each size is opened once"


def test_searches_of_a_shared_supernet_have_one_size(file: Path) -> None:
    file.write_text(
        SPACE.replace(
            "search evolve { train: { epochs: 0.1, batch: 128, recalibrate: 0 }, method: random, trials: 6 }",
            "search sample { train: { epochs: 0.1 } }",
        )
    )
    with pytest.raises(CompileError, match="the size of the input is open to choice"):
        search(read(file), file.parent / "best.space", Options(accelerator="cpu"))


# --- What cannot be trained -------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_fails_a_trial_and_not_the_search(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel is 3, the second step diverges, and no third one is made."""
    steps: list[int] = []

    class Diverging(Trainer):
        def one_pass(self, images: torch.Tensor, targets: Any) -> float:
            loss = super().one_pass(images, targets)
            kernels = [m.kernel_size for m in self.network.modules() if isinstance(m, nn.Conv2d)]
            if (3, 3) not in kernels:
                return loss
            steps.append(self.step)
            return math.inf if self.step == 1 else loss

    monkeypatch.setattr(evaluators, "Trainer", Diverging)
    found = nasdsl.search(small, scratch(small), distinct="architecture", trials=8, seed=1)
    kernel = next(path for path in small.graph.decisions if "kernel" in path)
    assert [trial.architecture[kernel] for trial in found.trials] == [1] * 4
    assert steps == [0, 1] * 4
    evaluator = scratch(small)
    with pytest.raises(Untrainable, match="it has diverged: its loss is inf at step 2 of"):
        evaluator.evaluate(Architecture.of(small.graph, {kernel: 3, path_of(small, "out"): 4}), 0)


def path_of(space: Any, word: str) -> str:
    return next(path for path in space.graph.decisions if word in path)


def test_weights_that_are_no_numbers_are_found_by_the_validation_loss(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Trainer):
        def fit(self, *args: Any, **options: Any) -> None:
            super().fit(*args, **options)
            with torch.no_grad():
                next(self.network.parameters()).fill_(math.nan)

    monkeypatch.setattr(evaluators, "Trainer", Broken)
    with pytest.raises(Untrainable, match="its loss on the validation split is nan"):
        scratch(small).evaluate(nasdsl.sample(small)[0], 0)


MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1099511627776 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB)"),
]


@pytest.mark.parametrize(
    "problem",
    [MEMORY[1], *[pytest.param(one, marks=pytest.mark.long) for one in (MEMORY[0], *MEMORY[2:])]],
    ids=lambda problem: f"{type(problem).__name__} {problem}"[:40],
)
def test_what_does_not_fit_in_memory_is_told(small: Any, monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    monkeypatch.setattr(evaluators, "Trainer", _too_large_for(problem))
    with pytest.raises(Untrainable, match="it does not fit in memory"):
        scratch(small).evaluate(
            Architecture.of(small.graph, {path_of(small, "out"): 8, path_of(small, "kernel"): 1}), 0
        )


@pytest.mark.long
def test_what_does_not_fit_in_memory_fails_a_trial_and_not_the_search(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluators, "Trainer", _too_large_for(MEMORY[2]))
    found = nasdsl.search(small, scratch(small), distinct="architecture", trials=8)
    assert len(found.trials) == 6 and all(trial.architecture[path_of(small, "out")] < 8 for trial in found.trials)


def _too_large_for(problem: Exception) -> type[Trainer]:
    """A training that fails where a network is widest."""

    class Large(Trainer):
        def one_pass(self, images: torch.Tensor, targets: Any) -> float:
            if _width(self.network) == 8:
                raise problem
            return super().one_pass(images, targets)

    return Large


def _width(network: nn.Module) -> int:
    return next(m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d))


def test_real_lack_of_memory_is_known_and_other_mistakes_are_not() -> None:
    with pytest.raises(RuntimeError) as lacking:
        torch.empty(1 << 56)
    assert lack_of_memory(lacking.value) is not None
    with pytest.raises(RuntimeError) as other:
        torch.ones(2) @ torch.ones(3)
    assert lack_of_memory(other.value) is None


def test_a_mistake_in_the_training_ends_the_search(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Trainer):
        def one_pass(self, images: torch.Tensor, targets: Any) -> float:
            raise RuntimeError("shapes do not match")

    monkeypatch.setattr(evaluators, "Trainer", Wrong)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        nasdsl.search(small, scratch(small))


class Fails:
    """Every architecture but the first few cannot be trained."""

    headline = "worth"

    def __init__(self, good: int, problem: type[EvaluationError] = Untrainable):
        self.good, self.problem, self.asked = good, problem, 0

    def evaluate(self, architecture: Architecture, seed: int) -> dict[str, float]:
        self.asked += 1
        if self.asked > self.good:
            raise self.problem("it is too large")
        return {"worth": 1.0}


def test_a_search_of_which_most_fails_stops() -> None:
    space = nasdsl.load("nasbench201")
    for good in (0, 7):
        evaluator = Fails(good)
        with pytest.raises(RunError, match="cannot be evaluated: it is too large") as stopped:
            nasdsl.search(space, evaluator)
        assert evaluator.asked == 2 * good + FORGIVEN + 1
        assert f"{good + FORGIVEN + 1} trials failed and {good} are complete" in stopped.value.help
    few = Fails(0)
    with pytest.raises(RunError, match="cannot be evaluated"):
        nasdsl.search(space, few, failures=3)
    assert few.asked == 4
    plain = Fails(5, EvaluationError)
    with pytest.raises(RunError, match="cannot be evaluated"):
        nasdsl.search(space, plain)
    assert plain.asked == 6


# --- Time -------------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes where a network runs, in milliseconds by turns."""

    def __init__(self, turns: list[float]):
        self.now, self.turns, self.passes = 0.0, turns, 0

    def perf_counter(self) -> float:
        return self.now

    def tick(self, *_: Any) -> None:
        self.now += self.turns[self.passes % len(self.turns)] / 1e3
        self.passes += 1


def test_latency_is_the_median_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock([900, 900, 900, 2, 8, 4, 100, 6])
    monkeypatch.setattr(timing, "time", clock)
    shapes: list[Any] = []

    class Network(nn.Module):
        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            shapes.append((tuple(x_BCHW.shape), self.training, torch.is_inference_mode_enabled()))
            clock.tick()
            return x_BCHW

    network = Network().train()
    assert timing.milliseconds(network, (3, 5, 7), torch.device("cpu"), runs=5, warm_up=3) == pytest.approx(6)
    assert set(shapes) == {((1, 3, 5, 7), False, True)} and len(shapes) == 8
    assert network.training


def test_latency_is_measured_where_it_is_asked_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Any] = []

    def fake(network: nn.Module, size: tuple[int, int, int], device: torch.device) -> float:
        measured.append(size)
        return float(size[1] * size[2])

    monkeypatch.setattr(evaluators, "milliseconds", fake)
    found = run(file, maximise=["top1"], minimise=["latency"], distinct="architecture")
    assert found.objectives.directions == {"top1": True, "latency": False}
    for trial in found.trials:
        _, height, width = CHOICES[str(trial.architecture["input"])]
        assert trial.metrics["latency"] == height * width == trial.objectives[1]
    assert Counter(measured) == dict.fromkeys(CHOICES.values(), 2)
    measured.clear()
    again = search(
        read(file),
        file.parent / "other.space",
        Options(run=file.parent / "two", accelerator="cpu", overrides={"trials": 1}),
    ).result
    assert isinstance(again, Exploration) and not measured and "latency" not in again.trials[0].metrics


def test_a_real_latency_is_a_time(small: Any) -> None:
    metrics = scratch(small, latency=True).evaluate(nasdsl.sample(small)[0], 0)
    assert 0 < metrics["latency"] < 1e4


def test_options_of_the_task_are_those_of_the_training(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Task] = []

    class Watched(Trainer):
        def __init__(self, network: Any, task: Task, *args: Any, **options: Any):
            made.append(task)
            super().__init__(network, task, *args, **options)

    monkeypatch.setattr(evaluators, "Trainer", Watched)
    run(file, train={"epochs": 0.1, "batch": 128, "task": {"label_smoothing": 0.25}}, trials=3, distinct="architecture")
    assert {task.label_smoothing for task in made} == {0.25}  # type: ignore[attr-defined]
