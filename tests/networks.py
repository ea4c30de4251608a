"""What tests of spaces share: networks too large to draw weights for, and what `nasdsl.testing` holds networks to."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.supernet import Supernet
from nasdsl.testing import networks
from nasdsl.testing.networks import (
    Made,
    full_windows,
    image_for,
    largest,
    output_size,
    same,
    size_of,
    targets_for,
    tensors_of,
    torch_macs,
    torch_traffic,
    unsettle,
    with_what_is_read,
)

__all__ = [
    "Made",
    "check_extraction",
    "check_predictions",
    "full_windows",
    "image_for",
    "largest",
    "output_size",
    "same",
    "size_of",
    "supernet_of",
    "targets_for",
    "tensors_of",
    "torch_macs",
    "torch_traffic",
    "unsettle",
    "with_what_is_read",
]

LARGE = 1 << 18
"""Weights of a tensor, from which on `supernet_of` does not draw them."""


@cache
def pool() -> torch.Tensor:
    """Numbers for all large weights, within what torch's rules would draw them from for wide layers."""
    return torch.rand(1 << 24, generator=torch.Generator().manual_seed(5), device="cpu") * 0.04 - 0.02


def supernet_of(graph: Graph) -> Supernet:
    """A supernet whose large weights are stretches of one tensor, each another, instead of drawn.

    To draw hundreds of millions takes most of what building such a network does. As stretches overlap, none of it may
    be written to.
    """
    plain, made, numbers = torch.Tensor.uniform_, 0, pool()

    def uniform(tensor: torch.Tensor, low: float = 0, high: float = 1, *, generator: Any = None) -> torch.Tensor:
        nonlocal made
        room = len(numbers) - tensor.numel()
        if tensor.numel() < LARGE or room <= 0 or tensor.is_meta:
            return plain(tensor, low, high, generator=generator)
        made += 7919
        start = made % room
        tensor.data = numbers[start : start + tensor.numel()].view(tensor.shape)
        return tensor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "uniform_", uniform)
        return Supernet(graph).eval()


def check_predictions(graph: Graph, architecture: Architecture) -> None:
    """As `nasdsl.testing` has it."""
    networks.check_predictions(graph, architecture, supernet_of)


def check_extraction(graph: Graph, *architectures: Architecture, batch: int = 2) -> None:
    """As `nasdsl.testing` has it."""
    networks.check_extraction(graph, *architectures, batch=batch, build=supernet_of)
