"""How long `nasdsl check` and the stages of `nasdsl compile` take, in fresh processes, and which imports cost most.

python -m benchmarks startup
python -m benchmarks startup --shipped --against ../before
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import RESULTS, report, table
from nasdsl import spaces
from nasdsl.files import names_in, source_of

ROOT = Path(__file__).resolve().parent.parent
GOALS = {"nasdsl check": 0.4, "compile without torch's import": 3.0}

STAGES = """
import json, time
start = time.perf_counter()
marks = {}
def mark(name):
    global start
    now = time.perf_counter()
    marks[name] = now - start
    start = now
import nasdsl.compiler.pipeline
mark("import of the compiler")
import nasdsl
space = nasdsl.load(FILE)
mark("load and lower")
from nasdsl.overview import summary
summary(space)
mark("summary: count, costs")
import torch
mark("import of torch")
import nasdsl.compiler.supernet
mark("import of the layers")
nasdsl.supernet(space)
mark("build the supernet")
print(json.dumps(marks))
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Time to check and to compile a file, start of Python included."
    parser.add_argument("file", nargs="?", default="spaces/hrnas.space", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=10, help="processes of each kind (default: 10)")
    parser.add_argument("--imports", type=int, default=20, help="how many modules to list (default: 20)")
    parser.add_argument(
        "--shipped", action="store_true", help="instead, processor time and memory of four commands on what ships"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="with --shipped: of these files (default: all)")
    parser.add_argument(
        "--derived",
        type=int,
        default=1,
        help="with --shipped: spaces of each file beside the first (default: 1)",
    )
    parser.add_argument("--against", metavar="FOLDER", help="with --shipped: of another checkout, side by side")
    parser.add_argument("--limit", type=int, default=60, help="processor seconds of a command (default: 60)")
    parser.add_argument("--no-write", action="store_true", help="print the tables only")


def main(args: argparse.Namespace) -> None:
    if args.shipped:
        text = shipped(args.only or spaces.names(), args.derived, args.against, args.limit)
        title = "Commands on the spaces that ship"
        report("commands", title, [("Processor seconds and MiB", text)], None if args.no_write else RESULTS)
        return
    sections = [
        ("Commands", commands(args.file, args.repeats)),
        ("Stages of compile", stages(args.file, max(1, args.repeats // 3))),
        ("Imports of check", imports(args.file, args.imports)),
    ]
    report("startup", "Time to check and compile", sections, None if args.no_write else RESULTS)


def run(*command: str) -> tuple[float, float, subprocess.CompletedProcess[str]]:
    """Runs Python: seconds that pass, seconds of processor time, and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    wall, after = time.perf_counter() - start, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used, done


def commands(file: str, repeats: int) -> str:
    kinds = {
        "python -c pass": ("-c", "pass"),
        "nasdsl check": ("-m", "nasdsl", "check", file),
        "import torch": ("-c", "import torch"),
        "nasdsl compile": ("-m", "nasdsl", "compile", file),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for i in range(repeats + 1):
        for name, command in kinds.items():
            quick = name in ("nasdsl check", "python -c pass")
            if quick or 0 < i <= max(1, repeats // 3):
                wall, used, _ = run(*command)
                if i:  # the first may have to write byte code
                    taken[name].append((wall, used))
    rows = []
    for name, pairs in taken.items():
        walls, uses = zip(*pairs, strict=True)
        goal = f"{GOALS[name]:.1f}" if name in GOALS else ""
        rows.append(
            (name, *(f"{f(walls):.3f}" for f in (statistics.median, min)), f"{statistics.median(uses):.3f}", goal)
        )
    return table(("command", "wall, median, s", "least", "processor, median", "goal"), rows)


SHOWN = ("compile", "check", "count", "cost")


def shipped(files: Sequence[str], derived: int, against: str | None, limit: int) -> str:
    """Of each command on each space: processor seconds and peak memory, in another checkout and in this one."""
    roots = [ROOT] if against is None else [Path(against).resolve(), ROOT]
    rows = []
    for file in files:
        for name in itertools.islice(names_in(source_of(file)), 1 + derived):
            print(f"{file}: {name}", file=sys.stderr)
            row = [name]
            for command in SHOWN:
                taken = [used(root, limit, command, file, "--space", name) for root in roots]
                row += [" -> ".join(figures) for figures in zip(*taken, strict=True)]
            rows.append(tuple(row))
    head = ("space", *[f"{command}, {what}" for command in SHOWN for what in ("s", "MiB")])
    sides = "" if against is None else " Before and after, each command of both in turn."
    note = (
        f"User and system time of one process each, the start of Python and the imports included (torch's are 2 s of "
        f"`compile`), and the most memory it held.{sides} What takes more than {limit} s is ended."
    )
    return f"{table(head, rows)}\n\n{note}"


def used(root: Path, limit: int, *command: str) -> tuple[str, str]:
    """Processor seconds and MiB of `nasdsl COMMAND` in a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "nasdsl", *command],
        cwd=root,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1)),
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    memory = f"{usage.ru_maxrss / 1024:.0f}"
    if process.returncode == -signal.SIGXCPU:
        return f"over {limit}", memory
    return f"{usage.ru_utime + usage.ru_stime:.1f}" + (" (failed)" if process.returncode else ""), memory


def stages(file: str, repeats: int) -> str:
    taken = [json.loads(run("-c", STAGES.replace("FILE", repr(file)))[2].stdout) for _ in range(repeats)]
    medians = {name: statistics.median(marks[name] for marks in taken) for name in taken[0]}
    rows = [(name, f"{seconds:.3f}", "") for name, seconds in medians.items()]
    own = sum(medians.values()) - medians["import of torch"]
    name = "compile without torch's import"
    rows.append((name, f"{own:.3f}", f"{GOALS[name]:.1f}"))
    return table(("stage", "wall, median, s", "goal"), rows)


def imports(file: str, most: int) -> str:
    """The modules whose own code takes longest to import."""
    text = run("-X", "importtime", "-m", "nasdsl", "check", file)[2].stderr
    found = re.findall(r"import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)", text)
    found.sort(key=lambda row: -int(row[0]))
    rows = [(name, f"{int(own) / 1000:.1f}", f"{int(total) / 1000:.1f}") for own, total, name in found[:most]]
    everything = sum(int(own) for own, _, _ in found)
    rows.append((f"all {len(found)} modules", f"{everything / 1000:.1f}", ""))
    return table(("module", "own, ms", "with its imports, ms"), rows)
