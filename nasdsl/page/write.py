"""The page itself: one file of HTML with all that it needs inside, safe to open and to send."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from nasdsl.compiler.architecture import Architecture, ArchitectureError, index_of
from nasdsl.compiler.cost import is_known
from nasdsl.compiler.count import brief
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.budget import UnreadableBudget
from nasdsl.compiler.engine.limits import Infeasible, TooWide
from nasdsl.compiler.pin import pin
from nasdsl.compiler.population import Population
from nasdsl.compiler.space import Space
from nasdsl.drawing.costs import cost_histogram
from nasdsl.drawing.histogram import Mark, as_svg, short
from nasdsl.drawing.inline import inline
from nasdsl.drawing.render import RenderError, svg
from nasdsl.page.candidates import candidate_tiles, candidates_section
from nasdsl.page.choices import choices_section
from nasdsl.page.courses import measured_section, removals_section
from nasdsl.page.parts import filled, part, scripts
from nasdsl.page.study import Record, Study, Training, label_of
from nasdsl.runtime.errors import RunError

HERE = "nasdsl.page"
PICTURES = 6
BINS = 48
MOST_METRICS = 6
MOST_TILES = 7
PROGRESS = ("step", "epoch", "lambda", "penalty", "removed", "units", "units_at_start")
"""What the history of a training tells that is no result."""
LETTERS = {"complete": "c", "failed": "f", "running": "r", "waiting": "w", "skipped": "s"}
UNCOUNTED = (TooWide, Infeasible, UnreadableBudget)


def page(space: Space, study: Study, pictures: int = PICTURES, examples: str = "") -> str:
    """A report of a search as the text of an HTML file, which needs no other and asks no network.

    It has the figures of the whole, the trials in a chart of any two of their values with the front, the best so far
    and the hypervolume, the distribution of costs over the space with the trials in it, drawings of the space and of
    architectures along the front, and a table of all trials, of which each opens.

    Args:
        space: that was searched.
        pictures: of how many architectures there are drawings, where graphviz is installed.
        examples: HTML with what the best network finds in images.

    Raises:
        RunError: a trial's architecture is not one of the space's.
    """
    drawn = {i: _architecture(space, study.records[i]) for i in study.pictured(pictures)}
    told = _data(space, study, list(drawn))
    body = {
        "costs": _costs(space, study),
        "drawings": _drawings(space, study, drawn),
        "examples": examples,
    }
    return filled(
        HERE,
        "page.html",
        {
            "title": html.escape(f"{space.name}: {study.name}" if study.name != space.name else space.name),
            "heading": html.escape(space.name),
            "sub": _sub(space, study),
            "tiles": _tiles(space, study),
            "body": filled(HERE, "trials.html", body),
            "about": _about(space, study),
            "style": part(HERE, "page.css"),
            "scripts": scripts(HERE, "page.js", told),
        },
    )


def training_page(space: Space, training: Training, examples: str = "", found: Space | None = None) -> str:
    """A report of the training of one network, in the same form: what was measured and when, which units were removed,
    what candidates are worth, how choices went, where there are any; what the network finds in images, and a drawing of
    what was trained.

    Args:
        space: that was searched, or the architecture.
        examples: HTML with what the network finds in images.
        found: the architecture that came of a search.

    Raises:
        RunError: the choices, or units that were removed, are those of another space.
    """
    told = measured_section(training) + removals_section(space, training) + candidates_section(space, training)
    told += "" if training.choices is None else choices_section(space, training, training.choices)
    what = "training" if training.search == "train" else f"search {training.search}"
    numbers = {name: value for name, value in training.numbers.items() if name not in PROGRESS}
    tiles = candidate_tiles(space, training)
    tiles = tiles or [(_figure(value), label_of(name)) for name, value in list(numbers.items())[:MOST_TILES]]
    if "epoch" in training.numbers:
        tiles.insert(0, (_figure(training.numbers["epoch"]), "epochs"))
    try:
        whole = f'<h2>{_whole(space)}</h2><figure class="wide">{inline(svg(space))}</figure>'
        if found is not None:
            whole = f'<h2>What was found</h2><figure class="wide">{inline(svg(found))}</figure>{whole}'
    except RenderError as problem:
        whole = f'<p class="note">There are no drawings: {html.escape(problem.message)}.</p>'
    return filled(
        HERE,
        "page.html",
        {
            "title": html.escape(f"{space.name}: {what}"),
            "heading": html.escape(space.name),
            "sub": html.escape(what),
            "tiles": _boxed(tiles),
            "body": f"{told}{examples}{whole}",
            "about": _facts(space, training.about),
            "style": part(HERE, "page.css"),
            "scripts": "",
        },
    )


def _whole(space: Space) -> str:
    return "The space" if space.graph.decisions else "The architecture"


# --- Figures of the whole ---------------------------------------------------------------------------------------------


def _sub(space: Space, study: Study) -> str:
    aims = " and ".join(f"{'high' if one.maximise else 'low'} {label_of(one.name)}" for one in study.objectives)
    return html.escape(f"study {study.name}, for {aims}")


def _tiles(space: Space, study: Study) -> str:
    counts = {state: sum(record.state == state for record in study.records) for state in LETTERS}
    others = ", ".join(f"{n:,} {state}" for state, n in counts.items() if n and state != "complete")
    tiles = [(f"{counts['complete']:,}", "trials complete" + (f"; {others}" if others else ""))]
    for k, objective in enumerate(study.objectives):
        if study.complete:
            column = study.losses[:, k]
            best = study.records[study.complete[int(column.argmin())]]
            label = f"{'highest' if objective.maximise else 'lowest'} {label_of(objective.name)}, trial {best.number}"
            tiles.append((_figure(best.objectives[k]), label))
    tiles.append((f"{len(study.front):,}", "on the front"))
    seconds = sum(record.seconds or 0.0 for record in study.records)
    if seconds:
        tiles.append((_duration(seconds), "of evaluations, added up"))
    tiles.append((_size(space), "architectures in the space"))
    return _boxed(tiles)


def _boxed(tiles: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<div class="tile"><b>{html.escape(a)}</b><span>{html.escape(b)}</span></div>' for a, b in tiles)


def _size(space: Space) -> str:
    from nasdsl.compiler.count import count

    try:
        total = count(space.graph).total
    except UNCOUNTED:
        return "unknown"
    return f"{total:,}" if total < 10**7 else brief(total)


def _figure(value: float) -> str:
    return short(value) if abs(value) >= 1e4 else f"{value:.6g}"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _about(space: Space, study: Study) -> str:
    reference = ", ".join(f"{label_of(a.name)} {_figure(v)}" for a, v in zip(study.aims, study.reference, strict=True))
    return _facts(space, study.about, {"hypervolume from": reference} if study.complete else {})


def _facts(space: Space, about: Mapping[str, str], more: Mapping[str, str] | None = None) -> str:
    """What there is to know of the space and of the run, as the entries of a list of definitions."""
    facts = {"space": f"{space.name} in {space.source.name}", "digest": space.digest()}
    facts |= {name: value for name, value in about.items() if name not in facts}
    if space.overrides:
        facts["parameters"] = ", ".join(f"{name} = {value}" for name, value in space.overrides.items())
    facts |= more or {}
    return "".join(f"<dt>{html.escape(str(a))}</dt><dd>{html.escape(str(b))}</dd>" for a, b in facts.items())


# --- Pictures ---------------------------------------------------------------------------------------------------------


def _costs(space: Space, study: Study) -> str:
    try:
        population = Population(space.graph)
        known = [name for name in study.costs if is_known(space.graph, name)]
        parts = [_cost(space, study, population, name) for name in known]
    except UNCOUNTED as problem:
        return f'<p class="note">Costs of the whole space are out of reach: {html.escape(problem.message)}</p>'
    return f'<div class="row halves">{"".join(parts)}</div>'


def _cost(space: Space, study: Study, population: Population, measure: str) -> str:
    histogram = cost_histogram(space.name, population, measure, BINS)
    costs = np.array([record.costs[measure] for record in study.records if measure in record.costs], np.float64)
    counts = np.histogram(np.clip(costs, histogram.edges[0], histogram.edges[-1]), histogram.edges)[0]
    beside = (counts / max(1, len(costs))).tolist()
    best = [study.records[i] for i in study.front[:1]]
    marks = [Mark(record.costs[measure], f"trial {record.number}") for record in best if measure in record.costs]
    whose = f"{len(costs):,} trials, to their own scale"
    return f"<figure>{inline(as_svg(histogram, marks, (), beside, whose))}</figure>"


def _drawings(space: Space, study: Study, drawn: Mapping[int, Architecture]) -> str:
    try:
        whole = f'<figure class="wide">{inline(svg(space))}</figure>'
        found = [_drawing(space, study, i, values, i == next(iter(drawn))) for i, values in drawn.items()]
    except RenderError as problem:
        return f'<p class="note">There are no drawings: {html.escape(problem.message)}.</p>'
    text = ""
    if found:
        tabs = "".join(
            f'<button data-show="{i}" aria-pressed="{str(not n).lower()}">trial {study.records[i].number}</button>'
            for n, i in enumerate(drawn)
        )
        text += f'<h2>Along the front, best first</h2><div class="tabs screen">{tabs}</div>{"".join(found)}'
    return f"{text}<h2>The space</h2>{whole}"


def _drawing(space: Space, study: Study, place: int, values: Architecture, first: bool) -> str:
    record = study.records[place]
    figures = [f"{label_of(one.name)} {_figure(v)}" for one, v in zip(study.objectives, record.objectives, strict=True)]
    named = {one.name for one in study.objectives}
    figures += [f"{short(cost)} {label_of(name)}" for name, cost in record.costs.items() if name not in named]
    graph = pin(space.graph, values.indices)
    chosen = replace(space, name=f"trial {record.number}", graph=graph, whole=space.graph, pins=dict(values.indices))
    return (
        f'<figure id="drawing-{place}" class="drawing{" now" if first else ""}"><div class="wide">'
        f'{inline(svg(chosen))}</div><figcaption><button class="link" data-open="{record.number}">'
        f"trial {record.number}</button>: {html.escape(', '.join(figures))}</figcaption></figure>"
    )


# --- Data -------------------------------------------------------------------------------------------------------------


def _architecture(space: Space, record: Record) -> Architecture:
    try:
        return Architecture.of(space.graph, record.decisions)
    except ArchitectureError as problem:
        message = f"trial {record.number} has no architecture of {space.name}: {problem.message}"
        raise RunError(message, "name the file that was searched, as it was then, with `--file`") from None


def _data(space: Space, study: Study, drawn: Sequence[int]) -> dict[str, Any]:
    """What the page's script reads, column by column."""
    columns = _columns(study)
    names = [column["name"] for column in columns]
    words, choices = _choices(space, study)
    aims = [names.index(one.name) for one in study.aims]
    return {
        "number": [record.number for record in study.records],
        "state": "".join(LETTERS[record.state] for record in study.records),
        "columns": columns,
        "parents": [list(record.parents) for record in study.records],
        "seed": [record.seed for record in study.records],
        "errors": {str(i): record.error for i, record in enumerate(study.records) if record.error},
        "front": study.front,
        "drawn": list(drawn),
        "volume": study.hypervolume(),
        "volumeNote": "The share that the trials so far dominate of the box from the worst to the best "
        + " and ".join(label_of(aim.name) for aim in study.aims),
        "paths": list(words),
        "words": list(words.values()),
        "choices": choices,
        "upright": aims[0],
        "across": aims[1] if len(aims) > 1 else names.index("params"),
        "sort": 0,
        "down": study.objectives[0].maximise,
    }


def _columns(study: Study) -> list[dict[str, Any]]:
    records, complete = study.records, set(study.complete)
    columns: list[dict[str, Any]] = []

    def add(name: str, up: bool | None, values: Sequence[float | None], objective: bool = False) -> None:
        finite = [None if v is None or not math.isfinite(v) else v for v in values]
        columns.append({"name": name, "label": label_of(name), "up": up, "objective": objective, "values": finite})

    for k, one in enumerate(study.objectives):
        told = [(records[i].objectives[k], records[i].costs.get(one.name)) for i in complete]
        if one.name in study.costs and all(value == cost for value, cost in told):
            # Costs are known of all, also of those that were not evaluated; an evaluation may tell another figure.
            values = [record.costs.get(one.name) for record in records]
        else:
            values = [record.objectives[k] if i in complete else None for i, record in enumerate(records)]
        add(one.name, one.maximise, values, objective=True)
    for name in study.costs:
        if all(one.name != name for one in study.objectives):
            add(name, False, [record.costs.get(name) for record in records])
    known = {column["name"] for column in columns}
    metrics = sorted({name for record in records for name in record.metrics} - known)
    for name in metrics[:MOST_METRICS]:
        add(name, None, [record.metrics.get(name) for record in records])
    if any(record.seconds is not None for record in records):
        add("seconds", None, [record.seconds for record in records])
    return columns


def _choices(space: Space, study: Study) -> tuple[dict[str, list[str]], list[list[int]]]:
    """The values that each decision takes anywhere, and which of them each trial has; -1 where it is absent."""
    words: dict[str, dict[str, int]] = {path: {} for path in space.graph.decisions}
    rows: dict[str, list[int]] = {path: [] for path in words}
    told = cache(lambda path, text: _word(space.graph.decisions[path], json.loads(text)))
    for record in study.records:
        for path in record.decisions:
            if path not in words:
                _architecture(space, record)  # which says so
        for path, row in rows.items():
            if path not in record.decisions:
                row.append(-1)
                continue
            try:
                word = told(path, json.dumps(record.decisions[path]))
            except ArchitectureError:
                _architecture(space, record)
                raise
            row.append(words[path].setdefault(word, len(words[path])))
    used = {path: list(known) for path, known in words.items() if known}
    return used, [rows[path] for path in used]


def _word(decision: Decision, value: Any) -> str:
    """A value for people; of many units only how many they are."""
    taken = index_of(decision, value)
    if decision.kind == "units":
        return f"{len(taken)} of {decision.n}"
    told = decision.describe(taken).replace('"', "")
    return told if decision.kind == "choice" else told[1:-1]
