"""The command `eval`: measure an architecture."""

from __future__ import annotations

import argparse
from pathlib import Path

from nasdsl.files import source_of
from nasdsl.options import add_format, add_space, defines, whole_number
from nasdsl.running import add_run, report_facts, run_options


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Measures an architecture with its weights by the standard metric of its task."
    parser.epilog = "example:\n  nasdsl eval found.space --data camvid.zip\n"
    add_space(parser)
    add_run(parser)
    parser.add_argument("--weights", metavar="FILE", help="by default the .safetensors file beside the .space file")
    parser.add_argument("--batch", type=whole_number, default=64, metavar="N", help="images at a time (default 64)")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from nasdsl.progress import Bars
    from nasdsl.runtime.fit import evaluate_file

    weights = Path(args.weights) if args.weights is not None else None
    options = run_options(args, {}, seed=0)
    given = defines(args.defines)
    metrics = evaluate_file(source_of(args.file), options, args.space, given, weights, args.batch, Bars())
    report_facts(args, metrics)
    return 0
