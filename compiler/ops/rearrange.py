"""Operators that move values between channels and pixels, or leave some out, and have no weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import LAYERS, a_map, divides, is_plain, strided
from nasdsl.compiler.ops.operator import LINEAR, Attrs, Cost, Operator, Param, ShapeProblem, by_channel
from nasdsl.compiler.values.expr import Value, add, at_most, both, equal, floor_divide, multiply

Condition = tuple[Value, ShapeProblem]


def _free(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    return Cost()


def _factor_alone(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {"factor": attrs["factor"]}


def _passes_at_one(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Value:
    return equal(attrs["factor"], 1)


FACTOR = Param("factor", "positive", 2, doc="side of the blocks", high=64)


# --- space to depth and back ------------------------------------------------------------------------------------------


def _to_depth_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x, factor = a_map(inputs[0], "space_to_depth"), attrs["factor"]
    return strided(x, multiply(x.channels, factor, factor), factor)


SPACE_TO_DEPTH = Operator(
    name="space_to_depth",
    example=Example("space_to_depth(oneof(2, 4))\nconv(16)", 2),
    params=(FACTOR,),
    shape=_to_depth_shape,
    cost=_free,
    module=f"{LAYERS}.rearrange:SpaceToDepth",
    arguments=_factor_alone,
    identities=LINEAR._replace(passes=_passes_at_one),
    zeros=by_channel,
    doc="makes channels of blocks of pixels, each channel's together; the size is divided, rounded up with zeros",
)


def _to_space_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x, factor = a_map(inputs[0], "depth_to_space"), attrs["factor"]
    channels = floor_divide(x.channels, multiply(factor, factor))
    height, width = multiply(x.height, factor), multiply(x.width, factor)
    return Shape(channels, height, width, multiply(x.scale, factor), x.items)


def _to_space_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    channels, pixels = inputs[0].channels, multiply(attrs["factor"], attrs["factor"])
    message = "depth_to_space makes blocks of channels, and they do not divide the channels for every choice"
    if is_plain(channels, pixels):
        message = f"depth_to_space makes blocks of {pixels} channels, which do not divide {channels}"
    yield divides(pixels, channels), ShapeProblem(message, "factor")


DEPTH_TO_SPACE = Operator(
    name="depth_to_space",
    example=Example("conv(16)\ndepth_to_space(oneof(2, 4))\nconv(8)", 2),
    params=(FACTOR,),
    shape=_to_space_shape,
    must=_to_space_must,
    cost=_free,
    module=f"{LAYERS}.rearrange:DepthToSpace",
    arguments=_factor_alone,
    identities=LINEAR._replace(passes=_passes_at_one),
    zeros=by_channel,
    doc="makes blocks of pixels of channels, the way back from space_to_depth (pixel shuffle)",
)


# --- channels ---------------------------------------------------------------------------------------------------------


def _channels_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    end, width = add(attrs["skip"], attrs["out"]), inputs[0].channels
    message = "channels takes more than there are, for some choice"
    if is_plain(end, width):
        message = f"channels takes numbers {attrs['skip'] + 1} to {end}, and {width} come in"
    yield at_most(end, width), ShapeProblem(message, "out")


CHANNELS = Operator(
    name="channels",
    example=Example("conv(16, kernel: oneof(1, 3))\nsum(channels(8), channels(8, skip: 8))", 2),
    params=(
        Param("out", "positive", doc="how many, next to each other"),
        Param("skip", "int", 0, doc="channels before them that are left out"),
    ),
    shape=lambda inputs, attrs: inputs[0].with_channels(attrs["out"]),
    must=_channels_must,
    cost=_free,
    module=f"{LAYERS}.rearrange:Channels",
    arguments=lambda inputs, output, attrs: {"count": attrs["out"], "skip": attrs["skip"]},
    identities=LINEAR._replace(passes=lambda inputs, output, attrs: equal(attrs["out"], inputs[0].channels)),
    zeros=by_channel,
    doc="some of the channels: `channels(8)` the first eight, `channels(8, skip: 8)` the next eight",
)


def _shuffle_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    groups, width = attrs["groups"], inputs[0].channels
    message = "the groups do not divide the channels for every choice"
    if is_plain(groups, width):
        message = f"{groups} groups do not divide {width} channels"
    yield divides(groups, width), ShapeProblem(message, "groups", "choose a divisor of the channels")


def _shuffle_passes(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Value:
    return equal(attrs["groups"], 1)


SHUFFLE = Operator(
    name="shuffle",
    example=Example("conv(16)\nshuffle(oneof(2, 4))", 2),
    params=(Param("groups", "positive", 2, doc="parts of the channels that are mixed"),),
    shape=lambda inputs, attrs: inputs[0],
    must=_shuffle_must,
    cost=_free,
    module=f"{LAYERS}.rearrange:Shuffle",
    arguments=lambda inputs, output, attrs: {"groups": attrs["groups"]},
    identities=LINEAR._replace(passes=_shuffle_passes),
    doc="channels in another order: the first of each group, then the second of each (channel shuffle)",
)


# --- shift ------------------------------------------------------------------------------------------------------------


def _columns(attrs: Attrs) -> Value:
    return attrs["rows"] if attrs["columns"] is None else attrs["columns"]


SHIFT = Operator(
    name="shift",
    example=Example("conv(16)\nshift(oneof(0, 1))", 2),
    params=(
        Param("rows", "int", 1, doc="pixels that the map moves up", high=4095),
        Param("columns", "int", None, doc="pixels that it moves to the left; by default as many as rows", high=4095),
    ),
    shape=lambda inputs, attrs: a_map(inputs[0], "shift"),
    cost=_free,
    module=f"{LAYERS}.rearrange:Shift",
    arguments=lambda inputs, output, attrs: {"rows": attrs["rows"], "columns": _columns(attrs)},
    identities=LINEAR._replace(
        passes=lambda inputs, output, attrs: both(equal(attrs["rows"], 0), equal(_columns(attrs), 0))
    ),
    zeros=by_channel,
    doc="the map without its first rows and columns, and as many zeros behind: what a stride then reads lies between",
)

OPERATORS = (SPACE_TO_DEPTH, DEPTH_TO_SPACE, CHANNELS, SHUFFLE, SHIFT)
