"""Small layers that detectors need between others."""

from __future__ import annotations

import torch
from torch import nn


class Flatten(nn.Module):
    """A map as a vector, channel by channel and in it row by row: B C H W -> B C*H*W."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW.flatten(1)


class Detach(nn.Module):
    """The input, which gets no gradient through here."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach()
