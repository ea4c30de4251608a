"""The command `export`: take an architecture out."""

from __future__ import annotations

import argparse

from nasdsl.options import add_format, add_space
from nasdsl.running import called, report_facts, space_given

EXPORT_DESCRIPTION = """\
Writes an architecture with its weights as a stand-alone artefact that does not need nasdsl, and proves that it gives
the same numbers. `--to python` makes a readable module that imports torch alone, with its weights in safetensors.
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.description = EXPORT_DESCRIPTION
    parser.epilog = "example:\n  nasdsl export found.space --to python -o found.py && python found.py\n"
    add_space(parser)
    parser.add_argument("--to", choices=("python",), default="python", help="the form")
    parser.add_argument("-o", "--out", metavar="FILE", help="the module file (default: NAME.py beside FILE)")
    parser.add_argument("--weights", metavar="FILE", help="by default the .safetensors file beside the .space file")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from nasdsl.api.exporting import export

    with called(args, out="-o"):
        made = export(space_given(args), args.out, to=args.to, weights=args.weights)
    report_facts(args, made.facts())
    return 0
