"""Operators that change the spatial size and have no weights, and those that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import LAYERS, STRIDE, a_map, is_plain, same, strided, word
from nasdsl.compiler.ops.kernel import check_kernel, kernel_conditions, kernel_param, plain_kernel, sides
from nasdsl.compiler.ops.operator import (
    KEEPS_ZERO,
    LINEAR,
    Attrs,
    Cost,
    Identities,
    Operator,
    Param,
    ShapeProblem,
    by_channel,
)
from nasdsl.compiler.values.expr import Value, at_most, both, choose, divide, either, equal, less, multiply
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import apply, options

MODES = ("nearest", "bilinear")


def _free(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    return Cost()


def _no_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {}


# --- resize -----------------------------------------------------------------------------------------------------------


def _factor(x: Shape, attrs: Attrs) -> Value:
    """By how much the size grows: `to` itself where it is above 1, else the way from the input's scale to `to`."""
    if is_plain(attrs["to"]) and attrs["to"] <= 0:
        raise ShapeProblem(f"a scale is above 0, not {attrs['to']}", "to", "such as 1/4")
    return choose(_is_factor(attrs["to"]), attrs["to"], divide(attrs["to"], x.scale))


def _is_factor(to: Value) -> Value:
    possible = options(to)
    return less(1, to) if possible is None or any(value > 1 for value in possible) else False


def _resized(x: Shape, attrs: Attrs) -> Shape:
    to, factor = attrs["to"], _factor(x, attrs)
    height, width = (apply("ceil", multiply(n, factor)) for n in (x.height, x.width))
    return Shape(x.channels, height, width, choose(_is_factor(to), multiply(x.scale, to), to), x.items)


def _upsample_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = a_map(inputs[0], "upsample")
    factor = _factor(x, attrs)
    if is_plain(factor) and factor < 1:
        raise ShapeProblem(
            f"upsample makes a map larger, but scale {attrs['to']} is coarser than the input's {x.scale}",
            "to",
            "use resize, max_pool or a stride",
        )
    return _resized(x, attrs)


def _upsample_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    yield from _above_zero(inputs, attrs)
    scale, to = inputs[0].scale, attrs["to"]
    problem = ShapeProblem("upsample makes a map larger, and here the scale is coarser than the input's", "to")
    yield either(_is_factor(to), at_most(scale, to)), problem


def _above_zero(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    yield less(0, attrs["to"]), ShapeProblem("a scale is above 0, whatever is chosen", "to", "such as 1/4")


def _resize_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = a_map(inputs[0], "resize")
    return _resized(x, attrs)


def _resize_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    factor = Fraction(_factor(inputs[0], attrs))
    return {"numerator": factor.numerator, "denominator": factor.denominator, "mode": word(attrs["mode"])}


def _resizing(
    name: str,
    mode: str,
    shape: Callable[[Sequence[Shape], Attrs], Shape],
    doc: str,
    must: Callable[[Sequence[Shape], Attrs], Iterable[tuple[Value, ShapeProblem]]],
    example: Example,
) -> Operator:
    return Operator(
        name=name,
        params=(
            Param("to", "number", doc="scale of the output, such as 1/4; above 1 a factor"),
            Param("mode", "symbol", Symbol(mode), MODES, doc="how values between pixels are made"),
        ),
        shape=shape,
        must=must,
        cost=_free,
        module=f"{LAYERS}.resample:Resize",
        arguments=_resize_arguments,
        identities=LINEAR._replace(passes=lambda inputs, output, attrs: equal(_factor(inputs[0], attrs), 1)),
        zeros=by_channel,
        doc=doc,
        example=example,
    )


# --- pooling ----------------------------------------------------------------------------------------------------------


def _pool_stride(x: Shape, attrs: Attrs) -> Value:
    return attrs["stride"] if attrs["to"] is None else divide(x.scale, attrs["to"])


def _pool_shape(name: str) -> Callable[[Sequence[Shape], Attrs], Shape]:
    def shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
        x = a_map(inputs[0], name)
        if attrs["kernel"] is not None:
            check_kernel(attrs["kernel"])
        stride = _pool_stride(x, attrs)
        if is_plain(stride) and Fraction(stride).denominator != 1:
            raise ShapeProblem(
                f"{name} cannot bring scale {x.scale} to {attrs['to']}: it divides the size by a whole number",
                "to",
                "upsample makes a map larger",
            )
        y = strided(x, x.channels, stride)
        return y if attrs["to"] is None else replace(y, scale=attrs["to"])

    return shape


def _pool_must(name: str) -> Callable[[Sequence[Shape], Attrs], Iterator[tuple[Value, ShapeProblem]]]:
    def must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
        if attrs["kernel"] is not None:
            yield from kernel_conditions(attrs["kernel"])
        if attrs["to"] is not None:
            stride = _pool_stride(inputs[0], attrs)
            message = f"{name} cannot bring a map to a scale that is finer, or coarser by no whole number"
            problem = ShapeProblem(message, "to", "upsample makes a map larger")
            yield equal(stride, apply("max", 1, apply("floor", stride))), problem

    return must


def _pool_arguments(kind: str) -> Callable[[Sequence[Shape], Shape, Attrs], dict[str, Any]]:
    def arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
        stride = int(_pool_stride(inputs[0], attrs))
        default = 3 if attrs["to"] is None else stride
        kernel = default if attrs["kernel"] is None else plain_kernel(attrs["kernel"])
        return {"kind": kind, "kernel": kernel, "stride": stride}

    return arguments


def _pool_passes(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Value:
    stride = _pool_stride(inputs[0], attrs)
    kernel = attrs["kernel"] if attrs["kernel"] is not None else 3 if attrs["to"] is None else stride
    return both(*[equal(side, 1) for side in sides(kernel)], equal(stride, 1))


def _pool(kind: str, doc: str, example: Example) -> Operator:
    name = f"{kind}_pool"
    return Operator(
        name=name,
        params=(
            kernel_param(None, "side of the window, by default 3, with `to` the same as the stride"),
            STRIDE,
            Param("to", "scale", None, doc="scale of the output, instead of a stride"),
        ),
        shape=_pool_shape(name),
        must=_pool_must(name),
        cost=_free,
        module=f"{LAYERS}.resample:Pool",
        arguments=_pool_arguments(kind),
        identities=(LINEAR if kind == "avg" else KEEPS_ZERO)._replace(passes=_pool_passes),
        zeros=by_channel,
        doc=doc,
        example=example,
    )


def _global_pool_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = a_map(inputs[0], "global_pool")
    return Shape(x.channels, None, None, x.scale, x.items)


GLOBAL_POOL = Operator(
    name="global_pool",
    example=Example("conv(oneof(8, 16))\nglobal_pool()\nlinear(10)", 2),
    params=(),
    shape=_global_pool_shape,
    cost=_free,
    module=f"{LAYERS}.resample:GlobalPool",
    arguments=_no_arguments,
    identities=LINEAR,
    zeros=by_channel,
    doc="mean over all pixels; gives a vector",
)


# --- grids and sizes of other maps ------------------------------------------------------------------------------------


def _adaptive_pool_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = a_map(inputs[0], "adaptive_pool")
    return Shape(x.channels, attrs["bins"], attrs["bins"], multiply(x.scale, divide(attrs["bins"], x.height)), x.items)


ADAPTIVE_POOL = Operator(
    name="adaptive_pool",
    example=Example("conv(oneof(8, 16))\nadaptive_pool(2)\nflatten()\nlinear(10)", 2),
    params=(Param("bins", "positive", doc="the output has so many times so many pixels, whatever the input's size"),),
    shape=_adaptive_pool_shape,
    cost=_free,
    module=f"{LAYERS}.resample:AdaptivePool",
    arguments=lambda inputs, output, attrs: {"bins": attrs["bins"]},
    identities=LINEAR,
    zeros=by_channel,
    doc="mean over the parts of a grid of so many times so many",
)


def _resize_like_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x, like = inputs[0], a_map(inputs[1], "resize_like")
    return Shape(x.channels, like.height, like.width, like.scale, x.items)


def _resize_like_must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    x, like = inputs
    yield equal(x.items, like.items), ShapeProblem("resize_like needs inputs of which an image gives as many")


RESIZE_LIKE = Operator(
    name="resize_like",
    example=Example("a: conv(16)\nb: conv(16, stride: oneof(2, 4))\nbranches(b, a)\nresize_like()", 2),
    params=(Param("mode", "symbol", Symbol("bilinear"), MODES, doc="how values between pixels are made"),),
    shape=_resize_like_shape,
    must=_resize_like_must,
    cost=_free,
    module=f"{LAYERS}.resample:ResizeLike",
    arguments=lambda inputs, output, attrs: {"mode": word(attrs["mode"])},
    inputs=2,
    zeros=by_channel,
    doc="brings its first input to the size of the second: resizes a map, spreads a vector over all pixels",
)


# --- nothing ----------------------------------------------------------------------------------------------------------

IDENTITY = Operator(
    name="identity",
    example=Example("conv(16)\noneof(identity(), conv(16, kernel: 3))", 2),
    params=(),
    shape=same,
    cost=_free,
    module=f"{LAYERS}.activation:Activation",
    arguments=lambda inputs, output, attrs: {"name": "none"},
    identities=KEEPS_ZERO._replace(passes=lambda inputs, output, attrs: True),
    zeros=by_channel,
    doc="the input itself",
)

ZERO = Operator(
    name="zero",
    example=Example("conv(16)\nsum(identity(), oneof(zero(), conv(16)))", 2),
    params=(STRIDE,),
    shape=lambda inputs, attrs: strided(inputs[0], inputs[0].channels, attrs["stride"]),
    cost=_free,
    module=f"{LAYERS}.resample:Zero",
    arguments=lambda inputs, output, attrs: {"stride": 1 if inputs[0].height is None else attrs["stride"]},
    identities=Identities(zero=True),
    zeros=by_channel,
    doc="a tensor of zeros, which unlike `none` is there",
)


DROPOUT = Operator(
    name="dropout",
    example=Example("conv(oneof(8, 16))\nglobal_pool()\ndropout(1/5)\nlinear(10)", 2),
    params=(Param("p", "number", doc="probability that a value is set to zero in training", low=0, high=1),),
    shape=same,
    cost=_free,
    module=f"{LAYERS}.activation:Dropout",
    arguments=lambda inputs, output, attrs: {"p": float(attrs["p"])},
    identities=KEEPS_ZERO,
    zeros=by_channel,
    doc="sets values to zero at random in training",
)

OPERATORS = (
    _resizing(
        "upsample",
        "nearest",
        _upsample_shape,
        "makes a map larger",
        _upsample_must,
        Example("conv(16, stride: 4)\nupsample(to: oneof(1/2, 1/1))", 2),
    ),
    _resizing(
        "resize",
        "bilinear",
        _resize_shape,
        "brings a map to another scale, finer or coarser",
        _above_zero,
        Example("conv(8, stride: 2)\nresize(to: oneof(1/1, 1/4))", 2),
    ),
    _pool(
        "max",
        "maximum over windows",
        Example("conv(8)\nmax_pool(oneof(3, 5), stride: 2)", 2),
    ),
    _pool(
        "avg",
        "mean over windows",
        Example("conv(8)\navg_pool(oneof(3, 5), stride: 2)", 2),
    ),
    GLOBAL_POOL,
    ADAPTIVE_POOL,
    RESIZE_LIKE,
    IDENTITY,
    ZERO,
    DROPOUT,
)
