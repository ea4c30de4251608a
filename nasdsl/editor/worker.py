"""A process that checks whole spaces for the language server, which answers meanwhile. It is stopped where a newer text
is to be checked.

It reads pickled requests from standard input and writes pickled answers to standard output, each behind its length in
eight bytes: only the server that started it talks to it.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.diagnostics import Diagnostic, NasdslError
from nasdsl.compiler.elaborate.watch import Watch
from nasdsl.compiler.parse import parse, unsaved
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.space import Space
from nasdsl.editor.facts import Facts, SpaceFacts, about_space, facts
from nasdsl.editor.setting_words import Setting, setting_words


@dataclass(frozen=True)
class Request:
    """A text to check; `others` are unsaved texts of other files, by resolved path."""

    number: int
    text: str
    name: str
    path: Path | None
    others: Mapping[Path, str]


@dataclass(frozen=True)
class Answer:
    """What was found of one space of a text so far.

    Attributes:
        space: whose diagnostics these are, or None where they are not told.
        facts: None where there is nothing new to tell.
        checked: whether all of the text is checked; `finished` whether nothing more comes.
    """

    number: int
    space: str | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    facts: Facts | None = None
    checked: bool = False
    finished: bool = False


@dataclass(frozen=True)
class SettingsAnswer:
    """The settings of searches and of training."""

    settings: Mapping[str, Setting]


def check(request: Request) -> Iterator[Answer]:
    """All mistakes of all spaces of a text; then what is known of its places, and what that costs."""
    source = Source(request.text, request.name, request.path)
    with unsaved(request.others):
        yield from _check(request.number, source)


def _check(number: int, source: Source) -> Iterator[Answer]:
    try:
        tree = parse(source)
    except NasdslError as problem:
        yield Answer(number, "", problem.diagnostics, checked=True, finished=True)
        return
    own = [item for item in tree.items if isinstance(item, syntax.Space | syntax.Derived)]
    found: list[tuple[str, Watch, Space | None]] = []
    for item in own:
        watch, space = Watch(), None
        try:
            space = elaborate(source, item.name.name, watch=watch)
            diagnostics = space.warnings
        except NasdslError as problem:
            diagnostics = tuple(problem.diagnostics)
        except Exception as problem:  # a mistake of the compiler's own is no reason to leave the user without an editor
            diagnostics = (_own_mistake(problem, item.name.span),)
        told = facts(source, item.name.name, watch, space, costs=False) if isinstance(item, syntax.Space) else None
        yield Answer(number, item.name.name, diagnostics, told)
        found.append((item.name.name, watch if isinstance(item, syntax.Space) else Watch(), space))
    if not own:
        yield Answer(number, "", _without_spaces(source))
    yield Answer(number, checked=True)
    for name, watch, space in found:
        if watch.nodes:
            yield Answer(number, facts=facts(source, name, watch, space))
        elif space is not None:
            yield Answer(number, facts=Facts(about_space(space)))
        else:
            yield Answer(number, facts=Facts(SpaceFacts(name)))
    yield Answer(number, finished=True)


def _without_spaces(source: Source) -> tuple[Diagnostic, ...]:
    """The mistakes of a file that has definitions alone: what it uses, and its names."""
    from nasdsl.editor.names import index

    found = index(source, parse(source))
    return tuple(found.problems) or tuple(found.found)


def _own_mistake(problem: Exception, span: Span) -> Diagnostic:
    message = f"nasdsl itself failed here: {type(problem).__name__}: {' '.join(str(problem).split())}"
    return Diagnostic("internal", message, span, help="please report it, with the file")


# --- Talking ----------------------------------------------------------------------------------------------------------


def packed(value: Any) -> bytes:
    """A value as it is sent."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(8, "big") + data


def receive(read: Callable[[int], bytes]) -> Any:
    """The next value that was sent; None at the end, also one that came too early."""
    head = read(8)
    size = int.from_bytes(head, "big")
    if len(head) < 8 or len(data := read(size)) < size:
        return None
    return pickle.loads(data)


def main() -> None:
    """Answers requests until there are no more. With `--settings` it tells the settings of searches, and ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what anybody prints is no answer
    if hasattr(os, "nice"):
        os.nice(5)  # whoever types comes first
    if "--settings" in sys.argv:
        answers.write(packed(SettingsAnswer(setting_words())))
        answers.flush()
        return
    try:
        while (request := receive(requests.read)) is not None:
            for answer in check(request):
                answers.write(packed(answer))
                answers.flush()
    except BrokenPipeError:  # the server has ended
        os._exit(0)
