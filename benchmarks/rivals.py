"""Counting, drawing, costing and changing architectures of one space, side by side with other tools.

python -m benchmarks rivals --make-environment DIR
python -m benchmarks rivals --environment DIR
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nasdsl
from benchmarks.measure import RESULTS, report, table
from benchmarks.rival_tools import PER_STAGE, SPACE, STAGES, TOOLS, Nasdsl, Plain
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.graph import Graph

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).with_name("rivals_requirements.txt")
DEFAULT_ENVIRONMENT = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nasdsl" / "rivals"
OURS = ("nasdsl", "numpy", "numpy-stages")  # measured in this environment
NAMES = {
    "nasdsl": "nasdsl",
    "numpy": "numpy, blocks",
    "numpy-stages": "numpy, stages",
    "pyglove": "PyGlove",
    "configspace": "ConfigSpace",
    "optuna": "Optuna",
    "nni": "NNI",
    "hyperopt": "Hyperopt",
    "nevergrad": "Nevergrad",
}
SHARES = {"1%": 1e-2, "1 in a million": 1e-6}  # of the architectures, inside the two budgets
DRAWN = 100  # architectures, to see how deep they are
OPERATIONS = ("draw", "cost", "mutate", "encode", "decode")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS")


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Operations on a Once-for-All-like space in several tools, in rates per CPU second."
    where = str(DEFAULT_ENVIRONMENT)
    parser.add_argument(
        "--environment", type=Path, metavar="DIR", default=DEFAULT_ENVIRONMENT, help=f"default: {where}"
    )
    parser.add_argument(
        "--make-environment", type=Path, metavar="DIR", help="install the other tools in a new environment, and stop"
    )
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS), help="default: all")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, of which the median counts (default: 7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each operation in each round (default: 1)")
    parser.add_argument("--many", type=int, default=10_000_000, help="architectures to hold memory to (default: 10^7)")
    parser.add_argument("--no-write", action="store_true", help="print the tables only")


def main(args: argparse.Namespace) -> None:
    if args.make_environment is not None:
        make_environment(args.make_environment)
        return
    python = interpreter(args.environment)
    if not python.exists() and not set(args.tools) <= set(OURS):
        command = f"python -m benchmarks rivals --make-environment {args.environment}"
        raise SystemExit(f"no environment with the other tools at {args.environment}; make one with\n  {command}")
    limits = budgets()
    failed: dict[str, str] = {}
    running: dict[str, Process] = {}
    try:
        for name in args.tools:
            try:
                running[name] = Process(name, Path(sys.executable) if name in OURS else python)
                verify(name, running[name].ask("check", n=8, limits=limits), limits)
            except ToolError as problem:
                failed[name] = str(problem)
                running.pop(name).close() if name in running else None
        sections = measured(running, limits, args)
    finally:
        for process in running.values():
            process.close()
    if failed:
        sections.append(("Did not run", "\n".join(f"- {NAMES[name]}: {why}" for name, why in failed.items())))
    report("rivals", "Operations on one space, in several tools", sections, None if args.no_write else RESULTS)


# --- the other tools' environment -------------------------------------------------------------------------------------


def interpreter(environment: Path) -> Path:
    """Python of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_environment(folder: Path) -> None:
    """A virtual environment with the other tools, each installed by itself so that one that fails stops no other."""
    if interpreter(folder).exists():
        print(f"using the environment at {folder}")
    else:
        venv.create(folder, with_pip=True)
    pins = [line for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    pip = [str(interpreter(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    failed = []
    for pin in pins:
        done = subprocess.run([*pip, "-c", str(REQUIREMENTS), pin], capture_output=True, text=True)
        print(f"{pin}: {'installed' if done.returncode == 0 else 'failed'}")
        if done.returncode:
            failed.append(f"{pin}:\n{done.stderr.strip()}")
    if failed:
        raise SystemExit("\n\n".join(failed))


class ToolError(Exception):
    """A tool does not run, or is wrong."""


class Process:
    """A tool at work in a process of its own."""

    def __init__(self, name: str, python: Path):
        self.name = name
        single = dict.fromkeys(THREADS, "1")
        here = {"PYTHONPATH": str(ROOT)} if name in OURS else {"PYTHONPATH": ""}
        command = [str(python), "-W", "ignore", str(ROOT / "benchmarks" / "rival_tools.py"), name]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **single, **here},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self.about: Mapping[str, Any] = self.ask("about")
        except ToolError:
            self.close()
            raise

    def ask(self, do: str, **request: Any) -> Any:
        """What the worker answers.

        Raises:
            ToolError: it has failed, or died.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": "no answer"}
        if "error" in answer:
            raise ToolError(f"{do}: {answer['error']}")
        return answer["value"]

    def close(self) -> None:
        """Ends the process, which ends by itself when nothing more can be asked."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


# --- the same space, the same costs -----------------------------------------------------------------------------------


def budgets() -> list[int]:
    """MACs that so many of the architectures stay within: the two budgets, from the exact distribution."""
    from nasdsl.compiler.engine.histogram import distribution

    macs = distribution(Nasdsl(0).diagram, "macs")
    return [int(macs.quantile(share)) for share in SHARES.values()]


def verify(name: str, checked: Mapping[str, Any], limits: Sequence[int]) -> None:
    """Whether all that a tool made is in the space, has the costs that the compiler finds, and keeps the budget.

    Raises:
        ToolError: it is not.
    """
    graph = nasdsl.load(SPACE).graph
    for operation, made in checked.items():
        limit = limits[int(operation[-1])] if "within" in operation else None
        for plain, costs in zip(made["plain"], made["costs"], strict=True):
            found = cost_of(graph, architecture(graph, plain).indices)
            if [found["macs"], found["params"]] != costs:
                raise ToolError(f"{operation}: {plain} costs {found}, not {costs}")
            if limit is not None and costs[0] > limit:
                raise ToolError(f"{operation}: {costs[0]} MACs are more than {limit}")


def architecture(graph: Graph, plain: Plain) -> Architecture:
    """Of kernels and expansions, block by block."""
    values: dict[str, int] = {}
    for i, blocks in enumerate(plain, start=1):
        values[f"stage{i}.depth"] = len(blocks)
        for j, pair in enumerate(blocks):
            values[f"stage{i}[{j}].mbconv.kernel"], values[f"stage{i}[{j}].mbconv.expand"] = pair
    return Architecture.of(graph, values)


# --- figures ----------------------------------------------------------------------------------------------------------


def measured(running: Mapping[str, Process], limits: Sequence[int], args: argparse.Namespace) -> list[tuple[str, str]]:
    """The sections of the report."""
    rounds = Rounds(running, args.repeats, args.seconds)
    built = rounds.each({name: {"do": "build", "times": 1} for name in running})
    rates = {operation: rounds.rates(operation) for operation in OPERATIONS}
    inside = [rounds.rates("within", limit) for limit in limits]
    mutants = rounds.rates("mutate", limits[0])
    prepared = [rounds.prepared(limit) for limit in limits] if "nasdsl" in running else []
    sections = [
        ("The space", the_space(limits)),
        ("The tools", the_tools(running, {name: statistics.median(x for (x,) in xs) for name, xs in built.items()})),
        ("Architectures per CPU second", the_rates(running, rates)),
        ("Inside a budget, per CPU second", the_budgets(running, limits, inside, mutants, prepared)),
    ]
    if "nasdsl" in running:
        sections.append(("Peak memory of nasdsl", the_memory(args.many, limits[0])))
    return sections


class Rounds:
    """Requests to all tools in turns, so that whatever else the machine does meets all of them; every second round runs
    backwards."""

    def __init__(self, running: Mapping[str, Process], repeats: int, seconds: float):
        self.running, self.repeats, self.seconds = running, repeats, seconds

    def each(self, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
        """What each tool answered to its request, round by round."""
        answers: dict[str, list[Any]] = {name: [] for name in requests}
        for number in range(self.repeats):
            for name in list(requests) if number % 2 == 0 else reversed(list(requests)):
                answers[name].append(self.running[name].ask(**requests[name]))
        return answers

    def rates(self, operation: str, limit: int | None = None) -> dict[str, list[dict[str, float]]]:
        """What `Worker.rate` answered, of the tools that have the operation."""
        needed = operation if operation in ("mutate", "encode", "decode") else None
        request = {"do": "rate", "operation": operation, "seconds": self.seconds, "limit": limit}
        able = [name for name, process in self.running.items() if needed is None or needed in process.about["able"]]
        print(f"{operation}{'' if limit is None else f', {limit:,} MACs'}: {', '.join(able)}", file=sys.stderr)
        return self.each(dict.fromkeys(able, request))

    def prepared(self, limit: int) -> float:
        """Seconds that nasdsl takes from the text to its first batch inside a budget."""
        request = {"do": "prepare", "limit": limit}
        return statistics.median(self.each({"nasdsl": request})["nasdsl"])


def the_space(limits: Sequence[int]) -> str:
    count = sum(PER_STAGE) ** len(STAGES)
    parts = " and ".join(f"{limit:,} ({share})" for limit, share in zip(limits, SHARES, strict=True))
    return (
        f"`{SPACE}`: {len(STAGES)} stages of 2 to 4 blocks, each with a kernel of 3, 5 or 7 and an expansion of 3, 4 "
        f"or 6: {count:,} architectures. All tools read MACs and parameters from the same table of blocks; the "
        f"compiler confirms the costs of architectures that each operation of each tool made. The budgets are MACs "
        f"that few architectures stay within: {parts}."
    )


def the_tools(running: Mapping[str, Process], built: Mapping[str, float]) -> str:
    rows = []
    for name, process in running.items():
        about, count = process.about, process.about["count"]
        deep = process.ask("deep", n=DRAWN)
        version = next(iter(about["versions"].values()), about["numpy"])
        rows.append(
            (
                NAMES[name],
                version,
                f"{about['import']:.2f}",
                f"{1e3 * built[name]:.3g}",
                f"{about['peak'] / 2**20:.0f}",
                "" if count is None else f"{count:,}",
                f"{deep:.2f}",
            )
        )
    head = ("tool", "version", "import, s", "build, ms", "memory, MiB", "architectures it counts", "four blocks")
    true = PER_STAGE[-1] / sum(PER_STAGE)
    note = (
        f"CPU seconds; memory is the peak of the process when the space is built. The last column is the share of "
        f"stages with four blocks among drawn ones: {true:.2f} where all architectures are as likely. The other tools "
        f"draw each choice evenly. The two by hand, in numpy, know this one space: `blocks` looks each block up, "
        f"`stages` has all {sum(PER_STAGE):,} forms of a stage written out. PyGlove runs without its type checks."
    )
    return f"{table(head, rows)}\n\n{note}"


def kept(answers: Sequence[Mapping[str, float]]) -> float:
    """The share of what was tried that came out."""
    return sum(answer["made"] for answer in answers) / sum(answer["tried"] for answer in answers)


def rate_of(answers: Sequence[Mapping[str, float]]) -> float:
    """Architectures per second. Of tries the median counts, of what came out of them the sum: it may be rare."""
    return kept(answers) * statistics.median(answer["tried"] / answer["seconds"] for answer in answers)


def brief(rate: float) -> str:
    """Three digits: `1,230,000`, `48.2`, `0.51`."""
    if not rate:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(rate)))
    return f"{round(rate, 2 - math.floor(math.log10(rate))):,.{min(digits, 3)}f}"


def the_rates(running: Mapping[str, Process], rates: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (NAMES[name], *(brief(rate_of(rates[o][name])) if name in rates[o] else "" for o in OPERATIONS))
        for name in running
    ]
    head = ("tool", "draw", "draw and cost", "mutate", "encode", "decode")
    note = (
        "`draw` ends with decisions that can be read, `mutate` changes one decision (Nevergrad's changes several). "
        "`encode` makes the tool's form of an architecture from kernels and expansions, `decode` the form that its "
        "users read. An empty cell is what a tool does not offer."
    )
    return f"{table(head, rows)}\n\n{note}"


def the_budgets(
    running: Mapping[str, Process],
    limits: Sequence[int],
    inside: Sequence[Mapping[str, Any]],
    mutants: Mapping[str, Sequence[Any]],
    prepared: Sequence[float],
) -> str:
    rows = []
    for name in running:
        cells = [NAMES[name]]
        for answers in (*(found[name] for found in inside), mutants.get(name)):
            if answers is None:
                cells += ["", ""]
                continue
            cells += [brief(rate_of(answers)), f"{kept(answers):.2g}"]
        rows.append((*cells, f"{running[name].ask('deep', n=DRAWN, limit=limits[0]):.2f}"))
    head = ("tool", *(word for share in (*SHARES, "mutants") for word in (share, "kept")), "four blocks")
    note = (
        f"Architectures drawn and costed inside budgets that {' and '.join(SHARES)} of all keep; then mutants of such "
        f"inside the wider one, costed. nasdsl draws inside, uniformly. The others draw, cost and keep what happens to "
        f"fit: a share that `kept` tells. Evenly drawn choices are shallow and fit more often, at the price of missing "
        f"most of what is inside: the last column is the share of stages with four blocks among those inside the wider "
        f"budget."
    )
    if prepared:
        took = " and ".join(f"{seconds:.2f}" for seconds in prepared)
        note += f" nasdsl needs {took} s from the text of the space to its first batch inside each budget."
    return f"{table(head, rows)}\n\n{note}"


def the_memory(many: int, limit: int) -> str:
    """The peaks of fresh processes that draw and cost more and more."""
    rows = []
    for n in sorted({max(1, many // 100), max(1, many // 10), many}):
        cells = [f"{n:,}"]
        for budget in (None, limit):
            process = Process("nasdsl", Path(sys.executable))
            cells.append(f"{process.ask('memory', n=n, limit=budget) / 2**20:.0f}")
            process.close()
        rows.append(tuple(cells))
    return table(("architectures", "drawn and costed, MiB", "inside the wider budget, MiB"), rows)
