"""The command `search`: search a space on data."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.files import source_of
from nasdsl.options import UsageError, add_format, add_space, add_tables, defines
from nasdsl.running import add_run, add_training, overrides_of, report_facts, run_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nasdsl.compiler.space import Space
    from nasdsl.runtime.search import Found


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
        help="the search to run, not the file's: shrink, thin, sample, gradient, screen, evolve",
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
        "docs/tables.md",
    )
    group.add_argument("--supernet", metavar="RUN", help="a trained supernet: short for the setting `supernet`")
    group.add_argument("--function", metavar="MODULE:NAME", help="a Python function, or the name of an installed one")
    group.add_argument("--trials", metavar="N", help="evaluations in all: short for --set trials=N")
    group.add_argument("--budget", metavar="LIMIT", action="append", help='such as "macs <= 600M"; may be repeated')
    group.add_argument(
        "--storage",
        metavar="URL",
        help="where trials are kept, such as postgresql://me@host/trials; `file` (in the run's folder) or `memory`",
    )
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from nasdsl.progress import Bars
    from nasdsl.runtime.search import search as run

    overrides = overrides_of(args, "train.")
    if args.target is not None:
        overrides |= {"target": args.target}
    out = Path(args.out)
    if out.suffix != ".space":
        raise UsageError(f"--out names a .space file, and not `{out}`")
    options = run_options(args, overrides)
    options = dataclasses.replace(
        options, overrides=_with_table(dict(options.overrides or {}), _evolve_overrides(args))
    )
    source, given = source_of(args.file, weights=False), defines(args.defines)
    report_facts(args, _facts(run(source, out, options, args.space, given, args.runtime, Bars()), out, args.format))
    return 0


def _evolve_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of `evolve` that have options of their own."""
    from nasdsl.compiler.elaborate.settings import read_values

    out: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("table", "function", "supernet", "storage")
        if getattr(args, name) is not None
    }
    for name in ("table", "supernet"):  # relative to where the command is given, not to the space's file
        if name in out:
            out[name] = str(Path(out[name]).resolve())
    if args.trials is not None:
        out |= read_values({"trials": args.trials})
    if args.budget:
        out["budget"] = [read_values({"budget": limit})["budget"] for limit in args.budget]
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


def _facts(found: Found, out: Path, form: str) -> dict[str, Any]:
    """What the command tells of what a search found."""
    from nasdsl.runtime.problem import Narrowing, Result

    result = found.result
    if isinstance(result, Narrowing):
        return {"out": str(out), "run": str(found.run), **_screened(found.space, result.narrowed, form)}
    if isinstance(result, Result):
        weights = str(out.with_suffix(".safetensors"))
        return {"out": str(out), "weights": weights, "run": str(found.run), **result.metrics, **result.costs}
    best, names = result.front[0], result.objectives.names
    facts: dict[str, Any] = {
        "out": str(out),
        "run": str(found.run),
        "trials": len(result.trials),
        **({} if result.skipped is None else {"skipped": len(result.skipped)}),
        "best": best.index,
        **dict(zip(names, best.objectives, strict=True)),
        **best.proposal.costs,
    }
    if len(names) > 1:
        folder, files = out.with_name(f"{out.stem}_front"), found.files[1:]
        facts["front"] = str(folder) if form == "text" else [str(file) for file in files]
    return facts


def _screened(space: Space, narrowed: Mapping[str, tuple[int, ...]], form: str) -> dict[str, Any]:
    """What stays of the lists of options: by declaration as sentences, or as a record."""
    from nasdsl.compiler.declarations import declarations_of

    told: dict[str, Any] = {}
    records = {}
    for one in declarations_of(space.graph):
        places = [path for path in one.paths if path in narrowed]
        if places:
            stay = [one.labels[i] for i in narrowed[places[0]]]
            where = f"in {len(places):,} places" if len(places) > 1 else "in 1 place"
            told[one.name] = f"{len(stay)} of {len(one.labels)} options stay, {where}: {', '.join(stay)}"
            records[one.name] = {"places": len(places), "options": len(one.labels), "stay": stay}
    return told if form == "text" else {"screened": records}
