"""Broken files: each mistake is found where it stands, once, and nothing else is reported.

A comment says what is expected on its line, `# error: code `underlined text``, several behind commas; one at the start
of a
line stands for an error without a place. `# define: name=value` sets a parameter. What is said is in `messages.txt`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nasdsl.compiler.diagnostics import CompileError, Diagnostic
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate

FOLDER = Path(__file__).parent / "errors"
FILES = sorted(FOLDER.glob("*.space"))

_COMMENT = re.compile(r"(?:^|  )# error: (.*)$")
_EXPECTED = re.compile(r"([a-z-]+)(?: `([^`]*)`)?(?:, |$)")


def expected(text: str) -> list[tuple[int, str, str]]:
    """Line, code and underlined text of each error that the comments announce; line 0 where there is no place."""
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        found = _COMMENT.search(line)
        if found is not None:
            place = 0 if line.startswith("#") else number
            out += [(place, code, words) for code, words in _EXPECTED.findall(found[1])]
    return sorted(out)


def diagnostics(file: Path) -> tuple[Diagnostic, ...]:
    defines = dict(re.findall(r"^# define: (\w+)=(.*)$", file.read_text(), re.MULTILINE))
    with pytest.raises(CompileError) as caught:
        elaborate(read(file), defines=defines)
    return caught.value.diagnostics


def described(diagnostic: Diagnostic) -> tuple[int, str, str]:
    span = diagnostic.span
    if span is None or span.source.path is None:
        return 0, diagnostic.code, ""
    return span.line, diagnostic.code, span.text.splitlines()[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_mistake_is_found_once_where_it_stands(file):
    assert sorted(map(described, diagnostics(file))) == expected(file.read_text())


def test_what_is_said_of_each_mistake(golden):
    """Read the difference when it changes: would you be glad to receive the message?"""
    parts = []
    for file in FILES:
        parts.append(f"--- {file.stem}\n")
        for diagnostic in diagnostics(file):
            line, code, words = described(diagnostic)
            parts.append(f"{line or ''}[{code}] {diagnostic.message}\n")
            if words:
                parts.append(f"    at `{words}`{': ' if diagnostic.label else ''}{diagnostic.label}\n")
            for other in diagnostic.others:
                parts.append(f"    {other.span.line} `{other.span.text.splitlines()[0]}`: {other.text}\n")
            for part in diagnostic.help.split("\n") if diagnostic.help else ():
                parts.append(f"    help: {part}\n")
    golden(FOLDER / "messages.txt", "".join(parts))


def test_messages_say_what_a_reader_can_use():
    for file in FILES:
        for diagnostic in diagnostics(file):
            assert diagnostic.message and "\n" not in diagnostic.message
            assert len(diagnostic.message) <= 110, diagnostic.message
            for text in (diagnostic.message, diagnostic.label, diagnostic.help):
                assert not re.search(r"\b(Symbol|Fraction|None|Apply|Case|Tensor)\(|object at 0x", text), text
