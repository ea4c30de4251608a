"""An image with what a network found on it, and, where it is known, with what is true."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nasdsl.runtime.data.images import coloured
from nasdsl.runtime.data.labels import IGNORE
from nasdsl.runtime.found import Found, FoundBoxes, FoundClasses, FoundJoints, FoundMask, Names

Colour = tuple[int, int, int]
Point = tuple[float, float]

LEAST_SIDE = 480
"""Images whose longer side is much smaller are enlarged to about this, so that text has room on them."""
OPACITY = 0.5
"""Of the colour of a class over the image."""
MOST_LISTED = 3
"""Classes that are written under an image."""
LONGEST_NAME = 40
BACKGROUND = "background"
BLACK, WHITE, GREY, RIGHT, WRONG = (0, 0, 0), (255, 255, 255), (110, 110, 110), (0, 110, 40), (190, 20, 20)

FIRST = (
    (230, 57, 70), (29, 120, 216), (42, 157, 63), (255, 159, 28), (145, 70, 200), (0, 170, 180), (240, 98, 190),
    (150, 95, 45), (190, 210, 30), (95, 105, 130), (120, 200, 255), (0, 95, 85),
)  # fmt: skip
"""Colours of the first classes."""
MOST_COLOURS = 256


@cache
def _colours() -> tuple[Colour, ...]:
    """The first ones, and then always the one that is farthest from all before it."""
    hue, strength, brightness = np.meshgrid(np.arange(48) / 48, (0.45, 0.7, 0.95), (0.5, 0.75, 1.0), indexing="ij")
    every = [colorsys.hsv_to_rgb(*one) for one in zip(hue.flat, strength.flat, brightness.flat, strict=True)]
    candidates = np.round(np.array(every) * 255)
    found = [np.array(colour, dtype=float) for colour in FIRST]
    gaps = np.min([np.abs(candidates - colour).sum(1) for colour in found], axis=0)
    while len(found) < MOST_COLOURS:
        found.append(candidates[int(gaps.argmax())])
        gaps = np.minimum(gaps, np.abs(candidates - found[-1]).sum(1))
    return tuple((int(red), int(green), int(blue)) for red, green, blue in found)


def colour_of(label: int) -> Colour:
    """The colour of a class or joint, the same in every picture; after 256 they come again."""
    return _colours()[label % MOST_COLOURS]


def draw(
    image: Image.Image, found: Found, truth: Found | None = None, *, names: Names, score: float = 0.0
) -> Image.Image:
    """The image, enlarged where it is tiny, with what was found on it or under it.

    - classes: the likeliest under it, each with a bar; green or red where the truth is known;
    - a mask: a colour for each class, with the classes and their shares under it; the truth beside it;
    - boxes: with class and score; true ones are dashed;
    - joints: with their links, and their scores under it; true ones are rings.

    Args:
        found: in pixels of the image.
        truth: of the same kind.
        score: joints of a lower score are not drawn.
    """
    picture = coloured(image, 3)
    if isinstance(found, FoundMask):
        assert truth is None or isinstance(truth, FoundMask)
        return _masks(picture, found, truth, names)
    canvas = _Canvas.of(picture)
    if isinstance(found, FoundBoxes):
        assert truth is None or isinstance(truth, FoundBoxes)
        return _boxes(canvas, found, truth, names)
    if isinstance(found, FoundJoints):
        assert truth is None or isinstance(truth, FoundJoints)
        return _joints(canvas, found, truth, names, score)
    assert truth is None or isinstance(truth, FoundClasses)
    return _classes(canvas, found, truth, names)


class _Canvas:
    """An enlarged image to draw on, with sizes of text and lines that suit it."""

    def __init__(self, picture: Image.Image, factor: int) -> None:
        width, height = picture.width * factor, picture.height * factor
        self.picture = picture.resize((width, height), Image.Resampling.NEAREST) if factor > 1 else picture.copy()
        self.factor = factor
        self.pen = ImageDraw.Draw(self.picture)
        self.text = max(14, round(max(width, height) / 45))
        self.line = max(2, round(max(width, height) / 320))
        self.font: Any = ImageFont.load_default(self.text)

    @classmethod
    def of(cls, picture: Image.Image) -> _Canvas:
        return cls(picture, max(1, round(LEAST_SIDE / max(picture.size))))

    def at(self, x: float, y: float) -> Point:
        """A point of the image on the canvas; in both whole numbers are middles of pixels."""
        return (x + 0.5) * self.factor - 0.5, (y + 0.5) * self.factor - 0.5

    def label(self, x: float, y: float, text: str, colour: Colour) -> None:
        """Text on a ground of a colour, its lower left corner at a point, but inside the picture if there is room."""
        pad = max(2, self.text // 7)
        width, height = math.ceil(self.pen.textlength(text, font=self.font)) + 2 * pad, self.text + 3 * pad
        x = min(max(x, 0), max(self.picture.width - width, 0))
        y = min(max(y - height, 0), max(self.picture.height - height, 0))
        self.pen.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        self.pen.text((x + pad, y + height / 2), text, fill=on(colour), font=self.font, anchor="lm")

    def with_below(self, *strips: Image.Image) -> Image.Image:
        """The picture with strips of its width under it."""
        return stacked([self.picture, *strips])


def on(colour: Colour) -> Colour:
    """Black or white, whichever is read better on a colour."""
    red, green, blue = ((part / 255) ** 2.2 for part in colour)
    return BLACK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.25 else WHITE


def short(name: str) -> str:
    """A name that fits on a picture."""
    text = "".join(c if c.isprintable() else "?" for c in name)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other, on white."""
    whole = Image.new("RGB", (max(one.width for one in parts), sum(one.height for one in parts)), WHITE)
    top = 0
    for one in parts:
        whole.paste(one, (0, top))
        top += one.height
    return whole


# --- Boxes ------------------------------------------------------------------------------------------------------------


def _boxes(canvas: _Canvas, found: FoundBoxes, truth: FoundBoxes | None, names: Names) -> Image.Image:
    real = [] if truth is None else [_corners(canvas, box) for box in truth.boxes]
    for left, top, right, bottom in real:
        for start, end in (
            ((left, top), (right, top)), ((right, top), (right, bottom)), ((right, bottom), (left, bottom)),
            ((left, bottom), (left, top)),
        ):  # fmt: skip
            _dashed(canvas, start, end)
    order = range(len(found.labels) - 1, -1, -1)  # the surest lies on top
    for i in order:
        corners = _corners(canvas, found.boxes[i])
        edge = on(colour_of(int(found.labels[i])))  # seen on a ground of its own colour, too
        canvas.pen.rectangle(corners, outline=edge, width=canvas.line + 2)
        inner = (
            corners[0] + 1,
            corners[1] + 1,
            max(corners[2] - 1, corners[0] + 1),
            max(corners[3] - 1, corners[1] + 1),
        )
        canvas.pen.rectangle(inner, outline=colour_of(int(found.labels[i])), width=canvas.line)
    for corners, known in zip(real, [] if truth is None else truth.labels.tolist(), strict=True):
        canvas.label(corners[0], corners[3], short(names.of(known)), BLACK)
    for i in order:
        left, top, _, _ = _corners(canvas, found.boxes[i])
        label = int(found.labels[i])
        canvas.label(left, top, f"{short(names.of(label))} {found.scores[i]:.2f}", colour_of(label))
    return canvas.picture if truth is None else canvas.with_below(_line(canvas, "dashed: truth"))


def _corners(canvas: _Canvas, box: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """The first and last pixels of a box on the canvas, inside of it."""
    left, top, right, bottom = (round(side * canvas.factor) for side in box.tolist())
    width, height = canvas.picture.size
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, max(min(right, width) - 1, left), max(min(bottom, height) - 1, top)


def _dashed(canvas: _Canvas, start: Point, end: Point) -> None:
    """White with black dashes, which is seen on any ground."""
    canvas.pen.line((start, end), fill=WHITE, width=canvas.line)
    length, dash = math.dist(start, end), 4.0 * canvas.line
    for number in range(math.ceil(length / dash / 2)):
        a, b = (min(dash * (2 * number + k) / max(length, 1e-6), 1.0) for k in (0, 1))
        points = [(start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t) for t in (a, b)]
        canvas.pen.line(points, fill=BLACK, width=canvas.line)


# --- Joints -----------------------------------------------------------------------------------------------------------


def _joints(canvas: _Canvas, found: FoundJoints, truth: FoundJoints | None, names: Names, score: float) -> Image.Image:
    assert names.joints is not None
    points = [canvas.at(x, y) for x, y in found.points.tolist()]
    sure = [peak >= score for peak in found.scores.tolist()]
    radius = 2.5 * canvas.line
    for a, b in names.joints.skeleton:
        if sure[a] and sure[b]:
            canvas.pen.line((points[a], points[b]), fill=BLACK, width=canvas.line + 2)
            canvas.pen.line((points[a], points[b]), fill=colour_of(b), width=canvas.line)
    if truth is not None:
        for k, (x, y) in enumerate(truth.points.tolist()):
            if truth.scores[k] > 0:
                real = canvas.at(x, y)
                if sure[k]:
                    canvas.pen.line((real, points[k]), fill=colour_of(k), width=max(1, canvas.line // 2))
                _ring(canvas, real, 1.6 * radius, colour_of(k))
    for k, point in enumerate(points):
        if sure[k]:
            canvas.pen.circle(point, radius + 1, fill=WHITE)
            canvas.pen.circle(point, radius, fill=colour_of(k), outline=BLACK)
    entries = [
        (colour_of(k) if sure[k] else None, f"{short(name)} {found.scores[k]:.2f}")
        for k, name in enumerate(names.joints.names)
    ]
    strips = [_legend(canvas, entries)] + ([_line(canvas, "rings: truth")] if truth is not None else [])
    return canvas.with_below(*strips)


def _ring(canvas: _Canvas, point: Point, radius: float, colour: Colour) -> None:
    canvas.pen.circle(point, radius + 1, outline=WHITE, width=canvas.line + 2)
    canvas.pen.circle(point, radius, outline=colour, width=canvas.line)


# --- Masks ------------------------------------------------------------------------------------------------------------


def class_colours(names: Names) -> list[Colour | None]:
    """Of 256 classes; a background has none, and neither has what is no class."""
    colours: list[Colour | None] = [
        None if name.strip().lower() == BACKGROUND else colour_of(i) for i, name in enumerate(names.classes)
    ]
    return [*colours, *[None] * 256][:256]


def palette(names: Names) -> list[int]:
    """Red, green and blue of 256 classes, as a PNG has them; black for those without a colour."""
    return [part for colour in class_colours(names) for part in colour or BLACK]


def _masks(picture: Image.Image, found: FoundMask, truth: FoundMask | None, names: Names) -> Image.Image:
    canvas = _Canvas.of(overlaid(picture, found, names))
    present = [label for label in np.unique(found.labels).tolist() if label != IGNORE]
    shares = {label: float((found.labels == label).mean()) for label in present}
    shown = canvas.picture
    if truth is not None:
        other = _Canvas.of(overlaid(picture, truth, names)).picture
        gap = 2 * canvas.line
        both = Image.new("RGB", (shown.width + gap + other.width, shown.height + canvas.text * 2), WHITE)
        for title, part, left in (("found", shown, 0), ("truth", other, shown.width + gap)):
            both.paste(part, (left, canvas.text * 2))
            middle = (left + canvas.text // 2, canvas.text)
            ImageDraw.Draw(both).text(middle, title, fill=BLACK, font=canvas.font, anchor="lm")
        shown = both
        for label in np.unique(truth.labels).tolist():
            if label != IGNORE:
                shares.setdefault(label, 0.0)
    colours = class_colours(names)
    entries = [
        (colours[label], f"{short(names.of(label))}: {_share(part)}")
        for label, part in sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
    return stacked([shown, _legend(canvas, entries, shown.width)])


def _share(part: float) -> str:
    return "0 %" if part == 0 else "< 1 %" if part < 0.01 else f"{100 * part:.0f} %"


def overlaid(picture: Image.Image, mask: FoundMask, names: Names) -> Image.Image:
    """The image under the colours of its classes, whose borders are drawn; what has no colour stays as it is."""
    colours = class_colours(names)
    table = np.array([colour or BLACK for colour in colours], dtype=np.float64)[mask.labels]
    there = np.array([colour is not None for colour in colours])[mask.labels][..., None]
    pixels = np.asarray(picture, dtype=np.float64)
    opacity = np.full((*mask.labels.shape, 1), OPACITY)
    if min(mask.labels.shape) >= LEAST_SIDE // 4:  # of a tiny image the borders would be all
        opacity[_borders(mask.labels)] = 1.0
    mixed = np.where(there, pixels * (1 - opacity) + table * opacity, pixels)
    return Image.fromarray(mixed.round().astype(np.uint8))


def _borders(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels (H, W) whose right or lower neighbour has another class."""
    other = np.zeros(labels.shape, dtype=bool)
    other[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    other[:-1] |= labels[:-1] != labels[1:]
    return other


# --- Classes ----------------------------------------------------------------------------------------------------------


def _classes(canvas: _Canvas, found: FoundClasses, truth: FoundClasses | None, names: Names) -> Image.Image:
    real = None if truth is None else int(truth.labels[0])
    rows: list[_Bar] = []
    for label, chance in list(zip(found.labels.tolist(), found.scores.tolist(), strict=True))[:MOST_LISTED]:
        wrong = WRONG if not rows else GREY
        colour = colour_of(1) if real is None else RIGHT if label == real else wrong
        rows.append(_Bar(short(names.of(label)), chance, colour))
    if real is not None and real != int(found.labels[0]):
        rows.append(_Bar(f"truth: {short(names.of(real))}", None, RIGHT))
    return canvas.with_below(_bars(canvas, rows))


@dataclass(frozen=True)
class _Bar:
    """A line of text, on a bar of a length from 0 to 1 where it has one."""

    text: str
    part: float | None
    colour: Colour


def _bars(canvas: _Canvas, rows: Sequence[_Bar]) -> Image.Image:
    height, pad = canvas.text * 2, canvas.text // 2
    strip = Image.new("RGB", (max(canvas.picture.width, canvas.text * 8), height * len(rows) + pad), WHITE)
    pen = ImageDraw.Draw(strip)
    for i, row in enumerate(rows):
        top, middle, right = i * height + pad, i * height + (height + pad) / 2, strip.width - pad
        if row.part is None:
            pen.text((2 * pad, middle), row.text, fill=row.colour, font=canvas.font, anchor="lm")
            continue
        light = tuple(round(255 - (255 - part) * 0.3) for part in row.colour)
        end = pad + max((right - pad) * row.part, 1)
        pen.rectangle((pad, top, right - 1, top + height - pad), fill=(240, 240, 240))
        pen.rectangle((pad, top, end - 1, top + height - pad), fill=light)
        pen.text((2 * pad, middle), row.text, fill=BLACK, font=canvas.font, anchor="lm")
        pen.text((right - pad, middle), f"{row.part:.2f}", fill=BLACK, font=canvas.font, anchor="rm")
    return strip


# --- Strips -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A line of a legend at its place."""

    left: int
    top: int
    colour: Colour | None
    text: str


def _legend(canvas: _Canvas, entries: Sequence[tuple[Colour | None, str]], width: int | None = None) -> Image.Image:
    """Names beside their colours, in as many rows as they take; without a colour they are grey."""
    size, pad = canvas.text, canvas.text // 2
    measured = [math.ceil(canvas.pen.textlength(text, font=canvas.font)) + size + 3 * pad for _, text in entries]
    width = max(width or canvas.picture.width, *measured, 1) if measured else width or canvas.picture.width
    placed: list[_Entry] = []
    left, top = pad, pad
    for (colour, text), room in zip(entries, measured, strict=True):
        if left > pad and left + room - pad > width:
            left, top = pad, top + size + pad
        placed.append(_Entry(left, top, colour, text))
        left += room
    strip = Image.new("RGB", (width, top + size + pad), WHITE)
    pen = ImageDraw.Draw(strip)
    for one in placed:
        square = (one.left, one.top, one.left + size - 1, one.top + size - 1)
        pen.rectangle(square, fill=one.colour, outline=GREY)
        where = (one.left + size + pad // 2, one.top + size / 2)
        pen.text(where, one.text, fill=GREY if one.colour is None else BLACK, font=canvas.font, anchor="lm")
    return strip


def _line(canvas: _Canvas, text: str) -> Image.Image:
    """A line of text."""
    strip = Image.new("RGB", (canvas.picture.width, canvas.text * 2), WHITE)
    ImageDraw.Draw(strip).text((canvas.text // 2, canvas.text), text, fill=BLACK, font=canvas.font, anchor="lm")
    return strip
