"""What records of the language show: a small file, and how many architectures it has."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A small file that shows one thing.

    Attributes:
        text: a whole file; or what stands in a space, with its `network`; or the steps of a network.
        count: its exact number of architectures.
        input: of the space, where the text has none.
    """

    text: str
    count: int
    input: str = "3 x 32 x 32"

    @property
    def file(self) -> str:
        """The whole file."""
        text = textwrap.dedent(self.text).strip("\n")
        if re.search(r"^space\b", text, re.MULTILINE):
            return f"{text}\n"
        if not re.search(r"^(network|detector)\b", text, re.MULTILINE):
            text = f"network {{\n{textwrap.indent(text, '  ')}\n}}"
        if not re.search(r"^input\b", text, re.MULTILINE):
            text = f"input {self.input}\n\n{text}"
        return f"space example {{\n{textwrap.indent(text, '  ')}\n}}\n"


@dataclass(frozen=True)
class Manual:
    """What is told of a function or a construct of the language.

    Attributes:
        signature: how it is written, with names for its parts.
        doc: what it means, in a few words.
        text: the rest, in paragraphs.
    """

    signature: str
    doc: str
    example: Example
    text: str = ""
