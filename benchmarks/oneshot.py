"""Does a supernet know which architectures are good? Sampling, then evolution, against training from scratch.

    python -m benchmarks oneshot --data ../shared/data --workers 2

`spaces/trionet_small.space` on 10,000 images of CIFAR-10. Supernets are trained in four ways: as the file says
(hierarchical draws, the sandwich rule, Multi-Head Sharing), and with each of the three taken away; all train four
networks in a step. Each shows the largest network of every operator while it trains, and how its scores of
architectures of all sizes agree with what these reach alone (Kendall's tau-b). The first is searched by evolution under
three budgets of MACs; what is found is trained from scratch beside random architectures of the same budget, and beside
the best networks of one operator alone, by the same scores; what is found and the best of those is trained more often.
What is done already is not done again.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from benchmarks.measure import Job, done, spread
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.elaborate.settings import read_values
from nasdsl.compiler.files import write_text
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.parse import read
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.population import Population
from nasdsl.compiler.space import Space
from nasdsl.runtime.data import DataSplits
from nasdsl.runtime.evaluators import ScratchEvaluator
from nasdsl.runtime.inherit import load
from nasdsl.runtime.problem import Exploration
from nasdsl.runtime.recipes import with_recipe
from nasdsl.runtime.search import Options, fabric_for, fit_to_data, search
from nasdsl.runtime.settings import Train
from nasdsl.runtime.tasks import Task

FILE = Path(__file__).parent.parent / "spaces" / "trionet_small.space"
DATA = "cifar10_subset.zip"
METRIC = "top1"
SCORE = "loss"
"""By which architectures are chosen: on a few hundred images it says more than how many of them are right."""
METHOD = "regularised"
OPERATORS = ("conv", "local", "axial")
BUDGETS = (3_000_000, 4_000_000, 5_000_000)
WINDOW = 0.9
"""An architecture is of a budget from this share of it on."""
RANDOM = 5  # of each budget
RANKED = 20  # whose ranks are compared: one in each of so many parts of the range of MACs, equal in proportion


@dataclass(frozen=True)
class Variant:
    """A way to train a supernet."""

    name: str
    settings: Mapping[str, str]
    defines: Mapping[str, str]


VARIANTS = (
    Variant("hierarchical, sandwich, Multi-Head Sharing", {}, {}),
    Variant("uniform draws", {"rule.draw": "uniform"}, {}),
    Variant(
        "no sandwich",
        {"rule.name": "hierarchical", "rule.architectures": "4", "weight_decay_of": "all"},
        {},
    ),
    Variant("heads share prefixes", {}, {"sharing": "prefix"}),
)


@dataclass(frozen=True)
class Setup:
    """What all jobs share."""

    data: Path
    work: Path
    epochs: int
    scratch: int
    brief: int
    trials: int
    singles: int

    def options(self, run: Path | None = None, seed: int = 0, settings: Mapping[str, Any] | None = None) -> Options:
        return Options(
            data=str(self.data / DATA), run=run, seed=seed, overrides=dict(settings or {}), accelerator="cpu"
        )

    def fitted(self, variant: Variant = VARIANTS[0]) -> tuple[Space, DataSplits, Task]:
        return fit_to_data(elaborate(read(FILE), None, variant.defines), self.options())

    def supernet(self, variant: Variant, seed: int) -> Path:
        return self.work / f"supernet-{VARIANTS.index(variant)}-{seed}"


# --- Jobs: each writes one file, and is not done again where that is there --------------------------------------------


def train_supernet(setup: Setup, variant: Variant, seed: int) -> dict[str, Any]:
    """The accuracy of the largest network of every operator, epoch by epoch."""
    run = setup.supernet(variant, seed)
    settings = {"train.epochs": str(setup.epochs), "candidates": "1", **variant.settings}
    options = setup.options(run, seed, read_values(settings))
    search(read(FILE), run.with_suffix(".space"), options, None, variant.defines)
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return {"epochs": [{word: row[f"{METRIC} of {word}"] for word in OPERATORS} for row in rows]}


def evolve(setup: Setup, budget: int, seed: int) -> dict[str, Any]:
    """What evolution finds inside a budget with inherited weights."""
    name = f"found-{setup.trials}-{budget}-{seed}"
    settings = {
        "method": METHOD,
        "minimise": SCORE,
        "budget": f"macs <= {budget}",
        "trials": str(setup.trials),
        "storage": "memory",
    }
    supernet = {"supernet": str(setup.supernet(VARIANTS[0], seed))}
    options = setup.options(setup.work / name, seed, {**read_values(settings), **supernet})
    found = search(read(FILE), setup.work / f"{name}.space", options, runtime="evolve").result
    assert isinstance(found, Exploration)
    best = found.front[0]
    return {"architecture": dict(best.proposal.architecture), "inherited": dict(best.metrics)}


def best_of_one(setup: Setup, budget: int, operator: str, seed: int) -> dict[str, Any]:
    """Of some architectures that have one operator everywhere the one that scores best."""
    space, data, task = setup.fitted()
    graph = space.graph
    fixed = {
        path: list(decision.labels).index(operator)
        for path, decision in graph.decisions.items()
        if operator in decision.labels
    }
    inherited = load(setup.supernet(VARIANTS[0], seed), space, task, data, fabric_for(setup.options(), "32-true"))
    drawn = in_window(pin(graph, fixed), budget, setup.singles, seed)
    whole = [Architecture.at(graph, {**fixed, **one.indices}) for one in drawn]
    scores = [inherited.evaluate(one) for one in whole]
    best = min(range(len(whole)), key=lambda i: scores[i][SCORE])
    return {"architecture": whole[best].to_json(), "inherited": scores[best]}


def in_window(graph: Graph, budget: int, n: int, seed: int) -> list[Architecture]:
    """Different uniform architectures of a budget."""
    population = Population(graph)
    rows = population.draw(4 * n, seed=seed, window={"macs": (WINDOW * budget, float(budget))})
    return list(dict.fromkeys(population.diagram.encoding.decode(rows)))[:n]


def of_all_sizes(graph: Graph, n: int, seed: int) -> list[Architecture]:
    """A uniform architecture in each of several parts of the range of MACs."""
    population = Population(graph)
    ends = [population.extreme("macs", greatest=up).cost for up in (False, True)]
    bounds = np.geomspace(ends[0], ends[1], n + 1).tolist()
    rows = [population.draw(1, seed=seed, window={"macs": part})[0] for part in itertools.pairwise(bounds)]
    return population.diagram.encoding.decode(np.stack(rows))


def score(setup: Setup, variant: Variant, seed: int, architectures: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What architectures reach with the weights that they inherit."""
    space, data, task = setup.fitted(variant)
    inherited = load(setup.supernet(variant, seed), space, task, data, fabric_for(setup.options(), "32-true"))
    found = [inherited.evaluate(Architecture.of(space.graph, one)) for one in architectures]
    return {name: [one[name] for one in found] for name in (METRIC, "loss")}


def alone(setup: Setup, architecture: Mapping[str, Any], epochs: int, seed: int) -> dict[str, Any]:
    """What an architecture reaches from scratch, on images that nothing was chosen by."""
    space, data, task = setup.fitted()
    section = space.sections["search"]
    settings = Train.model_validate(with_recipe({**section.entries["train"], "epochs": epochs}))
    given = Architecture.of(space.graph, architecture)
    evaluator = ScratchEvaluator(space, data, task, fabric_for(setup.options(), settings.precision), settings)
    metrics = evaluator.evaluate(given, seed)
    return {METRIC: metrics[METRIC], "loss": metrics["loss"], "macs": cost_of(space.graph, given.indices)["macs"]}


def from_scratch(setup: Setup, architectures: Mapping[str, Mapping[str, Any]], epochs: int, seeds: int) -> list[Job]:
    """Jobs that train architectures; one that has several names is trained once."""
    return [
        (f"alone-{epochs}-{fingerprint(one)}-{seed}", alone, (setup, one, epochs, seed))
        for one in architectures.values()
        for seed in range(seeds)
    ]


def fingerprint(architecture: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(architecture, sort_keys=True).encode()).hexdigest()[:12]


# --- Results ----------------------------------------------------------------------------------------------------------


def shown(values: list[float]) -> str:
    return spread([100 * value for value in values], 1)


def ways(setup: Setup, results: Mapping[str, Any], truth: list[dict[str, Any]], seeds: int) -> list[str]:
    """The table of the ways to train a supernet."""
    macs = [row["macs"] for row in truth]
    lines = [
        f"Supernets, {setup.epochs} epochs: top-1 in % on 500 images held back, of the largest network of each "
        f"operator at the end; and of {len(truth)} architectures of {min(macs) / 1e6:.1f}M to {max(macs) / 1e6:.1f}M "
        f"MACs Kendall's tau-b between what they reach with inherited weights and in {setup.brief} epochs alone.",
        "",
        "| supernet | seeds | convolution | local | axial | tau, top-1 | tau, loss |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for number, variant in enumerate(VARIANTS):
        last = [results[f"supernet-{number}-{seed}"]["epochs"][-1] for seed in range(seeds)]
        cells = [shown([row[word] for row in last]) for word in OPERATORS]
        for metric in (METRIC, "loss"):
            own = [row[metric] for row in truth]
            taus = [kendalltau(results[f"ranked-{number}-{seed}"][metric], own).statistic for seed in range(seeds)]
            spread = f" ± {statistics.stdev(taus):.2f}" if seeds > 1 else ""
            cells.append(f"{statistics.mean(taus):.2f}{spread}")
        lines.append(f"| {variant.name} | {seeds} | " + " | ".join(cells) + " |")
    own = [kendalltau(macs, [row[metric] for row in truth]).statistic for metric in (METRIC, "loss")]
    lines += ["", f"MACs alone: tau {own[0]:.2f} with top-1, {own[1]:.2f} with the loss."]
    lines += ["", "Epoch by epoch (seed 0), convolution / local / axial:", ""]
    for number, variant in enumerate(VARIANTS):
        rows = results[f"supernet-{number}-0"]["epochs"]
        each = ["/".join(f"{100 * row[word]:.0f}" for word in OPERATORS) for row in rows]
        lines.append(f"- {variant.name}: " + ", ".join(each))
    return lines


def budgets(setup: Setup, groups: Mapping[int, Mapping[str, list[dict[str, Any]]]]) -> list[str]:
    """The table of the budgets: each cell is the mean over architectures and seeds, with the standard deviation."""
    columns = ["found", "random", *OPERATORS]
    lines = [
        "",
        f"From scratch, {setup.scratch} epochs: top-1 in % on the 2,000 test images. Found: the best of {setup.trials} "
        f"by the {SCORE} with inherited weights (`method: {METHOD}`); of one operator: the best of {setup.singles} "
        "by the same scores.",
        "",
        "| MACs at most | found | random | convolution alone | local alone | axial alone |",
        "|---|" + "---:|" * len(columns),
    ]
    for budget, runs in groups.items():
        cells = [f"{shown([row[METRIC] for row in runs[column]])} (n = {len(runs[column])})" for column in columns]
        lines.append(f"| {budget / 1e6:.0f}M | " + " | ".join(cells) + " |")
    return lines


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help=f"the folder with {DATA}")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/oneshot"), help="OUT.json and OUT.md")
    parser.add_argument("--work", type=Path, default=Path("runs/oneshot"), help="the folders of the runs")
    parser.add_argument("--epochs", type=int, default=4, help="of a supernet")
    parser.add_argument("--scratch", type=int, default=3, help="epochs of a network from scratch")
    parser.add_argument("--brief", type=int, default=2, help="epochs of those whose ranks are compared")
    parser.add_argument("--trials", type=int, default=300, help="architectures that a search looks at")
    parser.add_argument("--singles", type=int, default=40, help="architectures of one operator that are looked at")
    parser.add_argument("--seeds", type=int, default=2, help="supernets of each way")
    parser.add_argument("--searched", type=int, default=1, help="of the first way, those that are searched")
    parser.add_argument("--again", type=int, default=2, help="trainings from scratch of what was chosen")
    parser.add_argument("--more", type=int, default=2, help="further ones of what is found and of its closest rival")
    parser.add_argument("--once", type=int, default=1, help="trainings of each random network")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")


def settings_of(args: argparse.Namespace) -> str:
    """The options that change results."""
    names = ("epochs", "scratch", "brief", "trials", "singles", "seeds", "searched", "again", "more", "once")
    return " ".join(f"--{name} {getattr(args, name)}" for name in names)


def main(args: argparse.Namespace) -> None:
    """Runs what has not been run yet, then writes the tables."""
    data = args.data.resolve()
    setup = Setup(data, args.work, args.epochs, args.scratch, args.brief, args.trials, args.singles)
    if not (data / DATA).exists():
        print(f"left out, as {data / DATA} is missing")
        return
    graph, seeds, searched = setup.fitted()[0].graph, range(args.seeds), range(min(args.searched, args.seeds))
    drawn = {
        f"random-{budget}-{i}": one.to_json()
        for budget in BUDGETS
        for i, one in enumerate(in_window(graph, budget, RANDOM, 1))
    }
    ranked = {f"ranked-{i}": one.to_json() for i, one in enumerate(of_all_sizes(graph, RANKED, 1))}

    jobs: list[Job] = [
        (f"supernet-{number}-{seed}", train_supernet, (setup, variant, seed))
        for seed in seeds
        for number, variant in enumerate(VARIANTS)
    ]
    results = done(setup.work, jobs, args.workers)

    jobs = [
        (f"found-{args.trials}-{budget}-{seed}", evolve, (setup, budget, seed))
        for budget in BUDGETS
        for seed in searched
    ]
    jobs += [
        (f"best-{budget}-{word}-{seed}", best_of_one, (setup, budget, word, seed))
        for budget in BUDGETS
        for word in OPERATORS
        for seed in searched
    ]
    jobs += [
        (f"ranked-{number}-{seed}", score, (setup, variant, seed, list(ranked.values())))
        for number, variant in enumerate(VARIANTS)
        for seed in seeds
    ]
    jobs += from_scratch(setup, drawn, args.scratch, args.once) + from_scratch(setup, ranked, args.brief, args.once)
    results |= done(setup.work, jobs, args.workers)

    chosen = {name: results[name]["architecture"] for name in results if name.startswith(("found-", "best-"))}
    results |= done(setup.work, from_scratch(setup, chosen, args.scratch, args.again), args.workers)

    def own(one: Mapping[str, Any], epochs: int, times: int) -> list[dict[str, Any]]:
        return [results[f"alone-{epochs}-{fingerprint(one)}-{seed}"] for seed in range(times)]

    def trained(name: str, times: int) -> list[dict[str, Any]]:
        return [row for seed in searched for row in own(chosen[f"{name}-{seed}"], args.scratch, times)]

    groups = {}
    for budget in BUDGETS:
        names = {"found": f"found-{args.trials}-{budget}", **{word: f"best-{budget}-{word}" for word in OPERATORS}}
        first = {column: trained(name, args.again) for column, name in names.items()}
        rival = max(OPERATORS, key=lambda word: statistics.mean(row[METRIC] for row in first[word]))
        close = {f"{names[column]}-{seed}" for column in ("found", rival) for seed in searched}
        again = from_scratch(setup, {name: chosen[name] for name in close}, args.scratch, args.again + args.more)
        results |= done(setup.work, again, args.workers)
        groups[budget] = first | {column: trained(names[column], args.again + args.more) for column in ("found", rival)}
        random = [drawn[f"random-{budget}-{i}"] for i in range(RANDOM)]
        groups[budget]["random"] = [row for one in random for row in own(one, args.scratch, args.once)]
    truth = [
        {key: statistics.mean(row[key] for row in own(one, args.brief, args.once)) for key in (METRIC, "loss", "macs")}
        for one in ranked.values()
    ]
    head = [
        "# What a supernet knows of its architectures",
        "",
        f"`python -m benchmarks oneshot {settings_of(args)}`",
        "",
    ]
    text = "\n".join([*head, *ways(setup, results, truth, args.seeds), *budgets(setup, groups)]) + "\n"
    write_text(
        args.out.with_suffix(".json"), json.dumps({"results": results, "drawn": drawn | ranked}, indent=1) + "\n"
    )
    write_text(args.out.with_suffix(".md"), text)
    print(text)
