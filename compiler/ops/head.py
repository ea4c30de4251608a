"""Operators at the end of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import LAYERS, OUT, a_map, act_param, alike_but, leading, rests_at_zero, trimmed, word
from nasdsl.compiler.ops.operator import Attrs, Cost, Identities, Index, Operator, Param, ShapeProblem
from nasdsl.compiler.values.expr import Value, add, both, choose, multiply, negate


def _vector(channels: Value, x: Shape) -> Shape:
    return Shape(channels, None, None, x.scale, x.items)


# --- linear -----------------------------------------------------------------------------------------------------------


def _linear_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = inputs[0]
    if x.height is not None:
        raise ShapeProblem(
            "linear reads a vector, but here it gets a feature map",
            help="global_pool() or flatten() makes a vector of a map",
        )
    return _vector(attrs["out"], x)


def _linear_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    weights = multiply(inputs[0].channels, output.channels)
    return Cost(weights, add(weights, choose(attrs["bias"], output.channels, 0)))


def _linear_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    rows = leading(full["out"], small["out"])
    index: dict[str, tuple[Index, ...]] = {
        "linear.weight": (rows, leading(inputs[0].channels, small_inputs[0].channels))
    }
    if small["bias"]:
        index["linear.bias"] = (rows,)
    return trimmed(index)


LINEAR = Operator(
    name="linear",
    example=Example("global_pool()\nlinear(oneof(8, 16), act: relu)\nlinear(10)", 2),
    params=(OUT, act_param("none"), Param("bias", "bool", True, doc="whether there is a bias")),
    shape=_linear_shape,
    cost=_linear_cost,
    module=f"{LAYERS}.head:Linear",
    arguments=lambda inputs, output, attrs: {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        "act": word(attrs["act"]),
        "bias": bool(attrs["bias"]),
    },
    shares=_linear_shares,
    zeros=partial(alike_but, ("inputs", "outputs")),
    identities=Identities(keeps_zero=lambda attrs, shift: both(negate(attrs["bias"]), rests_at_zero(attrs))),
    doc="fully connected layer on a vector",
)


# --- heads that give a vector -----------------------------------------------------------------------------------------


def _classify_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    weights = multiply(inputs[0].channels, output.channels)
    return Cost(weights, add(weights, output.channels))


def _of_pixels(
    name: str, outputs: Param, layer: str, doc: str, example: Example, more: tuple[str, ...] = ()
) -> Operator:
    """A head that gives a vector: mean over all pixels, dropout, linear.

    Args:
        outputs: the parameter that says how many numbers it gives.
        layer: the class of its module.
        more: parameters and buffers of the module that have an entry for each of these numbers, beside the linear
            layer's.
    """

    def shares(
        full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
    ) -> dict[str, tuple[Index, ...]]:
        rows = leading(full[outputs.name], small[outputs.name])
        columns = leading(inputs[0].channels, small_inputs[0].channels)
        return trimmed({"linear.weight": (rows, columns), "linear.bias": (rows,), **dict.fromkeys(more, (rows,))})

    return Operator(
        name=name,
        params=(outputs, Param("dropout", "number", 0, doc="dropout before the linear layer", low=0, high=1)),
        shape=lambda inputs, attrs: _vector(attrs[outputs.name], inputs[0]),
        cost=_classify_cost,
        module=f"{LAYERS}.head:{layer}",
        arguments=lambda inputs, output, attrs: {
            "inputs": inputs[0].channels,
            outputs.name: output.channels,
            "dropout": float(attrs["dropout"]),
        },
        shares=shares,
        zeros=partial(alike_but, ("inputs",)),
        doc=doc,
        example=example,
    )


CLASSIFY = _of_pixels(
    "classify",
    Param("classes", "positive", doc="number of classes"),
    "Classify",
    "head of classification: mean over all pixels, dropout, linear",
    Example("conv(oneof(8, 16), kernel: 3)\nclassify(10)", 2),
)

REGRESS = _of_pixels(
    "regress",
    Param("targets", "positive", 1, doc="how many numbers are predicted"),
    "Regress",
    "head of regression: mean over all pixels, dropout, linear, in the units of the targets",
    Example("flatten()\nlinear(oneof(16, 32), act: relu)\nregress(targets: 1)", 2, input="8 x 1 x 1"),
    ("scale", "shift"),
)


# --- heads that keep the map ------------------------------------------------------------------------------------------


def _pointwise_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    weights = multiply(inputs[0].channels, output.channels)
    return Cost(multiply(weights, output.pixels), add(weights, output.channels))


def _map_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {"inputs": inputs[0].channels, "outputs": output.channels, "norm": "none", "act": "none", "bias": True}


def _map_shares(param: str) -> Callable[..., dict[str, tuple[Index, ...]]]:
    def shares(
        full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
    ) -> dict[str, tuple[Index, ...]]:
        rows = leading(full[param], small[param])
        columns = leading(inputs[0].channels, small_inputs[0].channels)
        return trimmed({"conv.weight": (rows, columns, None, None), "conv.bias": (rows,)})

    return shares


def _map_head(name: str, param: Param, doc: str, example: Example) -> Operator:
    return Operator(
        name=name,
        params=(param,),
        shape=lambda inputs, attrs: a_map(inputs[0], name).with_channels(attrs[param.name]),
        cost=_pointwise_cost,
        module=f"{LAYERS}.conv:Conv",
        arguments=_map_arguments,
        shares=_map_shares(param.name),
        doc=doc,
        example=example,
    )


def _detect3d_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    each = add(attrs["classes"], 7 + 2)
    return a_map(inputs[0], "detect3d").with_channels(multiply(attrs["anchors"], each))


def _detect3d_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    columns = leading(inputs[0].channels, small_inputs[0].channels)
    index: dict[str, tuple[Index, ...]] = {}
    for name, many, few in (
        ("classes", full["anchors"] * full["classes"], small["anchors"] * small["classes"]),
        ("boxes", full["anchors"] * 7, small["anchors"] * 7),
        ("directions", full["anchors"] * 2, small["anchors"] * 2),
    ):
        rows = leading(many, few)
        index[f"{name}.weight"] = (rows, columns, None, None)
        index[f"{name}.bias"] = (rows,)
    return trimmed(index)


DETECT3D = Operator(
    name="detect3d",
    example=Example("conv(oneof(8, 16), kernel: 3, stride: 2)\ndetect3d(classes: 1)", 2),
    params=(
        Param("classes", "positive", doc="number of classes"),
        Param("anchors", "positive", 2, doc="anchors for each pixel"),
    ),
    shape=_detect3d_shape,
    cost=_pointwise_cost,
    module=f"{LAYERS}.head:Detect3d",
    arguments=lambda inputs, output, attrs: {
        "inputs": inputs[0].channels,
        "classes": attrs["classes"],
        "anchors": attrs["anchors"],
    },
    shares=_detect3d_shares,
    doc="head of 3-D detection on a bird's-eye-view map: class scores, boxes and directions for each anchor",
)

OPERATORS = (
    LINEAR,
    CLASSIFY,
    REGRESS,
    _map_head(
        "segment",
        Param("classes", "positive", doc="number of classes"),
        "head of semantic segmentation: 1x1 convolution to class scores for each pixel",
        Example("conv(oneof(8, 16), kernel: 3, stride: 2)\nsegment(19)", 2),
    ),
    _map_head(
        "keypoints",
        Param("joints", "positive", doc="number of keypoints"),
        "head of keypoint estimation: 1x1 convolution to a heat map for each keypoint",
        Example("conv(oneof(8, 16), kernel: 3, stride: 2)\nkeypoints(17)", 2),
    ),
    DETECT3D,
)
