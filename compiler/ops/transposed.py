"""Transposed convolution, which makes a map larger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import (
    EPS,
    LAYERS,
    MOMENTUM,
    NORM,
    NORM_GROUPS,
    OUT,
    SCALE_INIT,
    a_map,
    act_param,
    alike_but,
    any_norm_arguments,
    divides,
    is_plain,
    leading,
    norm_conditions,
    norm_params,
    norm_shares,
    trimmed,
    word,
)
from nasdsl.compiler.ops.conv import BIAS, has_bias, keeps_zero, most_groups, with_norm_and_bias
from nasdsl.compiler.ops.kernel import (
    area,
    check_kernel,
    kernel_conditions,
    kernel_param,
    largest_kernel,
    plain_kernel,
    sides,
)
from nasdsl.compiler.ops.operator import Attrs, Cost, Identities, Index, Operator, Param, ShapeProblem
from nasdsl.compiler.values.expr import Value, add, at_most, choose, floor_divide, multiply


def _shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    check_kernel(attrs["kernel"])
    x, stride = a_map(inputs[0], "conv_transpose"), attrs["stride"]
    height, width = multiply(x.height, stride), multiply(x.width, stride)
    return Shape(attrs["out"], height, width, multiply(x.scale, stride), x.items)


def _must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    x, stride, groups = inputs[0], attrs["stride"], attrs["groups"]
    yield from kernel_conditions(attrs["kernel"])
    for side in dict.fromkeys(sides(attrs["kernel"])):
        message = "a side of the kernel is smaller than the stride for some choice: nothing reaches the pixels between"
        if is_plain(side, stride):
            message = f"a kernel of side {side} leaves out pixels at stride {stride}"
        yield at_most(stride, side), ShapeProblem(message, "kernel", "its sides are at least the stride")
    yield from norm_conditions(_shape(inputs, attrs), attrs)
    for whose, width in (("input", x.channels), ("output", attrs["out"])):
        message = f"the groups do not divide the channels of the {whose} for every choice"
        if is_plain(groups, width):
            message = f"{groups} groups do not divide the {width} channels of the {whose}"
        if groups != 1:
            yield divides(groups, width), ShapeProblem(message, "groups", "choose a common divisor")


def _cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    """Every pixel of the input is multiplied by all weights of its group."""
    columns = floor_divide(output.channels, attrs["groups"])
    weights = multiply(area(attrs["kernel"]), inputs[0].channels, columns)
    bias = choose(has_bias(attrs), output.channels, 0)
    return Cost(multiply(weights, inputs[0].pixels), add(weights, bias, norm_params(output.channels, attrs)))


def _arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        "kernel": plain_kernel(attrs["kernel"]),
        "stride": attrs["stride"],
        "groups": attrs["groups"],
        "act": word(attrs["act"]),
        "bias": bool(has_bias(attrs)),
        **any_norm_arguments(output.channels, attrs),
    }


def _before(side: int, stride: int) -> int:
    """Pixels under the kernel before those that are kept."""
    return (side - stride + 1) // 2


def _crop(full: int, small: int, stride: int) -> Index:
    """The entries of a side that reach the same pixels as those of a smaller one."""
    if small > full:
        raise ValueError(f"{small} of {full} entries")
    start = _before(full, stride) - _before(small, stride)
    return None if small == full else slice(start, start + small)


def _shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    rows = leading(inputs[0].channels, small_inputs[0].channels)
    columns = leading(full["out"] // full["groups"], small["out"] // small["groups"])
    pairs = zip(sides(full["kernel"]), sides(small["kernel"]), strict=True)
    crop = [_crop(*pair, small["stride"]) for pair in pairs]
    width = leading(full["out"], small["out"])
    index: dict[str, tuple[Index, ...]] = {"conv.weight": (rows, columns, *crop)}
    if has_bias(small):
        index["conv.bias"] = (width,)
    if word(small["norm"]) != "none":
        index |= norm_shares("norm", width, word(small["norm"]))
    return trimmed(index)


def _covers(inputs: Sequence[Shape], attrs: Attrs, greatest: Callable[[Value], Any]) -> dict[str, Any]:
    found = with_norm_and_bias(inputs, attrs, greatest) | largest_kernel(attrs["kernel"], greatest)
    if not is_plain(attrs["groups"]):
        c, d = inputs[0].channels, attrs["out"]
        found["groups"] = most_groups(greatest(d), greatest(c), greatest(floor_divide(d, attrs["groups"])))
    return found


def _zeros(larger: Mapping[str, Any], smaller: Mapping[str, Any]) -> bool:
    """As of a convolution, without groups."""
    return (
        alike_but(("inputs", "outputs", "kernel"), larger, smaller)
        and larger["groups"] == 1
        and larger["norm"] in ("none", "batch", "frozen")
    )


CONV_TRANSPOSE = Operator(
    name="conv_transpose",
    example=Example("conv(16, stride: 2)\nconv_transpose(8, kernel: oneof(2, 4), stride: 2)", 2),
    params=(
        OUT,
        kernel_param(2, "side of the square kernel, at least the stride"),
        Param("stride", "positive", 2, doc="the output has size * stride pixels", high=64),
        Param("groups", "positive", 1, doc="groups of channels that are convolved by themselves"),
        NORM,
        act_param("relu"),
        BIAS,
        NORM_GROUPS,
        SCALE_INIT,
        EPS,
        MOMENTUM,
    ),
    shape=_shape,
    must=_must,
    cost=_cost,
    module=f"{LAYERS}.transposed:TransposedConv",
    arguments=_arguments,
    shares=_shares,
    covers=_covers,
    identities=Identities(keeps_zero=keeps_zero),
    zeros=_zeros,
    doc="transposed convolution, which makes a map larger by the stride; norm, activation",
)

OPERATORS = (CONV_TRANSPOSE,)
