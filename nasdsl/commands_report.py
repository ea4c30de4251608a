"""The command `report`: a search as one page of HTML."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from nasdsl.commands import describe
from nasdsl.compiler.files import write_text
from nasdsl.options import UsageError, add_defines, add_tables, space_of, tables_of, whole_number

if TYPE_CHECKING:
    from nasdsl.compiler.space import Space


def report_options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Writes one HTML file that shows a search: the front, the best so far, where its trials lie in the space,\n"
        "drawings of the space and of architectures along the front, and all trials in a table whose rows open. The\n"
        "file needs nothing else and no network. RUN is a folder of a search that tries architectures one by one.",
        "report runs/found",
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
        "--pictures", type=whole_number, default=6, metavar="N", help="architectures to draw (default: 6)"
    )


def report(args: Namespace) -> None:
    from nasdsl.compiler.measured import measured
    from nasdsl.page.read import database_url, read_study
    from nasdsl.page.write import page
    from nasdsl.runtime.errors import RunError

    run = Path(args.run)
    out = run / "report.html" if args.out is None else Path(args.out)
    if args.storage is None and not run.is_dir():
        raise RunError(f"there is no folder {run}")
    url = database_url(run, args.storage)
    space = measured(_space(args, run), tables_of(args))
    study = read_study(url, args.study)
    if not study.records:
        raise RunError(f"the study `{study.name}` has no trials yet")
    write_text(out, page(space, study, args.pictures))
    sys.stdout.write(f"{out}: {len(study.records):,} trials, {len(study.front):,} on the front\n")


def _space(args: Namespace, run: Path) -> Space:
    from nasdsl.runtime.origin import read_origin

    if args.file is not None:
        return space_of(args)
    if args.space is not None or args.defines:
        raise UsageError("--space and -D speak of the file that --file names")
    return read_origin(run)
