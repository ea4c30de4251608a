"""Measures that are known from a file alone."""

from __future__ import annotations

from pathlib import Path

from nasdsl.compiler.graph import Graph
from nasdsl.compiler.measures.measure import Measure, Terms


def _latency(path: Path, graph: Graph) -> Terms:
    from nasdsl.compiler.latency_table import terms  # pydantic takes a while to import

    return terms(path, graph)


LATENCY = Measure(
    "latency",
    "ms of latency",
    "The sum of the times of all operators by a table that was measured on a device (`nasdsl profile`), for as many "
    "images as the table was measured with at a time.",
    unit="ms",
    scale=10**6,
    when=lambda place: place.node.present,
    read=_latency,
    made_with="make one with `nasdsl profile` and name it with `--latency`",
)

MEASURES = (LATENCY,)
