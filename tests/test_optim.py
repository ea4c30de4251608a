"""Optimisers, learning rates, averages and fresh weights, against torch and against slow references."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from nasdsl.compiler.layers.attention import AxialAttention
from nasdsl.runtime.optim import (
    Average,
    RMSpropInside,
    averaged,
    cycled_momentum,
    decayed,
    initialise,
    make_optimiser,
    peak_rate,
    rate,
    set_rate,
)
from nasdsl.runtime.settings import SHAPES, Ema, Schedule, Settled, Train
from nasdsl.runtime.settle import settle


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))


def settings(**given: Any) -> Settled:
    return settle(Train.model_validate(given), 2000)


def backward(module: nn.Module, seed: int) -> None:
    module.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(seed)
    module(torch.randn(6, 3, 8, 8, generator=generator)).square().mean().backward()


def parameters(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


# --- Optimisers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_rmsprop_is_what_its_formula_says(momentum: float, decay: float) -> None:
    module = net().double()
    optimiser = RMSpropInside([{"params": list(module.parameters()), "weight_decay": decay}], 0.05, 0.8, 0.02, momentum)
    want = [p.tolist() for p in (q.detach().flatten() for q in module.parameters())]
    square = [[1.0] * len(p) for p in want]
    buffer = [[0.0] * len(p) for p in want]
    for step in range(4):
        for group in optimiser.param_groups:
            group["lr"] = 0.05 / (step + 1)
        module.double()
        generator = torch.Generator().manual_seed(step)
        module.zero_grad()
        module(torch.randn(6, 3, 8, 8, generator=generator, dtype=torch.float64)).square().mean().backward()
        grads = [p.grad.flatten().tolist() for p in module.parameters() if p.grad is not None]
        optimiser.step()
        lr = 0.05 / (step + 1)
        for i, row in enumerate(grads):
            for j, g in enumerate(row):
                want[i][j] *= 1 - lr * decay
                square[i][j] = 0.8 * square[i][j] + 0.2 * g * g
                buffer[i][j] = momentum * buffer[i][j] + lr * g / math.sqrt(square[i][j] + 0.02)
                want[i][j] -= buffer[i][j]
    for have, expected in zip(module.parameters(), want, strict=True):
        torch.testing.assert_close(have.detach().flatten(), torch.tensor(expected, dtype=torch.float64))


def test_a_closure_is_evaluated_with_gradients() -> None:
    module = net()
    optimiser = RMSpropInside(module.parameters(), 0.01)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = module(torch.ones(2, 3, 8, 8)).square().mean()
        loss.backward()
        return loss

    before = parameters(module)
    assert float(optimiser.step(closure).detach()) > 0
    assert not torch.equal(before[0], next(iter(module.parameters())))


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "adamw"])
def test_decay_is_for_matrices_and_convolutions(name: str) -> None:
    module = net()
    optimiser = make_optimiser(
        module,
        settings(optimiser={"name": name}, weight_decay=0.3, weight_decay_form="optimiser"),
    )
    names = {id(p): n for n, p in module.named_parameters()}
    decays = {names[id(p)]: group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decays == {"0.weight": 0.3, "0.bias": 0, "1.weight": 0, "1.bias": 0, "3.weight": 0.3, "3.bias": 0}
    in_loss = make_optimiser(module, settings(optimiser={"name": name}, weight_decay=0.3, weight_decay_form="loss"))
    assert all(group["weight_decay"] == 0 for group in in_loss.param_groups)
    assert [n for n, p in module.named_parameters() if decayed(n, p)] == ["0.weight", "3.weight"]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_optimisers_are_those_of_torch(name: str) -> None:
    mine, theirs = net(), net()
    given = settings(optimiser={"name": name, "lr": 0.01, "eps": 1e-3}, weight_decay=0.0)
    optimiser = make_optimiser(mine, given)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    other = (
        torch.optim.SGD(theirs.parameters(), 0.01, momentum=0.9)
        if name == "sgd"
        else kinds[name](theirs.parameters(), 0.01, eps=1e-3, weight_decay=0.0)
    )
    for step in range(3):
        for module, one in ((mine, optimiser), (theirs, other)):
            backward(module, step)
            one.step()
    torch.testing.assert_close(parameters(mine), parameters(theirs))


def test_the_rate_is_scaled_to_the_batch() -> None:
    imagenet = settings(batch=1024, optimiser={"lr": 0.016, "lr_batch": 256})
    assert peak_rate(imagenet) == pytest.approx(0.064)
    assert peak_rate(settings(batch=1024, optimiser={"lr": 0.016})) == 0.016


# --- Learning rates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [3, 7, 40, 4000])
@pytest.mark.parametrize("rise", [0.3, 0.1])
def test_one_cycle_is_that_of_torch(steps: int, rise: float) -> None:
    optimiser = torch.optim.SGD([torch.zeros(1)], 1.0)
    other = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=0.04, total_steps=steps, pct_start=rise, cycle_momentum=False
    )
    want = []
    for _ in range(steps):
        want.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if len(want) < steps:
            other.step()
    settings = Schedule(name="onecycle", rise=rise)
    have = [0.04 * rate(settings, step, steps, 10) for step in range(steps)]
    assert have == pytest.approx(want, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("steps", [7, 4000])
def test_the_cycle_of_momentum_is_that_of_torch(steps: int) -> None:
    mine, theirs = (torch.optim.AdamW([torch.zeros(1)], 1.0, betas=(0.9, 0.999)) for _ in range(2))
    other = torch.optim.lr_scheduler.OneCycleLR(theirs, max_lr=0.04, total_steps=steps)
    settings = Schedule(name="onecycle", cycle=(0.95, 0.85))
    for step in range(steps):
        set_rate(mine, 0.04 * rate(settings, step, steps, 10), cycled_momentum(settings, step, steps))
        for key in ("lr", "betas"):
            assert mine.param_groups[0][key] == pytest.approx(theirs.param_groups[0][key], rel=1e-9, abs=1e-12)
        theirs.step()
        if step + 1 < steps:
            other.step()


def test_one_cycle_starts_and_ends_as_the_paper_says() -> None:
    settings = Schedule(name="onecycle")
    ends = [0.04 * rate(settings, step, 4300, 10) for step in (0, 1289, 4299)]
    assert ends == pytest.approx([0.0016, 0.04, 1.6e-7])


def test_the_staircase_warms_up_first() -> None:
    settings = Schedule(name="exponential", decay=0.97, decay_every=2.4, warmup=5, warmup_from=0.25)
    per_epoch = 1252
    have = [0.064 * rate(settings, step, 350 * per_epoch, per_epoch) for step in range(40 * per_epoch)]
    assert have[0] == pytest.approx(0.016)
    assert have[5 * per_epoch // 2] == pytest.approx((0.016 + 0.064) / 2)
    for step, value in enumerate(have):
        if step < 5 * per_epoch:
            assert value == pytest.approx(0.016 + (0.064 - 0.016) * step / (5 * per_epoch))
        else:
            assert value == pytest.approx(0.064 * 0.97 ** int(step / (2.4 * per_epoch) + 1e-9))


def test_steps_constant_and_cosine() -> None:
    step = Schedule(name="step", milestones=(170, 200))
    have = [rate(step, epoch * 7, 210 * 7, 7) for epoch in (0, 169, 170, 199, 200, 209)]
    assert have == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert {rate(Schedule(name="constant"), step, 50, 5) for step in range(50)} == {1.0}
    cosine = Schedule(name="cosine", warmup=1, final=0.1)
    assert [rate(cosine, s, 50, 10) for s in (0, 5, 10, 30, 50)] == pytest.approx([0, 0.5, 1, 0.55, 0.1])


@pytest.mark.parametrize("name", ["constant", "cosine", "onecycle", "step", "exponential"])
@pytest.mark.parametrize("warmup", [0, 2, 100])
def test_rates_stay_between_nothing_and_the_peak(name: str, warmup: float) -> None:
    given = {"name": name, "warmup": warmup, "milestones": (1, 3)}
    schedule = Schedule.model_validate({key: given[key] for key in ("name", *SHAPES[name]) if key in given})
    for steps in (1, 2, 3, 30):
        assert all(0 <= rate(schedule, step, steps, 5) <= 1 for step in range(steps))


# --- Averages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ramp", [True, False])
@pytest.mark.parametrize("batch", [None, 4096])
def test_averages_are_what_a_slow_reference_gives(ramp: bool, batch: int | None) -> None:
    module = net()
    average = Average(module, Ema(decay=0.9, decay_batch=batch, ramp=ramp), 64)
    decay = 0.9 if batch is None else 0.9 ** (64 / 4096)
    want = {name: t.detach().double() for name, t in averaged(module).items()}
    assert {"1.running_mean", "1.running_var", "0.weight"} <= set(want)
    assert "1.num_batches_tracked" not in want
    for t in range(1, 15):
        with torch.no_grad():
            for p in module.parameters():
                p.add_(0.1 * t)
        module(torch.randn(4, 3, 8, 8))
        average.update(module)
        m = min(decay, (1 + t) / (10 + t)) if ramp else decay
        want = {name: m * want[name] + (1 - m) * value.detach().double() for name, value in averaged(module).items()}
    for name, value in want.items():
        torch.testing.assert_close(average.values[name].double(), value, rtol=1e-5, atol=1e-6)


def test_swapping_twice_changes_nothing() -> None:
    module = net()
    average = Average(module, Ema(), 64)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(1)
    before, kept = parameters(module), {n: t.clone() for n, t in average.values.items()}
    average.swap(module)
    assert torch.equal(next(iter(module.parameters())), kept["0.weight"])
    average.swap(module)
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(module), strict=True))
    assert all(torch.equal(kept[name], average.values[name]) for name in kept)


# --- Fresh weights ----------------------------------------------------------------------------------------------------


def test_mnas_weights_have_the_right_spread() -> None:
    torch.manual_seed(0)
    convs = {
        "full": (nn.Conv2d(16, 200, 3), 9 * 200),
        "pointwise": (nn.Conv2d(300, 100, 1), 100),
        "depthwise": (nn.Conv2d(600, 600, 5, groups=600), 25),
        "depthwise wider": (nn.Conv2d(100, 200, 3, groups=100), 9),
        "grouped": (nn.Conv2d(64, 128, 3, groups=4), 9 * 128),
    }
    linear, norm = nn.Linear(50, 400), nn.BatchNorm2d(8)
    module = nn.ModuleList([*(conv for conv, _ in convs.values()), linear, norm])
    initialise(module, "mnas")
    for name, (conv, fan) in convs.items():
        std = math.sqrt(2 / fan)
        assert float(conv.weight.detach().std()) == pytest.approx(std, rel=0.05), name
        assert abs(float(conv.weight.detach().mean())) < 0.1 * std, name
        assert conv.bias is not None and not conv.bias.any()
    bound = 1 / math.sqrt(400)
    assert 0.99 * bound < float(linear.weight.detach().abs().max()) <= bound
    assert float(linear.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not linear.bias.any() and (norm.weight == 1).all() and not norm.bias.any()


def test_attention_keeps_the_weights_that_keep_its_logits_small() -> None:
    torch.manual_seed(0)
    attention = AxialAttention(32, 64, 64, 4, 8, 8)
    conv = nn.Conv2d(3, 32, 1)
    before, first = parameters(attention), conv.weight.clone()
    initialise(nn.Sequential(conv, attention), "mnas")
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(attention), strict=True))
    assert not torch.equal(first, conv.weight)


def test_torch_weights_are_left_alone() -> None:
    module = net()
    before = parameters(module)
    initialise(module, "torch")
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(module), strict=True))
