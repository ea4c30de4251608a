"""Boxes: deltas, overlaps, suppression, anchors, and which anchor or region is there for which object.

A box is x1, y1, x2, y2 in pixels of the network's input, counted continuously: the first pixel spans 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from nasdsl.compiler.layers.recording import is_open, numbers, operation, recorded

BACKGROUND = -1
"""The match of a box that no object belongs to."""
NEITHER = -2
"""The match of a box that is neither an object nor background."""
TINY = 1e-12
LARGEST = math.log(1000 / 16)
"""The greatest logarithm by which a side is scaled."""
PAIRS = 1 << 24
"""Of so many pairs of boxes the overlaps are looked at together; more would take too much memory."""


def exact(x: torch.Tensor) -> torch.Tensor:
    """Cut off from the gradient, and in float32 at least: half precision cannot tell neighbouring pixels apart."""
    return precise(x.detach())


def precise(x: torch.Tensor) -> torch.Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


# --- deltas -----------------------------------------------------------------------------------------------------------


def decoded(boxes: torch.Tensor, deltas: torch.Tensor, stds: tuple[float, ...]) -> torch.Tensor:
    """Boxes (... 4) moved and scaled by what a network says of them.

    `deltas` (... 4), once multiplied by `stds`, are dx, dy in widths and heights of the box and the logarithms of two
    factors, of width and height; a factor is at most 1000 / 16. R-CNN paper, bounding-box regression.
    """
    corner, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    deltas = deltas * deltas.new_tensor(stds)
    centre = corner + size * (deltas[..., :2] + 0.5)
    half = size * deltas[..., 2:].clamp(max=LARGEST).exp() / 2  # in this order: what overflows has no gradient
    return torch.cat([centre - half, centre + half], -1)


def encoded(boxes: torch.Tensor, wanted: torch.Tensor, stds: tuple[float, ...]) -> torch.Tensor:
    """The deltas (... 4) that move boxes (... 4) with an area to others: the inverse of `decoded`."""
    size, aim = boxes[..., 2:] - boxes[..., :2], wanted[..., 2:] - wanted[..., :2]
    shift = (wanted[..., :2] + wanted[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2 / size
    return torch.cat([shift, (aim / size).log()], -1) / boxes.new_tensor(stds)


def clipped(boxes: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Boxes (... 4) cut at the borders of images of such heights and widths (... 2)."""
    height, width = sizes.to(boxes).unbind(-1)
    zero = torch.zeros_like(height)
    x1, y1, x2, y2 = boxes.unbind(-1)
    rows = [x.clamp(zero, side) for x, side in ((x1, width), (y1, height), (x2, width), (y2, height))]
    return torch.stack(rows, -1)


def image_size(maps: tuple[torch.Tensor, ...], strides: tuple[float, ...]) -> torch.Tensor:
    """Height and width of the images behind a pyramid. A stride that does not divide them leaves it open by less than
    the smallest stride; it is the greatest possible size."""
    height = min(x.shape[2] * stride for x, stride in zip(maps, strides, strict=True))
    width = min(x.shape[3] * stride for x, stride in zip(maps, strides, strict=True))
    return numbers((height, width), maps[0].device)


# --- overlaps ---------------------------------------------------------------------------------------------------------


def areas(boxes: torch.Tensor) -> torch.Tensor:
    """Of boxes (... 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def common_area(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Of all pairs of boxes (... N 4) and (... M 4): ... N M."""
    left, top, right, bottom = (side[..., :, None] for side in boxes.unbind(-1))
    lefts, tops, rights, bottoms = (side[..., None, :] for side in others.unbind(-1))
    width = (torch.minimum(right, rights) - torch.maximum(left, lefts)).clamp_(min=0)
    return width.mul_((torch.minimum(bottom, bottoms) - torch.maximum(top, tops)).clamp_(min=0))


def overlaps(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of all pairs of boxes (... N 4) and (... M 4): ... N M; 0 for two without area."""
    common = common_area(boxes, others)
    union = (areas(boxes)[..., :, None] + areas(others)[..., None, :]).sub_(common)
    return common.div_(union.clamp_(min=TINY))


def survivors(
    boxes_BN4: torch.Tensor,
    there_BN: torch.Tensor,
    threshold: float,
    block: int = 256,
    groups_BN: torch.Tensor | None = None,
    most: int | None = None,
    kinds: int = 1,
) -> torch.Tensor:
    """Greedy non-maximum suppression in each image, exactly: B N, true for the boxes that stay.

    The boxes stand in falling order of score. From the first on, a box stays if it is `there` and overlaps no earlier
    box that stays by more than the threshold.

    Blocks of boxes are looked at together. Inside a block the rule is applied to all boxes at once, again and again
    until nothing changes: after n rounds the first n boxes are final, and few rounds are needed, since chains of boxes
    that each suppress the next are short.

    Args:
        groups_BN: boxes suppress those of their own group, such as a class: numbers from 0.
        most: boxes behind those of an image's first so many that stay may be left out.
        kinds: how many groups there are, which a recording has to know.
    """
    if recorded(boxes_BN4):
        return SURVIVORS(boxes_BN4.detach(), there_BN, threshold, block, groups_BN, most, kinds)
    return suppressed(boxes_BN4, there_BN, threshold, block, groups_BN, most)


def suppressed(
    boxes_BN4: torch.Tensor,
    there_BN: torch.Tensor,
    threshold: float,
    block: int,
    groups_BN: torch.Tensor | None,
    most: int | None,
    kinds: int = 1,
) -> torch.Tensor:
    """`survivors`, in steps that hang on the boxes."""
    keep_BN = torch.zeros_like(there_BN)
    for start in range(0, there_BN.shape[1], block):
        part = slice(start, start + block)
        boxes_Bn4, free_Bn = boxes_BN4[:, part], there_BN[:, part]
        if start:
            if most is not None and bool((keep_BN.sum(1) >= most).all()):
                break
            before_BM, end = _first(keep_BN[:, :start])
            earlier_BM4 = boxes_BN4.gather(1, before_BM[..., None].expand(-1, -1, 4))
            hit = overlaps(earlier_BM4, boxes_Bn4) > threshold
            if groups_BN is not None:
                hit &= groups_BN.gather(1, before_BM)[:, :, None] == groups_BN[:, None, part]
            free_Bn = free_Bn & ~(hit & end[:, :, None]).any(1)
        hit = (overlaps(boxes_Bn4, boxes_Bn4) > threshold).triu(1)
        if groups_BN is not None:
            hit &= groups_BN[:, part, None] == groups_BN[:, None, part]
        keep_Bn, before = free_Bn, torch.zeros_like(free_Bn)
        while not torch.equal(keep_Bn, before):
            before, keep_Bn = keep_Bn, free_Bn & ~(hit & keep_Bn[:, :, None]).any(1)
        keep_BN[:, part] = keep_Bn
    return keep_BN


def like_there(boxes_BN4: torch.Tensor, there_BN: torch.Tensor, *rest: object) -> torch.Tensor:
    """A tensor of the size of what `suppressed` gives."""
    return torch.empty_like(there_BN)


SURVIVORS = operation(
    "nasdsl::survivors",
    "(Tensor boxes, Tensor there, float threshold, int block, Tensor? groups, int? most, int kinds) -> Tensor",
    suppressed,
    like_there,
)
"""`suppressed` as an operation."""


def highest(scores_BN: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest scores of each image, B n, in falling order, and their places; equal ones in the order they stand in.

    Which of several equal ones are the last that find room is left open.
    """
    place_Bn = scores_BN.topk(min(number, scores_BN.shape[1]), 1, sorted=False).indices.sort(1).values
    scores_Bn, order_Bn = scores_BN.gather(1, place_Bn).sort(dim=1, descending=True, stable=True)
    return scores_Bn, place_Bn.gather(1, order_Bn)


def _first(true_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the true entries, B M with M the most of an image, and which of them are meant."""
    most = int(true_BN.sum(1).max())
    found_BM, place_BM = true_BN.to(torch.uint8).topk(most, 1)
    return place_BM, found_BM.bool()


# --- anchors ----------------------------------------------------------------------------------------------------------


def anchor_sides(
    strides: tuple[float, ...], scales: tuple[float, ...], ratios: tuple[float, ...], sizes: tuple[float, ...] = ()
) -> list[list[tuple[float, float]]]:
    """Width and height of each level's anchors: for each scale in turn one of each ratio, of height over width, with
    the area of a square.

    Args:
        scales: sides of the squares, in pixels of the level.
        sizes: instead of the scales, sides in pixels of the input: those of the first level, then of the second, ...
    """
    each = len(sizes) // len(strides)
    found = []
    for level, stride in enumerate(strides):
        sides = sizes[level * each : (level + 1) * each] if sizes else [scale * stride for scale in scales]
        found.append([(side / ratio**0.5, side * ratio**0.5) for side in sides for ratio in ratios])
    return found


def cell_centres(places: torch.Tensor, width: int, stride: float, like: torch.Tensor, offset: float) -> torch.Tensor:
    """Where the anchors (... 2, as x, y) of map pixels stand that are numbered row by row: at `offset` of the pixel."""
    side = numbers((width,), places.device) if is_open(width) else width
    return (torch.stack([places % side, places // side], -1).to(like) + offset) * stride


def anchors_at(
    places: torch.Tensor,
    width: int,
    stride: float,
    sides_K2: torch.Tensor,
    offset: float,
    rounded: bool,
) -> torch.Tensor:
    """Anchors (... 4) with the numbers `places` of a level: pixel by pixel, in a pixel kind by kind.

    Args:
        sides_K2: width and height of each kind.
        rounded: whether corners of an anchor around 0 are whole numbers.
    """
    kinds = len(sides_K2)
    centre = cell_centres(places // kinds, width, stride, sides_K2, offset)
    half_K2 = sides_K2 / 2
    half = (half_K2.round() if rounded else half_K2)[places % kinds]
    return torch.cat([centre - half, centre + half], -1)


class Anchors:
    """The anchors of all levels; see `anchor_sides` and `anchors_at` for the arguments."""

    def __init__(
        self,
        strides: tuple[float, ...],
        scales: tuple[float, ...],
        ratios: tuple[float, ...],
        sizes: tuple[float, ...],
        offset: float,
        rounded: bool,
    ) -> None:
        self.strides = strides
        self.sides = anchor_sides(strides, scales, ratios, sizes)
        self.offset = offset
        self.rounded = rounded

    def at(self, places: torch.Tensor, width: int, level: int, dtype: torch.dtype) -> torch.Tensor:
        """The level's anchors (... 4) with such numbers, on a map of that width."""
        sides_K2 = torch.tensor(self.sides[level], device=places.device, dtype=dtype)
        return anchors_at(places, width, self.strides[level], sides_K2, self.offset, self.rounded)

    def all(self, maps: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        """Those of all pixels of all levels: N 4."""
        found = []
        for level, x_BCHW in enumerate(maps):
            number = x_BCHW[0, 0].numel() * len(self.sides[level])
            found.append(self.at(torch.arange(number, device=x_BCHW.device), x_BCHW.shape[3], level, dtype))
        return torch.cat(found)


def as_list(x_BCHW: torch.Tensor, each: int) -> torch.Tensor:
    """A map's predictions as a list: B H*W*A each, pixel by pixel, in a pixel anchor by anchor."""
    return x_BCHW.permute(0, 2, 3, 1).reshape(x_BCHW.shape[0], -1, each)


# --- matching ---------------------------------------------------------------------------------------------------------


def matched(
    boxes_N4: torch.Tensor,
    truth_M4: torch.Tensor,
    crowds_K4: torch.Tensor,
    above: float,
    below: float,
    rescue: bool = False,
) -> torch.Tensor:
    """For each box the object that it is for, BACKGROUND or NEITHER: N.

    A box is for the object that it overlaps most, if by `above` or more; it is background if by less than `below`.
    Background that lies in a crowd, by half or more of its area, and boxes without area are neither. Faster R-CNN
    paper.

    Args:
        rescue: each object also keeps the boxes that overlap it most, by however little, unless they overlap another
            one more.
    """
    nothing_N = (boxes_N4[:, 2:] <= boxes_N4[:, :2]).any(1)
    if len(truth_M4) == 0:
        match_N = torch.full_like(nothing_N, BACKGROUND, dtype=torch.long)
    else:
        best_N, nearest_N, most_N = _nearest(boxes_N4, truth_M4.to(boxes_N4))
        match_N = torch.where(best_N >= above, nearest_N, torch.where(best_N < below, BACKGROUND, NEITHER))
        if rescue:
            match_N = torch.where(most_N, nearest_N, match_N)
    if len(crowds_K4):
        inside_NK = common_area(boxes_N4, crowds_K4.to(boxes_N4)) / areas(boxes_N4).clamp(min=TINY)[:, None]
        match_N = torch.where((match_N == BACKGROUND) & (inside_NK >= 0.5).any(1), NEITHER, match_N)
    return torch.where(nothing_N, NEITHER, match_N)


def _nearest(boxes_N4: torch.Tensor, truth_M4: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each box its greatest overlap with an object, the first such object, and whether it overlaps one that no box
    overlaps more: N each."""
    parts, most, ties = [], [], []
    each = max(PAIRS // len(truth_M4), 1)
    for start in range(0, len(boxes_N4), each):
        overlap_Mn = overlaps(truth_M4, boxes_N4[start : start + each])
        parts.append(overlap_Mn.max(0))
        most.append(overlap_Mn.amax(1))
        ties.append(((overlap_Mn == most[-1][:, None]) & (most[-1][:, None] > 0)).nonzero(as_tuple=True))
    most_M = torch.stack(most).amax(0)
    most_N = [
        torch.zeros_like(best_n, dtype=torch.bool).index_fill_(0, box_T[part_M[object_T] == most_M[object_T]], True)
        for (best_n, _), part_M, (object_T, box_T) in zip(parts, most, ties, strict=True)
    ]
    return torch.cat([best for best, _ in parts]), torch.cat([nearest for _, nearest in parts]), torch.cat(most_N)


def drawn(match_N: torch.Tensor, count: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Random boxes with an object, at most `share` of `count`, and random background for the rest: two lists of places.

    Faster R-CNN paper: a few hundred of each image, so that background does not prevail.
    """
    objects, background = (match_N >= 0).nonzero()[:, 0], (match_N == BACKGROUND).nonzero()[:, 0]
    taken = min(math.floor(count * share + 1e-6), len(objects))  # 0.29 of 100 is a little less than 29
    rest = min(count - taken, len(background))
    first = torch.randperm(len(objects), device=match_N.device)[:taken]
    second = torch.randperm(len(background), device=match_N.device)[:rest]
    return objects[first], background[second]
