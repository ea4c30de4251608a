"""Names for modules and variables, made of the names in the source."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LONGEST_NAME = 56


@dataclass(frozen=True)
class Segment:
    """One part of a hierarchical name: `parallel[1/8]` has the word `parallel` and the index `1/8`."""

    word: str
    index: str

    def text(self) -> str:
        index = identifier(self.index)
        if not index:
            return identifier(self.word)
        return identifier(self.word) + ("" if index.isdigit() else "_") + index


def identifier(text: str) -> str:
    """The letters, digits and arrows of a text, joined by underscores."""
    text = unicodedata.normalize("NFKC", text).replace("->", " to ")
    return re.sub(r"_+", "_", re.sub(r"\W+", "_", text)).strip("_")


def segments(name: str) -> tuple[Segment, ...]:
    """The parts of a node's name."""
    parts = re.findall(r"(?:[^.\[]|\[[^\]]*\])+", name)
    found = []
    for part in parts:
        word, _, rest = part.partition("[")
        found.append(Segment(word, rest.replace("][", " ").rstrip("]")))
    return tuple(found)


class Names:
    """Gives out identifiers, each once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """`wanted`, or what is nearest to it and still free."""
        name = usable(wanted)
        number = 2
        while name in self.taken:
            name = f"{usable(wanted)}_{number}"
            number += 1
        self.taken.add(name)
        return name


def usable(wanted: str) -> str:
    """An identifier of bearable length."""
    name = wanted if len(wanted) <= LONGEST_NAME else f"{wanted[: LONGEST_NAME // 2]}_{wanted[-LONGEST_NAME // 2 :]}"
    name = re.sub(r"_+", "_", name)
    if not name or name[0].isdigit():
        name = f"layer_{name}".rstrip("_")
    # l, O and I are hard to tell from digits, and linters object
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in ("l", "O", "I"):
        name += "_"
    return name


def variable(wanted: str) -> str:
    """An identifier that hides nothing of Python's own either."""
    name = usable(wanted)
    return f"{name}_" if hasattr(builtins, name) else name


def needless_words(names: Sequence[str]) -> frozenset[str]:
    """Words of inner segments without which all names still differ, such as that of an operator around one block."""
    split = [segments(name) for name in names]
    inner = {part.word for parts in split for part in parts[1:-1] if not part.index}
    lanes = {part.word for parts in split for part in parts[1:-1] if "/" in part.index and "->" not in part.index}
    dropped: frozenset[str] = frozenset()
    for word in (*sorted(lanes), *sorted(inner - lanes)):
        attempt = dropped | {word}
        if len({joined(parts, attempt) for parts in split}) == len(set(split)):
            dropped = attempt
    return dropped


def joined(parts: Sequence[Segment], dropped: frozenset[str]) -> str:
    """A name as one identifier; of dropped words only the index stays."""
    last = len(parts) - 1
    texts = []
    for i, part in enumerate(parts):
        texts.append(identifier(part.index) if part.word in dropped and 0 < i < last else part.text())
    return "_".join(text for text in texts if text)
