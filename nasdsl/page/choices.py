"""The part of a page that shows how the choices of a search by gradient, or the scores of a screening, went."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from nasdsl.compiler.architecture import ArchitectureError, index_of
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.declarations import Declaration, declarations_of
from nasdsl.compiler.relaxable import is_relaxable
from nasdsl.compiler.space import Space
from nasdsl.page.charts import COLOURS, GREY, WIDE, Curve, Place, curves, cut, heat
from nasdsl.page.study import Gradient, Screening, Training, label_of
from nasdsl.runtime.chosen import CHOICES, DECODED, Decoded, means
from nasdsl.runtime.errors import RunError

NARROW = 300
"""Width of a picture of which four stand in a row."""
MOST_CURVES = 8
"""Options of a declaration that have a curve of their own."""
MOST_FAINT = 100
"""Others that are drawn, in grey."""
MOST_COLUMNS = 40
"""Options of a declaration that have a column of their own in the map."""
LONGEST = 46
"""Characters of the name of an option in a legend or a table."""
MOST_LISTED = 20
"""Architectures in the table of the likeliest."""
MOST_CHANGES = 4
"""Differences that a row of it tells."""


def choices_section(space: Space, training: Training, choices: Gradient | Screening) -> str:
    """The part as HTML.

    Raises:
        RunError: it tells of decisions that the space has not.
    """
    if isinstance(choices, Gradient):
        return _Gradient(space, training, choices).text()
    return _screening(space, choices)


def _other_space(space: Space, file: str, why: str) -> RunError:
    help = "name the file that was searched, as it was then, with `--file`"
    return RunError(f"{file} is not of {space.name}: {why}", help)


# --- Search by gradient -----------------------------------------------------------------------------------------------


class _Gradient:
    def __init__(self, space: Space, training: Training, choices: Gradient) -> None:
        self.space, self.training, self.choices = space, training, choices
        self.decisions = space.graph.decisions
        self.declarations = declarations_of(space.graph)
        self._check()
        self.last: Mapping[str, Sequence[float]] = choices.measured[-1].probabilities if choices.measured else {}
        decoded = choices.decoded
        self.alone = {} if decoded is None else self._indices(decoded.alone)
        self.likeliest = [] if decoded is None else [self._indices(one.architecture) for one in decoded.likeliest]
        self.taken = {} if decoded is None else self.likeliest[decoded.taken]

    def _check(self) -> None:
        for path, decision in self.decisions.items():
            if not is_relaxable(decision):
                raise _other_space(self.space, CHOICES, f"`{path}` cannot have probabilities")
        sizes = {path: decision.cardinality() for path, decision in self.decisions.items()}
        for row in self.choices.measured:
            for path in (*row.probabilities, *sizes):
                if path not in sizes:
                    raise _other_space(self.space, CHOICES, f"the space has no decision `{path}`")
                if path not in row.probabilities:
                    raise _other_space(self.space, CHOICES, f"it lacks the decision `{path}`")
                if len(row.probabilities[path]) != sizes[path]:
                    found = len(row.probabilities[path])
                    raise _other_space(self.space, CHOICES, f"`{path}` has {sizes[path]} options and not {found}")

    def _indices(self, values: Mapping[str, Any]) -> dict[str, int]:
        """The place of each value among those of its decision."""
        found = {}
        for path, value in values.items():
            if path not in self.decisions:
                raise _other_space(self.space, DECODED, f"the space has no decision `{path}`")
            try:
                found[path] = _place(self.decisions[path], value)
            except ArchitectureError as problem:
                raise _other_space(self.space, DECODED, problem.message) from None
        return found

    def text(self) -> str:
        if not self.choices.measured:
            return '<p class="note">The choices have not been measured yet.</p>'
        parts = ["<h2>How the choices went</h2>"]
        if self.choices.decoded is None:
            parts.append(_so_far(self.choices.measured[-1].epoch))
        parts.append(f'<div class="row fourths">{"".join(self._courses())}</div>')
        parts.append(
            '<h2>Options over time</h2><p class="soft">The mean probability of each option over all places of a '
            "declaration.</p>"
        )
        parts.append(f'<div class="row thirds">{"".join(map(self._options, self.declarations))}</div>')
        parts += self._maps()
        if self.choices.decoded is not None:
            parts += self._taken(self.choices.decoded)
        return "".join(parts)

    def _courses(self) -> Iterator[str]:
        """Entropy, expected costs, and the likeliest architecture's first metric, over time."""
        names = list(dict.fromkeys(name for row in self.training.rows for name in row))
        measured = [name for name in names if name.endswith(" of the likeliest") and "probability" not in name][:1]
        for name in ["entropy", *(name for name in names if name.startswith("expected ")), *measured]:
            rows = [row for row in self.training.rows if name in row and "epoch" in row]
            if rows:
                label = label_of(name)
                one = Curve(label, [row["epoch"] for row in rows], [row[name] for row in rows])
                note = "1 where all options are equally likely, 0 where all is decided" if name == "entropy" else ""
                yield _chart(label, [one], [], note, wide=NARROW)

    def _options(self, declaration: Declaration) -> str:
        epochs = [row.epoch for row in self.choices.measured]
        columns = list(zip(*(means(declaration, row.probabilities) for row in self.choices.measured), strict=True))
        shown = _foremost([column[-1] for column in columns], MOST_CURVES)
        drawn = [Curve(declaration.values[i], epochs, columns[i], COLOURS[n]) for n, i in enumerate(shown)]
        legend = [(one.colour, one.name, f"{one.ys[-1]:.2f}") for one in drawn]
        rest = sorted(set(range(len(columns))) - set(shown), key=lambda i: -columns[i][-1])
        drawn += [Curve(declaration.values[i], epochs, columns[i], GREY, faint=True) for i in rest[:MOST_FAINT]]
        if rest:
            some = f" ({MOST_FAINT} drawn)" if len(rest) > MOST_FAINT else ""
            sum_ = sum(columns[i][-1] for i in rest)
            legend.append((GREY, f"{len(rest):,} others{some}, together", f"{sum_:.2f}"))
        return _chart(_headed(declaration), drawn, legend, floor=0)

    def _maps(self) -> Iterator[str]:
        many = [one for one in self.declarations if len(one.values) > 1]
        if not many:
            return
        yield "<h2>Places by options at the end</h2>"
        red = any(map(self._is_other, self.taken))
        marks = '<span><i class="frame"></i>taken</span>' if self.taken else ""
        marks += '<span><i class="frame red"></i>taken, though another is likelier by itself</span>' if red else ""
        gone = self.taken.keys() != self.decisions.keys()
        marks += "<span>grey names: not there in what was taken</span>" if self.taken and gone else ""
        yield f'<div class="legend"><span>The darker, the likelier, in each map up to its greatest.</span>{marks}</div>'
        yield f'<div class="maps">{"".join(map(self._map, many))}</div>'

    def _map(self, declaration: Declaration) -> str:
        shown = list(range(len(declaration.values)))
        if len(shown) > MOST_COLUMNS:
            kept = {self.taken[path] for path in declaration.paths if path in self.taken}
            most = [math.inf if i in kept else p for i, p in enumerate(means(declaration, self.last))]
            shown = _foremost(most, MOST_COLUMNS)
        columns = {i: n for n, i in enumerate(shown)}
        options = [declaration.values[i] for i in shown]
        rest = len(declaration.values) - len(shown)
        options += [f"{rest} others together"] if rest else []
        places = []
        for path in declaration.paths:
            shares = [self.last[path][i] for i in shown]
            shares += [sum(self.last[path]) - sum(shares)] if rest else []
            taken = columns.get(self.taken[path], len(shown)) if path in self.taken else None
            name = path.removesuffix(f".{declaration.name}")  # which all have
            gone = bool(self.taken) and path not in self.taken
            places.append(Place(name, path, shares, taken, self._is_other(path), gone))
        return (
            f"<figure><h3>{_headed(declaration)}</h3>"
            f'<div class="chart heat">{heat(f"options of {declaration.name}", options, places)}</div></figure>'
        )

    def _is_other(self, path: str) -> bool:
        """Whether another value than the likeliest by itself was taken."""
        return path in self.taken and self.taken[path] != self._best(path)

    def _best(self, path: str) -> int:
        shares = self.last[path]
        return self.alone.get(path, max(range(len(shares)), key=shares.__getitem__))

    # --- What was taken -----------------------------------------------------------------------------------------------

    def _taken(self, decoded: Decoded) -> Iterator[str]:
        yield f"<h2>What was taken</h2><p>{escape(self._sentence(decoded))}</p>"
        values = {path: one.values for one in self.declarations for path in one.paths}
        groups: dict[str, list[str]] = {}
        for path, index in self.taken.items():
            group, dot, rest = path.partition(".")
            told = self._valued(values, path, index)
            if self._is_other(path):
                told += f", and not {self._valued(values, path, self._best(path))}"
            mark = ' class="other"' if self._is_other(path) else ""
            row = f"<div{mark}><span>{escape(rest if dot else path)}</span><span>{told}</span></div>"
            groups.setdefault(group if dot else "", []).append(row)
        yield '<div class="groups taken">'
        for name, rows in groups.items():
            head = f"<h4>{escape(name)}</h4>" if name else ""
            yield f'<div class="group">{head}{"".join(rows)}</div>'
        yield "</div>"
        if len(decoded.likeliest) > 1:
            yield self._table(decoded, values)

    def _valued(self, values: Mapping[str, Sequence[str]], path: str, index: int) -> str:
        """A value and its probability, as HTML."""
        return f"{escape(values[path][index])} <b>{self.last[path][index]:.2f}</b>"

    def _sentence(self, decoded: Decoded) -> str:
        others, places = sum(map(self._is_other, self.taken)), len(self.taken)
        if not others:
            text = f"In all {places} places the likeliest option by itself was taken."
        else:
            text = f"In {others} of {places} places (marked) another option was taken than the likeliest by itself"
            text += f": {self._why()}." if self.likeliest[0] != self.alone else "."
        if decoded.taken:
            text += (
                f" Of the {len(decoded.likeliest)} likeliest architectures number {decoded.taken + 1} was taken: with "
                "the weights that it inherits it has the best score."
            )
        return text

    def _why(self) -> str:
        """Why the likeliest architecture is not that of the likeliest options."""
        if self._log_probability(self.alone) > self._log_probability(self.likeliest[0]) + 1e-3:
            return "all those together do not meet the requirements and budgets"
        return "all those together, with what they bring along, are less likely"

    def _log_probability(self, indices: Mapping[str, int]) -> float:
        """Up to a constant."""
        return sum(math.log(max(self.last[path][index], 1e-6)) for path, index in indices.items())

    def _table(self, decoded: Decoded, values: Mapping[str, Sequence[str]]) -> str:
        """The likeliest architectures, and how they differ from the first."""
        scored = any(one.score is not None for one in decoded.likeliest)
        head = ["", "log-probability", *(["score"] if scored else [])]
        cells = "".join(f'<th scope="col">{one}</th>' for one in head)
        rows = []
        for n, (one, indices) in enumerate(zip(decoded.likeliest, self.likeliest, strict=True)):
            if n >= MOST_LISTED and n != decoded.taken:
                continue
            score = "" if one.score is None else f"{one.score:.4f}"
            told = [str(n + 1), f"{one.log_probability:.3f}", *([score] if scored else [])]
            mark = ' class="front"' if n == decoded.taken else ""
            body = "".join(f"<td>{text}</td>" for text in told)
            unlike = escape(_differences(self.likeliest[0], indices, values))
            rows.append(f'<tr{mark}>{body}<td class="left wrap">{unlike}</td></tr>')
        more = len(decoded.likeliest) - len(rows)
        note = f'<p class="note">{more:,} more are in {DECODED}.</p>' if more else ""
        return (
            "<h3>The likeliest architectures inside all requirements and budgets</h3>"
            f'<div class="scroll"><table class="list"><thead><tr>{cells}'
            '<th class="left" scope="col">unlike the first</th></tr>'
            f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
            f'<p class="note">A red edge marks what was taken.</p>{note}'
        )


def _differences(first: Mapping[str, int], indices: Mapping[str, int], values: Mapping[str, Sequence[str]]) -> str:
    told = [f"{path} {values[path][index]}" for path, index in indices.items() if first.get(path) != index]
    told += [f"no {path}" for path in first if path not in indices]
    more = len(told) - MOST_CHANGES
    return ", ".join(told[:MOST_CHANGES]) + (f" and {more} more" if more > 0 else "")


def _place(decision: Decision, value: Any) -> int:
    index = index_of(decision, value)
    return int(index) if decision.kind == "choice" else list(decision.values()).index(index)


# --- Screening --------------------------------------------------------------------------------------------------------


def _screening(space: Space, choices: Screening) -> str:
    if not choices.measured:
        return '<p class="note">The scores have not been measured yet.</p>'
    known = {one.name: one for one in declarations_of(space.graph)}
    for row in choices.measured:
        for name, scores in row.scores.items():
            if name not in known:
                raise _other_space(space, CHOICES, f"the space has no declaration `{name}`")
            if set(scores) != set(known[name].labels):
                raise _other_space(space, CHOICES, f"`{name}` has other options")
        if row.scores.keys() != choices.measured[0].scores.keys():
            raise _other_space(space, CHOICES, "its lines tell of different declarations")
    names = list(choices.measured[0].scores)
    parts = ["<h2>Scores of the options over time</h2>"]
    if not choices.ended:
        parts.append(_so_far(choices.measured[-1].epoch))
    parts.append(
        '<p class="soft">Of each option over all places of a declaration. The curve of one that was removed ends.</p>'
    )
    parts.append(f'<div class="row thirds">{"".join(_scored(known[name], choices) for name in names)}</div>')
    parts.append(f"<h2>Which options {'stayed' if choices.ended else 'are left'}</h2>")
    parts.append(f'<div class="maps">{"".join(_removals(known[name], choices) for name in names)}</div>')
    return "".join(parts)


def _course(declaration: Declaration, choices: Screening, label: str) -> list[float]:
    """The scores of an option while it was there; NaN from when it was gone for good."""
    scores = [row.scores[declaration.name][label] for row in choices.measured]
    there = max((t for t, score in enumerate(scores) if score > 0), default=-1)
    return [*scores[: there + 1], *[math.nan] * (len(scores) - there - 1)]


def _standing(course: Sequence[float]) -> tuple[int, float]:
    """How many measurements an option lasted, and its score at the last of them."""
    there = [score for score in course if not math.isnan(score)]
    return len(there), there[-1] if there else 0.0


def _scored(declaration: Declaration, choices: Screening) -> str:
    epochs = [row.epoch for row in choices.measured]
    courses = [_course(declaration, choices, label) for label in declaration.labels]
    shown = _foremost([_standing(course) for course in courses], MOST_CURVES)
    drawn = [Curve(declaration.labels[i], epochs, courses[i], COLOURS[n]) for n, i in enumerate(shown)]
    legend = [(one.colour, one.name, _score(one.ys[-1])) for one in drawn]
    rest = [i for i in range(len(courses)) if i not in shown]
    drawn += [Curve(declaration.labels[i], epochs, courses[i], GREY, faint=True) for i in rest]
    legend += [(GREY, f"{len(rest)} others", "")] if rest else []
    return _chart(_headed(declaration), drawn, legend)


def _score(value: float) -> str:
    return "removed" if math.isnan(value) else f"{value:.3g}"


def _removals(declaration: Declaration, choices: Screening) -> str:
    """A table of the options: those that stayed by their scores, then the others, the last removed first."""
    found = [(*_standing(_course(declaration, choices, label)), label) for label in declaration.labels]
    found.sort(key=lambda one: one[:2], reverse=True)
    rows, stay = [], 0
    for lasted, score, label in found:
        if lasted == len(choices.measured):
            when, mark = ("stayed" if choices.ended else "there"), ' class="stay"'
            stay += 1
        else:
            when, mark = f"removed by epoch {choices.measured[lasted].epoch:.3g}", ' class="gone"'
        told = f"{score:.3g}" if lasted else ""
        name = escape(cut(label, LONGEST))
        rows.append(f'<tr{mark}><td class="left">{name}</td><td>{told}</td><td class="left">{when}</td></tr>')
    head = '<th class="left" scope="col">option</th><th scope="col">last score</th><th class="left" scope="col"></th>'
    return (
        f"<figure><h3>{_headed(declaration, f'{stay} of {len(found)} options')}</h3>"
        f'<table class="list"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></figure>'
    )


# --- What both share --------------------------------------------------------------------------------------------------


def _so_far(epoch: float) -> str:
    return f'<p class="note">The search has not ended: this is how it stood after epoch {epoch:.4g}.</p>'


def _headed(declaration: Declaration, what: str = "") -> str:
    n = len(declaration.paths)
    where = f"{n} places" if n > 1 else "1 place"
    return f'{escape(declaration.name)} <span class="soft">{escape(what) + ", " if what else ""}{where}</span>'


def _foremost(values: Sequence[Any], most: int) -> list[int]:
    """The places of the greatest values, in order; one less than `most` where others are left over, which then stand
    for it."""
    if len(values) <= most:
        return list(range(len(values)))
    return sorted(sorted(range(len(values)), key=values.__getitem__, reverse=True)[: most - 1])


def _chart(
    title: str,
    drawn: Sequence[Curve],
    legend: Sequence[tuple[str, str, str]],
    note: str = "",
    floor: float | None = None,
    wide: int = WIDE,
) -> str:
    """A figure of curves.

    Args:
        title: as HTML.
        legend: colours, names, and figures behind them.
    """
    keys = "".join(
        f'<span title="{escape(name)}"><i style="background:{colour}"></i>{escape(cut(name, LONGEST))} '
        f"<b>{figure}</b></span>"
        for colour, name, figure in legend
    )
    told = f'<div class="legend">{keys}</div>' if keys else ""
    told += f"<figcaption>{escape(note)}</figcaption>" if note else ""
    heading = title.partition("<")[0].strip()
    picture = curves(f"{heading} by epochs", drawn, "epochs", floor, wide)
    return f'<figure><h3>{title}</h3><div class="chart">{picture}</div>{told}</figure>'
