"""The distribution of a cost over a space, ready to be drawn."""

from __future__ import annotations

from nasdsl.compiler.measures import find
from nasdsl.compiler.population import SAMPLED, Population
from nasdsl.drawing.histogram import Histogram, short


def cost_histogram(name: str, population: Population, measure: str, bins: int) -> Histogram:
    """The shares of a space's architectures in equal bins of a measure.

    Args:
        name: of the space.
        measure: by its name in the registry.
    """
    spread = population.spread(measure)
    edges, shares = spread.histogram(bins)
    if spread.exact:
        note = "exact, over all architectures"
    elif population.exact:
        note = f"over all architectures, each cost too high by at most {short(spread.error)}"
    else:
        note = f"estimated from {SAMPLED:,} random architectures; standard error of the mean {short(spread.error)}"
    unit = find(measure).label
    return Histogram(f"{name}: {unit} of its architectures", unit, edges.tolist(), shares.tolist(), note)
