"""Small operators that detectors need between others."""

from __future__ import annotations

from collections.abc import Sequence

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import LAYERS, a_map, same
from nasdsl.compiler.ops.detector import free, no_arguments
from nasdsl.compiler.ops.operator import KEEPS_ZERO, Attrs, Operator, by_channel
from nasdsl.compiler.values.expr import multiply


def _flatten_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = a_map(inputs[0], "flatten")
    return Shape(multiply(x.channels, x.pixels), None, None, x.scale, x.items)


FLATTEN = Operator(
    name="flatten",
    example=Example("conv(oneof(8, 16), stride: 8)\nflatten()\nlinear(10)", 2),
    params=(),
    shape=_flatten_shape,
    cost=free,
    module=f"{LAYERS}.detection:Flatten",
    arguments=no_arguments,
    identities=KEEPS_ZERO,
    zeros=by_channel,
    doc="a map as a vector, channel by channel",
)

DETACH = Operator(
    name="detach",
    example=Example("conv(16)\nsum(conv(16, kernel: oneof(3, 5)), detach() -> conv(16))", 2),
    params=(),
    shape=same,
    cost=free,
    module=f"{LAYERS}.detection:Detach",
    arguments=no_arguments,
    identities=KEEPS_ZERO._replace(passes=lambda inputs, output, attrs: True),
    zeros=by_channel,
    doc="the input itself, which gets no gradient through here",
)

OPERATORS = (FLATTEN, DETACH)
