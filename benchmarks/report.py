"""The page of a large search: how long it takes to write, and to open in Chromium.

    python -m benchmarks report

Needs Chromium, and playwright to drive it.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import nasdsl
from benchmarks.measure import RESULTS, report, table
from nasdsl.compiler.space import Space
from nasdsl.page.study import Objective, Record, Study
from nasdsl.page.write import page

SPACES = ("nasbench201", "hrnas_small", "trionet")
FLAGS = (
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Time to write the report of a search and to open it in Chromium."
    parser.add_argument("--trials", type=int, default=10_000, help="of the search (default: 10,000)")
    parser.add_argument("--repeats", type=int, default=5, help="how often each page is opened (default: 5)")
    parser.add_argument("--no-write", action="store_true", help="print the table only")


def main(args: argparse.Namespace) -> None:
    rows = []
    for name in SPACES:
        space = nasdsl.load(Path(nasdsl.__file__).resolve().parent / "spaces" / f"{name}.space")
        study = random_study(space, args.trials)
        start = time.process_time()
        text = page(space, study)
        written = time.process_time() - start
        opened = statistics.median(seconds_to_open(text, args.repeats))
        rows.append((name, f"{args.trials:,}", f"{written:.1f}", f"{len(text) / 2**20:.1f}", f"{opened:.2f}"))
    text = table(("space", "trials", "write, s", "MiB", "open, s"), rows)
    text += "\n\nOpened from a file in Chromium without a window, until all is drawn; medians. Goal: less than 2 s."
    report(
        "report", "The report of a search", [("Time to write and to open", text)], None if args.no_write else RESULTS
    )


def random_study(space: Space, n: int) -> Study:
    """Trials of random architectures, the better the more MACs."""
    generator = random.Random(0)
    population = nasdsl.population(space)
    matrix = population.draw(n, seed=0)
    costs = population.costs_by_name(matrix)
    records = []
    for i, (values, known) in enumerate(zip(population.diagram.encoding.decode(matrix), costs, strict=True)):
        macs = known["macs"]
        quality = math.log(macs) + generator.gauss(0, 0.3)
        parents = tuple(generator.sample(range(i), min(2, i)))
        decisions = values.to_json()
        records.append(Record(i, "complete", (quality, float(macs)), known, decisions, 60.0, parents, i))
    return Study("random", (Objective("accuracy", True), Objective("macs", False)), records)


def seconds_to_open(text: str, repeats: int) -> list[float]:
    from playwright.sync_api import sync_playwright

    out = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "report.html"
        file.write_text(text, encoding="utf-8")
        context: Any = playwright.chromium.launch_persistent_context(
            Path(folder) / "profile",
            executable_path=shutil.which("chromium"),
            args=[f"--{flag}" for flag in FLAGS],
            headless=True,
            offline=True,
            viewport={"width": 1366, "height": 768},
        )
        for _ in range(repeats):
            tab = context.new_page()
            start = time.perf_counter()
            tab.goto(file.as_uri())
            tab.wait_for_selector("html[data-ready=yes]")
            tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            out.append(time.perf_counter() - start)
            tab.close()
        context.close()
    return out
