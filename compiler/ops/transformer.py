"""The lightweight transformer of the HR-NAS paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasdsl.compiler.decision import FixedUnits, Units, count_of
from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import (
    LAYERS,
    NONE,
    OUT,
    STRIDE,
    a_map,
    kept_positions,
    leading,
    norm_shares,
    plain_width,
    positions,
    strided,
    trimmed,
    word,
)
from nasdsl.compiler.ops.operator import Attrs, Cost, Index, Operator, Param, UnitGroup
from nasdsl.compiler.values.expr import Value, add, choose, equal, less, multiply
from nasdsl.compiler.values.plain import Symbol


def _alive(attrs: Attrs) -> Value:
    return less(0, count_of(attrs["tokens"]))


def _position_channels(attrs: Attrs) -> Value:
    return choose(equal(attrs["position"], NONE), 0, 2)


def _shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    return strided(a_map(inputs[0], "transformer"), attrs["out"], attrs["stride"])


def _cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    """HR-NAS paper, lightweight transformer; a token's features are the `size` x `size` pixels."""
    n = count_of(attrs["tokens"])
    width = multiply(attrs["size"], attrs["size"])
    hidden = multiply(attrs["widen"], width)
    layers = choose(attrs["decoder"], 2, 1)
    located = add(inputs[0].channels, _position_channels(attrs))
    projected = choose(equal(attrs["project"], Symbol("before")), inputs[0].pixels, width)
    macs = add(
        multiply(n, located, projected),
        multiply(n, width, output.channels),
        multiply(n, layers, add(multiply(4, width, width), multiply(2, width, hidden))),
        multiply(2, n, n, layers, width),  # the two products of attention
    )
    each = add(located, 2, output.channels, choose(attrs["decoder"], width, 0))  # the last is the token's query
    matrices = add(multiply(4, width, width), multiply(2, width, hidden), multiply(4, width))
    biases = choose(attrs["bias"], add(hidden, width), 0)
    fixed = add(multiply(2, output.channels), multiply(layers, add(matrices, biases)))
    return Cost(macs, add(multiply(n, each), choose(_alive(attrs), fixed, 0)))


def profiled_macs(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Value:
    """What the profiler of the published HR-NAS code tells: n E (c + 2) + n E c' + 4 n E^2 + 2 n^2 E + 4 n, of n tokens
    with E features and c and c' channels.

    It does not see the decoder's attention, which is called by names of arguments alone, and a linear layer on n tokens
    is n MACs to it.
    """
    n = count_of(attrs["tokens"])
    width = multiply(attrs["size"], attrs["size"])
    located = add(inputs[0].channels, _position_channels(attrs))
    projected = choose(equal(attrs["project"], Symbol("before")), inputs[0].pixels, width)
    return add(
        multiply(n, located, projected),
        multiply(n, width, output.channels),
        multiply(4, n, width, width),
        multiply(2, n, n, width),
        multiply(n, choose(attrs["decoder"], 4, 2)),
    )


def _arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        "tokens": plain_width(attrs["tokens"]),
        "stride": attrs["stride"],
        "size": attrs["size"],
        "widen": attrs["widen"],
        "position": word(attrs["position"]),
        "project": word(attrs["project"]),
        "bias": bool(attrs["bias"]),
        "decoder": bool(attrs["decoder"]),
        "decoder_residual": word(attrs["decoder_residual"]),
        "dropout": float(attrs["dropout"]),
    }


def _shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    """A removed token leaves the projection, its norm, the queries and the back projection; the rest stays."""
    n = plain_width(full["tokens"])
    tokens = positions(kept_positions(full["tokens"], small["tokens"]), n)
    rows = leading(full["out"], small["out"])
    many, few = inputs[0].channels, small_inputs[0].channels
    leading(many, few)
    extra = 0 if word(small["position"]) == "none" else 2  # the position's columns stand behind the input's
    located = many + (0 if word(full["position"]) == "none" else 2)
    columns = positions([*range(few), *range(many, many + extra)], located)
    index: dict[str, tuple[Index, ...]] = {
        "project.weight": (tokens, columns, None, None),
        "unproject.weight": (rows, tokens, None, None),
    }
    index |= norm_shares("token_norm", tokens) | norm_shares("output_norm", rows)
    wide, narrow = full["size"] ** 2, small["size"] ** 2
    features = leading(wide, narrow)
    hidden = leading(full["widen"] * wide, small["widen"] * narrow)
    three = positions([part * wide + i for part in range(3) for i in range(narrow)], 3 * wide)
    if small["decoder"]:
        index["queries"] = (tokens, features)
    for layer in ("encoder", "decoder") if small["decoder"] else ("encoder",):
        index[f"{layer}.attention.project_in"] = (three, features)
        index[f"{layer}.attention.project_out.weight"] = (features, features)
        index[f"{layer}.widen.weight"] = (hidden, features)
        index[f"{layer}.narrow.weight"] = (features, hidden)
        if small["bias"]:
            index[f"{layer}.widen.bias"] = (hidden,)
            index[f"{layer}.narrow.bias"] = (features,)
        for norm in ("attention_norm", "feed_norm"):
            index[f"{layer}.{norm}.weight"] = index[f"{layer}.{norm}.bias"] = (features,)
    return trimmed(index)


def _units(attrs: Attrs) -> tuple[UnitGroup, ...]:
    tokens = attrs["tokens"]
    if not isinstance(tokens, Units | FixedUnits) or plain_width(tokens) == 0:
        return ()
    return (UnitGroup(tokens, "token_norm.weight", 0, "token"),)


TRANSFORMER = Operator(
    name="transformer",
    example=Example("conv(16, stride: 2)\ntransformer(16, tokens: units(4))", 15),
    params=(
        OUT,
        STRIDE,
        Param("tokens", "width", doc="how many tokens the input's channels are projected to"),
        Param("size", "positive", 8, doc="side of the map that every token is; it has size * size features"),
        Param("widen", "positive", 1, doc="hidden width of the feed-forward network in multiples of size * size"),
        Param(
            "position",
            "symbol",
            Symbol("centred"),
            ("centred", "unit", "none"),
            doc="position channels: centred (mean 0, variance 1), unit (0 to 1, as in the paper), or none",
        ),
        Param(
            "project",
            "symbol",
            Symbol("after"),
            ("after", "before"),
            doc="projection to tokens after the resize to size x size, or before it at full size as in the paper",
        ),
        Param("bias", "bool", False, doc="whether the feed-forward network has biases"),
        Param("decoder", "bool", True, doc="a second layer, with one learned query for each token"),
        Param(
            "decoder_residual",
            "symbol",
            Symbol("encoder"),
            ("encoder", "query"),
            doc="what the decoder's attention is added to: the encoder's output, or the queries, as in the paper",
        ),
        Param("dropout", "number", 0.1, doc="dropout inside both layers", low=0, high=1),
    ),
    shape=_shape,
    cost=_cost,
    module=f"{LAYERS}.transformer:LightTransformer",
    arguments=_arguments,
    shares=_shares,
    units=_units,
    alive=_alive,
    doc="lightweight transformer: channels become tokens, attention mixes them, they turn back; no identity inside",
)

OPERATORS = (TRANSFORMER,)
