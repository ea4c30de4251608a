"""The commands that train: search, train, eval, export, profile. Torch is imported when one of them runs."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.commands import as_json
from nasdsl.compiler.diagnostics import error
from nasdsl.files import source_of
from nasdsl.options import UsageError, add_format, add_space, add_tables, defines, space_of, tables_of, whole_number
from nasdsl.report import printable
from nasdsl.runtime.launch import is_first_process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nasdsl.compiler.source import Source
    from nasdsl.compiler.space import Space
    from nasdsl.runtime.search import Found, Options

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


MOST_THREADS = 1024
threads = partial(whole_number, most=MOST_THREADS)
workers = partial(whole_number, least=0, most=MOST_THREADS)


def _add_run(parser: argparse.ArgumentParser) -> None:
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


def _add_training(parser: argparse.ArgumentParser, out: str, required: bool = True) -> None:
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


def search_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Runs the search of a space and writes the smaller space that it finds, with weights."
    parser.epilog = SEARCH_EXAMPLES
    add_space(parser)
    _add_run(parser)
    _add_training(parser, "the result file, such as found.space; the weights go beside it")
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


def search(args: argparse.Namespace) -> int:
    from nasdsl.progress import Bars
    from nasdsl.runtime.search import search as run

    overrides = _overrides(args, "train.")
    if args.target is not None:
        overrides |= {"target": args.target}
    out = Path(args.out)
    if out.suffix != ".space":
        raise UsageError(f"--out names a .space file, and not `{out}`")
    options = _options(args, overrides)
    options = dataclasses.replace(
        options, overrides=_with_table(dict(options.overrides or {}), _evolve_overrides(args))
    )
    source, given = source_of(args.file), defines(args.defines)
    _report(args, _facts(run(source, out, options, args.space, given, args.runtime, Bars()), out, args.format))
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


TRAIN_EXAMPLES = """\
examples:
  nasdsl train found.space --data cifar10.zip                                        from scratch
  nasdsl train found.space --inherit found.safetensors --out tuned.safetensors --epochs 5
  nasdsl train other.space --inherit runs/found --out other.safetensors --epochs 5
      an architecture of the same space, with its part of the supernet that `search sample` left there
"""


def train_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Trains an architecture from scratch, or from weights that it inherits."
    parser.epilog = TRAIN_EXAMPLES
    add_space(parser)
    _add_run(parser)
    _add_training(
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


def train(args: argparse.Namespace) -> int:
    from nasdsl.progress import Bars
    from nasdsl.runtime.fit import train as run

    if args.out is None and args.file == "-":  # before it is waited for
        raise UsageError("standard input has no name that the weights could have", help="name a file with `--out`")
    source, bars = source_of(args.file), Bars()
    if args.out is None:
        args.out = str(_weights_beside(source, args))
        if is_first_process():
            bars.note(f"the weights go to {args.out}")
    out = Path(args.out)
    if out.suffix != ".safetensors":
        raise UsageError(f"--out names a .safetensors file, and not `{out}`")
    inherit = Path(args.inherit) if args.inherit is not None else None
    options = _options(args, _overrides(args, ""))
    if args.fresh_head and inherit is None:
        raise UsageError("--fresh-head goes with --inherit")
    result = run(source, out, options, args.space, defines(args.defines), inherit, bars, args.fresh_head)
    _report(args, {"out": str(out), "run": str(options.run), **result.metrics, **result.costs})
    return 0


def _weights_beside(source: Source, args: argparse.Namespace) -> Path:
    """Where the weights of a training go by default: beside the file, in place of no others.

    Raises:
        UsageError: there is no such place.
    """
    from nasdsl import spaces
    from nasdsl.runtime.origin import read_result

    assert source.path is not None
    ships = source.path.parent.resolve() == spaces.FOLDER
    beside = Path(source.path.name if ships else source.path).with_suffix(".safetensors")
    tried = [beside, beside.with_name(f"{beside.stem}_trained.safetensors")]
    for out in tried:
        made = None if not out.exists() else read_result(_run_folder(args, out))
        if not out.exists() or (made is not None and made.file is None and made.weights == str(out.resolve())):
            return out
    raise UsageError(f"{tried[0]} and {tried[1]} hold other weights", help="name a file with `--out`")


def eval_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Measures an architecture with its weights by the standard metric of its task."
    parser.epilog = "example:\n  nasdsl eval found.space --data camvid.zip\n"
    add_space(parser)
    _add_run(parser)
    parser.add_argument("--weights", metavar="FILE", help="by default the .safetensors file beside the .space file")
    parser.add_argument("--batch", type=whole_number, default=64, metavar="N", help="images at a time (default 64)")
    add_format(parser)


def eval(args: argparse.Namespace) -> int:
    from nasdsl.progress import Bars
    from nasdsl.runtime.fit import evaluate_file

    weights = Path(args.weights) if args.weights is not None else None
    options = _options(args, {}, seed=0)
    given = defines(args.defines)
    metrics = evaluate_file(source_of(args.file), options, args.space, given, weights, args.batch, Bars())
    _report(args, metrics)
    return 0


EXPORT_DESCRIPTION = """\
Writes an architecture with its weights as a stand-alone artefact that does not need nasdsl, and proves that it gives
the same numbers. `--to python` makes a readable module that imports torch alone, with its weights in safetensors.
"""


def export_options(parser: argparse.ArgumentParser) -> None:
    parser.description = EXPORT_DESCRIPTION
    parser.epilog = "example:\n  nasdsl export found.space --to python -o found.py && python found.py\n"
    add_space(parser)
    parser.add_argument("--to", choices=("python",), default="python", help="the form")
    parser.add_argument("-o", "--out", metavar="FILE", help="the module file (default: NAME.py beside FILE)")
    parser.add_argument("--weights", metavar="FILE", help="by default the .safetensors file beside the .space file")
    add_format(parser)


def export(args: argparse.Namespace) -> int:
    from nasdsl.runtime.export import batch_to_compare, check_export, export_python, verify_python
    from nasdsl.runtime.outputs import inputs_of
    from nasdsl.runtime.results import weights_path
    from nasdsl.runtime.trained import load_trained

    source = source_of(args.file)
    if source.path is None:
        raise UsageError("export reads a file, and not standard input")
    weights = Path(args.weights) if args.weights is not None else None
    space, network, about = load_trained(source, args.space, defines(args.defines), weights)
    out = Path(args.out) if args.out is not None else source.path.with_suffix(".py")
    check_export(out, inputs_of(space, weights or weights_path(source.path)))
    task: dict[str, Any] = {"name": about.task} if about.task is not None else {}
    if about.mean is not None and about.std is not None:
        task |= {"mean": about.mean, "std": about.std}
    if about.joints is not None:
        task["joints"] = about.joints.names
    elif about.task == "regression":
        task |= {"targets": about.classes or (), "features": about.features or ()}
    elif about.classes is not None:
        task["classes"] = about.classes
    files = export_python(network, out, task=task, space=space)
    difference = verify_python(files[0], network, batch_to_compare(network))
    if not difference < 1e-5:
        raise error(
            "export-differs",
            f"the exported module differs from the network by {difference:.2g}",
            None,
            help="please report this",
        )
    _report(args, {"module": str(files[0]), "weights": str(files[1]), "largest difference": difference})
    return 0


PROFILE_DESCRIPTION = """\
Measures on this device every setting in which the architectures of a space run an operator, such as each kernel and
each expansion, and writes a latency table that `--latency` of other commands takes: checks, searches, counts, costs and
draws. Search units, and an operator's widths where its choices have more than 64 options together, are measured at up
to five widths; between these a time is taken to be linear in the MACs. The table holds for each time half the distance
between the quartiles. It can be interrupted: the same command goes on, and adds what another space needs.
"""


def profile_options(parser: argparse.ArgumentParser) -> None:
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


def profile(args: argparse.Namespace) -> int:
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


# --- What they share --------------------------------------------------------------------------------------------------


def _overrides(args: argparse.Namespace, prefix: str) -> dict[str, str]:
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


def _options(args: argparse.Namespace, overrides: dict[str, str], seed: int | None = None) -> Options:
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
        run=_run_folder(args, Path(args.out)) if seed is None else None,
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


def _run_folder(args: argparse.Namespace, out: Path) -> Path:
    from nasdsl.runtime.search import default_run

    return Path(args.run) if args.run is not None else default_run(out, args.command)


def _report(args: argparse.Namespace, facts: dict[str, Any]) -> None:
    if not is_first_process():
        return
    if args.format == "json":
        as_json(facts)
        return
    from nasdsl.compiler.measures import lookup
    from nasdsl.progress import amount

    for name, value in facts.items():
        shown = (
            amount(value)
            if isinstance(value, int | float) and lookup(name) is not None
            else f"{value:.4g}"
            if isinstance(value, float)
            else str(value)
        )
        sys.stdout.write(printable(f"{name:>10}  {shown}") + "\n")
