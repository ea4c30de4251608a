"""Do searches of detectors find better ones than chance, and what does partial order pruning leave out?

    python -m benchmarks detection --data ../shared/data --workers 2

Parts of both stages of `spaces/smnas_small.space`, small enough that each architecture in them is trained once: on
images of blood cells (BCCD) and on the embedded scenes of digits. Searches then look up what an evaluation gives, so
that each is repeated with many seeds: evolution against random search without replacement, and both against structures
that nobody searched for. Partial order pruning (SM-NAS paper) is judged by what it leaves out: how many architectures,
and how many of these are on the true front.

`spaces/spinenet_small.space` is too large for this. It is searched with three seeds by each method, on the scenes; what
is found, and the residual network with a feature pyramid, which has the same blocks in the usual order, are trained
again with other seeds.

What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

import nasdsl
from benchmarks.measure import RESULTS
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.files import write_text
from nasdsl.compiler.pin import pin
from nasdsl.compiler.population import Population
from nasdsl.compiler.space import Space
from nasdsl.runtime.data import DataSplits
from nasdsl.runtime.evaluators import ScratchEvaluator
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.objectives import Objectives, front, hypervolume
from nasdsl.runtime.evolution.pruning import Pruning
from nasdsl.runtime.evolution.trial import Memory, Trial
from nasdsl.runtime.problem import InputSize
from nasdsl.runtime.search import Options, data_at, fabric_for, fit_to_data
from nasdsl.runtime.settings import Train
from nasdsl.runtime.strategies.evolve import Evolve
from nasdsl.runtime.tasks import Task, find_task

Row: TypeAlias = dict[str, Any]
"""An architecture with its costs and its metrics."""

LOG = RESULTS / "detection.jsonl"
OBJECTIVES = Objectives({"AP": True, "macs": False})
BCCD = "bccd_coco_320x240.zip"
SCENES = None  # the embedded data
TRAIN: Mapping[str | None, Mapping[str, Any]] = {
    BCCD: {"epochs": 8, "batch": 8, "augment": "flip"},
    SCENES: {"epochs": 4, "batch": 8, "augment": "flip"},
}
SEEDS = 100  # of a search that looks up
METHODS: Mapping[str, Mapping[str, Any]] = {
    "random": {"method": "random", "draws": "uniform"},
    "nsga2": {"method": "nsga2", "population": 10},
    "nsga2, pruned": {"method": "nsga2", "population": 10, "prune": "decisions"},
    "random, pruned": {"method": "random", "draws": "uniform", "prune": "decisions"},
}


@dataclass(frozen=True)
class Case:
    """A part of a space whose every architecture is trained.

    Attributes:
        data: a file of the data's folder, or None.
        pins: decisions that do not stay open.
        allowed: by path, the options that others have.
        usual: whether an architecture is one that would be built without a search.
        by: what there is more or less of, for pruning.
        at: evaluations after which a search is judged.
    """

    name: str
    data: str | None
    space: str
    params: Mapping[str, Any]
    pins: Mapping[str, Any]
    allowed: Mapping[str, Sequence[Any]]
    usual: Callable[[Architecture], bool]
    by: str
    what: str
    at: tuple[int, ...] = (10, 20, 30)

    @property
    def pool(self) -> list[Architecture]:
        population = Population(opened(self).graph)
        return [population.unrank(number) for number in range(population.total)]


def _faster_rcnn(one: Architecture) -> bool:
    """The usual detectors: a pyramid, and two stages or one."""
    return one["pyramid"] == "levels" and one["head"] in ("rcnn", "retina")


def _even(one: Architecture) -> bool:
    """As residual networks are: each stage is twice as wide as the one before, from its first block on."""
    return all(
        one[f"backbone.p{stage}.block[{block}].digit"] == (2 if stage > 1 and block == 0 else 1)
        for stage in range(1, 5)
        for block in range(one[f"backbone.p{stage}.block.depth"])
    )


def _stages() -> Iterator[Case]:
    for data, where in ((BCCD, "blood cells"), (SCENES, "digits")):
        yield Case(
            f"stage one, {where}",
            data,
            "smnas_small",
            {},
            {"pyramid.levels.start": 1, "pyramid.levels.end": 4, "pyramid.levels.fpn.out": 32},
            {"proposals": ("none", "rpn")} | ({} if data else {"trunk": ("resnet10", "resnet26", "mobilenet")}),
            _faster_rcnn,
            "decisions",
            f"Two input sizes, {'five' if data else 'three'} backbones, with or without a pyramid (of the outputs 1 to "
            "4, 32 wide), and five heads. Unsearched: a pyramid with RetinaNet's or Faster R-CNN's head on each.",
        )
    for data, where in ((BCCD, "blood cells"), (SCENES, "digits")):
        yield Case(
            f"stage two, {where}",
            data,
            "smnas_small_modules",
            {"most": 5},
            {"wide": 32},
            {"base": (8, 16) if data else (12,)},
            _even,
            "widths",
            "Basic blocks under a pyramid and Faster R-CNN's head, group norm, from scratch: "
            f"{'two base widths' if data else 'one base width'}, and where four or five blocks double their planes. "
            "Unsearched: each stage twice as wide as the one before.",
        )


CASES = tuple(_stages())


@dataclass(frozen=True)
class Whole:
    """A space too large to train each of its architectures: SpineNet's."""

    name: str = "SpineNet, digits"
    data: str | None = SCENES
    space: str = "spinenet_small"
    trials: int = 12
    seeds: int = 3
    again: int = 2
    """Seeds with which what is found is trained again."""
    params: Mapping[str, Any] = field(default_factory=dict)
    pins: Mapping[str, Any] = field(default_factory=dict)
    allowed: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=lambda: {"maximise": "AP", "population": 5, "tournament": 3})
    methods: tuple[str, ...] = ("random", "regularised")


SPINENET = Whole()
FIXED = Whole(name="residual network with a pyramid, digits", space="resnet_fpn_small")


@cache
def _opened(name: str, params: str, pins: str) -> Space:
    file = "smnas_small" if name.startswith("smnas") else "spinenet_small"
    return nasdsl.pin(nasdsl.load(file, name, **json.loads(params)), json.loads(pins))


def opened(case: Case | Whole) -> Space:
    """The space of a case: with its parameters and pins, and the options that are allowed."""
    space = _opened(case.space, json.dumps(dict(case.params)), json.dumps(dict(case.pins)))
    narrowed = {
        path: tuple(space.graph.decisions[path].words.index(word) for word in words)
        for path, words in case.allowed.items()
    }
    return replace(space, graph=pin(space.graph, {}, narrowed))


# --- Evaluations ------------------------------------------------------------------------------------------------------


def evaluator(
    data: str | None, folder: Path, name: str, params: Mapping[str, Any], pins: Mapping[str, Any]
) -> ScratchEvaluator:
    """Trains architectures of a space with the classes of the data."""
    options = Options(data=None if data is None else str(folder / data), accelerator="cpu")
    space, splits, task = fit_to_data(_opened(name, json.dumps(dict(params)), "{}"), options, open_input=True)

    def at(size: InputSize) -> tuple[DataSplits, Task]:
        found = data_at(space, options, size)
        return found, find_task(found.task).from_data(found)

    pinned = nasdsl.pin(space, pins)
    fabric = fabric_for(options, "32-true")
    return ScratchEvaluator(pinned, splits, task, fabric, Train.model_validate(TRAIN[data]), at=at)


_evaluators: dict[tuple[str, str | None], ScratchEvaluator] = {}
"""Of this process, by space and data."""


def trained(job: Row, folder: Path) -> Row:
    """A row of the log: what an architecture reaches."""
    torch.set_num_threads(1)
    key = (job["space"], job["data"])
    if key not in _evaluators:
        _evaluators[key] = evaluator(job["data"], folder, job["space"], job["params"], job["pins"])
    made = _evaluators[key]
    start = time.process_time()
    architecture = Architecture.of(made.space.graph, job["architecture"])
    metrics = dict(made.evaluate(architecture, job["seed"]))
    costs = cost_of(made.space.graph, architecture.indices)
    return {
        **{name: job[name] for name in ("case", "architecture", "seed")},
        **{name: round(metrics[name], 5) for name in ("AP", "AP50")},
        **{name: int(costs[name]) for name in ("macs", "params")},
        "seconds": round(time.process_time() - start, 1),
    }


class Log:
    """Rows that are there, and a file to which new ones are added."""

    def __init__(self, file: Path):
        self.file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self.rows = {self._key(row): row for row in map(json.loads, lines)}

    @staticmethod
    def _key(row: Mapping[str, Any]) -> str:
        return json.dumps([row["case"], row["architecture"], row["seed"]], sort_keys=True)

    def get(self, case: str, architecture: Mapping[str, Any], seed: int) -> Row | None:
        return self.rows.get(self._key({"case": case, "architecture": architecture, "seed": seed}))

    def add(self, row: Row) -> None:
        if self._key(row) not in self.rows:
            self.rows[self._key(row)] = row
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a") as file:
                file.write(json.dumps(row) + "\n")


def job(case: Case | Whole, one: Architecture, seed: int = 0) -> Row:
    return {
        "case": case.name,
        "data": case.data,
        "space": case.space,
        "params": dict(case.params),
        "pins": dict(case.pins),
        "architecture": one.to_json(),
        "seed": seed,
    }


def do(jobs: Sequence[Row], log: Log, folder: Path, pool: ProcessPoolExecutor) -> None:
    """Trains what is not in the log yet."""
    left = [one for one in jobs if log.get(one["case"], one["architecture"], one["seed"]) is None]
    waiting = [pool.submit(trained, one, folder) for one in left]
    try:
        for number, one in enumerate(as_completed(waiting), 1):
            row = one.result()
            log.add(row)
            print(f"{row['case']}: {number} of {len(left)}, AP {row['AP']:.3f}, {row['seconds']:.0f} s", flush=True)
    finally:  # after a mistake nobody waits for the others
        for one in waiting:
            one.cancel()


# --- Searches that look up --------------------------------------------------------------------------------------------


class Known:
    """An evaluator that knows all results."""

    headline = "AP"

    def __init__(self, rows: Mapping[str, Row]):
        self.rows = rows

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        return {"AP": self.rows[_name(architecture)]["AP"]}


def _name(architecture: Architecture) -> str:
    return json.dumps(architecture.to_json(), sort_keys=True)


def _losses(rows: Sequence[Row]) -> Any:
    return OBJECTIVES.losses([(row["AP"], row["macs"]) for row in rows])


def looked_up(case: Case, log: Log) -> list[str]:
    """The section of a case."""
    space = opened(case)
    pool = case.pool
    rows = [log.get(case.name, one.to_json(), 0) for one in pool]
    known = {_name(one): row for one, row in zip(pool, rows, strict=True) if row is not None}
    if len(known) < len(pool):
        return []
    everything = list(known.values())
    worst = (0.0, float(max(row["macs"] for row in everything)))

    def volume(some: Sequence[Row]) -> float:
        return hypervolume(_losses(some), worst) if some else 0.0

    whole, best = volume(everything), {_name(pool[i]) for i in front(_losses(everything))}
    usual = [known[_name(one)] for one in pool if case.usual(one)]
    candidates = Candidates(space.graph, functions=False)
    ends = (*case.at, len(pool))
    results: dict[str, list[dict[str, float]]] = {}
    for method, settings in METHODS.items():
        for seed in range(SEEDS):
            order, skipped = _run(case, candidates, known, settings, seed)
            shares = [volume([known[name] for name in order[:n]]) / whole for n in range(1, len(order) + 1)]
            found: dict[str, float] = {str(n): shares[min(n, len(shares)) - 1] for n in ends}
            for share in (0.95, 0.99):
                found[f"until {share}"] = next((n for n, one in enumerate(shares, 1) if one >= share), len(pool))
            found |= {"evaluated": len(order), "skipped": len(skipped), "of the front": len(best & set(skipped))}
            first = [known[name] for name in order[: case.at[-1]]]
            found["gain"] = statistics.mean(
                max((row["AP"] for row in first if row["macs"] <= one["macs"]), default=0.0) - one["AP"]
                for one in usual
            )
            results.setdefault(method, []).append(found)
    macs = sorted(row["macs"] / 1e6 for row in everything)
    aps = sorted(row["AP"] for row in everything)
    lines = [
        f"## {case.name[0].upper()}{case.name[1:]}",
        "",
        textwrap.fill(case.what, 120),
        "",
        f"{len(pool)} architectures of {macs[0]:.1f}M to {macs[-1]:.1f}M MACs, AP {aps[0]:.3f} to {aps[-1]:.3f} "
        f"(median {statistics.median(aps):.3f}), {len(best)} on the front; "
        f"{statistics.mean(row['seconds'] for row in everything):.0f} s of one core for each.",
        f"The {len(usual)} unsearched ones have {volume(usual) / whole:.3f} of the hypervolume.",
        "",
        "| method | "
        + " | ".join(f"{n}" for n in case.at)
        + " | until 0.95 | until 0.99 | AP beyond unsearched ones | "
        "evaluated | left out | of these on the front | share at the end |",
        "|---|" + "---:|" * (len(case.at) + 7),
    ]
    for method, all_found in results.items():

        def mean(key: str, rows: Sequence[Mapping[str, float]] = all_found, digits: int = 3) -> str:
            values = [one[key] for one in rows]
            return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"

        cells = [mean(str(n)) for n in case.at]
        cells += [mean(f"until {share}", digits=1) for share in (0.95, 0.99)]
        cells += [mean("gain"), *(mean(key, digits=1) for key in ("evaluated", "skipped", "of the front"))]
        lines.append(f"| {method} | " + " | ".join([*cells, mean(str(len(pool)))]) + " |")
    return [*lines, ""]


def _run(
    case: Case, candidates: Candidates, known: Mapping[str, Row], given: Mapping[str, Any], seed: int
) -> tuple[list[str], list[str]]:
    """What a search evaluates, in order, until nothing is left; and what it leaves out."""
    settings = Evolve.model_validate(
        {
            **given,
            **({"prune": case.by} if "prune" in given else {}),
            "trials": len(known),
            "maximise": "AP",
            "minimise": "macs",
        }
    )
    pruning = None
    if settings.prune is not None:
        pruning = Pruning(candidates.graph, candidates, OBJECTIVES, settings.prune)
    ledger = Memory()
    search = Search(
        candidates, Known(known), OBJECTIVES, settings.proposer(), ledger, len(known), seed, pruning=pruning
    )
    done = [_key_of(trial) for trial in search.run()]
    return done, [_key_of(trial) for trial in ledger.trials.values() if trial.state == "skipped"]


def _key_of(trial: Trial) -> str:
    return json.dumps(dict(trial.proposal.architecture), sort_keys=True)


# --- SpineNet ---------------------------------------------------------------------------------------------------------


class Missing(Exception):
    """A result that the log does not have."""


class Remembering:
    """Trains what the log does not have, or without a folder of data tells that it is missing."""

    headline = "AP"

    def __init__(self, whole: Whole, log: Log, folder: Path | None):
        self.whole, self.log, self.folder = whole, log, folder

    def evaluate(self, architecture: Architecture, seed: int) -> Mapping[str, float]:
        whole, one = self.whole, architecture.to_json()
        row = self.log.get(whole.name, one, 0)
        if row is None:
            if self.folder is None:
                raise Missing
            row = trained(job(whole, architecture), self.folder)
            self.log.add(row)
            print(f"{row['case']}: AP {row['AP']:.3f}, {row['seconds']:.0f} s", flush=True)
        return {"AP": row["AP"]}


def searched(whole: Whole, seed: int, file: Path, folder: Path | None) -> dict[str, list[Row]]:
    """The searches of a seed by each method, which begin with the same architectures: their rows, in order."""
    space, log = opened(whole), Log(file)
    evaluator, found = Remembering(whole, log, folder), {}
    for method in whole.methods:
        settings = Evolve.model_validate({**whole.settings, "method": method, "trials": whole.trials})
        candidates, proposer = Candidates(space.graph), settings.proposer()
        trials = Search(candidates, evaluator, Objectives({"AP": True}), proposer, Memory(), whole.trials, seed).run()
        rows = [log.get(whole.name, dict(trial.proposal.architecture), 0) for trial in trials]
        found[method] = [row for row in rows if row is not None]
    return found


def found_by(whole: Whole, log: Log) -> dict[tuple[str, int], list[Row]]:
    """The rows of all searches, by method and seed, from the log alone."""
    found = {}
    for seed in range(whole.seeds):
        for method, rows in searched(whole, seed, log.file, None).items():
            found[method, seed] = rows
    return found


def again_of(whole: Whole, rows: Mapping[tuple[str, int], list[Row]]) -> list[Row]:
    """The trainings with other seeds: of what each search found, and of the residual network."""
    best = [max(found, key=lambda row: row["AP"])["architecture"] for found in rows.values()]
    chosen = [Architecture.of(opened(whole).graph, one) for one in best]
    (plain,) = nasdsl.sample(opened(FIXED), 1)
    jobs = [job(FIXED, plain, seed) for seed in range(1 + whole.again)]
    return jobs + [job(whole, one, seed) for one in chosen for seed in range(1, 1 + whole.again)]


def spinenet(whole: Whole, log: Log) -> list[str]:
    """The section of SpineNet; nothing where a result is missing."""
    try:
        rows = found_by(whole, log)
    except Missing:
        return []
    jobs = again_of(whole, rows)
    results = [log.get(one["case"], one["architecture"], one["seed"]) for one in jobs]
    if None in results:
        return []
    best = {key: max(found, key=lambda row: row["AP"]) for key, found in rows.items()}

    def again(row: Row) -> list[float]:
        found = [log.get(whole.name, row["architecture"], seed) for seed in range(1, 1 + whole.again)]
        return [one["AP"] for one in found if one is not None]

    def shown(values: Sequence[float]) -> str:
        return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"

    lines = [
        "## SpineNet, digits",
        "",
        textwrap.fill(
            f"`{whole.space}` by AP alone, {whole.trials} evaluations in each of {whole.seeds} searches. *Best* is "
            f"the AP that the search saw; *again*, the found network trained with {whole.again} other seeds, which "
            f"is what counts, as the best of several draws is lucky. No order costs more than `{FIXED.space}`.",
            120,
        ),
        "",
        "| method | mean of all | best | again | M MACs |",
        "|---|---:|---:|---:|---:|",
    ]
    for method in whole.methods:
        mine = [key for key in rows if key[0] == method]
        everything = [row["AP"] for key in mine for row in rows[key]]
        cells = [shown(everything), shown([best[key]["AP"] for key in mine])]
        cells += [shown([ap for key in mine for ap in again(best[key])])]
        cells += [f"{statistics.mean(best[key]['macs'] for key in mine) / 1e6:.1f}"]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    fixed = [row for row in results if row is not None and row["case"] == FIXED.name]
    values = [row["AP"] for row in fixed]
    cost = fixed[0]["macs"] / 1e6
    lines.append(f"| `{FIXED.space}` | {shown(values)} | {max(values):.3f} | {shown(values[1:])} | {cost:.1f} |")
    return [*lines, ""]


# --- The benchmark ----------------------------------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Searches of detectors against chance; takes hours where nothing is done yet."
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder with the data sets")
    parser.add_argument("--workers", type=int, default=1, help="processes that train (default: 1)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="train cases with this in their name; the report has all that is done",
    )


def main(args: argparse.Namespace) -> None:
    folder = args.data.resolve()
    log = Log(LOG)
    np.seterr(all="raise")
    wanted = [case for case in CASES if not args.only or any(word in case.name for word in args.only)]
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        for case in wanted:
            if case.data is not None and not (folder / case.data).exists():
                print(f"left out, as {folder / case.data} is missing: {case.name}")
                continue
            do([job(case, one) for one in case.pool], log, folder, pool)
        if not args.only or any(word in SPINENET.name for word in args.only):
            runs = [pool.submit(searched, SPINENET, seed, log.file, folder) for seed in range(SPINENET.seeds)]
            for one in runs:
                one.result()
            log = Log(LOG)
            do(again_of(SPINENET, found_by(SPINENET, log)), log, folder, pool)
    lines = [
        "# Searches of detectors",
        "",
        "`python -m benchmarks detection --workers 2`",
        "",
        textwrap.fill(
            f"Mean ± standard deviation over {SEEDS} searches: the share of the whole part's hypervolume (AP, MACs) "
            "that is found after so many evaluations, and evaluations until a share. *AP beyond unsearched ones*: the "
            f"best found in {CASES[0].at[-1]} evaluations at the cost of each unsearched architecture or less, minus "
            "that one's. The last four columns are of searches that go on until nothing is left.",
            120,
        ),
        "",
    ]
    for case in CASES:
        lines += looked_up(case, log)
    text = "\n".join([*lines, *spinenet(SPINENET, log)])
    write_text(LOG.with_suffix(".md"), text)
    print(text)
