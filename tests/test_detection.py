"""The leaves of detectors against slow references written out in loops, and inside spaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.graph import Graph, Shape
from nasdsl.compiler.layers.boxes import decoded, survivors
from nasdsl.compiler.layers.deform import DeformConv
from nasdsl.compiler.layers.detection import Detach, Flatten
from nasdsl.compiler.layers.proposals import GuidedPropose, Propose
from nasdsl.compiler.layers.regions import Refine, RoiAlign
from nasdsl.compiler.layers.scene import Scene
from nasdsl.compiler.ops import CATALOGUE
from nasdsl.compiler.ops.operator import ShapeProblem
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.tree import Case, evaluate
from nasdsl.runtime.export import export_python, verify_python
from tests.networks import largest, same, size_of, targets_for, tensors_of, with_what_is_read
from tests.slow_boxes import Box, random_boxes, slow_clip, slow_decode, slow_suppress

PYRAMID = ((4, 12, 17), (8, 6, 9), (16, 3, 5), (32, 1, 1))
"""Stride, height and width of the levels of one pyramid; strides that do not divide the image, and one lone pixel."""
SIZE = (32.0, 32.0)
"""Height and width of its image, as far as the pyramid tells: the coarsest level ends first."""


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# --- references -------------------------------------------------------------------------------------------------------


Scored = tuple[float, list[float]]


def slow_select(levels: list[list[Scored]], rois: int, per_level: int, nms: float, across: bool) -> list[list[float]]:
    """The boxes of one image from all scored boxes of each level."""
    best = [sorted(level, key=lambda scored: -scored[0])[:per_level] for level in levels]
    if across:
        best = [sorted((scored for level in best for scored in level), key=lambda scored: -scored[0])]
    stay: list[Scored] = []
    for level in best:
        cut = [(score, slow_clip(box, *SIZE)) for score, box in level]
        cut = [(score, box) for score, box in cut if box[2] > box[0] and box[3] > box[1]]
        stay += [cut[i] for i in slow_suppress([box for _, box in cut], nms)]
    boxes = [box for _, box in sorted(stay, key=lambda scored: -scored[0])[:rois]]
    return boxes + [[0.0] * 4] * (rois - len(boxes))


def slow_roi_align(
    maps: Sequence[torch.Tensor], boxes: torch.Tensor, strides: Sequence[float], size: int, sampling: int, finest: float
) -> torch.Tensor:
    each = len(boxes) // len(maps[0])
    out = torch.zeros(len(boxes), maps[0].shape[1], size, size, dtype=maps[0].dtype)
    for n, box in enumerate(boxes.tolist()):
        side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
        level = 0
        while level < len(maps) - 1 and side >= finest * 2 ** (level + 1):
            level += 1
        x = maps[level][n // each]
        x1, y1, x2, y2 = (side / strides[level] for side in box)
        for row, column, i, j in product(range(size), range(size), range(sampling), range(sampling)):
            down = y1 + (y2 - y1) * (row + (i + 0.5) / sampling) / size - 0.5
            right = x1 + (x2 - x1) * (column + (j + 0.5) / sampling) / size - 0.5
            if not (-1 <= down <= x.shape[1] and -1 <= right <= x.shape[2]):
                continue
            down, right = min(max(down, 0), x.shape[1] - 1), min(max(right, 0), x.shape[2] - 1)
            for p, q in product(range(x.shape[1]), range(x.shape[2])):
                share = max(0, 1 - abs(down - p)) * max(0, 1 - abs(right - q))
                if share:
                    out[n, :, row, column] += share * x[:, p, q] / sampling**2
    return out


def slow_deform_conv(layer: DeformConv, x: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    conv, (batch, channels, height, width) = layer.conv, x.shape
    k, step, dilation, pad = conv.kernel_size[0], conv.stride[0], conv.dilation[0], int(conv.padding[0])
    per_group, outs = channels // conv.groups, conv.out_channels // conv.groups
    out = torch.zeros(batch, conv.out_channels, *offsets.shape[2:], dtype=x.dtype)
    for b, o, p, q, i, j, c in product(
        range(batch), range(conv.out_channels), range(out.shape[2]), range(out.shape[3]), range(k), range(k),
        range(per_group),
    ):  # fmt: skip
        channel = o // outs * per_group + c
        first = 2 * (k * k * (channel // (channels // layer.offset_groups)) + k * i + j)
        down = p * step - pad + i * dilation + offsets[b, first, p, q].item()
        right = q * step - pad + j * dilation + offsets[b, first + 1, p, q].item()
        for y, z in product(range(height), range(width)):
            share = max(0, 1 - abs(down - y)) * max(0, 1 - abs(right - z))
            if share:
                out[b, o, p, q] += conv.weight[o, c, i, j].item() * share * x[b, channel, y, z]
    return out if conv.bias is None else out + conv.bias[:, None, None]


# --- boxes ------------------------------------------------------------------------------------------------------------


def test_deltas_move_and_scale_boxes() -> None:
    boxes, deltas = random_boxes(40), torch.randn(40, 4, dtype=torch.float64) * 3
    stds = (0.1, 2.0, 0.5, 3.0)
    expected = torch.tensor([slow_decode(b, d, stds) for b, d in zip(boxes.tolist(), deltas.tolist(), strict=True)])
    torch.testing.assert_close(decoded(boxes, deltas, stds), expected.double(), rtol=1e-6, atol=1e-5)
    assert torch.equal(decoded(torch.zeros(3, 4), torch.randn(3, 4), (1, 1, 1, 1)), torch.zeros(3, 4))


def test_a_delta_that_undoes_another() -> None:
    """What moves a box to another one, by the definition of the deltas in the R-CNN paper."""
    boxes, others = random_boxes(50, grow=0.2), random_boxes(50, grow=0.2)
    size, wanted = boxes[:, 2:] - boxes[:, :2], others[:, 2:] - others[:, :2]
    shift = (others[:, 2:] + others[:, :2] - boxes[:, 2:] - boxes[:, :2]) / 2 / size
    deltas = torch.cat([shift, (wanted / size).log()], 1)
    near = (deltas[:, 2:] < math.log(1000 / 16)).all(1)
    assert near.sum() > 30
    torch.testing.assert_close(decoded(boxes, deltas, (1, 1, 1, 1))[near], others[near])
    torch.testing.assert_close(
        Refine((0.5, 0.5, 0.25, 0.25))(boxes, deltas * torch.tensor([2, 2, 4, 4]))[near], others[near]
    )


def test_refined_boxes_end_where_the_image_does() -> None:
    """Each at the end of its own image."""
    boxes, deltas = random_boxes(30), torch.randn(30, 4, dtype=torch.float64)
    sizes = ((40, 64), (33, 21))
    free, cut = Refine()(boxes, deltas), Refine()(boxes, deltas, scene=Scene(torch.tensor(sizes).float()))
    expected = torch.tensor([slow_clip(box, *sizes[i // 15]) for i, box in enumerate(free.tolist())]).double()
    torch.testing.assert_close(cut, expected)
    assert not torch.equal(cut, free)
    boxes.requires_grad_(), deltas.requires_grad_()
    assert not Refine()(boxes, deltas).requires_grad


# --- suppression ------------------------------------------------------------------------------------------------------

side = st.integers(0, 12).map(float)
box = st.tuples(side, side, side, side).map(
    lambda s: (min(s[0], s[2]), min(s[1], s[3]), max(s[0], s[2]), max(s[1], s[3]))
)


@settings(max_examples=60)
@given(
    st.integers(0, 24).flatmap(lambda n: st.lists(st.lists(box, min_size=n, max_size=n), min_size=1, max_size=3)),
    st.sampled_from([0.0, 0.3, 0.5, 0.75, 1.0]),
    st.sampled_from([1, 3, 7, 256]),
)
def test_suppression_is_the_greedy_one(images: list[list[Box]], threshold: float, block: int) -> None:
    """Any image of the batch, any number of boxes in a block; boxes without area overlap nothing."""
    boxes = torch.tensor(images, dtype=torch.float64).reshape(len(images), -1, 4)
    there = torch.ones(boxes.shape[:2], dtype=torch.bool)
    keep = survivors(boxes, there, threshold, block)
    assert [row.nonzero().flatten().tolist() for row in keep] == [slow_suppress(image, threshold) for image in images]


def test_a_chain_of_suppression_is_followed_to_its_end() -> None:
    """Each box overlaps the next: every second one stays, which takes as many rounds as there are boxes."""
    boxes = torch.tensor([[[float(i), 0.0, i + 10.0, 10.0] for i in range(0, 600, 5)]])
    keep = survivors(boxes, torch.ones(1, 120, dtype=torch.bool), 0.3)
    assert keep[0].tolist() == [i % 2 == 0 for i in range(120)]


def test_a_box_that_is_not_there_suppresses_nothing() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10]] * 4])
    there = torch.tensor([[False, True, True, False]])
    assert survivors(boxes, there, 0.5).tolist() == [[False, True, False, False]]


# --- proposals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(("rois", "per_level"), [(12, 1000), (40, 25), (400, 30)])
def test_proposals_are_those_of_the_loops(rois: int, per_level: int, across: bool) -> None:
    scales, ratios, stds, nms = (2.0, 3.5), (0.5, 1.0, 3.0), (1.0, 0.5, 1.0, 0.25), 0.4
    layer = Propose(
        tuple(stride for stride, _, _ in PYRAMID), rois, scales, ratios, per_level, nms, across=across, stds=stds
    )
    maps = [torch.randn(2, 30, height, width, dtype=torch.float64) for _, height, width in PYRAMID]
    got = layer(*maps)
    assert got.shape == (2 * rois, 4)
    for image in range(2):
        levels: list[list[Scored]] = []
        for (stride, height, width), x in zip(PYRAMID, maps, strict=True):
            levels.append([])
            for row, column, s, r in product(range(height), range(width), range(2), range(3)):
                anchor = 3 * s + r
                area, ratio = (scales[s] * stride) ** 2, ratios[r]
                w = math.sqrt(area / ratio)
                h = w * ratio
                x0, y0 = (column + 0.5) * stride, (row + 0.5) * stride
                delta = [x[image, 6 + 4 * anchor + k, row, column].item() for k in range(4)]
                placed = slow_decode((x0 - w / 2, y0 - h / 2, x0 + w / 2, y0 + h / 2), delta, stds)
                levels[-1].append((x[image, anchor, row, column].item(), placed))
        expected = slow_select(levels, rois, per_level, nms, across)
        torch.testing.assert_close(got[image * rois : (image + 1) * rois], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("training", [False, True])
def test_guided_proposals_are_those_of_the_loops(training: bool) -> None:
    rois, threshold, scale, shape_stds, stds = 60, 0.4, 3.0, (0.5, 0.25), (0.5, 1.0, 0.5, 0.75)
    layer = GuidedPropose(
        tuple(stride for stride, _, _ in PYRAMID), rois, scale, threshold, 50, 0.5, False, shape_stds, stds, prior=0.3
    ).train(training)
    maps = [torch.randn(2, 8, height, width, dtype=torch.float64) for _, height, width in PYRAMID]
    got = layer(*maps)
    for image in range(2):
        levels: list[list[Scored]] = []
        for (stride, height, width), x in zip(PYRAMID, maps, strict=True):
            levels.append([])
            for row, column in product(range(height), range(width)):
                here = x[image, :, row, column].tolist()
                if not training and 1 / (1 + math.exp(-here[0]) * 0.7 / 0.3) < threshold:
                    continue
                x0, y0, half = (column + 0.5) * stride, (row + 0.5) * stride, scale * stride / 2
                w, h = (2 * half * math.exp(d * std) / 2 for d, std in zip(here[1:3], shape_stds, strict=True))
                placed = slow_decode((x0 - w, y0 - h, x0 + w, y0 + h), here[4:], stds)
                levels[-1].append((here[3], placed))
        expected = slow_select(levels, rois, 50, 0.5, False)
        torch.testing.assert_close(got[image * rois : (image + 1) * rois], torch.tensor(expected, dtype=torch.float64))


def test_where_nothing_is_left_boxes_are_empty() -> None:
    guided = GuidedPropose((8,), rois=5, threshold=1.0).eval()
    assert torch.equal(guided(torch.randn(2, 8, 4, 4)), torch.zeros(10, 4))
    one = Propose((8,), rois=5, scales=(1.0,), ratios=(1.0,))(torch.zeros(2, 5, 1, 1))
    assert torch.equal(one, torch.tensor([[0.0, 0, 8, 8], *[[0.0] * 4] * 4] * 2))
    assert torch.equal(Propose((8,), rois=5)(torch.full((1, 15, 3, 3), torch.nan)), torch.zeros(5, 4))


def test_proposals_get_no_gradient_and_stay_precise() -> None:
    x = torch.randn(1, 15, 4, 4, requires_grad=True)
    assert not Propose((8,))(x).requires_grad
    assert Propose((8,))(x.bfloat16()).dtype == torch.float32
    assert RoiAlign((8,))(x.bfloat16(), torch.tensor([[1.0, 2, 30, 31]])).dtype == torch.bfloat16


# --- features of regions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "sampling", "finest"), [(3, 2, 12.0), (2, 1, 7.0), (1, 3, 50.0)])
def test_features_of_regions_are_those_of_the_loops(size: int, sampling: int, finest: float) -> None:
    strides = tuple(stride for stride, _, _ in PYRAMID)
    maps = [torch.randn(2, 3, height, width, dtype=torch.float64) for _, height, width in PYRAMID]
    boxes = torch.cat([random_boxes(9), random_boxes(1) * 0, random_boxes(2, grow=3), random_boxes(4, grow=0.01)])
    layer = RoiAlign(strides, size, sampling, finest)
    expected = slow_roi_align(maps, boxes, strides, size, sampling, finest)
    torch.testing.assert_close(layer(*maps, boxes), expected, rtol=1e-10, atol=1e-10)
    last = [x.to(memory_format=torch.channels_last) for x in maps]
    torch.testing.assert_close(layer(*last, boxes), expected, rtol=1e-10, atol=1e-10)


def test_a_plane_is_read_exactly() -> None:
    """Bilinear values of a linear map are the map; a bin's mean is its value in the middle of the bin."""
    rows, columns = torch.arange(30.0).double(), torch.arange(40.0).double()
    x = (2 * (columns + 0.5) * 4 - 3 * (rows[:, None] + 0.5) * 4 + 7)[None, None]
    boxes = torch.tensor([[10.0, 20, 90, 100], [33.3, 44.4, 55.5, 66.6]], dtype=torch.float64)
    steps = (torch.arange(5).double() + 0.5) / 5
    for box, features in zip(boxes, RoiAlign((4,), 5, 3)(x, boxes), strict=True):
        right, down = box[0] + (box[2] - box[0]) * steps, box[1] + (box[3] - box[1]) * steps
        torch.testing.assert_close(features[0], 2 * right - 3 * down[:, None] + 7)


def test_levels_double_from_the_finest() -> None:
    """FPN paper: a box of 224 pixels' side reads the map at 1/16, the third of four."""
    sides = torch.tensor([0.0, 1, 55, 111.9, 112, 223, 224, 447, 448, 5000])
    boxes = torch.stack([sides * 0, sides * 0, sides / 2, sides * 2], 1)
    assert RoiAlign((4, 8, 16, 32)).levels(boxes).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_gradients_of_features_of_regions() -> None:
    maps = [torch.randn(2, 2, 6, 7).double().requires_grad_(), torch.randn(2, 2, 3, 4).double().requires_grad_()]
    boxes = torch.tensor([[-3.0, 2, 30, 20], [1, 1, 9, 8], [2, 5, 22, 24], [20, 20, 25, 30]]).double().requires_grad_()
    layer = RoiAlign((4, 8), 2, 2, finest=8.0)
    assert layer.levels(boxes).tolist() == [1, 0, 1, 0]
    assert torch.autograd.gradcheck(lambda *x: layer(*x, boxes.detach()), maps)
    layer(*maps, boxes).sum().backward()
    assert boxes.grad is None


# --- lists, vectors ---------------------------------------------------------------------------------------------------


def test_leading_channels_lead_the_vector() -> None:
    """So that a linear layer behind it shares its leading columns when channels are left out."""
    x = torch.randn(3, 5, 2, 4)
    assert torch.equal(Flatten()(x)[:, : 3 * 8], Flatten()(x[:, :3]))


def test_detached() -> None:
    x = torch.randn(3, requires_grad=True)
    assert torch.equal(Detach()(x), x) and not Detach()(x).requires_grad


# --- deformable convolution -------------------------------------------------------------------------------------------

DEFORM = [
    {"inputs": 4, "outputs": 2},
    {"inputs": 4, "outputs": 6, "groups": 2, "offset_groups": 4, "stride": 2, "bias": True},
    {"inputs": 2, "outputs": 2, "kernel": 5, "dilation": 2, "offset_groups": 2, "stride": 3},
    {"inputs": 2, "outputs": 3, "kernel": 1},
]


def deform(
    arguments: dict[str, Any], height: int, width: int, spread: float
) -> tuple[DeformConv, torch.Tensor, torch.Tensor]:
    layer = DeformConv(**arguments).double()
    x = torch.randn(2, arguments["inputs"], height, width, dtype=torch.float64)
    y = layer.conv(x)
    channels = 2 * layer.conv.kernel_size[0] ** 2 * layer.offset_groups
    return layer, x, torch.randn(2, channels, *y.shape[2:], dtype=torch.float64) * spread


@pytest.mark.parametrize("size", [(4, 3), (1, 1)])
@pytest.mark.parametrize("arguments", DEFORM)
def test_deformable_convolution_is_that_of_the_loops(arguments: dict[str, Any], size: tuple[int, int]) -> None:
    layer, x, offsets = deform(arguments, *size, spread=1.5)
    torch.testing.assert_close(layer(x, offsets), slow_deform_conv(layer, x, offsets), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("arguments", DEFORM)
def test_without_offsets_it_is_a_convolution(arguments: dict[str, Any]) -> None:
    layer, x, offsets = deform(arguments, 9, 7, spread=0)
    torch.testing.assert_close(layer(x, offsets), layer.conv(x))


def test_gradients_of_deformable_convolution() -> None:
    layer, x, offsets = deform(DEFORM[1], 4, 3, spread=0.7)
    inputs = (x.requires_grad_(), offsets.requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(lambda x, offsets, *_: layer(x, offsets), inputs)


# --- torchvision says the same ----------------------------------------------------------------------------------------


def test_torchvision_agrees() -> None:
    vision = pytest.importorskip("torchvision.ops", exc_type=ImportError)
    boxes = random_boxes(300)
    keep = survivors(boxes[None], torch.ones(1, 300, dtype=torch.bool), 0.5)[0].nonzero().flatten()
    assert torch.equal(vision.nms(boxes, torch.arange(300.0, 0, -1).double(), 0.5).sort().values, keep)
    x = torch.randn(2, 3, 12, 17).double()
    rows = torch.cat([torch.arange(300).div(150).floor()[:, None], boxes], 1).double()
    expected = vision.roi_align(x, rows, 7, 0.25, 2, aligned=True)
    torch.testing.assert_close(RoiAlign((4,))(x, boxes), expected)
    layer, x, offsets = deform(DEFORM[1], 9, 7, spread=1)
    conv = layer.conv
    expected = vision.deform_conv2d(x, offsets, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation)
    torch.testing.assert_close(layer(x, offsets), expected)


# --- the rules --------------------------------------------------------------------------------------------------------

MAP = Shape(12, 13, 18, Fraction(1, 4))
SMALL = Shape(12, 7, 9, Fraction(1, 8))
VECTOR = Shape(12, None, None, Fraction(1, 4))
BOXES = Shape(4, None, None, 1, items=6)
SCORES = replace(BOXES, channels=12)
OFFSETS = MAP.with_channels(18)


def test_what_must_hold_is_what_the_shape_rule_refuses() -> None:
    """With the width a choice of a good and a bad one, the condition holds for the good one alone."""
    either = MAP.with_channels(Case("x", (12, 15)))
    cases: list[tuple[str, tuple[Shape, ...], dict[str, Any], str]] = [
        ("propose", (either,), {}, "one logit and four deltas"),
        ("roi_align", (replace(MAP, channels=15), replace(SMALL, channels=either.channels), BOXES), {}, "one width"),
        (
            "detect_dense",
            (either, MAP.with_channels(20)),
            {"classes": 3, "scales": (4,), "ratios": (1,) * 5},
            "each class",
        ),
        (
            "detect_regions",
            (BOXES, replace(either, height=None, width=None, items=6), BOXES),
            {"classes": 14},
            "background",
        ),
        ("deform_conv", (either, OFFSETS), {"out": 5, "groups": 5}, "divide the channels of the input"),
    ]
    for name, inputs, given_attrs, message in cases:
        shape_of(name, *inputs, **given_attrs)
        conditions = list(CATALOGUE[name].must(inputs, attrs_of(name, **given_attrs)))
        for option, good in enumerate((False, True)):
            bad = [str(problem) for held, problem in conditions if not evaluate(held, {"x": option})]
            assert (not bad) is good
            assert good or (len(bad) == 1 and message in bad[0])


def attrs_of(name: str, **given_attrs: Any) -> dict[str, Any]:
    return {p.name: p.default for p in CATALOGUE[name].params} | given_attrs


def shape_of(name: str, *inputs: Shape, **given_attrs: Any) -> Shape:
    return CATALOGUE[name].shape(inputs, attrs_of(name, **given_attrs))


def test_shapes() -> None:
    five = (MAP.with_channels(15), SMALL.with_channels(15))
    assert shape_of("propose", *five) == Shape(4, None, None, 1, 1000)
    assert shape_of("propose", *five, scales=(8, 16, 32), ratios=(1,), rois=7) == Shape(4, None, None, 1, 7)
    assert shape_of("guided_propose", MAP.with_channels(8)) == Shape(4, None, None, 1, 300)
    assert shape_of("roi_align", MAP, SMALL, BOXES, size=14) == Shape(12, 14, 14, 1, 6)
    assert shape_of("refine", BOXES, BOXES) == shape_of("sample_regions", BOXES) == BOXES
    assert shape_of("detect_dense", MAP, MAP, classes=4, scales=(4,), most=7) == Shape(6, None, None, 1, 7)
    assert shape_of("detect_regions", BOXES, SCORES, SCORES.with_channels(48), classes=11) == Shape(
        6, None, None, 1, 100
    )
    assert shape_of("detect_regions", *[BOXES] * 3, *[SCORES] * 3, *[BOXES] * 3, classes=11).items == 100
    assert shape_of("flatten", Shape(256, 7, 7, 1, 1000)) == Shape(12544, None, None, 1, 1000)
    assert shape_of("deform_conv", MAP, SMALL.with_channels(18), out=5, stride=2) == Shape(5, 7, 9, Fraction(1, 8))


def test_cost_of_deformable_convolution() -> None:
    attrs = attrs_of("deform_conv", out=8, groups=4, offset_groups=2, bias=True)
    offsets = MAP.with_channels(36)
    cost = CATALOGUE["deform_conv"].cost((MAP, offsets), shape_of("deform_conv", MAP, offsets, **attrs), attrs)
    assert cost == (9 * 3 * 8 * 13 * 18, 9 * 3 * 8 + 8)


def test_values_over_decisions_mean_the_same() -> None:
    """With one choice of a width and one of a kernel open, shapes and costs are tables of those of each option."""
    width, kernel, rois = Case("w", (8, 16)), Case("k", (3, 5)), Case("r", (10, 20))
    wide = MAP.with_channels(width)
    op = CATALOGUE["deform_conv"]
    for w, k in product(range(2), range(2)):
        values = {"w": w, "k": k, "r": w}
        plain = MAP.with_channels(width.values[w])
        offsets, open_offsets = MAP.with_channels(2 * kernel.values[k] ** 2), MAP.with_channels(2 * kernel * kernel)
        attrs, open_attrs = (
            attrs_of("deform_conv", out=4, kernel=kernel.values[k]),
            attrs_of("deform_conv", out=4, kernel=kernel),
        )
        shape, open_shape = op.shape((plain, offsets), attrs), op.shape((wide, open_offsets), open_attrs)
        assert shape == open_shape
        cost, open_cost = op.cost((plain, offsets), shape, attrs), op.cost((wide, open_offsets), open_shape, open_attrs)
        assert tuple(cost) == tuple(evaluate(c, values) for c in open_cost)
        flat = shape_of("flatten", wide).channels
        assert evaluate(flat, values) == shape_of("flatten", plain).channels
        most = shape_of("detect_regions", BOXES, SCORES, BOXES, classes=11, most=rois).items
        assert evaluate(most, values) == rois.values[w]
        regions = Shape(4, None, None, 1, rois)
        got = shape_of("roi_align", wide, regions, size=kernel)
        assert [evaluate(part, values) for part in (got.channels, got.height, got.width, got.items)] == [
            plain.channels, kernel.values[k], kernel.values[k], rois.values[w]
        ]  # fmt: skip


MISTAKES: list[tuple[str, tuple[Shape, ...], dict[str, Any], str, str]] = [
    ("propose", (MAP,), {}, "", "3 anchors take 15 channels, and here are 12"),
    ("propose", (VECTOR,), {}, "", "propose reads a feature map"),
    ("propose", (), {}, "", "one level or more"),
    ("propose", (Shape(15, 7, 7, 1, 5),), {}, "", "maps of whole images"),
    ("propose", (MAP,), {"scales": ()}, "scales", "one or more numbers, and this has 0"),
    ("propose", (MAP,), {"ratios": (1, -1)}, "ratios", "numbers above 0 and at most 65,536, and -1 is none"),
    ("propose", (MAP, MAP), {"sizes": (8, 16, 32)}, "sizes", "3 sizes are not as many for each of 2 levels"),
    ("propose", (MAP, MAP), {"sizes": (8, 16, 32, 64)}, "", "6 anchors take 30 channels, and here are 12"),
    ("propose", (MAP,), {"stds": (1, 1)}, "stds", "list of 4 numbers, and this has 2"),
    ("guided_propose", (MAP,), {}, "", "logit (1) and deltas (4), and here are 12"),
    ("guided_propose", (MAP,), {"shape_stds": (1, 1, 1)}, "shape_stds", "list of 2 numbers"),
    ("roi_align", (MAP,), {}, "", "one level or more and, last, boxes"),
    ("roi_align", (MAP, SMALL), {}, "", "reads boxes, but here it gets a feature map"),
    ("roi_align", (MAP, VECTOR), {}, "", "boxes of 4 numbers, and here are 12"),
    ("roi_align", (MAP, SMALL.with_channels(9), BOXES), {}, "", "one width, and here are 12 and 9"),
    ("roi_align", (SMALL, MAP, BOXES), {}, "", "fine to coarse, and here are 1/8 and 1/4"),
    ("refine", (BOXES,), {}, "", "reads boxes and their deltas"),
    ("refine", (BOXES, MAP), {}, "", "feature map"),
    ("refine", (BOXES, BOXES.with_channels(8)), {}, "", "the same for all classes, and here are 8"),
    ("refine", (BOXES, Shape(4, None, None, 1, 5)), {}, "", "and here are 6 and 5"),
    ("sample_regions", (MAP,), {}, "", "reads boxes, but here it gets a feature map"),
    ("sample_regions", (VECTOR,), {}, "", "boxes of 4 numbers, and here are 12"),
    ("detect_dense", (MAP,), {"classes": 4}, "", "logits and deltas of each level, and here it gets 1 inputs"),
    ("detect_dense", (VECTOR, VECTOR), {"classes": 4}, "", "feature map"),
    ("detect_dense", (MAP, MAP), {"classes": 5}, "classes", "9 anchors: 5 classes take 45 channels, and here are 12"),
    ("detect_dense", (MAP.with_channels(9), MAP), {"classes": 1}, "", "9 anchors take 36 channels, and here are 12"),
    ("detect_dense", (MAP, SMALL), {"classes": 4, "scales": (4,)}, "", "the same levels, and here are 1/4 and 1/8"),
    ("detect_dense", (Shape(12, 7, 7, 1, 5),) * 2, {"classes": 4, "scales": (4,)}, "", "maps of whole images"),
    ("detect_dense", (MAP, MAP), {"classes": 4, "scales": (4,), "stds": (1,)}, "stds", "list of 4 numbers"),
    ("detect_regions", (BOXES, SCORES), {"classes": 11}, "", "regions, logits and deltas of each stage"),
    ("detect_regions", (BOXES, SCORES, MAP), {"classes": 11}, "", "feature map"),
    ("detect_regions", (SCORES, SCORES, BOXES), {"classes": 11}, "", "boxes of 4 numbers, and here are 12"),
    ("detect_regions", (BOXES, SCORES, BOXES), {"classes": 12}, "classes", "take 13 channels, and here are 12"),
    ("detect_regions", (BOXES, SCORES, SCORES), {"classes": 11}, "", "4 deltas for each region, or 4 for each class"),
    ("detect_regions", (BOXES, replace(SCORES, items=5), BOXES), {"classes": 11}, "", "same regions, and"),
    ("detect_regions", (BOXES, SCORES, BOXES), {"classes": 11, "stds": (1,) * 6}, "stds", "numbers for each stage"),
    ("detect_regions", (BOXES, SCORES, BOXES), {"classes": 11, "above": (2,)}, "above", "at most 1, and 2 is none"),
    ("detect_regions", (BOXES, SCORES, BOXES), {"classes": 11, "weights": ()}, "weights", "one or more numbers"),
    ("flatten", (VECTOR,), {}, "", "flatten reads a feature map"),
    ("deform_conv", (MAP,), {"out": 4}, "", "reads features and offsets, and here it gets 1 input"),
    ("deform_conv", (MAP, MAP), {"out": 4}, "", "18 channels, and here are 12"),
    ("deform_conv", (MAP, SMALL.with_channels(18)), {"out": 4}, "", "another size"),
    ("deform_conv", (MAP, OFFSETS), {"out": 4, "groups": 5}, "groups", "of the input, and here are 5 and 12"),
    ("deform_conv", (MAP, OFFSETS), {"out": 4, "groups": 3}, "groups", "of the output, and here are 3 and 4"),
    ("deform_conv", (MAP, MAP.with_channels(90)), {"out": 4, "offset_groups": 5}, "offset_groups", "offset groups"),
    ("mean", (MAP, SMALL.with_channels(9)), {}, "", "mean needs equal widths"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "inputs", "given_attrs", "param", "message"), MISTAKES, ids=lambda v: str(v)[:20])
def test_mistakes_are_said_in_words(
    name: str, inputs: tuple[Shape, ...], given_attrs: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(ShapeProblem) as caught:
        shape_of(name, *inputs, **given_attrs)
    assert message in str(caught.value)
    assert caught.value.param == param


# --- in spaces --------------------------------------------------------------------------------------------------------

TWO_STAGES = """
space two_stages {
  input 3 x 64 x 96
  network {
    let wide = oneof(8, 12)
    let bins = oneof(3, 5)
    stem: conv(8, kernel: 3, stride: 2) -> conv(8, kernel: 3, stride: 2)
    c2: conv(wide, kernel: 3)
    c3: conv(wide, kernel: 3, stride: 2)
    c4: conv(wide, kernel: 3, stride: 2)
    levels: branches(c2, c3, c4)
    boxes: levels -> parallel {
      conv(wide, kernel: 3, norm: none, share: weights)
      concat(conv(3, norm: none, act: none, share: logits), conv(12, norm: none, act: none, share: deltas))
    } -> propose(oneof(10, 20))
    x: branches(levels, boxes) -> roi_align(bins, finest: 8) -> conv(wide, kernel: 3) -> flatten()
    x2: x -> linear(oneof(16, 32), act: relu)
    scores: x2 -> linear(5)
    deltas: x2 -> linear(4)
    refined: branches(boxes, deltas) -> refine()
    more: branches(levels, refined) -> roi_align(bins, finest: 8) -> flatten() -> linear(5)
    mean_scores: branches(scores, more) -> mean()
    concat(mean_scores, refined)
  }
}
"""

GUIDED = """
space guided {
  input 3 x 64 x 96
  network {
    let wide = oneof(8, 16)
    let kernel = oneof(3, 5)
    let groups = oneof(1, 4)
    c2: conv(wide, kernel: 3, stride: 4)
    c3: conv(wide, kernel: 3, stride: 2)
    levels: branches(c2, c3)
    boxes: levels -> parallel {
      x: conv(wide, kernel: 3, norm: none, share: weights)
      location: x -> conv(1, norm: none, act: none, share: weights)
      shape: x -> conv(2, norm: none, act: none, share: weights)
      let places = groups * kernel * kernel
      offsets: shape -> detach() -> conv(2 * places, norm: none, act: none, bias: false, share: weights)
      y: branches(x, offsets) -> deform_conv(wide, kernel, offset_groups: groups, act: relu, share: weights)
      logit: y -> conv(1, norm: none, act: none, share: weights)
      deltas: y -> conv(4, norm: none, act: none, share: weights)
      concat(from: [location, shape, logit, deltas])
    } -> guided_propose(30, threshold: 0)
    branches(levels, boxes) -> roi_align(3, finest: 16) -> flatten() -> linear(7)
  }
}
"""

ONE_STAGE = """
space one_stage {
  input 3 x 64 x 96
  network {
    let wide = oneof(8, 12)
    let classes = oneof(4, 6)
    let finest = oneof(1/4, 1/8)
    c2: conv(wide, kernel: 3, stride: 4)
    c3: conv(wide, kernel: 3, stride: 2)
    levels: branches(c2, c3) -> parallel { identity() if scale <= finest else none }
    towers: levels -> parallel {
      repeat oneof(1, 2) { conv(wide, kernel: 3, norm: none, act: none, share: weights) -> norm() -> relu() }
    }
    scores: towers -> parallel { conv(3 * classes, kernel: 3, norm: none, act: none, share: weights) }
    boxes:  towers -> parallel { conv(3 * 4, kernel: 3, norm: none, act: none, share: weights) }
    branches(scores, boxes) -> detect_dense(classes, scales: [4], prior: 0.3)
  }
}
"""

SOME_LEVELS = """
space some_levels {
  input 3 x 64 x 96
  network {
    let coarsest = oneof(1/8, 1/16)
    let finest = oneof(1/4, 1/8)
    let wide = oneof(8, 12)
    c2: conv(wide, kernel: 3, stride: 4)
    c3: conv(wide, kernel: 3, stride: 2)
    c4: conv(wide, kernel: 3, stride: 2)
    levels: branches(c2, c3, c4) -> parallel { identity() if scale >= coarsest and scale <= finest else none }
    deltas: levels -> parallel { conv(15, share: weights, norm: none, act: none) }
    boxes: deltas -> propose(15)
    x: branches(levels, boxes) -> roi_align(2, finest: 8) -> flatten() -> linear(4)
    branches(boxes, x) -> refine(stds: [1, 1, 1, 1])
  }
}
"""

TEXTS = {"two_stages": TWO_STAGES, "guided": GUIDED, "one_stage": ONE_STAGE, "some_levels": SOME_LEVELS}


@cache
def graph_of(name: str) -> Graph:
    return elaborate(Source(TEXTS[name], name)).graph


def settled(network: Supernet) -> Supernet:
    """Norms as they are after training, so that a wrong slice shows; in evaluation."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                assert module.running_mean is not None
                module.running_mean.uniform_(-0.5, 0.5)
    return network.eval()


@pytest.mark.parametrize("name", TEXTS)
def test_a_detector_taken_out_computes_the_same(name: str) -> None:
    graph = graph_of(name)
    supernet = settled(Supernet(graph))
    different = set()
    for values in (largest(graph), *sample(graph, 5, seed=1)):
        supernet.activate(values)
        network = supernet.extract(values)
        for size in ((64, 96), (51, 77)):
            image = torch.randn(2, 3, *size)
            with torch.no_grad():
                whole, whole_read = with_what_is_read(supernet, image)
                alone, alone_read = with_what_is_read(network, image)
            same(tensors_of(whole) + whole_read, tensors_of(alone) + alone_read)
        different.add((size_of(whole), sum(p.numel() for p in network.parameters()), len(network.steps)))
    assert len(different) > 2


@pytest.mark.parametrize("name", TEXTS)
def test_predictions_of_detectors_are_what_torch_says(name: str) -> None:
    graph = graph_of(name)
    for values in (largest(graph), *sample(graph, 2, seed=2)):
        pinned = pin(graph, values.indices)
        network, output = Supernet(pinned).eval(), pinned.nodes[pinned.outputs[0]].shape
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            made = network(torch.randn(1, 3, 64, 96))
        counted = {"macs": counter.get_total_flops() // 2, "params": sum(p.numel() for p in network.parameters())}
        assert counted == cost_of(graph, values.indices)
        assert size_of(made) == (output.items, output.channels)


@pytest.mark.parametrize("name", ["two_stages", "guided", "one_stage"])
def test_gradients_reach_what_they_should(name: str) -> None:
    """All weights but those whose boxes are cut off: of the proposal network, and of the deltas between two stages."""
    graph = graph_of(name)
    network = Supernet(graph)
    made = network(torch.randn(2, 3, 64, 96), targets_for(graph) if name == "one_stage" else None)
    torch.stack([tensor.square().sum() for tensor in tensors_of(made)]).sum().backward()
    without = {key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    cut = {
        "two_stages": ("layers.boxes", "layers.shared", "layers.deltas"),
        "guided": ("layers.boxes",),
        "one_stage": (),
    }
    assert without == {key for key, _ in network.named_parameters() if key.startswith(cut[name])}


def test_a_width_that_fits_for_some_choices_only_is_found() -> None:
    text = TWO_STAGES.replace("c3: conv(wide, kernel: 3", "c3: conv(oneof(8, 12), kernel: 3")
    with pytest.raises(CompileError) as caught:
        elaborate(Source(text, "wrong"))
    told = [d for d in caught.value.diagnostics if "roi_align reads maps of one width" in d.message]
    assert told and "wide" in told[0].help


def test_norms_of_shared_convolutions_are_each_level_s_own() -> None:
    """As the RetinaNet head of SpineNet: one set of convolutions, a norm for each level."""
    graph = graph_of("one_stage")
    weights = {
        node.op: {n.weight for n in graph.nodes.values() if n.op == node.op and "towers" in n.name}
        for node in graph.operators()
    }
    assert len(weights["conv"]) == 1
    assert len(weights["norm"]) == 4


def test_an_exported_detector_computes_the_same(tmp_path: Path) -> None:
    """Beside torch alone; the head of the file says that an image gives several of what comes out."""
    graph = graph_of("two_stages")
    network = settled(Supernet(graph).extract(largest(graph)))
    path = tmp_path / "found.py"
    export_python(network, path)
    assert verify_python(path, network, torch.randn(2, 3, 51, 77)) == 0
    text = path.read_text()
    assert "gives 20 x 9;" in text.replace("\n", " ")
    assert "-> B*N 9." in text
