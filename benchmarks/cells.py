"""What do searches by gradient find in NAS-Bench-201, and do they collapse into skip connections?

    python -m benchmarks cells --data ../shared/data --workers 2

Supernets of `spaces/nasbench201.space`, with the benchmark's 16 channels and fewer cells, learn on 10,000 images of
CIFAR-10: by DARTS's mixture, by GDAS's one path with Gumbel noise, and by random search with weight sharing, all for
about as long; once by the mixture for four times as long, and by Gumbel noise after weights have learnt alone. The
cells that are the likeliest after each epoch, and the best that inherits weights, are looked up in the benchmark's
table, where each was trained alone for 200 epochs. From the probabilities at the end the likeliest cell is taken again
under several budgets.

What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import nasdsl
from benchmarks.measure import RESULTS, Job, done, report, spread, table
from benchmarks.tables import table_of
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.elaborate.settings import read_values
from nasdsl.compiler.files import write_text
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.odds import Odds
from nasdsl.compiler.population import extremes_of
from nasdsl.runtime.chosen import Probabilities, read_choices
from nasdsl.runtime.problem import Result
from nasdsl.runtime.search import Options, search

DATA = "cifar10_subset.zip"
TABLE = "cifar10_test"
WEIGHTS = {
    "train.batch": "64",
    "train.optimiser": "{ name: sgd, lr: 0.025, momentum: 0.9, nesterov: true }",
    "train.schedule": "{ name: cosine, final: 0.04 }",
    "train.weight_decay": "0.0005",
    "train.clip": "5",
}
"""As in the NAS-Bench-201 paper."""
BUDGETS = ((None, None), (None, 0.5), (None, 0.25), (0.25, None), (0.5, None), (0.25, 0.5))
"""The least and the most of the greatest MACs."""


@dataclass(frozen=True)
class Way:
    """A way to search.

    Attributes:
        epochs: such that all of three seeds take about as long.
        seeds: how many searches.
    """

    name: str
    runtime: str
    epochs: int
    settings: Mapping[str, str]
    seeds: int = 3

    @property
    def file(self) -> str:
        return self.name.replace(", ", "-").replace(" ", "-")


def _gradient(rule: str, epochs: int, every: str, after: int = 0, name: str = "", seeds: int = 3) -> Way:
    """
    Args:
        after: epochs in which weights learn alone.
    """
    choices = f"{{ optimiser: {{ name: adam, lr: 0.01, betas: [0.5, 0.999] }}, after: {after} }}"
    return Way(name or rule, "gradient", epochs, {"rule": rule, "choices": choices, "every": every}, seeds)


WAYS = (
    _gradient("softmax", 10, "0.5"),
    _gradient("softmax", 40, "2", name="softmax, 40 epochs", seeds=1),
    _gradient("gumbel", 40, "2"),
    _gradient("gumbel", 40, "2", after=16, name="gumbel, weights first", seeds=1),
    Way(
        "random",
        "sample",
        40,
        {
            "rule": "{ name: uniform, architectures: 1 }",
            "hold_back": "1000",
            "candidates": "100",
            "every": "10",
            "follow": "[]",
        },
    ),
)


# --- Jobs -------------------------------------------------------------------------------------------------------------


def searched(way: Way, seed: int, data: Path, work: Path, cells: int) -> dict[str, Any]:
    """The cells of a search: after each measurement, and in the end; its probabilities."""
    run = work / f"{way.file}-{seed}-run"
    overrides = read_values({**WEIGHTS, "train.epochs": str(way.epochs), **way.settings})
    options = Options(data=str(data / DATA), run=run, seed=seed, overrides=overrides, accelerator="cpu")
    start = time.process_time()
    space = nasdsl.load("nasbench201", cells=str(cells))
    found = search(space.source, run.with_suffix(".space"), options, None, {"cells": str(cells)}, way.runtime).result
    assert isinstance(found, Result)
    row: dict[str, Any] = {"found": found.architecture.to_json(), "seconds": time.process_time() - start}
    if way.runtime == "gradient":
        rows = read_choices(run, Probabilities)
        row["epochs"] = [{"epoch": one.epoch, "cell": alone(space.graph, one.probabilities)} for one in rows]
        row["probabilities"] = rows[-1].probabilities
    return row


def alone(graph: Graph, probabilities: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The likeliest option in each place."""
    indices = {path: max(range(len(p)), key=p.__getitem__) for path, p in probabilities.items()}
    return Architecture.at(graph, indices).to_json()


# --- Results ----------------------------------------------------------------------------------------------------------


def counted(cell: Mapping[str, Any]) -> str:
    """`3 skip, 2 conv 3x3, 1 none`."""
    names = {"skip_connect": "skip", "nor_conv_3x3": "3x3", "nor_conv_1x1": "1x1", "avg_pool_3x3": "pool"}
    words = list(cell.values())
    found = {names.get(word, word): words.count(word) for word in (*names, "none") if word in words}
    return ", ".join(f"{n} {name}" for name, n in found.items())


class Known:
    """The benchmark's table."""

    def __init__(self, data: Path) -> None:
        space, self._table = table_of("nasbench201", data)
        self.graph = space.graph
        self.greatest = extremes_of(self.graph, ("macs",))["macs"][1].cost
        self.all = sorted(one[TABLE] for one in self._table.metrics.values())

    def accuracy(self, cell: Mapping[str, Any]) -> float:
        return float(self._table.evaluate(Architecture.of(self.graph, cell), 0)[TABLE])

    def share(self, cell: Mapping[str, Any]) -> float:
        """Of the greatest MACs."""
        one = Architecture.of(self.graph, cell)
        return float(cost_of(self.graph, one.indices)["macs"]) / float(self.greatest)


def in_the_end(known: Known, rows: Mapping[str, list[dict[str, Any]]]) -> str:
    lines = []
    for way in WAYS:
        for seed, row in enumerate(rows[way.name]):
            cell, minutes = row["found"], f"{row['seconds'] / 60:.0f}"
            lines.append(
                [way.name, str(seed), f"{known.accuracy(cell):.2f}", f"{known.share(cell):.2f}", counted(cell), minutes]
            )
        means = [known.accuracy(row["found"]) for row in rows[way.name]]
        lines.append([f"**{way.name}**", "", spread(means, 2), "", "", ""])
    whole = known.all
    facts = (
        f"Of all 15,625 cells the best has {whole[-1]:.2f}, the median {statistics.median(whole):.2f}, the mean "
        f"{statistics.mean(whole):.2f}."
    )
    head = ["search", "seed", "test accuracy in %", "share of the greatest MACs", "cell", "minutes of one core"]
    return table(head, lines) + f"\n\n{facts}"


def over_time(known: Known, rows: Mapping[str, list[dict[str, Any]]]) -> str:
    """Accuracy in the table and skip connections of the likeliest cell, at tenths of the time."""
    tenths = (1, 2, 4, 6, 8, 10)
    lines = []
    for way in WAYS:
        for seed, row in enumerate(rows[way.name]):
            told = row.get("epochs")
            if told is None:
                continue
            cells = [told[max(0, math.ceil(len(told) * tenth / 10) - 1)]["cell"] for tenth in tenths]
            shown = [f"{known.accuracy(cell):.1f} ({list(cell.values()).count('skip_connect')})" for cell in cells]
            lines.append([way.name, str(seed), *shown])
    return table(["search", "seed", *(f"{tenth}0 %" for tenth in tenths)], lines)


def under_budgets(known: Known, rows: Mapping[str, list[dict[str, Any]]], cells: int) -> str:
    """The likeliest cell inside bounds on MACs."""
    graph = nasdsl.load("nasbench201", cells=str(cells)).graph
    odds = Odds(graph, ("macs",))
    most = float(extremes_of(graph, ("macs",))["macs"][1].cost)
    lines = []
    for low, high in BUDGETS:
        window = {"macs": (None if low is None else low * most, None if high is None else high * most)}
        words = " and ".join(
            f"at {end} {share}" for end, share in (("least", low), ("most", high)) if share is not None
        )
        line = [words or "none"]
        for way in WAYS:
            found = []
            for row in rows[way.name]:
                if "probabilities" in row:
                    log_p = {path: torch.tensor(p).log() for path, p in row["probabilities"].items()}
                    ((one, _),) = odds.likeliest(log_p, 1, window)
                    found.append(one.to_json())
            if found:
                each = [known.accuracy(cell) for cell in found]
                skips = [list(cell.values()).count("skip_connect") for cell in found]
                line.append(f"{spread(each, 2)} ({statistics.mean(skips):.1f})")
        lines.append(line)
    return table(["share of the greatest MACs", *(way.name for way in WAYS if way.runtime == "gradient")], lines)


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Cells of NAS-Bench-201 by gradient; takes hours where nothing is done yet."
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help=f"the folder with {DATA}")
    parser.add_argument("--work", type=Path, default=Path("runs/cells"), help="the folders of the runs")
    parser.add_argument("--cells", type=int, default=1, help="of each stage while searching (default: 1)")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")


def main(args: argparse.Namespace) -> None:
    """Runs what has not been run yet, then writes the tables."""
    data, work = args.data.resolve(), args.work
    if not (data / DATA).exists():
        print(f"left out, as {data / DATA} is missing")
        return
    jobs: list[Job] = [
        (f"{way.file}-{seed}", searched, (way, seed, data, work, args.cells))
        for way in WAYS
        for seed in range(way.seeds)
    ]
    results = done(work, jobs, args.workers)
    rows = {way.name: [results[f"{way.file}-{seed}"] for seed in range(way.seeds)] for way in WAYS}
    known = Known(data)
    write_text(RESULTS / "cells.json", json.dumps(rows, indent=1) + "\n")
    epochs = ", ".join(dict.fromkeys(f"{way.name.partition(',')[0]} {way.epochs}" for way in WAYS))
    setting = (
        f"16 channels, {args.cells} cell(s) in each of three stages; epochs: {epochs}, the first 16 of `weights first` "
        "without the choices. Weights as in the NAS-Bench-201 paper; logits by Adam at 0.01, as there are few steps. "
        "By random search, the best of 100 cells on 1,000 images that were held back."
    )
    sections = [
        ("What is found", f"{setting}\n\n{in_the_end(known, rows)}"),
        (
            "On the way",
            "Of the likeliest operation on each edge: the cell's test accuracy in %, in brackets its skip connections, "
            f"after a part of the time.\n\n{over_time(known, rows)}",
        ),
        (
            "Under budgets",
            "The likeliest cell, decoded exactly under bounds on MACs: test accuracy in %, mean and deviation over "
            f"seeds, in brackets skip connections.\n\n{under_budgets(known, rows, args.cells)}",
        ),
    ]
    report("cells", "Cells of NAS-Bench-201 by gradient", sections)
