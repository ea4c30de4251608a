"""Local and axial self-attention. TrioNet paper, operators, cost of the stand-alone models, Multi-Head Sharing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import (
    LAYERS,
    NONE,
    STRIDE,
    a_map,
    centre,
    is_plain,
    leading,
    positions,
    strided,
    trimmed,
    word,
)
from nasdsl.compiler.ops.operator import KEEPS_ZERO, Attrs, Cost, Index, Operator, Param, ShapeProblem
from nasdsl.compiler.values.expr import Value, add, choose, equal, floor_divide, multiply
from nasdsl.compiler.values.plain import Symbol
from nasdsl.compiler.values.tree import apply

OUT = Param("out", "positive", doc="width that qk and value are shares of; the output has value * out channels")
QK = Param("qk", "number", 1, doc="channels of the queries, and of the keys, as a share of out", above=0, high=64)
VALUE = Param(
    "value", "number", 1, doc="channels of the values, and so of the output, as a share of out", above=0, high=64
)
HEADS = Param("heads", "positive", 8, doc="parts of the channels that attend by themselves")
POSITION = Param(
    "position",
    "symbol",
    Symbol("shared"),
    ("shared", "per_head", "none"),
    doc="learned vectors for relative offsets, which meet the queries: one set for all heads, one for each, or none",
)
SHARING = Param(
    "sharing",
    "symbol",
    Symbol("by_head"),
    ("by_head", "interleaved", "prefix"),
    doc="which channels of wider attention narrower attention has: of each head's part the first (the paper's "
    "Multi-Head Sharing), the first with heads that take turns, or the first whatever their head",
)
WINDOW = Param("window", "odd", 7, doc="side of the square of pixels that a pixel attends to")


def _query(attrs: Attrs) -> Value:
    """Channels of the queries over all heads; the keys have as many."""
    return multiply(attrs["qk"], attrs["out"])


def _value(attrs: Attrs) -> Value:
    return multiply(attrs["value"], attrs["out"])


def _widths(attrs: Attrs) -> tuple[Value, Value]:
    return _query(attrs), _value(attrs)


def _shape(inputs: Sequence[Shape], attrs: Attrs, name: str) -> Shape:
    for param in ("position", "sharing"):
        if not is_plain(attrs[param]):
            raise ShapeProblem(f"{param} cannot be chosen", param, "let oneof choose between whole operators")
    return strided(a_map(inputs[0], name), _value(attrs), attrs["stride"])


def _must(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[tuple[Value, ShapeProblem]]:
    heads, share = attrs["heads"], attrs.get("share")
    shared = isinstance(share, Symbol) and share != NONE
    if shared and word(attrs["sharing"]) == "by_head" and not is_plain(heads) and not is_plain(*_widths(attrs)):
        # Eight heads have other channels of a wider attention than four, so no narrower one has them for both.
        message = "steps that share weights cannot choose heads and widths where channels are shared by head"
        yield False, ShapeProblem(message, "share", "write `sharing: interleaved`")
    for name, width, whose in (("qk", _query(attrs), "query"), ("value", _value(attrs), "value")):
        message = f"the heads do not divide the {whose} channels for every choice"
        if is_plain(heads, width):
            message = f"{heads} heads do not divide {width} {whose} channels"
        help = f"there are {name} * out {whose} channels"
        yield apply("divides", heads, width), ShapeProblem(message, "heads", help)


# --- cost -------------------------------------------------------------------------------------------------------------


def _located(attrs: Attrs) -> Value:
    """How many products of queries there are in a logit: with the key, and with the offset's vector."""
    return choose(equal(attrs["position"], NONE), 1, 2)


def _vectors(attrs: Attrs) -> Value:
    """Weights for each offset."""
    own = choose(
        equal(attrs["position"], Symbol("per_head")), _query(attrs), floor_divide(_query(attrs), attrs["heads"])
    )
    return choose(equal(attrs["position"], NONE), 0, own)


def _projections(inputs: Value, attrs: Attrs) -> Value:
    return add(multiply(2, inputs, _query(attrs)), multiply(inputs, _value(attrs)))


def _attention(seen: Value, attrs: Attrs) -> Value:
    """MACs of a pixel that attends to `seen` pixels: queries by keys and offsets, weights by values."""
    return add(multiply(_located(attrs), seen, _query(attrs)), multiply(seen, _value(attrs)))


def _local_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    """At the input's resolution. Pixels beyond the border count as if they were there."""
    x = inputs[0]
    weights, offsets = _projections(x.channels, attrs), multiply(attrs["window"], attrs["window"])
    macs = add(multiply(x.pixels, weights), multiply(x.pixels, _attention(offsets, attrs)))
    return Cost(macs, add(weights, multiply(offsets, _vectors(attrs))))


def _axial_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    x = inputs[0]
    weights = add(_projections(x.channels, attrs), _projections(_value(attrs), attrs))
    offsets = add(multiply(2, x.height), multiply(2, x.width), -2)  # 2 * span - 1 of each axis
    seen = add(x.height, x.width)
    macs = add(multiply(x.pixels, weights), multiply(x.pixels, _attention(seen, attrs)))
    return Cost(macs, add(weights, multiply(offsets, _vectors(attrs))))


# --- arguments --------------------------------------------------------------------------------------------------------


def _arguments(inputs: Sequence[Shape], attrs: Attrs) -> dict[str, Any]:
    return {
        "inputs": inputs[0].channels,
        "query": _query(attrs),
        "value": _value(attrs),
        "heads": attrs["heads"],
        "stride": attrs["stride"],
        "position": word(attrs["position"]),
        "interleaved": word(attrs["sharing"]) == "interleaved",
    }


def _local_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {**_arguments(inputs, attrs), "window": attrs["window"]}


def _axial_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {**_arguments(inputs, attrs), "height": inputs[0].height, "width": inputs[0].width}


# --- sharing ----------------------------------------------------------------------------------------------------------


def of_each_head(full: int, small: int, heads: int) -> Index:
    """Multi-Head Sharing (TrioNet paper): of `full` channels in as many equal groups as there are heads, the first
    `small / heads` of each. So a channel stays in its head when heads get narrower.

    Heads that do not divide `full`, which comes from another choice, get groups that are equal up to one channel.
    """
    if small > full:
        raise ValueError(f"{small} of {full} entries")
    return positions([head * full // heads + i for head in range(heads) for i in range(small // heads)], full)


def _index(
    prefix: str, columns: Index, crop: tuple[Index, ...], full: Attrs, small: Attrs
) -> dict[str, tuple[Index, ...]]:
    """What a narrower attention has of the projections and of the vectors, of whose offsets `crop` says which.

    Whatever reads the output has leading columns. With interleaved heads the picked rows lead too, so that a channel
    meets one and the same column under every choice; by head, the d channels of head h meet the columns from h * d, and
    these move with d. The paper leaves open which columns it means.
    """
    heads = small["heads"]
    widths = zip(_widths(full), _widths(small), strict=True)
    by_head = word(small["sharing"]) == "by_head"
    query, value = (of_each_head(*pair, heads) if by_head else leading(*pair) for pair in widths)
    index: dict[str, tuple[Index, ...]] = {
        f"{prefix}query.weight": (query, columns, None, None),
        f"{prefix}key.weight": (query, columns, None, None),
        f"{prefix}value.weight": (value, columns, None, None),
    }
    if word(small["position"]) == "per_head":
        index[f"{prefix}offsets"] = (query, *crop)
    elif word(small["position"]) == "shared":
        index[f"{prefix}offsets"] = (leading(-(-_query(full) // full["heads"]), _query(small) // heads), *crop)
    return index


def _local_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    columns = leading(inputs[0].channels, small_inputs[0].channels)
    crop = centre(full["window"], small["window"])
    return trimmed(_index("", columns, (crop, crop), full, small))


def _axial_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    (x,), (y,) = inputs, small_inputs
    height, width = (centre(2 * a - 1, 2 * b - 1) for a, b in ((x.height, y.height), (x.width, y.width)))
    columns = leading(x.channels, y.channels), leading(_value(full), _value(small))
    first = _index("height.", columns[0], (height,), full, small)
    return trimmed(first | _index("width.", columns[1], (width,), full, small))


# --- operators --------------------------------------------------------------------------------------------------------

LOCAL_ATTENTION = Operator(
    name="local_attention",
    example=Example("conv(16)\nlocal_attention(16, window: oneof(3, 5), heads: 4)", 2),
    params=(OUT, WINDOW, QK, VALUE, HEADS, STRIDE, POSITION, SHARING),
    shape=lambda inputs, attrs: _shape(inputs, attrs, "local_attention"),
    cost=_local_cost,
    module=f"{LAYERS}.attention:LocalAttention",
    arguments=_local_arguments,
    shares=_local_shares,
    must=_must,
    least=("heads",),
    identities=KEEPS_ZERO,
    doc="self-attention of each pixel to the window around it, without what lies beyond the border; no norm, no "
    "activation, no bias",
)

AXIAL_ATTENTION = Operator(
    name="axial_attention",
    example=Example("conv(16)\naxial_attention(16, heads: oneof(2, 4))", 2),
    params=(OUT, QK, VALUE, HEADS, STRIDE, POSITION, SHARING),
    shape=lambda inputs, attrs: _shape(inputs, attrs, "axial_attention"),
    cost=_axial_cost,
    module=f"{LAYERS}.attention:AxialAttention",
    arguments=_axial_arguments,
    shares=_axial_shares,
    must=_must,
    least=("heads",),
    identities=KEEPS_ZERO,
    doc="self-attention of each pixel to its column, then to its row; no norm, no activation, no bias. A map of "
    "another size than the space's runs too: offsets that are farther than any on that have the vector of the farthest",
)

OPERATORS = (LOCAL_ATTENTION, AXIAL_ATTENTION)
