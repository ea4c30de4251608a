"""Convolutions, shortcuts, squeeze-excite, norms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import (
    ACTIVATIONS,
    EPS,
    LAYERS,
    MOMENTUM,
    NONE,
    NORM,
    OUT,
    SCALE_INIT,
    STRIDE,
    a_map,
    act_param,
    centre,
    check_norm,
    gcd,
    is_plain,
    leading,
    norm_arguments,
    norm_shares,
    rests_at_zero,
    rounded,
    strided,
    trimmed,
    within,
    word,
    words,
)
from nasdsl.compiler.ops.operator import KEEPS_ZERO, Attrs, Cost, Identities, Index, Operator, Param, ShapeProblem
from nasdsl.compiler.values.expr import Value, add, apply, both, choose, equal, floor_divide, multiply, negate
from nasdsl.compiler.values.plain import Symbol

STEPS = ("conv", "norm", "act")
DILATION = Param("dilation", "positive", 1, doc="distance between the pixels under the kernel")
BIAS = Param("bias", "bool", None, doc="whether the convolution has a bias; by default only where norm is none")
ORDER = Param(
    "order", "list", tuple(Symbol(step) for step in STEPS), doc="order of the three steps, such as [act, conv, norm]"
)


def _has_bias(attrs: Attrs) -> Value:
    return equal(attrs["norm"], NONE) if attrs["bias"] is None else attrs["bias"]


def _keeps_zero(attrs: Attrs, shift: bool) -> Value:
    unshifted = equal(attrs["norm"], NONE) if shift else True
    return both(negate(_has_bias(attrs)), unshifted, rests_at_zero(attrs))


def _norm_follows(attrs: Attrs) -> bool:
    order = words(attrs["order"])
    return order.index("conv") < order.index("norm")


def _check(attrs: Attrs) -> None:
    check_norm(attrs)
    if sorted(words(attrs["order"])) != sorted(STEPS):
        raise ShapeProblem("order must name conv, norm and act once each", "order", "for example [act, conv, norm]")


def _conv_cost(x: Shape, y: Shape, groups: Value, attrs: Attrs) -> Cost:
    weights = multiply(attrs["kernel"], attrs["kernel"], floor_divide(x.channels, groups), y.channels)
    bias = choose(_has_bias(attrs), y.channels, 0)
    width = y.channels if _norm_follows(attrs) else x.channels
    norm = choose(equal(attrs["norm"], NONE), 0, multiply(2, width))
    return Cost(multiply(weights, y.pixels), add(weights, bias, norm))


def _conv_arguments(x: Shape, y: Shape, groups: int, attrs: Attrs) -> dict[str, Any]:
    return {
        "inputs": x.channels,
        "outputs": y.channels,
        "kernel": attrs["kernel"],
        "stride": attrs["stride"],
        "dilation": attrs["dilation"],
        "groups": groups,
        "norm": word(attrs["norm"]),
        "act": word(attrs["act"]),
        "bias": bool(_has_bias(attrs)),
        "order": words(attrs["order"]),
        "scale_init": float(attrs["scale_init"]),
        **norm_arguments(attrs),
    }


def _conv_index(
    full: Attrs, small: Attrs, ins: tuple[int, int], outs: tuple[int, int], groups: tuple[int, int]
) -> dict[str, tuple[Index, ...]]:
    rows = leading(*outs)
    crop = centre(full["kernel"], small["kernel"])
    columns = leading(ins[0] // groups[0], ins[1] // groups[1])
    normed = rows if _norm_follows(full) else leading(*ins)
    index: dict[str, tuple[Index, ...]] = {"conv.weight": (rows, columns, crop, crop)}
    if _has_bias(small):
        index["conv.bias"] = (rows,)
    if word(small["norm"]) != "none":
        index |= norm_shares("norm", normed)
    return trimmed(index)


def _conv_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    _check(attrs)
    return strided(inputs[0], attrs["out"], attrs["stride"])


def _conv_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    groups = attrs["groups"]
    if groups == 1:
        return
    for whose, width in (("input", inputs[0].channels), ("output", attrs["out"])):
        message = f"the groups do not divide the channels of the {whose} for every choice"
        if is_plain(groups, width):
            message = f"{groups} groups do not divide the {width} channels of the {whose}"
        yield apply("divides", groups, width), ShapeProblem(message, "groups", "choose a common divisor")


def _conv_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    ins = (inputs[0].channels, small_inputs[0].channels)
    return _conv_index(full, small, ins, (full["out"], small["out"]), (full["groups"], small["groups"]))


CONV = Operator(
    name="conv",
    params=(
        OUT,
        Param("kernel", "odd", 1, doc="side of the square kernel"),
        STRIDE,
        DILATION,
        Param("groups", "positive", 1, doc="groups of channels that are convolved by themselves"),
        NORM,
        act_param("relu"),
        BIAS,
        ORDER,
        SCALE_INIT,
        EPS,
        MOMENTUM,
    ),
    shape=_conv_shape,
    must=_conv_must,
    cost=lambda inputs, output, attrs: _conv_cost(inputs[0], output, attrs["groups"], attrs),
    module=f"{LAYERS}.conv:Conv",
    arguments=lambda inputs, output, attrs: _conv_arguments(inputs[0], output, attrs["groups"], attrs),
    shares=_conv_shares,
    identities=Identities(keeps_zero=_keeps_zero),
    doc="convolution, batch norm, activation",
)


def _depthwise_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    _check(attrs)
    return strided(inputs[0], inputs[0].channels, attrs["stride"])


def _depthwise_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    widths = (inputs[0].channels, small_inputs[0].channels)
    return _conv_index(full, small, widths, widths, widths)


DEPTHWISE = Operator(
    name="depthwise",
    params=(
        Param("kernel", "odd", 3, doc="side of the square kernel"),
        STRIDE,
        DILATION,
        NORM,
        act_param("relu"),
        BIAS,
        ORDER,
        SCALE_INIT,
        EPS,
        MOMENTUM,
    ),
    shape=_depthwise_shape,
    cost=lambda inputs, output, attrs: _conv_cost(inputs[0], output, inputs[0].channels, attrs),
    module=f"{LAYERS}.conv:Conv",
    arguments=lambda inputs, output, attrs: _conv_arguments(inputs[0], output, inputs[0].channels, attrs),
    shares=_depthwise_shares,
    identities=Identities(keeps_zero=_keeps_zero),
    doc="one convolution for each channel by itself, batch norm, activation",
)


# --- skip -------------------------------------------------------------------------------------------------------------


def _skip_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = inputs[0]
    if x.height is None and is_plain(attrs["out"], x.channels) and attrs["out"] != x.channels:
        a_map(x, "skip")
    return strided(x, attrs["out"], attrs["stride"])


def _unchanged(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Value:
    return both(equal(attrs["stride"], 1), equal(inputs[0].channels, output.channels))


def _skip_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    c, d = inputs[0].channels, output.channels
    weights = choose(_unchanged(inputs, output, attrs), 0, multiply(floor_divide(c, gcd(c, d)), d))
    return Cost(multiply(weights, output.pixels), weights)


def _skip_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    ins, outs = (inputs[0].channels, small_inputs[0].channels), (full["out"], small["out"])
    if small["stride"] == 1 and ins[1] == outs[1]:
        return {}
    columns = leading(*(c // gcd(c, d) for c, d in zip(ins, outs, strict=True)))
    return trimmed({"conv.weight": (leading(*outs), columns, None, None)})


SKIP = Operator(
    name="skip",
    params=(OUT, STRIDE),
    shape=_skip_shape,
    cost=_skip_cost,
    module=f"{LAYERS}.conv:Shortcut",
    arguments=lambda inputs, output, attrs: {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        "stride": attrs["stride"],
        "groups": gcd(inputs[0].channels, output.channels),
    },
    shares=_skip_shares,
    identities=KEEPS_ZERO._replace(passes=_unchanged),
    doc="the input itself, or where stride or width change a grouped 1x1 convolution without norm",
)


# --- squeeze-excite and norm ------------------------------------------------------------------------------------------


def _se_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    within(attrs, "ratio", 0, 64)
    return a_map(inputs[0], "se")


def _se_hidden(x: Shape, attrs: Attrs) -> Value:
    return rounded(multiply(attrs["ratio"], x.channels)) if attrs["hidden"] is None else attrs["hidden"]


def _se_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    c, hidden = inputs[0].channels, _se_hidden(inputs[0], attrs)
    products = multiply(2, c, hidden)
    return Cost(products, add(products, hidden, c))


def _se_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    c = leading(inputs[0].channels, small_inputs[0].channels)
    hidden = leading(_se_hidden(inputs[0], full), _se_hidden(small_inputs[0], small))
    return trimmed(
        {
            "reduce.weight": (hidden, c, None, None),
            "reduce.bias": (hidden,),
            "expand.weight": (c, hidden, None, None),
            "expand.bias": (c,),
        }
    )


SE = Operator(
    name="se",
    params=(
        Param("ratio", "number", Fraction(1, 4), doc="hidden width as a share of the channels"),
        Param("hidden", "positive", None, doc="hidden width, in place of a share"),
        Param("act", "symbol", Symbol("relu"), ACTIVATIONS, doc="activation of the hidden layer"),
        Param("gate", "symbol", Symbol("sigmoid"), ("sigmoid", "h_sigmoid"), doc="function that makes the factors"),
    ),
    shape=_se_shape,
    cost=_se_cost,
    module=f"{LAYERS}.conv:SqueezeExcite",
    arguments=lambda inputs, output, attrs: {
        "channels": inputs[0].channels,
        "hidden": _se_hidden(inputs[0], attrs),
        "act": word(attrs["act"]),
        "gate": word(attrs["gate"]),
    },
    shares=_se_shares,
    identities=KEEPS_ZERO,
    doc="squeeze-excite: scales every channel by a factor that sees the mean of all channels",
)


def _norm_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    check_norm(attrs)
    return inputs[0]


NORM_ALONE = Operator(
    name="norm",
    params=(EPS, MOMENTUM, SCALE_INIT),
    shape=_norm_shape,
    cost=lambda inputs, output, attrs: Cost(0, multiply(2, output.channels)),
    module=f"{LAYERS}.conv:Norm",
    arguments=lambda inputs, output, attrs: {
        "channels": output.channels,
        "vector": output.height is None,
        "scale_init": float(attrs["scale_init"]),
        **norm_arguments(attrs),
    },
    shares=lambda full, small, inputs, small_inputs: trimmed(
        norm_shares("norm", leading(inputs[0].channels, small_inputs[0].channels))
    ),
    identities=Identities(keeps_zero=lambda attrs, shift: not shift),
    doc="batch norm by itself",
)

OPERATORS = (CONV, DEPTHWISE, SKIP, SE, NORM_ALONE)
