"""Statistics of batch norms, estimated anew: those that training left are of all architectures together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def estimating(network: nn.Module, still: Collection[nn.Module] = ()) -> Iterator[list[nn.Module]]:
    """Inside, each pass adds its batch to a plain mean of the statistics, with all else in evaluation mode; afterwards
    all of it is.

    Args:
        still: modules whose statistics stay.

    Yields:
        the norms whose statistics are estimated.
    """
    kinds = nn.BatchNorm1d | nn.BatchNorm2d
    norms = [one for one in network.modules() if isinstance(one, kinds) and one not in still]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield list(norms)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


@torch.no_grad()
def estimate(
    network: nn.Module, batches: Iterable[torch.Tensor], run: Callable[[torch.Tensor], object] | None = None
) -> int:
    """Estimates the statistics of a network's norms on images (B C H W).

    Args:
        run: makes a pass; by default the network's own.

    Returns:
        how many batches there were.
    """
    number = 0
    with estimating(network):
        for images in batches:
            (run or network)(images)
            number += 1
    return number
