"""Layers at the end of a network."""

from __future__ import annotations

import torch
from torch import nn

from nasdsl.compiler.layers.activation import activation


class Linear(nn.Module):
    """A fully connected layer on a vector: B C -> B C'."""

    def __init__(self, inputs: int, outputs: int, act: str = "none", bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias)
        self.act = activation(act, inplace=True)

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        return self.act(self.linear(x_BC))


class Classify(nn.Module):
    """Class scores: mean over all pixels where there are any, dropout, linear."""

    def __init__(self, inputs: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_BC = x.mean((2, 3)) if x.dim() == 4 else x
        return self.linear(self.dropout(x_BC))


class Regress(nn.Module):
    """Numbers (B, targets): mean over all pixels where there are any, dropout, linear, then `scale` and `shift`.

    These two are no parameters: training sets them to deviation and mean of the targets, so that the linear layer
    learns numbers about 0.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, inputs: int, targets: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(inputs, targets)
        self.register_buffer("scale", torch.ones(targets))
        self.register_buffer("shift", torch.zeros(targets))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_BC = x.mean((2, 3)) if x.dim() == 4 else x
        return self.linear(self.dropout(x_BC)) * self.scale + self.shift


class Detect3d(nn.Module):
    """The heads of PointPillars on a bird's-eye-view map: B C H W -> B A*(classes + 7 + 2) H W with A anchors a pixel.

    The channels are, in order, A times class scores, A boxes (x, y, z, width, length, height, angle) and A pairs of
    direction scores.
    """

    def __init__(self, inputs: int, classes: int, anchors: int = 2) -> None:
        super().__init__()
        self.classes = nn.Conv2d(inputs, anchors * classes, 1)
        self.boxes = nn.Conv2d(inputs, anchors * 7, 1)
        self.directions = nn.Conv2d(inputs, anchors * 2, 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.classes(x_BCHW), self.boxes(x_BCHW), self.directions(x_BCHW)], 1)
