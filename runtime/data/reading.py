"""What a reader took of a user's files: what a run says of its data before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from nasdsl.runtime.data.files import Files


@dataclass(frozen=True)
class Reading:
    """Where the splits of a data set come from, and what was done on the way.

    Attributes:
        train, val: where each split is from, in words: a folder, a list, a part that was held out.
        images: the members whose pixels are read.
        others: the other members that were read, such as masks and annotations.
        notes: what else there is to say, a line each: what labels became, what was left out. What is hardly meant
            begins with `warning: `.
        reader: the name of the reader, and `spec`: what the user named; `open_data` fills them in.
        layouts: the names of the readers that there are for the task.
    """

    files: Files
    train: str
    val: str
    images: tuple[str, ...]
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reader: str = ""
    spec: str = ""
    layouts: tuple[str, ...] = ()


def held_from(origin: str) -> tuple[str, str]:
    """Where the splits are from, if one is held out of the other."""
    return f"the rest of {origin}", f"a fixed 20 % of {origin}"
