"""Leaves of detectors: regions from the maps of a proposal network, features of regions, boxes, dense predictions.

Boxes are tensors of four channels with as many items for each image as there are boxes; see the layers for their
coordinates and for the order of channels and items. Regions count as images of their own: their scale is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

from nasdsl.compiler.graph import Shape
from nasdsl.compiler.ops.common import (
    LAYERS,
    OUT,
    STRIDE,
    a_map,
    act_param,
    centre,
    is_plain,
    leading,
    rests_at_zero,
    same,
    strided,
    trimmed,
    word,
)
from nasdsl.compiler.ops.operator import (
    KEEPS_ZERO,
    Attrs,
    Cost,
    Identities,
    Index,
    Operator,
    Param,
    ShapeProblem,
)
from nasdsl.compiler.values.expr import (
    Expr,
    Value,
    add,
    apply,
    at_most,
    both,
    choose,
    equal,
    floor_divide,
    is_kind,
    less,
    multiply,
    negate,
)

Condition = tuple[Value, ShapeProblem]
"""What has to hold for every choice, and what to say where it does not."""

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


def _free(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    return Cost()


def _no_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    return {}


# --- checks -----------------------------------------------------------------------------------------------------------


def _demand(conditions: Iterator[Condition]) -> None:
    """
    Raises:
        ShapeProblem: a condition does not hold, whatever is chosen.
    """
    for condition, problem in conditions:
        if condition is False:
            raise problem


def _numbers(attrs: Attrs, name: str, length: int | None = None) -> Iterator[Condition]:
    """That a parameter is a list of positive numbers, as many as there have to be."""
    items = attrs[name]
    if not items or (length is not None and len(items) != length):
        wanted = "one or more" if length is None else str(length)
        yield False, ShapeProblem(f"{name} is a list of {wanted} numbers, and this has {len(items)}", name)
    for item in items:
        held = is_kind(item, "number")
        if held is not False:
            held = both(held, less(0, item), at_most(item, 1 << 16))
        shown = "" if isinstance(item, Expr) else f", and {item} is none"
        yield held, ShapeProblem(f"{name} holds numbers above 0{shown}", name)


def _here(*values: Value) -> str:
    """What there is, at the end of a message; nothing where that depends on decisions, of which an example is shown."""
    return f", and here are {' and '.join(map(str, values))}" if is_plain(*values) else ""


def _maps(inputs: Sequence[Shape], name: str, least: int = 1) -> Sequence[Shape]:
    """The shapes of maps.

    Raises:
        ShapeProblem: one is a vector, or there are too few.
    """
    if len(inputs) < least:
        raise ShapeProblem(f"{name} reads the maps of one level or more")
    return [a_map(x, name) for x in inputs]


def _whole_images(maps: Sequence[Shape], name: str) -> Iterator[Condition]:
    for x in maps:
        yield equal(x.items, 1), ShapeProblem(f"{name} reads maps of whole images, and this is one of regions")


def _boxes(x: Shape, name: str) -> Iterator[Condition]:
    if x.height is not None:
        raise ShapeProblem(f"{name} reads boxes, but here it gets a feature map", help="boxes come from propose()")
    yield equal(x.channels, 4), ShapeProblem(f"{name} reads boxes of 4 numbers{_here(x.channels)}")


def _strides(maps: Sequence[Shape]) -> tuple[float, ...]:
    """Pixels of the input along one of the map, plain."""
    found = [1 / Fraction(x.scale) for x in maps]
    return tuple(int(stride) if stride.denominator == 1 else float(stride) for stride in found)


def _floats(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


# --- proposals --------------------------------------------------------------------------------------------------------


def _regions(attrs: Attrs) -> Shape:
    return Shape(4, None, None, 1, attrs["rois"])


def _propose_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    yield from _numbers(attrs, "scales")
    yield from _numbers(attrs, "ratios")
    yield from _numbers(attrs, "stds", 4)
    anchors = len(attrs["scales"]) * len(attrs["ratios"])
    yield from _whole_images(inputs, "propose")
    message = f"propose reads one logit and four deltas for each anchor: {anchors} anchors take {5 * anchors} channels"
    for x in inputs:
        yield equal(x.channels, 5 * anchors), ShapeProblem(message + _here(x.channels))


def _propose_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    _demand(_propose_conditions(_maps(inputs, "propose"), attrs))
    return _regions(attrs)


def _common_arguments(inputs: Sequence[Shape], attrs: Attrs) -> dict[str, Any]:
    return {
        "strides": _strides(inputs),
        "rois": attrs["rois"],
        "per_level": attrs["per_level"],
        "nms": float(attrs["nms"]),
        "across": bool(attrs["across"]),
        "stds": _floats(attrs["stds"]),
    }


PROPOSE = Operator(
    name="propose",
    params=(
        replace(ROIS, default=1000),
        Param("scales", "list", (8,), doc="sides of the anchors, in pixels of the level"),
        Param("ratios", "list", (Fraction(1, 2), 1, 2), doc="height over width of the anchors"),
        PER_LEVEL,
        NMS,
        ACROSS,
        Param("stds", "list", (1, 1, 1, 1), doc="what dx, dy, dw, dh are multiplied by"),
    ),
    shape=_propose_shape,
    must=_propose_conditions,
    cost=_free,
    module=f"{LAYERS}.detection:Propose",
    arguments=lambda inputs, output, attrs: {
        **_common_arguments(inputs, attrs),
        "scales": _floats(attrs["scales"]),
        "ratios": _floats(attrs["ratios"]),
    },
    inputs=-1,
    doc="regions from a proposal network's maps: for each level the logits of all anchors, then four deltas for each",
)


def _guided_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    yield from _numbers(attrs, "shape_stds", 2)
    yield from _numbers(attrs, "stds", 4)
    yield from _whole_images(inputs, "guided_propose")
    message = "guided_propose reads 8 channels: location (1), shape (2), logit (1) and deltas (4)"
    for x in inputs:
        yield equal(x.channels, 8), ShapeProblem(message + _here(x.channels))


def _guided_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    _demand(_guided_conditions(_maps(inputs, "guided_propose"), attrs))
    return _regions(attrs)


GUIDED_PROPOSE = Operator(
    name="guided_propose",
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
        Param(
            "stds",
            "list",
            (Fraction(7, 100), Fraction(7, 100), Fraction(11, 100), Fraction(11, 100)),
            doc="what dx, dy, dw, dh are multiplied by",
        ),
    ),
    shape=_guided_shape,
    must=_guided_conditions,
    cost=_free,
    module=f"{LAYERS}.detection:GuidedPropose",
    arguments=lambda inputs, output, attrs: {
        **_common_arguments(inputs, attrs),
        "scale": float(attrs["scale"]),
        "threshold": float(attrs["threshold"]),
        "shape_stds": _floats(attrs["shape_stds"]),
    },
    inputs=-1,
    doc="regions by guided anchoring: each level's map has location (1), shape (2), logit (1) and deltas (4)",
)


# --- regions ----------------------------------------------------------------------------------------------------------


def _roi_align_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    *maps, boxes = inputs
    yield from _whole_images(maps, "roi_align")
    yield from _boxes(boxes, "roi_align")
    for fine, coarse in pairwise(maps):
        message = f"roi_align reads maps of one width{_here(fine.channels, coarse.channels)}"
        yield equal(fine.channels, coarse.channels), ShapeProblem(message)
        message = f"roi_align reads maps from fine to coarse{_here(fine.scale, coarse.scale)}"
        yield less(coarse.scale, fine.scale), ShapeProblem(message)


def _roi_align_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    if len(inputs) < 2:
        raise ShapeProblem("roi_align reads the maps of one level or more and, last, boxes")
    maps = _maps(inputs[:-1], "roi_align")
    _demand(_roi_align_conditions(inputs, attrs))
    return Shape(maps[0].channels, attrs["size"], attrs["size"], 1, inputs[-1].items)


ROI_ALIGN = Operator(
    name="roi_align",
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
    ),
    shape=_roi_align_shape,
    must=_roi_align_conditions,
    cost=_free,
    module=f"{LAYERS}.detection:RoiAlign",
    arguments=lambda inputs, output, attrs: {
        "strides": _strides(inputs[:-1]),
        "size": attrs["size"],
        "sampling": attrs["sampling"],
        "finest": float(attrs["finest"]),
    },
    inputs=-1,
    identities=KEEPS_ZERO,
    needs=1,
    doc="features of regions, from the maps of a pyramid, fine to coarse, and boxes behind them",
)


def _refine_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    yield from _numbers(attrs, "stds", 4)
    *maps, boxes, deltas = inputs
    yield from _whole_images(maps, "refine")
    yield from _boxes(boxes, "refine")
    message = "refine reads 4 deltas for each box, the same for all classes"
    yield equal(deltas.channels, 4), ShapeProblem(message + _here(deltas.channels))
    message = "refine reads as many boxes as deltas"
    yield equal(boxes.items, deltas.items), ShapeProblem(message + _here(boxes.items, deltas.items))


def _refine_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    if len(inputs) < 2:
        raise ShapeProblem("refine reads boxes and their deltas; maps before them tell where the image ends")
    if inputs[-1].height is not None:
        raise ShapeProblem("refine reads deltas, but here it gets a feature map")
    _maps(inputs[:-2], "refine", 0)
    _demand(_refine_conditions(inputs, attrs))
    return inputs[-2]


REFINE = Operator(
    name="refine",
    params=(
        Param(
            "stds",
            "list",
            (Fraction(1, 10), Fraction(1, 10), Fraction(1, 5), Fraction(1, 5)),
            doc="what dx, dy, dw, dh are multiplied by",
        ),
    ),
    shape=_refine_shape,
    must=_refine_conditions,
    cost=_free,
    module=f"{LAYERS}.detection:Refine",
    arguments=lambda inputs, output, attrs: {"stds": _floats(attrs["stds"]), "strides": _strides(inputs[:-2])},
    inputs=-1,
    identities=KEEPS_ZERO,
    needs=2,
    doc="boxes moved and scaled by deltas, without gradient; maps before the two tell where the image ends",
)


# --- shapes -----------------------------------------------------------------------------------------------------------


def _dense_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    each = attrs["each"]
    for x in inputs:
        message = f"dense_detections reads so many channels for each anchor{_here(each)}"
        message += f" for {x.channels}" if is_plain(each, x.channels) else ""
        yield apply("divides", each, x.channels), ShapeProblem(message, "each")
        yield equal(x.items, inputs[0].items), ShapeProblem("dense_detections reads maps of the same regions")


def _dense_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    maps = _maps(inputs, "dense_detections")
    _demand(_dense_conditions(maps, attrs))
    rows = add(*[multiply(x.pixels, floor_divide(x.channels, attrs["each"])) for x in maps])
    return Shape(attrs["each"], None, None, 1, multiply(maps[0].items, rows))


DENSE_DETECTIONS = Operator(
    name="dense_detections",
    params=(Param("each", "positive", doc="values for each anchor, such as the number of classes"),),
    shape=_dense_shape,
    must=_dense_conditions,
    cost=_free,
    module=f"{LAYERS}.detection:DenseDetections",
    arguments=lambda inputs, output, attrs: {"each": attrs["each"]},
    identities=KEEPS_ZERO,
    inputs=-1,
    doc="the predictions of all levels in one list, from maps that have so many channels for each anchor in turn",
)


def _flatten_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    x = a_map(inputs[0], "flatten")
    return Shape(multiply(x.channels, x.pixels), None, None, x.scale, x.items)


FLATTEN = Operator(
    name="flatten",
    params=(),
    shape=_flatten_shape,
    cost=_free,
    module=f"{LAYERS}.detection:Flatten",
    arguments=_no_arguments,
    identities=KEEPS_ZERO,
    doc="a map as a vector, channel by channel",
)

DETACH = Operator(
    name="detach",
    params=(),
    shape=same,
    cost=_free,
    module=f"{LAYERS}.detection:Detach",
    arguments=_no_arguments,
    identities=KEEPS_ZERO._replace(passes=lambda inputs, output, attrs: True),
    doc="the input itself, which gets no gradient through here",
)


# --- deformable convolution -------------------------------------------------------------------------------------------


def _deform_conditions(inputs: Sequence[Shape], attrs: Attrs) -> Iterator[Condition]:
    x, offsets = inputs
    for param in ("groups", "offset_groups"):
        message = f"the {param.replace('_', ' ')} have to divide the channels of the input"
        yield apply("divides", attrs[param], x.channels), ShapeProblem(message + _here(attrs[param], x.channels), param)
    message = "the groups have to divide the channels of the output" + _here(attrs["groups"], attrs["out"])
    yield apply("divides", attrs["groups"], attrs["out"]), ShapeProblem(message, "groups")
    wanted = multiply(2, attrs["kernel"], attrs["kernel"], attrs["offset_groups"])
    message = "deform_conv needs two offsets for each place under the kernel, in each offset group"
    if is_plain(wanted):
        message += f": {wanted} channels"
    yield equal(offsets.channels, wanted), ShapeProblem(message + _here(offsets.channels))
    y = strided(x, attrs["out"], attrs["stride"])
    fits = both(equal(offsets.height, y.height), equal(offsets.width, y.width))
    yield fits, ShapeProblem("deform_conv needs offsets for each pixel of its output, and theirs is another size")
    yield equal(offsets.items, x.items), ShapeProblem("deform_conv needs features and offsets of the same regions")


def _deform_shape(inputs: Sequence[Shape], attrs: Attrs) -> Shape:
    if len(inputs) != 2:
        raise ShapeProblem(
            f"deform_conv reads features and offsets, and here it gets {len(inputs)} input{'s'[: len(inputs) != 1]}",
            help="write `branches(features, offsets) -> deform_conv(...)`",
        )
    _demand(_deform_conditions(_maps(inputs, "deform_conv"), attrs))
    return strided(inputs[0], attrs["out"], attrs["stride"])


def _deform_cost(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> Cost:
    """As of a plain convolution; reading between pixels counts as resizing does, nothing."""
    columns = floor_divide(inputs[0].channels, attrs["groups"])
    weights = multiply(attrs["kernel"], attrs["kernel"], columns, output.channels)
    return Cost(multiply(weights, output.pixels), add(weights, choose(attrs["bias"], output.channels, 0)))


def _deform_arguments(inputs: Sequence[Shape], output: Shape, attrs: Attrs) -> dict[str, Any]:
    plain = ("kernel", "stride", "dilation", "groups", "offset_groups")
    return {
        "inputs": inputs[0].channels,
        "outputs": output.channels,
        **{name: attrs[name] for name in plain},
        "act": word(attrs["act"]),
        "bias": bool(attrs["bias"]),
    }


def _deform_shares(
    full: Attrs, small: Attrs, inputs: Sequence[Shape], small_inputs: Sequence[Shape]
) -> dict[str, tuple[Index, ...]]:
    rows, crop = leading(full["out"], small["out"]), centre(full["kernel"], small["kernel"])
    columns = leading(inputs[0].channels // full["groups"], small_inputs[0].channels // small["groups"])
    index: dict[str, tuple[Index, ...]] = {"conv.weight": (rows, columns, crop, crop)}
    if small["bias"]:
        index["conv.bias"] = (rows,)
    return trimmed(index)


DEFORM_CONV = Operator(
    name="deform_conv",
    params=(
        OUT,
        Param("kernel", "odd", 3, doc="side of the square kernel"),
        STRIDE,
        Param("dilation", "positive", 1, doc="distance between the pixels under the kernel, before the offsets"),
        Param("groups", "positive", 1, doc="groups of channels that are convolved by themselves"),
        Param("offset_groups", "positive", 1, doc="groups of the input's channels that have offsets of their own"),
        act_param("none"),
        Param("bias", "bool", False, doc="whether there is a bias"),
    ),
    shape=_deform_shape,
    must=_deform_conditions,
    cost=_deform_cost,
    module=f"{LAYERS}.detection:DeformConv",
    arguments=_deform_arguments,
    shares=_deform_shares,
    least=("groups",),
    identities=Identities(keeps_zero=lambda attrs, shift: both(negate(attrs["bias"]), rests_at_zero(attrs))),
    inputs=2,
    doc="deformable convolution of features at offsets, which come second: down, right for each place under the kernel",
)

OPERATORS = (PROPOSE, GUIDED_PROPOSE, ROI_ALIGN, REFINE, DENSE_DETECTIONS, FLATTEN, DETACH, DEFORM_CONV)
