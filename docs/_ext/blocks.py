"""The blocks of a page: what the build draws from and the tests run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^`]*)$")
OPTION = re.compile(r"^:(?P<name>[\w-]+):(?: (?P<value>.*))?$")
COMMENT = re.compile(r"^<!-- *(?P<text>.*?) *-->$")
DRAW = re.compile(r"^draw: *(?P<what>.+?) *-> *(?P<picture>\S+\.svg)$")


@dataclass(frozen=True)
class Block:
    """One fenced block, or a picture to be drawn.

    Attributes:
        kind: the language it is in (`space`, `console`, `python`, `text`, ...), `draw` for a picture.
        text: without the fence; of a picture, the file and the options of `nasdsl draw`.
        line: of its first line of text in the page, from 1.
        caption: the file that it is written to, or the picture's name; empty without.
        output: what the Python above it prints.
        marks: the comments of one line right above it: `long`, `not run: ...`.
    """

    kind: str
    text: str
    line: int
    caption: str = ""
    output: bool = False
    marks: tuple[str, ...] = field(default=())

    @property
    def is_long(self) -> bool:
        return "long" in self.marks

    @property
    def why_not_run(self) -> str:
        """The reason that the page gives for leaving it out; empty where it is run."""
        return next((mark.removeprefix("not run:").strip() for mark in self.marks if mark.startswith("not run:")), "")


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page of Markdown in their order."""
    lines = text.splitlines()
    marks: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if comment := COMMENT.match(line):
            if drawn := DRAW.match(comment["text"]):
                yield Block("draw", drawn["what"], at, drawn["picture"], marks=tuple(marks))
            else:
                marks.append(comment["text"])
            continue
        opened = FENCE.match(line)
        if opened is None:
            marks = marks if not line.strip() and marks else []
            continue
        first = at
        while at < len(lines) and lines[at].rstrip() != opened["fence"]:
            at += 1
        yield _block(opened["info"].strip(), lines[first:at], first + 1, tuple(marks))
        at += 1
        marks = []


def _block(info: str, lines: list[str], line: int, marks: tuple[str, ...]) -> Block:
    """A block by the words behind its fence: a language, or `{code-block} language` with options."""
    options: dict[str, str] = {}
    kind = info
    if info.startswith("{"):
        name, _, language = info.removeprefix("{").partition("}")
        kind = language.strip() if name in ("code-block", "code", "sourcecode") else f"{{{name}}}"
        while lines and (option := OPTION.match(lines[0])):
            options[option["name"]] = (option["value"] or "").strip()
            lines, line = lines[1:], line + 1
        if options and lines and not lines[0].strip():
            lines, line = lines[1:], line + 1
    text = "".join(f"{one}\n" for one in lines)
    return Block(kind, text, line, options.get("caption", ""), "output" in options.get("class", "").split(), marks)
