"""The command `explore`: a page on which decisions are pinned by clicking."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from nasdsl.options import UsageError, add_measures, add_space, describe, space_of, whole_number
from nasdsl.runtime.outputs import check_output, inputs_of, write_output

if TYPE_CHECKING:
    from nasdsl.compiler.space import Space
    from nasdsl.explorer.session import Session


def options(parser: ArgumentParser) -> None:
    describe(
        parser,
        "Opens a page with the whole space: the network as boxes that open, and every decision at its place. A click\n"
        "pins an option; the exact number of architectures that are left, the range of their costs and how these are\n"
        "spread follow at once, also inside a budget, and what has become impossible is greyed. What is pinned can be\n"
        "copied as `with { ... }` or as a command, and saved as a file. The page is served on this machine alone, and\n"
        "needs no network; Ctrl-C ends it. With --out a page is written that shows the space without a server.",
        "explore spaces/hrnas.space",
        "explore trionet -D classes=100 --measure memory",
        "explore tiny --no-browser --port 8123",
        "explore darts --out darts.html",
    )
    add_space(parser)
    add_measures(parser)
    parser.add_argument("--port", type=port, default=0, metavar="N", help="of the page (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address only, and open nothing")
    parser.add_argument("-o", "--out", metavar="OUT", help="write a page that needs no server, and leave")


def port(text: str) -> int:
    return whole_number(text, 1, 65_535)


def run(args: Namespace) -> None:
    from nasdsl.explorer.page import page
    from nasdsl.explorer.session import Session
    from nasdsl.sizes import names_of

    space = space_of(args)
    if args.out is not None:
        check_output(Path(args.out), inputs_of(space), streams=True)
    session = Session(space, names_of(space, args))
    if args.out is not None:
        write_output(Path(args.out), page(session, args.file, served=False))
        print(args.out)
        return
    if space.source.path is None:
        raise UsageError("a smaller space names the file that it comes from, and standard input has no name")
    _serve(session, args)


def _serve(session: Session, args: Namespace) -> None:
    import webbrowser

    from nasdsl.explorer.answers import answers
    from nasdsl.explorer.page import page
    from nasdsl.explorer.serve import Server

    try:
        server = Server(page(session, args.file), answers(session, words_of(session.space, args)), args.port)
    except OSError as problem:
        raise UsageError(f"port {args.port} cannot be had: {problem.strerror or problem}") from None
    with server:
        print(f"{server.address}  (Ctrl-C ends)", flush=True)
        if not args.no_browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stdout.write("\n")


def words_of(space: Space, args: Namespace) -> list[str]:
    """The words by which `nasdsl pin` finds the same space."""
    named = ["--space", space.name] if args.space is not None else []
    return [args.file, *named, *[word for text in args.defines for word in ("-D", text)]]
