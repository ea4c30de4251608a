"""The command `compile`: what a space holds."""

from __future__ import annotations

import gc
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nasdsl.compiler.files import to_json
from nasdsl.files import source_of
from nasdsl.options import (
    add_format,
    add_measures,
    add_space,
    describe,
    space_of,
)
from nasdsl.runtime.outputs import check_output, inputs_of, write_output
from nasdsl.streams import as_json
from nasdsl.terminal import show_diagnostics
from nasdsl.weights import weights_facts, weights_text


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Checks a file, builds its graph and its supernet, and shows what it holds: the decisions of each declaration\n"
        "and stage, the exact size, the range of costs, the memory of the supernet. Of a .safetensors file that\n"
        "nasdsl wrote also what it says of itself: space, task, classes, input, normalisation, metrics.",
        "compile spaces/hrnas.space",
        "compile tiny --stage graph",
        "compile tiny --graph tiny.json",
        "compile found.safetensors",
    )
    add_space(parser)
    add_measures(parser)
    parser.add_argument(
        "--stage",
        choices=("syntax", "space", "graph", "supernet"),
        default="supernet",
        help="stop there: the syntax tree, the space, the nodes of its graph, or (the default) the supernet",
    )
    parser.add_argument("--graph", metavar="OUT", help="write the graph to this file, as JSON")
    add_format(parser)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without a search for garbage in circles: a space is many small objects and hardly any garbage, and looking
    through them again and again takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@uncollected()
def run(args: Namespace) -> None:
    from nasdsl import overview
    from nasdsl.compiler.measures import with_default

    if args.stage == "syntax":
        from nasdsl.compiler.parse import parse

        tree = parse(source_of(args.file))
        if args.format == "json":
            as_json(overview.tree_to_json(tree))
        else:
            print(overview.tree_to_text(tree))
        return
    space = space_of(args)
    if space.warnings:
        show_diagnostics(space.warnings)
    if args.graph is not None:
        check_output(Path(args.graph), inputs_of(space), streams=True)
        text = to_json(overview.graph_to_json(space), indent=1)
        write_output(Path(args.graph), text + "\n")
    if args.stage == "graph":
        if args.format == "json":
            as_json(overview.graph_to_json(space))
        else:
            print(overview.graph_to_text(space.graph))
        return
    weights = weights_facts(Path(args.file)) if args.file.endswith(".safetensors") else None
    if args.format == "json":
        summary = overview.summary_to_json(space, with_default(args.measures))
        if args.stage == "supernet":
            summary["supernet"] = overview.supernet_memory(space.graph)
        if weights is not None:
            summary["weights"] = weights
        as_json(summary)
        return
    if weights is not None:
        print(weights_text(weights) + "\n")
    # Before torch is imported, which takes a while.
    print(overview.summary(space, with_default(args.measures)), flush=True)
    if args.stage == "supernet":
        print(overview.supernet_line(space.graph))
