"""The mixed depthwise convolution of the HR-NAS paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasdsl.compiler.decision import FixedUnits, Units, count_of
from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import (
    EPS,
    LAYERS,
    MOMENTUM,
    OUT,
    STRIDE,
    a_map,
    act_param,
    kept_positions,
    leading,
    norm_arguments,
    norm_shares,
    plain_width,
    positions,
    rests_at_zero,
    rounded,
    strided,
    trimmed,
    word,
)
from nasdsl.compiler.ops.operator import Attrs, Cost, Identities, Index, Operator, Param, ShapeProblem, UnitGroup
from nasdsl.compiler.values.expr import Value, add, choose, either, equal, less, multiply


def _counts(attrs: Attrs) -> dict[int, Value]:
    return {kernel: count_of(width) for kernel, width in attrs["hidden"].items()}


def _alive(attrs: Attrs) -> Value:
    return either(*[less(0, n) for n in _counts(attrs).values()])


def _shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    hidden = attrs["hidden"]
    if not isinstance(hidden, Mapping) or not hidden:
        raise ShapeProblem("hidden needs a width for each kernel size", "hidden", "for example { 3: 16, 5: 16 }")
    for kernel in hidden:
        if not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
            raise ShapeProblem(f"a kernel size is an odd number, not {kernel}", "hidden")
    return strided(a_map(inputs[0], "mixconv"), attrs["out"], attrs["stride"])


def _squeeze(x: Shape, attrs: Attrs) -> Value:
    """Hidden width of squeeze-excite, a share of the block's input width; 0 for none."""
    return choose(equal(attrs["se"], 0), 0, rounded(multiply(attrs["se"], x.channels)))


def _cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    """Linear in each kernel's number of channels, so that each term hangs on few decisions.

    HR-NAS paper, searching block.
    """
    x, alive = inputs[0], _alive(attrs)
    squeeze = _squeeze(x, attrs)
    gates = choose(equal(attrs["se"], 0), 0, 1)  # one bias for each gated channel
    macs: list[Value] = []
    params: list[Value] = [choose(alive, add(multiply(2, output.channels), squeeze), 0)]
    for kernel, n in _counts(attrs).items():
        area = kernel * kernel
        macs.append(multiply(n, x.channels, x.pixels))
        macs.append(multiply(n, area, output.pixels))
        macs.append(multiply(n, output.channels, output.pixels))
        macs.append(multiply(2, n, squeeze))
        params.append(multiply(n, add(x.channels, output.channels, area + 4)))
        params.append(multiply(n, add(multiply(2, squeeze), gates)))
    return Cost(add(*macs), add(*params))


def _arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        "hidden": {kernel: plain_width(w) for kernel, w in attrs["hidden"].items() if plain_width(w) > 0},
        "stride": attrs["stride"],
        "act": word(attrs["act"]),
        "squeeze": _squeeze(inputs[0], attrs),
        **norm_arguments(attrs),
    }


def _shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    rows = leading(full["out"], small["out"])
    columns = leading(inputs[0].channels, small_inputs[0].channels)
    starts: dict[int, int] = {}
    total = 0
    for kernel, width in full["hidden"].items():
        starts[kernel] = total
        total += plain_width(width)
    index: dict[str, tuple[Index, ...]] = {}
    hidden: list[int] = []  # positions among the hidden channels of the larger, in the order of the smaller
    for kernel, width in small["hidden"].items():
        kept = kept_positions(full["hidden"][kernel], width)
        hidden += [starts[kernel] + place for place in kept]
        if kept:
            filters = positions(kept, plain_width(full["hidden"][kernel]))
            index[f"depthwise.{kernel}.weight"] = (filters, None, None, None)
    channels = positions(hidden, total)
    index["expand.weight"] = (channels, columns, None, None)
    index["project.weight"] = (rows, channels, None, None)
    index |= (
        norm_shares("expand_norm", channels) | norm_shares("hidden_norm", channels) | norm_shares("project_norm", rows)
    )
    if small["se"] != 0:
        squeeze = leading(_squeeze(inputs[0], full), _squeeze(small_inputs[0], small))
        index["squeeze.reduce.weight"] = (squeeze, channels, None, None)
        index["squeeze.reduce.bias"] = (squeeze,)
        index["squeeze.expand.weight"] = (channels, squeeze, None, None)
        index["squeeze.expand.bias"] = (channels,)
    return trimmed(index)


def _units(attrs: Attrs) -> tuple[UnitGroup, ...]:
    groups: list[UnitGroup] = []
    start = 0
    for kernel, width in attrs["hidden"].items():
        if isinstance(width, Units | FixedUnits) and plain_width(width) > 0:
            groups.append(UnitGroup(width, "hidden_norm.weight", start, "channel", str(kernel)))
        if not isinstance(width, Units | FixedUnits | int):
            break  # a width by choice: what lies behind it has no fixed place
        start += plain_width(width)
    return tuple(groups)


MIXCONV = Operator(
    name="mixconv",
    example=Example("mixconv(16, hidden: { 3: units(4), 5: units(4) })", 255),
    params=(
        OUT,
        STRIDE,
        Param("hidden", "widths", doc="channels for each kernel size, such as { 3: units(72), 5: units(72) }"),
        act_param("relu"),
        Param(
            "se",
            "number",
            0,
            doc="hidden width of squeeze-excite as a share of the input's channels; 0 for none",
            low=0,
            high=64,
        ),
        EPS,
        MOMENTUM,
    ),
    shape=_shape,
    cost=_cost,
    module=f"{LAYERS}.mixconv:MixConv",
    arguments=_arguments,
    shares=_shares,
    units=_units,
    alive=_alive,
    identities=Identities(keeps_zero=lambda attrs, shift: False if shift else rests_at_zero(attrs)),
    doc="1x1 expansion, depthwise convolutions of several kernel sizes, 1x1 projection; no activation at the end; "
    "its norms are of the batch: their scales are what units are worth",
)

OPERATORS = (MIXCONV,)
