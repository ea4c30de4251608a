"""Is a screening stable? Ranks of options over seeds, with and without the term that suppresses an option everywhere.

    python -m benchmarks screening --data ../shared/data --workers 2

`spaces/hitdetector_small.space` is screened on images of blood cells (BCCD) as in docs/howto/gradient.md, with several
seeds and weights of the sparsity term. In each part of the network, options are ranked: those that stay by their scores
in the end, before them those that went, the last to go first. The Hit-Detector paper says that with a weight of 0 or
0.01 scores stay nearly equal and ranks are unstable.

What is done already is not done again.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

import nasdsl
from benchmarks.measure import RESULTS, Job, done, report, table
from nasdsl.compiler.elaborate.settings import read_values
from nasdsl.runtime.chosen import Scores, read_choices
from nasdsl.runtime.search import Options, search

DATA = "bccd_coco_320x240.zip"
CASES = ((0.1, 6), (0.0, 6), (0.01, 6))
"""Weights and epochs; the epochs are those of docs/howto/gradient.md."""


def screened(weight: float, epochs: int, seed: int, data: Path, work: Path) -> dict[str, Any]:
    """The scores of all options at each of 24 measurements; in the first third weights learn alone."""
    run = work / f"{weight}-{epochs}-{seed}-run"
    settings = {"train.epochs": f"{epochs}", "choices.after": f"{epochs // 3}", "every": f"{epochs / 24}"}
    overrides = read_values({**settings, "screen.weight": f"{weight}"})
    options = Options(data=str(data / DATA), run=run, seed=seed, overrides=overrides, accelerator="cpu")
    start = time.process_time()
    search(nasdsl.load("hitdetector_small").source, run.with_suffix(".space"), options, runtime="screen")
    rows = [one.model_dump() for one in read_choices(run, Scores)]
    return {"rows": rows, "seconds": time.process_time() - start}


def ranks(rows: Sequence[Mapping[str, Any]], group: str) -> list[tuple[int, float]]:
    """Of each option how many measurements it outlived, and its last score; the greatest is the best."""
    found: dict[str, tuple[int, float]] = {}
    for number, row in enumerate(rows):
        found |= {label: (number, score) for label, score in row["scores"][group].items() if score > 0}
    return [found[label] for label in rows[0]["scores"][group]]


def agreement(results: Sequence[Mapping[str, Any]], group: str) -> tuple[list[float], list[int]]:
    """Of each pair of seeds Kendall's tau-b of the ranks, and how many options both keep."""
    taus, both = [], []
    for a, b in itertools.combinations([ranks(one["rows"], group) for one in results], 2):
        order = [[sorted(set(one)).index(value) for value in one] for one in (a, b)]
        taus.append(float(kendalltau(*order).statistic))
        last = max(number for number, _ in a)
        both.append(sum(x[0] == last and y[0] == last for x, y in zip(a, b, strict=True)))
    return taus, both


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Ranks of a screening over seeds; takes an hour where nothing is done yet."
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help=f"the folder with {DATA}")
    parser.add_argument("--work", type=Path, default=Path("runs/screening"), help="the folders of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="screenings with each weight (default: 3)")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")


def main(args: argparse.Namespace) -> None:
    """Runs what has not been run yet, then writes the table."""
    data = args.data.resolve()
    if not (data / DATA).exists():
        print(f"left out, as {data / DATA} is missing")
        return
    jobs: list[Job] = [
        (f"{weight}-{epochs}-{seed}", screened, (weight, epochs, seed, data, args.work))
        for weight, epochs in CASES
        for seed in range(args.seeds)
    ]
    results = done(args.work, jobs, args.workers)
    lines = []
    for weight, epochs in CASES:
        mine = [results[f"{weight}-{epochs}-{seed}"] for seed in range(args.seeds)]
        for group in mine[0]["rows"][0]["scores"]:
            taus, both = agreement(mine, group)
            last = [one["rows"][-1]["scores"][group] for one in mine]
            spread = [max(one.values()) / min(score for score in one.values() if score > 0) for one in last]
            lines.append(
                [
                    f"{weight:g}",
                    f"{epochs}",
                    group,
                    f"{statistics.mean(taus):.2f}",
                    ", ".join(f"{tau:.2f}" for tau in taus),
                    f"{statistics.mean(both):.1f}",
                    f"{statistics.mean(spread):.2f}",
                ]
            )
    n = len(mine[0]["rows"][0]["scores"][group])
    minutes = statistics.median(one["seconds"] for name, one in results.items() if "-6-" in name) / 60
    head = ["weight", "epochs", "list", "tau, mean", "of each pair", "kept by both", "greatest by least score kept"]
    note = (
        f"Kendall's tau-b between the ranks of {n} options, of each pair of {args.seeds} seeds; of the 8 that each "
        f"keeps, those that both keep (by chance {64 / n:.1f}). {minutes:.0f} minutes of one core for a "
        "screening of 6 epochs."
    )
    report("screening", "How stable a screening is", [("Over seeds", f"{note}\n\n{table(head, lines)}")], RESULTS)
