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
