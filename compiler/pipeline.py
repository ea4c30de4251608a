"""From the text of a file to a checked space: the stages of the compiler, in the order in which they run.

    text     -> tokens           tokens.py       `tokenize`; layout is one bit a token
    tokens   -> syntax tree      parse.py        `parse`, by the tables that Lark makes of grammar.lark
    tree     -> several files    elaborate/used  `Files`: what `use` names, and what a space is derived from
    tree     -> bound tree       bind/           `bind`: each name knows what it means, each argument its parameter
    bound    -> graph            elaborate/      `Program.run`: every architecture at once, with conditions
    graph    -> proven graph     elaborate/      `Program.prove`: shapes and requirements, in all of them
    graph    -> pinned graph     pin.py          `Program.pinned`: what `with` decides

Behind a space: `engine/` counts, bounds and draws, `supernet.py` builds the torch module, `runtime/` searches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nasdsl.compiler import syntax
from nasdsl.compiler.bind.binder import Change, bind
from nasdsl.compiler.bind.habits import near
from nasdsl.compiler.diagnostics import error
from nasdsl.compiler.elaborate.program import Program
from nasdsl.compiler.elaborate.used import Files
from nasdsl.compiler.elaborate.vocabulary import VOCABULARY
from nasdsl.compiler.elaborate.watch import Watch
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.space import Space

LONGEST_CHAIN = 1_000
"""Spaces that are made from each other."""


def elaborate(
    source: Source, name: str | None = None, defines: Mapping[str, str] | None = None, watch: Watch | None = None
) -> Space:
    """The space of a file, checked as a whole.

    Args:
        name: which space of the file; the first that the file itself defines where it is left out.
        defines: parameters set from outside, as text in the language.
        watch: is told what each step comes to.

    Raises:
        CompileError: with every independent mistake that was found.
    """
    return _elaborated(Files(source), name, defines or {}, watch)


def elaborate_all(source: Source, defines: Mapping[str, str] | None = None) -> Iterator[Space]:
    """The spaces that a file itself defines, one after the other; as `elaborate`, but the text is read once."""
    files = Files(source)
    for item in files.own:
        yield _elaborated(files, item.name.name, defines or {})


def _elaborated(files: Files, name: str | None, defines: Mapping[str, str], watch: Watch | None = None) -> Space:
    name, base, changes = _chosen(files, name)
    text = bind(files.definitions, base, changes, VOCABULARY)
    program = Program(text, base, changes, defines)
    with program.watched(watch):
        graph = program.run()
        program.prove(graph)
        pinned = program.pinned(graph)
    return program.space(name, files, pinned)


def _chosen(files: Files, name: str | None) -> tuple[str, syntax.Space, list[Change]]:
    """The name of a space, the one that is written out of which it is made, and the changes that lead there."""
    if name is None:
        if not files.own:
            raise error("no-space", "the file defines no space", None, help="write `space name { ... }`")
        name = files.own[0].name.name
    if name not in files.spaces:
        raise error("unknown-space", f"the file defines no space named `{name}`", None, help=near(name, files.spaces))
    base, *derived = _chain(name, files)
    assert isinstance(base, syntax.Space)
    return name, base, [change for one in derived if isinstance(one, syntax.Derived) for change in one.changes]


def _chain(name: str, files: Files) -> list[syntax.Space | syntax.Derived]:
    """The spaces that lead to `name`, the written-out one first."""
    out: list[syntax.Space | syntax.Derived] = []
    seen: set[str] = set()
    span: Span | None = None
    while True:
        if name not in files.spaces:
            raise error("unknown-space", f"no space named `{name}`", span, "not found", help=near(name, files.spaces))
        item, _ = files.spaces[name]
        if name in seen:
            raise error("use-circle", f"the space `{name}` is made from itself", item.name.span)
        if len(out) == LONGEST_CHAIN:
            message = f"spaces are made from each other more than {LONGEST_CHAIN:,} deep"
            raise error("derived-depth", message, out[0].name.span)
        seen.add(name)
        out.append(item)
        if isinstance(item, syntax.Space):
            return out[::-1]
        name, span = item.base.name, item.base.span
