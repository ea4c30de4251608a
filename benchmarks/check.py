"""How long each space that ships takes to check: from its text to the graph, all that is proved of it included.

python -m benchmarks check
python -m benchmarks check --against ../before
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import RESULTS, ratio, report, table
from nasdsl import spaces

ROOT = Path(__file__).resolve().parent.parent
HERE, THERE = "here", "there"

WORKER = """
import gc, json, statistics, sys, time
from nasdsl import spaces
from nasdsl.compiler.pipeline import elaborate
from nasdsl.files import source_of
repeats, names = int(sys.argv[1]), sys.argv[2:]
for name in names:
    if name not in spaces.names():
        continue
    source, taken = source_of(name), []
    gc.collect()
    gc.freeze()  # what other spaces left in memory is not looked through again
    for _ in range(repeats + 1):
        start = time.process_time()
        elaborate(source, name)
        taken.append(time.process_time() - start)
    print(json.dumps([name, statistics.median(taken[1:])]))
"""
"""Asks only for what earlier checkouts have as well."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Processor time to check the first space of each file that ships."
    parser.add_argument("names", nargs="*", metavar="NAME", help="of files that ship (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="of which the median counts (default: 5)")
    parser.add_argument("--against", metavar="FOLDER", help="another checkout, measured in turns with this one")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each checkout, with --against (default: 5)")
    parser.add_argument("--no-write", action="store_true", help="print the table only")


def main(args: argparse.Namespace) -> None:
    names = args.names or spaces.names()
    text = alone(names, args.repeats) if args.against is None else side_by_side(names, args)
    report(
        "check", "Time to check the spaces that ship", [("CPU milliseconds", text)], None if args.no_write else RESULTS
    )


def alone(names: Sequence[str], repeats: int) -> str:
    rows = [(name, shown(seconds)) for name, seconds in measured(ROOT, names, repeats).items()]
    note = f"From the text to the graph, in one process: medians of {repeats}, after one that does not count."
    return f"{table(('space', 'check'), rows)}\n\n{note}"


def side_by_side(names: Sequence[str], args: argparse.Namespace) -> str:
    """The times of two checkouts whose processes take turns, and of each space the median of the ratios."""
    checkouts = {HERE: ROOT, THERE: Path(args.against).resolve()}
    taken: dict[str, dict[str, list[float]]] = {name: {HERE: [], THERE: []} for name in names}
    for i in range(args.rounds):
        for which in (HERE, THERE) if i % 2 == 0 else (THERE, HERE):
            print(f"round {i + 1}: {checkouts[which]}", file=sys.stderr)
            for name, seconds in measured(checkouts[which], names, args.repeats).items():
                taken[name][which].append(seconds)
    rows = []
    for name, times in taken.items():
        both = [shown(statistics.median(times[which])) if times[which] else "" for which in (HERE, THERE)]
        rows.append((name, *both, f"{ratio(times, HERE, THERE):.2f}" if all(times.values()) else ""))
    note = (
        f"From the text to the graph, in processes of two checkouts that take turns, {args.rounds} of each: in a "
        f"process the median of {args.repeats}, after one that does not count; of the processes the median. The ratio "
        f"is the median over rounds of the time here by the time there."
    )
    return f"{table(('space', HERE, THERE, 'ratio'), rows)}\n\n{note}"


def measured(checkout: Path, names: Sequence[str], repeats: int) -> Mapping[str, float]:
    """Seconds for each space that a checkout has, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, str(repeats), *names]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout} cannot be measured:\n{done.stderr}")
    return dict(json.loads(line) for line in done.stdout.splitlines())


def shown(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f}"
