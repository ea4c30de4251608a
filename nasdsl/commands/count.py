"""The command `count`: the exact number of architectures."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nasdsl.options import (
    UsageError,
    add_budget,
    add_format,
    add_space,
    add_tables,
    describe,
    space_of,
)
from nasdsl.sizes import population_of
from nasdsl.streams import as_json
from nasdsl.terminal import table

if TYPE_CHECKING:
    from nasdsl.compiler.population import Part
    from nasdsl.compiler.space import Space


MOST_FUNCTIONS = 200_000


def options(parser: ArgumentParser) -> None:
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


def run(args: Namespace) -> None:
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
        print(f"  {inside(part)} meet {', '.join(f'`{budget}`' for budget in budgets)}")
    if functions is not None:
        print(f"  {functions:,} different functions")
    for _, problem in missing:
        print(f"  {problem.message}, so it is left out: {problem.help}")
    rows = factor_rows(size)
    if rows:
        print()
        print(table(rows, ("factor", "copies", "decisions", "of each copy"), right="12"))


def inside(part: Part) -> str:
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
