"""What the commands that run something share: their options, and what a run says at its end."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from nasdsl.options import UsageError, whole_number
from nasdsl.runtime.launch import is_first_process
from nasdsl.streams import as_json
from nasdsl.terminal import printable

if TYPE_CHECKING:
    pass


MOST_THREADS = 1024


threads = partial(whole_number, most=MOST_THREADS)


workers = partial(whole_number, least=0, most=MOST_THREADS)


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="a folder, zip, COCO .json, YOLO .yaml, IDX .gz or .csv; or data that ships, digits or diabetes, which is "
        "taken where this is left out",
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


def overrides_of(args: argparse.Namespace, prefix: str, **more: str | None) -> dict[str, Any]:
    """Settings from the command line.

    Args:
        prefix: of where `epochs` and `batch` stand.
        more: others that have an option of their own, as text; None is not given.
    """
    from nasdsl.compiler.elaborate.settings import read_values

    out: dict[str, str] = {}
    for text in args.settings:
        key, equals, value = text.partition("=")
        if not equals or not value.strip() or not all(part.isidentifier() for part in key.strip().split(".")):
            raise UsageError(f"--set takes NAME=VALUE, such as --set train.optimiser.lr=0.01, and not `{text}`")
        out[key.strip()] = value.strip()
    for name in ("epochs", "batch"):
        if getattr(args, name) is not None:
            out[prefix + name] = getattr(args, name)
    return read_values(out | {name: text for name, text in more.items() if text is not None})


def how_to_run(args: argparse.Namespace) -> dict[str, Any]:
    """What `add_run` has, as the functions of Python take it."""
    return {name: getattr(args, name) for name in ("data", "reader", "links", "device", "workers", "threads")}


@contextmanager
def called(args: argparse.Namespace, **options: str) -> Iterator[None]:
    """Inside, arguments of a function of Python that do not go together are options that do not.

    Args:
        options: what the command line calls an argument, where that is not `--` and its name.

    Raises:
        UsageError: they do not.
    """
    from nasdsl.api.given import CallError

    known = {name: f"--{name.replace('_', '-')}" for name in vars(args)} | options

    def named(text: str) -> str:
        return re.sub(r"`(\w+)`", lambda word: known.get(word[1], word[0]), text)

    try:
        yield
    except CallError as problem:
        raise UsageError(named(problem.message), help=named(problem.help)) from None


def how_to_train(args: argparse.Namespace, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `add_run` and `add_training` have, as the functions of Python take it."""
    given = {name: getattr(args, name) for name in ("out", "run", "seed", "fresh")}
    return {**how_to_run(args), **given, "settings": settings}


def report_facts(args: argparse.Namespace, facts: dict[str, Any]) -> None:
    if not is_first_process():
        return
    if args.format == "json":
        as_json(facts)
        return
    from nasdsl.compiler.measures import lookup
    from nasdsl.terminal import amount

    for name, value in facts.items():
        shown = (
            amount(value)
            if isinstance(value, int | float) and lookup(name) is not None
            else f"{value:.4g}"
            if isinstance(value, float)
            else str(value)
        )
        sys.stdout.write(printable(f"{name:>10}  {shown}") + "\n")
