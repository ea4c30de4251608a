"""Is the default recipe as good as one that was looked for?

    python -m benchmarks recipe --data ../shared/data --workers 2

Small networks (`recipe.space`) on five sets of images: trained from scratch, and as supernets that are sampled or
shrunk. Each case is trained by every point of a grid of optimisers, rates, batches and schedules with one seed. The
best point and the default, for as many epochs, are then trained with other seeds, and these are compared: the seed by
which a point was chosen flatters it. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.files import write_text
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.space import Space
from nasdsl.runtime.data import DataSplits
from nasdsl.runtime.evaluators import ScratchEvaluator
from nasdsl.runtime.problem import Result
from nasdsl.runtime.search import Options, fabric_for, fit_to_data, search
from nasdsl.runtime.settings import Settled, Train
from nasdsl.runtime.settle import settle
from nasdsl.runtime.tasks import Task

FILE = Path(__file__).parent / "recipe.space"
CHOOSING = 0
"""The seed by which a point of the grid is chosen; those after it are compared."""
CLOSE = 2.0
"""Points of a hundred by which the default may be behind."""


@dataclass(frozen=True)
class Case:
    """A network of `recipe.space`, its data, how it is trained, and the batches of the grid.

    What is measured is of a network from scratch its metric, of a supernet that was sampled the mean over ten
    architectures with inherited weights, of one that was shrunk what is left at the end.
    """

    name: str
    space: str
    data: str | None
    how: Literal["scratch", "sample", "shrink"]
    images: int
    epochs: float
    batches: tuple[int, int]
    metric: str

    @property
    def default(self) -> Settled:
        return settle(Train(epochs=self.epochs), self.images)


MNIST, CIFAR, CAMVID = "mnist_t10k-images-idx3-ubyte.gz", "cifar10_subset.zip", "camvid_240x180.zip"
CASES = (
    Case("digits", "whole_tiny", None, "scratch", 1438, 6, (16, 64), "top1"),
    Case("MNIST", "whole_grey", MNIST, "scratch", 8000, 1, (16, 64), "top1"),
    Case("CIFAR-10", "whole", CIFAR, "scratch", 10_000, 1.5, (32, 128), "top1"),
    Case("digit scenes", "dense", None, "scratch", 512, 8, (8, 32), "mIoU"),
    Case("CamVid", "dense_street", CAMVID, "scratch", 120, 40, (8, 32), "mIoU"),
    Case("digits, sampled", "chosen_tiny", None, "sample", 1438, 6, (16, 64), "top1"),
    Case("CIFAR-10, sampled", "chosen", CIFAR, "sample", 10_000, 1, (32, 128), "top1"),
    Case("MNIST, shrunk", "whole_grey", MNIST, "shrink", 8000, 1.5, (16, 64), "top1"),
    Case("digit scenes, shrunk", "dense", None, "shrink", 512, 10, (8, 32), "mIoU"),
    Case("CamVid, shrunk", "dense_street", CAMVID, "shrink", 120, 40, (8, 32), "mIoU"),
)
DECAY: Mapping[str, Mapping[str, Any]] = {
    "adamw": {"weight_decay": 0.01, "weight_decay_form": "optimiser"},
    "sgd": {"weight_decay": 5e-4, "weight_decay_form": "loss"},
}


def point(name: str, lr: float, batch: int, schedule: str = "onecycle") -> dict[str, Any]:
    """The settings of a point of the grid."""
    return {
        "batch": batch,
        "optimiser": {"name": name, "lr": lr},
        "schedule": {"name": schedule},
        **DECAY[name],
        "ema": None,
        "init": "torch",
        "clip": None,
    }


def grid(case: Case) -> list[dict[str, Any]]:
    """The points that a case is trained by."""
    few, many = case.batches
    return [
        *(point("adamw", lr, batch) for lr in (0.01, 0.003, 0.03) for batch in (few, many)),
        point("sgd", 0.1, few),
        point("adamw", 0.001, many, "cosine"),
    ]


# --- Jobs: each writes one file, and is not done again where that is there --------------------------------------------


@lru_cache
def opened(case: Case, data: str | None) -> tuple[Space, DataSplits, Task]:
    """A case's space, data and task."""
    return fit_to_data(elaborate(read(FILE), case.space), Options(data=data, accelerator="cpu"))


def measure(case: Case, data: Path, train: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What a case reaches with some settings, by its metric, and the processor's time."""
    torch.set_num_threads(1)
    start = time.process_time()
    where = None if case.data is None else str(data / case.data)
    settings = {"epochs": case.epochs, **train}
    if case.how == "scratch":
        space, splits, task = opened(case, where)
        assert len(splits.train) == case.images
        made = Train.model_validate(settings)
        evaluator = ScratchEvaluator(space, splits, task, fabric_for(Options(accelerator="cpu"), made.precision), made)
        largest = Architecture.of(space.graph, largest_values(space.graph))
        value = evaluator.evaluate(largest, seed)[case.metric]
    else:
        with tempfile.TemporaryDirectory() as folder:
            run, out = Path(folder) / "run", Path(folder) / "found.space"
            options = Options(data=where, run=run, seed=seed, overrides={"train": settings}, accelerator="cpu")
            result = search(read(FILE), out, options, case.space, {}, case.how).result
            assert isinstance(result, Result)
            value = result.metrics[case.metric]
            if case.how == "sample":
                lines = (run / "candidates.jsonl").read_text().splitlines()
                value = statistics.mean(json.loads(line)[case.metric] for line in lines)
    return {"value": value, "seconds": round(time.process_time() - start, 1)}


@dataclass(frozen=True)
class Job:
    """A training of a case. `train` is empty for the default."""

    case: Case
    train: Mapping[str, Any]
    seed: int

    @property
    def name(self) -> str:
        """The same name for the same settings of the same network."""
        case = self.case
        train = dict(self.train) or case.default.model_dump(mode="json")
        about = {"space": case.space, "data": case.data, "how": case.how, "epochs": case.epochs, "train": train}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        return f"{case.name.replace(', ', '-').replace(' ', '-')}-{digest}-{self.seed}"


def done(jobs: Iterable[Job], data: Path, work: Path, workers: int) -> None:
    """Runs those whose file is not there."""
    missing = {job.name: job for job in jobs if not (work / f"{job.name}.json").exists()}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        running = {pool.submit(measure, job.case, data, job.train, job.seed): job for job in missing.values()}
        for future in as_completed(running):
            job = running[future]
            if future.exception() is not None:
                pool.shutdown(cancel_futures=True)
            row = {"case": job.case.name, "train": dict(job.train), "seed": job.seed, **future.result()}
            write_text(work / f"{job.name}.json", json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


# --- Results ----------------------------------------------------------------------------------------------------------


def brief(train: Mapping[str, Any]) -> str:
    """A recipe in a few words."""
    optimiser, schedule = train["optimiser"], train["schedule"]["name"]
    return f"{optimiser['name']} {optimiser['lr']:.3g}, {train['batch']}, {schedule}"


def spread(values: list[float]) -> str:
    """Mean and standard deviation of shares, in %."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


@dataclass(frozen=True)
class Outcome:
    """What a case reached: by each point of the grid, and by other seeds with the default and with the best point."""

    case: Case
    grid: list[float]
    best: Mapping[str, Any]
    default: list[float]
    other: list[float]
    rows: list[dict[str, Any]]

    @property
    def gap(self) -> float:
        """By how many points of a hundred the default is ahead."""
        return 100 * (statistics.mean(self.default) - statistics.mean(self.other))


def first(case: Case) -> list[Job]:
    """The points of the grid by the seed that chooses."""
    return [Job(case, train, CHOOSING) for train in grid(case)]


def second(case: Case, best: Mapping[str, Any], seeds: Iterable[int]) -> list[Job]:
    """What is compared: the default, then the best point."""
    return [Job(case, train, seed) for train in ({}, best) for seed in seeds]


def known(jobs: Iterable[Job], work: Path) -> list[dict[str, Any]] | None:
    """The results of jobs, if all are there."""
    files = [work / f"{job.name}.json" for job in jobs]
    return [json.loads(file.read_text()) for file in files] if all(file.exists() for file in files) else None


def chosen(case: Case, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The point of the grid that did best."""
    return max(zip(grid(case), rows, strict=True), key=lambda pair: float(pair[1]["value"]))[0]


def outcome(case: Case, seeds: Sequence[int], work: Path) -> Outcome | None:
    """What is known of a case, if it was run to its end."""
    rows = known(first(case), work)
    if rows is None:
        return None
    best = chosen(case, rows)
    more = known(second(case, best, seeds), work)
    if more is None:
        return None
    values = [float(row["value"]) for row in more]
    return Outcome(
        case, [row["value"] for row in rows], best, values[: len(seeds)], values[len(seeds) :], [*rows, *more]
    )


def table(outcomes: list[Outcome], seeds: int) -> str:
    """The comparison, and all points of the grid."""
    lines = [
        "# The default recipe against a grid",
        "",
        f"`python -m benchmarks recipe --seeds {seeds}`",
        "",
        f"Metric in %, mean and standard deviation over {seeds} seeds; the best of {len(grid(CASES[0]))} points is "
        "that of another seed. A recipe is optimiser and peak rate, batch, schedule.",
        "",
        "| case | images | epochs | metric | default | | best of the grid | | difference |",
        "|---|---:|---:|---|---|---:|---|---:|---:|",
    ]
    for one in outcomes:
        case = one.case
        cells = [case.name, f"{case.images:,}", f"{case.epochs:g}", case.metric]
        cells += [brief(case.default.model_dump()), spread(one.default), brief(one.best), spread(one.other)]
        lines.append("| " + " | ".join([*cells, f"{one.gap:+.1f}"]) + " |")
    behind = [one.case.name for one in outcomes if one.gap < -CLOSE]
    told = f"Behind by more than {CLOSE:g} points: {', '.join(behind)}." if behind else ""
    lines += ["", told or f"The default is nowhere behind by more than {CLOSE:g} points."]
    missing = [case.name for case in CASES if all(case != one.case for one in outcomes)]
    if missing:
        lines += ["", f"Not run to their end: {', '.join(missing)}."]
    lines += ["", "All points of the grid, by the seed that chose; few and many are the two batches of a case:", ""]
    sizes = dict(zip(CASES[0].batches, ("few", "many"), strict=True))
    names = [brief({**train, "batch": sizes[train["batch"]]}) for train in grid(CASES[0])]
    lines += ["| case | few, many | " + " | ".join(names) + " |", "|---|---|" + "---:|" * len(names)]
    for one in outcomes:
        values = [f"{100 * value:.1f}" for value in one.grid]
        lines.append("| " + " | ".join([one.case.name, "{}, {}".format(*one.case.batches), *values]) + " |")
    return "\n".join(lines) + "\n"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder with the data sets")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recipe"), help="OUT.json and OUT.md")
    parser.add_argument("--work", type=Path, default=Path("runs/recipe"), help="the folder of what is done already")
    parser.add_argument("--seeds", type=int, default=3, help="by which the default and the best point are compared")
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help="only these, such as CamVid")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")


def main(args: argparse.Namespace) -> None:
    """Runs what has not been run yet, then writes the tables of all cases that were run to their end."""
    data, seeds = args.data.resolve(), range(CHOOSING + 1, CHOOSING + 1 + args.seeds)
    cases = [case for case in CASES if not args.only or case.name in args.only]
    for case in [case for case in cases if case.data is not None and not (data / case.data).exists()]:
        print(f"left out: {case.name}, as {data / str(case.data)} is missing")
        cases.remove(case)
    args.work.mkdir(parents=True, exist_ok=True)
    done([job for case in cases for job in first(case)], data, args.work, args.workers)
    best = {case: chosen(case, known(first(case), args.work) or []) for case in cases}
    done([job for case in cases for job in second(case, best[case], seeds)], data, args.work, args.workers)
    outcomes = [found for case in CASES if (found := outcome(case, seeds, args.work)) is not None]
    text = table(outcomes, args.seeds)
    rows = [row for one in outcomes for row in one.rows]
    write_text(args.out.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
    write_text(args.out.with_suffix(".md"), text)
    print(text)
