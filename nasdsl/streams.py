"""Standard input, output and error as they are found: of any encoding, closed, or read by nobody."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from nasdsl.compiler.files import to_json

PLAIN: Mapping[str, str] = {
    **dict.fromkeys("█▉▊▋▌▍", "#"),
    **dict.fromkeys("▎▏", " "),
    **dict.fromkeys("–—−", "-"),
    **dict.fromkeys("“”", '"'),
    "…": "...",
    "·": ".",
    "×": "x",
    "μ": "u",
    "→": "->",
    "≠": "!=",
    "≤": "<=",
    "≥": ">=",
}
"""What is printed, where the encoding of a stream has no such character."""
ERRORS = "nasdsl-plain"
"""The name of the way in which characters that an encoding lacks are printed."""


def prepare_streams() -> None:
    """Makes standard output and error take any text: what their encoding lacks becomes plain, `?` at the worst, and
    bytes of file names that are no text go out as they came in. Streams that are closed lead nowhere."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:  # so that no file of ours gets the number of a stream
        pass
    os.close(handle)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    codecs.register_error(ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def _plain(problem: UnicodeError) -> tuple[str | bytes, int]:
    """As `codecs.register_error` wants it: what stands for the first character, and where to go on."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    character = problem.object[problem.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), problem.start + 1
    return PLAIN.get(character, "?"), problem.start + 1


def write_program(text: str) -> None:
    """A program in the language, or another text that is read back, on standard output: in UTF-8, whatever the
    terminal's encoding, as in a file."""
    buffer = getattr(sys.stdout, "buffer", None)
    if text.isascii() or buffer is None:
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    buffer.write(text.encode())
    buffer.flush()


def as_json(value: Any) -> None:
    """Prints one JSON value."""
    print(to_json(value, indent=2))


def silence() -> None:
    """Lets what is still buffered, and whatever comes, go nowhere: whoever read standard output or error is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if _broken(stream):
            os.dup2(nowhere, stream.fileno())


def _broken(stream: TextIO) -> bool:
    """Whether a stream of this process cannot take what it is given."""
    try:
        stream.fileno()
    except (OSError, ValueError, AttributeError):  # a test's, in memory
        return False
    try:
        stream.flush()
    except (OSError, ValueError):
        return True
    return False
