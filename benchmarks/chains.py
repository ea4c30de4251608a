"""Both chains of docs/howto/gradient.md from start to end, and what is found against what else one could train.

    python -m benchmarks chains --data ../shared/data --workers 2

Auto-FPN: the neck is searched, then the head behind it. Hit-Detector: lists of 32 options are screened, then all parts
are searched together. Each with the small spaces, by the commands of the documentation, on images of blood cells (BCCD)
and on the embedded scenes of digits. What is found is then trained from scratch, beside

- the feature pyramid with two fully connected layers, on the thin residual trunk of `autofpn_small`;
- random architectures of the space that cost as much: MACs and parameters;
- what evolution finds with trainings from scratch inside the found MACs, in the chain's time.

What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from benchmarks.measure import RESULTS, Job, done, report, spread, table

DATA: Mapping[str, str | None] = {"blood cells": "bccd_coco_320x240.zip", "digits": None}
TRAIN = {
    "blood cells": {"epochs": "20", "batch": "8", "augment": "flip"},
    "digits": {"epochs": "8", "batch": "8", "augment": "flip"},
}
TRIAL = {"blood cells": "5", "digits": "2"}
"""Epochs of an evaluation of evolution."""
IN_EPOCHS = {"blood cells": 1.0, "digits": 3 / 8}
"""An epoch of digits has 8/3 as many images: searches take as many steps."""
RANDOM, SEEDS = 5, 3
WIDTH = 0.1
"""Random architectures cost so much more or less than what was found, at most."""


@dataclass(frozen=True)
class Chain:
    """A system's commands, the last of which writes `found.space`.

    Attributes:
        space: what is searched.
    """

    name: str
    space: str
    commands: tuple[tuple[str, ...], ...]


def searched(epochs: float, after: float, *words: str) -> tuple[str, ...]:
    """A search with its epochs, of blood cells, and how many of them train weights alone."""
    return ("search", *words, f"train.epochs={epochs}", f"choices.after={after}")


USUAL = ("pin", "autofpn_small", "search_neck=false", "search_head=false", "-o", "usual.space")
FROZEN = ("--set", "train.freeze=backbone")
CHAINS = (
    Chain(
        "Auto-FPN",
        "autofpn_small",
        (
            ("train", "usual.space", "--out", "usual.safetensors"),
            searched(
                80,
                10,
                "autofpn_small",
                "-D",
                "search_head=false",
                *FROZEN,
                "--set",
                "train.init.matching=usual.safetensors",
                "--out",
                "neck.space",
            ),
            ("pin", "autofpn_small", "search_head=true", "--from", "neck.space", "-o", "behind.space"),
            searched(
                80,
                10,
                "behind.space",
                *FROZEN,
                "--set",
                "train.init.matching=neck.safetensors",
                "--out",
                "found.space",
            ),
        ),
    ),
    Chain(
        "Hit-Detector",
        "hitdetector_small",
        (
            searched(6, 2, "hitdetector_small", "--runtime", "screen", "--out", "screened.space"),
            searched(16, 4, "screened.space", "--out", "found.space"),
        ),
    ),
)


def options_of(settings: Mapping[str, str]) -> list[str]:
    """`--set` for each."""
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


@dataclass(frozen=True)
class Place:
    """Where commands run: a folder, the data, and by what its training is called."""

    folder: Path
    data: Path | None
    word: str

    def settled(self, words: Sequence[str]) -> list[str]:
        """A command of a chain with the settings for this data."""
        if words[0] == "train":
            return [*words, *options_of(TRAIN[self.word])]
        out = []
        for word in words:
            name, _, value = word.partition("=")
            if name in ("train.epochs", "choices.after"):
                out += ["--set", f"{name}={float(value) * IN_EPOCHS[self.word]:g}"]
            else:
                out.append(word)
        return out

    def run(self, *words: str, seed: int | None = None) -> tuple[str, float]:
        """What a command prints, and the seconds of CPU that it took. Commands that learn get the data.

        Raises:
            RuntimeError: it failed.
        """
        if words[0] in ("search", "train"):
            words = (*words, "--device", "cpu", "--threads", "1")
            words += () if self.data is None else ("--data", str(self.data))
        if seed is not None:
            words = (*words, "--seed", str(seed))
        self.folder.mkdir(parents=True, exist_ok=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "nasdsl", *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# --- Jobs -------------------------------------------------------------------------------------------------------------


def chained(chain: Chain, place: Place) -> dict[str, Any]:
    """The seconds of each command of a chain, and what it finds costs."""
    shutil.rmtree(place.folder, ignore_errors=True)
    place.run(*USUAL)
    seconds = [place.run(*place.settled(words))[1] for words in chain.commands]
    found = json.loads(place.run("cost", "found.space", "--format", "json")[0])
    return {"seconds": seconds, "costs": {name: int(found[name]) for name in ("macs", "params")}}


def trained(place: Place, file: str, seed: int, epochs: str | None = None) -> dict[str, Any]:
    """What an architecture reaches from scratch."""
    settings = TRAIN[place.word] | ({} if epochs is None else {"epochs": epochs})
    words = options_of(settings)
    out = f"{Path(file).stem}-{seed}.safetensors"
    text, seconds = place.run("train", file, *words, "--format", "json", "--out", out, seed=seed)
    told = json.loads(text)
    row = {name: told[name] for name in ("AP", "AP50", "AP75", "macs", "params")}
    return {**row, "parts": parts_of(place.folder / out), "seconds": seconds}


def parts_of(file: Path) -> dict[str, int]:
    """The parameters of a detector's parts."""
    found: dict[str, int] = {}
    with safe_open(file, "numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - it is no dict
            if not re.search(r"\.(running_mean|running_var|num_batches_tracked)$", name):
                part = name.removeprefix("layers.").partition("/")[0].partition(".")[0]
                found[part] = found.get(part, 0) + tensors.get_tensor(name).size
    return found


def evolved(chain: Chain, place: Place, macs: float, seconds: float, each: float) -> dict[str, Any]:
    """Evolution with trainings from scratch, of which as many fit into the time of the chain."""
    settings = {f"train.{name}": value for name, value in TRAIN[place.word].items()}
    settings |= {"train.epochs": TRIAL[place.word], "maximise": "AP", "method": "regularised"}
    trials = max(2, round(seconds / each))
    settings |= {"population": str(max(2, trials // 3)), "tournament": "3" if trials >= 9 else "2"}
    words = options_of(settings)
    budget = ("--budget", f"macs <= {macs:.0f}", "--trials", str(trials), "--out", "evolved.space")
    _, spent = place.run("search", chain.space, "--runtime", "evolve", *words, *budget)
    return {"trials": trials, "seconds": spent}


def drawn(chain: Chain, place: Place, costs: Mapping[str, float]) -> dict[str, Any]:
    """Files of random architectures that cost about as much."""
    budgets = [
        word
        for name, cost in costs.items()
        for word in ("--budget", f"{name} in {(1 - WIDTH) * cost:.0f}..{(1 + WIDTH) * cost:.0f}")
    ]
    folder = place.folder / "random"
    shutil.rmtree(folder, ignore_errors=True)
    place.run("sample", chain.space, "-n", str(RANDOM), "--different", *budgets, "--files", "random")
    return {"files": sorted(f"random/{file.name}" for file in folder.glob("*.space"))}


# --- Results ----------------------------------------------------------------------------------------------------------


def row_of(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line of the table: parts and whole in thousands of parameters, MACs, AP."""

    def mean(values: Sequence[float], digits: int = 0) -> str:
        return f"{statistics.mean(values):.{digits}f}"

    parts = [mean([row["parts"].get(part, 0) / 1e3 for row in rows]) for part in ("backbone", "neck", "head")]
    whole = [mean([row["params"] / 1e3 for row in rows]), mean([row["macs"] / 1e6 for row in rows], 1)]
    return [
        name,
        *parts,
        *whole,
        spread([row["AP"] for row in rows], 3),
        spread([row["AP50"] for row in rows], 3),
        f"{len(rows)}",
    ]


HEAD = ["", "backbone", "neck", "head", "all, thousands", "MACs, M", "AP", "AP50", "n"]


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Both chains of the documentation against other detectors; takes hours where nothing is done."
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder with the data sets")
    parser.add_argument("--work", type=Path, default=Path("runs/chains"), help="the folders of the runs")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--no-write", action="store_true", help="print the tables only")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="cases with this in their name")


def case(chain: Chain, word: str, args: argparse.Namespace) -> tuple[str, str]:
    """A section of the report, its heading first."""
    name = f"{chain.name}, {word}"
    file, folder = DATA[word], args.data.resolve()
    stem = name.replace(", ", "-").replace(" ", "-").lower()
    place = Place((args.work / stem).resolve(), None if file is None else folder / file, word)
    first = done(args.work, [(f"{stem}-chain", chained, (chain, place))], args.workers)[f"{stem}-chain"]
    again: list[Job] = [(f"{stem}-found-{seed}", trained, (place, "found.space", seed)) for seed in range(SEEDS)]
    again += [(f"{stem}-usual-{seed}", trained, (place, "usual.space", seed)) for seed in range(SEEDS)]
    again += [(f"{stem}-drawn", drawn, (chain, place, first["costs"]))]
    results = done(args.work, again, args.workers)
    each = results[f"{stem}-found-0"]["seconds"] * float(TRIAL[word]) / float(TRAIN[word]["epochs"])
    spent = sum(first["seconds"])
    random = results[f"{stem}-drawn"]["files"]
    jobs: list[Job] = [(f"{stem}-evolved", evolved, (chain, place, first["costs"]["macs"], spent, each))]
    jobs += [(f"{stem}-random-{number}", trained, (place, one, 0)) for number, one in enumerate(random)]
    results |= done(args.work, jobs, args.workers)
    results |= done(
        args.work,
        [(f"{stem}-evolved-{seed}", trained, (place, "evolved.space", seed)) for seed in range(SEEDS)],
        args.workers,
    )

    def of(what: str, n: int) -> list[dict[str, Any]]:
        return [results[f"{stem}-{what}-{i}"] for i in range(n)]

    rows = [
        row_of("feature pyramid, two layers", of("usual", SEEDS)),
        row_of("random, equal cost", of("random", len(random))),
        row_of("evolution", of("evolved", SEEDS)),
        row_of("found by gradient", of("found", SEEDS)),
    ]
    minutes = " + ".join(f"{seconds / 60:.1f}" for seconds in first["seconds"] if seconds > 10)
    best = max(row["AP"] for row in of("random", len(random)))
    facts = (
        f"The chain takes {minutes} minutes of one core; evolution {results[f'{stem}-evolved']['trials']} evaluations "
        f"in {results[f'{stem}-evolved']['seconds'] / 60:.1f}. The best of the random ones has AP {best:.3f}."
    )
    text = re.sub(r'use "(?:[^"]*/)?([^"/#]+)[^"]*"', r'use "\1"', (args.work / stem / "found.space").read_text())
    return name, f"{table(HEAD, rows)}\n\n{facts}\n\n```\n{text.rstrip()}\n```"


def main(args: argparse.Namespace) -> None:
    """Runs what has not been run yet, then writes the tables."""
    folder, sections = args.data.resolve(), []
    for chain in CHAINS:
        for word, file in DATA.items():
            if args.only and not any(one in f"{chain.name}, {word}" for one in args.only):
                continue
            if file is not None and not (folder / file).exists():
                print(f"left out, as {folder / file} is missing: {chain.name}, {word}")
                continue
            sections.append(case(chain, word, args))
    note = (
        f"Trained from scratch with batches of 8 and mirrored images, for {TRAIN['blood cells']['epochs']} epochs of "
        f"blood cells or {TRAIN['digits']['epochs']} of digits; validation images. The pyramid, evolution's and the "
        f"found one with {SEEDS} seeds, random ones (MACs and parameters within {WIDTH:.0%}) once each. An evaluation "
        f"of evolution takes {TRIAL['blood cells']} or {TRIAL['digits']} epochs."
    )
    report("chains", "Detectors found by gradient", [("How", note), *sections], None if args.no_write else RESULTS)
