"""The command `eval`: measure an architecture."""

from __future__ import annotations

import argparse

from nasdsl.options import add_format, add_space, space_given, whole_number
from nasdsl.running import add_run, called, how_to_run, report_facts


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Measures an architecture with its weights by the standard metric of its task."
    parser.epilog = "example:\n  nasdsl eval found.space --data camvid.zip\n"
    add_space(parser)
    add_run(parser)
    parser.add_argument("--weights", metavar="FILE", help="by default the .safetensors file beside the .space file")
    parser.add_argument("--batch", type=whole_number, default=64, metavar="N", help="images at a time (default 64)")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from nasdsl.api.training import evaluate
    from nasdsl.progress import Bars

    how = how_to_run(args)
    with called(args):
        metrics = evaluate(space_given(args), weights=args.weights, batch=args.batch, on_progress=Bars(), **how)
    report_facts(args, metrics)
    return 0
