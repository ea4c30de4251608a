"""Does the search find something? A shrunk network against the same space thinned evenly to the same MACs, trained for
the same number of steps.

    python -m benchmarks quality --data ../shared/data --out benchmarks/results/quality

Each run is one search (`shrink` or `thin`) with one seed on one data set, as `nasdsl search` would run it. What is
done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nasdsl.compiler.elaborate.settings import read_values
from nasdsl.compiler.files import write_text
from nasdsl.compiler.parse import read
from nasdsl.runtime.problem import Result
from nasdsl.runtime.search import Options, search

SPACES = Path(__file__).parent.parent / "spaces"


@dataclass(frozen=True)
class Case:
    """One data set with the space and the settings that both columns use."""

    name: str
    file: str
    space: str
    data: str | None
    settings: dict[str, str]


CASES = (
    Case("digit scenes 64 x 64", "hrnas_small.space", "hrnas_small", None, {}),
    Case("CIFAR-10 (10,000 images)", "hrnas_small.space", "small_cifar", "cifar10_subset.zip", {}),
    Case("CamVid 120 x 90", "hrnas_small.space", "small_camvid", "camvid_240x180.zip", {}),
)


def run(case: Case, runtime: str, seed: int, data: Path | None, work: Path, extra: dict[str, str]) -> dict[str, Any]:
    """One search; what it found."""
    out = work / f"{case.space}-{runtime}-{seed}.space"
    where = None if case.data is None else str((data or Path()) / case.data)
    options = Options(
        data=where,
        run=work / out.stem,
        seed=seed,
        overrides=read_values({**case.settings, **extra}),
        accelerator="cpu",
        fresh=False,
    )
    start = time.monotonic()
    found = search(read(SPACES / case.file), out, options, case.space, {}, runtime)
    result, space = found.result, found.space
    assert isinstance(result, Result)
    return {
        "case": case.name,
        "runtime": runtime,
        "seed": seed,
        "metrics": dict(result.metrics),
        "costs": dict(result.costs),
        "seconds": round(time.monotonic() - start),
        "space": space.digest(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The two columns, mean and standard deviation over seeds, for each case."""
    lines = [
        "# What searches find",
        "",
        "`python -m benchmarks quality`: mean ± standard deviation over seeds.",
        "",
        "| data | metric, % | seeds | evenly thinned | shrunk | difference | MACs thinned | MACs shrunk |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == name]
        by = {r: {row["seed"]: row for row in mine if row["runtime"] == r} for r in ("thin", "shrink")}
        seeds = sorted(by["thin"].keys() & by["shrink"].keys())
        if not seeds:
            continue
        metric = next(iter(by["thin"][seeds[0]]["metrics"]))
        value = {r: [100 * by[r][s]["metrics"][metric] for s in seeds] for r in by}
        macs = {r: statistics.mean(by[r][s]["costs"]["macs"] for s in seeds) / 1e6 for r in by}
        gain = [b - a for a, b in zip(value["thin"], value["shrink"], strict=True)]
        shown = {
            r: f"{statistics.mean(v):.2f} ± {statistics.stdev(v) if len(v) > 1 else 0:.2f}" for r, v in value.items()
        }
        cells = [name, metric, str(len(seeds)), shown["thin"], shown["shrink"], f"{statistics.mean(gain):+.2f}"]
        cells += [f"{macs[r]:.3f}M" for r in ("thin", "shrink")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="the folder with the data sets; cases whose file is missing are left out",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/quality"), help="results go to OUT.json and OUT.md"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="the folders of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--only", action="append", default=[], metavar="SPACE", help="only these spaces, such as small_scenes"
    )
    parser.add_argument("--runtime", action="append", default=[], choices=("thin", "shrink"))
    parser.add_argument("--seed", type=int, action="append", default=[], help="only these seeds")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="NAME=VALUE")


def main(args: argparse.Namespace) -> None:
    """Runs what has not been run yet, then writes the table of all that has."""
    torch.set_num_threads(1)
    extra = dict(text.split("=", 1) for text in args.settings)
    for case in CASES:
        if args.only and case.space not in args.only:
            continue
        if case.data is not None and not (args.data / case.data).exists():
            print(f"left out: {case.name}, as {args.data / case.data} is missing")
            continue
        for seed in args.seed or range(args.seeds):
            for runtime in args.runtime or ("thin", "shrink"):
                file = args.work / f"{case.space}-{runtime}-{seed}.json"
                if not file.exists():
                    row = run(case, runtime, seed, args.data, args.work, extra)
                    print(json.dumps(row), flush=True)
                    write_text(file, json.dumps(row) + "\n")
    known = {case.name for case in CASES}
    rows = [json.loads(file.read_text()) for file in sorted(args.work.glob("*.json"))]
    rows = sorted((row for row in rows if row["case"] in known), key=lambda row: (row["case"], row["seed"]))
    text = table(rows)
    write_text(args.out.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
    write_text(args.out.with_suffix(".md"), text)
    print(text)
