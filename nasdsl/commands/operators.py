"""The command `operators`: what a space can be built from."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from nasdsl.compiler.diagnostics import error, suggest
from nasdsl.options import add_format, describe
from nasdsl.streams import as_json
from nasdsl.terminal import table


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
    from nasdsl.reference import language
    from nasdsl.reference.told import told

    known = [one for one in language.entries() if one.kind not in ("construct", "function", "measure")]
    for name in args.names:
        if not language.named(known, name):
            help = suggest(name, [one.name for one in known]) or "`nasdsl operators` lists them"
            raise error("unknown-operator", f"no operator is named `{name}`", None, help=help)
    if args.format == "json":
        as_json({name: _to_json(name) for name in args.names or _names()})
    elif args.names:
        print("\n\n".join(told(one) for name in args.names for one in language.named(known, name)))
    else:
        print(_listed())


def _names() -> list[str]:
    from nasdsl.compiler import ops
    from nasdsl.compiler.bind import library

    return [*ops.CATALOGUE, *ops.plugins(), *library.OPERATORS]


def _listed() -> str:
    from nasdsl.compiler import ops
    from nasdsl.compiler.bind import library
    from nasdsl.compiler.elaborate.forms import FORMS
    from nasdsl.reference.language import of_library

    groups = [("forms of the language", [(one.name, one.doc) for one in FORMS.values()])]
    groups.append(("catalogue", [(op.name, op.doc) for op in ops.CATALOGUE.values() if op.name not in FORMS]))
    if ops.plugins():
        groups.append(("of installed packages", [(op.name, f"{op.doc} ({op.where})") for op in ops.plugins().values()]))
    groups.append(("library, written in the language", [(n, of_library(n).doc) for n in library.OPERATORS]))
    return "\n\n".join(f"{title}\n{table(rows)}" for title, rows in groups)


def _to_json(name: str) -> dict[str, object]:
    from nasdsl.compiler import ops
    from nasdsl.compiler.bind import library
    from nasdsl.compiler.elaborate.forms import FORMS

    operator = ops.find(name)
    if name in FORMS:
        form = FORMS[name]
        formed = [{"name": param.name, "type": param.role, "doc": param.doc} for param in form.parameters]
        return {"where": "language", "doc": form.doc, "parameters": formed}
    if operator is None:
        item = library.texts()[name]
        formals = [{"name": f.name.name, "default": f.default.span.text if f.default else None} for f in item.formals]
        return {"where": "library", "doc": item.span.comment, "parameters": formals, "text": item.span.text}
    return {
        "where": operator.where,
        "doc": operator.doc,
        "parameters": [
            {"name": param.name, "type": param.type, "choices": list(param.choices), "doc": param.doc}
            for param in operator.params
        ],
    }
