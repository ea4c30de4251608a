"""The command `cost`: the extremes and the distribution of costs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.commands.count import inside
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.values.plain import is_number
from nasdsl.options import (
    UsageError,
    add_budget,
    add_format,
    add_measures,
    add_space,
    describe,
    measure,
    space_of,
    tables_of,
    whole_number,
)
from nasdsl.runtime.outputs import check_output, inputs_of, write_output
from nasdsl.sizes import label_of, names_of, population_of, write_result
from nasdsl.streams import as_json
from nasdsl.terminal import Paint, table, thousands, wants_colour, width_of

if TYPE_CHECKING:
    from nasdsl.compiler.population import Population
    from nasdsl.compiler.space import Space
    from nasdsl.drawing.histogram import Histogram, Mark


QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


MOST_BINS = 1_000


def options(parser: ArgumentParser) -> None:
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


def run(args: Namespace) -> None:
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
        print(f"note: {inside(population.part({}))} meet {budgets}; the figures above are those of all")


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
    from nasdsl.compiler.measured import measured
    from nasdsl.compiler.parse import parse
    from nasdsl.compiler.pipeline import elaborate
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
