"""Optimisers, learning rates and averages, all of which can follow a network that loses weights while it trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nasdsl.compiler.layers.attention import RelativeAttention
from nasdsl.compiler.slices import take
from nasdsl.compiler.supernet import Surgery
from nasdsl.runtime.settings import Ema, Schedule, Settled

STATISTICS = ("running_mean", "running_var")
"""How the names of a norm's statistics end."""


LOOKED_UP = ("token", "embedding", "position_bias", "prefix_bias")
"""How the names of class tokens and of learned positions end."""


def decayed(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay acts on a parameter: matrices and convolutions, not norms and biases (HR-NAS code), nor what
    no input is multiplied with: class tokens and positions (DeiT and Swin code)."""
    return parameter.ndim >= 2 and not name.endswith(LOOKED_UP)


def make_optimiser(network: nn.Module, settings: Settled) -> torch.optim.Optimizer:
    """The optimiser over all parameters that are trained, in two groups: with and without decoupled weight decay."""
    decoupled = settings.weight_decay if settings.weight_decay_form == "optimiser" else 0.0
    groups = []
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    for decay in (True, False):
        members = [p for n, p in named if decayed(n, p) is decay]
        if members:
            groups.append({"params": members, "weight_decay": decoupled if decay else 0.0})
    o, lr = settings.optimiser, peak_rate(settings)
    if o.name == "sgd":
        return torch.optim.SGD(groups, lr, momentum=o.momentum, nesterov=o.nesterov)
    if o.name == "rmsprop":
        return RMSpropInside(groups, lr, alpha=o.alpha, eps=o.eps, momentum=o.momentum)
    kind = torch.optim.AdamW if o.name == "adamw" else torch.optim.Adam
    return kind(groups, lr, betas=o.betas, eps=o.eps, foreach=True)


def peak_rate(settings: Settled) -> float:
    o = settings.optimiser
    return o.lr * settings.batch / o.lr_batch if o.lr_batch else o.lr


class RMSpropInside(torch.optim.Optimizer):
    """RMSprop with eps inside the root, as the HR-NAS recipe has it, in the form of TensorFlow.

    v = alpha v + (1 - alpha) g^2 from v = 1 on; m = momentum m + lr g / sqrt(v + eps); the step is m.
    """

    def __init__(self, params: Any, lr: float, alpha: float = 0.9, eps: float = 1e-3, momentum: float = 0.0):
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p] = {"square_avg": torch.ones_like(p), "momentum_buffer": torch.zeros_like(p)}
            grads = [p.grad for p in params]
            squares = [self.state[p]["square_avg"] for p in params]
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_mul_(squares, group["alpha"])
            torch._foreach_addcmul_(squares, grads, grads, 1 - group["alpha"])
            roots = torch._foreach_sqrt(torch._foreach_add(squares, group["eps"]))
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_addcdiv_(buffers, grads, roots, group["lr"])
            torch._foreach_sub_(params, buffers)
        return loss


def rate(settings: Schedule, step: int, steps: int, steps_per_epoch: int) -> float:
    """The factor of the peak learning rate at a step (from 0) of a run of `steps`."""
    epoch = step / max(steps_per_epoch, 1)
    warm = settings.warmup * steps_per_epoch
    if step < warm:
        return settings.warmup_from + (1 - settings.warmup_from) * step / warm
    if settings.name == "constant":
        return 1.0
    if settings.name == "step":
        return settings.decay ** sum(epoch >= m for m in settings.milestones)
    if settings.name == "exponential":
        return settings.decay ** math.floor(epoch / settings.decay_every)
    if settings.name == "cosine":
        done = (step - warm) / max(steps - warm, 1)
        return settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    rise = settings.rise * steps - 1
    low, end = 1 / settings.start_div, 1 / settings.start_div / settings.final_div
    if step <= rise:
        return _anneal(low, 1.0, step / max(rise, 1))
    return _anneal(1.0, end, (step - rise) / max(steps - 1 - rise, 1))


def cycled_momentum(settings: Schedule, step: int, steps: int) -> float | None:
    """The momentum (Adam's beta1) at a step of a one-cycle run; None where it stays as it is."""
    if settings.name != "onecycle" or settings.cycle is None:
        return None
    high, low = settings.cycle
    rise = settings.rise * steps - 1
    if step <= rise:
        return _anneal(high, low, step / max(rise, 1))
    return _anneal(low, high, (step - rise) / max(steps - 1 - rise, 1))


def parameters_of(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    """What it trains."""
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def set_rate(optimiser: torch.optim.Optimizer, rate: float, momentum: float | None) -> None:
    """Sets the learning rate and, where it is cycled, the momentum of all groups."""
    for group in optimiser.param_groups:
        group["lr"] = rate
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif momentum is not None:
            group["momentum"] = momentum


def _anneal(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))


def follow(
    optimiser: torch.optim.Optimizer, before: Mapping[str, nn.Parameter], network: nn.Module, surgery: Surgery
) -> None:
    """Takes the optimiser along when a network has been shrunk: each moment is cut like its parameter or dropped.

    Args:
        before: the parameters by name before the surgery.
    """
    after = dict(network.named_parameters())
    new_of = {id(old): (after.get(name), surgery.cut.get(name, ())) for name, old in before.items()}
    for group in optimiser.param_groups:
        members = []
        for old in group["params"]:
            new, index = new_of[id(old)]
            state = optimiser.state.pop(old, None)
            if new is None:
                continue
            members.append(new)
            if state is not None:
                optimiser.state[new] = {
                    key: take(value, index).clone()
                    if isinstance(value, torch.Tensor) and value.shape == old.shape
                    else value
                    for key, value in state.items()
                }
        group["params"] = members
    assert {id(p) for p in parameters_of(optimiser)} == {id(p) for p in after.values() if p.requires_grad}


def optimiser_state(optimiser: torch.optim.Optimizer, network: nn.Module) -> dict[str, Any]:
    """The state by parameter name."""
    return {name: dict(optimiser.state[p]) for name, p in network.named_parameters() if p in optimiser.state}


def load_optimiser_state(optimiser: torch.optim.Optimizer, network: nn.Module, state: Mapping[str, Any]) -> None:
    """Puts back what `optimiser_state` gave."""
    for name, parameter in network.named_parameters():
        if name in state:
            optimiser.state[parameter] = {key: _beside(value, parameter) for key, value in state[name].items()}


def _beside(value: Any, parameter: torch.Tensor) -> Any:
    """A copy of a moment on its parameter's device; counters stay where the optimiser wants them."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(parameter.device, copy=True) if value.shape == parameter.shape else value.clone()


class Average:
    """Exponential moving averages of all parameters and norm statistics of a network, by name. HR-NAS official code."""

    def __init__(self, network: nn.Module, settings: Ema, batch: int):
        self.settings = settings
        self.decay = settings.decay ** (batch / settings.decay_batch) if settings.decay_batch else settings.decay
        self.values = {name: tensor.detach().clone() for name, tensor in averaged(network).items()}
        self.steps = 0

    def update(self, network: nn.Module) -> None:
        """Counts the network as it is after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.settings.ramp else self.decay
        now = averaged(network)
        torch._foreach_lerp_([self.values[name] for name in now], [t.detach() for t in now.values()], 1 - decay)

    def follow(self, surgery: Surgery) -> None:
        """Cuts the averages like the network."""
        for name in surgery.removed:
            self.values.pop(name, None)
        for name, index in surgery.cut.items():
            if name in self.values:
                self.values[name] = take(self.values[name], index).clone()

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchanges the network's values with the averages; a second call puts them back."""
        for name, tensor in averaged(network).items():
            mine = self.values[name]
            kept = tensor.detach().clone()
            tensor.copy_(mine)
            mine.copy_(kept)


def averaged(network: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, and the running means and variances of norms."""
    out: dict[str, torch.Tensor] = dict(network.named_parameters())
    out.update({name: b for name, b in network.named_buffers() if name.endswith(STATISTICS)})
    return out


@torch.no_grad()
def initialise(network: nn.Module, how: str) -> None:
    """Fresh weights.

    "mnas" (HR-NAS official code): convolutions normal with std sqrt(2 / fan out), linear layers uniform in
    +-1/sqrt(outputs), biases 0; norms stay as their modules made them, and so do attentions with relative positions,
    whose logits nothing but the size of the first weights keeps small.
    """
    if how != "mnas":
        return
    own = {part for module in network.modules() if isinstance(module, RelativeAttention) for part in module.modules()}
    for module in network.modules():
        if module in own:
            continue
        if isinstance(module, nn.Conv2d):
            area = module.kernel_size[0] * module.kernel_size[1]
            depthwise = module.groups == module.in_channels
            fan = area if depthwise else area * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.out_features)
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
