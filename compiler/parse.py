"""Text -> syntax tree.

`tokenize` and the tables of `grammar.lark` do the reading; this file runs the automaton and builds the tree. What goes
wrong is put into words in `mistakes.py`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nasdsl.compiler import syntax
from nasdsl.compiler.brackets import CLOSES, CONTINUES, PARTNER, Mended, mend, span_of
from nasdsl.compiler.diagnostics import CompileError, Diagnostic, error
from nasdsl.compiler.files import read_whole
from nasdsl.compiler.mistakes import explain
from nasdsl.compiler.source import Source, Span
from nasdsl.compiler.stop import Stop, open_brackets
from nasdsl.compiler.tables import END, LINE_BREAK, tables
from nasdsl.compiler.tokens import MOST_MISTAKES, Token, tokenize

LARGEST_FILE = 1_000_000  # characters
DEEPEST_BRACKETS = 60
DEEPEST_TREE = 150  # so that comparing and walking trees stays far from Python's limit on recursion


def parse(source: Source) -> syntax.File:
    """The syntax tree of a source.

    A CompileError holds all mistakes that could be told apart, in the order of the text. Whatever the text, this ends
    soon and raises nothing else; the depth of the tree is bounded, so that it can be walked by recursion.
    """
    if len(source.text) > LARGEST_FILE:
        raise _too_long(source.name)
    found = tokenize(source)
    if len(found.mistakes) >= MOST_MISTAKES:
        raise CompileError(found.mistakes)
    if (depth := _too_deep(source, found.tokens)) is not None:
        raise CompileError([depth])
    mended = mend(source, found.tokens)
    if len(mended.mistakes) >= MOST_MISTAKES:
        raise CompileError(mended.mistakes)
    reading = _Reading(source, mended.tokens, found.comments)
    file = reading.run()
    if file is None or found.mistakes or mended.mistakes:
        raise CompileError(_told_apart(source, found.mistakes, mended, reading.mistakes))
    return file


def parse_partly(source: Source) -> syntax.File:
    """What can be read of a text, for whoever looks at one that is being written: an item with a mistake is cut off
    before it, or left out; those around it stay. Of a text without a mistake this is the whole tree.
    """
    found = tokenize(Source(source.text[:LARGEST_FILE], source.name, source.path, source.begin))
    nothing = syntax.File((), span=Span(source, 0, len(source.text)))
    if _too_deep(source, found.tokens) is not None:
        return nothing
    try:
        return _ReadingPartly(source, mend(source, found.tokens).tokens, found.comments).run() or nothing
    except CompileError:  # too deep a tree
        return nothing


_UNSAVED: ContextVar[Mapping[Path, str]] = ContextVar("_UNSAVED", default=MappingProxyType({}))


@contextmanager
def unsaved(texts: Mapping[Path, str]) -> Iterator[None]:
    """Inside, files at these (resolved) paths are read as these texts, as an editor has them."""
    token = _UNSAVED.set(texts)
    try:
        yield
    finally:
        _UNSAVED.reset(token)


def read(path: Path) -> Source:
    """The text of a file, or a CompileError where there is no text to be had. Line ends become line feeds."""
    name = str(path)
    texts = _UNSAVED.get()
    if texts and (text := texts.get(path.resolve())) is not None:
        return Source(text, name, path)
    try:
        raw = read_whole(path, 4 * LARGEST_FILE)
    except FileNotFoundError:
        raise error("no-such-file", f"there is no file `{name}`", None) from None
    except IsADirectoryError:
        raise error("not-a-file", f"`{name}` is a folder", None, help="name a `.space` file in it") from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the path
        if getattr(problem, "errno", None) == errno.EFBIG:
            raise _too_long(name) from None
        reason = getattr(problem, "strerror", None) or str(problem)
        help = "`-` reads standard input" if getattr(problem, "errno", None) == errno.EINVAL else ""
        raise error("unreadable-file", f"`{name}` can't be read: {reason}", None, help=help) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        message = f"`{name}` is not UTF-8 text: byte {raw[problem.start]:#04x} in line {line}"
        raise error("not-utf8", message, None) from None
    if len(text) > LARGEST_FILE:
        raise _too_long(name)
    return Source(text.replace("\r\n", "\n").replace("\r", "\n"), name, path)


def _told_apart(source: Source, first: list[Diagnostic], mended: Mended, last: list[Diagnostic]) -> list[Diagnostic]:
    """All that was found, in the order of the text, less what only follows from something else."""
    told = first + mended.mistakes
    lines = {m.span.line for m in first if m.span}
    for mistake in last:
        assert mistake.span is not None
        start = mistake.span.start
        if mistake.span.line in lines or any(a <= start <= b for a, b in mended.muted):
            continue
        lines.add(mistake.span.line)
        told.append(mistake)
    told.sort(key=lambda m: m.span.start if m.span else 0)
    return (told or last)[:MOST_MISTAKES]


def _too_long(name: str) -> CompileError:
    message = f"`{name}` is too long: a file has at most {LARGEST_FILE:,} characters"
    return error("file-too-large", message, None, help="split it and join the parts with `use`")


# --- The automaton ---------------------------------------------------------------------------------------------------

_SOFT = frozenset({"x", "step"})  # words that are infix operators only where one may stand


class _Reading:
    """One run of the automaton over the tokens of a source."""

    def __init__(self, source: Source, tokens: list[Token], comments: list[tuple[int, int]]):
        self.source = source
        self.tokens = tokens
        self.comments = comments
        self.mistakes: list[Diagnostic] = []
        self.states = [tables().start]
        self.values: list[Any] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.depths: list[int] = []

    def run(self) -> syntax.File | None:
        """The tree, or None where there are mistakes."""
        index = stopped = 0
        while index < len(self.tokens):
            token = self.tokens[index]
            if self.take(token):
                index += 1
                continue
            stop = Stop(self.source, self.tokens, index, stopped, self.states.copy(), self.values.copy(), self.accepts)
            self.mistakes.append(explain(stop))
            if token.kind == END or len(self.mistakes) >= MOST_MISTAKES:
                return None
            index = stopped = self.recover(index, stopped)
        made = self.values[0]
        assert isinstance(made, syntax.File)
        return None if self.mistakes else made

    def recover(self, index: int, stopped: int) -> int:
        """Forget the item that could not be read, up to its braces; the index of the token to go on with.

        Only braces are gone back to: what stands in them is a list of items that know nothing of each other.
        """
        brackets = open_brackets(self.values)
        braces = [place for place in brackets if self.values[place].kind == "{"]
        depth = len(brackets) if not braces else len(brackets) - brackets.index(braces[-1]) - 1
        self.cut(braces[-1] + 1 if braces else 0)
        first = index
        while self.tokens[index].kind != END:
            token = self.tokens[index]
            fresh = index > first or (token.leads and index > stopped)
            if depth == 0 and fresh and token.leads and token.kind not in CONTINUES:
                break
            if token.kind in PARTNER:
                depth += 1
            elif token.kind in CLOSES:
                if depth == 0:
                    break
                depth -= 1
            elif depth == 0 and token.kind == ",":
                return index + 1
            index += 1
        return index

    def cut(self, size: int) -> None:
        """Forget all that was read but the first values."""
        del self.states[size + 1 :], self.values[size:], self.starts[size:], self.ends[size:], self.depths[size:]

    def take(self, token: Token) -> bool:
        """As `feed`, behind the end of a line where the token is the first of its own and one may end."""
        if token.leads and token.kind not in CONTINUES and self.accepts(LINE_BREAK):
            self.feed(Token(LINE_BREAK, "", token.start, token.start, False))
        return self.feed(token)

    def accepts(self, kind: str) -> bool:
        """Whether a terminal can stand here."""
        known = tables()
        action = known.actions[self.states[-1]].get(kind)
        if action is None or action >= 0:
            return action is not None
        states = self.states.copy()
        while action is not None and action < 0:
            name, size, _, _ = known.rules[~action]
            if size:
                del states[-size:]
            if name == "start":
                return True
            states.append(known.gotos[states[-1]][name])
            action = known.actions[states[-1]].get(kind)
        return action is not None

    def feed(self, token: Token) -> bool:
        """Take a token in and build what it completes; False, and nothing taken in, where it can't stand."""
        known = tables()
        actions, gotos, rules = known.actions, known.gotos, known.rules
        states, values, starts, ends, depths = self.states, self.values, self.starts, self.ends, self.depths
        kind = token.kind
        if kind == "NAME" and token.text in _SOFT and (_ends_in_number(values) or self.accepts(token.text)):
            kind = token.text
        while True:
            action = actions[states[-1]].get(kind)
            if action is None:
                return False
            if action >= 0:
                states.append(action)
                values.append(token)
                starts.append(token.start)
                ends.append(token.end)
                depths.append(0)
                return True
            name, size, kept, build = rules[~action]
            if size == 1 and build == "=":
                states[-1] = gotos[states[-2]][name]
                continue
            children: list[Any] = []
            for place in kept:
                if place >= 0:
                    children.append(values[place - size])
                else:
                    children.extend(values[~place - size])
            if size:
                start, end, depth = starts[-size], ends[-1], max(depths[-size:])
                del states[-size:], values[-size:], starts[-size:], ends[-size:], depths[-size:]
            else:
                start = end = token.start
                depth = 0
            if not build:
                made: Any = children
            elif build == "=":
                made = children[0]
            elif build == "start":
                made = self.file(children)
            else:
                made = _BUILD[build](children, Span(self.source, start, end))
                depth += 1
                if depth > DEEPEST_TREE:
                    what = f"more than {DEEPEST_TREE} operators and brackets stand upon each other"
                    raise CompileError([*self.mistakes, _deep(what, Span(self.source, start, end))])
            values.append(made)
            starts.append(start)
            ends.append(end)
            depths.append(depth)
            states.append(gotos[states[-1]][name])
            if name == "start":
                return True

    def file(self, items: list[Any]) -> syntax.File:
        text = self.source.text
        comments = tuple(
            syntax.Comment(text[start:end], span=Span(self.source, start, end)) for start, end in self.comments
        )
        return syntax.File(tuple(items), comments, span=Span(self.source, 0, len(text)))


class _ReadingPartly(_Reading):
    """One that keeps what it can of a text with mistakes."""

    def run(self) -> syntax.File | None:
        index, stopped = 0, -1
        while index < len(self.tokens):
            token = self.tokens[index]
            if self.take(token):
                index += 1
                continue
            self.give_up(LINE_BREAK if token.kind != END else END)
            if token.leads and token.kind not in (*CONTINUES, END) and index != stopped:
                stopped = index  # it may begin the next item
            elif token.kind != END:
                index = self.skip(index)
            elif not self.accepts(END):
                return None
        made = self.values[0]
        return made if isinstance(made, syntax.File) else None

    def give_up(self, wanted: str) -> None:
        """Forget what was read last, back to where an item may end, or to the brace before it."""
        brackets = open_brackets(self.values)
        braces = [place for place in brackets if self.values[place].kind == "{"]
        least = braces[-1] + 1 if braces and wanted != END else 0
        inner = [place for place in brackets if place >= least]
        size = inner[0] if inner else len(self.values)
        self.cut(size)
        while len(self.values) > least and not self.accepts(wanted):
            self.cut(len(self.values) - 1)

    def skip(self, index: int) -> int:
        """The token that begins the next item, or closes the braces."""
        depth, first = 0, index
        while self.tokens[index].kind != END:
            token = self.tokens[index]
            if depth == 0 and index > first and token.leads and token.kind not in CONTINUES:
                break
            if token.kind in PARTNER:
                depth += 1
            elif token.kind in CLOSES:
                if depth == 0 and (token.kind == "}" or index > first):
                    break
                depth = max(0, depth - 1)
            elif depth == 0 and token.kind == "," and index > first:
                break
            index += 1
        return index if index > first or self.accepts(self.tokens[index].kind) else index + 1


def _ends_in_number(values: list[Any]) -> bool:
    """Whether a number was just read, so that a name would be its unit."""
    return bool(values) and type(values[-1]) is Token and values[-1].kind == "NUMBER"


def _too_deep(source: Source, tokens: list[Token]) -> Diagnostic | None:
    depth = 0
    for token in tokens:
        if token.kind in PARTNER:
            depth += 1
            if depth > DEEPEST_BRACKETS:
                return _deep(f"brackets stand more than {DEEPEST_BRACKETS} deep in each other", span_of(source, token))
        elif token.kind in CLOSES:
            depth = max(0, depth - 1)
    return None


def _deep(what: str, span: Span) -> Diagnostic:
    return Diagnostic("too-deep", what, span, help="give a part of it a name with `let`")


# --- The tree --------------------------------------------------------------------------------------------------------

_SUFFIX = {"K": 10**3, "M": 10**6, "G": 10**9}


def _number(children: list[Any], span: Span) -> syntax.Number:
    text: str = children[0].text
    unit: str | None = children[1].text if len(children) == 2 else None
    return syntax.Number(number_value(text), unit, text, span=span)


def number_value(text: str) -> int | Fraction:
    """The exact value of a number as written, without a unit: `24`, `1.6e-4`, `600M`."""
    if text.isdigit():
        return int(text)
    value = Fraction(text[:-1]) * _SUFFIX[text[-1]] if text[-1] in _SUFFIX else Fraction(text)
    return value.numerator if value.denominator == 1 else value


def _call(children: list[Any], span: Span) -> syntax.Call:
    arguments = children[1] if isinstance(children[1], tuple) else None
    body = children[-1] if isinstance(children[-1], syntax.Block) else None
    return syntax.Call(children[0], arguments, body, span=span)


def _binary(children: list[Any], span: Span) -> syntax.Binary:
    left, operator, right = children
    place = Span(span.source, operator.start, operator.end)
    return syntax.Binary(operator.text, left, right, span=span, operator_span=place)


@dataclass(frozen=True)
class _Allowed:
    """What stands behind `in` in a formal parameter."""

    values: syntax.Expr


def _formal(children: list[Any], span: Span) -> syntax.Formal:
    name, *rest = children
    allowed = next((part.values for part in rest if isinstance(part, _Allowed)), None)
    default = next((part for part in rest if not isinstance(part, _Allowed)), None)
    return syntax.Formal(name, allowed, default, span=span)


def _optional(children: list[Any], place: int, size: int) -> Any:
    """The child at a place that may be left out of `size` children."""
    return children[place] if len(children) == size else None


_BUILD: dict[str, Callable[[list[Any], Span], Any]] = {
    "arguments": lambda c, s: tuple(c),
    "binary": _binary,
    "bind": lambda c, s: syntax.Bind(c[0].text, c[1], span=s),
    "block": lambda c, s: syntax.Block(tuple(c), span=s),
    "call": _call,
    "comprehension": lambda c, s: syntax.Comprehension(tuple(c[:-1]), c[-1], span=s),
    "derived": lambda c, s: syntax.Derived(c[0], c[1], tuple(c[2:]), span=s),
    "else": lambda c, s: syntax.Else(span=s),
    "field": lambda c, s: syntax.Field(c[0], c[1], span=s),
    "for": lambda c, s: syntax.For(c[0], c[1], span=s),
    "allowed": lambda c, s: _Allowed(c[-1]),
    "formal": _formal,
    "formals": lambda c, s: tuple(c),
    "fusion": lambda c, s: syntax.Fusion(c[0], _optional(c, 1, 3) or (), c[-1], span=s),
    "if": lambda c, s: syntax.If(*c, span=s),
    "incoming": lambda c, s: syntax.Incoming(span=s),
    "index": lambda c, s: syntax.Index(*c, span=s),
    "input": lambda c, s: syntax.Input(*c, span=s),
    "let": lambda c, s: syntax.Let(c[0], _optional(c, 1, 3), c[-1], span=s),
    "list": lambda c, s: syntax.List(tuple(c), span=s),
    "match": lambda c, s: syntax.Match(*c, span=s),
    "name": lambda c, s: syntax.Name(c[0].text, span=s),
    "named": lambda c, s: syntax.Named(*c, span=s),
    "names": lambda c, s: tuple(c),
    "number": _number,
    "operator": lambda c, s: syntax.Operator(*c, span=s),
    "param": lambda c, s: syntax.Param(c[0], len(c) == 3, c[-1], span=s),
    "pin": lambda c, s: syntax.Pin(*c, span=s),
    "pipe": lambda c, s: syntax.Pipe(tuple(c), span=s),
    "range": lambda c, s: syntax.Range(c[0], c[1], _optional(c, 2, 3), span=s),
    "repeat": lambda c, s: syntax.Repeat(*c, span=s),
    "require": lambda c, s: syntax.Require(*c, span=s),
    "section": lambda c, s: syntax.Section(c[0], _optional(c, 1, 3), c[-1], span=s),
    "size": lambda c, s: syntax.Size(tuple(c), span=s),
    "space": lambda c, s: syntax.Space(c[0], tuple(c[1:]), span=s),
    "string": lambda c, s: syntax.String(c[0].text[1:-1], span=s),
    "unary": lambda c, s: syntax.Unary(c[0].text, c[1], span=s),
    "use": lambda c, s: syntax.Use(*c, span=s),
}
