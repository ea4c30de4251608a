"""Patches of maps, and tokens: maps of width 1 whose rows are the tokens, at the scale of the map they come from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import (
    EPS,
    LAYERS,
    OUT,
    a_map,
    alike_but,
    is_plain,
    leading,
    positions,
    strided,
    trimmed,
)
from nasdsl.compiler.ops.operator import (
    LINEAR,
    NONE_KNOWN,
    Attrs,
    Cost,
    Identities,
    Index,
    Operator,
    Param,
    ShapeProblem,
    by_channel,
)
from nasdsl.compiler.values.expr import Value, add, choose, equal, floor_divide, less, multiply, negate
from nasdsl.compiler.values.tree import apply

Conditions = Iterator[tuple[Value, ShapeProblem]]

PREFIX = Param("prefix", "int", 0, doc="tokens in front that have no place on the map, such as a class token", low=0)
HEIGHT = Param("height", "positive", None, doc="rows of the map that the tokens are; by default it is square")


# --- what tokens are --------------------------------------------------------------------------------------------------


def are_tokens(x: Shape) -> bool:
    """Whether a map is a row of tokens, whatever is chosen."""
    return is_plain(x.width) and x.width == 1


def tokens(x: Shape, name: str) -> Shape:
    """The shape of tokens.

    Raises:
        ShapeProblem: it is a vector, or a map that is wider.
    """
    a_map(x, name)
    if not are_tokens(x):
        help = "to_tokens() makes tokens of a map"
        raise ShapeProblem(f"{name} reads tokens, but here it gets a feature map", help=help)
    return x


def grid_of(x: Shape, attrs: Attrs) -> tuple[Value, Value]:
    """Rows and columns of a map, or of the map that tokens are without their prefix.

    Raises:
        ShapeProblem: that is not known.
    """
    if not are_tokens(x):
        return x.height, x.width
    places = add(x.height, multiply(-1, attrs["prefix"]))
    if attrs["height"] is not None:
        return attrs["height"], floor_divide(places, attrs["height"])
    help = "say how many rows the map has, such as `height: 14`"
    if not is_plain(places):
        raise ShapeProblem("how many tokens there are hangs on a choice, and so does their map", "height", help)
    side = math.isqrt(max(places, 0))
    if side * side != places or side == 0:
        less_these = f" behind the first {attrs['prefix']}" if attrs["prefix"] else ""
        raise ShapeProblem(f"{places} tokens{less_these} are no square map", "height", help)
    return side, side


def grid_conditions(x: Shape, attrs: Attrs) -> Conditions:
    """What has to hold of `prefix` and `height`."""
    if not are_tokens(x):
        help = "write `to_tokens()` and `class_token()` before"
        yield equal(attrs["prefix"], 0), ShapeProblem("a map has no prefix, as tokens have", "prefix", help)
        return
    yield less(attrs["prefix"], x.height), ShapeProblem("the prefix leaves no token", "prefix")
    if attrs["height"] is not None:
        rows, places = attrs["height"], add(x.height, multiply(-1, attrs["prefix"]))
        message = "the rows of the map do not divide the tokens for every choice"
        if is_plain(rows, places):
            message = f"{places} tokens are no map of {rows} rows"
        yield apply("divides", rows, places), ShapeProblem(message, "height")


def middle(full: int, small: int) -> Index:
    """The middle `small` of `full` entries; of two that are next to the middle, the first."""
    start = (full - small) // 2
    return positions(range(start, start + small), full)


# --- patches ----------------------------------------------------------------------------------------------------------


def _patches_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    weights = multiply(attrs["size"], attrs["size"], inputs[0].channels, output.channels)
    return Cost(multiply(weights, output.pixels), add(weights, choose(attrs["bias"], output.channels, 0)))


def _patches_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    rows, crop = leading(full["out"], small["out"]), middle(full["size"], small["size"])
    columns = leading(inputs[0].channels, small_inputs[0].channels)
    index: dict[str, tuple[Index, ...]] = {"conv.weight": (rows, columns, crop, crop)}
    if small["bias"]:
        index["conv.bias"] = (rows,)
    return trimmed(index)


PATCHES = Operator(
    name="patches",
    example=Example("patches(32, size: oneof(4, 8))", 2),
    params=(
        OUT,
        Param("size", "positive", 16, doc="side of the square patches; the output has ceil(side / size) a side"),
        Param("bias", "bool", True, doc="whether there is a bias"),
    ),
    shape=lambda inputs, attrs: strided(a_map(inputs[0], "patches"), attrs["out"], attrs["size"]),
    cost=_patches_cost,
    module=f"{LAYERS}.tokens:Patches",
    arguments=lambda inputs, output, attrs: {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        "size": attrs["size"],
        "bias": bool(attrs["bias"]),
    },
    shares=_patches_shares,
    identities=Identities(keeps_zero=lambda attrs, shift: negate(attrs["bias"])),
    zeros=partial(alike_but, ("inputs", "outputs")),
    doc="a linear layer on each patch of a map: a convolution whose stride is its kernel; patches that reach beyond "
    "the map read zeros there",
)


def _merged(x: Shape, attrs: Attrs) -> Value:
    return multiply(2, x.channels) if attrs["out"] is None else attrs["out"]


def _merge_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    four = multiply(4, inputs[0].channels)
    weights = multiply(four, output.channels)
    return Cost(multiply(weights, output.pixels), add(weights, multiply(2, four)))


def _merge_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    many, few = inputs[0].channels, small_inputs[0].channels
    leading(many, few)
    columns = positions([part * many + i for part in range(4) for i in range(few)], 4 * many)
    rows = leading(_merged(inputs[0], full), _merged(small_inputs[0], small))
    return trimmed({"norm.weight": (columns,), "norm.bias": (columns,), "reduce.weight": (rows, columns)})


MERGE_PATCHES = Operator(
    name="merge_patches",
    example=Example("patches(16, size: 4)\nmerge_patches(oneof(32, 48))", 2),
    params=(replace(OUT, default=None, doc="channels of the output; by default twice those of the input"), EPS),
    shape=lambda inputs, attrs: strided(a_map(inputs[0], "merge_patches"), _merged(inputs[0], attrs), 2),
    cost=_merge_cost,
    module=f"{LAYERS}.tokens:MergePatches",
    arguments=lambda inputs, output, attrs: {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        "eps": float(attrs["eps"]),
    },
    shares=_merge_shares,
    identities=Identities(keeps_zero=lambda attrs, shift: not shift),
    doc="patch merging of Swin: the channels of 2 x 2 pixels side by side, layer norm, a linear layer without bias",
)


# --- to tokens and back -----------------------------------------------------------------------------------------------


def _no_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {}


def _free(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    return Cost()


def _to_tokens_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = a_map(inputs[0], "to_tokens")
    return replace(x, height=x.pixels, width=1)


TO_TOKENS = Operator(
    name="to_tokens",
    example=Example("patches(oneof(16, 32), size: 8)\nto_tokens()\nlayer_norm()", 2),
    params=(),
    shape=_to_tokens_shape,
    cost=_free,
    module=f"{LAYERS}.tokens:ToTokens",
    arguments=_no_arguments,
    identities=LINEAR._replace(passes=lambda inputs, output, attrs: equal(inputs[0].width, 1)),
    zeros=by_channel,
    doc="the places of a map as tokens, row by row: a map of width 1",
)


def _to_map_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = tokens(inputs[0], "to_map")
    height, width = grid_of(x, {**attrs, "prefix": 0})
    return replace(x, height=height, width=width)


TO_MAP = Operator(
    name="to_map",
    example=Example("patches(oneof(16, 32), size: 8)\nto_tokens()\nto_map()\nconv(16)", 2),
    params=(replace(HEIGHT, doc="rows of the map; by default it is square"),),
    shape=_to_map_shape,
    must=lambda inputs, attrs: grid_conditions(inputs[0], {**attrs, "prefix": 0}),
    cost=_free,
    module=f"{LAYERS}.tokens:ToMap",
    arguments=lambda inputs, output, attrs: {"height": output.height, "width": output.width},
    identities=LINEAR._replace(passes=lambda inputs, output, attrs: equal(output.width, 1)),
    zeros=by_channel,
    doc="tokens as a map, row by row",
)


# --- tokens in front --------------------------------------------------------------------------------------------------


def _class_token_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = tokens(inputs[0], "class_token")
    return replace(x, height=add(x.height, attrs["count"]))


CLASS_TOKEN = Operator(
    name="class_token",
    example=Example("patches(oneof(16, 32), size: 8)\nto_tokens()\nclass_token()\nglobal_attention(heads: 2)", 2),
    params=(Param("count", "positive", 1, doc="how many: two for distillation as of DeiT, more for registers"),),
    shape=_class_token_shape,
    cost=lambda inputs, output, attrs: Cost(0, multiply(attrs["count"], output.channels)),
    module=f"{LAYERS}.tokens:ClassToken",
    arguments=lambda inputs, output, attrs: {"channels": output.channels, "count": attrs["count"]},
    shares=lambda full, small, inputs, small_inputs: trimmed(
        {
            "token": (
                leading(full["count"], small["count"]),
                leading(inputs[0].channels, small_inputs[0].channels),
            )
        }
    ),
    identities=NONE_KNOWN,
    zeros=partial(alike_but, ("channels",)),
    doc="puts learned tokens in front of the others",
)


FIRST_TOKEN = Operator(
    name="first_token",
    example=Example("patches(oneof(16, 32), size: 8)\nto_tokens()\nclass_token()\nfirst_token()\nlinear(10)", 2),
    params=(),
    shape=lambda inputs, attrs: replace(tokens(inputs[0], "first_token"), height=None, width=None),
    cost=_free,
    module=f"{LAYERS}.tokens:FirstToken",
    arguments=_no_arguments,
    identities=LINEAR,
    zeros=by_channel,
    doc="the first token as a vector: what a class token has gathered",
)


def _patch_tokens_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = tokens(inputs[0], "patch_tokens")
    return replace(x, height=add(x.height, multiply(-1, attrs["skip"])))


def _patch_tokens_must(inputs: Sequence[Shape], attrs: Attrs) -> Conditions:
    yield less(attrs["skip"], inputs[0].height), ShapeProblem("patch_tokens leaves no token", "skip")


PATCH_TOKENS = Operator(
    name="patch_tokens",
    example=Example("patches(oneof(16, 32), size: 8)\nto_tokens()\nclass_token()\npatch_tokens()\nto_map()", 2),
    params=(Param("skip", "positive", 1, doc="how many tokens in front are left out"),),
    shape=_patch_tokens_shape,
    must=_patch_tokens_must,
    cost=_free,
    module=f"{LAYERS}.tokens:PatchTokens",
    arguments=lambda inputs, output, attrs: {"skip": attrs["skip"]},
    identities=LINEAR,
    zeros=by_channel,
    doc="the tokens behind the class token",
)


# --- positions --------------------------------------------------------------------------------------------------------


def _position_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    return a_map(inputs[0], "position_embedding")


def _known_grid(x: Shape, attrs: Attrs) -> tuple[Value, Value]:
    """That of tokens that are a map; 0 x 0 of others."""
    try:
        return grid_of(x, attrs) if are_tokens(x) else (0, 0)
    except ShapeProblem:
        return 0, 0


def _position_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {
        "channels": output.channels,
        "height": output.height,
        "width": output.width,
        "prefix": attrs["prefix"],
        "grid": _known_grid(output, attrs),
    }


def _position_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    """Of a smaller map the middle of the larger one's vectors; of fewer tokens too, where they are maps."""
    (x,), (y,) = inputs, small_inputs
    channels = leading(x.channels, y.channels)
    large, little = _known_grid(x, full), _known_grid(y, small)
    if x.height == y.height or not are_tokens(x) or not all((*large, *little)):
        return trimmed({"embedding": (channels, middle(x.height, y.height), middle(x.width, y.width))})
    first, (tall, wide) = full["prefix"], large
    down, right = (tall - little[0]) // 2, (wide - little[1]) // 2
    rows = [first + (down + i) * wide + right + j for i in range(little[0]) for j in range(little[1])]
    return trimmed({"embedding": (channels, positions([*range(small["prefix"]), *rows], x.height), None)})


POSITION_EMBEDDING = Operator(
    name="position_embedding",
    example=Example("patches(oneof(16, 32), size: 8)\nto_tokens()\nclass_token()\nposition_embedding(prefix: 1)", 2),
    params=(PREFIX, HEIGHT),
    shape=_position_shape,
    must=lambda inputs, attrs: grid_conditions(inputs[0], attrs),
    cost=lambda inputs, output, attrs: Cost(0, multiply(output.channels, output.pixels)),
    module=f"{LAYERS}.tokens:PositionEmbedding",
    arguments=_position_arguments,
    shares=_position_shares,
    identities=NONE_KNOWN,
    zeros=partial(alike_but, ("channels",)),
    doc="adds a learned vector to each place of a map, or to each token. For an image of another size the vectors are "
    "interpolated, as in ViT",
)

OPERATORS = (
    PATCHES,
    MERGE_PATCHES,
    TO_TOKENS,
    TO_MAP,
    CLASS_TOKEN,
    FIRST_TOKEN,
    PATCH_TOKENS,
    POSITION_EMBEDDING,
)
