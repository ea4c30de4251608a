"""Edits of texts that an editor asks for: the canonical layout, new names, and what a diagnostic advises."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nasdsl.compiler.brackets import PARTNER
from nasdsl.compiler.diagnostics import Diagnostic, NasdslError
from nasdsl.compiler.source import Span
from nasdsl.compiler.tokens import FOREIGN, is_name
from nasdsl.editor.document import Document
from nasdsl.editor.names import Declaration, Occurrence, home

MOST_OFFERED = 6


@dataclass(frozen=True)
class Edit:
    """Characters `start` to `end` become `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Fix:
    """What mends a mistake. `sure` is whether the advice names just this; `to_try` whether it has to be tried first."""

    title: str
    edits: tuple[Edit, ...]
    sure: bool
    to_try: bool = False


class NotRenamable(NasdslError):
    """A name that is not the file's to change, or that would mean something else."""

    code = "not-renamable"


def applied(text: str, edits: Iterable[Edit]) -> str:
    """A text with some edits made."""
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def formatted(document: Document) -> list[Edit]:
    """What brings a text into the canonical layout, as `nasdsl fmt` does; nothing for one that can't be read."""
    old, text = document.text, document.layout
    if text == old:
        return []
    first = next((i for i, (a, b) in enumerate(zip(old, text, strict=False)) if a != b), min(len(old), len(text)))
    most = min(len(old), len(text)) - first
    last = 0
    while last < most and old[len(old) - 1 - last] == text[len(text) - 1 - last]:
        last += 1
    return [Edit(first, len(old) - last, text[first : len(text) - last])]


# --- New names --------------------------------------------------------------------------------------------------------

_LANGUAGE = {
    "form": "of the language",
    "built-in": "a function of the language",
    "catalogue": "an operator of the catalogue",
    "parameter": "a parameter of an operator of the language",
    "word": "a word of the language",
}


def renamable(document: Document, offset: int) -> Occurrence:
    """The name at a place, where it may be changed.

    Raises:
        NotRenamable: there is none, or it is not the file's.
    """
    found = document.names.at(offset)
    if found is None:
        raise NotRenamable("no name that a file declares stands here")
    declaration = found.declaration
    word = found.span.text
    if declaration.kind in _LANGUAGE:
        raise NotRenamable(f"`{word}` is {_LANGUAGE[declaration.kind]}, and keeps its name")
    if not declaration.is_own:
        raise NotRenamable(f"`{word}` is declared in the library that comes with nasdsl")
    return found


def renamed(
    documents: Mapping[Path | None, Document], document: Document, offset: int, new: str
) -> dict[Path | None, list[Edit]]:
    """The edits that give something another name, by the path of the text they are for.

    Args:
        documents: all texts in which it may stand, `document` among them.

    Raises:
        NotRenamable: it can't have that name, or not all places that would have to change are known.
    """
    found = renamable(document, offset)
    declaration, old = found.declaration, found.span.text
    if new == old:
        return {}
    if not is_name(new):
        raise NotRenamable(
            f"`{new}` can't be a name", "names are made of letters a to z, digits and `_`, and no keywords"
        )
    out: dict[Path | None, list[Edit]] = {}
    for path, one in documents.items():
        _refuse_unclear(one, declaration, old)
        edits = [_edit(place, declaration, new) for place in _places(one, declaration)]
        if edits:
            out[path] = edits
    texts = {path: applied(documents[path].text, edits) for path, edits in out.items()}
    for path, edits in out.items():
        others = {other: text for other, text in texts.items() if other is not None and other != path}
        _refuse_clash(documents[path], edits, others, new)
    return out


def _places(document: Document, declaration: Declaration) -> Iterator[Occurrence]:
    """Where a name stands for something, or gives an argument by its name."""
    for one in document.names.occurrences:
        if one.declaration.key == declaration.key or (one.argument is not None and one.argument.key == declaration.key):
            yield one


def _edit(place: Occurrence, declaration: Declaration, new: str) -> Edit:
    span = place.span
    if place.argument is not None:  # `stride` for `stride: stride`
        own = place.declaration.key == declaration.key
        parameter = place.argument.key == declaration.key
        old = span.text
        text = f"{new if parameter else old}: {new if own else old}"
        return Edit(span.start, span.end, new if own and parameter else text)
    return Edit(span.start, span.end, new)


def _refuse_unclear(document: Document, declaration: Declaration, old: str) -> None:
    """Places of which only the evaluation knows what they mean."""
    if declaration.kind == "formal":
        for name, span in document.names.again:
            if name == old:
                raise NotRenamable(
                    f"`{old}` is also given in a call of a value, in line {span.line}, that may mean this parameter",
                    "rename it there by hand first",
                )
    for name, span in document.names.unclear:
        if name == old:
            raise NotRenamable(f"the pin in line {span.line} may mean this `{old}` or another one")


def _refuse_clash(document: Document, edits: Sequence[Edit], others: Mapping[Path, str], new: str) -> None:
    """That each name means what it meant before, where the other files are changed as well."""
    if document.misread:
        raise NotRenamable("the file has mistakes of form", "mend them first, so that no place is missed")
    text = applied(document.text, edits)
    after = replace(document, text=text, others={**document.others, **others})
    moved = sorted(edits, key=lambda edit: edit.start)
    mistakes = {d.message for d in document.names.found}
    fresh = [d for d in after.mistakes if d.message not in mistakes]
    if after.misread or fresh or _shape(after) != _expected(document, moved):
        raise NotRenamable(f"`{new}` already means something where this would be called so")


def _shape(document: Document) -> list[tuple[int, tuple[object, int]]]:
    own = home(document.source)
    return [(one.span.start, _key(one, own)) for one in document.names.occurrences]


def _key(one: Occurrence, own: str) -> tuple[object, int]:
    key = one.declaration.key
    return (key[0], key[1] if key[0] == own else -1)


def _expected(document: Document, edits: Sequence[Edit]) -> list[tuple[int, tuple[object, int]]]:
    """The occurrences of a text, at the places where they are after some edits."""

    def moved(place: int) -> int:
        shift = 0
        for edit in edits:
            if edit.start < place:
                shift += len(edit.text) - (edit.end - edit.start)
        return place + shift

    out: list[tuple[int, tuple[object, int]]] = []
    own = home(document.source)
    longer = {edit.start: edit for edit in edits if ": " in edit.text}
    for one in document.names.occurrences:
        name, place = _key(one, own)
        key = (name, moved(place) if place >= 0 else place)
        start = moved(one.span.start)
        if one.span.start in longer and one.argument is not None:  # a name of an argument came in front of it
            argument = one.argument
            owner, at = argument.key[0], argument.key[1]
            if argument.span is not None and owner != own:
                at = -1
            out.append((start, (owner, moved(at) if at >= 0 else at)))
            start += longer[one.span.start].text.index(": ") + 2
        out.append((start, key))
    return sorted(out, key=lambda pair: pair[0])


# --- What diagnostics advise ------------------------------------------------------------------------------------------


def fixes(document: Document, diagnostic: Diagnostic) -> list[Fix]:
    """What an editor offers to mend a mistake. What does not mend it is not offered, as far as form and names tell."""
    if diagnostic.span is None or diagnostic.span.source.text != document.text:
        return []
    offered = list(_offered(diagnostic))[:MOST_OFFERED]
    return [fix for fix in offered if not fix.to_try or _mends(document, diagnostic, fix)]


_MEANT = re.compile(r"did you mean `([^`]+)`\?")
_WRITE = re.compile(r"\bwrite `([^`]+)`")
_ONE_OF = re.compile(r"\b(?:one of|there is|it has|it takes|its slots are) ((?:`[^`]+`(?:, | and | or )?)+)")


def _offered(d: Diagnostic) -> Iterator[Fix]:
    assert d.span is not None
    places = [d.span, *(other.span for other in d.others if other.text == "and here")]
    places = [span for span in places if span.source is d.span.source]
    for word in _MEANT.findall(d.help):
        yield Fix(f"Change to `{word}`", tuple(_put(span, word) for span in places), True)
    written = [FOREIGN[d.span.text]] if d.span.text in FOREIGN else _WRITE.findall(d.help)
    for text in written:
        if "..." not in text:
            yield Fix(f"Write `{text}`", (_put(d.span, text),), True, to_try=True)
    for words in _ONE_OF.findall(d.help):
        for word in re.findall(r"`([^`]+)`", words):
            yield Fix(f"Change to `{word}`", (_put(d.span, word),), False)
    if d.code == "semicolon":
        yield Fix("Take `;` out", (_put(d.span, ""),), True)
        yield Fix("Write a comma", (_put(d.span, ","),), False)
    if d.code == "unclosed-bracket":
        yield from _closed(d)
    if d.code in ("unmatched-bracket", "wrong-comment"):
        text = "#" if d.code == "wrong-comment" else ""
        yield Fix("Begin the comment with `#`" if text else f"Take `{d.span.text}` out", (_put(d.span, text),), True)
    if d.code == "unused" and (line := _line_of(d.span)) is not None:
        yield Fix("Take the line out", (line,), False)


def _put(span: Span, text: str) -> Edit:
    return Edit(span.start, span.end, text)


def _closed(d: Diagnostic) -> Iterator[Fix]:
    """The bracket that is missing, at the end of the line before what shows it, or of the text."""
    assert d.span is not None
    partner, text = PARTNER[d.span.text], d.span.source.text
    shown = next((other.span.start for other in d.others), len(text))
    line = text.rfind("\n", 0, d.span.start) + 1
    indent = text[line : len(text) - len(text[line:].lstrip())]
    before = len(text[:shown].rstrip())
    opened = text.find("\n", d.span.start)
    several = partner == "}" and 0 <= opened < before
    closing = f"\n{indent}{partner}" if several else partner
    yield Fix(f"Close it with `{partner}`", (Edit(before, before, closing),), True, to_try=True)
    end = len(text[: opened if opened >= 0 else len(text)].rstrip())
    yield Fix(f"Close it with `{partner}` on its line", (Edit(end, end, partner),), False, to_try=True)


def _line_of(span: Span) -> Edit | None:
    """The whole of a declaration that takes lines of its own."""
    text = span.source.text
    start = text.rfind("\n", 0, span.start) + 1
    end = text.find("\n", span.end)
    end = len(text) if end < 0 else end + 1
    line = text[start:end]
    balanced = all(line.count(opens) == line.count(closes) for opens, closes in PARTNER.items())
    return Edit(start, end, "") if balanced and re.match(r"\s*(let|param)\b", line) else None


def _mends(document: Document, d: Diagnostic, fix: Fix) -> bool:
    text = applied(document.text, fix.edits)
    if text == document.text:
        return False
    after = replace(document, text=text)
    before, now = document.mistakes, after.mistakes
    seen_at_first_sight = any(one.code == d.code and one.span == d.span for one in before)
    if after.misread and not document.misread:
        return False
    if not seen_at_first_sight:  # only the evaluation tells
        return len(now) <= len(before)
    was_form = bool(document.misread)
    if was_form and not after.misread:
        return True
    return len(now) < len(before) or (was_form and _same_place(d, now) is False and len(now) <= len(before))


def _same_place(d: Diagnostic, found: Sequence[Diagnostic]) -> bool:
    assert d.span is not None
    return any(one.span is not None and one.span.line == d.span.line for one in found)
