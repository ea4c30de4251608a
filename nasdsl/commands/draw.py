"""The command `draw`: a picture."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from nasdsl.options import (
    add_space,
    describe,
    space_of,
)
from nasdsl.runtime.outputs import check_output, inputs_of


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Draws a space, its choices visible, or an architecture. Time runs from left to right, scales are lanes with\n"
        "the finest on top. The ending of the output says what is written: svg, pdf, png or dot; or the graph itself\n"
        "for other programs, with every node and its attributes: graphml, or json in networkx's node-link form.\n\n"
        "A choice between modules, such as backbones, is one box that names its options, equal copies are one box\n"
        "that says how many they are, and a cell that is decided once is drawn once, under the picture, so that a\n"
        "page holds it. --open draws the options, or the cell where it is used; --level block draws every block.",
        "draw spaces/hrnas.space -o hrnas.svg",
        "draw found.space -o found.pdf",
        "draw smnas_structure -o structure.pdf --open backbone --open head",
        "draw tiny -o tiny.png --level operator",
        "draw tiny -o tiny.graphml",
    )
    add_space(parser)
    parser.add_argument("-o", "--out", metavar="OUT", help="the file to write; by default NAME.svg in this folder")
    parser.add_argument(
        "--level",
        choices=("module", "block", "operator"),
        default="module",
        help="what a node stands for: a use of one of the file's operators, of several equal ones, or a choice "
        "between modules; each use; or a layer (default: module)",
    )
    parser.add_argument(
        "--open",
        metavar="NAME",
        action="append",
        default=[],
        help="a choice whose options are drawn, by its path, a path above it, or its decision, or a cell that is drawn "
        "where it is used, by its name; can be given repeatedly",
    )


def run(args: Namespace) -> None:
    from nasdsl.drawing.render import render

    space = space_of(args)
    out = Path(args.out or f"{space.name}.svg")
    check_output(out, inputs_of(space))
    render(space, out, args.level, args.open)
    print(out)
