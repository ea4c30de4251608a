"""Regions from the maps of a proposal network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import LAYERS
from nasdsl.compiler.ops.detector import (
    PLACED,
    PRIOR,
    RATIOS,
    SCALES,
    STDS,
    Condition,
    anchor_arguments,
    anchors_of,
    beta,
    demand,
    floats,
    free,
    here,
    kinds_of,
    maps_of,
    numbers,
    overlap,
    share,
    strides_of,
    whole_images,
)
from nasdsl.compiler.ops.operator import Attrs, Operator, Param, ShapeProblem
from nasdsl.compiler.values.expr import equal

ROIS = Param("rois", "positive", doc="how many boxes each image gets")
PER_LEVEL = Param("per_level", "positive", 2000, doc="how many boxes of each level enter the suppression, by score")
NMS = Param(
    "nms",
    "number",
    Fraction(7, 10),
    doc="intersection over union above which a better box suppresses another",
    low=0,
    high=1,
)
ACROSS = Param("across", "bool", False, doc="whether boxes suppress those of other levels too")


def _regions(attrs: Attrs) -> Shape:
    return Shape(4, None, None, 1, attrs["rois"])


def _propose_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    yield from anchors_of(attrs, inputs)
    yield from numbers(attrs, "stds", 4)
    anchors = kinds_of(attrs, len(inputs))
    yield from whole_images(inputs, "propose")
    message = f"propose reads one logit and four deltas for each anchor: {anchors} anchors take {5 * anchors} channels"
    for x in inputs:
        yield equal(x.channels, 5 * anchors), ShapeProblem(message + here(x.channels))


def _propose_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    demand(_propose_conditions(maps_of(inputs, "propose"), attrs))
    return _regions(attrs)


def _common_arguments(inputs: Sequence[Shape], attrs: Attrs) -> dict[str, Any]:
    return {
        "strides": strides_of(inputs),
        "rois": attrs["rois"],
        "per_level": attrs["per_level"],
        "nms": float(attrs["nms"]),
        "across": bool(attrs["across"]),
        "stds": floats(attrs["stds"]),
        "learn_rois": attrs["learn_rois"],
        "learn_per_level": attrs["learn_per_level"],
        "above": float(attrs["above"]),
        "below": float(attrs["below"]),
        "count": attrs["count"],
        "beta": float(attrs["beta"]),
    }


LEARNING = (
    Param("learn_rois", "positive", None, doc="how many boxes each image gets in training; by default as many"),
    Param("learn_per_level", "positive", None, doc="per_level in training; by default as many"),
    overlap("above", Fraction(7, 10), "overlap with an object from which an anchor is for it"),
    share("below", Fraction(3, 10), "overlap with any object below which an anchor is background"),
    Param("count", "positive", 256, doc="anchors of an image that are learnt from"),
)


PROPOSE = Operator(
    name="propose",
    example=Example(
        """
        detector {
          backbone: branches(conv(16, stride: 8), conv(16, stride: 16))
          proposals: {
            parallel(share: weights) { concat(conv(3, norm: none, act: none), conv(12, norm: none, act: none)) }
            propose(oneof(100, 200))
          }
          head: rcnn(classes: 3)
        }
    """,
        2,
        input="3 x 64 x 64",
    ),
    params=(
        replace(ROIS, default=1000),
        SCALES,
        RATIOS,
        PER_LEVEL,
        NMS,
        ACROSS,
        STDS,
        *PLACED,
        *LEARNING,
        beta(Fraction(1, 9)),
    ),
    shape=_propose_shape,
    must=_propose_conditions,
    cost=free,
    module=f"{LAYERS}.proposals:Propose",
    arguments=lambda inputs, output, attrs: {
        **_common_arguments(inputs, attrs),
        **anchor_arguments(attrs),
    },
    inputs=-1,
    doc="regions from a proposal network's maps: for each level the logits of all anchors, then four deltas for each",
)


def _guided_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    yield from numbers(attrs, "shape_stds", 2)
    yield from numbers(attrs, "stds", 4)
    yield from whole_images(inputs, "guided_propose")
    message = "guided_propose reads 8 channels: location (1), shape (2), logit (1) and deltas (4)"
    for x in inputs:
        yield equal(x.channels, 8), ShapeProblem(message + here(x.channels))


def _guided_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    demand(_guided_conditions(maps_of(inputs, "guided_propose"), attrs))
    return _regions(attrs)


GUIDED_PROPOSE = Operator(
    name="guided_propose",
    example=Example(
        """
        detector {
          backbone: branches(conv(16, stride: 8), conv(16, stride: 16))
          proposals: {
            parallel(share: weights) { conv(8, norm: none, act: none) }
            guided_propose(oneof(100, 200))
          }
          head: rcnn(classes: 3)
        }
    """,
        2,
        input="3 x 64 x 64",
    ),
    params=(
        replace(ROIS, default=300),
        Param(
            "scale",
            "number",
            8,
            doc="side of the square that becomes an anchor, in pixels of the level",
            above=0,
            high=1 << 16,
        ),
        Param(
            "threshold",
            "number",
            Fraction(1, 100),
            doc="least probability of an object's middle, in evaluation",
            low=0,
            high=1,
        ),
        PER_LEVEL,
        NMS,
        ACROSS,
        Param("shape_stds", "list", (Fraction(14, 100),) * 2, doc="what an anchor's dw, dh are multiplied by"),
        replace(STDS, default=(*[Fraction(7, 100)] * 2, *[Fraction(11, 100)] * 2)),
        *LEARNING,
        beta(1),
        share("inner", Fraction(1, 5), "part of an object's sides that is its middle"),
        share("outer", Fraction(1, 2), "part of an object's sides beyond which its middle is not"),
        Param("shape_weight", "number", Fraction(1, 10), doc="of the loss of the shapes", low=0, high=1 << 16),
        PRIOR,
    ),
    shape=_guided_shape,
    must=_guided_conditions,
    cost=free,
    module=f"{LAYERS}.proposals:GuidedPropose",
    arguments=lambda inputs, output, attrs: {
        **_common_arguments(inputs, attrs),
        "scale": float(attrs["scale"]),
        "threshold": float(attrs["threshold"]),
        "shape_stds": floats(attrs["shape_stds"]),
        **{name: float(attrs[name]) for name in ("inner", "outer", "shape_weight", "prior")},
    },
    inputs=-1,
    doc="regions by guided anchoring: each level's map has location (1), shape (2), logit (1) and deltas (4)",
)

OPERATORS = (PROPOSE, GUIDED_PROPOSE)
