"""Measured time of a space's operators on this device, and its use as a cost.

The table holds the median time of every setting of an operator that the space can ask for, and of operators with search
units at several widths. Between these the time is taken to be linear in the operator's MACs, so that a search unit
costs its MACs times the slope there.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from nasdsl.compiler import ops
from nasdsl.compiler.asked import asked
from nasdsl.compiler.cost import node_cost
from nasdsl.compiler.decision import Units
from nasdsl.compiler.evaluated import evaluated
from nasdsl.compiler.files import write_text
from nasdsl.compiler.graph import Node
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.latency_table import (
    Entry,
    LatencyTable,
    Point,
    as_chosen,
    points_of,
    read_table,
    setting_key,
)
from nasdsl.compiler.setting import Setting
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.tree import decisions_of, evaluate


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
        graph = network.graph
        nodes = [node for node in evaluated(graph).operators() if node.name in network.settings and _has_units(node)]
        found = points_of(path, graph, nodes)
        largest = largest_values(graph)
        points = {}
        for name, all_ in found.items():
            chosen = (one for one in all_ if all(largest.get(path) == at for path, at in one.asked.values.items()))
            points[name] = list(next(chosen, all_[0]).points)
        return cls(points)

    def slope(self, name: str, network: Supernet) -> float:
        """Milliseconds per MAC of a node at its present width.

        At least a thousandth of its mean, so that every unit costs something.
        """
        points = self.points[name]
        node = network.graph.nodes[name]
        cost = node_cost(network.graph, node).macs
        values = {p: network.kept.get(p, tuple(range(network.graph.decisions[p].n))) for p in decisions_of(cost)}
        macs = float(evaluate(cost, values))
        place = next((i for i in range(1, len(points)) if macs <= points[i][0]), len(points) - 1)
        (x0, y0), (x1, y1) = points[place - 1], points[place]
        mean = points[-1][1] / max(points[-1][0], 1.0)
        return max((y1 - y0) / (x1 - x0) if x1 > x0 else mean, mean / 1000)


def _has_units(node: Node) -> bool:
    operator = ops.find(node.op)
    assert operator is not None
    return any(isinstance(group.units, Units) for group in operator.units(node.attrs))


def profile(
    network: Supernet,
    path: Path,
    batch: int = 1,
    repeats: int = 20,
    device: str = "cpu",
    note: Callable[[str], None] = print,
) -> LatencyTable:
    """Measures every operator of a supernet in each setting that its architectures ask for (`asked`), each once, and
    writes the table after each; what runs in training alone is left out. It goes on after a stop, and adds to a table
    of another space on the same device.

    Args:
        repeats: timed runs of each point, after three that warm up.
    """
    table = LatencyTable(device=describe_device(device), batch=batch, torch=torch.__version__, operators={})
    if path.exists():
        before = read_table(path)
        if before.model_copy(update={"operators": {}}) == table:
            table = before
    for node in evaluated(network.graph).operators():
        if node.name not in network.settings:
            continue
        for one in asked(network.graph, node):
            key = setting_key(one.settings[0])
            entry = table.operators.get(key)
            points = {} if entry is None else {point.macs: point for point in entry.points}
            before_it = len(points)
            for setting in one.settings:  # the widest first: of those with equal MACs, such as none, it stands for all
                macs = float(setting.macs())
                if macs not in points:
                    times = time_setting(setting, batch, repeats, device)
                    points[macs] = Point(macs=macs, ms=statistics.median(times), spread=_spread(times), runs=len(times))
            if len(points) == before_it:
                continue
            by_macs = tuple(points[macs] for macs in sorted(points))
            entry = Entry(node=node.name if entry is None else entry.node, points=by_macs)
            table = table.model_copy(update={"operators": {**table.operators, key: entry}})
            write_text(path, table.model_dump_json(indent=1) + "\n")
            widths = f" ({len(by_macs)} widths)" if len(by_macs) > 1 else ""
            what = f"{node.name}{as_chosen(network.graph, one)}{widths}"
            note(f"{by_macs[-1].ms:8.3f} ms +- {by_macs[-1].spread:.3f}  {what}")
    return table


def time_setting(setting: Setting, batch: int, repeats: int, device: str) -> list[float]:
    """Milliseconds of a forward pass in evaluation mode, one for each repeat."""
    module = setting.module().eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = []
    for shape in setting.inputs:
        number = batch * shape.items
        size = (number, shape.channels) if shape.height is None else (number, shape.channels, shape.height, shape.width)
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
