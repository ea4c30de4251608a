"""Tables of measured times, as `nasdsl profile` writes them, and the latency of networks by them.

A table holds, for every distinct operator of a supernet, the median time at several widths. Between these the time is
taken to be linear in the operator's MACs; below and above them as on the nearest piece, and never below 0. An operator
that was measured once takes a time in proportion to its MACs, or always the same where it has none. The latency of a
network is the sum over its operators, as if they ran one after the other: for as many images as the table was measured
with at a time. Sums and concatenations are taken to be free.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from pydantic import Field, ValidationError

from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.measures.measure import Place
from nasdsl.compiler.setting import Setting, largest_settings
from nasdsl.compiler.stored import Stored, fault
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.expr import Value

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
    """A measured operator: the node that it was measured for, and its times."""

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


def points_of(
    path: Path, settings: Mapping[str, Setting], nodes: Iterable[Node]
) -> dict[str, list[tuple[float, float]]]:
    """Of each node its points (MACs, milliseconds), by MACs.

    Args:
        path: of the table.
        settings: the largest of each node; what has none never runs.

    Raises:
        CompileError: the table cannot be read, or lacks an operator.
    """
    measured = read_table(path).operators
    points: dict[str, list[tuple[float, float]]] = {}
    for node in nodes:
        if node.name not in settings:
            continue
        entry = measured.get(setting_key(settings[node.name]))
        if entry is None:
            raise error(
                "bad-latency-table",
                f"{path} has no time for `{node.name}`",
                node.span,
                help="the table was made for another space: run `nasdsl profile` again",
            )
        points[node.name] = sorted((point.macs, point.ms) for point in entry.points)
    return points


def terms(path: Path, graph: Graph) -> dict[str, Value]:
    """What each operator of a graph adds to the latency, in whole nanoseconds.

    Raises:
        CompileError: as `points_of`.
    """
    found = points_of(path, largest_settings(graph), graph.operators())
    return {name: _time(points, Place(graph, graph.nodes[name]).cost.macs) for name, points in found.items()}


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
    return expr.apply("max", 0, found) if y0 < slope * x0 else found
