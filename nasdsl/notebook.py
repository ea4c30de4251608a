"""What a notebook shows: tables of what there is to know, and pictures."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.count import Count, brief
from nasdsl.compiler.diagnostics import NasdslError, shortened
from nasdsl.compiler.engine.limits import Infeasible, TooWide, bounded
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.measures import lookup
from nasdsl.compiler.population import Population
from nasdsl.compiler.space import Space
from nasdsl.drawing.histogram import as_svg, short
from nasdsl.drawing.inline import inline
from nasdsl.drawing.render import RenderError, svg
from nasdsl.drawing.trials import Dot, front_svg, progress_svg
from nasdsl.overview import summary

if TYPE_CHECKING:  # whoever has one of these has imported what it is made of
    from nasdsl.api.predicting import Numbers, Predictions
    from nasdsl.api.searching import Found
    from nasdsl.api.studying import Study
    from nasdsl.api.training import Trained
    from nasdsl.runtime.evolution.objectives import Objectives
    from nasdsl.runtime.evolution.trial import Trial

PATIENCE = 500_000
"""Table entries that the figures of a summary may take: a cell of a notebook answers within a second or two."""
MOST_ROWS = 40
"""Rows that a table lists."""
MOST_TEXT = 100
"""Characters of a value."""
MOST_LAYERS = 1000
"""Layers of a network that is still drawn."""
BINS = 40


def paint(value: Any) -> str:
    """HTML of a value that a notebook shows."""
    for kind in type(value).__mro__:
        painter = PAINTERS.get(kind.__name__)
        if painter is not None:
            return painter(value)
    return f"<pre>{html.escape(repr(value))}</pre>"


# --- Parts ------------------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], more: int = 0) -> str:
    """Rows of texts under their titles.

    Args:
        more: rows that are not shown.
    """
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    rest = f"<p>… and {more:,} more</p>" if more > 0 else ""
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _facts(facts: Mapping[str, Any]) -> str:
    return _table(("", ""), [(name, shortened(_told(name, value), MOST_TEXT)) for name, value in facts.items()])


def _told(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if lookup(name) is not None:
        return short(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def _figure(picture: str, wide: str = "100%") -> str:
    return f'<div style="max-width: {wide}; overflow: auto">{picture}</div>'


def _drawn(space: Space | Graph) -> str:
    """A picture; nothing where there is no graphviz, or too much to draw."""
    graph = space if isinstance(space, Graph) else space.graph
    if sum(1 for _ in graph.operators()) > MOST_LAYERS:
        return ""
    try:
        picture = svg(space)
    except RenderError:
        return ""
    return _figure(picture[picture.index("<svg") :])


# --- Spaces -----------------------------------------------------------------------------------------------------------


def _space(space: Space) -> str:
    with bounded(PATIENCE):
        text = summary(space)
    return f"<pre>{html.escape(text)}</pre>{_drawn(space)}"


def _graph(graph: Graph) -> str:
    return f"<pre>{html.escape(repr(graph))}</pre>{_drawn(graph)}"


def _architecture(architecture: Architecture) -> str:
    shown = list(architecture.indices.items())[:MOST_ROWS]
    rows = [(path, shortened(architecture.decisions[path].describe(index), MOST_TEXT)) for path, index in shown]
    return _table(("decision", "value"), rows, len(architecture) - len(shown))


def _count(count: Count) -> str:
    rows = []
    for factor in count.factors[:MOST_ROWS]:
        first = factor.groups[0] if factor.groups else ()
        where = shortened(", ".join(first), MOST_TEXT)
        copies = f"{factor.copies} places, such as {where}" if factor.copies > 1 else where
        rows.append((brief(factor.count), f"{factor.copies}", copies))
    left = f"<p>{len(count.budgets_left_out)} budgets left out</p>" if count.budgets_left_out else ""
    product = shortened(count.product, 2 * MOST_TEXT)
    told = "" if product == str(count) else f" = {html.escape(product)}"
    factors = _table(("values", "times", "decisions"), rows, len(count.factors) - len(rows))
    return f"<p><b>{html.escape(str(count))}</b> architectures{told}</p>{left}{factors}"


def _population(population: Population) -> str:
    from nasdsl.drawing.costs import cost_histogram

    rows, pictures = [], []
    for measure in population.measures:
        try:
            with bounded(PATIENCE):
                spread = population.spread(measure)
                quantiles = [short(float(spread.quantile(share))) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
                histogram = cost_histogram("the space", population, measure, BINS)
        except (TooWide, Infeasible):
            continue
        rows.append((_label(measure), *quantiles))
        pictures.append(inline(as_svg(histogram)))
    table = _table(("", "least", "a quarter up to", "half", "three quarters", "greatest"), rows)
    return f"<p>{html.escape(repr(population))}</p>{table}{''.join(_figure(one, '640px') for one in pictures)}"


def _label(name: str) -> str:
    measure = lookup(name)
    return name if measure is None else measure.label


# --- What came of something -------------------------------------------------------------------------------------------


def _found(found: Found) -> str:
    parts = [_facts(found.facts())]
    if found.objectives is not None:
        parts.append(_trials(found.searched.name, found.objectives, found.trials, found.front))
    try:
        parts.append(_drawn(found.space))
    except NasdslError:  # such as a file that has changed since
        pass
    return "".join(parts)


def _study(study: Study) -> str:
    trials, best = study.trials, study.best
    facts: dict[str, Any] = {"space": study.space.name, "trials": len(trials)}
    others = {"pending": study.pending, "failed": study.failed, "skipped": study.skipped}
    facts |= {name: len(some) for name, some in others.items() if some}
    if best is None:
        return _facts(facts)
    names = study.objectives.names
    facts |= {"best": f"trial {best.index}", **dict(zip(names, best.objectives, strict=True)), **best.costs}
    picture = _trials(study.space.name, study.objectives, trials, study.front)
    values = best.architecture
    table = _architecture(values) if isinstance(values, Architecture) else _facts(values)
    return f"{_facts(facts)}{picture}<details><summary>the best architecture</summary>{table}</details>"


def _trials(name: str, objectives: Objectives, trials: Sequence[Trial], front: Sequence[Trial]) -> str:
    if not trials:
        return ""
    names, among = objectives.names, {trial.index for trial in front}
    if len(names) > 1:
        dots = [Dot(one.index, one.objectives[1], one.objectives[0], one.index in among) for one in trials]
        picture = front_svg(f"{name}: {len(trials):,} trials, {len(front):,} on the front", dots, names[1], names[0])
    else:
        (up,) = objectives.maximised
        values = [one.objectives[0] for one in trials]
        record = list(accumulate(values, max if up else min))
        new = [i == 0 or record[i] != record[i - 1] for i in range(len(record))]
        dots = [
            Dot(one.index, i + 1, value, best)
            for i, (one, value, best) in enumerate(zip(trials, values, new, strict=True))
        ]
        picture = progress_svg(f"{name}: {len(trials):,} trials", dots, names[0])
    return _figure(inline(picture), "560px")


def _trained(trained: Trained) -> str:
    return _facts(trained.facts()) + _drawn(trained.space)


def _predictions(found: Predictions) -> str:
    rows = []
    for one in found[:MOST_ROWS]:
        seen = one.found
        labels, scores = getattr(seen, "labels", None), getattr(seen, "scores", None)
        if labels is not None and scores is not None and labels.ndim == 1:
            pairs = zip(labels.tolist(), scores.tolist(), strict=True)
            told = ", ".join(f"{found.names.of(int(label))} {score:.2f}" for label, score in pairs)
        elif labels is not None:
            classes = sorted(set(labels.ravel().tolist()))
            told = f"{labels.shape[1]} x {labels.shape[0]}: {', '.join(found.names.of(label) for label in classes)}"
        else:
            told = f"{len(seen.scores)} joints"  # type: ignore[union-attr]
        rows.append((one.name, shortened(told, MOST_TEXT)))
    return _table(("image", "found"), rows, len(found) - len(rows))


def _numbers(numbers: Numbers) -> str:
    rows = [
        (*map(str, line), *(f"{value:.5g}" for value in row))
        for line, row in list(zip(numbers.lines, numbers.values.tolist(), strict=True))[:MOST_ROWS]
    ]
    return _table(("table", "line", *numbers.targets), rows, len(numbers) - len(rows))


PAINTERS: Mapping[str, Callable[[Any], str]] = {
    "Space": _space,
    "Graph": _graph,
    "Architecture": _architecture,
    "Count": _count,
    "Population": _population,
    "Found": _found,
    "Study": _study,
    "Trained": _trained,
    "Predictions": _predictions,
    "Numbers": _numbers,
}
"""By the name of a class: naming the classes themselves would import torch to show a space."""
