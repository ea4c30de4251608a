"""The training loop: gradients, averages, recalibration, resuming, precision, tasks, and several processes."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from nasdsl.compiler.files import write_text, write_whole
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.checkpoint import (
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from nasdsl.runtime.data import DataSplits, open_data
from nasdsl.runtime.data.datasets import ClassificationSet
from nasdsl.runtime.data.images import Cached
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.optim import averaged, decayed
from nasdsl.runtime.penalty import groups_of
from nasdsl.runtime.settings import Train
from nasdsl.runtime.tasks import Classification, find_task
from nasdsl.runtime.trainer import Trainer
from tests.forks import Forks

ROOT = Path(__file__).resolve().parents[1]
LOSS = {"weight_decay": 1e-5, "weight_decay_form": "loss"}

NET = """
space net {
  param task in [classification, segmentation, keypoints]
  param classes = match task { classification: 3, segmentation: 11, keypoints: 5 }
  param channels = 1
  param height = 12
  param width = 12
  input channels x height x width
  operator searching(out, stride = 1) {
    mixconv(out, stride, hidden: { 3: units(8), 5: units(6) })
      + transformer(out, stride, tokens: units(4), size: 4) + skip(out, stride)
  }
  network {
    stem: conv(8, kernel: 3, stride: 2)
    searching(8)
    searching(8, stride: 2)
    head: match task {
      classification: classify(classes)
      segmentation: segment(classes)
      keypoints: upsample(to: 1/2) -> keypoints(classes)
    }
  }
}
"""


@cache
def data(train: int = 28, val: int = 12) -> DataSplits:
    def split(n: int, seed: int) -> ClassificationSet:
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 256, (n, 1, 12, 12), dtype=torch.uint8, generator=generator)
        return ClassificationSet(Cached.of(pixels), torch.randint(0, 3, (n,), generator=generator))

    return DataSplits(split(train, 0), split(val, 1), "classification", ("x", "y", "z"), 1, (12, 12), "noise")


@cache
def graph(**defines: str) -> Graph:
    return elaborate(Source(NET), None, defines).graph


def supernet(seed: int = 0, **defines: str) -> Supernet:
    torch.manual_seed(seed)
    return Supernet(graph(**defines))


def trainer(seed: int = 0, splits: DataSplits | None = None, **settings: Any) -> Trainer:
    given = {"batch": 8, "epochs": 4, "recalibrate": 2, "optimiser": {"lr": 1e-2}, **LOSS, "ema": {}, **settings}
    splits = splits or data()
    train = Train.model_validate(given)
    fabric = Fabric(accelerator="cpu", devices=1, precision=train.precision)
    return Trainer(supernet(seed), Classification.from_data(splits), splits, train, fabric, seed)


def half(network: Supernet) -> dict[str, tuple[int, ...]]:
    return {group.path: group.kept[::2] for group in groups_of(network)}


def everything(one: Trainer) -> dict[str, torch.Tensor]:
    """A copy of all that a trainer's future hangs on."""
    out = {f"network {name}": t for name, t in one.network.state_dict().items()}
    if one.average is not None:
        out |= {f"average {name}": t for name, t in one.average.values.items()}
    names = {id(p): name for name, p in one.network.named_parameters()}
    for p, state in one.optimiser.state.items():
        out |= {f"{names[id(p)]} {key}": t for key, t in state.items() if isinstance(t, torch.Tensor)}
    return {name: t.detach().clone() for name, t in out.items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert set(one) == set(other)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


# --- Steps ------------------------------------------------------------------------------------------------------------


def gradients(one: Trainer) -> dict[str, torch.Tensor]:
    """Those of the first batch as the optimiser sees them; the network keeps its weights."""
    images, targets = next(iter(one.loader.epoch(0)))
    weights = copy.deepcopy(one.network.state_dict())
    one.optimiser.step = lambda: None  # type: ignore[method-assign, assignment]
    one.train_step(images, targets)
    one.network.load_state_dict(weights)
    return {name: p.grad.clone() for name, p in one.network.named_parameters() if p.grad is not None}


def test_decay_in_the_loss_has_autograds_gradient() -> None:
    plain, decaying = gradients(trainer(weight_decay=0.0)), gradients(trainer(weight_decay=0.3))
    network = supernet()
    parameters = dict(network.named_parameters())
    (0.5 * 0.3 * sum(p.square().sum() for n, p in parameters.items() if decayed(n, p))).backward()  # type: ignore[union-attr]
    for name, p in parameters.items():
        extra = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(decaying[name], plain[name] + extra, rtol=1e-4, atol=1e-6)
        assert (p.grad is None) == (p.dim() < 2)


def test_gradients_are_clipped_to_a_norm() -> None:
    def norm(values: dict[str, torch.Tensor]) -> float:
        return float(torch.cat([v.flatten() for v in values.values()]).norm())

    free = gradients(trainer())
    assert norm(free) > 0.01
    assert norm(gradients(trainer(clip=0.01))) == pytest.approx(0.01, rel=1e-3)


def test_every_parameter_has_a_gradient_before_and_after_a_cut() -> None:
    one = trainer()
    for _ in range(2):
        one.fit(one.step + 1)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in one.network.parameters())
        one.shrink(half(one.network))


def test_the_rate_follows_the_schedule() -> None:
    one = trainer(optimiser={"lr": 0.01, "lr_batch": 4}, schedule={"name": "step", "milestones": [1, 2]})
    seen = []
    one.fit(on_step=lambda t, loss: seen.append(t.optimiser.param_groups[0]["lr"]))
    assert one.steps == 12 and one.steps_per_epoch == 3
    assert seen == pytest.approx([0.02] * 3 + [0.002] * 3 + [0.0002] * 6)


def test_the_loss_falls() -> None:
    losses: list[float] = []
    trainer(epochs=20, weight_decay=0.0).fit(on_step=lambda t, loss: losses.append(loss))
    assert sum(losses[-6:]) < 0.7 * sum(losses[:6])


def test_a_run_may_be_part_of_an_epoch_and_a_batch_all_of_the_data() -> None:
    short = trainer(epochs=0.4)
    short.fit()
    assert short.step == short.steps == 1
    large = trainer(batch=28, epochs=2)
    large.fit()
    assert large.step == large.steps == 2
    assert large.evaluate()["loss"] > 0


# --- Measuring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recalibrate", [0, 2])
@pytest.mark.parametrize("ema", [None, {"decay": 0.9}])
def test_evaluating_changes_nothing(recalibrate: int, ema: dict[str, float] | None) -> None:
    one = trainer(recalibrate=recalibrate, ema=ema)
    one.fit(3)
    before, momenta = everything(one), [m.momentum for m in norms(one.network)]
    first = one.evaluate()
    assert_same(everything(one), before)
    assert [m.momentum for m in norms(one.network)] == momenta
    assert one.evaluate() == first


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def test_what_is_measured_is_the_average() -> None:
    one = trainer(recalibrate=0)
    one.fit(3)
    assert one.average is not None
    with one.averaged(0) as network:
        weights = {n: t.clone() for n, t in averaged(network).items()}
    assert_same(weights, one.average.values)


def test_recalibrated_statistics_are_means_over_batches() -> None:
    one = trainer(ema=None)
    one.fit(2)
    stem: Any = one.network.layers["stem"]
    seen: list[torch.Tensor] = []
    handle = stem.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    one.recalibrate(2)
    handle.remove()
    assert len(seen) == 2
    means = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    variances = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(stem.norm.running_mean, means, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(stem.norm.running_var, variances, rtol=1e-4, atol=1e-6)
    assert not one.network.training and not any(m.training for m in one.network.modules())


def test_the_metric_is_that_of_the_whole_split() -> None:
    one = trainer()
    one.fit(2)
    one.network.eval()
    images, targets = zip(*one.val_loader.epoch(0), strict=True)
    outputs = torch.cat([one.network(x) for x in images]).detach()
    labels = torch.cat(targets)
    measured = one.measure()
    assert measured["top1"] == pytest.approx(float((outputs.argmax(1) == labels).float().mean()))
    assert measured["loss"] == pytest.approx(float(nn.functional.cross_entropy(outputs, labels)), rel=1e-5)


# --- The same again, and going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_same_seed_gives_the_same_run(precision: str) -> None:
    runs = []
    for seed in (1, 1, 2):
        one = trainer(seed, precision=precision)
        one.fit(3)
        one.shrink(half(one.network))
        one.fit(6)
        assert all(t.isfinite().all() and t.dtype == torch.float32 for t in one.network.parameters())
        runs.append((everything(one), one.evaluate()))
    assert_same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert not torch.equal(runs[0][0]["network layers.stem.conv.weight"], runs[2][0]["network layers.stem.conv.weight"])


@pytest.mark.parametrize("optimiser", ["sgd", "rmsprop", "adam", "adamw"])
@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_resumed_run_is_the_unbroken_run(optimiser: str, stop: int, tmp_path: Path) -> None:
    """Dropout, order of images, moments, averages, statistics: bit by bit, with a cut before or after the stop."""
    settings: dict[str, Any] = {"optimiser": {"name": optimiser, "lr": 1e-3}, "augment": "flip", "clip": 1.0}

    def go_on(one: Trainer) -> Trainer:
        while one.step < 7:
            one.fit(4 if one.step < 4 else 7)
            if one.step == 4:
                one.shrink(half(one.network))
        return one

    unbroken = go_on(trainer(**settings))
    broken = trainer(**settings)
    broken.fit(min(stop, 4))
    if stop > 4:
        broken.shrink(half(broken.network))
        broken.fit(stop)
    broken.rows.append({"step": broken.step, "top1": 0.5})
    save_checkpoint(tmp_path / "checkpoint.pt", broken.state())
    resumed = trainer(7 if optimiser == "sgd" else 0, **settings)  # fresh weights do not matter, the seed does
    resumed.seed = resumed.loader.seed = 0
    resumed.load(load_checkpoint(tmp_path / "checkpoint.pt"))
    assert resumed.step == stop and resumed.rows == broken.rows
    assert_same(everything(go_on(resumed)), everything(unbroken))
    assert resumed.evaluate() == unbroken.evaluate()


def test_what_was_loaded_is_a_copy() -> None:
    one = trainer()
    one.fit(2)
    state = one.state()
    other = trainer()
    other.load(state)
    before = everything(other)
    one.fit(4)
    assert_same(everything(other), before)


# --- Files ------------------------------------------------------------------------------------------------------------


def test_files_are_whole_or_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "first")
    assert path.read_text() == "first" and path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(TypeError):
        save_weights(path, {"x": torch.zeros(2)}, {"number": 3})  # type: ignore[dict-item]
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_weights_come_back_with_what_is_said_of_them(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), "b": torch.tensor(3)}
    save_weights(tmp_path / "w.safetensors", tensors, {"task": "classification"})
    loaded, about = load_weights(tmp_path / "w.safetensors")
    assert_same(loaded, tensors)
    assert about == {"task": "classification"}


class Trap:
    """What touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    torch.save({"bad": Trap(tmp_path / "sprung")}, tmp_path / "checkpoint.pt")
    with pytest.raises(RunError, match="more than tensors and plain values"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "checkpoint.pt", weights_only=False)
    assert (tmp_path / "sprung").exists()


def test_a_writer_that_is_killed_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "first")

    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        write_whole(path, write)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 2  # with what the writer began


# --- Tasks and sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classification", "segmentation", "keypoints"])
def test_the_embedded_data_trains_for_each_task(task: str) -> None:
    size = (16, 16) if task == "classification" else (32, 32)
    splits = open_data(None, task, size=size, channels=1, canvas=(32, 32), scenes=(16, 8))
    classes = {"classification": "10", "segmentation": "11", "keypoints": "5"}[task]
    network = supernet(task=task, height=str(size[0]), width=str(size[1]), classes=classes)
    augment = "none" if task == "keypoints" else "flip"
    train = Train.model_validate({"batch": 8, "epochs": 2, "augment": augment, "recalibrate": 1})
    one = Trainer(network, find_task(task).from_data(splits), splits, train, Fabric(accelerator="cpu", devices=1))
    one.fit(2)
    one.shrink(half(network))
    one.fit(4)
    measured = one.evaluate()
    assert one.task.headline in measured and all(torch.tensor(v).isfinite() for v in measured.values())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_odd_sizes(precision: str) -> None:
    """180 x 240 does not halve evenly to 1/8; 45 x 59 never does."""
    for height, width in ((180, 240), (45, 59)):
        splits = open_data(None, "segmentation", size=(height, width), canvas=(64, 64), scenes=(4, 2))
        network = supernet(task="segmentation", channels="3", height=str(height), width=str(width))
        train = Train.model_validate({"batch": 2, "epochs": 2, "precision": precision, "recalibrate": 1})
        fabric = Fabric(accelerator="cpu", devices=1, precision=train.precision)
        one = Trainer(network, find_task("segmentation").from_data(splits), splits, train, fabric)
        one.fit(1)
        one.shrink(half(network))
        one.fit(2)
        assert 0 <= one.evaluate()["mIoU"] <= 1


# --- Several processes ------------------------------------------------------------------------------------------------

RANKS = """
import copy, hashlib, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import test_trainer as t
from nasdsl.runtime.search import Options, fabric_for, leave
from nasdsl.runtime.settings import Train
from nasdsl.runtime.tasks import Classification
from nasdsl.runtime.trainer import Trainer

fabric = fabric_for(Options(accelerator="cpu"), "32-true")
assert fabric.world_size == 2, fabric.world_size
given = {"batch": 8, "epochs": 4, "recalibrate": int(sys.argv[3]), "optimiser": {"lr": 1e-2}, "augment": "flip"}
given["freeze"] = sys.argv[4].split()
splits = t.data()

def make():
    network = t.supernet()
    return Trainer(network, Classification.from_data(splits), splits, Train.model_validate(given), fabric)

one = make()
one.fit(4)
one.shrink(t.half(one.network))
one.fit(6)
state = fabric.broadcast(copy.deepcopy(one.state()))
one.shrink(t.half(one.network))
one.fit(9)
other = make()
other.load(state)
other.shrink(t.half(other.network))
other.fit(9)
parameters = {n: p.detach() for n, p in one.network.named_parameters()}
same = all(torch.equal(p, q) for p, q in zip(one.network.parameters(), other.network.parameters(), strict=True))
gradients = [p.grad for p in one.network.parameters()]
text = repr([(n, p.tolist()) for n, p in parameters.items()])
text += repr([None if g is None else g.tolist() for g in gradients])
fact = {
    "parameters": hashlib.sha256(text.encode()).hexdigest(),
    "resumed": same,
    "measured": one.evaluate(),
    "again": other.evaluate(),
    "batch": one.batch,
    "frozen": sum(g is None for g in gradients),
    "units": sum(map(len, one.network.kept.values())),
}
Path(sys.argv[2], f"{fabric.global_rank}.json").write_text(json.dumps(fact))
leave(0)
"""


@pytest.mark.long
def test_torchrun_starts_processes_that_train_one_network(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    arguments = [str(Path(__file__).parent), str(tmp_path), "0", ""]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    trained_alike(tmp_path, done.stderr, frozen=False)


@pytest.mark.slow
def test_two_processes_train_one_network_through_cuts(tmp_path: Path, forks: Forks) -> None:
    """With batch statistics measured anew, and parts that do not learn."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    arguments = [str(Path(__file__).parent), str(tmp_path), "2", "stem searching[0].mixconv"]
    done = forks.script(script, *arguments, ranks=2)
    assert done.code == 0, done.said
    trained_alike(tmp_path, done.said, frozen=True)


def trained_alike(folder: Path, said: str, frozen: bool) -> None:
    assert "unused" not in said
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert (first["frozen"] > 0) == frozen
    assert first["batch"] == 4 and first["resumed"] and first["measured"] == first["again"]
