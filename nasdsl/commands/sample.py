"""The command `sample`: random architectures."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.compiler.files import to_json
from nasdsl.options import (
    UsageError,
    add_budget,
    add_measures,
    add_space,
    describe,
    space_of,
    whole_number,
)
from nasdsl.runtime.outputs import check_output, check_result, inputs_of, write_output
from nasdsl.sizes import label_of, names_of, population_of, write_result
from nasdsl.streams import write_program
from nasdsl.terminal import table, thousands

if TYPE_CHECKING:
    from nasdsl.compiler.population import Population
    from nasdsl.compiler.space import Space


MOST_DRAWN = 10_000_000


def options(parser: ArgumentParser) -> None:
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


def run(args: Namespace) -> None:
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
