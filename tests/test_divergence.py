"""Trainings whose loss is no number: they end with the reason, and nothing with such numbers is written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nasdsl.cli import main
from nasdsl.compiler.parse import read
from nasdsl.runtime.errors import Diverged
from nasdsl.runtime.fit import train
from nasdsl.runtime.search import Options, search
from nasdsl.runtime.trainer import Trainer

UNITS = """
space units {
  input 1 x 8 x 8
  network { conv(4, stride: 2) -> residual { mixconv(4, hidden: { 3: units(8) }) } -> classify(classes: 10) }
  search shrink { target: macs <= 0.8, every: 1 epochs, train: { epochs: 3, batch: 256, recalibrate: 1 } }
}
"""
CHOICES = """
space choices {
  input 1 x 8 x 8
  network { conv(4, stride: 2) -> conv(4, kernel: oneof(1, 3)) -> classify(classes: 10) }
  search sample { candidates: 2, follow: [], train: { epochs: 3, batch: 256, recalibrate: 1 } }
}
"""
ALONE = """
space alone {
  input 1 x 8 x 8
  network { conv(4, stride: 2) -> classify(classes: 10) }
}
"""
TEXTS = {"shrink": UNITS, "thin": UNITS, "sample": CHOICES, "gradient": CHOICES, "screen": CHOICES, "train": ALONE}


def start(tmp_path: Path, how: str, **overrides: Any) -> None:
    file = tmp_path / "a.space"
    file.write_text(TEXTS[how])
    options: dict[str, Any] = {"accelerator": "cpu", "run": tmp_path / "run"}
    settings: dict[str, Any] = {"epochs": 3, "batch": 256, "recalibrate": 1, **overrides}
    if how == "train":
        train(read(file), tmp_path / "out.safetensors", Options(overrides=settings, **options), None, {})
    else:
        more: dict[str, Any] = {"screen": {"keep": 1}} if how == "screen" else {}
        search(
            read(file), tmp_path / "out.space", Options(overrides={"train": settings, **more}, **options), runtime=how
        )


def breaks_at(step: int, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a step on the loss of the task is `value`, with gradients that are no numbers."""
    step_of = Trainer.train_step

    def train_step(self: Trainer, images: torch.Tensor, targets: Any) -> float:
        kind = type(self.task)
        plain = kind.loss
        with pytest.MonkeyPatch.context() as patch:
            if self.step >= step:
                patch.setattr(kind, "loss", lambda task, outputs, t: plain(task, outputs, t) * value)
            return step_of(self, images, targets)

    monkeypatch.setattr(Trainer, "train_step", train_step)


ENDS = [*((how, math.nan) for how in TEXTS), ("shrink", math.inf), ("gradient", -math.inf)]


@pytest.mark.parametrize(("how", "value"), ENDS)
def test_a_loss_that_is_no_number_ends_a_run_with_the_last_good_state(
    how: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = 3 if how in ("gradient", "screen") else 6  # in the second epoch; half of the images are for the choices
    breaks_at(step, value, monkeypatch)
    with pytest.raises(Diverged, match=r"the training has diverged: .* at step ") as found:
        start(tmp_path, how)
    assert "checkpoint.pt keeps the state of step" in found.value.help
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert 0 < state["step"] < step
    assert all(bool(tensor.isfinite().all()) for tensor in state["network"].values())
    assert not list(tmp_path.glob("out*"))


def test_weights_that_a_last_step_breaks_are_found_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of every step is a number, and the last step's gradients are none."""
    one_pass = Trainer.one_pass

    def last_is_broken(self: Trainer, images: torch.Tensor, targets: Any) -> float:
        loss = one_pass(self, images, targets)
        if self.step == self.steps - 1:
            next(p for p in self.network.parameters() if p.grad is not None).grad.fill_(math.nan)  # type: ignore[union-attr]
        return loss

    monkeypatch.setattr(Trainer, "one_pass", last_is_broken)
    with pytest.raises(Diverged, match="holds what is no finite number after step 15 of 15"):
        start(tmp_path, "train")
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 10
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("rate", ["1e10", "1e30"])
def test_the_command_line_says_so_and_fails(
    form: str, rate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.space").write_text(UNITS)
    command = ["search", "a.space", "--out", "out.space", "--set", f"train.optimiser.lr={rate}", "--epochs", "1"]
    assert main([*command, "--format", form, "--device", "cpu"]) == 1
    said = capsys.readouterr()
    if form == "json":
        (only,) = json.loads(said.out, parse_constant=pytest.fail)
        assert only["code"] == "diverged"
    else:
        assert "error[diverged]: the training has diverged: " in said.err
    assert not list(tmp_path.glob("out*"))


def test_a_run_that_diverged_goes_on_from_its_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What broke was outside of it, such as a damaged image: the same command ends as one that never broke."""
    with monkeypatch.context() as patch:
        breaks_at(7, math.nan, patch)
        with pytest.raises(Diverged):
            start(tmp_path, "train")
    start(tmp_path, "train")
    again = load_file(tmp_path / "out.safetensors")
    whole = tmp_path / "whole"
    whole.mkdir()
    start(whole, "train")
    reference = load_file(whole / "out.safetensors")
    assert all(torch.equal(tensor, reference[name]) for name, tensor in again.items())
