"""What counting, costing, drawing and changing architectures takes, for every space that ships.

python -m benchmarks spaces
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, report, table
from benchmarks.rival_tools import peak
from nasdsl import spaces
from nasdsl.compiler.count import brief, count
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.engine.budget import Within
from nasdsl.compiler.engine.limits import Infeasible, TooWide
from nasdsl.compiler.engine.variation import Variation
from nasdsl.compiler.parse import parse
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.population import Population, joined
from nasdsl.files import names_in, source_of

ROOT = Path(__file__).resolve().parent.parent
N = 10_000  # architectures drawn, and changed
SHARE = 0.1  # of the architectures, inside the budget
STEPS = ("parse", "check", "count", "diagram", "extremes", "distribution", "draw", "budget", "mutate")
OUT_OF_TIME = 124  # exit status
ENOUGH = 4.0  # seconds; a space that takes longer is not measured again


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "CPU time and peak memory of every step, from the text to mutants inside a budget."
    parser.add_argument("names", nargs="*", metavar="NAME", help="of files that ship (default: all)")
    parser.add_argument(
        "--repeats", type=int, default=5, help="of quick spaces, of which the median counts (default: 5)"
    )
    parser.add_argument("--limit", type=int, default=300, help="CPU seconds for each space (default: 300)")
    parser.add_argument("--no-write", action="store_true", help="print the tables only")


def main(args: argparse.Namespace) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for file in args.names or spaces.names():
        try:
            names = names_in(source_of(file))
        except CompileError as problem:
            found[file] = [{"step": "parse", "trouble": str(problem)}]
            continue
        for name in names:
            print(f"{file}: {name}", file=sys.stderr)
            found[name if name == file else f"{file}: {name}"] = measured(file, name, args.repeats, args.limit)
    sections = [("Sizes and costs", sizes(found)), ("CPU milliseconds", times(found))]
    trouble = list(troubles(found))
    if trouble:
        sections.append(("Not exact, or not at all", "\n".join(trouble)))
    report("spaces", "Operations on the spaces that ship", sections, None if args.no_write else RESULTS)


# --- one space, in a process of its own -------------------------------------------------------------------------------


def measured(file: str, name: str, repeats: int, limit: int) -> list[dict[str, Any]]:
    """What a process of its own wrote of each step before it ended or was ended."""
    command = [sys.executable, "-m", "benchmarks.spaces", file, name, str(repeats), str(limit)]
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **single}, capture_output=True, text=True)
    steps: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode and (not steps or steps[-1]["step"] != STEPS[-1]):  # else it had begun anew
        last = [f"not done after {limit} s"] if done.returncode == OUT_OF_TIME else done.stderr.splitlines()[-1:]
        at = STEPS.index(steps[-1]["step"]) + 1 if steps else 0
        steps.append({"step": STEPS[at], "trouble": "".join(last) or f"ended with {done.returncode}"})
    return steps


def work(file: str, name: str, repeats: int, limit: int) -> None:
    """Takes all steps, so often or until it has been long enough, and writes a line of JSON for each."""
    threading.Thread(target=give_up, args=[limit], daemon=True).start()
    begin = time.process_time()
    for _ in range(repeats):
        once(file, name)
        if time.process_time() - begin > ENOUGH:
            break


def give_up(limit: int) -> None:
    """Ends the process after so many CPU seconds. A limit set for the process would coarsen its clock."""
    while time.process_time() < limit:
        time.sleep(0.1)
    os._exit(OUT_OF_TIME)


def once(file: str, name: str) -> None:
    """Every step from the text on, with nothing kept from before."""

    def timed(step: str, act: Callable[[], Any], facts: Callable[[Any], dict[str, Any]] = lambda _: {}) -> Any:
        line: dict[str, Any]
        start = time.process_time()
        try:
            found = act()
        except (TooWide, Infeasible) as problem:
            found, line = None, {"trouble": str(problem)}
        except Exception as problem:  # a bug in one step shall not hide the others
            found, line = None, {"trouble": f"{type(problem).__name__}: {problem}"}
        else:
            line = {"seconds": time.process_time() - start, **facts(found)}
        print(json.dumps({"step": step, "peak": peak(), **line}), flush=True)
        return found

    source = source_of(file)
    timed("parse", lambda: parse(source))
    space = timed("check", lambda: elaborate(source, name), lambda space: {"decisions": len(space.graph.decisions)})
    if space is None:
        return
    graph = space.graph
    timed("count", lambda: count(graph), lambda size: {"count": written(size.total)})
    whole = timed("diagram", lambda: Population(graph), lambda whole: {"exact": whole.exact, "why": whole.why})
    if whole is None:
        return
    timed(
        "extremes",
        lambda: {measure: (whole.extreme(measure), whole.extreme(measure, True)) for measure in whole.measures},
        lambda ends: {"extremes": {m: [end.cost for end in pair] for m, pair in ends.items()}},
    )
    spread = timed(
        "distribution", lambda: whole.spread("macs"), lambda spread: {"binned": whole.exact and not spread.exact}
    )
    timed("draw", lambda: whole.draw(N, 0))
    if spread is None:
        return
    window = joined(whole.window, {"macs": (None, spread.quantile(SHARE))})
    sampler: Within | None = None
    rng = np.random.Generator(np.random.PCG64(0))

    def draw_inside() -> Any:
        nonlocal sampler
        if not whole.exact:
            return whole.draw(N, 0, window)
        sampler = Within(whole.diagram, window)
        return whole.diagram.matrix(sampler.draw(N, rng), rng)

    inside = timed("budget", draw_inside, lambda _: {"limit": window["macs"][1]})
    if inside is not None:
        timed("mutate", lambda: Variation(whole.diagram, sampler).mutate_matrix(inside, rng))


def written(total: int) -> str:
    """All digits where they fit."""
    return f"{total:,}" if total < 10**24 else brief(total)


# --- tables -----------------------------------------------------------------------------------------------------------


def facts_of(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was found, over all steps."""
    return {key: value for step in steps for key, value in step.items() if key not in ("step", "seconds")}


def sizes(found: dict[str, list[dict[str, Any]]]) -> str:
    rows = []
    for name, steps in found.items():
        facts = facts_of(steps)
        ends = facts.get("extremes", {})
        rows.append(
            (
                name,
                str(facts.get("decisions", "")),
                facts.get("count", ""),
                *(" to ".join(short(end) for end in ends.get(measure, ())) for measure in ("macs", "params")),
                f"{facts['limit']:,}" if "limit" in facts else "",
                "" if "exact" not in facts else "exact" if facts["exact"] else "estimated",
            )
        )
    head = ("space", "decisions", "architectures", "MACs", "parameters", f"MACs, {SHARE:.0%} within", "costs")
    return table(head, rows)


def short(number: int) -> str:
    """`1.23M`: four digits."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "K")):
        if number >= size:
            return f"{number / size:.4g}{letter}"
    return str(number)


def times(found: dict[str, list[dict[str, Any]]]) -> str:
    rows = []
    for name, steps in found.items():
        seconds: dict[str, list[float]] = {}
        for step in steps:
            if "seconds" in step:
                seconds.setdefault(step["step"], []).append(step["seconds"])
        medians = [f"{1e3 * statistics.median(seconds[step]):,.1f}" if step in seconds else "" for step in STEPS]
        memory = max((step["peak"] for step in steps if "peak" in step), default=0)
        rows.append((name, *medians, f"{memory / 2**20:.0f}"))
    note = (
        f"Medians of steps that begin anew each time. `parse` reads the text; `check` does so too, and proves what "
        f"holds of all architectures; `count` counts them; `diagram` lays the space out for all that follows; "
        f"`extremes` finds the least and the greatest MACs and parameters; `distribution` that of MACs; `draw` makes "
        f"{N:,} uniform architectures; `budget` as many within the MACs that {SHARE:.0%} keep; `mutate` changes one "
        f"decision of each, within that budget where costs are exact. Memory is the peak of the process, in MiB. A "
        f"step without a figure has its reason below."
    )
    return f"{table(('space', *STEPS, 'memory'), rows)}\n\n{note}"


def troubles(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """What is estimated, rounded, too wide, or not done in time, and for which spaces."""
    said: dict[str, dict[str, None]] = {}
    for name, steps in found.items():
        for step in steps:
            if step.get("trouble"):
                said.setdefault(f"{step['step']}: {step['trouble']}", {})[name] = None
            if step.get("why"):
                said.setdefault(f"costs are estimated: {step['why']}", {})[name] = None
            if step.get("binned"):
                text = "costs take so many values that the distribution rounds them, and draws inside a budget leave "
                said.setdefault(text + "out what is that close to it", {})[name] = None
    yield from (f"- {'; '.join(names)}: {text}" for text, names in said.items())


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
