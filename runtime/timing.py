"""How long a network takes on this device."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

WARM_UP = 3
RUNS = 20


@torch.inference_mode()
def milliseconds(
    network: nn.Module, size: tuple[int, int, int], device: torch.device, runs: int = RUNS, warm_up: int = WARM_UP
) -> float:
    """The median time of a pass of one image in evaluation mode, with as many threads as torch is set to.

    Args:
        size: channels, height and width of the image.
        runs: that are timed, after those that warm up.
    """
    was = network.training
    network.eval()
    image_BCHW = torch.randn(1, *size, device=device).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(warm_up + runs):
        _wait(device)
        start = time.perf_counter()
        network(image_BCHW)
        _wait(device)
        times.append(1e3 * (time.perf_counter() - start))
    network.train(was)
    return statistics.median(times[warm_up:])


def _wait(device: torch.device) -> None:
    """Until the accelerator has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
