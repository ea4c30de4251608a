"""Limits on costs as settings, and the windows of costs that they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator

from nasdsl.compiler.engine.lattice import Window
from nasdsl.compiler.population import Population, joined

Cost = Literal["macs", "flops", "params"]


def _positive(value: dict[Cost, float]) -> dict[Cost, float]:
    if not value or min(value.values()) <= 0:
        raise ValueError("limits costs, such as `macs <= 0.3G` or `macs <= 0.3`")
    return value


Limits = Annotated[dict[Cost, float], AfterValidator(_positive)]
"""A number of MACs, FLOPs or parameters; up to 1 it is a share of the greatest cost in the space."""


def window_of(
    population: Population, at_most: Mapping[Cost, float] | None = None, at_least: Mapping[Cost, float] | None = None
) -> Window:
    """The window that limits mean for the architectures of a space."""
    window: dict[str, tuple[float | None, float | None]] = {}
    for side, limits in ((1, at_most), (0, at_least)):
        for name, limit in (limits or {}).items():
            measure, bound = bound_of(name, limit)
            if limit <= 1:
                bound = limit * population.extreme(measure, greatest=True).cost
            window = joined(window, {measure: (None, bound) if side else (bound, None)})
    return window


def bound_of(name: Cost, limit: float) -> tuple[str, float]:
    """The measure that a limit on whole costs bounds, and by how much: MACs are half as many as FLOPs."""
    return ("macs", limit / 2) if name == "flops" else (name, limit)
