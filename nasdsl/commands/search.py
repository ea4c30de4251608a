"""The command `search`: search a space on data."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nasdsl.options import UsageError, add_format, add_space, add_tables, space_given, tables_of
from nasdsl.running import add_run, add_training, called, how_to_train, overrides_of, report_facts

if TYPE_CHECKING:
    from nasdsl.api.searching import Found


SEARCH_EXAMPLES = """\
examples:
  nasdsl search spaces/hrnas_small.space --out found.space
      the embedded digits; writes found.space, found.safetensors and runs/found/
  nasdsl search spaces/hrnas_small.space --space small_camvid --data camvid.zip --out found.space
  nasdsl search spaces/hrnas_small.space --target "macs <= 2M" --epochs 10 --out found.space
  nasdsl search mine.space --runtime evolve --function my_module:accuracy --budget "macs <= 600M" --out best.space
  nasdsl search mine.space --runtime evolve --function my_module:accuracy --latency table.json \\
      --set maximise=value --set minimise=latency --budget "memory <= 8M" --out best.space
      by the times that `nasdsl profile` measured
  nasdsl search spaces/trionet_small.space --data cifar10.zip --set rule=hierarchical --out found.space
      trains a supernet that all architectures share, and gives the best of some that are drawn
  nasdsl search spaces/hitdetector_small.space --runtime screen --out screened.space
  nasdsl search screened.space --runtime gradient --out found.space
      shortens the lists of options by their scores, and then trains probabilities for those that stay

The function of --function is called as `accuracy(architecture, space)` for each architecture that is tried.
`architecture` reads like a dict, the values of its decisions by path, and is what the functions of `nasdsl` take;
`space` is what is searched. It gives a number, which is the metric `value`, or a dict of numbers by name, which
`maximise` and `minimise` name. What it raises is a failed trial (`--set failures=N` allows some). In my_module.py,
which may lie in this folder:

  import nasdsl

  def accuracy(architecture, space):
      network = nasdsl.supernet(nasdsl.pin(space, architecture))    # an ordinary torch.nn.Module
      ...                                                           # trained and measured
      return {"top1": 0.93, "seconds": 0.012}

  nasdsl search mine.space --runtime evolve --function my_module:accuracy --set maximise=top1 \\
      --set minimise=seconds --out best.space

A run that was interrupted goes on when the same command is given again. Its folder has the checkpoint, history.jsonl
with all measurements, and TensorBoard events. Under `torchrun` the processes share the work.
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Runs the search of a space and writes the smaller space that it finds, with weights."
    parser.epilog = SEARCH_EXAMPLES
    add_space(parser)
    add_run(parser)
    add_training(parser, "the result file, such as found.space; the weights go beside it")
    parser.add_argument(
        "--runtime",
        metavar="NAME",
        help="the search to run, not the file's: shrink, thin, sample, gradient, screen, evolve; or what evolve is to "
        "propose by, such as nsga2",
    )
    parser.add_argument(
        "--target",
        metavar="LIMIT",
        help='the cost to end at, such as "macs <= 0.3G", or as a share of the whole "macs <= 0.3"',
    )
    add_tables(parser)
    group = parser.add_argument_group("searches that evaluate one architecture after the other (evolve)")
    group.add_argument(
        "--table",
        metavar="FILE",
        help="known results, .csv or .json: short for the setting `table`. Columns are called as the decisions, or "
        "--set table.column=NAME --set 'table.pattern=\"{PATH}-{PATH}\"' say which architecture a row is; more in "
        "docs/howto/tables.md",
    )
    group.add_argument("--supernet", metavar="RUN", help="a trained supernet: short for the setting `supernet`")
    group.add_argument(
        "--function",
        metavar="MODULE:NAME",
        help="a Python function of the architecture and the space, or the name of an installed one; see below",
    )
    group.add_argument("--trials", metavar="N", help="evaluations in all: short for --set trials=N")
    group.add_argument("--budget", metavar="LIMIT", action="append", help='such as "macs <= 600M"; may be repeated')
    group.add_argument(
        "--storage",
        metavar="URL",
        help="where trials are kept, such as postgresql://me@host/trials; `file` (in the run's folder) or `memory`",
    )
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from nasdsl.api.searching import search
    from nasdsl.progress import Bars

    settings = overrides_of(args, "train.", target=args.target)
    given = how_to_train(args, _with_table(settings, _evolve_settings(args)))
    tables = tables_of(args)
    latency, others = tables.pop("latency", None), tables
    with called(args, method="--runtime"):
        space = space_given(args)
        found = search(space, method=args.runtime, latency=latency, measured=others, on_progress=Bars(), **given)
    report_facts(args, _facts(found, args.format))
    return 0


def _evolve_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of `evolve` that have options of their own."""
    from nasdsl.api.given import limits_of, path_of
    from nasdsl.compiler.elaborate.settings import read_values

    out: dict[str, Any] = {}
    for name in ("table", "function", "supernet", "storage"):
        if getattr(args, name) is not None:  # files: relative to where the command is given, not to the space's file
            out[name] = path_of(getattr(args, name)) if name in ("table", "supernet") else getattr(args, name)
    if args.trials is not None:
        out |= read_values({"trials": args.trials})
    if args.budget:
        out["budget"] = limits_of(args.budget)
    return out


def _with_table(typed: dict[str, Any], short: dict[str, Any]) -> dict[str, Any]:
    """`--set` with the options that are short for settings: `--table FILE --set table.rows=...` are one record.

    Raises:
        UsageError: both say the same setting.
    """
    table = typed.get("table")
    if "table" in short and isinstance(table, dict) and "file" not in table:
        short = {**short, "table": {**table, "file": short["table"]}}
        typed = {name: value for name, value in typed.items() if name != "table"}
    for name in short:
        if name in typed:
            raise UsageError(f"both `--{name}` and `--set` say what `{name}` is")
    return {**typed, **short}


def _facts(found: Found, form: str) -> dict[str, Any]:
    """What the command tells of what a search found: in text the folder of a front, and sentences of a screening."""
    facts = found.facts()
    if form == "text" and "front" in facts and found.out is not None:
        facts["front"] = str(found.out.with_name(f"{found.out.stem}_front"))
    if form == "json" and found.narrowed is not None:
        kept = {name: value for name, value in facts.items() if name in ("out", "run")}
        records = {
            one.name: {"places": one.places, "options": one.options, "stay": list(one.stay)} for one in found.screened()
        }
        return {**kept, "screened": records}
    return facts
