"""Proposed regions: what a network for proposals says on the maps of a pyramid becomes boxes, and it learns from boxes.

All images of a batch have N boxes, which are one tensor B*N 4, those of the first image first.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.compiler.layers.boxes import (
    BACKGROUND,
    Anchors,
    areas,
    as_list,
    cell_centres,
    clipped,
    decoded,
    drawn,
    encoded,
    exact,
    highest,
    image_size,
    matched,
    overlaps,
    precise,
    survivors,
)
from nasdsl.compiler.layers.losses import bounded, focal, smooth
from nasdsl.compiler.layers.scene import Scene


def proposed(
    levels: list[tuple[torch.Tensor, torch.Tensor]],
    sizes: torch.Tensor,
    rois: int,
    nms: float,
    across: bool,
) -> torch.Tensor:
    """The best boxes of each image: B*rois 4, by falling score, of equal ones those of the first levels first.

    Where fewer remain, the rest are empty boxes: four zeros.

    Args:
        levels: for each level its boxes B n 4 and their scores B n, by falling score; -inf for one not to be used.
        sizes: height and width of the images (2, or B 2), at which the boxes are cut. One without area then is not
            used.
        nms: overlap above which a box suppresses those of lower score.
        across: whether it does so in the other levels too.
    """
    if across:
        boxes_BN4, scores_BN = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
        scores_BN, order_BN = scores_BN.sort(dim=1, descending=True, stable=True)
        levels = [(boxes_BN4.gather(1, order_BN[..., None].expand(-1, -1, 4)), scores_BN)]
    kept, values = [], []
    for boxes_BN4, scores_BN in levels:
        boxes_BN4 = clipped(boxes_BN4, sizes if sizes.dim() == 1 else sizes[:, None])
        there_BN = (boxes_BN4[..., 2:] > boxes_BN4[..., :2]).all(-1) & (scores_BN > -torch.inf)
        kept.append(boxes_BN4)
        values.append(scores_BN.masked_fill(~survivors(boxes_BN4, there_BN, nms, most=rois), -torch.inf))
    boxes_BN4, scores_BN = torch.cat(kept, 1), torch.cat(values, 1)
    scores_Br, best_Br = highest(scores_BN, rois)
    boxes_Br4 = boxes_BN4.gather(1, best_Br[..., None].expand(-1, -1, 4))
    boxes_Br4 = boxes_Br4.masked_fill((scores_Br == -torch.inf)[..., None], 0.0)
    return F.pad(boxes_Br4, (0, 0, 0, rois - boxes_Br4.shape[1])).flatten(0, 1)


def learn_proposals(
    scene: Scene,
    anchors_BN4: torch.Tensor,
    logits_BN: torch.Tensor,
    deltas_BN4: torch.Tensor,
    above: float,
    below: float,
    count: int,
    stds: tuple[float, ...],
    beta: float,
) -> None:
    """Adds the losses of a proposal network: whether there is an object at some of the anchors, and where.

    An anchor is for an object that it overlaps by `above`, or that no anchor overlaps more; it is background below
    `below`. Of each image `count` are drawn, at most half of them with an object. `objectness` is the mean of their
    cross-entropies; `proposal_boxes` the sum over those with an object of the smooth distances of the four deltas,
    divided by how many were drawn. Faster R-CNN paper.
    """
    rows, chosen, wanted, boxes = [], [], [], []
    for image, anchors_N4 in enumerate(anchors_BN4):
        truth = scene.truths[image]
        match_N = matched(anchors_N4, truth.boxes_M4, truth.crowds_K4, above, below, rescue=True)
        objects, background = drawn(match_N, count, 0.5)
        rows.append(torch.cat([objects, background]) + image * anchors_BN4.shape[1])
        chosen.append(len(objects))
        boxes.append(objects + image * anchors_BN4.shape[1])
        wanted.append(encoded(anchors_N4[objects], truth.boxes_M4[match_N[objects]].to(anchors_N4), stds))
    row_R, box_P = torch.cat(rows), torch.cat(boxes)
    logits_R = logits_BN.flatten()[row_R]
    object_R = torch.cat([torch.arange(len(r), device=row_R.device) < n for r, n in zip(rows, chosen, strict=True)])
    drawn_in_all = max(len(row_R), 1)
    entropy = F.binary_cross_entropy_with_logits(logits_R, object_R.to(logits_R), reduction="sum")
    scene.lose("objectness", entropy / drawn_in_all)
    off = smooth(deltas_BN4.flatten(0, 1)[box_P], torch.cat(wanted), beta)
    scene.lose("proposal_boxes", off / drawn_in_all)


class Proposals(nn.Module):
    """What makes regions of the maps of a pyramid: the best boxes of each level, then the best of these. While it
    learns, it may keep another number of them."""

    reads_scene = True

    def __init__(
        self,
        strides: tuple[float, ...],
        rois: int,
        per_level: int,
        nms: float,
        across: bool,
        learn_rois: int | None,
        learn_per_level: int | None,
        above: float,
        below: float,
        count: int,
        beta: float,
        stds: tuple[float, ...],
    ) -> None:
        """`strides` are the levels' pixels in pixels of the input, in the order of the maps."""
        super().__init__()
        self.strides = tuple(strides)
        self.rois = rois
        self.per_level = per_level
        self.nms = nms
        self.across = across
        self.learn_rois = learn_rois or rois
        self.learn_per_level = learn_per_level or per_level
        self.above = above
        self.below = below
        self.count = count
        self.beta = beta
        self.stds = tuple(stds)

    def best(self, x_BCHW: torch.Tensor, level: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The level's boxes of highest score, at most so many, B n 4, and their scores, B n."""
        raise NotImplementedError

    def learn(self, maps: tuple[torch.Tensor, ...], scene: Scene) -> None:
        """Adds the losses."""
        raise NotImplementedError

    def forward(self, *maps: torch.Tensor, scene: Scene | None = None) -> torch.Tensor:
        learns = scene is not None and scene.learns
        number = self.learn_per_level if learns else self.per_level
        levels = [self.best(exact(x), level, number) for level, x in enumerate(maps)]
        sizes = image_size(maps, self.strides) if scene is None else scene.sizes_B2
        boxes = proposed(levels, sizes, self.learn_rois if learns else self.rois, self.nms, self.across)
        if scene is not None and learns:
            self.learn(maps, scene)
        return boxes


class Propose(Proposals):
    """Regions from the maps of a region proposal network: for each level B A*5 H W -> B*rois 4.

    A level's first A channels are the logits of the anchors, the others their deltas, four for each anchor in turn
    (dx, dy, dw, dh). Anchors stand at `offset` of a pixel, by default in its middle, and are, for each scale in turn,
    one of each ratio: of height over width, with the area of a square of `scale` pixels' side. Faster R-CNN and FPN
    papers.
    """

    def __init__(
        self,
        strides: tuple[float, ...],
        rois: int = 1000,
        scales: tuple[float, ...] = (8.0,),
        ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
        per_level: int = 2000,
        nms: float = 0.7,
        across: bool = False,
        stds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0),
        sizes: tuple[float, ...] = (),
        offset: float = 0.5,
        rounded: bool = False,
        learn_rois: int | None = None,
        learn_per_level: int | None = None,
        above: float = 0.7,
        below: float = 0.3,
        count: int = 256,
        beta: float = 1 / 9,
    ) -> None:
        super().__init__(
            strides, rois, per_level, nms, across, learn_rois, learn_per_level, above, below, count, beta, stds
        )
        self.anchors = Anchors(self.strides, scales, ratios, sizes, offset, rounded)

    def read(self, x_BCHW: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits B N and deltas B N 4 of a level, pixel by pixel."""
        kinds = len(self.anchors.sides[level])
        return as_list(x_BCHW[:, :kinds], 1).flatten(1), as_list(x_BCHW[:, kinds:], 4)

    def best(self, x_BCHW: torch.Tensor, level: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        logits_BN, deltas_BN4 = self.read(x_BCHW, level)
        scores_Bn, best_Bn = highest(logits_BN, number)
        deltas_Bn4 = deltas_BN4.gather(1, best_Bn[..., None].expand(-1, -1, 4))
        anchors_Bn4 = self.anchors.at(best_Bn, x_BCHW.shape[3], level, deltas_Bn4.dtype)
        return decoded(anchors_Bn4, deltas_Bn4, self.stds), scores_Bn

    def learn(self, maps: tuple[torch.Tensor, ...], scene: Scene) -> None:
        logits, deltas = zip(*[self.read(precise(x), level) for level, x in enumerate(maps)], strict=True)
        anchors_BN4 = self.anchors.all(maps, deltas[0].dtype).expand(len(maps[0]), -1, -1)
        learn_proposals(
            scene, anchors_BN4, torch.cat(logits, 1), torch.cat(deltas, 1), self.above, self.below, self.count,
            self.stds, self.beta,
        )  # fmt: skip


class GuidedPropose(Proposals):
    """Regions from the maps of guided anchoring: for each level B 8 H W -> B*rois 4.

    A level's channels are the logit that an object's middle is here, which at 0 is a probability of `prior`; dw, dh,
    which stretch a square of `scale` pixels' side to this pixel's only anchor; the logit of the anchor; and its deltas
    dx, dy, dw, dh. In evaluation only pixels whose probability of an object's middle is at least `threshold` have an
    anchor; in training all have one. Guided Anchoring paper.

    What is learnt, besides what `learn_proposals` says of the anchors that come out: `location`, focal loss of the
    middles. An object belongs to the level whose square is nearest to its own size; there pixels in the middle part of
    it, `inner` of its sides, and the one in which its centre lies are ones; those around, up to `outer`, count for
    nothing, and neither do both in the levels next to it, nor others in crowds. It is divided by the number of ones.
    `shape`, the bounded IoU loss, times `shape_weight`, of anchors at the pixels where the best of three squares (of an
    octave) and three ratios overlaps an object by `above`, or the most and by `below`; of each image half of `count`
    are drawn at most. It is divided by the number of those drawn.
    """

    def __init__(
        self,
        strides: tuple[float, ...],
        rois: int = 300,
        scale: float = 8.0,
        threshold: float = 0.01,
        per_level: int = 2000,
        nms: float = 0.7,
        across: bool = False,
        shape_stds: tuple[float, ...] = (0.14, 0.14),
        stds: tuple[float, ...] = (0.07, 0.07, 0.11, 0.11),
        learn_rois: int | None = None,
        learn_per_level: int | None = None,
        above: float = 0.7,
        below: float = 0.3,
        count: int = 256,
        beta: float = 1.0,
        inner: float = 0.2,
        outer: float = 0.5,
        shape_weight: float = 0.1,
        prior: float = 0.01,
    ) -> None:
        super().__init__(
            strides, rois, per_level, nms, across, learn_rois, learn_per_level, above, below, count, beta, stds
        )
        self.scale = scale
        self.threshold = threshold
        self.shape_stds = tuple(shape_stds)
        self.inner = inner
        self.outer = outer
        self.shape_weight = shape_weight
        self.shift = math.log(prior / (1 - prior))

    def squares(self, places: torch.Tensor, width: int, level: int, like: torch.Tensor) -> torch.Tensor:
        """The square (... 4) of each pixel."""
        stride = self.strides[level]
        centre = cell_centres(places, width, stride, like, 0.5)
        half = self.scale * stride / 2
        return torch.cat([centre - half, centre + half], -1)

    def stretched(self, squares: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        """The anchors (... 4) that squares become by dw, dh (... 2)."""
        return decoded(squares, F.pad(shape, (2, 0)), (1.0, 1.0, *self.shape_stds))

    def best(self, x_BCHW: torch.Tensor, level: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        x_B8N = x_BCHW.flatten(2)
        scores_BN = x_B8N[:, 3]
        if not self.training:
            scores_BN = scores_BN.masked_fill((x_B8N[:, 0] + self.shift).sigmoid() < self.threshold, -torch.inf)
        scores_Bn, best_Bn = highest(scores_BN, number)
        x_Bn8 = x_B8N.gather(2, best_Bn[:, None].expand(-1, 8, -1)).transpose(1, 2)
        anchors_Bn4 = self.stretched(self.squares(best_Bn, x_BCHW.shape[3], level, x_BCHW), x_Bn8[..., 1:3])
        return decoded(anchors_Bn4, x_Bn8[..., 4:], self.stds), scores_Bn

    def learn(self, maps: tuple[torch.Tensor, ...], scene: Scene) -> None:
        rows = [precise(x.flatten(2).transpose(1, 2)) for x in maps]
        x_BN8 = torch.cat(rows, 1)
        squares_N4 = torch.cat(
            [
                self.squares(torch.arange(row.shape[1], device=row.device), x.shape[3], level, row)
                for level, (x, row) in enumerate(zip(maps, rows, strict=True))
            ]
        )
        level_N = torch.cat([torch.full((row.shape[1],), i, device=row.device) for i, row in enumerate(rows)])
        self.learn_location(scene, x_BN8[..., 0] + self.shift, squares_N4, level_N)
        anchors_BN4 = self.stretched(squares_N4.expand(len(x_BN8), -1, -1), x_BN8[..., 1:3])
        self.learn_shape(scene, anchors_BN4, squares_N4)
        learn_proposals(
            scene, anchors_BN4.detach(), x_BN8[..., 3], x_BN8[..., 4:], self.above, self.below, self.count, self.stds,
            self.beta,
        )  # fmt: skip

    def learn_location(
        self, scene: Scene, logits_BN: torch.Tensor, squares_N4: torch.Tensor, level_N: torch.Tensor
    ) -> None:
        """Adds the focal loss of the middles, divided by how many pixels are one."""
        total, count = logits_BN.new_zeros(()), 0
        middle_N12 = ((squares_N4[:, :2] + squares_N4[:, 2:]) / 2)[:, None]
        side_N = squares_N4[:, 2] - squares_N4[:, 0]
        sides = [self.scale * stride for stride in self.strides]
        for image, logits_N in enumerate(logits_BN):
            truth = scene.truths[image]
            boxes_M4, crowds_K4 = truth.boxes_M4.to(squares_N4), truth.crowds_K4.to(squares_N4)
            centre_M2 = (boxes_M4[:, :2] + boxes_M4[:, 2:]) / 2
            off_NM2 = (middle_N12 - centre_M2).abs() / (boxes_M4[:, 2:] - boxes_M4[:, :2]).clamp(min=1)
            off_NM = off_NM2.amax(2) * 2  # 0 in the middle, 1 at the border
            side_M = areas(boxes_M4).clamp(min=1).sqrt()
            own_M = (side_M[:, None].log2() - side_M.new_tensor(sides).log2()).abs().argmin(1)
            apart_NM = (level_N[:, None] - own_M).abs()
            # A pixel at least, where the middle part of a small object has none.
            nearest_NM = (middle_N12 - centre_M2).abs().amax(2) <= side_N[:, None] / self.scale / 2
            one_N = ((apart_NM == 0) & ((off_NM <= self.inner) | nearest_NM)).any(1)
            blurred_N = ((apart_NM <= 1) & ((off_NM <= self.outer) | nearest_NM)).any(1)
            crowded_NK2 = (middle_N12 >= crowds_K4[:, :2]) & (middle_N12 <= crowds_K4[:, 2:])
            counts_N = one_N | ~(blurred_N | crowded_NK2.all(2).any(1))
            total = total + focal(logits_N[counts_N], one_N[counts_N], 0.25, 2.0)
            count += int(one_N.sum())
        scene.lose("location", total / max(count, 1))

    def learn_shape(self, scene: Scene, anchors_BN4: torch.Tensor, squares_N4: torch.Tensor) -> None:
        """Adds the bounded IoU loss of the shapes, divided by how many are drawn to learn one."""
        found, wanted = [], []
        for image, anchors_N4 in enumerate(anchors_BN4):
            truth = scene.truths[image]
            match_N = self.nearest(squares_N4, truth.boxes_M4.to(squares_N4))
            objects, _ = drawn(match_N, self.count, 0.5)
            found.append(anchors_N4[objects])
            wanted.append(truth.boxes_M4[match_N[objects]].to(anchors_N4))
        found_P4, wanted_P4 = torch.cat(found), torch.cat(wanted)
        loss = bounded(found_P4, wanted_P4) / max(len(found_P4), 1)
        scene.lose("shape", self.shape_weight * loss)

    def nearest(self, squares_N4: torch.Tensor, truth_M4: torch.Tensor) -> torch.Tensor:
        """For each pixel the object that its nine anchors overlap most, if by `above`, or by `below` and as much as
        those of no other pixel; else BACKGROUND: N."""
        if len(truth_M4) == 0:
            return torch.full((len(squares_N4),), BACKGROUND, device=squares_N4.device)
        middle_N2 = (squares_N4[:, :2] + squares_N4[:, 2:]) / 2
        half_N1 = (squares_N4[:, 2:3] - squares_N4[:, :1]) / 2
        overlap_MN = squares_N4.new_zeros(len(truth_M4), len(squares_N4))
        for octave in range(3):
            for ratio in (0.5, 1.0, 2.0):
                stretch = squares_N4.new_tensor([ratio**-0.5, ratio**0.5]) * 2 ** (octave / 3)
                anchors_N4 = torch.cat([middle_N2 - half_N1 * stretch, middle_N2 + half_N1 * stretch], 1)
                overlap_MN = torch.maximum(overlap_MN, overlaps(truth_M4, anchors_N4))
        best_N, nearest_N = overlap_MN.max(0)
        most_M1 = overlap_MN.amax(1, keepdim=True)
        kept_N = (best_N >= self.above) | ((overlap_MN == most_M1) & (most_M1 >= self.below)).any(0)
        return torch.where(kept_N, nearest_N, BACKGROUND)
