"""`python -m benchmarks NAME`: runs one benchmark, or with no name those that take minutes."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

# Before torch is imported: idle threads sleep, so that other processes' figures are not disturbed, nor ours by them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

BENCHMARKS = {
    "speed": ("training steps against hand-written and stand-alone networks", "benchmarks.speed"),
    "steps": ("training steps of sampled subnets against the same networks alone", "benchmarks.steps"),
    "gradient": ("steps of searches by gradient against networks alone and DARTS by hand", "benchmarks.gradient"),
    "detectors": ("training steps of detectors against torchvision's, which it needs", "benchmarks.detectors"),
    "check": ("time to check every space, also against another checkout", "benchmarks.check"),
    "startup": ("time of commands that check and compile a file, and where it goes", "benchmarks.startup"),
    "spaces": ("time and memory of counting, costing, drawing and changing, for every space", "benchmarks.spaces"),
    "rivals": ("the same operations on one space in other tools; needs their environment", "benchmarks.rivals"),
    "tables": ("what searches by evaluations find in tables of known results; takes an hour", "benchmarks.tables"),
    "detection": (
        "what searches of detectors find, against chance, and what is pruned; takes hours",
        "benchmarks.detection",
    ),
    "cells": ("cells of NAS-Bench-201 found by gradient, in its table; takes hours", "benchmarks.cells"),
    "chains": ("detectors found by gradient against others; takes hours", "benchmarks.chains"),
    "screening": ("ranks of options that are screened, over seeds; takes an hour", "benchmarks.screening"),
    "growth": ("what a search does for a trial among few and among many", "benchmarks.growth"),
    "attention": (
        "time and memory of training attention operators, against copies for each offset",
        "benchmarks.attention",
    ),
    "explore": ("time in which the explorer answers a pin", "benchmarks.explore"),
    "editor": ("time of each answer of the language server, behind a keystroke", "benchmarks.editor"),
    "report": ("time to write the page of a large search and to open it; needs chromium", "benchmarks.report"),
    "oneshot": (
        "what a supernet knows of its architectures, and what is found with it; takes hours",
        "benchmarks.oneshot",
    ),
    "recipe": ("the default training recipe against a grid of others; takes hours", "benchmarks.recipe"),
    "quality": ("what searches find, against even thinning; takes hours", "benchmarks.quality"),
}
DEFAULT = ("startup", "speed")


def main(argv: list[str]) -> None:
    """Runs what a command line names."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", metavar="NAME")
    for name, (summary, module) in BENCHMARKS.items():
        sub = commands.add_parser(name, help=summary)
        if name in argv[:1]:
            importlib.import_module(module).options(sub)
    args = parser.parse_args(argv)
    if args.name is not None:
        importlib.import_module(BENCHMARKS[args.name][1]).main(args)
        return
    for name in DEFAULT:
        main([name])


if __name__ == "__main__":
    main(sys.argv[1:])
