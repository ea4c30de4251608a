"""Convolutions, and what goes with them."""

from __future__ import annotations

import torch
from torch import nn

from nasdsl.compiler.layers.activation import activation


class Conv(nn.Module):
    """Convolution, batch norm and activation in a given order; the output has ceil(size / stride) pixels.

    A vector (B C) is taken as a map of one pixel, and comes out as a vector.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: str = "batch",
        act: str = "relu",
        bias: bool = False,
        order: tuple[str, ...] = ("conv", "norm", "act"),
        scale_init: float = 1.0,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias)
        self.norm: nn.Module = nn.Identity()
        if norm != "none":
            width = outputs if order.index("conv") < order.index("norm") else inputs
            self.norm = nn.BatchNorm2d(width, eps, momentum)
            nn.init.constant_(self.norm.weight, scale_init)
        # What comes in belongs to somebody else, so only an activation behind the convolution may overwrite its input.
        self.act = activation(act, inplace=order.index("conv") < order.index("act"))
        self.order = tuple(order)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        vector = x.dim() == 2
        if vector:
            x = x[:, :, None, None]
        for step in self.order:
            x = getattr(self, step)(x)
        return x.flatten(1) if vector else x


class Shortcut(nn.Module):
    """The input unchanged, or a grouped 1x1 convolution without norm where stride or width change.

    HR-NAS paper, searching block.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.conv = nn.Conv2d(inputs, outputs, 1, stride, groups=groups, bias=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.conv(x_BCHW)


class SqueezeExcite(nn.Module):
    """Scales every channel by a gate that sees the mean of all channels."""

    def __init__(self, channels: int, hidden: int, act: str = "relu", gate: str = "sigmoid") -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.act = activation(act, inplace=True)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.gate = activation(gate)

    def gates(self, mean_BC11: torch.Tensor) -> torch.Tensor:
        """From channel means to channel factors, both B C 1 1."""
        return self.gate(self.expand(self.act(self.reduce(mean_BC11))))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW * self.gates(x_BCHW.mean((2, 3), keepdim=True))


class Norm(nn.Module):
    """Batch norm by itself, of a map or a vector."""

    def __init__(
        self, channels: int, vector: bool = False, eps: float = 1e-5, momentum: float = 0.1, scale_init: float = 1.0
    ):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels, eps, momentum) if vector else nn.BatchNorm2d(channels, eps, momentum)
        nn.init.constant_(self.norm.weight, scale_init)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)
