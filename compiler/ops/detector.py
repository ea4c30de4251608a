"""What several operators of detectors ask of their inputs and parameters.

Boxes are tensors of four channels with as many items for each image as there are boxes. Regions count as images of
their own: their scale is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import a_map, is_plain
from nasdsl.compiler.ops.operator import Attrs, Cost, Param, ShapeProblem
from nasdsl.compiler.values.expr import Value, at_most, both, equal, is_kind, less
from nasdsl.compiler.values.tree import Expr

Condition = tuple[Value, ShapeProblem]
"""What has to hold for every choice, and what to say where it does not."""


def free(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    return Cost()


def no_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {}


# --- checks -----------------------------------------------------------------------------------------------------------


def demand(conditions: Iterator[Condition]) -> None:
    """
    Raises:
        ShapeProblem: a condition does not hold, whatever is chosen.
    """
    for condition, problem in conditions:
        if condition is False:
            raise problem


def numbers(attrs: Attrs, name: str, length: int | None = None, high: int = 1 << 16) -> Iterator[Condition]:
    """That a parameter is a list of positive numbers, as many as there have to be, and none above `high`."""
    items = attrs[name]
    if not items or (length is not None and len(items) != length):
        wanted = "one or more" if length is None else str(length)
        yield False, ShapeProblem(f"{name} is a list of {wanted} numbers, and this has {len(items)}", name)
    for item in items:
        held = is_kind(item, "number")
        if held is not False:
            held = both(held, less(0, item), at_most(item, high))
        shown = "" if isinstance(item, Expr) else f", and {item} is none"
        yield held, ShapeProblem(f"{name} holds numbers above 0 and at most {high:,}{shown}", name)


def here(*values: Value) -> str:
    """What there is, at the end of a message; nothing where that depends on decisions, of which an example is shown."""
    return f", and here are {' and '.join(map(str, values))}" if is_plain(*values) else ""


def maps_of(inputs: Sequence[Shape], name: str, least: int = 1) -> Sequence[Shape]:
    """The shapes of maps.

    Raises:
        ShapeProblem: one is a vector, or there are too few.
    """
    if len(inputs) < least:
        raise ShapeProblem(f"{name} reads the maps of one level or more")
    return [a_map(x, name) for x in inputs]


def whole_images(maps: Sequence[Shape], name: str) -> Iterator[Condition]:
    for x in maps:
        yield equal(x.items, 1), ShapeProblem(f"{name} reads maps of whole images, and this is one of regions")


def are_boxes(x: Shape, name: str) -> Iterator[Condition]:
    if x.height is not None:
        raise ShapeProblem(f"{name} reads boxes, but here it gets a feature map", help="boxes come from propose()")
    yield equal(x.channels, 4), ShapeProblem(f"{name} reads boxes of 4 numbers{here(x.channels)}")


def strides_of(maps: Sequence[Shape]) -> tuple[float, ...]:
    """Pixels of the input along one of the map, plain."""
    found = [1 / Fraction(x.scale) for x in maps]
    return tuple(int(stride) if stride.denominator == 1 else float(stride) for stride in found)


def floats(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


# --- parameters that several have -------------------------------------------------------------------------------------

NEARLY = Fraction(99, 100)

STDS = Param("stds", "list", (1, 1, 1, 1), doc="what dx, dy, dw, dh are multiplied by")
SCALES = Param("scales", "list", (8,), doc="sides of the anchors, in pixels of the level")
RATIOS = Param("ratios", "list", (Fraction(1, 2), 1, 2), doc="height over width of the anchors")
PLACED = (
    Param("sizes", "list", (), doc="instead of scales, sides of the anchors in pixels of the input, level by level"),
    Param("offset", "number", Fraction(1, 2), doc="where in a pixel anchors stand: 1/2 in its middle", low=0, high=1),
    Param("rounded", "bool", False, doc="whether corners of an anchor around 0 are rounded to whole pixels"),
)
"""Besides scales and ratios, what says which anchors there are."""
PRIOR = Param("prior", "number", Fraction(1, 100), doc="probability that a logit of 0 stands for", above=0, high=NEARLY)


def share(name: str, default: Fraction, doc: str) -> Param:
    """A parameter from 0 to 1."""
    return Param(name, "number", default, doc=doc, low=0, high=1)


def beta(default: Fraction | int) -> Param:
    doc = "error of a delta below which the loss is quadratic"
    return Param("beta", "number", default, doc=doc, low=0, high=1 << 16)


def overlap(name: str, default: Fraction, doc: str) -> Param:
    """A parameter above 0, up to 1."""
    return Param(name, "number", default, doc=doc, above=0, high=1)


def anchors_of(attrs: Attrs, maps: Sequence[Shape]) -> Iterator[Condition]:
    """That scales, sizes and ratios make anchors."""
    yield from numbers(attrs, "ratios")
    if attrs["sizes"]:
        yield from numbers(attrs, "sizes")
        if len(attrs["sizes"]) % max(len(maps), 1):
            found = f"{len(attrs['sizes'])} sizes are not as many for each of {len(maps)} levels"
            yield False, ShapeProblem(found, "sizes")
        for x in maps:  # one that is left out counts as a map without pixels
            message = "sizes are said level by level, so that no choice may leave a level out"
            yield less(0, x.height), ShapeProblem(message, "sizes", "scales are the same for all levels")
    else:
        yield from numbers(attrs, "scales")


def anchor_arguments(attrs: Attrs) -> dict[str, Any]:
    """Scales, ratios and `PLACED`, plain."""
    lists = {name: floats(attrs[name]) for name in ("scales", "ratios", "sizes")}
    return {**lists, "offset": float(attrs["offset"]), "rounded": bool(attrs["rounded"])}


def kinds_of(attrs: Attrs, levels: int) -> int:
    """Anchors at one pixel."""
    squares = len(attrs["sizes"]) // max(levels, 1) if attrs["sizes"] else len(attrs["scales"])
    return squares * len(attrs["ratios"])
