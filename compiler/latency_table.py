"""Tables of measured times, as `nasdsl profile` writes them, and the latency of networks by them.

A table holds the median time of every setting in which the architectures of a space run an operator: each kernel, each
stride, each width that is chosen. Where widths are search units, or an operator's choices have more than 64 options
together, it is measured at several widths, and between these the time is taken to be linear in the operator's MACs;
below and above them as on the nearest piece, and never below 0. An operator that was measured once takes a time in
proportion to its MACs, or always the same where it has none. The latency of a
network is the sum over its operators, as if they ran one after the other: for as many images as the table was measured
with at a time. Sums and concatenations are taken to be free.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from pydantic import Field, ValidationError

from nasdsl.compiler.asked import Asked, asked, by_choice
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.evaluated import evaluated
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.measures.measure import Place
from nasdsl.compiler.setting import Setting
from nasdsl.compiler.stored import Stored, fault
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import apply

NANOSECONDS = 10**6
"""In a millisecond."""


class Point(Stored):
    """How long an operator takes at one width.

    Attributes:
        macs: of the operator at that width.
        ms: the median time, in milliseconds.
        spread: half the distance between the quartiles of the times.
        runs: how many there were.
    """

    macs: float = Field(ge=0)
    ms: float = Field(ge=0)
    spread: float = Field(ge=0)
    runs: int = Field(gt=0)


class Entry(Stored):
    """A measured operator: the node that it was first measured for, and its times at its widths."""

    node: str
    points: tuple[Point, ...] = Field(min_length=1)


class LatencyTable(Stored):
    """What `profile` measured: on which device, with how many images at a time, and the operators by `setting_key`."""

    device: str
    batch: int = Field(gt=0)
    torch: str
    operators: dict[str, Entry]


def read_table(path: Path) -> LatencyTable:
    """
    Raises:
        CompileError: the file cannot be read, or is no latency table.
    """
    help = "make one with `nasdsl profile`"
    try:
        return LatencyTable.model_validate_json(path.read_bytes())
    except OSError as problem:
        raise error("bad-latency-table", f"{path} cannot be read: {problem.strerror}", None, help=help) from None
    except ValidationError as problem:
        message = f"{path} is not a latency table: {fault(problem)}"
        raise error("bad-latency-table", message, None, help=help) from None


def setting_key(setting: Setting) -> str:
    """What tells one measured operator from another: its arguments and the size that it reads."""
    sizes = [[x.channels, x.height, x.width] for x in setting.inputs]
    return json.dumps([setting.op, setting.arguments(), sizes], sort_keys=True, default=str)


@dataclass(frozen=True)
class Measured:
    """What a table says of an operator with everything decided but some widths: its points (MACs, milliseconds)."""

    asked: Asked
    points: tuple[tuple[float, float], ...]


def points_of(path: Path, graph: Graph, nodes: Iterable[Node]) -> dict[str, list[Measured]]:
    """Of each node what the table says of it, by its choices. One that never has an output is left out.

    Raises:
        CompileError: the table cannot be read, or lacks an operator in one of its settings.
    """
    measured = read_table(path).operators
    found: dict[str, list[Measured]] = {}
    for node in nodes:
        for one in asked(graph, node):
            entry = measured.get(setting_key(one.settings[0]))
            if entry is None:
                raise error(
                    "bad-latency-table",
                    f"{path} has no time for `{node.name}`{as_chosen(graph, one)}",
                    node.span,
                    help="the table was made for another space: run `nasdsl profile` again, which goes on with it",
                )
            points = tuple(sorted((point.macs, point.ms) for point in entry.points))
            found.setdefault(node.name, []).append(Measured(one, points))
    return found


def as_chosen(graph: Graph, one: Asked) -> str:
    """The choices that are decided, as ` with kernel = 3`; nothing where there are none."""
    chosen = [f"{path} = {graph.decisions[path].words[option]}" for path, option in one.values.items()]
    return f" with {', '.join(chosen)}" if chosen else ""


def terms(path: Path, graph: Graph) -> dict[str, Value]:
    """What each operator of a graph adds to the latency, in whole nanoseconds.

    Raises:
        CompileError: as `points_of`.
    """
    found = points_of(path, graph, evaluated(graph).operators())
    return {name: _term(graph, graph.nodes[name], ways) for name, ways in found.items()}


def _term(graph: Graph, node: Node, found: Sequence[Measured]) -> Value:
    """The time of one operator: where its widths are left open, by the MACs that it has."""
    macs = Place(graph, node).cost.macs
    times = [
        (one.asked, _time(one.points, macs if len(one.asked.settings) > 1 else one.asked.settings[0].macs()))
        for one in found
    ]
    return by_choice(times, graph, node)


def _time(points: Sequence[tuple[float, float]], macs: Value) -> Value:
    """The time at so many MACs, in whole nanoseconds."""
    known: dict[Fraction, int] = {}
    for x, ms in points:  # of equal widths the quickest
        known.setdefault(Fraction(x), round(Fraction(ms) * NANOSECONDS))
    places = list(known.items())
    if len(places) == 1:
        ((width, time),) = places
        return time if width == 0 else _line((Fraction(0), 0), (width, time), macs)
    *before, (start, end) = pairwise(places)
    value = _line(start, end, macs)
    for one, other in reversed(before):
        value = expr.choose(expr.at_most(macs, other[0]), _line(one, other, macs), value)
    return value


def _line(start: tuple[Fraction, int], end: tuple[Fraction, int], macs: Value) -> Value:
    """On the line through two points, rounded to whole numbers; not below 0."""
    (x0, y0), (x1, y1) = start, end
    slope = Fraction(y1 - y0) / (x1 - x0)
    # y0 + slope (macs - x0) + 1/2, as a quotient of whole numbers
    above = expr.add(expr.multiply(2 * slope.numerator, macs), 2 * (y0 * slope.denominator - x0 * slope.numerator))
    found = expr.floor_divide(expr.add(above, slope.denominator), 2 * slope.denominator)
    return apply("max", 0, found) if y0 < slope * x0 else found
