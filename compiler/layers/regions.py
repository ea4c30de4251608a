"""Regions: their features, which of them a head learns from, and the detections that they become.

All images of a batch have N regions, which are one tensor B*N 4, those of the first image first; a region without area
is none. What is known of regions lies alike.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from nasdsl.compiler.layers.boxes import (
    BACKGROUND,
    NEITHER,
    clipped,
    decoded,
    drawn,
    encoded,
    exact,
    matched,
    precise,
    survivors,
)
from nasdsl.compiler.layers.losses import smooth
from nasdsl.compiler.layers.recording import numbers, operation, recorded
from nasdsl.compiler.layers.scene import Scene

CHANNELS = 64
"""Whose gradients are copied at a time."""


class RoiAlign(nn.Module):
    """Features of regions: a pyramid of maps B C H W, finest first, and boxes B*N 4 -> B*N C size size.

    A box of area a reads map number floor(log2(sqrt(a) / finest)), counted from 0 and held to those there are. It is
    divided into size x size bins, and a bin is the mean of sampling x sampling points, evenly spread, each read between
    the middles of the four pixels around it. Up to one pixel beyond the border the border's value is read, farther out
    zero. Boxes get no gradient. Mask R-CNN paper (RoIAlign) and FPN paper (levels).

    Not `aligned`, everything is read half a pixel of the map farther down and right, and no box is smaller than such a
    pixel, as in the first implementations.
    """

    def __init__(
        self, strides: tuple[float, ...], size: int = 7, sampling: int = 2, finest: float = 56.0, aligned: bool = True
    ) -> None:
        """`strides` are the maps' pixels in pixels of the input."""
        super().__init__()
        self.strides = tuple(strides)
        self.size = size
        self.sampling = sampling
        self.finest = finest
        self.aligned = aligned

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        maps, boxes_N4 = inputs[:-1], exact(inputs[-1])
        level_N = self.levels(boxes_N4)
        images = maps[0].shape[0]
        image_N = torch.zeros_like(level_N)
        image_N.view(images, -1).add_(torch.arange(images, device=image_N.device)[:, None])
        starts: list[int] = [0]  # of each level in the table of all pixels, for one image
        for x_BCHW in maps[:-1]:
            starts.append(starts[-1] + x_BCHW.shape[2] * x_BCHW.shape[3])
        heights, widths = [x.shape[2] for x in maps], [x.shape[3] for x in maps]
        start_N, height_N, width_N = (numbers(of, level_N.device)[level_N] for of in (starts, heights, widths))
        start_N = start_N * images
        boxes_N4 = boxes_N4 / boxes_N4.new_tensor(self.strides)[level_N, None]
        row_NSq, down_NSq = self.read(boxes_N4[:, 1], boxes_N4[:, 3], height_N)
        column_NSq, right_NSq = self.read(boxes_N4[:, 0], boxes_N4[:, 2], width_N)
        row_NSq = (start_N + image_N * height_N * width_N)[:, None, None] + row_NSq * width_N[:, None, None]
        table_PC = torch.cat([x.permute(0, 2, 3, 1).flatten(0, 2) for x in maps])
        bins_RC = bins(table_PC, row_NSq, down_NSq, column_NSq, right_NSq)
        return bins_RC.view(-1, self.size, self.size, table_PC.shape[1]).permute(0, 3, 1, 2)

    def levels(self, boxes_N4: torch.Tensor) -> torch.Tensor:
        """The number of the map that each box reads: N."""
        sides_N2 = (boxes_N4[:, 2:] - boxes_N4[:, :2]).clamp(min=0)
        # a little more, so that rounding does not move a box that lies on the edge between two levels
        level_N = (sides_N2.prod(1).sqrt() / self.finest + 1e-6).log2().floor()
        return level_N.clamp(0, len(self.strides) - 1).nan_to_num(0.0).long()

    def read(
        self, start_N: torch.Tensor, end_N: torch.Tensor, pixels_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What bins read along one axis: pixels and their shares, both N size 2*sampling, from sides in map pixels."""
        points = self.size * self.sampling
        steps_Sp = (torch.arange(points, device=start_N.device) + 0.5).to(start_N).view(self.size, -1) / points
        length_N = end_N - start_N if self.aligned else (end_N - start_N).clamp(min=1)
        at_NSp = start_N[:, None, None] + length_N[:, None, None] * steps_Sp - (0.5 if self.aligned else 0.0)
        last_N11 = (pixels_N - 1)[:, None, None]
        inside_NSp = (at_NSp >= -1) & (at_NSp <= last_N11 + 1)
        at_NSp = torch.minimum(torch.where(inside_NSp, at_NSp, 0.0).clamp(min=0), last_N11.to(at_NSp))
        before_NSp = at_NSp.floor()
        after = at_NSp - before_NSp
        share_NSq = torch.cat([1 - after, after], 2) * inside_NSp.repeat(1, 1, 2) / self.sampling
        before_NSp = before_NSp.long()
        return torch.cat([before_NSp, torch.minimum(before_NSp + 1, last_N11)], 2), share_NSq


def bins(
    table_PC: torch.Tensor,
    row_NSq: torch.Tensor,
    down_NSq: torch.Tensor,
    column_NSq: torch.Tensor,
    right_NSq: torch.Tensor,
) -> torch.Tensor:
    """Sums over the pixels of bins, from a table of all pixels: P C -> R C, with R = N size size.

    A bin reads all pairs of q rows and q columns. A row is given by the number of its first pixel in the table, a
    column by how far from there it is; their shares are multiplied: all N size q.
    """
    reads = (row_NSq, down_NSq, column_NSq, right_NSq)
    if recorded(table_PC):
        learns = torch.is_grad_enabled() and table_PC.requires_grad
        return (_pooled if learns else POOLED)(table_PC, *_reads(*reads, dtype=table_PC.dtype))
    bins_RC: torch.Tensor = _Bins.apply(table_PC, *reads)  # type: ignore[no-untyped-call]
    return bins_RC


class _Bins(torch.autograd.Function):
    """`bins`: `embedding_bag` with a gradient that is such a sum as well, of each pixel the bins that read it.
    PyTorch's own first writes out R*q*q C, which for the regions of a detector is hundreds of megabytes.
    """

    @staticmethod
    def forward(ctx: Any, table_PC: torch.Tensor, *reads_NSq: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*reads_NSq)
        ctx.pixels = len(table_PC)
        return _summed(table_PC, *reads_NSq)

    @staticmethod
    @once_differentiable  # type: ignore[misc, unused-ignore]
    def backward(ctx: Any, grad_RC: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        reads = _reads(*ctx.saved_tensors, dtype=grad_RC.dtype)
        starts_P, bin_E, share_E = _readers(*reads, ctx.pixels)
        del reads
        grad_PC = grad_RC.new_empty(ctx.pixels, grad_RC.shape[1])
        for start in range(0, grad_RC.shape[1], CHANNELS):
            some = slice(start, start + CHANNELS)
            grad_PC[:, some] = F.embedding_bag(
                bin_E, grad_RC[:, some].contiguous(), starts_P, mode="sum", per_sample_weights=share_E
            )
        return grad_PC, None, None, None, None


def _summed(table_PC: torch.Tensor, *reads_NSq: torch.Tensor) -> torch.Tensor:
    """`bins` in PyTorch's own terms."""
    return _pooled(table_PC, *_reads(*reads_NSq, dtype=table_PC.dtype))


def _pooled(table_PC: torch.Tensor, pixel_Rt: torch.Tensor, share_Rt: torch.Tensor) -> torch.Tensor:
    """Sums of t pixels each, times their shares: R C."""
    return F.embedding_bag(pixel_Rt, table_PC, mode="sum", per_sample_weights=share_Rt)


def _like_pooled(table_PC: torch.Tensor, pixel_Rt: torch.Tensor, share_Rt: torch.Tensor) -> torch.Tensor:
    """A tensor of the size of what `_pooled` gives."""
    return table_PC.new_empty(pixel_Rt.shape[0], table_PC.shape[1])


POOLED = operation("nasdsl::pooled", "(Tensor table, Tensor pixels, Tensor shares) -> Tensor", _pooled, _like_pooled)
"""`_pooled` as an operation, which is written out elsewhere in ways that torch has no single operation for."""


def _reads(
    row_NSq: torch.Tensor,
    down_NSq: torch.Tensor,
    column_NSq: torch.Tensor,
    right_NSq: torch.Tensor,
    *,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each bin reads: numbers of pixels, and their shares, R q*q each."""
    pixel_NSSqq = row_NSq[:, :, None, :, None] + column_NSq[:, None, :, None, :]
    share_NSSqq = down_NSq[:, :, None, :, None] * right_NSq[:, None, :, None, :]
    return pixel_NSSqq.flatten(3).flatten(0, 2), share_NSSqq.flatten(3).flatten(0, 2).to(dtype)


def _readers(
    pixel_Rt: torch.Tensor, share_Rt: torch.Tensor, pixels: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The other way round: a list of the bins that read each pixel, R*t, with their shares, and where in the list the
    readers of each pixel begin. Short numbers are sorted much faster."""
    pixel_E, read_E = pixel_Rt.flatten().int().sort(stable=True)
    starts_P = torch.searchsorted(pixel_E, torch.arange(pixels, device=pixel_E.device, dtype=torch.int32))
    bin_R1 = torch.arange(len(pixel_Rt), device=pixel_E.device, dtype=torch.int32)[:, None]
    return starts_P.int(), bin_R1.expand_as(pixel_Rt).flatten()[read_E], share_Rt.flatten()[read_E]


class SampleRegions(nn.Module):
    """Regions B*N 4; while a detector learns, those that its head is to learn from: B*M 4, in no order.

    The objects themselves are added. Of each image `count` are drawn, at most `share` of them for an object, which they
    overlap by `above` or more. M is the most that an image has, at least 1; those that have fewer end in empty boxes:
    four zeros. Fast R-CNN paper.
    """

    reads_scene = True

    def __init__(self, count: int = 512, share: float = 0.25, above: float = 0.5) -> None:
        super().__init__()
        self.count = count
        self.share = share
        self.above = above

    def forward(self, boxes_N4: torch.Tensor, scene: Scene | None = None) -> torch.Tensor:
        if scene is None or not scene.learns:
            return boxes_N4
        boxes_N4 = exact(boxes_N4)
        images = len(scene.sizes_B2)
        found = []
        for image, boxes_n4 in enumerate(boxes_N4.view(images, -1, 4)):
            truth = scene.truths[image]
            boxes_n4 = torch.cat([boxes_n4, truth.boxes_M4.to(boxes_n4)])
            match_n = matched(boxes_n4, truth.boxes_M4, truth.crowds_K4, self.above, self.above)
            found.append(boxes_n4[torch.cat(drawn(match_n, self.count, self.share))])
        most = max([1, *map(len, found)])
        return torch.cat([F.pad(boxes_n4, (0, 0, 0, most - len(boxes_n4))) for boxes_n4 in found])


class Refine(nn.Module):
    """Boxes B*N 4 moved and scaled by deltas B*N 4, without gradient, and cut where the image ends.

    Cascade R-CNN paper: the boxes of the next stage. While a detector learns, objects that were added to the regions
    do not go on to the next stage: their rows become empty boxes.
    """

    reads_scene = True

    def __init__(self, stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)) -> None:
        super().__init__()
        self.stds = tuple(stds)

    def forward(self, boxes_N4: torch.Tensor, deltas_N4: torch.Tensor, scene: Scene | None = None) -> torch.Tensor:
        boxes_N4 = exact(boxes_N4)
        refined_N4 = decoded(boxes_N4, exact(deltas_N4), self.stds)
        if scene is None:
            return refined_N4
        images = scene.sizes_B2.shape[0]
        refined_Bn4 = clipped(refined_N4.view(images, -1, 4), scene.sizes_B2[:, None])
        if scene.learns:
            for image, boxes_n4 in enumerate(boxes_N4.view(images, -1, 4)):
                truth_M4 = scene.truths[image].boxes_M4.to(boxes_n4)
                added_n = (boxes_n4[:, None] == truth_M4).all(2).any(1)
                refined_Bn4[image][added_n] = 0.0
        return refined_Bn4.flatten(0, 1)


def strongest(
    boxes_BN4: torch.Tensor,
    scores_BN: torch.Tensor,
    labels_BN: torch.Tensor,
    least: float,
    nms: float,
    most: int,
    classes: int,
) -> dict[str, torch.Tensor]:
    """The detections of each image, by falling score, of equal ones in the order they come in: `boxes` B most 4,
    `scores` B most, `labels` B most.

    Rows that are no detection have zeros, and the label -1. A box without area, or whose score is not above `least`, is
    none; others suppress boxes of their own label and lower score that they overlap by more than `nms`.
    """
    there_BN = (scores_BN > least) & (boxes_BN4[..., 2:] > boxes_BN4[..., :2]).all(-1)
    scores_BN = scores_BN.masked_fill(~there_BN, 0.0)
    candidates = there_BN.shape[1]
    if candidates and not recorded(boxes_BN4):
        candidates = int(there_BN.sum(1).max())
    scores_BN, order_BN = scores_BN.sort(dim=1, descending=True, stable=True)
    scores_Bn, order_Bn = scores_BN[:, :candidates], order_BN[:, :candidates]
    boxes_Bn4 = boxes_BN4.gather(1, order_Bn[..., None].expand(-1, -1, 4))
    labels_Bn = labels_BN.gather(1, order_Bn)
    stay_Bn = survivors(boxes_Bn4, scores_Bn > 0, nms, groups_BN=labels_Bn, most=most, kinds=classes)
    missing = max(0, most - candidates)
    scores_Bn = F.pad(scores_Bn.masked_fill(~stay_Bn, 0.0), (0, missing))
    top_Bm, best_Bm = scores_Bn.sort(dim=1, descending=True, stable=True)
    top_Bm, best_Bm = top_Bm[:, :most], best_Bm[:, :most]
    none_Bm = top_Bm == 0
    boxes_Bm4 = F.pad(boxes_Bn4, (0, 0, 0, missing)).gather(1, best_Bm[..., None].expand(-1, -1, 4))
    labels_Bm = F.pad(labels_Bn, (0, missing)).gather(1, best_Bm)
    return {
        "boxes": boxes_Bm4.masked_fill(none_Bm[..., None], 0.0),
        "scores": top_Bm,
        "labels": labels_Bm.masked_fill(none_Bm, -1),
    }


class DetectRegions(nn.Module):
    """The detections of a head that works on regions: `strongest` of what its stages say.

    Inputs are the regions B*N 4 of each stage, then each stage's logits B*N C+1, the background last, then each
    stage's deltas: B*N 4, or four for each class, B*N 4*C or B*N 4*(C+1). The probability of a class is the softmax
    of the mean of the stages' logits; the boxes are those of the last stage. Fast R-CNN and Cascade R-CNN papers.

    While a detector learns, each stage adds `classes`, the mean cross-entropy of its regions, and `boxes`, the sum of
    the smooth distances of the four deltas of those with an object, divided by the number of all; of several stages
    `classes_1`, `boxes_1`, ..., times the stage's weight. What comes out is empty then.
    """

    reads_scene = True

    def __init__(
        self,
        classes: int,
        above: tuple[float, ...] = (0.5,),
        weights: tuple[float, ...] = (1.0,),
        stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2),
        beta: float = 1.0,
        least: float = 0.05,
        nms: float = 0.5,
        most: int = 100,
    ) -> None:
        """
        Args:
            above: overlap from which a region is for an object, of each stage; the last holds for all that follow.
            weights: of the losses, likewise.
            stds: what the deltas of each stage are multiplied by, four for a stage, likewise.
            beta: of the smooth distance.
            least, nms, most: as `strongest` has them.
        """
        super().__init__()
        self.classes = classes
        self.above = tuple(above)
        self.weights = tuple(weights)
        self.stds = [tuple(stds[at : at + 4]) for at in range(0, len(stds), 4)]
        self.beta = beta
        self.least = least
        self.nms = nms
        self.most = most

    def forward(self, *inputs: torch.Tensor, scene: Scene | None = None) -> dict[str, torch.Tensor]:
        stages = len(inputs) // 3
        regions, logits, deltas = inputs[:stages], inputs[stages : 2 * stages], inputs[2 * stages :]
        if scene is not None and scene.learns:
            for stage in range(stages):
                self.learn(scene, stage if stages > 1 else None, regions[stage], logits[stage], deltas[stage])
            return {}
        mean_NK = torch.stack([precise(x) for x in logits]).mean(0)
        chance_NC = mean_NK.softmax(1)[:, : self.classes]
        boxes_NC4 = self.boxes(exact(regions[-1]), precise(deltas[-1]), stages - 1)
        there_N = (regions[-1][:, 2:] > regions[-1][:, :2]).all(1)
        chance_NC = chance_NC * there_N[:, None]
        images = 1 if scene is None else scene.sizes_B2.shape[0]
        boxes_BN4 = boxes_NC4.expand(-1, self.classes, -1).reshape(images, -1, 4)
        if scene is not None:
            boxes_BN4 = clipped(boxes_BN4, scene.sizes_B2[:, None])
        labels_C = torch.arange(self.classes, device=chance_NC.device)
        labels_BN = labels_C.expand(chance_NC.shape[0], -1).reshape(images, -1)
        scores_BN = chance_NC.reshape(images, -1)
        return strongest(boxes_BN4, scores_BN, labels_BN, self.least, self.nms, self.most, self.classes)

    def of_stage(self, values: list[tuple[float, ...]] | tuple[float, ...], stage: int) -> Any:
        """A stage's own value, or the last."""
        return values[min(stage, len(values) - 1)]

    def boxes(self, regions_N4: torch.Tensor, deltas_ND: torch.Tensor, stage: int) -> torch.Tensor:
        """N C 4, or N 1 4 where all classes have one box."""
        each = deltas_ND.shape[1] // 4
        deltas_NC4 = deltas_ND.view(-1, each, 4)[:, : max(1, min(each, self.classes))]
        return decoded(regions_N4[:, None].expand_as(deltas_NC4), deltas_NC4, self.of_stage(self.stds, stage))

    def learn(
        self,
        scene: Scene,
        stage: int | None,
        regions_N4: torch.Tensor,
        logits_NK: torch.Tensor,
        deltas_ND: torch.Tensor,
    ) -> None:
        """Adds the losses of one stage."""
        at = stage or 0
        regions_N4 = exact(regions_N4)
        above, stds = self.of_stage(self.above, at), self.of_stage(self.stds, at)
        labels, wanted = [], []
        for image, regions_n4 in enumerate(regions_N4.view(len(scene.sizes_B2), -1, 4)):
            truth = scene.truths[image]
            match_n = matched(regions_n4, truth.boxes_M4, truth.crowds_K4, above, above)
            object_n = match_n >= 0
            label_n = torch.where(match_n == BACKGROUND, self.classes, NEITHER)
            label_n[object_n] = truth.labels_M[match_n[object_n]]
            labels.append(label_n)
            wanted.append(encoded(regions_n4[object_n], truth.boxes_M4[match_n[object_n]].to(regions_n4), stds))
        label_N = torch.cat(labels)
        count = max(int((label_N != NEITHER).sum()), 1)
        entropy = F.cross_entropy(precise(logits_NK), label_N, ignore_index=NEITHER, reduction="sum")
        object_N = (label_N >= 0) & (label_N < self.classes)
        deltas_PC4 = deltas_ND[object_N].view(int(object_N.sum()), deltas_ND.shape[1] // 4, 4)
        label_P = label_N[object_N] if deltas_PC4.shape[1] > 1 else torch.zeros_like(label_N[object_N])
        deltas_P4 = deltas_PC4[torch.arange(len(label_P), device=label_P.device), label_P]
        off = smooth(deltas_P4, torch.cat(wanted), self.beta)
        weight, name = self.of_stage(self.weights, at), "" if stage is None else f"_{stage + 1}"
        scene.lose(f"classes{name}", weight * entropy / count)
        scene.lose(f"boxes{name}", weight * off / count)
