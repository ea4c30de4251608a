"""Maps as patches and as tokens. N tokens are a map of width 1, B C N 1, with its channels last in memory."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


def rows_of(x_BCHW: torch.Tensor) -> torch.Tensor:
    """The places of a map row by row: B H*W C. A view where the channels are last in memory."""
    return x_BCHW.flatten(2).transpose(1, 2)


def as_tokens(x_BNC: torch.Tensor) -> torch.Tensor:
    """A view of rows as tokens: B C N 1."""
    return x_BNC[:, :, None].permute(0, 3, 1, 2)


def filled(x_BCHW: torch.Tensor, size: int) -> torch.Tensor:
    """The map with zeros below and to the right, so that `size` divides its sides."""
    below, right = -x_BCHW.shape[2] % size, -x_BCHW.shape[3] % size
    return F.pad(x_BCHW, (0, right, 0, below)) if below or right else x_BCHW


def grid_of(places: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of so many places, in the proportions of `height` x `width`.

    Raises:
        ValueError: there are no such.
    """
    places = int(places)
    rows = math.isqrt(places * height // width)
    if rows * rows * width != places * height or rows * width % height:
        raise ValueError(f"{places} tokens are no map in the proportions of {height} x {width}")
    return rows, rows * width // height


class Patches(nn.Module):
    """A linear layer on each `size` x `size` patch of a map: B C H W -> B C' H/size W/size.

    Where the patches do not divide the map, they reach over zeros below and to the right of it, so that the output has
    ceil(side / size) of them. ViT paper, patch embedding; ConvNeXt paper, stem and downsampling.
    """

    def __init__(self, inputs: int, outputs: int, size: int, bias: bool = True) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.Conv2d(inputs, outputs, size, size, bias=bias)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW: torch.Tensor = self.conv(filled(x_BCHW, self.size))
        return y_BCHW


class MergePatches(nn.Module):
    """The four pixels of each 2 x 2 square as one, with layer norm and a linear layer: B C H W -> B C' H/2 W/2.

    The channels of the four stand in this order: top left, bottom left, top right, bottom right. A map with an odd side
    is filled up with zeros. Swin paper, patch merging.
    """

    def __init__(self, inputs: int, outputs: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * inputs, eps)
        self.reduce = nn.Linear(4 * inputs, outputs, bias=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BHWC = filled(x_BCHW, 2).permute(0, 2, 3, 1)
        four = torch.cat([x_BHWC[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], 3)
        y_BHWC: torch.Tensor = self.reduce(self.norm(four))
        return y_BHWC.permute(0, 3, 1, 2)


class ToTokens(nn.Module):
    """The places of a map as tokens, row by row: B C H W -> B C H*W 1."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return as_tokens(rows_of(x_BCHW).contiguous())


class ToMap(nn.Module):
    """Tokens as a map, row by row: B C N 1 -> B C H W. Other numbers of tokens become maps of the same proportions.

    Raises:
        ValueError: tokens that are no such map.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, x_BCN1: torch.Tensor) -> torch.Tensor:
        size = grid_of(x_BCN1.shape[2], self.height, self.width)
        return torch.unflatten(x_BCN1[..., 0], 2, size)


class ClassToken(nn.Module):
    """Puts `count` learned tokens in front: B C N 1 -> B C count+N 1. ViT paper, class token."""

    def __init__(self, channels: int, count: int = 1) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(count, channels))
        nn.init.normal_(self.token, std=0.02)

    def forward(self, x_BCN1: torch.Tensor) -> torch.Tensor:
        x_BNC = rows_of(x_BCN1)
        return as_tokens(torch.cat([self.token.to(x_BNC.dtype).expand(x_BNC.shape[0], -1, -1), x_BNC], 1))


class FirstToken(nn.Module):
    """The first token as a vector: B C N 1 -> B C."""

    def forward(self, x_BCN1: torch.Tensor) -> torch.Tensor:
        return x_BCN1[:, :, 0, 0]


class PatchTokens(nn.Module):
    """The tokens without the first `skip`: B C N 1 -> B C N-skip 1."""

    def __init__(self, skip: int = 1) -> None:
        super().__init__()
        self.skip = skip

    def forward(self, x_BCN1: torch.Tensor) -> torch.Tensor:
        return x_BCN1[:, :, self.skip :]


class PositionEmbedding(nn.Module):
    """Adds a learned vector to each place of a map, or to each token.

    Where a map has another size, the vectors are interpolated (bicubic, corners not aligned); of tokens those of the
    first `prefix` stay as they are, and the others are taken for a map. ViT paper, section 3.2.

    Args:
        height, width: size of the map; of tokens their number and 1.
        prefix: tokens in front that have no place on a map.
        grid: rows and columns of the map that the other tokens are; (0, 0) where that is not known.

    Raises:
        ValueError: another number of tokens, which are no map in the proportions of the grid.
    """

    def __init__(self, channels: int, height: int, width: int, prefix: int = 0, grid: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.prefix = prefix
        self.grid = tuple(grid)
        self.embedding = nn.Parameter(torch.empty(channels, height, width))
        nn.init.normal_(self.embedding, std=0.02)

    def at(self, height: int, width: int) -> torch.Tensor:
        """The vectors for a size: C H W."""
        if (height, width) == tuple(self.embedding.shape[1:]):
            return self.embedding
        if self.embedding.shape[2] > 1:
            return F.interpolate(self.embedding[None], (height, width), mode="bicubic")[0]
        if width != 1 or not self.grid[0]:
            there = f"{self.embedding.shape[1]} x {self.embedding.shape[2]}"
            raise ValueError(f"there are positions for {there} places, and here are {height} x {width}")
        first_CK1, others_CP1 = self.embedding[:, : self.prefix], self.embedding[:, self.prefix :]
        size = grid_of(height - self.prefix, *self.grid)
        map_1CHW = F.interpolate(torch.unflatten(others_CP1[..., 0], 1, self.grid)[None], size, mode="bicubic")
        return torch.cat([first_CK1, map_1CHW[0].flatten(1)[..., None]], 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW + self.at(x_BCHW.shape[2], x_BCHW.shape[3]).to(x_BCHW.dtype)
