"""The command `report`: a search or a training as one page of HTML."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from nasdsl.options import UsageError, add_defines, add_tables, describe, space_of, tables_of, whole_number
from nasdsl.running import called
from nasdsl.runtime.usual import PICTURES


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Writes one HTML file that shows a search: the front, the best so far, where its trials lie in the space,\n"
        "drawings of the space and of architectures along the front, and all trials in a table whose rows open. Of a\n"
        "run that trains one network it shows what was measured; of a shrinking, which units went and when; of a\n"
        "sampled supernet, the scores of candidates and how their ranks settled; of a search by gradient, how its\n"
        "choices went and what was taken; of a screening, which options went and when. Where there is a trained\n"
        "network, it shows what that finds in some images of the validation split, beside what is true. The file\n"
        "needs nothing else, and no connection. RUN is the folder of a search or of a training, which need not have\n"
        "ended.",
        "report runs/found",
        "report runs/found --network other.space --data camvid.zip",
        "report runs/found -o found.html --pictures 10",
        "report runs/found --storage postgresql://me@server/trials --study found",
        "report runs/found --file spaces/trionet.space -D classes=10",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of the run")
    parser.add_argument("-o", "--out", metavar="OUT", help="the file to write; by default report.html in the folder")
    parser.add_argument("--storage", metavar="URL", help="the database of the trials, where they are not in the folder")
    parser.add_argument("--study", metavar="NAME", help="which study, where the database has several")
    parser.add_argument("--file", metavar="FILE", help="the space, where the folder does not say or the file has moved")
    parser.add_argument("--space", metavar="NAME", help="which space of --file; by default the first")
    add_defines(parser)
    add_tables(parser)
    parser.add_argument(
        "--pictures",
        type=whole_number,
        default=PICTURES,
        metavar="N",
        help=f"architectures to draw (default: {PICTURES})",
    )
    group = parser.add_argument_group("what a trained network finds in images")
    group.add_argument("--network", metavar="FILE", help="an architecture; by default what came of the run")
    group.add_argument("--weights", metavar="FILE", help="its weights; by default those of the run, or those beside it")
    group.add_argument("--data", metavar="PATH", help="the images; by default what the network learnt from in the run")
    group.add_argument("--reader", metavar="NAME", help="the layout of the data, where it is not found out by itself")
    group.add_argument("--links", action="store_true", help="follow links in the data that lead out of its folder")
    group.add_argument("--device", metavar="NAME", default="auto", help="cpu, cuda, mps or auto (default)")


def run(args: Namespace) -> None:
    from nasdsl.api.reporting import report

    if args.file is None and (args.space is not None or args.defines):
        raise UsageError("--space and -D speak of the file that --file names")
    tables = tables_of(args)
    names = ("storage", "study", "pictures", "network", "weights", "data", "reader", "links", "device")
    given = {name: getattr(args, name) for name in names}
    given |= {"latency": tables.pop("latency", None), "measured": tables}
    with called(args):
        space = None if args.file is None else space_of(args)
        made = report(args.run, args.out, space=space, **given)
    if made.why_no_images is not None:
        sys.stderr.write(f"note: {made.why_no_images}\n")
    sys.stdout.write(f"{made.file}: {made.told}\n")
