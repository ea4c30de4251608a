"""Does a search by evaluations stay quick as it grows? A trial's own work among few trials and among many.

    python -m benchmarks growth

The evaluation costs nothing, so what is left is what the search does for a trial: propose it, write it down, take it,
and write down what it is worth. Ledgers are filled with random architectures first. The clock is that of the process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import nasdsl
from benchmarks.measure import RESULTS, report, table
from nasdsl.compiler.architecture import Architecture
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.objectives import Objectives
from nasdsl.runtime.evolution.trial import Ledger, Memory
from nasdsl.runtime.storage import database_url
from nasdsl.runtime.strategies.evolve import Evolve
from nasdsl.runtime.trials import Database

SPACE = "ofa_mobilenetv3"
METHODS = ("random", "regularised", "nsga2")
FEW = 100
TIMED = 100
"""Trials that are timed."""


class Chance:
    """An evaluator that costs nothing."""

    headline = "worth"

    def evaluate(self, architecture: Architecture, seed: int) -> dict[str, float]:
        return {"worth": float(np.random.default_rng(seed).random())}


def timed(method: str, ledger: Ledger, candidates: Candidates, objectives: Objectives, sizes: list[int]) -> list[float]:
    """Milliseconds of a trial among so many others each time."""
    settings = Evolve.model_validate({"method": method, "maximise": "worth", "minimise": "macs"})
    search = Search(candidates, Chance(), objectives, settings.proposer(), ledger, FEW)
    random, found = np.random.default_rng(0), []
    for size in sizes:
        for number, row in enumerate(candidates.some(max(1, size - len(ledger.trials)), random)):
            ledger.add(candidates.proposal(row, number, (), {}))
            ledger.refresh()
            trial = ledger.claim(1 << 60)
            assert trial is not None
            metrics = {"worth": float(random.random())}
            ledger.finish(trial, objectives.of(metrics, trial.proposal.costs), metrics, 0.0)
        search.most = len(ledger.tally.complete) + TIMED
        start = time.process_time()
        search.run()
        found.append(1000 * (time.process_time() - start) / TIMED)
        print(f"{method}, {type(ledger).__name__}, {size:,} trials: {found[-1]:.1f} ms", flush=True)
    return found


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "What a search does for a trial among few trials and among many."
    parser.add_argument("--many", type=int, default=20_000, help="trials in memory (default: 20,000)")
    parser.add_argument("--stored", type=int, default=5_000, help="trials in a database (default: 5,000)")
    parser.add_argument("--no-write", action="store_true", help="print the table only")


def main(args: argparse.Namespace) -> None:
    candidates = Candidates(nasdsl.load(SPACE).graph)
    objectives = Objectives({"worth": True, "macs": False})
    with tempfile.TemporaryDirectory() as folder:

        def database(name: str) -> Ledger:
            url = database_url(None, Path(folder))
            return Database(url, name, objectives.directions, {}, candidates.graph.decisions)

        makers: list[tuple[str, int, Callable[[str], Ledger]]] = [
            ("memory", args.many, lambda name: Memory()),
            ("SQLite", args.stored, database),
        ]
        lines = []
        for where, many, make in makers:
            for method in METHODS if where == "memory" else METHODS[1:2]:
                ledger = make(method)
                times = timed(method, ledger, candidates, objectives, [FEW, many])
                ledger.close()
                lines.append([where, method, *(f"{ms:.1f}" for ms in times), f"{many:,}", f"{times[1] / times[0]:.2f}"])
    head = ["ledger", "method", f"ms among {FEW}", "ms among many", "many", "ratio"]
    sections = [("A trial's own work", table(head, lines))]
    report("growth", "Searches by evaluations as they grow", sections, None if args.no_write else RESULTS)
