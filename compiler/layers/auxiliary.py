"""Heads in the middle of a network that are used in training alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class Side(NamedTuple):
    """What a side gives, as a head does, and what its loss is multiplied by."""

    weight: float
    output: torch.Tensor


class Sided(NamedTuple):
    """What a network with sides gives in training: its own output, and those of the sides in their order."""

    output: torch.Tensor
    sides: tuple[Side, ...]


class Auxiliary(nn.Module):
    """Lets through its first input. The second is the output of a side, whose loss is added to that of the network,
    multiplied by `weight` (Inception paper: 0.3; NASNet and DARTS papers: 0.4)."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: torch.Tensor, side: torch.Tensor, sides: list[Side] | None = None) -> torch.Tensor:
        """
        Args:
            x: goes on as it is.
            side: what a head gives, such as B classes.
            sides: where the network learns: the side is added.
        """
        if sides is not None:
            sides.append(Side(self.weight, side))
        return x
