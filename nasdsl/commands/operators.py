"""The command `operators`: what a space can be built from."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from nasdsl.compiler.diagnostics import error, suggest
from nasdsl.options import add_format, describe
from nasdsl.streams import as_json
from nasdsl.terminal import table

if TYPE_CHECKING:
    from nasdsl.compiler.ops.operator import Operator


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Lists the operators that every file can use: those of the catalogue, of installed packages, and those of the\n"
        "library, which are written in the language. With names: their parameters, or their text.",
        "operators",
        "operators conv bottleneck",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="operators to tell all about")
    add_format(parser)


def run(args: Namespace) -> None:
    from nasdsl.compiler import ops
    from nasdsl.compiler.bind import library

    known = [*ops.CATALOGUE, *ops.plugins(), *library.OPERATORS]
    for name in args.names:
        if name not in known:
            help = suggest(name, known) or "`nasdsl operators` lists them"
            raise error("unknown-operator", f"no operator is named `{name}`", None, help=help)
    if args.format == "json":
        as_json({name: _to_json(name) for name in args.names or known})
    elif args.names:
        print("\n\n".join(_told(name) for name in args.names))
    else:
        print(_listed())


def _listed() -> str:
    from nasdsl.compiler import ops
    from nasdsl.compiler.bind import library

    groups = [("catalogue", [(op.name, op.doc) for op in ops.CATALOGUE.values()])]
    if ops.plugins():
        groups.append(("of installed packages", [(op.name, f"{op.doc} ({op.where})") for op in ops.plugins().values()]))
    groups.append(
        ("library, written in the language", [(n, _first_sentence(" ".join(comment(n)))) for n in library.OPERATORS])
    )
    return "\n\n".join(f"{title}\n{table(rows)}" for title, rows in groups)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z0-9)])\. ", text)[0].rstrip(".")


def comment(name: str) -> list[str]:
    """The lines that the library's text has above an operator."""
    from nasdsl.compiler.bind import library

    item = library.texts()[name]
    lines: list[str] = []
    number = item.span.line - 1
    while number > 0 and (line := item.span.source.line(number)).startswith("#"):
        lines.insert(0, line.removeprefix("#").strip())
        number -= 1
    return lines


def _told(name: str) -> str:
    from nasdsl.compiler import ops
    from nasdsl.compiler.bind import library

    operator = ops.find(name)
    if operator is not None:
        return f"{ops.signature(operator)}\n  {operator.doc}\n\n{table(_parameters(operator))}"
    item = library.texts()[name]
    return "\n".join([*(f"# {line}" for line in comment(name)), item.span.text])


def _parameters(operator: Operator) -> list[tuple[str, str, str]]:
    from nasdsl.compiler.ops.operator import REQUIRED

    rows = []
    for param in operator.params:
        kind = " | ".join(param.choices) if param.choices else param.type
        needed = "needed" if param.default is REQUIRED else ""
        rows.append((param.name, kind, "; ".join(filter(None, (param.doc, needed)))))
    return rows


def _to_json(name: str) -> dict[str, object]:
    from nasdsl.compiler import ops
    from nasdsl.compiler.bind import library

    operator = ops.find(name)
    if operator is None:
        item = library.texts()[name]
        formals = [{"name": f.name.name, "default": f.default.span.text if f.default else None} for f in item.formals]
        return {"where": "library", "doc": " ".join(comment(name)), "parameters": formals, "text": item.span.text}
    return {
        "where": operator.where,
        "doc": operator.doc,
        "parameters": [
            {"name": param.name, "type": param.type, "choices": list(param.choices), "doc": param.doc}
            for param in operator.params
        ],
    }
