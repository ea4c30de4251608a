"""What is told of a mistake by its code."""

from __future__ import annotations

from dataclasses import dataclass

from nasdsl.compiler.example import Example

FILE = "mine.space"


@dataclass(frozen=True)
class Mistake:
    """
    Attributes:
        meaning: what is wrong, in a sentence or two.
        mended: what to do about it.
        text: a small file that has it (as `Example` completes it, or as it is where it is `whole`); where there is a
            `command`, the file that it is given.
        command: a command that tells it, of a file `mine.space`; empty for `nasdsl check mine.space`.
        told: whether the command can be run without more than this file: no data, no weights, no device.
    """

    code: str
    meaning: str
    mended: str
    text: str = ""
    command: str = ""
    whole: bool = False
    told: bool = True

    @property
    def file(self) -> str:
        """The file, whole."""
        return self.text if self.whole or not self.text else Example(self.text, 0).file

    @property
    def asked(self) -> str:
        """The command."""
        return self.command or (f"nasdsl check {FILE}" if self.text else "")
