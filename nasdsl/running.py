"""What the commands that run something share: their options, and what a run says at its end."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.options import UsageError, tables_of, whole_number
from nasdsl.report import printable
from nasdsl.runtime.launch import is_first_process
from nasdsl.streams import as_json

if TYPE_CHECKING:
    from nasdsl.runtime.search import Options


MOST_THREADS = 1024


threads = partial(whole_number, most=MOST_THREADS)


workers = partial(whole_number, least=0, most=MOST_THREADS)


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="a folder, zip, COCO .json, YOLO .yaml or IDX .gz; left out, the embedded handwritten digits",
    )
    parser.add_argument(
        "--reader", metavar="NAME", help="the layout of the data, which the first lines of a run name with the others"
    )
    parser.add_argument("--links", action="store_true", help="follow links in the data that lead out of its folder")
    parser.add_argument("--device", metavar="NAME", default="auto", help="cpu, cuda, mps or auto (default)")
    parser.add_argument(
        "--workers", type=workers, metavar="N", default=0, help="threads that prepare batches ahead (default 0)"
    )
    parser.add_argument("--threads", type=threads, metavar="N", help="CPU threads for torch")


def add_training(parser: argparse.ArgumentParser, out: str, required: bool = True) -> None:
    parser.add_argument("--out", metavar="FILE", required=required, help=out)
    parser.add_argument(
        "--run", metavar="FOLDER", help="folder of the run (default: runs/NAME-OF-OUT, of a training NAME-OF-OUT.train)"
    )
    parser.add_argument("--fresh", action="store_true", help="start over where the folder holds a run of the same kind")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default 0)")
    parser.add_argument("--epochs", metavar="N", help="short for --set epochs=N (in a search, train.epochs)")
    parser.add_argument("--batch", metavar="N", help="short for --set batch=N (in a search, train.batch)")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a setting that goes before the file's, such as train.optimiser.lr=0.01; may be repeated",
    )


def overrides_of(args: argparse.Namespace, prefix: str) -> dict[str, str]:
    """Settings from the command line, as text by dotted name."""
    out: dict[str, str] = {}
    for text in args.settings:
        key, equals, value = text.partition("=")
        if not equals or not value.strip() or not all(part.isidentifier() for part in key.strip().split(".")):
            raise UsageError(f"--set takes NAME=VALUE, such as --set train.optimiser.lr=0.01, and not `{text}`")
        out[key.strip()] = value.strip()
    for name in ("epochs", "batch"):
        if getattr(args, name) is not None:
            out[prefix + name] = getattr(args, name)
    return out


def run_options(args: argparse.Namespace, overrides: dict[str, str], seed: int | None = None) -> Options:
    import torch

    from nasdsl.compiler.elaborate.settings import read_values
    from nasdsl.runtime.search import Options

    if args.reader is not None and args.data is None:
        raise UsageError("--reader says how --data is read, and there is none")
    if args.links and args.data is None:
        raise UsageError("--links says how --data is read, and there is none")
    if args.threads:
        torch.set_num_threads(args.threads)
    return Options(
        data=args.data,
        run=run_folder(args, Path(args.out)) if seed is None else None,
        seed=args.seed if seed is None else seed,
        overrides=read_values(overrides),
        accelerator=args.device,
        workers=args.workers,
        reader=args.reader,
        links=args.links,
        latency=getattr(args, "latency", None),
        measured={name: str(file) for name, file in tables_of(args).items() if name != "latency"},
        fresh=getattr(args, "fresh", False),
    )


def run_folder(args: argparse.Namespace, out: Path) -> Path:
    from nasdsl.runtime.search import default_run

    return Path(args.run) if args.run is not None else default_run(out, args.command)


def report_facts(args: argparse.Namespace, facts: dict[str, Any]) -> None:
    if not is_first_process():
        return
    if args.format == "json":
        as_json(facts)
        return
    from nasdsl.compiler.measures import lookup
    from nasdsl.report import amount

    for name, value in facts.items():
        shown = (
            amount(value)
            if isinstance(value, int | float) and lookup(name) is not None
            else f"{value:.4g}"
            if isinstance(value, float)
            else str(value)
        )
        sys.stdout.write(printable(f"{name:>10}  {shown}") + "\n")
