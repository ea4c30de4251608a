"""The command `profile`: measure operators on this device."""

from __future__ import annotations

import argparse
from pathlib import Path

from nasdsl.options import add_space, space_of, whole_number
from nasdsl.running import threads

PROFILE_DESCRIPTION = """\
Measures on this device every setting in which the architectures of a space run an operator, such as each kernel and
each expansion, and writes a latency table that `--latency` of other commands takes: checks, searches, counts, costs and
draws. Search units, and an operator's widths where its choices have more than 64 options together, are measured at up
to five widths; between these a time is taken to be linear in the MACs. The table holds for each time half the distance
between the quartiles. It can be interrupted: the same command goes on, and adds what another space needs.
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = PROFILE_DESCRIPTION
    parser.epilog = "example:\n  nasdsl profile spaces/hrnas_small.space -o laptop.json\n"
    add_space(parser)
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="the table, a JSON file")
    parser.add_argument("--device", metavar="NAME", default="cpu", help="cpu (default), cuda or mps")
    parser.add_argument("--batch", type=whole_number, default=1, metavar="N", help="images at a time (default 1)")
    parser.add_argument(
        "--repeats", type=whole_number, default=20, metavar="N", help="timed runs of each point (default 20)"
    )
    parser.add_argument("--threads", type=threads, metavar="N", help="CPU threads for torch")


def run(args: argparse.Namespace) -> int:
    import torch

    from nasdsl.compiler.supernet import Supernet
    from nasdsl.runtime.device import device_named
    from nasdsl.runtime.latency import profile as run
    from nasdsl.runtime.outputs import check_output, inputs_of

    device = device_named(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    space = space_of(args)
    check_output(Path(args.out), inputs_of(space))
    table = run(Supernet(space.graph), Path(args.out), args.batch, args.repeats, device)
    print(f"{len(table.operators)} operators on {table.device}: {args.out}")
    return 0
