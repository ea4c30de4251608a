"""Convolutions, shortcuts, squeeze-excite, norms, learned factors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import (
    ACTIVATIONS,
    ALIASES,
    EPS,
    LAYERS,
    MOMENTUM,
    NONE,
    NORM,
    NORM_GROUPS,
    NOT_AT_REST,
    OUT,
    SCALE_INIT,
    STRIDE,
    a_map,
    act_param,
    alike_but,
    any_norm_arguments,
    divides,
    gcd,
    is_plain,
    leading,
    norm_conditions,
    norm_keeps_zero,
    norm_kinds,
    norm_params,
    norm_shares,
    rests_at_zero,
    rounded,
    same,
    strided,
    trimmed,
    word,
    words,
)
from nasdsl.compiler.ops.kernel import (
    area,
    check_kernel,
    check_transformed,
    chosen_kernels,
    kernel_conditions,
    kernel_param,
    largest_kernel,
    nested_kernels,
    plain_kernel,
    same_pixels,
    transforms_of,
)
from nasdsl.compiler.ops.operator import (
    KEEPS_ZERO,
    Attrs,
    Cost,
    Identities,
    Index,
    Made,
    Operator,
    Param,
    ShapeProblem,
    by_channel,
)
from nasdsl.compiler.values.expr import (
    Value,
    add,
    both,
    choose,
    either,
    equal,
    floor_divide,
    less,
    multiply,
    negate,
)
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import options

STEPS = ("conv", "norm", "act")
DILATION = Param("dilation", "positive", 1, doc="distance between the pixels under the kernel")
BIAS = Param("bias", "bool", None, doc="whether the convolution has a bias; by default only where norm is none")
ORDER = Param(
    "order", "list", tuple(Symbol(step) for step in STEPS), doc="order of the three steps, such as [act, conv, norm]"
)

STANDARDISE = Param(
    "standardise", "bool", False, doc="whether each filter is used with mean 0 and variance 1: weight standardisation"
)


TRANSFORM = Param(
    "transform",
    "bool",
    False,
    doc="whether a smaller kernel is made of the middle of the next larger one by a learned matrix (Once-for-All)",
)


def has_bias(attrs: Attrs) -> Value:
    return equal(attrs["norm"], NONE) if attrs["bias"] is None else attrs["bias"]


def keeps_zero(attrs: Attrs, shift: bool) -> Value:
    return both(negate(has_bias(attrs)), norm_keeps_zero(attrs, shift), rests_at_zero(attrs))


def with_norm_and_bias(inputs: Sequence[Shape], attrs: Attrs, greatest: Callable[[Value], Any]) -> dict[str, Any]:
    """Where a choice says whether there is a norm, the weights of both forms."""
    norms = options(attrs["norm"])
    if norms is not None and len(norms) == 1:
        return {}
    (kind,) = norm_kinds(attrs) or ("batch",)
    return {"norm": Symbol(kind), **({"bias": True} if attrs["bias"] is None else {})}


def most_groups(c: int, d: int, columns: int) -> int:
    """The most groups of a convolution from c to d channels whose filters have at least so many columns."""
    common = math.gcd(c, d)
    return next(g for g in range(c // columns, 0, -1) if common % g == 0)


def _depthwise_covers(inputs: Sequence[Shape], attrs: Attrs, greatest: Callable[[Value], Any]) -> dict[str, Any]:
    found = with_norm_and_bias(inputs, attrs, greatest) | largest_kernel(attrs["kernel"], greatest)
    if attrs["transform"]:
        found |= chosen_kernels(attrs["kernel"])
    return found


def _conv_covers(inputs: Sequence[Shape], attrs: Attrs, greatest: Callable[[Value], Any]) -> dict[str, Any]:
    found = _depthwise_covers(inputs, attrs, greatest)
    if not is_plain(attrs["groups"]):
        c, d = inputs[0].channels, attrs["out"]
        found["groups"] = most_groups(greatest(c), greatest(d), greatest(floor_divide(c, attrs["groups"])))
    return found


def _norm_follows(attrs: Attrs) -> bool:
    order = words(attrs["order"])
    return order.index("conv") < order.index("norm")


def _check(attrs: Attrs) -> None:
    if sorted(words(attrs["order"])) != sorted(STEPS):
        raise ShapeProblem("order must name conv, norm and act once each", "order", "for example [act, conv, norm]")
    check_kernel(attrs["kernel"])
    if not is_plain(attrs["transform"]):
        raise ShapeProblem("whether kernels are transformed cannot be chosen", "transform", "write `true` or `false`")
    if attrs["transform"]:
        check_transformed(attrs["kernel"])


def _conv_cost(x: Shape, y: Shape, groups: Value, attrs: Attrs) -> Cost:
    weights = multiply(area(attrs["kernel"]), floor_divide(x.channels, groups), y.channels)
    bias = choose(has_bias(attrs), y.channels, 0)
    width = y.channels if _norm_follows(attrs) else x.channels
    return Cost(multiply(weights, y.pixels), add(weights, bias, norm_params(width, attrs)))


def _conv_arguments(x: Shape, y: Shape, groups: int, attrs: Attrs) -> dict[str, Any]:
    return {
        "inputs": x.channels,
        "outputs": y.channels,
        "kernel": plain_kernel(attrs["kernel"]),
        "stride": attrs["stride"],
        "dilation": attrs["dilation"],
        "groups": groups,
        "act": word(attrs["act"]),
        "bias": bool(has_bias(attrs)),
        "order": words(attrs["order"]),
        "standardise": bool(attrs["standardise"]),
        **({"sizes": sizes} if len(sizes := transforms_of(attrs)) > 1 else {}),
        **any_norm_arguments(y.channels if _norm_follows(attrs) else x.channels, attrs),
    }


def _conv_index(
    full: Attrs, small: Attrs, ins: tuple[int, int], outs: tuple[int, int], groups: tuple[int, int]
) -> dict[str, tuple[Index, ...]]:
    rows = leading(*outs)
    crop = same_pixels(full["kernel"], small["kernel"])
    columns = leading(ins[0] // groups[0], ins[1] // groups[1])
    normed = rows if _norm_follows(full) else leading(*ins)
    index: dict[str, tuple[Index, ...]] = {"conv.weight": (rows, columns, *crop)}
    if small["kernel"] != full["kernel"] and len(transforms_of(full)) > 1:
        index["conv.weight"] = Made((rows, columns, None, None), small["kernel"])
    if has_bias(small):
        index["conv.bias"] = (rows,)
    if word(small["norm"]) != "none":
        index |= norm_shares("norm", normed, word(small["norm"]))
    return trimmed(index)


def _conv_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    _check(attrs)
    return strided(inputs[0], attrs["out"], attrs["stride"])


def _norm_and_filter_conditions(
    x: Shape, y: Shape, groups: Value, attrs: Attrs
) -> Iterator[tuple[Value, ShapeProblem]]:
    yield from kernel_conditions(attrs["kernel"])
    yield from norm_conditions(y if _norm_follows(attrs) else x, attrs)
    weights = multiply(area(attrs["kernel"]), floor_divide(x.channels, groups))
    problem = ShapeProblem("a filter of a single weight has no variance, and cannot be standardised", "standardise")
    yield either(negate(attrs["standardise"]), less(1, weights)), problem


def _conv_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    x, groups = inputs[0], attrs["groups"]
    yield from _norm_and_filter_conditions(x, strided(x, attrs["out"], attrs["stride"]), groups, attrs)
    if groups == 1:
        return
    for whose, width in (("input", inputs[0].channels), ("output", attrs["out"])):
        message = f"the groups do not divide the channels of the {whose} for every choice"
        if is_plain(groups, width):
            message = f"{groups} groups do not divide the {width} channels of the {whose}"
        yield divides(groups, width), ShapeProblem(message, "groups", "choose a common divisor")


def _conv_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    ins = (inputs[0].channels, small_inputs[0].channels)
    return _conv_index(full, small, ins, (full["out"], small["out"]), (full["groups"], small["groups"]))


def _conv_zeros(larger: Mapping[str, Any], smaller: Mapping[str, Any]) -> bool:
    """A channel of zeros goes through batch norm without a shift, which is a weight that is zero, too. Group norm and
    standardised filters look at several channels at once, and a norm in front makes something of channels that a
    smaller input lacks."""
    apart = all(one["groups"] == one["inputs"] == one["outputs"] for one in (larger, smaller))
    after = larger["order"].index("conv") < larger["order"].index("norm") or larger["norm"] == "none"
    return (
        alike_but(("inputs", "outputs", "kernel", "groups"), larger, smaller)
        and (apart or (larger["groups"] == smaller["groups"] == 1 and after))
        and larger["norm"] in ("none", "batch", "frozen")
        and not larger["standardise"]
        and "sizes" not in larger
        and nested_kernels(larger["kernel"], smaller["kernel"], larger["stride"], larger["dilation"])
    )


CONV = Operator(
    name="conv",
    example=Example("conv(oneof(16, 32), kernel: 3, stride: 2)", 2),
    params=(
        OUT,
        kernel_param(1, "side of the square kernel"),
        STRIDE,
        DILATION,
        Param("groups", "positive", 1, doc="groups of channels that are convolved by themselves"),
        NORM,
        act_param("relu"),
        BIAS,
        ORDER,
        NORM_GROUPS,
        STANDARDISE,
        TRANSFORM,
        SCALE_INIT,
        EPS,
        MOMENTUM,
    ),
    shape=_conv_shape,
    must=_conv_must,
    cost=lambda inputs, output, attrs: _conv_cost(inputs[0], output, attrs["groups"], attrs),
    module=f"{LAYERS}.conv:conv_of_sizes",
    arguments=lambda inputs, output, attrs: _conv_arguments(inputs[0], output, attrs["groups"], attrs),
    shares=_conv_shares,
    covers=_conv_covers,
    identities=Identities(keeps_zero=keeps_zero),
    zeros=_conv_zeros,
    doc="convolution, norm, activation",
)


def _depthwise_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    _check(attrs)
    return strided(inputs[0], inputs[0].channels, attrs["stride"])


def _depthwise_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    x = inputs[0]
    return _norm_and_filter_conditions(x, strided(x, x.channels, attrs["stride"]), x.channels, attrs)


def _depthwise_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    widths = (inputs[0].channels, small_inputs[0].channels)
    return _conv_index(full, small, widths, widths, widths)


DEPTHWISE = Operator(
    name="depthwise",
    example=Example("conv(16)\ndepthwise(kernel: oneof(3, 5))", 2),
    params=(
        kernel_param(3, "side of the square kernel"),
        STRIDE,
        DILATION,
        NORM,
        act_param("relu"),
        BIAS,
        ORDER,
        NORM_GROUPS,
        STANDARDISE,
        TRANSFORM,
        SCALE_INIT,
        EPS,
        MOMENTUM,
    ),
    shape=_depthwise_shape,
    must=_depthwise_must,
    cost=lambda inputs, output, attrs: _conv_cost(inputs[0], output, inputs[0].channels, attrs),
    module=f"{LAYERS}.conv:conv_of_sizes",
    arguments=lambda inputs, output, attrs: _conv_arguments(inputs[0], output, inputs[0].channels, attrs),
    shares=_depthwise_shares,
    covers=_depthwise_covers,
    identities=Identities(keeps_zero=keeps_zero),
    zeros=_conv_zeros,
    doc="one convolution for each channel by itself, norm, activation",
)


# --- skip -------------------------------------------------------------------------------------------------------------


def _skip_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = inputs[0]
    if x.height is None and is_plain(attrs["out"], x.channels) and attrs["out"] != x.channels:
        a_map(x, "skip")
    return strided(x, attrs["out"], attrs["stride"])


def _skip_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    x = inputs[0]
    if x.height is None:
        yield equal(attrs["out"], x.channels), ShapeProblem("skip keeps the width of a vector", "out")


def _unchanged(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Value:
    return both(_keeps_size(inputs[0], attrs), equal(inputs[0].channels, output.channels))


def _keeps_size(x: Shape, attrs: Attrs) -> Value:
    return x.height is None or equal(attrs["stride"], 1)


def _skip_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    c, d = inputs[0].channels, output.channels
    weights = choose(_unchanged(inputs, output, attrs), 0, multiply(floor_divide(c, gcd(c, d)), d))
    return Cost(multiply(weights, output.pixels), weights)


def _skip_covers(inputs: Sequence[Shape], attrs: Attrs, greatest: Callable[[Value], Any]) -> dict[str, Any]:
    c, d = inputs[0].channels, attrs["out"]
    if is_plain(c, d, attrs["stride"]):
        return {}
    unchanged = both(_keeps_size(inputs[0], attrs), equal(c, d))
    return {"columns": greatest(choose(unchanged, 0, floor_divide(c, gcd(c, d))))}


def _columns(x: Shape, attrs: Attrs) -> int:
    """Of the filters of a skip; 0 where it passes its input on. Several settings together may need more than each."""
    c, d = x.channels, attrs["out"]
    needed: int = attrs.get("columns", 0 if _keeps_size(x, attrs) and c == d else c // math.gcd(c, d))
    return c // most_groups(c, d, needed) if needed else 0


def _skip_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    columns = _columns(inputs[0], full), _columns(small_inputs[0], small)
    if not columns[1]:
        return {}
    return trimmed({"conv.weight": (leading(full["out"], small["out"]), leading(*columns), None, None)})


def _skip_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    columns = _columns(inputs[0], attrs)
    return {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        "stride": attrs["stride"],
        "groups": inputs[0].channels // columns if columns else 0,
    }


def _skip_zeros(larger: Mapping[str, Any], smaller: Mapping[str, Any]) -> bool:
    """Of one without weights."""
    return larger["groups"] == smaller["groups"] == 0 and larger["stride"] == smaller["stride"]


SKIP = Operator(
    name="skip",
    example=Example("sum(conv(16, kernel: oneof(3, 5), stride: 2), skip(16, stride: 2))", 2),
    params=(OUT, STRIDE),
    shape=_skip_shape,
    must=_skip_must,
    cost=_skip_cost,
    module=f"{LAYERS}.conv:Shortcut",
    arguments=_skip_arguments,
    shares=_skip_shares,
    covers=_skip_covers,
    identities=KEEPS_ZERO._replace(passes=_unchanged),
    zeros=_skip_zeros,
    doc="the input itself, or where stride or width change a grouped 1x1 convolution without norm",
)


# --- squeeze-excite and norm ------------------------------------------------------------------------------------------


def _se_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
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
    example=Example("conv(16)\nse(ratio: oneof(1/4, 1/2))", 2),
    params=(
        Param("ratio", "number", Fraction(1, 4), doc="hidden width as a share of the channels", low=0, high=64),
        Param("hidden", "positive", None, doc="hidden width, in place of a share"),
        Param("act", "symbol", Symbol("relu"), (*ACTIVATIONS, *ALIASES), doc="activation of the hidden layer"),
        Param("gate", "symbol", Symbol("sigmoid"), NOT_AT_REST, doc="function that makes the factors"),
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
    zeros=partial(alike_but, ("channels", "hidden")),
    doc="squeeze-excite: scales every channel by a factor that sees the mean of all channels",
)


def _norm_alone_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    if word(small["norm"]) == "none":
        return {}
    channels = leading(inputs[0].channels, small_inputs[0].channels)
    return trimmed(norm_shares("norm", channels, word(small["norm"])))


def _norm_alone_covers(inputs: Sequence[Shape], attrs: Attrs, greatest: Callable[[Value], Any]) -> dict[str, Any]:
    kinds = norm_kinds(attrs)
    return {"norm": Symbol(kinds[0])} if kinds else {}


def _norm_zeros(larger: Mapping[str, Any], smaller: Mapping[str, Any]) -> bool:
    return alike_but(("channels",), larger, smaller) and larger["norm"] in ("none", "batch", "frozen")


NORM_ALONE = Operator(
    name="norm",
    example=Example("conv(oneof(16, 32), norm: none)\nnorm()", 2),
    params=(NORM, NORM_GROUPS, EPS, MOMENTUM, SCALE_INIT),
    shape=same,
    cost=lambda inputs, output, attrs: Cost(0, norm_params(output.channels, attrs)),
    module=f"{LAYERS}.norm:Norm",
    arguments=lambda inputs, output, attrs: {
        "channels": output.channels,
        "vector": output.height is None,
        **any_norm_arguments(output.channels, attrs),
    },
    shares=_norm_alone_shares,
    must=lambda inputs, attrs: norm_conditions(inputs[0], attrs),
    covers=_norm_alone_covers,
    identities=Identities(
        passes=lambda inputs, output, attrs: equal(attrs["norm"], NONE),
        keeps_zero=norm_keeps_zero,
    ),
    zeros=_norm_zeros,
    doc="a norm by itself",
)

GAIN = Operator(
    name="gain",
    example=Example("conv(16)\nresidual { conv(16, kernel: oneof(3, 5)), gain(1/2) }", 2),
    params=(Param("init", "number", 1, doc="initial value of the factor"),),
    shape=same,
    cost=lambda inputs, output, attrs: Cost(0, 1),
    module=f"{LAYERS}.norm:Gain",
    arguments=lambda inputs, output, attrs: {"init": float(attrs["init"])},
    identities=KEEPS_ZERO,
    zeros=by_channel,
    doc="one learned factor for all values",
)

OPERATORS = (CONV, DEPTHWISE, SKIP, SE, NORM_ALONE, GAIN)
