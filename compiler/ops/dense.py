"""Heads without regions: every anchor of every level is a detection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import LAYERS, is_plain, word
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
from nasdsl.compiler.ops.regions import LEAST, MOST, SUPPRESS, detections
from nasdsl.compiler.values.expr import both, equal, multiply
from nasdsl.compiler.values.plain import Symbol

OCTAVE = (4, Fraction("5.0396842"), Fraction("6.3496042"))
"""Three sides of an octave from 4 on: 4 * 2^(n / 3). Focal Loss paper."""


def _conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    levels, classes = len(inputs) // 2, attrs["classes"]
    yield from anchors_of(attrs, inputs[:levels])
    yield from numbers(attrs, "stds", 4)
    yield from whole_images(inputs, "detect_dense")
    kinds = kinds_of(attrs, levels)
    for logits, deltas in zip(inputs[:levels], inputs[levels:], strict=True):
        message = f"detect_dense reads a logit of each class for each of {kinds} anchors"
        message += f": {classes} classes take {kinds * classes} channels" if is_plain(classes) else ""
        yield equal(logits.channels, multiply(kinds, classes)), ShapeProblem(message + here(logits.channels), "classes")
        message = f"detect_dense reads four deltas for each anchor: {kinds} anchors take {4 * kinds} channels"
        yield equal(deltas.channels, 4 * kinds), ShapeProblem(message + here(deltas.channels))
        message = "detect_dense reads logits of all levels and then deltas of the same levels"
        alike = [equal(getattr(logits, part), getattr(deltas, part)) for part in ("scale", "height", "width")]
        yield both(*alike), ShapeProblem(message + here(logits.scale, deltas.scale))


def _shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    if not inputs or len(inputs) % 2:
        raise ShapeProblem(
            f"detect_dense reads logits and deltas of each level, and here it gets {len(inputs)} inputs",
            help="write `branches(logits, deltas) -> detect_dense(...)`",
        )
    maps_of(inputs, "detect_dense")
    demand(_conditions(inputs, attrs))
    return detections(attrs)


DETECT_DENSE = Operator(
    name="detect_dense",
    example=Example(
        """
        detector {
          backbone: branches(conv(16, stride: 8), conv(oneof(16, 32), stride: 16))
          head: {
            levels: branches()
            scores: levels -> parallel { conv(27, norm: none, act: none) }
            deltas: levels -> parallel { conv(36, norm: none, act: none) }
            branches(scores, deltas)
            detect_dense(classes: 3)
          }
        }
    """,
        2,
        input="3 x 64 x 64",
    ),
    params=(
        Param("classes", "positive", doc="without a background"),
        replace(SCALES, default=OCTAVE),
        RATIOS,
        *PLACED,
        STDS,
        overlap("above", Fraction(1, 2), "overlap with an object from which an anchor is for it"),
        share("below", Fraction(2, 5), "overlap with any object below which an anchor is background"),
        share("alpha", Fraction(1, 4), "weight of objects in the focal loss, less 1 that of background"),
        Param("gamma", "number", 2, doc="of the focal loss: how little counts what is right anyway", low=0, high=100),
        Param(
            "box_loss",
            "symbol",
            Symbol("smooth"),
            choices=("smooth", "giou"),
            doc="distance of the deltas, or generalised intersection over union of the boxes",
        ),
        beta(0),
        Param("box_weight", "number", 1, doc="of the loss of the boxes", low=0, high=1 << 16),
        Param("per_level", "positive", 1000, doc="how many scores of each level enter the suppression"),
        LEAST,
        SUPPRESS,
        MOST,
        PRIOR,
    ),
    shape=_shape,
    must=_conditions,
    cost=free,
    module=f"{LAYERS}.dense:DetectDense",
    arguments=lambda inputs, output, attrs: {
        "strides": strides_of(inputs[: len(inputs) // 2]),
        "classes": attrs["classes"],
        **anchor_arguments(attrs),
        "stds": floats(attrs["stds"]),
        **{
            name: float(attrs[name])
            for name in ("above", "below", "alpha", "gamma", "beta", "box_weight", "least", "nms", "prior")
        },
        "box_loss": word(attrs["box_loss"]),
        "per_level": attrs["per_level"],
        "most": attrs["most"],
    },
    inputs=-1,
    groups=2,
    doc="detections from maps of logits of all levels and, behind them, maps of deltas; in training their losses",
)

OPERATORS = (DETECT_DENSE,)
