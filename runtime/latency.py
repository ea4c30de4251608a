"""Measured time of a space's operators on this device, and its use as a cost.

The table holds, for every distinct operator of the supernet, the median time at several widths. Between these the time
is taken to be linear in the operator's MACs, so that a search unit costs its MACs times the slope there.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nasdsl.compiler import ops
from nasdsl.compiler.cost import node_cost
from nasdsl.compiler.decision import Units
from nasdsl.compiler.files import write_text
from nasdsl.compiler.graph import Node
from nasdsl.compiler.latency_table import Entry, LatencyTable, Point, points_of, read_table, setting_key
from nasdsl.compiler.setting import Setting
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values import expr

SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""The shares of its units at which an operator is measured; without units once."""


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
        nodes = [node for node in network.graph.operators() if node.name in network.settings]
        return cls(points_of(path, network.settings, [node for node in nodes if at_share(network, node, 1.0)]))

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
            macs = float(setting.macs())
            times = time_setting(setting, batch, repeats, device)
            points.append(Point(macs=macs, ms=statistics.median(times), spread=_spread(times), runs=len(times)))
        entry = Entry(node=node.name, points=tuple(points))
        table = table.model_copy(update={"operators": {**table.operators, key: entry}})
        write_text(path, table.model_dump_json(indent=1) + "\n")
        note(f"{points[-1].ms:8.3f} ms +- {points[-1].spread:.3f}  {node.name}")
    return table


def _thinned(network: Supernet, node: Node, units: Mapping[str, tuple[int, ...]]) -> Setting:
    """A node's largest setting with some of its units alone."""
    full = network.settings[node.name]

    def put(value: Any, largest: Any) -> Any:
        if isinstance(value, Units):
            return value.fix(units[value.path]) if value.path in units else largest
        if isinstance(value, dict):
            return {key: put(item, largest[key]) for key, item in value.items()}
        return largest

    return replace(full, attrs={name: put(node.attrs.get(name), value) for name, value in full.attrs.items()})


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
