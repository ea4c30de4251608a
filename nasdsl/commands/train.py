"""The command `train`: train an architecture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nasdsl.compiler.pipeline import elaborate
from nasdsl.files import source_of
from nasdsl.options import UsageError, add_format, add_space, defines
from nasdsl.running import add_run, add_training, called, how_to_train, overrides_of, report_facts
from nasdsl.runtime.launch import is_first_process

if TYPE_CHECKING:
    from nasdsl.compiler.source import Source


TRAIN_EXAMPLES = """\
examples:
  nasdsl train found.space --data cifar10.zip                                        from scratch
  nasdsl train found.space --inherit found.safetensors --out tuned.safetensors --epochs 5
  nasdsl train other.space --inherit runs/found --out other.safetensors --epochs 5
      an architecture of the same space, with its part of the supernet that `search sample` left there
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Trains an architecture from scratch, or from weights that it inherits."
    parser.epilog = TRAIN_EXAMPLES
    add_space(parser)
    add_run(parser)
    add_training(
        parser,
        "the file for the weights, such as trained.safetensors; by default NAME.safetensors beside FILE or, where that "
        "has other weights, NAME_trained.safetensors",
        required=False,
    )
    parser.add_argument(
        "--inherit",
        metavar="PATH",
        help="weights to start from, or the folder of a `search sample`, whose supernet has them",
    )
    parser.add_argument(
        "--fresh-head",
        action="store_true",
        help="with --inherit, begin with a new head, which may be one for another number of classes",
    )
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from nasdsl.api.training import train
    from nasdsl.progress import Bars

    if args.out is None and args.file == "-":  # before it is waited for
        raise UsageError("standard input has no name that the weights could have", help="name a file with `--out`")
    source, bars = source_of(args.file), Bars()
    if args.out is None:
        args.out = str(_weights_beside(source, args))
        if is_first_process():
            bars.note(f"the weights go to {args.out}")
    given = how_to_train(args, overrides_of(args, ""))
    with called(args):
        space = elaborate(source, args.space, defines(args.defines))
        trained = train(space, inherit=args.inherit, fresh_head=args.fresh_head, on_progress=bars, **given)
    report_facts(args, trained.facts())
    return 0


def _weights_beside(source: Source, args: argparse.Namespace) -> Path:
    """Where the weights of a training go by default: beside the file, in place of no others.

    Raises:
        UsageError: there is no such place.
    """
    from nasdsl import spaces
    from nasdsl.runtime.provenance import read_result
    from nasdsl.runtime.runs import TRAINING
    from nasdsl.runtime.search import default_run

    assert source.path is not None
    ships = source.path.parent.resolve() == spaces.FOLDER
    beside = Path(source.path.name if ships else source.path).with_suffix(".safetensors")
    tried = [beside, beside.with_name(f"{beside.stem}_trained.safetensors")]
    for out in tried:
        run = Path(args.run) if args.run is not None else default_run(out, TRAINING)
        made = None if not out.exists() else read_result(run)
        if not out.exists() or (made is not None and made.file is None and made.weights == str(out.resolve())):
            return out
    raise UsageError(f"{tried[0]} and {tried[1]} hold other weights", help="name a file with `--out`")
