"""The commands that look at all architectures of a space together: count, cost, sample."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.commands import as_json, describe
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.files import to_json
from nasdsl.compiler.values.plain import is_number
from nasdsl.options import (
    UsageError,
    add_budget,
    add_format,
    add_measures,
    add_space,
    add_tables,
    measure,
    space_of,
    tables_of,
    whole_number,
)
from nasdsl.report import Paint, table, thousands, wants_colour, width_of
from nasdsl.runtime.outputs import check_output, check_result, inputs_of, write_output
from nasdsl.streams import write_program

if TYPE_CHECKING:
    from nasdsl.compiler.architecture import Architecture
    from nasdsl.compiler.population import Part, Population
    from nasdsl.compiler.space import Space
    from nasdsl.drawing.histogram import Histogram, Mark

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOST_DRAWN = 10_000_000
MOST_BINS = 1_000
MOST_FUNCTIONS = 200_000
"""Architectures up to which those that compute the same function are looked for."""


def label_of(name: str) -> str:
    """What a measure is called in front of its amounts."""
    from nasdsl.compiler.measures import find

    return find(name).label


def names_of(space: Space, args: Namespace) -> tuple[str, ...]:
    """The measures that are told: MACs, parameters, what budgets bound, and what was asked for."""
    from nasdsl.compiler.engine.budget import budget_windows
    from nasdsl.compiler.measures import with_default

    asked = [*([args.by] if "by" in args else []), *args.measures]
    return with_default([*budget_windows(space.graph), *asked])


def population_of(space: Space, measures: Sequence[str] | None = None) -> Population:
    """All architectures of a space together.

    Raises:
        Infeasible, TooWide, UnreadableBudget: there are none, or nothing can be said of them all.
    """
    from nasdsl.compiler.population import Population

    return Population(space.graph) if measures is None else Population(space.graph, measures)


# --- count ------------------------------------------------------------------------------------------------------------


def count_options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "The exact number of architectures, and the independent factors that it is a product of. A choice that is\n"
        "tied or free by mistake shows in the factors. With budgets (`require macs <= 600M` in the file, or\n"
        "--budget), also how many of them lie inside.",
        "count spaces/hrnas.space",
        "count tiny --digits",
        'count trionet --budget "macs in 550M..600M"',
        'count mine.space --budget "latency <= 5" --latency table.json',
        "count nasbench201 --functions",
    )
    add_space(parser)
    add_budget(parser)
    add_tables(parser)
    parser.add_argument("--digits", action="store_true", help="print the number alone, with all its digits")
    parser.add_argument(
        "--functions",
        action="store_true",
        help="also how many different functions the architectures of a small space compute, whatever the weights",
    )
    add_format(parser)


def count(args: Namespace) -> None:
    from nasdsl.compiler.count import count as count_exactly
    from nasdsl.compiler.count import decimal
    from nasdsl.compiler.engine.budget import unread
    from nasdsl.overview import factor_rows

    space = space_of(args)
    missing = unread(space.graph)
    for requirement, problem in missing:
        if requirement.span is not None and requirement.span.source.name == "<command line>":
            raise problem  # what the command itself asks for is not left out
    if missing:  # the number of all is known without a table
        kept = tuple(r for r in space.graph.requirements if all(r is not left for left, _ in missing))
        space = replace(space, graph=replace(space.graph, requirements=kept))
    size = count_exactly(space.graph)
    part = population_of(space).part({}) if size.budgets_left_out else None
    functions = _functions(space, size.total) if args.functions else None
    digits = decimal(size.total)
    budgets = [r.message for r in size.budgets_left_out]
    if args.format == "json":
        factors = [
            {
                "count": decimal(f.count),
                "copies": f.copies,
                "declarations": list(f.declarations),
                "groups": [list(group) for group in f.groups],
            }
            for f in size.factors
        ]
        told: dict[str, Any] = {"space": space.name, "total": digits, "factors": factors, "budgets": budgets}
        if missing:
            told["left out"] = [problem.message for _, problem in missing]
        if part is not None:
            told["inside"] = {"count": decimal(part.count), "share": part.share, "exact": part.exact}
        as_json(told if functions is None else {**told, "functions": functions})
        return
    if args.digits:
        print(digits if part is None else decimal(part.count))
        for _, problem in missing:
            print(f"note: {problem.message}, so it is left out", file=sys.stderr)
        return
    plural = "" if size.total == 1 else "s"
    exact = f"{size.total:,}" if len(digits) <= 30 else f"{size} ({len(digits):,} digits, which --digits prints)"
    print(f"{space.name}: {exact} architecture{plural}")
    if part is not None:
        print(f"  {_inside(part)} meet {', '.join(f'`{budget}`' for budget in budgets)}")
    if functions is not None:
        print(f"  {functions:,} different functions")
    for _, problem in missing:
        print(f"  {problem.message}, so it is left out: {problem.help}")
    rows = factor_rows(size)
    if rows:
        print()
        print(table(rows, ("factor", "copies", "decisions", "of each copy"), right="12"))


def _inside(part: Part) -> str:
    """`1,234 of them (0.5 %)`"""
    from nasdsl.compiler.count import brief

    share = f"{part.share:.3%}" if part.share >= 1e-5 or not part.share else f"{part.share:.2e} of all"
    if part.exact:
        number = f"{part.count:,}" if part.count < 10**30 else brief(part.count)
        return f"{number} of them ({share})"
    error = f", give or take {part.error:.3%}" if part.error else ""
    return f"about {brief(part.count)} of them ({share}{error})"


def _functions(space: Space, total: int) -> int:
    import numpy as np

    from nasdsl.compiler.arrays.encoding import Encoding
    from nasdsl.compiler.arrays.identity import fingerprints
    from nasdsl.compiler.sample import Numbering

    if total > MOST_FUNCTIONS:
        raise UsageError(f"--functions goes through all architectures, and {space.name} has over {MOST_FUNCTIONS:,}")
    numbering = Numbering(space.graph)
    matrix = Encoding(space.graph.decisions).encode(map(numbering.unrank, range(total)))
    return len(np.unique(fingerprints(space.graph, matrix), axis=0))


# --- cost -------------------------------------------------------------------------------------------------------------


def cost_options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "What the architectures of a space cost: the least and the greatest, exactly, with architectures that have\n"
        "them; how the costs are distributed over all architectures, as a histogram with quantiles; and where the\n"
        "architectures fall that the file itself names. MACs are multiply-accumulates for one input of the declared\n"
        "size; FLOPs are twice as many.",
        "cost spaces/trionet.space",
        "cost spaces/trionet.space --svg trionet.svg --mark TrioNet-A=1.0G",
        "cost spaces/hrnas.space --least small.space --by params",
        "cost spaces/tiny.space --measure memory --by access",
        "cost mine.space --by latency --latency table.json",
    )
    add_space(parser)
    add_budget(parser)
    add_measures(parser)
    parser.add_argument(
        "--by", type=measure, metavar="MEASURE", default="macs", help="what pictures and files go by (default: macs)"
    )
    parser.add_argument("--least", metavar="OUT", help="write the cheapest architecture to this file")
    parser.add_argument("--greatest", metavar="OUT", help="write the dearest architecture to this file")
    parser.add_argument("--svg", metavar="OUT", help="write the histogram to this file")
    parser.add_argument(
        "--bins", type=partial(whole_number, most=MOST_BINS), default=24, help="of the histogram (default: 24)"
    )
    parser.add_argument(
        "--mark", action="append", default=[], metavar="NAME=COST", help="a model from elsewhere, such as Mine=1.2G"
    )
    add_format(parser)


def cost(args: Namespace) -> None:
    from nasdsl.compiler.population import Extreme

    space = space_of(args)
    marks = [_mark(text) for text in args.mark]
    if not space.graph.decisions:
        _architecture_cost(space, args)
        return
    names = names_of(space, args)
    population = population_of(space, names)
    ends: dict[str, tuple[Extreme, Extreme]] = {
        name: (population.extreme(name), population.extreme(name, greatest=True)) for name in names
    }
    for way, out in ((0, args.least), (1, args.greatest)):
        if out is not None:
            best = ends[args.by][way]
            word = ("least", "greatest")[way] if best.proven else ("least found", "greatest found")[way]
            note = f"The architecture of {space.name} with the {word} {args.by}: {thousands(best.cost)}."
            write_result(space, best.architecture, Path(out), note)
    marks = [*_published(space, args.by), *_named_in_file(space, args.by, tables_of(args)), *marks]
    spreads = {name: population.spread(name) for name in names}
    if args.svg is not None:
        from nasdsl.drawing.histogram import Mark, as_svg

        lines = [Mark(spreads[args.by].quantile(share), f"{share:.0%}") for share in QUANTILES]
        check_output(Path(args.svg), inputs_of(space), streams=True)
        write_output(Path(args.svg), as_svg(_histogram(space, population, args), marks, lines))
    if args.format == "json":
        as_json(_to_json(space, population, ends, marks, args))
        return
    rows = [
        (
            label_of(name),
            *(thousands(end.cost) if end.proven else f"{thousands(end.cost)}?" for end in ends[name]),
            _mean(name, spread.mean),
            _mean(name, spread.std),
        )
        for name, spread in spreads.items()
    ]
    print(table(rows, (space.name, "least", "greatest", "mean", "deviation"), right="1234", indent=0))
    head = ("at most", *(f"{share:.0%}" for share in QUANTILES))
    rows = [
        (label_of(name), *(thousands(spread.quantile(share)) for share in QUANTILES))
        for name, spread in spreads.items()
    ]
    print()
    print(table(rows, head, right="1234567", indent=0))
    from nasdsl.drawing.histogram import as_text

    print()
    histogram = _histogram(space, population, args)
    print(f"{histogram.unit}, {histogram.note}")
    print(as_text(histogram, marks, min(width_of(sys.stdout), 100), Paint(wants_colour(sys.stdout))))
    if not population.exact:
        print()
        print(f"note: {population.why}; a `?` marks what was found, without proof that nothing is better")
    if population.window:
        budgets = ", ".join(f"`{r.message}`" for r in space.graph.requirements if r.origin == "budget")
        print()
        print(f"note: {_inside(population.part({}))} meet {budgets}; the figures above are those of all")


def _architecture_cost(space: Space, args: Namespace) -> None:
    """An architecture has one cost."""
    from nasdsl.compiler.cost import cost_of

    for option in ("least", "greatest", "svg"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option} is for spaces, and `{space.name}` is an architecture")
    found = cost_of(space.graph, {}, names=names_of(space, args))
    if args.format == "json":
        as_json({"space": space.name, **found})
    else:
        print(table([(label_of(name), thousands(cost)) for name, cost in found.items()], right="1", indent=0))


def _mean(name: str, amount: float) -> str:
    from nasdsl.compiler.measures import find

    return thousands(round(amount) if find(name).scale == 1 else amount)


def _mark(text: str) -> Mark:
    from nasdsl.drawing.histogram import Mark

    name, equals, number = text.rpartition("=")
    scale = {"K": 1e3, "M": 1e6, "G": 1e9}.get(number.strip()[-1:], 1.0)
    try:
        value = float(number.strip().rstrip("KMG")) * scale
    except ValueError:
        value = -1.0
    if not equals or not name.strip() or value < 0:
        raise UsageError(f"--mark takes NAME=COST, such as Mine=1.2G, and not `{text}`")
    return Mark(value, name.strip())


def _published(space: Space, name: str) -> list[Mark]:
    """What the file's section `published` says of networks whose architectures nobody printed.

    Raises:
        CompileError: an entry is no record of costs.
    """
    from nasdsl.compiler import measures
    from nasdsl.drawing.histogram import Mark

    section = space.sections.get("published")
    found = []
    known = measures.known() if section is not None else ()
    for word, costs in section.entries.items() if section is not None else ():
        numbers = costs.values() if isinstance(costs, dict) else [None]
        if not set(costs if isinstance(costs, dict) else ()) <= set(known) or not all(map(is_number, numbers)):
            where = section.spans.get(word) if section is not None else None
            help = f"write `{word}: {{ macs: 1.2G, params: 5.1M }}`"
            raise error("bad-setting", f"`{word}` has costs, as a record of numbers", where, help=help)
        if name in costs:
            found.append(Mark(float(costs[name]), word.replace("_", "-")))
    return found


def _named_in_file(space: Space, name: str, tables: Mapping[str, Path]) -> list[Mark]:
    """The architectures that the file makes of this space: published models, for instance."""
    from nasdsl.compiler import syntax
    from nasdsl.compiler.cost import cost_of
    from nasdsl.compiler.diagnostics import CompileError
    from nasdsl.compiler.elaborate.program import elaborate
    from nasdsl.compiler.measured import measured
    from nasdsl.compiler.parse import parse
    from nasdsl.drawing.histogram import Mark

    found, family = [], {space.name}
    for item in parse(space.source).items:  # a base stands before what is made of it
        if isinstance(item, syntax.Derived) and item.base.name in family:
            family.add(item.name.name)
            try:
                made = elaborate(space.source, item.name.name, space.overrides)
            except CompileError:
                continue  # a mistake in another space of the file is for `check --all`
            if not made.graph.decisions and made.graph.input.shape == space.graph.input.shape:
                try:
                    made = measured(made, tables)
                except CompileError:
                    continue  # it runs operators that this space does not, and the table has no times for
                found.append(Mark(cost_of(made.graph, {}, names=(name,))[name], made.name))
    return found


def _histogram(space: Space, population: Population, args: Namespace) -> Histogram:
    from nasdsl.drawing.costs import cost_histogram

    return cost_histogram(space.name, population, args.by, args.bins)


def _to_json(space: Space, population: Population, ends: Any, marks: Sequence[Mark], args: Namespace) -> dict[str, Any]:
    out: dict[str, Any] = {"space": space.name, "exact": population.exact}
    for name in ends:
        spread = population.spread(name)
        edges, shares = spread.histogram(args.bins)
        out[name] = {
            **{
                word: {"value": end.cost, "proven": end.proven, "architecture": end.architecture.to_json()}
                for word, end in zip(("least", "greatest"), ends[name], strict=True)
            },
            "mean": spread.mean,
            "deviation": spread.std,
            "exact": spread.exact,
            "error": spread.error,
            "quantiles": {str(share): spread.quantile(share) for share in QUANTILES},
            "histogram": {"edges": edges.tolist(), "shares": shares.tolist()},
        }
    out["marks"] = {mark.name: mark.value for mark in marks}
    return out


# --- sample -----------------------------------------------------------------------------------------------------------


def sample_options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Random architectures, each equally likely among those that meet all requirements; with budgets, among those\n"
        "inside. The same seed gives the same draws everywhere.",
        "sample spaces/trionet.space -n 5",
        'sample trionet -n 10_000 --budget "macs <= 1.2G" --format csv -o drawn.csv',
        'sample trionet -n 3 --budget "macs in 1.0G..1.2G" --files drawn/',
        "sample trionet -n 1 --out one.space",
    )
    add_space(parser)
    parser.add_argument(
        "-n", type=partial(whole_number, most=MOST_DRAWN), default=10, metavar="N", help="how many (default: 10)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    add_budget(parser)
    add_measures(parser)
    parser.add_argument("--different", action="store_true", help="leave out draws that came before")
    parser.add_argument(
        "--format",
        choices=("text", "json", "csv"),
        help="text: a table of costs; csv: a row for each architecture, a column for each decision; json: both; by "
        "default as the ending of OUT says, or text",
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        help="the file to write; by default standard output. With -n 1 a .space file: the architecture itself",
    )
    parser.add_argument("--files", metavar="FOLDER", help="write each architecture as a .space file into this folder")


def sample(args: Namespace) -> None:
    out = None if args.out is None else Path(args.out)
    whole = out is not None and out.suffix == ".space"
    if args.files is not None and out is not None:
        raise UsageError("`--files` writes a file for each architecture, and `--out` one for all")
    if args.format is not None and (args.files is not None or whole):
        raise UsageError(f"`--format {args.format}` is of a table, and not of .space files")
    if whole and args.n != 1:
        raise UsageError(f"{out} holds one architecture: `-n 1`, or `--files FOLDER` for several")
    space = space_of(args)
    if whole:
        check_result(Path(args.out), inputs_of(space))
    elif args.out is not None:
        check_output(Path(args.out), inputs_of(space), streams=True)
    population = population_of(space, names_of(space, args))
    if args.seed < 0:
        raise UsageError("a seed is a whole number from 0")
    matrix = population.draw(args.n, args.seed)
    if args.different:
        from nasdsl.compiler.arrays.identity import unique

        _, index, _ = unique(matrix)
        index.sort()
        matrix = matrix[index]
    costs = population.costs_by_name(matrix)
    if args.files is not None or whole:
        folder = None if args.files is None else Path(args.files)
        for number, values in enumerate(population.diagram.encoding.decode(matrix)):
            note = f"Random architecture {number} of {space.name}, seed {args.seed}: " + ", ".join(
                f"{thousands(cost)} {label_of(name)}" for name, cost in costs[number].items()
            )
            file = out if folder is None else folder / f"{space.name}_{number:04}.space"
            assert file is not None
            write_result(space, values, file, note + ".", file.stem if folder is None else f"drawn{number}")
        print(out if folder is None else f"{len(matrix):,} files in {folder}")
        return
    by_ending = {".csv": "csv", ".json": "json"}.get("" if out is None else out.suffix, "text")
    text = _written(space, population, matrix, costs, args.format or by_ending)
    if out is None:
        write_program(text)
    else:
        write_output(out, text)


def _written(space: Space, population: Population, matrix: Any, costs: Sequence[dict[str, Any]], form: str) -> str:
    import io

    encoding = population.diagram.encoding
    if form == "json":
        rows = [
            {"costs": row, "architecture": values.to_json()}
            for row, values in zip(costs, encoding.decode(matrix), strict=True)
        ]
        return to_json({"space": space.name, "architectures": rows}, indent=1) + "\n"
    if form == "csv":
        import csv

        columns = encoding.to_table(matrix)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*population.measures, *columns])
        writer.writerows([*row.values(), *rest] for row, rest in zip(costs, _rows(columns, len(costs)), strict=True))
        return out.getvalue()
    head = ("", *map(label_of, population.measures))
    lines = [(str(i), *map(thousands, row.values())) for i, row in enumerate(costs)]
    return table(lines, head, right=_columns(len(head)), indent=0) + "\n"


def _rows(columns: Mapping[str, Sequence[Any]], n: int) -> Iterable[Sequence[Any]]:
    """The rows of a table given column by column; of one without columns they are empty."""
    return zip(*columns.values(), strict=True) if columns else [()] * n


def _columns(n: int) -> str:
    """That so many columns of a table stand to the right."""
    return "".join(map(str, range(n)))


# --- files ------------------------------------------------------------------------------------------------------------


def write_result(space: Space, values: Architecture, out: Path, note: str = "", name: str = "found") -> None:
    """A result file for decisions of a space, beside whatever else is there."""
    from nasdsl.compiler.write import write_pinned

    if space.source.path is None:
        raise UsageError("a result file names the file of its space, and standard input has no name")
    check_result(out, inputs_of(space))
    write_pinned(out, space, values, name, note)
