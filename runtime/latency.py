"""Measured time of a space's operators on this device, and its use as a cost.

The table holds, for every distinct operator of the supernet, the median time at several widths. Between these the time
is taken to be linear in the operator's MACs, so that a search unit costs its MACs times the slope there.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field

from nasdsl.compiler import expr, ops
from nasdsl.compiler.cost import node_cost
from nasdsl.compiler.decision import Units
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.files import write_text
from nasdsl.compiler.graph import Node
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.pin import pin
from nasdsl.compiler.supernet import Setting, Supernet, setting_of
from nasdsl.runtime.errors import RunError
from nasdsl.runtime.stored import Stored, read_stored

SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""The shares of its units at which an operator is measured; without units once."""


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
    try:
        return read_stored(LatencyTable, path, "a latency table", "make one with `nasdsl profile`")
    except RunError as problem:
        raise error("bad-latency-table", problem.message, None, help=problem.help) from None


def setting_key(setting: Setting) -> str:
    """What tells one measured operator from another: its arguments and the size that it reads."""
    sizes = [[x.channels, x.height, x.width] for x in setting.inputs]
    return json.dumps([setting.op, setting.arguments(), sizes], sort_keys=True, default=str)


def at_share(network: Supernet, node: Node, share: float) -> dict[str, tuple[int, ...]]:
    """The node's units thinned evenly."""
    operator = ops.find(node.op)
    assert operator is not None
    out = {}
    for group in operator.units(node.attrs):
        if isinstance(group.units, Units):
            out[group.units.path] = tuple(range(max(1, round(share * group.units.n))))
    return out


@dataclass
class Latency:
    """A latency table joined to a supernet: for each node with units its points (MACs, milliseconds), by MACs."""

    points: Mapping[str, list[tuple[float, float]]]

    @classmethod
    def read(cls, path: Path, network: Supernet) -> Latency:
        """
        Raises:
            CompileError: the table cannot be read, or lacks an operator of the space.
        """
        measured = read_table(path).operators
        points: dict[str, list[tuple[float, float]]] = {}
        for node in network.graph.operators():
            if node.name not in network.settings or not at_share(network, node, 1.0):
                continue
            entry = measured.get(setting_key(network.settings[node.name]))
            if entry is None:
                raise error(
                    "bad-latency-table",
                    f"{path} has no time for `{node.name}`",
                    node.span,
                    help="the table was made for another space: run `nasdsl profile` again",
                )
            points[node.name] = sorted((point.macs, point.ms) for point in entry.points)
        return cls(points)

    def slope(self, name: str, network: Supernet) -> float:
        """Milliseconds per MAC of a node at its present width.

        At least a thousandth of its mean, so that every unit costs something.
        """
        points = self.points[name]
        node = network.graph.nodes[name]
        cost = node_cost(network.graph, node).macs
        values = {p: network.kept.get(p, tuple(range(network.graph.decisions[p].n))) for p in expr.decisions_of(cost)}
        macs = float(expr.evaluate(cost, values))
        place = next((i for i in range(1, len(points)) if macs <= points[i][0]), len(points) - 1)
        (x0, y0), (x1, y1) = points[place - 1], points[place]
        mean = points[-1][1] / max(points[-1][0], 1.0)
        return max((y1 - y0) / (x1 - x0) if x1 > x0 else mean, mean / 1000)


def profile(
    network: Supernet,
    path: Path,
    batch: int = 1,
    repeats: int = 20,
    device: str = "cpu",
    note: Callable[[str], None] = print,
) -> LatencyTable:
    """Measures every distinct operator of a supernet and writes the table after each. It goes on after a stop.

    Args:
        repeats: timed runs of each point, after three that warm up.
    """
    table = LatencyTable(device=describe_device(device), batch=batch, torch=torch.__version__, operators={})
    if path.exists():
        before = read_table(path)
        if before.model_copy(update={"operators": {}}) == table:
            table = before
    whole = largest_values(network.graph)
    for node in network.graph.operators():
        if node.name not in network.settings:
            continue
        key = setting_key(network.settings[node.name])
        if key in table.operators:
            continue
        points = []
        for share in SHARES if at_share(network, node, 1.0) else (1.0,):
            units = at_share(network, node, share)
            setting = _thinned(network, node, units)
            macs = float(expr.evaluate(node_cost(network.graph, node).macs, {**whole, **units}))
            times = time_setting(setting, batch, repeats, device)
            points.append(Point(macs=macs, ms=statistics.median(times), spread=_spread(times), runs=len(times)))
        entry = Entry(node=node.name, points=tuple(points))
        table = table.model_copy(update={"operators": {**table.operators, key: entry}})
        write_text(path, table.model_dump_json(indent=1) + "\n")
        note(f"{points[-1].ms:8.3f} ms +- {points[-1].spread:.3f}  {node.name}")
    return table


def _thinned(network: Supernet, node: Node, units: Mapping[str, tuple[int, ...]]) -> Setting:
    if not units:
        return network.settings[node.name]
    graph = pin(network.graph, {**largest_values(network.graph), **units})
    return setting_of(graph, graph.nodes[node.name])


def time_setting(setting: Setting, batch: int, repeats: int, device: str) -> list[float]:
    """Milliseconds of a forward pass in evaluation mode, one for each repeat."""
    module = setting.module().eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = []
    for shape in setting.inputs:
        size = (batch, shape.channels) if shape.height is None else (batch, shape.channels, shape.height, shape.width)
        x = torch.randn(size, device=device)
        inputs.append(x if x.dim() == 2 else x.contiguous(memory_format=torch.channels_last))
    times = []
    with torch.inference_mode():
        for run in range(repeats + 3):
            _wait(device)
            start = time.perf_counter()
            module(*inputs)
            _wait(device)
            if run >= 3:
                times.append(1e3 * (time.perf_counter() - start))
    return times


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _spread(times: list[float]) -> float:
    """Half the distance between the quartiles."""
    if len(times) < 4:
        return 0.0
    low, _, high = statistics.quantiles(times, n=4)
    return (high - low) / 2


def describe_device(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {torch.get_num_threads()} threads"
