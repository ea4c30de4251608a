"""Layers that move values between channels and pixels, or leave some out, and have no weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class SpaceToDepth(nn.Module):
    """Blocks of pixels become channels: B C H W -> B C*f*f H' W' with H' = ceil(H / f); where f does not divide a size,
    zeros are added behind.

    Channel c * f * f + i * f + j of the output has row i and column j of the blocks of channel c, as
    `torch.nn.PixelUnshuffle` has it.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        rows, columns = (-size % self.factor for size in x_BCHW.shape[2:])
        if rows or columns:
            x_BCHW = F.pad(x_BCHW, (0, columns, 0, rows))
        return F.pixel_unshuffle(x_BCHW, self.factor)


class DepthToSpace(nn.Module):
    """Channels become blocks of pixels: B C*f*f H W -> B C H*f W*f, the way back from `SpaceToDepth`
    (`torch.nn.PixelShuffle`)."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(x_BCHW, self.factor)


class Channels(nn.Module):
    """So many channels that lie next to each other, of a map or a vector: B C ... -> B count ..."""

    def __init__(self, count: int, skip: int = 0) -> None:
        """
        Args:
            skip: channels before them.
        """
        super().__init__()
        self.count = count
        self.skip = skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.skip : self.skip + self.count]


class Shuffle(nn.Module):
    """Channels in another order, of a map or a vector: the first of each group, then the second of each, and so on.

    ShuffleNet paper; `torch.nn.ChannelShuffle`.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.unflatten(1, (self.groups, -1))  # type: ignore[no-untyped-call]
        return parts.transpose(1, 2).flatten(1, 2)


class Shift(nn.Module):
    """A map moved up and to the left: pixel (i, j) is what was at (i + rows, j + columns), zero where nothing was."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return F.pad(x_BCHW, (0, self.columns, 0, self.rows))[:, :, self.rows :, self.columns :]
