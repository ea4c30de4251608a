"""The command `report`: a search or a training as one page of HTML."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from nasdsl.compiler.diagnostics import NasdslError
from nasdsl.files import source_of
from nasdsl.options import UsageError, add_defines, add_tables, describe, space_of, tables_of, whole_number

if TYPE_CHECKING:
    from nasdsl.compiler.space import Space


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
        "--pictures", type=whole_number, default=6, metavar="N", help="architectures to draw (default: 6)"
    )
    group = parser.add_argument_group("what a trained network finds in images")
    group.add_argument("--network", metavar="FILE", help="an architecture; by default what came of the run")
    group.add_argument("--weights", metavar="FILE", help="its weights; by default those of the run, or those beside it")
    group.add_argument("--data", metavar="PATH", help="the images; by default what the network learnt from in the run")
    group.add_argument("--reader", metavar="NAME", help="the layout of the data, where it is not found out by itself")
    group.add_argument("--links", action="store_true", help="follow links in the data that lead out of its folder")
    group.add_argument("--device", metavar="NAME", default="auto", help="cpu, cuda, mps or auto (default)")


def run(args: Namespace) -> None:
    from nasdsl.compiler.measured import measured
    from nasdsl.page.read import database_url, read_study, read_training
    from nasdsl.page.write import page, training_page
    from nasdsl.runtime.errors import RunError
    from nasdsl.runtime.outputs import check_output, write_output
    from nasdsl.runtime.runs import own_files, refuse_links
    from nasdsl.runtime.storage import DATABASE

    run = Path(args.run)
    out = run / "report.html" if args.out is None else Path(args.out)
    if args.storage is None and not run.is_dir():
        raise RunError(f"there is no folder {run}")
    refuse_links(run)
    own = [] if not run.is_dir() else [file for file in own_files(run) if file.name != "report.html"]
    others = [Path(one) for one in (args.file, args.network, args.weights, args.data) if one is not None]
    check_output(out, [*own, *others], streams=True)
    if args.storage is None and args.study is None and not (run / DATABASE).is_file():
        training = read_training(run)
        if training is not None:
            space = measured(_space(args, run), tables_of(args))
            images, shown = _examples(args, run)
            write_output(out, training_page(space, training, images, _found(run)))
            sys.stdout.write(f"{out}: {shown}\n")
            return
    url = database_url(run, args.storage)
    space = measured(_space(args, run), tables_of(args))
    study = read_study(url, args.study)
    if not study.records:
        raise RunError(f"the study `{study.name}` has no trials yet")
    images, shown = _examples(args, run)
    write_output(out, page(space, study, args.pictures, images))
    sys.stdout.write(f"{out}: {len(study.records):,} trials, {len(study.front):,} on the front, {shown}\n")


def _examples(args: Namespace, run: Path) -> tuple[str, str]:
    """The part of the page with what a network finds in images, and how many there are, in words. Whatever keeps it
    from being shown is told there, and on the terminal if it was asked for; the rest of the page does not depend on it.
    """
    from nasdsl.commands.predict import SCORE
    from nasdsl.page.examples import Asked, examples_of, examples_section, why_none
    from nasdsl.runtime.provenance import RESULT

    try:
        source = None if args.network is None else source_of(args.network)
        weights = None if args.weights is None else Path(args.weights)
        found = examples_of(run, Asked(source, weights, args.data, args.reader, args.links, args.device, SCORE))
    except NasdslError as problem:
        if args.network or args.weights or args.data or (run / RESULT).is_file():
            sys.stderr.write(f"note: {why_none(problem)}\n")
        return examples_section(problem, SCORE), "no images"
    return examples_section(found, SCORE), f"{len(found.shown)} images"


def _found(run: Path) -> Space | None:
    """The architecture that came of a search; None while there is none, or where its file is not what it was."""
    from nasdsl.compiler.elaborate.program import elaborate
    from nasdsl.compiler.parse import read
    from nasdsl.runtime.provenance import read_result

    try:
        written = read_result(run)
        return None if written is None or written.file is None else elaborate(read(Path(written.file)))
    except NasdslError:
        return None


def _space(args: Namespace, run: Path) -> Space:
    from nasdsl.runtime.provenance import read_origin

    if args.file is not None:
        return space_of(args)
    if args.space is not None or args.defines:
        raise UsageError("--space and -D speak of the file that --file names")
    return read_origin(run)
