"""The command `diff`: what tells two spaces apart."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasdsl.files import source_of
from nasdsl.options import add_format, describe
from nasdsl.streams import as_json
from nasdsl.terminal import table, thousands

if TYPE_CHECKING:
    from nasdsl.compiler.decision import Decision
    from nasdsl.compiler.graph import Graph
    from nasdsl.compiler.space import Space


MOST_ROWS = 40


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "What tells two spaces or architectures apart: size, costs, and each decision that is open in one and decided\n"
        "in the other, or decided otherwise. FILE:NAME takes a certain space of a file.",
        "diff spaces/trionet.space:axial26 spaces/trionet.space:axial38",
        "diff found.space best.space --all",
    )
    parser.add_argument("one", metavar="FILE[:NAME]")
    parser.add_argument("other", metavar="FILE[:NAME]")
    parser.add_argument("--all", action="store_true", help=f"list all differences, not the first {MOST_ROWS}")
    add_format(parser)


def run(args: Namespace) -> None:
    one, other = named(args.one), named(args.other)
    figures = [_figures(space) for space in (one, other)]
    rows = _differences(one, other)
    if args.format == "json":
        as_json(
            {
                "spaces": [one.name, other.name],
                "figures": {word: [a, b] for (word, a), (_, b) in zip(*figures, strict=True)},
                "decisions": {path: [a, b] for path, a, b in rows},
            }
        )
        return
    head = ("", *_titles(args, one, other))
    lines = [(word, a, b) for (word, a), (_, b) in zip(*figures, strict=True)]
    print(table(lines, head, right="12", indent=0))
    print()
    if not rows:
        print("no decision differs")
        return
    shown = rows if args.all else rows[:MOST_ROWS]
    print(table(shown, ("decision", *head[1:]), indent=0))
    if len(shown) < len(rows):
        print(f"… and {len(rows) - len(shown):,} more, which --all lists")


def _titles(args: Namespace, one: Space, other: Space) -> tuple[str, str]:
    return (one.name, other.name) if one.name != other.name else (args.one, args.other)


def named(text: str) -> Space:
    """FILE or FILE:NAME."""
    from nasdsl.compiler.pipeline import elaborate

    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or Path(text).exists():
        file, name = text, ""
    return elaborate(source_of(file), name or None)


def _figures(space: Space) -> list[tuple[str, str]]:
    """Size and costs as far as they are known exactly."""
    from nasdsl.compiler import measures
    from nasdsl.compiler.count import brief, count
    from nasdsl.compiler.engine.limits import Infeasible, TooWide
    from nasdsl.compiler.population import extremes_of

    try:
        size = brief(count(space.graph).total)
    except TooWide:
        size = "too tangled"
    rows = [("architectures", size), ("decisions", thousands(len(space.graph.decisions)))]
    try:
        found = extremes_of(space.graph)
        costs = {name: (low.cost, high.cost) for name, (low, high) in found.items()}
    except (TooWide, Infeasible):
        costs = {}
    for name in measures.DEFAULT:
        word = measures.find(name).label
        low, high = costs.get(name, (None, None))
        if low is None or high is None:
            rows.append((word, "too tangled"))
        else:
            rows.append((word, thousands(low) if low == high else f"{thousands(low)} to {thousands(high)}"))
    return rows


def _differences(one: Space, other: Space) -> list[tuple[str, str, str]]:
    """Each decision that does not stand alike in both, with what it is in each."""
    states = [_states(space) for space in (one, other)]
    paths = dict.fromkeys([*states[0], *states[1]])
    rows = [(path, states[0].get(path, "-"), states[1].get(path, "-")) for path in paths]
    params = [
        (name, _param(one, name), _param(other, name))
        for name in dict.fromkeys([*one.params, *other.params])
        if _param(one, name) != _param(other, name)
    ]
    return params + [row for row in rows if row[1] != row[2]]


def _param(space: Space, name: str) -> str:
    from nasdsl.compiler.elaborate.values import show

    return show(space.params[name]) if name in space.params else "-"


def _states(space: Space) -> dict[str, str]:
    """Of each decision: its value where it is decided, else what it is open to; what cannot exist is left out."""
    whole: Graph = space.graph if space.whole is None else space.whole
    out = {}
    for path, decision in whole.decisions.items():
        if path in space.graph.decisions:
            out[path] = _open(space.graph.decisions[path])
        elif path in space.pins and there(decision, space.pins):
            out[path] = _short(decision.describe(space.pins[path]))
    return out


def there(decision: Decision, values: Any) -> bool:
    from nasdsl.compiler.values.plain import FAULTS
    from nasdsl.compiler.values.tree import evaluate

    try:
        return evaluate(decision.present, values) is not False
    except FAULTS:
        return False


def _open(decision: Decision) -> str:
    if decision.kind == "units":
        return f"units({decision.n})"
    words = ", ".join(decision.labels) or ", ".join(str(item) for item in decision.items)
    kind = {"choice": "oneof", "subset": "manyof", "order": "permute"}[decision.kind]
    size = f"{decision.size}, " if decision.kind == "subset" else ""
    return _short(f"{kind}({size}{words})")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
