"""Training steps of sampled subnets: a supernet set to an architecture, against that architecture taken out of it.

    python -m benchmarks steps

Each space gives some random architectures. In every round each of them has one training step in the supernet, with the
time to activate it, and one step alone, in turns. What counts is the ratio: the median over rounds for each
architecture, and of these the median. On a CPU the clock is that of the process.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import nasdsl
from benchmarks.measure import RESULTS, report, table
from benchmarks.speed import Call, batch, stepper
from nasdsl.compiler.space import Space
from nasdsl.runtime.sampling import Rule, Sampler

CASES = (("trionet_small", "", 64), ("ofa_mobilenetv3", "128", 8))
GOAL = 1.10


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Steps of sampled subnets of a supernet against the same networks alone."
    parser.add_argument("--repeats", type=int, default=7, help="rounds (default: 7)")
    parser.add_argument("--subnets", type=int, default=30, help="random architectures of each space (default: 30)")
    parser.add_argument("--device", default="cpu", help="`cpu` (the default) or `cuda`")
    parser.add_argument("--quick", action="store_true", help="the first case only, with a few images")
    parser.add_argument("--no-write", action="store_true", help="print the table only")


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    cases = tuple((name, side, 4) for name, side, _ in CASES[:1]) if args.quick else CASES
    device = torch.device(args.device)
    rows = [row(name, side, images, args.subnets, args.repeats, device) for name, side, images in cases]
    head = ("space", "batch", "alone, ms", "in the supernet, ms", "ratio", "largest", "activate, ms", "new, ms")
    text = table(head, rows)
    text += f"\n\nTimes are medians over architectures. Goal: a ratio of at most {GOAL:.2f}."
    text += "\nThe time to activate is part of the step; the last column has it where layers have to be made first."
    report("steps", "Steps of sampled subnets", [("Training steps", text)], None if args.no_write else RESULTS)


def load(name: str, side: str) -> Space:
    return nasdsl.load(name, side=side) if side else nasdsl.load(name)


def row(name: str, side: str, images: int, subnets: int, repeats: int, device: torch.device) -> tuple[str, ...]:
    """One line of the table."""
    space = load(name, side)
    supernet = nasdsl.supernet(space)
    sampler = Sampler(space.graph, Rule(name="hierarchical", architectures=subnets))
    architectures = [drawn.architecture for drawn in sampler.architectures(0, 0)]
    size = space.graph.input.shape.height
    x_BCHW, labels = batch(space, images, size, supernet)
    whole = stepper(supernet, x_BCHW, labels, "channels_last", device)
    alone: list[Call] = [
        stepper(supernet.extract(values), x_BCHW, labels, "channels_last", device) for values in architectures
    ]
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    fresh: list[float] = []
    activated: list[float] = []
    supernet.forget()
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in architectures]
    for turn in range(repeats + 1):
        for values, other, (ours, theirs) in zip(architectures, alone, times, strict=True):

            def part(values: nasdsl.Architecture = values, turn: int = turn) -> None:
                start = clock()
                supernet.activate(values)
                (activated if turn else fresh).append(clock() - start)
                whole()

            for call, found in ((part, ours), (other, theirs))[:: 1 if turn % 2 else -1]:
                start = clock()
                call()
                if turn:  # the first round warms up
                    found.append(clock() - start)
    ratios = [statistics.median(a / b for a, b in zip(*pair, strict=True)) for pair in times]
    medians = [(statistics.median(ours), statistics.median(theirs)) for ours, theirs in times]
    return (
        name,
        f"{images} x {size} x {size}",
        f"{1000 * statistics.median(theirs for _, theirs in medians):.1f}",
        f"{1000 * statistics.median(ours for ours, _ in medians):.1f}",
        f"{statistics.median(ratios):.3f}",
        f"{max(ratios):.3f}",
        f"{1000 * statistics.median(activated):.1f}",
        f"{1000 * statistics.median(fresh):.1f}",
    )
