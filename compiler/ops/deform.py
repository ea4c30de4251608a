"""Deformable convolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import (
    LAYERS,
    OUT,
    STRIDE,
    act_param,
    centre,
    is_plain,
    leading,
    rests_at_zero,
    strided,
    trimmed,
    word,
)
from nasdsl.compiler.ops.detector import Condition, demand, here, maps_of
from nasdsl.compiler.ops.operator import Attrs, Cost, Identities, Index, Operator, Param, ShapeProblem
from nasdsl.compiler.values.expr import add, both, choose, equal, floor_divide, multiply, negate
from nasdsl.compiler.values.tree import apply


def _deform_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    x, offsets = inputs
    for param in ("groups", "offset_groups"):
        message = f"the {param.replace('_', ' ')} have to divide the channels of the input"
        yield apply("divides", attrs[param], x.channels), ShapeProblem(message + here(attrs[param], x.channels), param)
    message = "the groups have to divide the channels of the output" + here(attrs["groups"], attrs["out"])
    yield apply("divides", attrs["groups"], attrs["out"]), ShapeProblem(message, "groups")
    wanted = multiply(2, attrs["kernel"], attrs["kernel"], attrs["offset_groups"])
    message = "deform_conv needs two offsets for each place under the kernel, in each offset group"
    if is_plain(wanted):
        message += f": {wanted} channels"
    yield equal(offsets.channels, wanted), ShapeProblem(message + here(offsets.channels))
    y = strided(x, attrs["out"], attrs["stride"])
    fits = both(equal(offsets.height, y.height), equal(offsets.width, y.width))
    yield fits, ShapeProblem("deform_conv needs offsets for each pixel of its output, and theirs is another size")
    yield equal(offsets.items, x.items), ShapeProblem("deform_conv needs features and offsets of the same regions")


def _deform_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    if len(inputs) != 2:
        raise ShapeProblem(
            f"deform_conv reads features and offsets, and here it gets {len(inputs)} input{'s'[: len(inputs) != 1]}",
            help="write `branches(features, offsets) -> deform_conv(...)`",
        )
    demand(_deform_conditions(maps_of(inputs, "deform_conv"), attrs))
    return strided(inputs[0], attrs["out"], attrs["stride"])


def _deform_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    """As of a plain convolution; reading between pixels counts as resizing does, nothing."""
    columns = floor_divide(inputs[0].channels, attrs["groups"])
    weights = multiply(attrs["kernel"], attrs["kernel"], columns, output.channels)
    return Cost(multiply(weights, output.pixels), add(weights, choose(attrs["bias"], output.channels, 0)))


def _deform_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    plain = ("kernel", "stride", "dilation", "groups", "offset_groups")
    return {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        **{name: attrs[name] for name in plain},
        "act": word(attrs["act"]),
        "bias": bool(attrs["bias"]),
    }


def _deform_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    rows, crop = leading(full["out"], small["out"]), centre(full["kernel"], small["kernel"])
    columns = leading(inputs[0].channels // full["groups"], small_inputs[0].channels // small["groups"])
    index: dict[str, tuple[Index, ...]] = {"conv.weight": (rows, columns, crop, crop)}
    if small["bias"]:
        index["conv.bias"] = (rows,)
    return trimmed(index)


DEFORM_CONV = Operator(
    name="deform_conv",
    example=Example("x: conv(16)\noffsets: conv(18, act: none)\nbranches(x, offsets)\ndeform_conv(oneof(16, 32))", 2),
    params=(
        OUT,
        Param("kernel", "odd", 3, doc="side of the square kernel"),
        STRIDE,
        Param("dilation", "positive", 1, doc="distance between the pixels under the kernel, before the offsets"),
        Param("groups", "positive", 1, doc="groups of channels that are convolved by themselves"),
        Param("offset_groups", "positive", 1, doc="groups of the input's channels that have offsets of their own"),
        act_param("none"),
        Param("bias", "bool", False, doc="whether there is a bias"),
    ),
    shape=_deform_shape,
    must=_deform_conditions,
    cost=_deform_cost,
    module=f"{LAYERS}.deform:DeformConv",
    arguments=_deform_arguments,
    shares=_deform_shares,
    least=("groups",),
    identities=Identities(keeps_zero=lambda attrs, shift: both(negate(attrs["bias"]), rests_at_zero(attrs))),
    inputs=2,
    doc="deformable convolution of features at offsets, which come second: down, right for each place under the kernel",
)

OPERATORS = (DEFORM_CONV,)
