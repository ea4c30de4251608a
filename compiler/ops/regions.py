"""Heads that work on regions: features of regions, which are learnt from, and the detections they become."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from nasdsl.compiler.example import Example
from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import LAYERS, is_plain
from nasdsl.compiler.ops.detector import (
    STDS,
    Condition,
    are_boxes,
    beta,
    demand,
    floats,
    free,
    here,
    maps_of,
    numbers,
    overlap,
    share,
    strides_of,
    whole_images,
)
from nasdsl.compiler.ops.operator import KEEPS_ZERO, Attrs, Operator, Param, ShapeProblem, by_channel
from nasdsl.compiler.values.expr import add, either, equal, less, multiply

FINE = replace(STDS, default=(*[Fraction(1, 10)] * 2, *[Fraction(1, 5)] * 2))

BOXED = Example(
    """
    operator boxed(classes) {
      levels: branches()
      boxes: regions -> sample_regions(256)
      features: branches(levels, boxes) -> roi_align(oneof(5, 7)) -> flatten()
      scores: features -> linear(classes + 1)
      deltas: features -> linear(4)
      branches(boxes, scores, deltas) -> detect_regions(classes)
    }
    detector {
      backbone: branches(conv(16, stride: 8), conv(16, stride: 16))
      proposals: rpn()
      head: boxed(3)
    }
    """,
    2,
    input="3 x 64 x 64",
)
"""Heads of a detector that read boxes: an example of each step between the regions and the detections."""


def _roi_align_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    *maps, boxes = inputs
    yield from whole_images(maps, "roi_align")
    yield from are_boxes(boxes, "roi_align")
    for fine, coarse in pairwise(maps):
        message = f"roi_align reads maps of one width{here(fine.channels, coarse.channels)}"
        yield equal(fine.channels, coarse.channels), ShapeProblem(message)
        message = f"roi_align reads maps from fine to coarse{here(fine.scale, coarse.scale)}"
        yield less(coarse.scale, fine.scale), ShapeProblem(message)


def _roi_align_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    if len(inputs) < 2:
        raise ShapeProblem("roi_align reads the maps of one level or more and, last, boxes")
    maps = maps_of(inputs[:-1], "roi_align")
    demand(_roi_align_conditions(inputs, attrs))
    return Shape(maps[0].channels, attrs["size"], attrs["size"], 1, inputs[-1].items)


ROI_ALIGN = Operator(
    name="roi_align",
    example=BOXED,
    params=(
        Param("size", "positive", 7, doc="side of a region's features, in bins"),
        Param("sampling", "positive", 2, doc="a bin is the mean of sampling x sampling points"),
        Param(
            "finest",
            "number",
            56,
            doc="side from which, doubled again and again, boxes read the next coarser map",
            above=0,
            high=1 << 16,
        ),
        Param("aligned", "bool", True, doc="whether what is read is not half a pixel of the map off"),
    ),
    shape=_roi_align_shape,
    must=_roi_align_conditions,
    cost=free,
    module=f"{LAYERS}.regions:RoiAlign",
    arguments=lambda inputs, output, attrs: {
        "strides": strides_of(inputs[:-1]),
        "size": attrs["size"],
        "sampling": attrs["sampling"],
        "finest": float(attrs["finest"]),
        "aligned": bool(attrs["aligned"]),
    },
    inputs=-1,
    identities=KEEPS_ZERO,
    zeros=by_channel,
    needs=1,
    doc="features of regions, from the maps of a pyramid, fine to coarse, and boxes behind them",
)


def _sample_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    yield from are_boxes(inputs[0], "sample_regions")


def _sample_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    demand(_sample_conditions(inputs, attrs))
    return inputs[0]


SAMPLE_REGIONS = Operator(
    name="sample_regions",
    example=BOXED,
    params=(
        Param("count", "positive", 512, doc="regions of an image that are learnt from"),
        share("share", Fraction(1, 4), "of them at most so many with an object"),
        overlap("above", Fraction(1, 2), "overlap with an object from which a region is for it"),
    ),
    shape=_sample_shape,
    must=_sample_conditions,
    cost=free,
    module=f"{LAYERS}.regions:SampleRegions",
    arguments=lambda inputs, output, attrs: {
        "count": attrs["count"],
        "share": float(attrs["share"]),
        "above": float(attrs["above"]),
    },
    identities=KEEPS_ZERO._replace(passes=lambda inputs, output, attrs: True),
    doc="in training, regions drawn at random with and without objects, the objects themselves added; else the regions",
)


def _refine_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    yield from numbers(attrs, "stds", 4)
    regions, deltas = inputs
    yield from are_boxes(regions, "refine")
    message = "refine reads 4 deltas for each box, the same for all classes"
    yield equal(deltas.channels, 4), ShapeProblem(message + here(deltas.channels))
    message = "refine reads as many boxes as deltas"
    yield equal(regions.items, deltas.items), ShapeProblem(message + here(regions.items, deltas.items))


def _refine_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    if len(inputs) != 2:
        raise ShapeProblem("refine reads boxes and their deltas", help="write `branches(boxes, deltas) -> refine()`")
    if inputs[-1].height is not None:
        raise ShapeProblem("refine reads deltas, but here it gets a feature map")
    demand(_refine_conditions(inputs, attrs))
    return inputs[0]


REFINE = Operator(
    name="refine",
    example=Example(
        """
        operator refined(classes) {
          levels: branches()
          boxes: regions -> sample_regions(256)
          moved: branches(levels, boxes) -> roi_align(5) -> flatten() -> linear(4)
          better: branches(boxes, moved) -> refine()
          features: branches(levels, better) -> roi_align(oneof(5, 7)) -> flatten()
          scores: features -> linear(classes + 1)
          deltas: features -> linear(4)
          branches(better, scores, deltas) -> detect_regions(classes)
        }
        detector {
          backbone: branches(conv(16, stride: 8), conv(16, stride: 16))
          proposals: rpn()
          head: refined(3)
        }
    """,
        2,
        input="3 x 64 x 64",
    ),
    params=(FINE,),
    shape=_refine_shape,
    must=_refine_conditions,
    cost=free,
    module=f"{LAYERS}.regions:Refine",
    arguments=lambda inputs, output, attrs: {"stds": floats(attrs["stds"])},
    inputs=2,
    identities=KEEPS_ZERO,
    doc="boxes moved and scaled by deltas, without gradient, and cut where the image ends",
)

LEAST = share("least", Fraction(1, 20), "probability that a detection exceeds")
SUPPRESS = share("nms", Fraction(1, 2), "overlap above which a better detection of a class suppresses another")
MOST = Param("most", "positive", 100, doc="detections of an image")


def detections(attrs: Attrs) -> Shape:
    """Four sides, a score and a label for each."""
    return Shape(6, None, None, 1, attrs["most"])


def _detect_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    yield from numbers(attrs, "above", high=1)
    yield from numbers(attrs, "weights")
    yield from numbers(attrs, "stds")
    if len(attrs["stds"]) % 4:
        yield False, ShapeProblem(f"stds has four numbers for each stage, and this has {len(attrs['stds'])}", "stds")
    stages, classes = len(inputs) // 3, attrs["classes"]
    for stage in range(stages):
        regions, logits, deltas = inputs[stage], inputs[stages + stage], inputs[2 * stages + stage]
        yield from are_boxes(regions, "detect_regions")
        message = "detect_regions reads a logit for each class and one for the background"
        message += f": {classes} classes take {classes + 1} channels" if is_plain(classes) else ""
        yield equal(logits.channels, add(classes, 1)), ShapeProblem(message + here(logits.channels), "classes")
        all_classes = multiply(4, add(classes, 1))
        fits = either(*[equal(deltas.channels, n) for n in (4, multiply(4, classes), all_classes)])
        message = "detect_regions reads 4 deltas for each region, or 4 for each class"
        yield fits, ShapeProblem(message + here(deltas.channels))
        for what in (logits, deltas):
            message = "detect_regions reads logits and deltas of the same regions"
            yield equal(regions.items, what.items), ShapeProblem(message + here(regions.items, what.items))


def _detect_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    if not inputs or len(inputs) % 3:
        raise ShapeProblem(
            f"detect_regions reads regions, logits and deltas of each stage, and here it gets {len(inputs)} inputs",
            help="write `branches(regions, logits, deltas) -> detect_regions(...)`",
        )
    for x in inputs:
        if x.height is not None:
            raise ShapeProblem("detect_regions reads vectors of regions, but here it gets a feature map")
    demand(_detect_conditions(inputs, attrs))
    return detections(attrs)


DETECT_REGIONS = Operator(
    name="detect_regions",
    example=BOXED,
    params=(
        Param("classes", "positive", doc="without the background"),
        Param("above", "list", (Fraction(1, 2),), doc="overlap from which a region is for an object, of each stage"),
        Param("weights", "list", (1,), doc="of the losses of each stage"),
        replace(FINE, doc="what the four deltas are multiplied by, of each stage"),
        beta(1),
        LEAST,
        SUPPRESS,
        MOST,
    ),
    shape=_detect_shape,
    must=_detect_conditions,
    cost=free,
    module=f"{LAYERS}.regions:DetectRegions",
    arguments=lambda inputs, output, attrs: {
        "classes": attrs["classes"],
        **{name: floats(attrs[name]) for name in ("above", "weights", "stds")},
        **{name: float(attrs[name]) for name in ("beta", "least", "nms")},
        "most": attrs["most"],
    },
    inputs=-1,
    groups=3,
    doc="detections from the regions, logits and deltas of all stages; in training their losses",
)

OPERATORS = (ROI_ALIGN, SAMPLE_REGIONS, REFINE, DETECT_REGIONS)
