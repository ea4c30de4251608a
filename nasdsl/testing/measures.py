"""What measures of costs are held to: everything that is known of all architectures at once, against one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nasdsl.api.given import SpaceLike
from nasdsl.compiler import measures
from nasdsl.compiler.arrays.evaluator import Evaluator
from nasdsl.compiler.cost import cost_of, totals
from nasdsl.compiler.measured import measured
from nasdsl.compiler.measures.measure import Measure
from nasdsl.compiler.population import Population
from nasdsl.compiler.values.tree import evaluate
from nasdsl.testing.contract import offering, require
from nasdsl.testing.spaces import some_of, space_or_small


def check_measure(measure: Measure, *, file: str | Path | None = None, space: SpaceLike | None = None) -> None:
    """Holds a measure to its word: it says what it is; what it counts is the same one by one, as arrays, as extremes,
    as a distribution, and inside a budget.

    Args:
        file: of a measure that is read from one.
        space: a small one, all of which is gone through.

    Raises:
        ContractError: something does not hold.
    """
    name = measure.name
    require(name.isidentifier() and measure.label and measure.doc, f"`{name}` does not say what it is")
    ways = [measure.term, measure.of, measure.read]
    require(sum(way is not None for way in ways) == 1, f"`{name}` has one of `term`, `of` and `read`")
    require(measure.scale >= 1, f"the scale of `{name}` is {measure.scale}")
    if measures.BUILT_IN.get(name) is measure or measures.plugins().get(name) is measure:
        _check(measure, file, space)
        return
    with offering(measures.GROUP, **{name: measure}):
        _check(measure, file, space)


def _check(measure: Measure, file: str | Path | None, space: SpaceLike | None) -> None:
    name = measure.name
    given, base = space_or_small(space), measures.find(measures.base(name)[1])
    reads = base.read is not None
    require((file is not None) == reads, f"`{name}` is {'' if reads else 'not '}read from a file")
    if file is not None:
        given = measured(given, {base.name: Path(file)})
    everything = some_of(given)
    graph = given.graph
    value = totals(graph, [name])[name]
    whole = [evaluate(value, one.indices) for one in everything]
    require(all(int(one) == one for one in whole), f"`{name}` is counted in whole numbers, and one is {whole[0]}")
    known = np.asarray([measure.amount(int(one)) for one in whole])
    alone = [cost_of(graph, one.indices, names=[name])[name] for one in everything[:20]]
    require(alone == known[:20].tolist(), f"`{name}` of one architecture is not what the space says of it")

    evaluator = Evaluator(graph)
    rows = evaluator.costs(evaluator.encoding.encode(everything), (name,))[:, 0]
    require(rows.tolist() == known.tolist(), f"`{name}` of many architectures is not that of each")

    population = Population(graph, ("macs", "params", name))
    if population.total != len(everything):  # too many to go through
        return
    ends = population.extreme(name).cost, population.extreme(name, greatest=True).cost
    require(
        ends == (known.min(), known.max()), f"`{name}` is from {ends[0]} to {ends[1]}, and by all from {known.min()}"
    )
    spread = population.spread(name)
    near = abs(spread.mean - known.mean()) <= 1e-6 * max(1.0, abs(known.mean()))
    require(near, f"the mean of `{name}` is told as {spread.mean}, and is {known.mean()}")
    low, high = (float(np.quantile(known, q, method="nearest")) for q in (0.1, 0.7))
    window: dict[str, Any] = {name: (low, high)}
    inside = (known >= low) & (known <= high)
    count = population.part(window).count
    require(
        count == inside.sum(), f"{count} architectures have `{name}` from {low} to {high}, and by all {inside.sum()}"
    )
    drawn = population.costs(population.draw(200, 3, window), (name,))[:, 0]
    require(((drawn >= low) & (drawn <= high)).all(), f"draws inside a budget on `{name}` lie outside")
