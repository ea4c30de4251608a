"""The command `explain`: what a mistake means, by its code."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from nasdsl.compiler.diagnostics import error, suggest
from nasdsl.options import add_format, describe
from nasdsl.streams import as_json


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Tells what a mistake means, the smallest file or command that has it, and how it is mended. The code "
        "stands in\nbrackets in front of a message: error[unknown-name]. Without a code it lists them all.",
        "explain scale-mismatch",
        "explain",
    )
    parser.add_argument("codes", metavar="CODE", nargs="*", help="what is told in brackets")
    add_format(parser)


def run(args: Namespace) -> None:
    from nasdsl.reference.mistakes import GROUPS, MISTAKES
    from nasdsl.reference.mistakes.told import listed, to_json, told

    codes = [code.removeprefix("error").removeprefix("warning").strip("[]`:") for code in args.codes]
    for code in codes:
        if code not in MISTAKES:
            help = suggest(code, MISTAKES) or "`nasdsl explain` lists all codes"
            raise error("unknown-code", f"no mistake has the code `{code}`", None, help=help)
    if args.format == "json":
        as_json([to_json(MISTAKES[code]) for code in codes or MISTAKES])
    elif codes:
        print("\n\n".join(told(MISTAKES[code]) for code in codes))
    else:
        print(listed(GROUPS))
