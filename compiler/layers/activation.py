"""Activations by name."""

from __future__ import annotations

import torch
from torch import nn


def activation(name: str, inplace: bool = False) -> nn.Module:
    """The module for an activation's name; `none` is the identity.

    `inplace` is for a caller whose input nobody else reads, such as the output of a batch norm. Only activations whose
    gradient needs nothing but their output can use it.
    """
    if name == "none":
        return nn.Identity()
    if name == "relu":
        return nn.ReLU(inplace)
    if name == "relu6":
        return nn.ReLU6(inplace)
    if name == "leaky_relu":
        return nn.LeakyReLU(inplace=inplace)
    others = {
        "h_swish": nn.Hardswish,
        "swish": nn.SiLU,
        "gelu": nn.GELU,
        "sigmoid": nn.Sigmoid,
        "h_sigmoid": nn.Hardsigmoid,
        "tanh": nn.Tanh,
    }
    return others[name]()


class Activation(nn.Module):
    """One activation by itself."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.act = activation(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x)


class Dropout(nn.Module):
    """Sets values to zero with probability `p` in training."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x)
