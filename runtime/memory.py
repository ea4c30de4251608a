"""Memory that does not suffice, on the machine or on its accelerator."""

from __future__ import annotations

import gc
import math
from pathlib import Path

import torch

PHRASES = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed", "bad_alloc", "bad allocation")
"""What messages of torch's say, in lower case, where its exception says nothing by its kind."""


def lack_of_memory(problem: BaseException) -> str | None:
    """Why there was not enough memory, in words; None where the exception is another."""
    lines = str(problem).strip().splitlines()
    told = any(phrase in str(problem).lower() for phrase in PHRASES)
    if not isinstance(problem, MemoryError | torch.OutOfMemoryError) and not told:
        return None
    return f"it does not fit in memory: {lines[0]}" if lines else "it does not fit in memory"


def release_memory() -> None:
    """Gives back what nobody refers to any more, to the accelerator's other users too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def available(device: torch.device) -> float:
    """Bytes that are free on a device; infinite where that cannot be told."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return math.inf
