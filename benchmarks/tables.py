"""How good is what a search has found after so many evaluations? On tables of known results.

    python -m benchmarks tables --data ../shared/data

NAS-Bench-201 as a whole space, NAS-Bench-MR as a pool. Each run is one method with one seed; what is done already is
not done again, so more seeds can be added to a table. The exact expectation of random search without replacement stands
beside its mean: the one is a check of the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import nasdsl
from nasdsl.compiler.files import write_text
from nasdsl.compiler.space import Space
from nasdsl.runtime.benchmark_table import Table, TableSettings
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.objectives import Objectives, hypervolume
from nasdsl.runtime.evolution.trial import Memory
from nasdsl.runtime.strategies.evolve import Evolve

AT = (50, 100, 200, 500)
OWN = ("random", "regularised", "nsga2", "local", "surrogate")
OPTUNA = ("tpe", "nsga2_optuna")
SLOW = ("surrogate", *OPTUNA)
ALONE = " alone"
EQUAL = " (equal cells apart)"
NOTE = (
    "Of cells that compute the same function the first that is proposed is evaluated; *equal cells apart* evaluates "
    "each (`distinct: architecture`). Their entries differ a little, as they were trained and timed one by one, so a "
    "share of the hypervolume of all entries near 1 can only be had with them apart. *Alone* are Optuna's samplers as "
    "its users run them, where what is proposed again counts again; without the word they are methods of the loop here."
)
METHODS = (
    *OWN,
    *(name + EQUAL for name in OWN if name not in SLOW),
    *OPTUNA,
    *(name + ALONE for name in OPTUNA),
)
CELL = (
    "|{cell.n1[n0].edge}~0|+|{cell.n2[n0].edge}~0|{cell.n2[n1].edge}~1|"
    "+|{cell.n3[n0].edge}~0|{cell.n3[n1].edge}~1|{cell.n3[n2].edge}~2|"
)


@dataclass(frozen=True)
class Case:
    """One table and what is searched in it.

    Attributes:
        search: the column that a search sees; `cost`, where there is one, is minimised with it.
        report: the column by which the best found is judged.
    """

    name: str
    table: str
    search: str
    report: str
    cost: str | None = None

    @property
    def objectives(self) -> Objectives:
        return Objectives({self.search: True} | ({self.cost: False} if self.cost else {}))


CASES = (
    Case("NAS-Bench-201, CIFAR-10", "nasbench201", "cifar10_test", "cifar10_test"),
    Case(
        "NAS-Bench-201, ImageNet16-120, searched by one seed",
        "nasbench201",
        "imagenet16_test_one_seed",
        "imagenet16_test",
    ),
    Case("NAS-Bench-MR, Cityscapes", "nasbench_mr", "metrics.seg.mIoU", "metrics.seg.mIoU"),
    *(
        Case(f"NAS-Bench-201, CIFAR-10 against `{column}`", "nasbench201", "cifar10_test", "cifar10_test", column)
        for column in ("latency_ms_titan_rtx_32", "latency_ms_raspi4", "latency_ms_eyeriss")
    ),
)


@cache
def table_of(name: str, data: Path) -> tuple[Space, Table]:
    """A space with its table."""
    if name == "nasbench201":
        space = nasdsl.load("nasbench201")
        settings = TableSettings(file="nasbench201.csv.gz", column="arch", pattern=CELL)
    else:
        space = nasdsl.load("nasbench_mr", "nasbench_mr_imagenet50")
        settings = TableSettings(
            file="nasbench_mr_seg.json.gz", list="architectures", rows="benchmarks.tables:multi_resolution"
        )
    return space, Table(space, data / settings.file, settings)


def multi_resolution(row: dict[str, Any]) -> dict[str, Any]:
    """The decisions of a row of NAS-Bench-MR, by its `embedding`: two widths of the stem; of each stage the number of
    modules, the blocks and the widths of its resolutions, finest first; the last width."""
    return dict(zip(_paths(), row["embedding"], strict=True))


@cache
def _paths() -> tuple[str, ...]:
    """The paths of NAS-Bench-MR's decisions in the order of its `embedding`."""
    paths = list(nasdsl.load("nasbench_mr", "nasbench_mr_imagenet50").graph.decisions)
    found = [path for path in paths if path.startswith("stem.")]
    for stage in range(1, 5):
        mine = [path for path in paths if path.startswith(f"stage{stage}.")]
        found += [path for path in mine if path.endswith("depth")]
        for kind in ("blocks", "channels"):
            found += [path for path in mine if f".{kind}" in path]
    return (*found, *(path for path in paths if path.startswith("head.")))


@cache
def candidates_of(name: str, data: Path, functions: bool) -> Candidates:
    """What may be proposed, with all functions known: it is shared by all runs."""
    space, table = table_of(name, data)
    rows = table.pool(nasdsl.population(space).diagram.encoding)
    made = Candidates(space.graph, None, functions, rows)
    made.know(rows)
    return made


def run(case: Case, method: str, seed: int, data: Path) -> dict[str, Any]:
    """One search. Single objectives: what was found; two: the share of the table's hypervolume."""
    _, table = table_of(case.table, data)
    start = time.process_time()
    if method.endswith(ALONE):
        metrics = _optuna_alone(case, method.removesuffix(ALONE), seed, table)
    else:
        settings = Evolve.model_validate({"method": method.removesuffix(EQUAL), "trials": max(AT)})
        candidates = candidates_of(case.table, data, not method.endswith(EQUAL))
        search = Search(
            candidates,
            table,
            case.objectives,
            settings.proposer(),
            Memory(),
            settings.trials,
            seed,
        )
        metrics = [dict(trial.metrics) for trial in search.run()]
    found = {str(n): _worth(case, metrics[:n], data) for n in AT}
    return {"case": case.name, "method": method, "seed": seed, "found": found, "seconds": time.process_time() - start}


def _worth(case: Case, metrics: list[dict[str, float]], data: Path) -> float:
    if case.cost is None:
        return max(metrics, key=lambda one: one[case.search])[case.report]
    return _volume(case, metrics, data) / _whole(case, data)


@cache
def _whole(case: Case, data: Path) -> float:
    return _volume(case, list(table_of(case.table, data)[1].metrics.values()), data)


@cache
def _worst(case: Case, data: Path) -> tuple[float, float]:
    everything = table_of(case.table, data)[1].metrics.values()
    assert case.cost is not None
    return -min(one[case.search] for one in everything), max(one[case.cost] for one in everything)


def _volume(case: Case, metrics: list[dict[str, float]], data: Path) -> float:
    losses = case.objectives.losses([case.objectives.of(one, {}) for one in metrics])
    return hypervolume(losses, _worst(case, data))


def _optuna_alone(case: Case, name: str, seed: int, table: Table) -> list[dict[str, float]]:
    """What Optuna finds without nasdsl. Of a pool, which it cannot search, there is nothing."""
    import optuna

    from nasdsl.compiler.architecture import Architecture

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    makers: dict[str, Callable[[], Any]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "nsga2_optuna": lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=Evolve().population),
    }
    seen: list[dict[str, float]] = []

    def objective(trial: Any) -> Any:
        values = {
            path: trial.suggest_categorical(path, list(decision.words))
            for path, decision in table.graph.decisions.items()
        }
        seen.append(dict(table.evaluate(Architecture.of(table.graph, values), 0)))
        return case.objectives.of(seen[-1], {})

    ways: Any = ["maximize" if up else "minimize" for up in case.objectives.maximised]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optuna.create_study(directions=ways, sampler=makers[name]()).optimize(objective, n_trials=max(AT))
    return seen


def expected_best(values: list[float], n: int) -> float:
    """The exact expectation of the best of `n` different ones: the chance that the i-th smallest is the greatest of
    them is C(i, n - 1) / C(N, n)."""
    ordered = np.sort(np.asarray(values))
    total = len(ordered)
    chance, expected = n / total, 0.0  # of the greatest of all
    for i in range(total - 1, n - 2, -1):
        expected += chance * float(ordered[i])
        chance *= (i - n + 1) / i if i else 0.0
    return expected


def report(rows: list[dict[str, Any]], data: Path) -> str:
    """The tables of all cases."""
    lines = ["# Searches in tables of known results", "", "`python -m benchmarks tables`", ""]
    lines += [textwrap.fill(NOTE, 120), ""]
    for case in CASES:
        mine = [row for row in rows if row["case"] == case.name]
        if not mine:
            continue
        what = f"`{case.report}`" if case.cost is None else "share of the hypervolume of the whole table"
        lines += [
            f"## {case.name}",
            "",
            f"Mean {what} ± standard deviation over seeds, after so many evaluations.",
            "",
        ]
        lines += [
            "| method | seeds | " + " | ".join(map(str, AT)) + " | CPU s |",
            "|---|---:|" + "---:|" * (len(AT) + 1),
        ]
        metrics = table_of(case.table, data)[1].metrics.values()
        if case.search == case.report and case.cost is None:
            exact = [f"{expected_best([one[case.report] for one in metrics], n):.3f}" for n in AT]
            lines.append("| random, exact expectation | | " + " | ".join(exact) + " | |")
        for method in dict.fromkeys(row["method"] for row in mine):
            runs = [row for row in mine if row["method"] == method]
            cells = []
            for n in AT:
                found = [row["found"][str(n)] for row in runs]
                spread = statistics.stdev(found) if len(found) > 1 else 0.0
                cells.append(f"{statistics.mean(found):.3f} ± {spread:.3f}")
            seconds = statistics.median(row["seconds"] for row in runs)
            lines.append(f"| {method} | {len(runs)} | " + " | ".join(cells) + f" | {seconds:.1f} |")
        if case.cost is None:
            lines.append(f"\nThe best of the table has {max(one[case.report] for one in metrics):.3f}.")
        lines.append("")
    return "\n".join(lines)


def wanted(args: argparse.Namespace) -> Iterator[tuple[Case, str, int]]:
    """The runs, those of the first seeds of all methods first."""
    for case in CASES:
        if args.only and not any(word in case.name for word in args.only):
            continue
        whole = case.table == "nasbench201"
        for method in METHODS:
            if method.endswith(ALONE) and not whole:
                continue
            if method.endswith(EQUAL) and not (whole and case.search == case.report):
                continue
            seeds = args.slow_seeds if method in SLOW else args.seeds
            yield from ((case, method, seed) for seed in range(seeds) if not args.method or method in args.method)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder with the tables")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tables"), help="OUT.jsonl and OUT.md")
    parser.add_argument("--seeds", type=int, default=100, help="of the quick methods")
    parser.add_argument(
        "--slow-seeds", type=int, default=20, help="of those that take longer: models, and what asks them"
    )
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="cases with this in their name")
    parser.add_argument("--method", action="append", default=[], metavar="NAME")


def main(args: argparse.Namespace) -> None:
    """Runs what has not been run yet, then writes the tables of all that has."""
    log = args.out.with_suffix(".jsonl")
    known = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(row["case"], row["method"], row["seed"]): row for row in known}  # two processes may have done the same
    data = args.data.resolve()
    for case, method, seed in wanted(args):
        if (case.name, method, seed) in done or not _there(case, data):
            continue
        row = done[case.name, method, seed] = run(case, method, seed, data)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
    text = report(sorted(done.values(), key=lambda row: METHODS.index(row["method"])), data)
    write_text(args.out.with_suffix(".md"), text)
    print(text)


def _there(case: Case, data: Path) -> bool:
    return any(data.glob(f"{case.table}*"))
