"""What a picture's signs mean, of those that are in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nasdsl.drawing.faces import INK, LANE_INK, LINE, OPEN, PALE, SMALL_TEXT, face, style_of, swatch, width_of
from nasdsl.drawing.layout import DOT, Placed, Point
from nasdsl.drawing.picture import Bar, Item, Picture

Sample = tuple[str, str, bool]
"""A text as it stands in the picture: its colour, and whether it is bold."""


@dataclass(frozen=True)
class Entry:
    """A sign, and what it means.

    Attributes:
        label, size, style: of a sign that is a box.
        double: whether it has a second line around it.
        sample: of one that is a text.
    """

    words: str
    label: str = ""
    size: Point = (0.0, 0.0)
    style: Mapping[str, str] = field(default_factory=dict)
    double: bool = False
    sample: tuple[Sample, ...] = ()

    @property
    def width(self) -> float:
        sample = sum(width_of(text, SMALL_TEXT, bold) + 3 for text, _, bold in self.sample)
        return (sample or self.size[0]) + 2 + width_of(self.words, SMALL_TEXT) + 4


def entries_of(parts: Sequence[Picture], placed: Placed, colours: Mapping[str, str]) -> list[Entry]:
    """The legend of a picture and its details.

    Args:
        colours: of the operators that permuted blocks can be.
    """
    items = [item for part in parts for item in part.items]
    entries = [*_bars(parts[0], items), *_boxes(items, colours), *_signs(items)]
    if placed.dots:
        look = {"shape": "circle", "style": "filled", "color": OPEN, "fillcolor": "#ffffff"}
        entries.append(Entry("a scale that it may have", "", (DOT, DOT), look))
    return [*entries, *_lines(parts), *_texts(items, [placed, *placed.apart])]


def _boxed(item: Item, words: str) -> Entry:
    if item.bars:
        label, size = swatch(item)
    else:
        label, size = ("", (31.0, 11.0)) if item.kind == "operator" else face(item)
    size = (size[0] + 8, size[1]) if item.ends and item.kind != "operator" else size
    double = {"peripheries": "2"} if item.ends else {}
    return Entry(words, label, size, style_of(item, legend=True) | double, item.ends)


def _bars(scene: Picture, items: Sequence[Item]) -> Iterator[Entry]:
    kinds = dict.fromkeys(bar.kind for item in items for bar in item.bars)
    owner = f"{scene.blocks}: " if scene.blocks else ""
    for kind in sorted(kinds, key=lambda kind: (not kind.isdigit(), int(kind) if kind.isdigit() else 0)):
        words = f"{kind}×{kind} channels" if kind.isdigit() else f"{kind}s"
        yield _boxed(Item(kind, "block", "", 1, "", bars=(Bar(kind, 1, None),)), owner + words)
        owner = ""
    if any(bar.kept is not None and bar.kept < bar.total for item in items for bar in item.bars):
        yield _boxed(Item("removed", "block", "", 1, "", bars=(Bar("removed", 1, 0),)), "removed")


def _boxes(items: Sequence[Item], colours: Mapping[str, str]) -> Iterator[Entry]:
    if any(item.state == "open" for item in items):
        yield _boxed(Item("open", "operator", " ", 1, "", "open"), "holds a choice")
    if any(item.optional for item in items):
        yield _boxed(Item("optional", "operator", " ", 1, "", "fixed", True), "may be left out")
    if any(item.state == "gone" for item in items):
        yield _boxed(Item("gone", "operator", " ", 1, "", "gone"), "left out")
    for kind, colour in colours.items():
        if any(item.kinds == (kind,) for item in items):
            entry = _boxed(Item("kind", "operator", " ", 1, "", kinds=(kind,)), kind)
            yield Entry(entry.words, entry.label, entry.size, {**entry.style, "fillcolor": colour})
    if any(item.ends for item in items):
        yield _boxed(Item("ends", "operator", " ", 1, "", ends=True), "read by what follows the blocks")


def _signs(items: Sequence[Item]) -> Iterator[Entry]:
    found = {item.kind for item in items}
    if "sum" in found:
        yield _boxed(Item("sum", "sum", "sum", 1, ""), "sum")
    if "concat" in found:
        yield _boxed(Item("concat", "concat", "concat", 1, ""), "concatenation")
    if "mean" in found:
        yield _boxed(Item("mean", "mean", "mean", 1, ""), "mean")
    if any(item.kind == "select" and not item.rows for item in items):
        yield _boxed(Item("select", "select", "", 1, ""), "one of these")


def _lines(parts: Sequence[Picture]) -> Iterator[Entry]:
    if any(link.state == "open" for part in parts for link in part.links):
        yield Entry("not in all architectures", sample=(("– –", LINE, False),))
    if any(part.steps for part in parts):
        yield Entry("may follow each other", sample=(("—", OPEN, False),))


def _texts(items: Sequence[Item], placed: Sequence[Placed]) -> Iterator[Entry]:
    options = [taken for item in items for row in item.rows for _, taken in row.options]
    if True in options or False in options:
        left = (("left out", PALE, False),) if False in options else ()
        yield Entry("", sample=(("taken", INK, True), *left))
    counts = [item.count for item in items if item.count]
    counts += [frame.name for one in placed for frame in one.frames]
    if counts:
        yield Entry("so many alike", sample=(("× n", INK, True),))
    notes = " ".join(item.note for item in items)
    for pattern, sign, words in _NOTES:
        if found := re.search(pattern, f" {notes} "):
            yield Entry(words, sample=((sign or found[0].strip(), LINE, False),))
    if any(lane.name[:1].isdigit() for one in placed for lane in one.lanes):
        levels = any("  L" in lane.name for one in placed for lane in one.lanes)
        words = "part of the input's resolution" + (", its level" if levels else "")
        yield Entry(words, sample=(("1/4  L2" if levels else "1/4", LANE_INK, False),))


_NOTES = (
    (r" \d+×\d+ (?=\d)", "3×3 64", "kernel, channels"),
    (r" /\d+", "", "stride"),
    (r" d\d+", "", "dilation"),
    (r" g\d+", "", "groups"),
    (r" (\w+-)*conv(-\w+)+", "", "order of a layer's parts"),
)
"""What stands in notes of layers: a pattern, how the legend writes it where not as it is found, and what it means."""
