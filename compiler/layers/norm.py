"""Norms of channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class FrozenBatchNorm(nn.Module):
    """Batch norm in evaluation whose statistics, scale and shift are buffers: no training changes any of them.

    The names are those of `nn.BatchNorm2d`, whose weights it takes. Of a map (B C H W) or a vector (B C).
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight: torch.Tensor
        self.bias: torch.Tensor
        self.running_mean: torch.Tensor
        self.running_var: torch.Tensor
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def normalisation(
    kind: str,
    channels: int,
    groups: int = 32,
    eps: float = 1e-5,
    momentum: float = 0.1,
    scale_init: float = 1.0,
    vector: bool = False,
) -> nn.Module:
    """The norm of a kind: `batch`, `group` (Group Normalization paper), `frozen`, or the identity for `none`.

    Args:
        groups: of group norm.
        momentum: of batch norm.
        vector: whether it reads vectors rather than maps.
    """
    if kind == "none":
        return nn.Identity()
    norm: nn.Module
    if kind == "group":
        norm = nn.GroupNorm(groups, channels, eps)
    elif kind == "frozen":
        norm = FrozenBatchNorm(channels, eps)
    else:
        norm = nn.BatchNorm1d(channels, eps, momentum) if vector else nn.BatchNorm2d(channels, eps, momentum)
    with torch.no_grad():
        norm.weight.fill_(scale_init)
    return norm


class Norm(nn.Module):
    """A norm by itself, of a map or a vector."""

    def __init__(
        self,
        channels: int,
        vector: bool = False,
        norm: str = "batch",
        norm_groups: int = 32,
        eps: float = 1e-5,
        momentum: float = 0.1,
        scale_init: float = 1.0,
    ) -> None:
        super().__init__()
        self.norm = normalisation(norm, channels, norm_groups, eps, momentum, scale_init, vector)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


class Gain(nn.Module):
    """One learned factor for all values, as in ReZero (Bachlechner et al., UAI 2021)."""

    def __init__(self, init: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((1,), init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor
