"""Multi-head self-attention of all with all, and within windows. ViT, AutoFormer and Swin papers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import (
    LAYERS,
    NONE,
    OUT,
    a_map,
    alike_but,
    centre,
    is_plain,
    leading,
    positions,
    trimmed,
    word,
)
from nasdsl.compiler.ops.operator import Attrs, Cost, Identities, Index, Operator, Param, ShapeProblem
from nasdsl.compiler.ops.tokens import HEIGHT, PREFIX, grid_conditions, grid_of
from nasdsl.compiler.values.expr import (
    Value,
    add,
    both,
    ceil_divide,
    choose,
    equal,
    floor_divide,
    less,
    multiply,
    negate,
)
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import apply

Conditions = Iterator[tuple[Value, ShapeProblem]]
BIAS, VECTORS = Symbol("bias"), Symbol("vectors")

HEADS = Param("heads", "positive", doc="parts of the channels that attend by themselves")
DIM = Param("dim", "positive", None, doc="channels of a head; by default those of the input, divided by the heads")
WIDTH = replace(OUT, default=None, doc="channels of the output; by default those of the input")
QKV_BIAS = Param("qkv_bias", "bool", True, doc="whether queries, keys and values have biases")
OUT_BIAS = Param("bias", "bool", True, doc="whether the linear layer behind the heads has a bias")


def _dim(x: Shape, attrs: Attrs) -> Value:
    return floor_divide(x.channels, attrs["heads"]) if attrs["dim"] is None else attrs["dim"]


def _inner(x: Shape, attrs: Attrs) -> Value:
    """Channels of all heads."""
    return multiply(attrs["heads"], _dim(x, attrs))


def _shape(inputs: Sequence[Shape], attrs: Attrs, name: str) -> Shape:
    if not is_plain(attrs["position"]):
        raise ShapeProblem("position cannot be chosen", "position", "let oneof choose between whole operators")
    x = a_map(inputs[0], name)
    return x if attrs["out"] is None else x.with_channels(attrs["out"])


def _heads_conditions(x: Shape, attrs: Attrs) -> Conditions:
    if attrs["dim"] is None:
        heads, width = attrs["heads"], x.channels
        message = "the heads do not divide the channels of the input for every choice"
        if is_plain(heads, width):
            message = f"{heads} heads do not divide the {width} channels of the input"
        yield apply("divides", heads, width), ShapeProblem(message, "heads", "`dim` says how many channels a head has")


def _linear_weights(x: Shape, y: Shape, attrs: Attrs) -> Value:
    inner = _inner(x, attrs)
    return add(multiply(3, x.channels, inner), multiply(inner, y.channels))


def _linear_params(x: Shape, y: Shape, attrs: Attrs) -> Value:
    biases = choose(attrs["qkv_bias"], multiply(3, _inner(x, attrs)), 0), choose(attrs["bias"], y.channels, 0)
    return add(_linear_weights(x, y, attrs), *biases)


def _arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        "heads": attrs["heads"],
        "dim": _dim(inputs[0], attrs),
        "qkv_bias": bool(attrs["qkv_bias"]),
        "bias": bool(attrs["bias"]),
    }


def _covers(inputs: Sequence[Shape], attrs: Attrs, greatest: Callable[[Value], Any]) -> dict[str, Any]:
    """Fewer heads may be wider, so that the greatest width belongs to no architecture with the most heads."""
    return {} if attrs["dim"] is not None else {"dim": greatest(_dim(inputs[0], attrs))}


def _linear_shares(full: Attrs, small: Attrs, x: Shape, y: Shape) -> dict[str, tuple[Index, ...]]:
    """The first heads, and the first channels of each."""
    heads, dim, wide = small["heads"], _dim(y, small), _dim(x, full)
    leading(full["heads"], heads), leading(wide, dim)
    own = positions([head * wide + i for head in range(heads) for i in range(dim)], full["heads"] * wide)
    outs = [shape.channels if attrs["out"] is None else attrs["out"] for shape, attrs in ((x, full), (y, small))]
    index: dict[str, tuple[Index, ...]] = {}
    for part in ("query", "key", "value"):
        index[f"{part}.weight"] = (own, leading(x.channels, y.channels))
        if small["qkv_bias"]:
            index[f"{part}.bias"] = (own,)
    index["project.weight"] = (leading(*outs), own)
    if small["bias"]:
        index["project.bias"] = (leading(*outs),)
    return index


def _keeps_zero(attrs: Attrs, shift: bool) -> Value:
    return both(negate(attrs["qkv_bias"]), negate(attrs["bias"]), negate(equal(attrs["position"], VECTORS)))


# --- all with all -----------------------------------------------------------------------------------------------------


def _global_must(inputs: Sequence[Shape], attrs: Attrs) -> Conditions:
    yield from _heads_conditions(inputs[0], attrs)
    if attrs["position"] != NONE:
        yield from grid_conditions(inputs[0], attrs)


def _global_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    y = _shape(inputs, attrs, "global_attention")
    if attrs["position"] != NONE:
        grid_of(inputs[0], attrs)
    return y


def _vectors(attrs: Attrs) -> Value:
    """How many vectors there are for rows, and as many for columns; for keys, and as many for values."""
    return add(multiply(2, attrs["reach"]), 1, choose(equal(attrs["prefix"], 0), 0, 1))


def _global_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    """Of vectors, each query meets all once, and all are summed up once for each query."""
    x, position = inputs[0], attrs["position"]
    places, inner = x.pixels, _inner(x, attrs)
    macs = add(multiply(places, _linear_weights(x, output, attrs)), multiply(2, places, places, inner))
    params = _linear_params(x, output, attrs)
    if position == VECTORS:
        macs = add(macs, multiply(4, places, _vectors(attrs), inner))
        params = add(params, multiply(4, _vectors(attrs), _dim(x, attrs)))
    elif position == BIAS:
        rows, columns = grid_of(x, attrs)
        offsets = multiply(add(multiply(2, rows), -1), add(multiply(2, columns), -1))
        more = choose(equal(attrs["prefix"], 0), 0, 3)
        params = add(params, multiply(attrs["heads"], add(offsets, more)))
    return Cost(macs, params)


def _global_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    arguments = _arguments(inputs, output, attrs) | {"position": word(attrs["position"])}
    if attrs["position"] != NONE:
        arguments |= {"grid": grid_of(inputs[0], attrs), "prefix": attrs["prefix"]}
    return arguments | ({"reach": attrs["reach"]} if attrs["position"] == VECTORS else {})


def _of_vectors(full: Attrs, small: Attrs) -> Index:
    """The vectors for offsets up to a smaller reach, and that for pairs without a place."""
    before, few = (min(attrs["prefix"], 1) for attrs in (full, small))
    start, count = before + full["reach"] - small["reach"], 2 * small["reach"] + 1
    leading(before, few), leading(full["reach"], small["reach"])
    return positions([*range(few), *range(start, start + count)], before + 2 * full["reach"] + 1)


def _of_offsets(full: tuple[int, int], small: tuple[int, int], heads: Index) -> tuple[Index, ...]:
    return (heads, *[centre(2 * many - 1, 2 * few - 1) for many, few in zip(full, small, strict=True)])


def _global_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    (x,), (y,) = inputs, small_inputs
    index = _linear_shares(full, small, x, y)
    heads = leading(full["heads"], small["heads"])
    if small["position"] == BIAS:
        index["position_bias"] = _of_offsets(grid_of(x, full), grid_of(y, small), heads)
        if small["prefix"]:
            index["prefix_bias"] = (heads, None)
    elif small["position"] == VECTORS:
        taken = _of_vectors(full, small), leading(_dim(x, full), _dim(y, small))
        index |= dict.fromkeys(("key_rows", "key_columns", "value_rows", "value_columns"), taken)
    return trimmed(index)


GLOBAL_ATTENTION = Operator(
    name="global_attention",
    example=Example("patches(32, size: 8)\nto_tokens()\nglobal_attention(heads: oneof(2, 4))", 2),
    params=(
        HEADS,
        DIM,
        WIDTH,
        QKV_BIAS,
        OUT_BIAS,
        Param(
            "position",
            "symbol",
            NONE,
            ("none", "bias", "vectors"),
            doc="how two places lie to each other counts not at all, by a number for each offset and head (BEiT), "
            "or by vectors that meet queries and join values (AutoFormer)",
        ),
        replace(PREFIX, doc="tokens in front that have no place on the map, such as a class token; for `position`"),
        replace(HEIGHT, doc="rows of the map that the tokens are, by default a square one; for `position`"),
        Param("reach", "positive", 14, doc="of vectors: how far apart rows or columns are that have one of their own"),
    ),
    shape=_global_shape,
    must=_global_must,
    cost=_global_cost,
    module=f"{LAYERS}.self_attention:GlobalAttention",
    arguments=_global_arguments,
    shares=_global_shares,
    covers=_covers,
    identities=Identities(keeps_zero=_keeps_zero),
    zeros=partial(alike_but, ("inputs", "outputs", "heads")),
    doc="multi-head self-attention of each place of a map, or of each token, to all; no norm",
)


# --- within windows ---------------------------------------------------------------------------------------------------


def _window(x: Shape, attrs: Attrs) -> tuple[Value, Value]:
    """Height and width of the windows: on a smaller map, those of the map."""
    return apply("min", attrs["window"], x.height), apply("min", attrs["window"], x.width)


def _window_must(inputs: Sequence[Shape], attrs: Attrs) -> Conditions:
    yield from _heads_conditions(inputs[0], attrs)
    message = "the shift has to be less than the window"
    yield less(attrs["shift"], attrs["window"]), ShapeProblem(message, "shift", "Swin shifts by half of the window")


def _window_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    """Windows that reach beyond the map count as others do."""
    x = inputs[0]
    tall, wide = _window(x, attrs)
    seen = multiply(tall, wide)
    pixels = multiply(ceil_divide(x.height, tall), ceil_divide(x.width, wide), seen)
    products = multiply(2, pixels, seen, _inner(x, attrs))
    offsets = multiply(add(multiply(2, tall), -1), add(multiply(2, wide), -1), attrs["heads"])
    biases = choose(equal(attrs["position"], BIAS), offsets, 0)
    macs = add(multiply(x.pixels, _linear_weights(x, output, attrs)), products)
    return Cost(macs, add(_linear_params(x, output, attrs), biases))


def _window_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return _arguments(inputs, output, attrs) | {
        "window": _window(inputs[0], attrs),
        "shift": attrs["shift"],
        "position": attrs["position"] == BIAS,
    }


def _window_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    (x,), (y,) = inputs, small_inputs
    index = _linear_shares(full, small, x, y)
    if small["position"] == BIAS:
        heads = leading(full["heads"], small["heads"])
        index["position_bias"] = _of_offsets(_window(x, full), _window(y, small), heads)
    return trimmed(index)


WINDOW_ATTENTION = Operator(
    name="window_attention",
    example=Example("patches(32, size: 4)\nwindow_attention(heads: oneof(2, 4), window: 4)", 2),
    params=(
        HEADS,
        Param("window", "positive", 7, doc="side of the square windows; a smaller map is one window"),
        Param("shift", "int", 0, doc="how many pixels down and right the windows begin", low=0),
        DIM,
        WIDTH,
        QKV_BIAS,
        OUT_BIAS,
        Param(
            "position",
            "symbol",
            BIAS,
            ("none", "bias"),
            doc="how two pixels lie to each other counts by a number for each offset and head, or not at all",
        ),
    ),
    shape=lambda inputs, attrs: _shape(inputs, attrs, "window_attention"),
    must=_window_must,
    cost=_window_cost,
    module=f"{LAYERS}.self_attention:WindowAttention",
    arguments=_window_arguments,
    shares=_window_shares,
    covers=_covers,
    identities=Identities(keeps_zero=_keeps_zero),
    zeros=partial(alike_but, ("inputs", "outputs", "heads")),
    doc="multi-head self-attention of each pixel to the window that it lies in, of windows that divide the map, as in "
    "Swin; no norm",
)

OPERATORS = (GLOBAL_ATTENTION, WINDOW_ATTENTION)
