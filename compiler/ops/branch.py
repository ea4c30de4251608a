"""Layer norm, layer scale and drop path: what branches of transformers and ConvNeXts have beside linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import EPS, LAYERS, alike_but, leading, same, trimmed
from nasdsl.compiler.ops.operator import KEEPS_ZERO, Attrs, Cost, Identities, Index, Operator, Param, by_channel
from nasdsl.compiler.values.expr import equal, multiply


def _channels(name: str, full: int, small: int) -> dict[str, tuple[Index, ...]]:
    return {name: (leading(full, small),)}


def _norm_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    widths = inputs[0].channels, small_inputs[0].channels
    return trimmed(_channels("norm.weight", *widths) | _channels("norm.bias", *widths))


LAYER_NORM = Operator(
    name="layer_norm",
    example=Example("patches(oneof(16, 32), size: 4)\nlayer_norm()", 2),
    params=(EPS,),
    shape=same,
    cost=lambda inputs, output, attrs: Cost(0, multiply(2, output.channels)),
    module=f"{LAYERS}.branch:LayerNorm",
    arguments=lambda inputs, output, attrs: {"channels": output.channels, "eps": float(attrs["eps"])},
    shares=_norm_shares,
    identities=Identities(keeps_zero=lambda attrs, shift: not shift),
    doc="layer norm: mean 0 and variance 1 over the channels of each place of a map, or of a vector; a learned scale "
    "and shift for each channel",
)


def _scale_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {"channels": output.channels, "init": float(attrs["init"])}


LAYER_SCALE = Operator(
    name="layer_scale",
    example=Example("conv(16)\nresidual { conv(16, kernel: oneof(3, 5)), layer_scale() }", 2),
    params=(Param("init", "number", 1e-5, doc="what each factor is at first", low=-1 << 16, high=1 << 16),),
    shape=same,
    cost=lambda inputs, output, attrs: Cost(0, output.channels),
    module=f"{LAYERS}.branch:LayerScale",
    arguments=_scale_arguments,
    shares=lambda full, small, inputs, small_inputs: trimmed(
        _channels("scale", inputs[0].channels, small_inputs[0].channels)
    ),
    identities=KEEPS_ZERO,
    zeros=partial(alike_but, ("channels", "init")),
    doc="multiplies each channel by a learned factor",
)

DROP_PATH = Operator(
    name="drop_path",
    example=Example("conv(16)\nresidual { conv(16, kernel: oneof(3, 5)), drop_path(1/10) }", 2),
    params=(Param("p", "number", doc="probability that all of an image is set to zero in training", low=0, high=1),),
    shape=same,
    cost=lambda inputs, output, attrs: Cost(),
    module=f"{LAYERS}.branch:DropPath",
    arguments=lambda inputs, output, attrs: {"p": float(attrs["p"])},
    identities=KEEPS_ZERO._replace(passes=lambda inputs, output, attrs: equal(attrs["p"], 0)),
    zeros=by_channel,
    doc="stochastic depth, at the end of a residual branch: leaves it out for an image at random in training",
)

OPERATORS = (LAYER_NORM, LAYER_SCALE, DROP_PATH)
