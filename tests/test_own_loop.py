"""A supernet in somebody's own training loop, in ten lines, by hand and with Lightning; and what is taken out of it."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import nasdsl
from nasdsl.compiler.diagnostics import ArgumentError, CompileError

SPACE = """
space digits {
  input 1 x 8 x 8
  network {
    stem: conv(oneof(8, 16), kernel: 3)
    body: repeat oneof(1..2) { residual { conv(oneof(8, 16), kernel: oneof(3, 5)) -> conv(16) } }
    classify(classes: 10)
  }
}
""".replace("oneof(8, 16), kernel: 3)", "16, kernel: 3)")


@pytest.fixture(scope="module")
def digits() -> tuple[DataLoader[Any], DataLoader[Any]]:
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(bunch.target)
    train, val = TensorDataset(images[:600], labels[:600]), TensorDataset(images[600:800], labels[600:800])
    return DataLoader(train, 50, shuffle=True, generator=torch.Generator().manual_seed(0)), DataLoader(val, 200)


def accuracy_of(network: torch.nn.Module, val: DataLoader[Any]) -> float:
    network.eval()
    with torch.no_grad():
        return float(torch.cat([(network(images).argmax(1) == labels).float() for images, labels in val]).mean())


def taken_out(supernet: Any, space: Any, train: Any, val: Any, folder: Path) -> None:
    """The best architecture inside a budget by the supernet's weights, and its network as plain torch."""

    def accuracy(architecture: nasdsl.Architecture) -> float:
        supernet.activate(architecture)
        return accuracy_of(nasdsl.recalibrate(supernet, train, 4), val)

    most = nasdsl.cost_range(space)["macs"][1]
    found = nasdsl.search(space, accuracy, method="random", budget=f"macs <= {0.7 * most:.0f}", trials=4)
    assert found.metrics["value"] > 0.7, "chance is 0.1"
    network = nasdsl.recalibrate(supernet.extract(found.architecture), train, 12)
    assert accuracy_of(network, val) > 0.7 and nasdsl.cost(space, found.architecture)["macs"] <= 0.7 * most
    exported = nasdsl.export(network, folder / "best.py")
    assert exported.difference < 1e-5
    spec = importlib.util.spec_from_file_location("best", folder / "best.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert accuracy_of(module.load(), val) == accuracy_of(network, val)


def test_ten_lines_of_a_loop(digits: Any, tmp_path: Path) -> None:
    train, val = digits
    torch.manual_seed(0)
    space = nasdsl.loads(SPACE)
    supernet, draws = nasdsl.supernet(space), nasdsl.draws(space)
    optimiser = torch.optim.AdamW(supernet.parameters(), 0.01)
    for epoch in range(3):
        for step, (images, labels) in enumerate(train):
            for architecture in draws(epoch * len(train) + step):
                supernet.activate(architecture)
                F.cross_entropy(supernet(images), labels).backward()
            optimiser.step()
            optimiser.zero_grad()
    taken_out(supernet, space, train, val, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_ten_lines_with_lightning(digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lightning = pytest.importorskip("pytorch_lightning")
    monkeypatch.chdir(tmp_path)
    train, val = digits
    torch.manual_seed(0)
    space = nasdsl.loads(SPACE)

    class OneShot(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.supernet, self.draws = nasdsl.supernet(space), nasdsl.draws(space, random=1)

        def training_step(self, batch: Any, step: int) -> torch.Tensor:
            images, labels = batch
            return sum(F.cross_entropy(self.run(one, images), labels) for one in self.draws(self.global_step))  # type: ignore[return-value]

        def run(self, architecture: Any, images: torch.Tensor) -> torch.Tensor:
            self.supernet.activate(architecture)
            return self.supernet(images)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), 0.01)

    module = OneShot()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(module, train)
    taken_out(module.supernet, space, train, val, tmp_path)


def test_draws_hang_on_the_step_alone() -> None:
    space = nasdsl.loads(SPACE)
    one, other = nasdsl.draws(space, seed=3), nasdsl.draws(space, seed=3)
    assert [one(step) for step in range(4)] == [other(step) for step in reversed(range(4))][::-1]
    assert one(0) != nasdsl.draws(space, seed=4)(0) or one(1) != nasdsl.draws(space, seed=4)(1)
    first = iter(one)
    assert next(first) == one(0) and next(first) == one(1)
    costs = [nasdsl.cost(space, architecture)["macs"] for architecture in one(0)]
    assert costs[0] == max(costs) and costs[-1] == min(costs) and len(costs) == 4
    assert repr(nasdsl.draws(space, "sandwich", random=1)) == "Draws(name sandwich, random 1, seed 0)"
    limited = nasdsl.draws(space, "budget", at_most="macs <= 400K", architectures=5)
    assert all(nasdsl.cost(space, drawn)["macs"] <= 400_000 for drawn in limited(0))
    with pytest.raises(CompileError, match="has no setting `randm`"):
        nasdsl.draws(space, "sandwich", randm=1)
    with pytest.raises(CompileError, match="`name`"):
        nasdsl.draws(space, "sandwhich")


def test_norms_are_those_of_what_runs() -> None:
    space = nasdsl.loads(SPACE)
    supernet = nasdsl.supernet(space)
    (architecture,) = nasdsl.sample(space, 1, seed=1)
    batches = [torch.randn(6, 1, 8, 8) * 3 + 1 for _ in range(5)]
    before = copy.deepcopy(supernet.state_dict())
    supernet.activate(architecture)
    nasdsl.recalibrate(supernet, batches, most=3)
    alone = supernet.extract(architecture)
    nasdsl.recalibrate(alone, [(batch, None) for batch in batches[:3]])
    assert torch.allclose(alone(batches[4]), supernet(batches[4]), atol=1e-5)
    changed = {name for name, value in supernet.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all("running" in name or "num_batches" in name for name in changed), "weights stay"
    stem = next(value for name, value in alone.state_dict().items() if name.endswith("running_mean"))
    assert stem.abs().sum() > 0 and not alone.training
    with pytest.raises(ArgumentError, match="no batch"):
        nasdsl.recalibrate(supernet, [])
