"""What the residual branches of transformers and ConvNeXts have beside their linear layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class LayerNorm(nn.Module):
    """Each place of a map (B C H W), or a vector (B C), with mean 0 and variance 1 over its channels, then scaled and
    shifted channel by channel. Layer Normalization paper (Ba et al., 2016).

    A map comes out with its channels last in memory, as it is computed.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() == 2:
            return self.norm(x)
        y_BHWC: torch.Tensor = self.norm(x.permute(0, 2, 3, 1))
        return y_BHWC.permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """Multiplies each channel of a map or a vector by a learned factor, at first `init`. CaiT paper, LayerScale."""

    def __init__(self, channels: int, init: float = 1e-5) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (self.scale if x.dim() == 2 else self.scale[:, None, None])


class DropPath(nn.Module):
    """In training, all of an image becomes zero with probability `p`, or else is divided by 1 - p; without training
    nothing changes. Stochastic Depth paper (Huang et al., 2016).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        kept = F.dropout(x.new_ones(x.shape[0], *[1] * (x.dim() - 1)), self.p)
        return x * kept
