"""Layers that read several tensors."""

from __future__ import annotations

import torch
from torch import nn

from nasdsl.compiler.layers.resample import resized


class Sum(nn.Module):
    """Adds its inputs in their order; a later one of another size is first brought to the size of the first.

    HR-NAS paper, fusion module.
    """

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + (x if x.dim() == 2 else resized(x, (total.shape[2], total.shape[3])))
        return total


class Mean(Sum):
    """The mean of its inputs; a later one of another size is first brought to the size of the first."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(*inputs) / len(inputs)


class Concat(nn.Module):
    """Brings its inputs to the size of input number `target`, then joins their channels."""

    def __init__(self, target: int = 0, mode: str = "bilinear") -> None:
        super().__init__()
        self.target = target
        self.mode = mode

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        if inputs[0].dim() == 2:
            return torch.cat(inputs, 1)
        size = (inputs[self.target].shape[2], inputs[self.target].shape[3])
        return torch.cat([resized(x, size, self.mode) for x in inputs], 1)


class Product(nn.Module):
    """Multiplies its inputs; a later one of another size is first brought to the size of the first.

    A vector is a factor for each channel of the map that comes first, and a map of one channel one for each pixel.
    """

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            if x.dim() < total.dim():
                x = x[:, :, None, None]
            elif x.dim() == 4:
                x = resized(x, (total.shape[2], total.shape[3]))
            total = total * x
        return total


class WeightedSum(nn.Module):
    """Adds its inputs with a learned factor each; a later one of another size is brought to the size of the first.

    EfficientDet paper, weighted feature fusion: with `fast` input i counts relu(w_i) / (eps + sum of relu(w_j)), with
    `softmax` its softmax, with `free` w_i itself.
    """

    def __init__(self, inputs: int, weights: str = "fast", eps: float = 1e-4, init: float = 1.0) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.full((inputs,), init))
        self.weights = weights
        self.eps = eps

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        factors: torch.Tensor = self.factors
        if self.weights == "softmax":
            factors = factors.softmax(0)
        elif self.weights == "fast":
            factors = factors.relu()
            factors = factors / (factors.sum() + self.eps)
        total = inputs[0] * factors[0]
        for number, x in enumerate(inputs[1:], 1):
            if x.dim() == 4:
                x = resized(x, (total.shape[2], total.shape[3]))
            total = total + x * factors[number]
        return total
