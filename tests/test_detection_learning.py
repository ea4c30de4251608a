"""What detectors learn from, and their losses, against slow references written out in loops, and in networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nasdsl.compiler.graph import Graph
from nasdsl.compiler.layers import boxes as boxes_module
from nasdsl.compiler.layers.boxes import (
    BACKGROUND,
    NEITHER,
    anchor_sides,
    anchors_at,
    decoded,
    drawn,
    encoded,
    highest,
    matched,
    survivors,
)
from nasdsl.compiler.layers.dense import DetectDense
from nasdsl.compiler.layers.losses import bounded, focal, generalised, smooth
from nasdsl.compiler.layers.proposals import GuidedPropose, Propose
from nasdsl.compiler.layers.regions import DetectRegions, Refine, SampleRegions
from nasdsl.compiler.layers.scene import Scene
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from tests.networks import check_extraction, targets_for
from tests.slow_boxes import Box, random_boxes, slow_clip, slow_decode, slow_overlap, slow_suppress

Tensor = torch.Tensor
Losses = dict[str, Tensor]
SIZE = (40, 48)
"""Height and width of the images of a batch."""
STRIDES = (8.0, 16.0)
LEVELS = ((5, 6), (3, 3))
"""Height and width of their maps."""


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# --- references -------------------------------------------------------------------------------------------------------


def slow_encode(box: Box, wanted: Box, stds: Sequence[float]) -> list[float]:
    width, height = box[2] - box[0], box[3] - box[1]
    deltas = (
        ((wanted[0] + wanted[2]) / 2 - (box[0] + box[2]) / 2) / width,
        ((wanted[1] + wanted[3]) / 2 - (box[1] + box[3]) / 2) / height,
        math.log((wanted[2] - wanted[0]) / width),
        math.log((wanted[3] - wanted[1]) / height),
    )
    return [delta / std for delta, std in zip(deltas, stds, strict=True)]


def slow_match(
    boxes: Sequence[Box], truth: Sequence[Box], crowds: Sequence[Box], above: float, below: float, rescue: bool = False
) -> list[int]:
    table = [[slow_overlap(box, other) for other in truth] for box in boxes]
    most = [max(row[m] for row in table) for m in range(len(truth))]
    match = []
    for box, row in zip(boxes, table, strict=True):
        area = (box[2] - box[0]) * (box[3] - box[1])
        inside = [max(min(box[2], c[2]) - max(box[0], c[0]), 0) * max(min(box[3], c[3]) - max(box[1], c[1]), 0)
                  for c in crowds]  # fmt: skip
        best = max(row, default=0.0)
        if area <= 0:
            match.append(NEITHER)
        elif truth and (best >= above or (rescue and any(o == m > 0 for o, m in zip(row, most, strict=True)))):
            match.append(row.index(best))
        elif best < below:
            match.append(NEITHER if any(part >= area / 2 for part in inside) else BACKGROUND)
        else:
            match.append(NEITHER)
    return match


def slow_smooth(difference: Tensor, beta: float) -> Tensor:
    off = difference.abs()
    return 0.5 * off * off / beta if float(off.detach()) < beta else off - beta / 2


def slow_entropy(logit: Tensor, one: bool) -> Tensor:
    """Of one logit with 0 or 1."""
    chance = 1 / (1 + (-logit).exp())
    return -(chance if one else 1 - chance).log()


def slow_focal(logit: Tensor, one: bool, alpha: float, gamma: float) -> Tensor:
    chance = 1 / (1 + (-logit).exp())
    right = chance if one else 1 - chance
    return -(alpha if one else 1 - alpha) * (1 - right) ** gamma * right.log()


def exact(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float64)


def slow_giou(box: Sequence[Tensor], other: Box) -> Tensor:
    """One less the generalised intersection over union, by the formula of its paper."""
    width = torch.clamp(torch.minimum(box[2], exact(other[2])) - torch.maximum(box[0], exact(other[0])), 0)
    height = torch.clamp(torch.minimum(box[3], exact(other[3])) - torch.maximum(box[1], exact(other[1])), 0)
    common = width * height
    union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - common
    hull_width = torch.maximum(box[2], exact(other[2])) - torch.minimum(box[0], exact(other[0]))
    hull = hull_width * (torch.maximum(box[3], exact(other[3])) - torch.minimum(box[1], exact(other[1])))
    return 1 - (common / union - (hull - union) / hull)


def slow_bounded(box: Sequence[Tensor], other: Box, beta: float = 0.2) -> Tensor:
    """The formulas of the Bounded IoU Loss paper: for each of x, y, w, h the greatest overlap that it allows."""
    total = torch.zeros(())
    for low, high in ((0, 2), (1, 3)):
        size, aim = box[high] - box[low], other[high] - other[low]
        apart = ((box[low] + box[high]) / 2 - (other[low] + other[high]) / 2).abs()
        middle = torch.clamp((aim - 2 * apart) / (aim + 2 * apart), 0)
        ratio = size / aim if float(size.detach()) < aim else aim / size
        total = total + slow_smooth(1 - middle, beta) + slow_smooth(1 - ratio, beta)
    return total


def slow_decode_torch(box: Box, delta: Sequence[Tensor], stds: Sequence[float]) -> list[Tensor]:
    """As `slow_decode`, with a gradient."""
    width, height = box[2] - box[0], box[3] - box[1]
    x = (box[0] + box[2]) / 2 + delta[0] * stds[0] * width
    y = (box[1] + box[3]) / 2 + delta[1] * stds[1] * height
    w, h = width * (delta[2] * stds[2]).exp(), height * (delta[3] * stds[3]).exp()
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def scene_of(images: int = 3, height: int = SIZE[0], width: int = SIZE[1]) -> Scene:
    """Objects and a crowd on the first image; none on the second, which is small; one, and rows of none, on others."""
    boxes = torch.tensor([[3.0, 4, 17, 20], [10, 8, 40, 37], [30, 2, 36, 9], [20, 18, 47, 39]]).double()
    boxes = boxes.expand(images, 4, 4).clone() * torch.tensor([width / 48, height / 40] * 2)
    labels = torch.tensor([2, 0, 1, 1]).expand(images, 4).clone()
    labels[1:2], boxes[1:2] = -1, 0
    labels[2:, [0, 2, 3]] = -1
    boxes[labels == -1] = 0
    crowd = torch.zeros(images, 4, dtype=torch.bool)
    crowd[0, 3] = True
    sizes = torch.tensor([[height, width], [height // 2, width // 2], [height - 3, width]])[:images].double()
    return Scene(sizes, {"boxes": boxes, "labels": labels, "crowd": crowd})


def truth_of(scene: Scene, image: int) -> tuple[list[Box], list[int], list[Box]]:
    """Objects, their labels, and crowds, by a loop."""
    assert scene.targets is not None
    objects: list[Box] = []
    labels, crowds = [], []
    for box, label, crowd in zip(
        *(scene.targets[key][image].tolist() for key in ("boxes", "labels", "crowd")), strict=True
    ):
        if label >= 0 and crowd:
            crowds.append(box)
        elif label >= 0:
            objects.append(box)
            labels.append(label)
    return objects, labels, crowds


def slow_anchors(
    sides: list[list[tuple[float, float]]], offset: float = 0.5
) -> Iterator[tuple[int, int, int, int, list[float]]]:
    """Level, row, column, number and box of all anchors, level by level, pixel by pixel."""
    for level, (height, width) in enumerate(LEVELS):
        for row, column, (number, (w, h)) in product(range(height), range(width), enumerate(sides[level])):
            x, y = (column + offset) * STRIDES[level], (row + offset) * STRIDES[level]
            yield level, row, column, number, [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def random_maps(channels: int, images: int = 3, spread: float = 0.5) -> list[Tensor]:
    """Of all levels."""
    return [torch.randn(images, channels, *size).double().mul(spread).requires_grad_() for size in LEVELS]


def check_losses(found: Losses, expected: Losses, inputs: Sequence[Tensor]) -> None:
    """Losses and, of each by itself, the gradients of all inputs."""
    assert list(found) == list(expected)
    for name, loss in found.items():
        torch.testing.assert_close(loss, expected[name].to(loss), rtol=1e-9, atol=1e-10)
        pairs = zip(
            torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True, materialize_grads=True),
            torch.autograd.grad(expected[name], inputs, retain_graph=True, allow_unused=True, materialize_grads=True),
            strict=True,
        )
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


# --- boxes ------------------------------------------------------------------------------------------------------------


def test_what_is_encoded_is_decoded() -> None:
    boxes, wanted, stds = random_boxes(60), random_boxes(60), (0.1, 0.3, 0.2, 2.0)
    deltas = encoded(boxes, wanted, stds)
    expected = [slow_encode(one, other, stds) for one, other in zip(boxes.tolist(), wanted.tolist(), strict=True)]
    torch.testing.assert_close(deltas, torch.tensor(expected).double(), rtol=1e-5, atol=1e-5)
    near = (encoded(boxes, wanted, (1, 1, 1, 1))[:, 2:] < math.log(1000 / 16)).all(1)
    assert near.sum() > 30
    torch.testing.assert_close(decoded(boxes, deltas, stds)[near], wanted[near])


def test_a_delta_that_overflows_has_no_gradient() -> None:
    deltas = torch.tensor([[0.0, 0, 1e4, 0]], requires_grad=True)
    box = decoded(torch.tensor([[0.0, 0, 16, 16]]), deltas, (1, 1, 1, 1))
    torch.testing.assert_close(box, torch.tensor([[-492.0, 0, 508, 16]]))
    box[:, 2:].sum().backward()
    assert deltas.grad is not None and deltas.grad.isfinite().all() and deltas.grad[0, 2] == 0


def test_sides_of_anchors() -> None:
    """For each scale one of each ratio, of height over width, with the area of a square."""
    sides = anchor_sides((4, 8), (2.0, 3.0), (0.5, 1.0, 4.0))
    for level, stride in enumerate((4, 8)):
        for (width, height), (scale, ratio) in zip(sides[level], product((2.0, 3.0), (0.5, 1.0, 4.0)), strict=True):
            assert height / width == pytest.approx(ratio)
            assert width * height == pytest.approx((scale * stride) ** 2)
    assert anchor_sides((4, 8), (), (1.0,), (10, 11, 30, 31)) == [[(10, 10), (11, 11)], [(30, 30), (31, 31)]]


@pytest.mark.parametrize("offset", [0.0, 0.5, 1.0])
def test_where_anchors_stand(offset: float) -> None:
    sides = anchor_sides(STRIDES, (2.0, 3.5), (0.5, 1.0))
    expected: dict[int, list[list[float]]] = {0: [], 1: []}
    for level, _, _, _, box in slow_anchors(sides, offset):
        expected[level].append(box)
    for level, (height, width) in enumerate(LEVELS):
        places = torch.arange(height * width * 4)
        kinds = torch.tensor(sides[level], dtype=torch.float64)
        found = anchors_at(places, width, STRIDES[level], kinds, offset, rounded=False)
        torch.testing.assert_close(found, torch.tensor(expected[level], dtype=torch.float64))
        rounded = anchors_at(places, width, STRIDES[level], kinds, offset, rounded=True)
        centre = torch.tensor(expected[level], dtype=torch.float64).view(-1, 2, 2).mean(1)
        corner = rounded - centre.repeat(1, 2)
        torch.testing.assert_close(corner, (found - centre.repeat(1, 2)).round())
        assert torch.equal(corner[:, :2], -corner[:, 2:])


side = st.integers(0, 12).map(float)
box = st.tuples(side, side, side, side).map(
    lambda s: (min(s[0], s[2]), min(s[1], s[3]), max(s[0], s[2]), max(s[1], s[3]))
)
some = st.lists(box, max_size=6)
full = box.filter(lambda b: b[2] > b[0] and b[3] > b[1])


@settings(max_examples=150)
@given(
    st.lists(box, min_size=1, max_size=20), st.lists(full, max_size=5), st.lists(full, max_size=2),
    st.sampled_from([(0.5, 0.5), (0.7, 0.3), (0.3, 0.6), (1.0, 0.1)]), st.booleans(), st.sampled_from([1, 7, 1 << 24]),
)  # fmt: skip
def test_matches_are_those_of_the_loops(
    boxes: list[Box], truth: list[Box], crowds: list[Box], bounds: tuple[float, float], rescue: bool, pairs: int
) -> None:
    """No objects, boxes without area, ties; all at once or, where there are too many, a few at a time."""
    one, two, three = (torch.tensor(x, dtype=torch.float64).reshape(-1, 4) for x in (boxes, truth, crowds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes_module, "PAIRS", pairs)
        found = matched(one, two, three, *bounds, rescue=rescue)
    assert found.tolist() == slow_match(boxes, truth, crowds, *bounds, rescue)


def test_what_matches() -> None:
    """By hand: thresholds are met by what equals them, crowds take background only, what overlaps nothing is rescued by
    nobody."""
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 3], [20, 20, 30, 30], [20, 20, 20, 30], [0, 5, 10, 15]]
    )
    truth, far, none = boxes[:1], torch.tensor([[50.0, 50, 60, 60]]), torch.zeros(0, 4)
    assert matched(boxes, truth, none, 0.5, 0.3).tolist() == [0, 0, NEITHER, BACKGROUND, NEITHER, NEITHER]
    assert matched(boxes, none, none, 0.5, 0.3).tolist() == [BACKGROUND] * 4 + [NEITHER, BACKGROUND]
    assert matched(boxes, none, boxes[:1], 0.5, 0.3).tolist() == [NEITHER] * 3 + [BACKGROUND, NEITHER, NEITHER]
    assert matched(boxes, truth, boxes[:1], 0.5, 0.5).tolist() == [0, 0, NEITHER, BACKGROUND, NEITHER, NEITHER]
    assert matched(boxes, far, none, 0.5, 0.3, rescue=True).tolist() == [BACKGROUND] * 4 + [NEITHER, BACKGROUND]
    assert matched(boxes[1:3], truth, none, 0.9, 0.8, rescue=True).tolist() == [0, BACKGROUND]


def test_what_is_drawn() -> None:
    match = torch.tensor([0] * 40 + [BACKGROUND] * 200 + [NEITHER] * 60 + [3] * 10)
    for count, share, objects, background in (
        (100, 0.25, 25, 75),
        (100, 0.29, 29, 71),
        (400, 0.5, 50, 200),
        (100, 1, 50, 50),
    ):
        first, second = drawn(match, count, share)
        assert (len(first), len(second)) == (objects, background)
        assert len(first.unique()) == objects and len(second.unique()) == background
        assert (match[first] >= 0).all() and (match[second] == BACKGROUND).all()
    assert [len(x) for x in drawn(torch.full((9,), BACKGROUND), 5, 0.5)] == [0, 5]
    assert [len(x) for x in drawn(torch.full((9,), 1), 4, 0.5)] == [2, 0]
    assert [len(x) for x in drawn(torch.full((9,), NEITHER), 4, 0.5)] == [0, 0]


def test_what_is_drawn_is_uniform() -> None:
    """Each of ten equally often: of 4,000 draws of three, within five standard deviations."""
    match = torch.tensor([0] * 10 + [BACKGROUND] * 10)
    counts = torch.zeros(20)
    for _ in range(4000):
        for places in drawn(match, 6, 0.5):
            counts[places] += 1
    assert (counts - 1200).abs().max() < 5 * math.sqrt(4000 * 0.3 * 0.7)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(box, st.integers(0, 2)), max_size=24), st.sampled_from([0.3, 0.5]), st.sampled_from([1, 5, 256])
)
def test_suppression_inside_groups(rows: list[tuple[Box, int]], threshold: float, block: int) -> None:
    boxes = torch.tensor([one for one, _ in rows], dtype=torch.float64).reshape(1, -1, 4)
    groups = torch.tensor([[group for _, group in rows]]).reshape(1, -1)
    there = torch.ones(groups.shape, dtype=torch.bool)
    expected: set[int] = set()
    for group in range(3):
        own = [i for i, (_, other) in enumerate(rows) if other == group]
        expected |= {own[i] for i in slow_suppress([rows[i][0] for i in own], threshold)}
    keep = survivors(boxes, there, threshold, block, groups)
    assert set(keep[0].nonzero().flatten().tolist()) == expected
    for most in (1, 3):
        fewer = survivors(boxes, there, threshold, block, groups, most)[0].nonzero().flatten().tolist()
        assert fewer[:most] == sorted(expected)[:most]
        assert set(fewer) <= expected


def test_of_equal_scores_the_first_come_first() -> None:
    scores = torch.tensor([[1.0, 5, 3, 5, 3, 5, 0], [2, 2, 2, 2, 2, 2, 2]])
    values, places = highest(scores, 5)
    assert values.tolist() == [[5, 5, 5, 3, 3], [2] * 5]
    assert places[0].tolist() == [1, 3, 5, 2, 4]
    assert places[1].tolist() == sorted(places[1].tolist())
    assert highest(scores, 50)[1][1].tolist() == list(range(7))


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5, 2.0])
def test_focal_loss(gamma: float) -> None:
    logits = (torch.randn(7, 3).double() * 3).requires_grad_()
    ones = torch.rand(7, 3).double() < 0.4
    expected = torch.stack(
        [slow_focal(x, bool(t), 0.3, gamma) for x, t in zip(logits.flatten(), ones.flatten(), strict=True)]
    ).sum()
    check_losses({"l": focal(logits, ones, 0.3, gamma)}, {"l": expected}, [logits])
    assert torch.autograd.gradcheck(lambda x: focal(x, ones, 0.3, gamma), logits)
    plain = F.binary_cross_entropy_with_logits(logits, ones.double(), reduction="sum")
    torch.testing.assert_close(focal(logits, ones, 0.5, 0.0), plain / 2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_sure_logits_is_finite(gamma: float) -> None:
    logits = torch.tensor([200.0, -200, 200, -200], requires_grad=True)
    loss = focal(logits, torch.tensor([True, True, False, False]), 0.5, gamma)
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(200.0))
    assert logits.grad is not None and logits.grad.isfinite().all()
    torch.testing.assert_close(logits.grad, torch.tensor([0.0, -0.5, 0.5, 0.0]))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_smooth_distance(beta: float) -> None:
    values, targets = torch.randn(6, 4).double().requires_grad_(), torch.randn(6, 4).double()
    expected = torch.stack([slow_smooth(d, beta) for d in (values - targets).flatten()]).sum()
    check_losses({"l": smooth(values, targets, beta)}, {"l": expected}, [values])
    assert torch.autograd.gradcheck(lambda x: smooth(x, targets, beta), values)


@pytest.mark.parametrize(("loss", "slow"), [(generalised, slow_giou), (bounded, slow_bounded)])
def test_losses_of_boxes(loss: Callable[[Tensor, Tensor], Tensor], slow: Callable[[Any, Box], Tensor]) -> None:
    boxes, wanted = random_boxes(40, grow=0.6).requires_grad_(), random_boxes(40, grow=0.6)
    expected = torch.stack([slow(b.unbind(), w) for b, w in zip(boxes, wanted.tolist(), strict=True)]).sum()
    check_losses({"l": loss(boxes, wanted)}, {"l": expected}, [boxes])
    assert torch.autograd.gradcheck(lambda x: loss(x, wanted), boxes)
    torch.testing.assert_close(loss(wanted, wanted), torch.zeros(()).double(), atol=1e-9, rtol=0)


def test_losses_of_nothing_are_zero() -> None:
    none = torch.zeros(0, 4, requires_grad=True)
    for loss in (
        smooth(none, none, 1.0),
        generalised(none, none),
        bounded(none, none),
        focal(none, none > 0, 0.5, 2.0),
    ):
        assert loss == 0 and loss.requires_grad


def test_losses_are_precise() -> None:
    half = torch.tensor([[1.0, 2, 30, 40]]).bfloat16()
    for loss in (
        smooth(half, half, 1.0),
        generalised(half, half),
        bounded(half, half),
        focal(half, half > 9, 0.5, 2.0),
    ):
        assert loss.dtype == torch.float32


# --- what is on the images --------------------------------------------------------------------------------------------


def test_the_scene_of_a_batch() -> None:
    images, scene = torch.zeros(3, 3, *SIZE), scene_of()
    assert scene.targets is not None
    told = {**scene.targets, "size": scene.sizes_B2.long(), "image_id": torch.arange(3)}
    found = Scene.of(images, told, training=True)
    assert found.learns and torch.equal(found.sizes_B2, scene.sizes_B2.float())
    for image, truth in enumerate(found.truths):
        objects, labels, crowds = truth_of(scene, image)
        assert [truth.boxes_M4.tolist(), truth.labels_M.tolist(), truth.crowds_K4.tolist()] == [objects, labels, crowds]
    assert [len(truth.boxes_M4) for truth in found.truths] == [3, 0, 1]
    for given_targets, training in ((told, False), ({"size": told["size"]}, True), ({}, True), (None, True)):
        assert not Scene.of(images, given_targets, training).learns
    assert Scene.of(images, None, training=False).sizes_B2.tolist() == [list(SIZE)] * 3
    assert [len(t.boxes_M4) for t in Scene(scene.sizes_B2, {k: told[k] for k in ("boxes", "labels")}).truths] == [
        4,
        0,
        1,
    ]


# --- proposals --------------------------------------------------------------------------------------------------------


def slow_learn_proposals(
    scene: Scene, anchors: list[list[Box]], logits: list[list[Tensor]], deltas: list[list[Tensor]], above: float,
    below: float, stds: Sequence[float], beta: float,
) -> Losses:  # fmt: skip
    """With all anchors drawn, of each image its own."""
    entropy, off, count = torch.zeros(()).double(), torch.zeros(()).double(), 0
    for image, boxes in enumerate(anchors):
        objects, _, crowds = truth_of(scene, image)
        for n, match in enumerate(slow_match(boxes, objects, crowds, above, below, rescue=True)):
            if match == NEITHER:
                continue
            count += 1
            entropy = entropy + slow_entropy(logits[image][n], match >= 0)
            if match >= 0:
                for found, wanted in zip(deltas[image][n], slow_encode(boxes[n], objects[match], stds), strict=True):
                    off = off + slow_smooth(found - wanted, beta)
    return {"objectness": entropy / count, "proposal_boxes": off / count}


@pytest.mark.parametrize(("sizes", "offset"), [((), 0.5), ((10.0, 18.0, 20.0, 30.0), 0.3)])
def test_what_a_proposal_network_learns(sizes: tuple[float, ...], offset: float) -> None:
    scales, ratios, stds, beta = (1.3, 2.2), (0.6, 1.7), (1.0, 0.5, 0.7, 2.0), 0.2
    layer = Propose(
        STRIDES, 9, scales, ratios, stds=stds, sizes=sizes, offset=offset, above=0.5, below=0.3, count=10_000,
        beta=beta, learn_rois=13,
    )  # fmt: skip
    maps, scene = random_maps(20), scene_of()
    regions = layer(*maps, scene=scene)
    assert regions.shape == (3 * 13, 4) and not regions.requires_grad
    for region, image in zip(regions.tolist(), [0] * 13 + [1] * 13 + [2] * 13, strict=True):
        assert region == slow_clip(region, *scene.sizes_B2[image].tolist())
    assert layer.eval()(*maps, scene=Scene(scene.sizes_B2)).shape == (3 * 9, 4)
    sides = anchor_sides(STRIDES, scales, ratios, sizes)
    rows = list(slow_anchors(sides, offset))
    logits = [[maps[level][image, number, row, column] for level, row, column, number, _ in rows] for image in range(3)]
    deltas = [
        [maps[level][image, 4 + 4 * number : 8 + 4 * number, row, column] for level, row, column, number, _ in rows]
        for image in range(3)
    ]
    expected = slow_learn_proposals(scene, [[box for *_, box in rows]] * 3, logits, deltas, 0.5, 0.3, stds, beta)
    assert expected["proposal_boxes"].detach() > 0
    check_losses(scene.losses, expected, maps)


def slow_location(
    scene: Scene,
    logits: list[list[Tensor]],
    pixels: Sequence[tuple[int, Box]],
    scale: float,
    inner: float,
    outer: float,
) -> Tensor:
    total, ones = torch.zeros(()).double(), 0
    for image in range(3):
        objects, _, crowds = truth_of(scene, image)
        for n, (level, (x, y, *_)) in enumerate(pixels):
            one = unsure = False
            for x1, y1, x2, y2 in objects:
                side = math.sqrt((x2 - x1) * (y2 - y1))
                apart = [abs(math.log2(side / (scale * stride))) for stride in STRIDES]
                own = apart.index(min(apart))
                off_x, off_y = abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)
                holds = max(off_x, off_y) <= STRIDES[level] / 2
                one |= own == level and (holds or (off_x <= inner * (x2 - x1) / 2 and off_y <= inner * (y2 - y1) / 2))
                unsure |= abs(own - level) <= 1 and (
                    holds or (off_x <= outer * (x2 - x1) / 2 and off_y <= outer * (y2 - y1) / 2)
                )
            unsure |= any(c[0] <= x <= c[2] and c[1] <= y <= c[3] for c in crowds)
            ones += one
            if one or not unsure:
                total = total + slow_focal(logits[image][n], one, 0.25, 2.0)
    assert ones > 3
    return total / ones


def test_what_guided_anchoring_learns() -> None:
    scale, shape_stds, stds, beta, prior, above, below = 2.0, (0.5, 0.3), (0.4, 0.5, 0.6, 0.7), 0.5, 0.2, 0.6, 0.2
    inner, outer, weight = 0.4, 0.7, 0.3
    layer = GuidedPropose(
        STRIDES, 9, scale, shape_stds=shape_stds, stds=stds, above=above, below=below, count=10_000, beta=beta,
        inner=inner, outer=outer, shape_weight=weight, prior=prior,
    )  # fmt: skip
    maps, scene = random_maps(8), scene_of()
    layer(*maps, scene=scene)
    sides = [[(scale * stride, scale * stride)] for stride in STRIDES]
    rows = list(slow_anchors(sides))
    x = [[maps[level][image, :, row, column] for level, row, column, _, _ in rows] for image in range(3)]
    pixels = [(level, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)) for level, *_, box in rows]
    shift = math.log(prior / (1 - prior))
    expected = {
        "location": slow_location(scene, [[v[0] + shift for v in x[i]] for i in range(3)], pixels, scale, inner, outer)
    }
    zero = torch.zeros(()).double()
    stretched = [
        [
            slow_decode_torch(box, (zero, zero, v[1], v[2]), (1, 1, *shape_stds))
            for v, (*_, box) in zip(x[i], rows, strict=True)
        ]
        for i in range(3)
    ]
    loss, count = zero, 0
    for image in range(3):
        objects, _, _ = truth_of(scene, image)
        table = [
            [
                max(
                    slow_overlap(o, [px - w / 2, py - h / 2, px + w / 2, py + h / 2])
                    for octave, ratio in product((0, 1, 2), (0.5, 1.0, 2.0))
                    for side in [scale * STRIDES[level] * 2 ** (octave / 3)]
                    for w, h in [(side / math.sqrt(ratio), side * math.sqrt(ratio))]
                )
                for o in objects
            ]
            for level, (px, py) in pixels
        ]
        most = [max(row[m] for row in table) for m in range(len(objects))]
        for n, row in enumerate(table):
            kept = any(abs(o - m) < 1e-12 and m >= below for o, m in zip(row, most, strict=True))
            if objects and (max(row) >= above or kept):
                loss, count = loss + slow_bounded(stretched[image][n], objects[row.index(max(row))]), count + 1
    assert count > 3
    expected["shape"] = weight * loss / count
    anchors: list[list[Box]] = [[[float(s.detach()) for s in box] for box in boxes] for boxes in stretched]
    logits, deltas = [[v[3] for v in x[i]] for i in range(3)], [[v[4:] for v in x[i]] for i in range(3)]
    expected |= slow_learn_proposals(scene, anchors, logits, deltas, above, below, stds, beta)
    check_losses(scene.losses, expected, maps)


def test_few_anchors_are_drawn() -> None:
    """Of three images four each, and so many logits get a gradient."""
    maps, scene = random_maps(20), scene_of()
    Propose(STRIDES, 9, (1.3, 2.2), (0.6, 1.7), above=0.5, below=0.3, count=4)(*maps, scene=scene)
    scene.losses["objectness"].backward()
    reached = [sum(int((x.grad[i] != 0).sum()) for x in maps if x.grad is not None) for i in range(3)]
    assert reached == [4, 4, 4]


# --- heads without regions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("box_loss", "gamma"), [("smooth", 2.0), ("smooth", 1.5), ("giou", 2.0)])
def test_what_a_head_without_regions_learns(box_loss: str, gamma: float) -> None:
    scales, ratios, stds, beta, prior = (1.4, 2.3), (0.6, 1.7), (0.5, 1.0, 0.4, 0.8), 0.3, 0.1
    layer = DetectDense(
        STRIDES, 3, scales, ratios, stds=stds, above=0.5, below=0.35, alpha=0.3, gamma=gamma, box_loss=box_loss,
        beta=beta, box_weight=1.5, prior=prior,
    )  # fmt: skip
    logits, deltas, scene = random_maps(12), random_maps(16), scene_of()
    assert layer(*logits, *deltas, scene=scene) == {}
    rows = list(slow_anchors(anchor_sides(STRIDES, scales, ratios)))
    shift = math.log(prior / (1 - prior))
    classes, boxes = torch.zeros(()).double(), torch.zeros(()).double()
    for image in range(3):
        objects, labels, crowds = truth_of(scene, image)
        match = slow_match([box for *_, box in rows], objects, crowds, 0.5, 0.35, rescue=True)
        number = max(1, sum(m >= 0 for m in match))
        assert number > 1 or not objects
        for m, (level, row, column, kind, box) in zip(match, rows, strict=True):
            for c in range(3):
                if m != NEITHER:
                    logit = logits[level][image, 3 * kind + c, row, column] + shift
                    classes = classes + slow_focal(logit, m >= 0 and labels[m] == c, 0.3, gamma) / number / 3
            if m >= 0:
                here = deltas[level][image, 4 * kind : 4 * kind + 4, row, column]
                if box_loss == "giou":
                    boxes = (
                        boxes + 1.5 * slow_giou(slow_decode_torch(box, here.unbind(), stds), objects[m]) / number / 3
                    )
                else:
                    for found, wanted in zip(here, slow_encode(box, objects[m], stds), strict=True):
                        boxes = boxes + 1.5 * slow_smooth(found - wanted, beta) / number / 3
    check_losses(scene.losses, {"classes": classes, "boxes": boxes}, [*logits, *deltas])


@pytest.mark.parametrize(
    ("least", "most", "per_level"), [(0.3, 10, 1000), (0.0, 300, 40), (0.45, 5, 20), (0.999, 4, 9)]
)
def test_detections_without_regions_are_those_of_the_loops(least: float, most: int, per_level: int) -> None:
    scales, ratios, stds, prior = (1.4, 2.3), (0.6, 1.7), (0.5, 1.0, 0.4, 0.8), 0.4
    layer = DetectDense(
        STRIDES, 3, scales, ratios, stds=stds, per_level=per_level, least=least, nms=0.4, most=most, prior=prior
    )
    logits, deltas = ([x.detach() for x in random_maps(channels)] for channels in (12, 16))
    sizes = scene_of().sizes_B2
    found = layer(*logits, *deltas, scene=Scene(sizes))
    rows, shift = list(slow_anchors(anchor_sides(STRIDES, scales, ratios))), math.log(prior / (1 - prior))
    for image in range(3):
        scored: list[tuple[float, int, list[float]]] = []
        for level in range(2):
            here = []
            for at, row, column, kind, box in rows:
                if at == level:
                    delta = deltas[level][image, 4 * kind : 4 * kind + 4, row, column].tolist()
                    for c in range(3):
                        logit = float(logits[level][image, 3 * kind + c, row, column]) + shift
                        placed = slow_clip(slow_decode(box, delta, stds), *sizes[image].tolist())
                        here.append((1 / (1 + math.exp(-logit)), c, placed))
            scored += sorted(here, key=lambda one: -one[0])[:per_level]
        check_detections({k: v[image] for k, v in found.items()}, scored, least, 0.4, most)


def check_detections(
    found: dict[str, Tensor], scored: list[tuple[float, int, list[float]]], least: float, nms: float, most: int
) -> None:
    """The detections of one image, from the scores, classes and boxes of all candidates."""
    kept: list[tuple[float, int, list[float]]] = []
    for label in sorted({label for _, label, _ in scored}):
        own = [one for one in scored if one[1] == label and one[0] > least]
        own = sorted((o for o in own if o[2][2] > o[2][0] and o[2][3] > o[2][1]), key=lambda one: -one[0])
        kept += [own[i] for i in slow_suppress([box for *_, box in own], nms)]
    kept = sorted(kept, key=lambda one: -one[0])[:most]
    rows = [(score, label, box) for score, label, box in kept] + [(0.0, -1, [0.0] * 4)] * (most - len(kept))
    assert found["labels"].tolist() == [label for _, label, _ in rows]
    torch.testing.assert_close(found["scores"], torch.tensor([score for score, _, _ in rows]).to(found["scores"]))
    torch.testing.assert_close(
        found["boxes"], torch.tensor([b for *_, b in rows]).to(found["boxes"]), rtol=1e-6, atol=1e-5
    )


# --- heads on regions -------------------------------------------------------------------------------------------------


def some_regions(each: int = 12) -> Tensor:
    """Of three images: near objects, anywhere, and rows that are none."""
    scene, found = scene_of(), []
    assert scene.targets is not None
    for image in range(3):
        boxes = scene.targets["boxes"][image].repeat(3, 1)[:each]
        boxes = boxes + torch.randn(boxes.shape).double() * 2
        boxes[9:] = random_boxes(each - 9, *SIZE) if image else 0.0
        boxes = torch.where((boxes[:, 2:] > boxes[:, :2]).all(1, keepdim=True), boxes, 0.0)
        found.append(boxes)
    return torch.cat(found)


@pytest.mark.parametrize(("stages", "width"), [(1, 4), (1, 12), (1, 16), (3, 4), (2, 12)])
def test_what_a_head_on_regions_learns(stages: int, width: int) -> None:
    above, weights, stds, beta = (0.5, 0.6), (1.0, 0.25), (0.1, 0.2, 0.3, 0.4, 1.0, 1.1, 1.2, 1.3), 0.4
    layer = DetectRegions(3, above, weights, stds, beta)
    scene = scene_of()
    regions = [some_regions() for _ in range(stages)]
    logits = [torch.randn(36, 4).double().requires_grad_() for _ in range(stages)]
    deltas = [torch.randn(36, width).double().requires_grad_() for _ in range(stages)]
    assert layer(*regions, *logits, *deltas, scene=scene) == {}
    expected: Losses = {}
    for stage in range(stages):
        which = min(stage, 1)
        entropy, off, count, right = torch.zeros(()).double(), torch.zeros(()).double(), 0, 0
        for image in range(3):
            objects, labels, crowds = truth_of(scene, image)
            own = regions[stage][12 * image : 12 * image + 12].tolist()
            for n, match in enumerate(slow_match(own, objects, crowds, above[which], above[which]), 12 * image):
                if match == NEITHER:
                    continue
                count += 1
                label = labels[match] if match >= 0 else 3
                exps = [x.exp() for x in logits[stage][n]]
                entropy = entropy - (exps[label] / torch.stack(exps).sum()).log()
                if match >= 0:
                    right += 1
                    start = 0 if width == 4 else 4 * label
                    target = slow_encode(regions[stage][n].tolist(), objects[match], stds[4 * which : 4 * which + 4])
                    for found, wanted in zip(deltas[stage][n, start : start + 4], target, strict=True):
                        off = off + slow_smooth(found - wanted, beta)
        assert right > 2
        name = f"_{stage + 1}" if stages > 1 else ""
        expected[f"classes{name}"] = weights[which] * entropy / count
        expected[f"boxes{name}"] = weights[which] * off / count
    check_losses(scene.losses, expected, [*logits, *deltas])


@pytest.mark.parametrize(
    ("stages", "width", "least", "most"), [(1, 4, 0.2, 9), (1, 12, 0.0, 200), (3, 16, 0.3, 5), (1, 4, 0.99, 3)]
)
def test_detections_on_regions_are_those_of_the_loops(stages: int, width: int, least: float, most: int) -> None:
    """The boxes of the last stage, the mean of all stages' logits; rows that are no region are none."""
    stds = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    layer = DetectRegions(3, stds=stds, least=least, nms=0.4, most=most)
    sizes = scene_of().sizes_B2
    regions = [some_regions() for _ in range(stages)]
    logits, deltas = ([torch.randn(36, n).double() for _ in range(stages)] for n in (4, width))
    logits[0][5] = logits[0][4]  # a tie
    found = layer(*regions, *logits, *deltas, scene=Scene(sizes))
    last = stds[:4] if stages == 1 else stds[4:]
    for image in range(3):
        scored: list[tuple[float, int, list[float]]] = []
        for n in range(12 * image, 12 * image + 12):
            region = regions[-1][n].tolist()
            mean = [math.exp(sum(float(x[n, c]) for x in logits) / stages) for c in range(4)]
            for c in range(3):
                start = 0 if width == 4 else 4 * c
                box = slow_clip(
                    slow_decode(region, deltas[-1][n, start : start + 4].tolist(), last), *sizes[image].tolist()
                )
                if region[2] > region[0] and region[3] > region[1]:
                    scored.append((mean[c] / sum(mean), c, box))
        check_detections({k: v[image] for k, v in found.items()}, scored, least, 0.4, most)


def test_equal_detections_come_in_order() -> None:
    """Two regions and two classes of one score: region by region, in it class by class; the second box goes."""
    regions = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10]])
    found = DetectRegions(2, most=5)(
        regions, torch.zeros(3, 3), torch.zeros(3, 4), scene=Scene(torch.tensor([[40.0, 40]]))
    )
    assert found["labels"].tolist() == [[0, 1, 0, 1, -1]]
    assert found["boxes"][0, :, 0].tolist() == [0, 0, 20, 20, 0]


def test_regions_of_one_image_alone() -> None:
    """Where nothing is drawn for any, and where some are for one: sums over nothing are zero, and have gradients."""
    regions = torch.zeros(9, 4)
    for row in ((), (0,)):
        regions[list(row)] = torch.tensor([3.0, 4, 17, 20])
        scene = scene_of()
        logits, deltas = torch.randn(9, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
        DetectRegions(3)(regions, logits, deltas, scene=scene)
        assert all(loss.isfinite() for loss in scene.losses.values())
        torch.stack(list(scene.losses.values())).sum().backward()
        assert logits.grad is not None and bool(logits.grad.any()) is bool(row)


# --- regions to learn from --------------------------------------------------------------------------------------------


def test_regions_are_drawn_with_the_objects_among_them() -> None:
    scene, layer = scene_of(), SampleRegions(count=40, share=0.5, above=0.5)
    regions = some_regions()
    assert torch.equal(layer(regions), regions) and torch.equal(layer(regions, scene=Scene(scene.sizes_B2)), regions)
    assert scene.targets is not None
    rows = layer(regions, scene=scene).view(3, -1, 4)
    for image in range(3):
        objects, _, crowds = truth_of(scene, image)
        offered = regions[12 * image : 12 * image + 12].tolist() + objects
        match = slow_match(offered, objects, crowds, 0.5, 0.5)
        wanted = sorted(box for box, m in zip(offered, match, strict=True) if m != NEITHER)  # all find room
        assert sorted(box for box in rows[image].tolist() if any(box)) == wanted
        assert all(box in rows[image].tolist() for box in objects)
    assert rows.shape[1] == max(int(row.any(1).sum()) for row in rows)
    counts = [int(row.any(1).sum()) for row in rows]
    assert len(set(counts)) > 1  # images of other numbers end in empty boxes
    assert all(row[:n].any(1).all() for row, n in zip(rows, counts, strict=True))


def test_of_many_regions_a_share_has_objects() -> None:
    scene = scene_of(1)
    regions = torch.cat(
        [torch.tensor([[3.0, 4, 17, 20]]).double() + torch.rand(50, 4).double(), random_boxes(80, *SIZE)]
    )
    rows = SampleRegions(count=20, share=0.25, above=0.5)(regions, scene=scene)
    objects, _, crowds = truth_of(scene, 0)
    match = slow_match(rows.tolist(), objects, crowds, 0.5, 0.5)
    assert len(match) == 20 and sum(m >= 0 for m in match) == 5 and NEITHER not in match


def test_where_no_region_is_left_there_is_an_empty_one() -> None:
    scene = Scene(torch.tensor([[9.0, 9]]), {"boxes": torch.zeros(1, 1, 4), "labels": torch.full((1, 1), -1)})
    assert SampleRegions()(torch.zeros(3, 4), scene=scene).tolist() == [[0.0] * 4]


def test_objects_that_were_added_are_not_refined() -> None:
    """They would fit too well from the first stage on; each stage gets them anew."""
    scene, regions = scene_of(), some_regions()
    assert scene.targets is not None
    regions[3], regions[30] = scene.targets["boxes"][0, 1], scene.targets["boxes"][2, 1]
    regions[20] = scene.targets["boxes"][0, 1]  # an object of another image
    deltas = torch.randn(36, 4).double()
    refined = Refine()(regions, deltas, scene=scene)
    free = Refine()(regions, deltas, scene=Scene(scene.sizes_B2))
    assert free[3].any() and free[30].any()
    free[[3, 30]] = 0
    assert torch.equal(refined, free)


# --- networks ---------------------------------------------------------------------------------------------------------

HEADS = """
space heads {
  input 3 x 96 x 128
  let which = oneof(rcnn, cascade, guided, retina, giou, plain)
  detector {
    backbone: {
      conv(8, kernel: 3, stride: 2)
      c2: basic(oneof(8, 12), stride: 2)
      c3: basic(16, stride: 2)
      c4: basic(16, stride: 2)
      (branches(c4) if which == plain else branches(c2, c3, c4))
    }
    neck: none if which == plain else fpn(16, levels: 2..5)
    proposals: match which {
      rcnn: rpn(30)
      cascade: rpn(30)
      guided: guided_anchor_rpn(20)
      retina: none
      giou: none
      plain: rpn(20, scales: [2, 4, 8])
    }
    head: match which {
      rcnn: rcnn(4, body: two_layers(oneof(16, 24)), samples: 24)
      cascade: cascade(oneof(2, 3), classes: 4, body: two_layers(16), samples: 24)
      guided: rcnn(4, body: two_layers(16), samples: 24, agnostic: true)
      retina: retina(4, depth: oneof(1, 2))
      giou: retina(4, depth: 1, box_loss: giou, level_norm: true)
      plain: rcnn(4, size: 6) { basic(16, stride: 2) -> global_pool() }
    }
  }
}
"""


@cache
def heads() -> Graph:
    return elaborate(Source(HEADS, "heads")).graph


def each_head() -> dict[str, Any]:
    return {str(draw["which"]): draw for draw in sample(heads(), 40, seed=1)}


NAMES = ("rcnn", "cascade", "guided", "retina", "giou", "plain")


@pytest.mark.parametrize("name", NAMES)
def test_each_head_taken_out_computes_and_learns_the_same(name: str) -> None:
    check_extraction(heads(), each_head()[name], batch=3)


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_those_of_the_random_numbers(name: str) -> None:
    """The same after the same seed; in half precision finite, and near."""
    network = Supernet(heads())
    network.activate(each_head()[name])
    images, targets = torch.randn(3, 3, 96, 128), targets_for(heads(), 3)
    found: list[Losses] = []
    for half in (False, False, True):
        torch.manual_seed(3)
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses = network(images, targets)
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
        assert all(loss.dtype == torch.float32 and loss.isfinite() and loss.dim() == 0 for loss in losses.values())
        found.append({key: loss.detach() for key, loss in losses.items()})
    assert list(found[0]) == list(found[1]) == list(found[2])
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert sum(map(float, found[2].values())) == pytest.approx(sum(map(float, found[0].values())), rel=0.3)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_gone_wrong_says_so_by_its_losses(name: str) -> None:
    """No number is not an error where boxes are drawn, and no detection."""
    network = Supernet(heads())
    network.activate(each_head()[name])
    images = torch.full((2, 3, 96, 128), torch.nan)
    losses = network(images, targets_for(heads()))
    assert any(loss.isnan() for loss in losses.values())
    with torch.no_grad():
        made = network.eval()(images)
    assert (made["labels"] == -1).all() and not made["boxes"].any()


def test_without_boxes_a_network_in_training_gives_detections() -> None:
    network = Supernet(heads())
    images = torch.randn(2, 3, 96, 128)
    for targets in (None, {"size": torch.tensor([[96, 128], [50, 60]])}):
        made = network(images, targets)
        assert list(made) == ["boxes", "scores", "labels"] and made["boxes"].shape == (2, 100, 4)
    assert list(network.eval()(images, targets_for(heads()))) == ["boxes", "scores", "labels"]


def test_padding_holds_no_detections() -> None:
    network = Supernet(heads()).eval()
    sizes = torch.tensor([[96, 128], [50, 60]])
    for name in NAMES:
        network.activate(each_head()[name])
        with torch.no_grad():
            made = network(torch.randn(2, 3, 96, 128), {"size": sizes})
        for image, (height, width) in enumerate(sizes.tolist()):
            boxes = made["boxes"][image]
            assert boxes.min() >= 0 and boxes[:, [0, 2]].max() <= width and boxes[:, [1, 3]].max() <= height
