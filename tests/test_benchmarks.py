"""The benchmarks run, and the hand-written rival computes what the compiled supernet computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import nasdsl
from benchmarks import __main__ as benchmarks
from benchmarks import measure, speed
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.layers.conv import Depthwise
from nasdsl.compiler.layers.mixconv import MixConv

SPACES = (("hrnas_small", "small_cifar", 32), ("hrnas_small", "hrnas_small", 64), ("hrnas_code", "hrnas_code", 64))


@pytest.mark.parametrize("file,name,size", SPACES)
def test_the_hand_written_network_computes_the_same(file: str, name: str, size: int) -> None:
    space = speed.load(name, file)
    supernet = nasdsl.supernet(space)
    hand = speed.by_hand(supernet, space)
    assert sum(p.numel() for p in hand.parameters()) == sum(p.numel() for p in supernet.parameters())
    for network in (supernet, hand):
        network.double()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    x_BCHW = torch.randn(2, 3, size, size, dtype=torch.double)
    for training in (True, False):
        torch.testing.assert_close(hand.train(training)(x_BCHW), supernet.train(training)(x_BCHW), rtol=1e-5, atol=1e-5)


def test_kept_units_meet_the_share() -> None:
    space = speed.load("small_cifar")
    whole = largest_values(space.graph)
    part = cost_of(space.graph, {**whole, **speed.kept_units(space, 0.3)})["macs"]
    assert 0.25 < part / cost_of(space.graph, whole)["macs"] <= 0.3


@pytest.mark.slow
def test_speed_runs(capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks.main(["speed", "--quick", "--repeats", "1", "--no-write"])
    assert capsys.readouterr().out.count("small_cifar") == 2 + 4 + 1


@pytest.mark.slow
def test_check_runs(capsys: pytest.CaptureFixture[str]) -> None:
    benchmarks.main(["check", "spaces/tiny.space", "--repeats", "1", "--no-write"])
    assert "nasdsl.compiler" in capsys.readouterr().out


def test_results_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = measure.table(("what", "ms"), [("a", "1.5"), ("b", "12.0")])
    measure.report("some", "Some figures", [("First", text)], tmp_path)
    written = (tmp_path / "some.md").read_text(encoding="utf-8")
    assert written.startswith("# Some figures\n") and "| b    | 12.0 |" in written


# --- The forms of the layers that were chosen for speed ---------------------------------------------------------------


@pytest.mark.parametrize("form", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_gradients_in_strips(
    kernel: int, stride: int, form: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Depthwise(6, kernel, stride).to(memory_format=form)  # type: ignore[call-overload]
    plain = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False)
    plain.load_state_dict(layer.state_dict())
    monkeypatch.setattr(layer, "in_strips", lambda x: True)
    for height, width in ((1, 1), (2, 3), (4, 4), (5, 8), (9, 7), (16, 16)):
        x_BCHW = torch.randn(3, 6, height, width).contiguous(memory_format=form).requires_grad_()
        ours, theirs = layer(x_BCHW), plain(x_BCHW)
        grad = torch.randn_like(theirs)
        torch.testing.assert_close(
            torch.autograd.grad(ours, (x_BCHW, layer.weight), grad),
            torch.autograd.grad(theirs, (x_BCHW, plain.weight), grad),
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize("squeeze", [0, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_both_forms_of_mixconv_agree(stride: int, squeeze: int) -> None:
    layer = MixConv(6, 10, {3: 5, 5: 7, 7: 4}, stride, squeeze=squeeze).double()
    x_BCHW = torch.randn(2, 6, 9, 8, dtype=torch.double, requires_grad=True)
    together, apart = layer.together(x_BCHW), layer.apart(x_BCHW)
    torch.testing.assert_close(together, apart)
    grad = torch.randn_like(apart)
    weights = (x_BCHW, *layer.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(together, weights, grad, allow_unused=True),
        torch.autograd.grad(apart, weights, grad, allow_unused=True),
    )
