"""The part of a page that shows what a sampled supernet says of architectures: their scores, by what they cost, and how
their ranks settled while it learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.measures import lookup
from nasdsl.compiler.space import Space
from nasdsl.drawing.histogram import short
from nasdsl.page.charts import Curve, Dot, bars, curves, dots
from nasdsl.page.courses import OF
from nasdsl.page.study import Candidate, Training, label_of

if TYPE_CHECKING:
    from nasdsl.runtime.tasks import Task

FEWEST = 4
"""Networks whose ranks are told."""
BINS = 24
MOST_LISTED = 10
MOST_CHANGES = 4
MOST_RANKED = 2000
"""Architectures whose ranks are compared; of more, evenly taken ones."""


def candidates_section(space: Space, training: Training) -> str:
    """The part as HTML; nothing where the search has no candidates, and none is followed."""
    from nasdsl.runtime.problem import task_of
    from nasdsl.runtime.tasks import find_task

    if training.search != "sample":
        return ""
    task = find_task(task_of(space))
    parts = [_settling(training, task)]
    scored = [one for one in training.candidates if task.headline in one.numbers]
    if scored:
        parts.append(_scores(scored, task))
        parts.append(_best(space, scored, task))
    elif not training.candidates:
        parts.append('<p class="note">No candidates have been scored yet.</p>')
    return "".join(parts)


def candidate_tiles(space: Space, training: Training) -> list[tuple[str, str]]:
    """Figures of the whole, with what they are; none where no candidate has been scored."""
    from nasdsl.runtime.problem import task_of
    from nasdsl.runtime.tasks import find_task

    if not training.candidates:
        return []
    task = find_task(task_of(space))
    scored = [one for one in training.candidates if task.headline in one.numbers]
    if not scored:
        return []
    best = scored[_order([one.numbers[task.headline] for one in scored], task)[0]]
    tiles = [
        (f"{len(training.candidates):,}", "candidates"),
        (f"{best.numbers[task.headline]:.4g}", f"{task.headline} of the best"),
    ]
    return tiles + [
        (short(value), f"{label_of(name)} of the best") for name, value in best.numbers.items() if _is_base(name)
    ]


# --- Ranks ------------------------------------------------------------------------------------------------------------


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b of two rankings (1945): 1 where they agree, -1 where they are opposed; NaN where one of them has
    no order."""
    one, two = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(one) > MOST_RANKED:
        kept = np.linspace(0, len(one) - 1, MOST_RANKED).astype(int)
        one, two = one[kept], two[kept]
    x, y = np.sign(one[:, None] - one), np.sign(two[:, None] - two)
    pairs = math.sqrt(float((x != 0).sum()) * float((y != 0).sum()))
    return float((x * y).sum()) / pairs if pairs else math.nan


def _settling(training: Training, task: type[Task]) -> str:
    """How much the order of the networks that are followed is already that of the end."""
    names = [name for name in training.numbers if name.startswith(f"{task.headline}{OF}") and "candidate" in name] or [
        name for name in training.numbers if name.startswith(f"{task.headline}{OF}")
    ]
    rows = [row for row in training.rows if all(name in row for name in names) and "epoch" in row]
    if len(names) < FEWEST or len(rows) < 2:
        return ""
    last = [rows[-1][name] for name in names]
    taus = [kendall([row[name] for name in names], last) for row in rows]
    curve = Curve("tau", [row["epoch"] for row in rows], taus)
    picture = curves("rank correlation with the last measurement by epochs", [curve], "epochs")
    return (
        "<h2>How ranks settled</h2>"
        f'<div class="row thirds"><figure><h3>Rank correlation with the last measurement</h3>'
        f'<div class="chart">{picture}</div><figcaption>Kendall\'s tau of {len(names)} networks that were followed, '
        f"by their {escape(task.headline)} with the supernet's weights: 1 where they stand in the order of the end. "
        "While it is low, the supernet's word is not to be taken.</figcaption></figure></div>"
    )


# --- Scores -----------------------------------------------------------------------------------------------------------


def _scores(scored: Sequence[Candidate], task: type[Task]) -> str:
    headline = task.headline
    values = [one.numbers[headline] for one in scored]
    costs = [name for name in scored[0].numbers if _is_base(name)]
    best = _order(values, task)[0]
    figures = []
    for name in costs[:2]:
        having = [i for i, one in enumerate(scored) if name in one.numbers]
        points = [
            Dot(scored[i].numbers[name], values[i], f"{headline} {values[i]:.4g}, {short(scored[i].numbers[name])}",
                i == best)
            for i in having
        ]  # fmt: skip
        tau = kendall([scored[i].numbers[name] for i in having], [values[i] for i in having])
        label = label_of(name)
        told = "" if math.isnan(tau) else f" Kendall's tau between the two: {tau:.2f}."
        picture = dots(f"{headline} by {label}", points, label)
        figures.append(
            f'<figure><h3>{escape(headline)} by {escape(label)}</h3><div class="chart">{picture}</div>'
            f"<figcaption>The ring is what was taken.{told}</figcaption></figure>"
        )
    counts, edges = np.histogram(values, min(BINS, max(4, len(values) // 3)))
    picture = bars(f"candidates by {headline}", edges.tolist(), counts.tolist(), headline)
    figures.append(f'<figure><h3>Candidates by {escape(headline)}</h3><div class="chart">{picture}</div></figure>')
    return (
        f"<h2>What the supernet says of {len(scored):,} candidates</h2>"
        '<p class="soft">Architectures drawn inside the target, scored with the weights that they inherit on the '
        f"samples that were held back.</p>"
        f'<div class="row thirds">{"".join(figures)}</div>{_by_cost(scored, values, costs)}'
    )


def _is_base(name: str) -> bool:
    measure = lookup(name)
    return measure is not None and measure.of is None


def _by_cost(scored: Sequence[Candidate], values: Sequence[float], costs: Sequence[str]) -> str:
    """Scores in thirds by cost."""
    if not costs or len(scored) < 3 * FEWEST:
        return ""
    name = costs[0]
    order = np.argsort([one.numbers.get(name, math.nan) for one in scored], kind="stable")
    rows = []
    for called, part in zip(("cheapest", "middle", "dearest"), np.array_split(order, 3), strict=True):
        mine: NDArray[np.float64] = np.array([values[i] for i in part])
        ends = [scored[i].numbers.get(name, math.nan) for i in (part[0], part[-1])]
        quartiles = np.quantile(mine, (0, 0.25, 0.5, 0.75, 1)).tolist()
        cells = "".join(f"<td>{value:.4g}</td>" for value in quartiles)
        rows.append(
            f'<tr><td class="left">{called} third</td><td class="left">{short(ends[0])} to {short(ends[1])}</td>'
            f"{cells}</tr>"
        )
    head = "".join(f'<th scope="col">{one}</th>' for one in ("least", "quarter", "median", "three quarters", "most"))
    return (
        f'<div class="scroll"><table class="list"><thead><tr><th class="left" scope="col"></th>'
        f'<th class="left" scope="col">{escape(label_of(name))}</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _order(values: Sequence[float], task: type[Task]) -> list[int]:
    """The best first."""
    sign = -1 if task.higher_is_better else 1
    return sorted(range(len(values)), key=lambda i: sign * values[i])


def _best(space: Space, scored: Sequence[Candidate], task: type[Task]) -> str:
    """The best candidates, and how they differ from the first."""
    order = _order([one.numbers[task.headline] for one in scored], task)[:MOST_LISTED]
    names = [task.headline, *(name for name in scored[0].numbers if _is_base(name))]
    head = "".join(f'<th scope="col">{escape(label_of(name))}</th>' for name in names)
    rows = []
    for place, i in enumerate(order):
        one = scored[i]
        told = [one.numbers.get(name) for name in names]
        shown = [
            "" if n is None else short(n) if _is_base(name) else f"{n:.4g}" for n, name in zip(told, names, strict=True)
        ]
        cells = "".join(f"<td>{text}</td>" for text in shown)
        unlike = "" if not place else escape(differences(scored[order[0]].decisions, one.decisions))
        mark = ' class="front"' if not place else ""
        rows.append(f'<tr{mark}><td>{place + 1}</td>{cells}<td class="left wrap">{unlike}</td></tr>')
    return (
        f'<h3>The best of them</h3><div class="scroll"><table class="list"><thead><tr><th scope="col"></th>{head}'
        '<th class="left" scope="col">unlike the first</th></tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="note">A red edge marks what was taken.</p>'
    )


def differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What an architecture has otherwise than the first, in words."""
    told = [f"{path} {_word(value)}" for path, value in other.items() if first.get(path) != value]
    told += [f"no {path}" for path in first if path not in other]
    more = len(told) - MOST_CHANGES
    return ", ".join(told[:MOST_CHANGES]) + (f" and {more} more" if more > 0 else "")


def _word(value: Any) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
