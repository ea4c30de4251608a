"""Layers of detectors: proposed regions, the features of regions, boxes.

A box is x1, y1, x2, y2 in pixels of the network's input, counted continuously: the first pixel spans 0 to 1. All images
of a batch have N boxes, which are one tensor B*N 4, those of the first image first. Features of regions lie alike.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.compiler.layers.activation import activation

# --- boxes ------------------------------------------------------------------------------------------------------------


def decoded(boxes: torch.Tensor, deltas: torch.Tensor, stds: tuple[float, ...]) -> torch.Tensor:
    """Boxes (... 4) moved and scaled by what a network says of them.

    `deltas` (... 4), once multiplied by `stds`, are dx, dy in widths and heights of the box and the logarithms of two
    factors, of width and height; a factor is at most 1000 / 16. R-CNN paper, bounding-box regression.
    """
    corner, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    deltas = deltas * deltas.new_tensor(stds)
    centre = corner + size * (deltas[..., :2] + 0.5)
    half = size * deltas[..., 2:].exp().clamp(max=1000 / 16) / 2
    return torch.cat([centre - half, centre + half], -1)


def image_size(maps: tuple[torch.Tensor, ...], strides: tuple[float, ...]) -> tuple[float, float]:
    """Height and width of the images behind a pyramid. A stride that does not divide them leaves it open by less than
    the smallest stride; it is the greatest possible size."""
    height = min(x.shape[2] * stride for x, stride in zip(maps, strides, strict=True))
    width = min(x.shape[3] * stride for x, stride in zip(maps, strides, strict=True))
    return height, width


def clipped(boxes: torch.Tensor, size: tuple[float, float]) -> torch.Tensor:
    """Boxes (... 4) cut at the borders of an image of that height and width."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], -1)


def exact(x: torch.Tensor) -> torch.Tensor:
    """Cut off from the gradient, and in float32 at least: half precision cannot tell neighbouring pixels apart."""
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


# --- suppression ------------------------------------------------------------------------------------------------------


def overlaps(boxes_BN4: torch.Tensor, others_BM4: torch.Tensor) -> torch.Tensor:
    """Intersection over union of all pairs: B N M. It is not a number for two boxes without area."""
    left, top, right, bottom = (side[:, :, None] for side in boxes_BN4.unbind(-1))
    lefts, tops, rights, bottoms = (side[:, None, :] for side in others_BM4.unbind(-1))
    width = (torch.minimum(right, rights) - torch.maximum(left, lefts)).clamp(min=0)
    common = width * (torch.minimum(bottom, bottoms) - torch.maximum(top, tops)).clamp(min=0)
    area, areas = (right - left) * (bottom - top), (rights - lefts) * (bottoms - tops)
    return common / (area + areas - common)


def survivors(boxes_BN4: torch.Tensor, there_BN: torch.Tensor, threshold: float, block: int = 256) -> torch.Tensor:
    """Greedy non-maximum suppression in each image, exactly: B N, true for the boxes that stay.

    The boxes stand in falling order of score. From the first on, a box stays if it is `there` and overlaps no earlier
    box that stays by more than the threshold.

    Blocks of boxes are looked at together. Inside a block the rule is applied to all boxes at once, again and again
    until nothing changes: after n rounds the first n boxes are final, and few rounds are needed, since chains of boxes
    that each suppress the next are short.
    """
    keep_BN = torch.zeros_like(there_BN)
    for start in range(0, there_BN.shape[1], block):
        part = slice(start, start + block)
        boxes_Bn4, free_Bn = boxes_BN4[:, part], there_BN[:, part]
        if start:
            hit = overlaps(boxes_BN4[:, :start], boxes_Bn4) > threshold
            free_Bn = free_Bn & ~(hit & keep_BN[:, :start, None]).any(1)
        hit = (overlaps(boxes_Bn4, boxes_Bn4) > threshold).triu(1)
        keep_Bn, before = free_Bn, torch.zeros_like(free_Bn)
        while not torch.equal(keep_Bn, before):
            before, keep_Bn = keep_Bn, free_Bn & ~(hit & keep_Bn[:, :, None]).any(1)
        keep_BN[:, part] = keep_Bn
    return keep_BN


# --- proposals --------------------------------------------------------------------------------------------------------


def cell_centres(places: torch.Tensor, width: int, stride: float, like: torch.Tensor) -> torch.Tensor:
    """The middles (... 2, as x, y) of map pixels that are numbered row by row."""
    return (torch.stack([places % width, places // width], -1).to(like) + 0.5) * stride


def proposed(
    levels: list[tuple[torch.Tensor, torch.Tensor]],
    size: tuple[float, float],
    rois: int,
    nms: float,
    across: bool,
) -> torch.Tensor:
    """The best boxes of each image: B*rois 4, by falling score.

    Where fewer remain, the rest are empty boxes: four zeros.

    Args:
        levels: for each level its boxes B n 4 and their scores B n, by falling score; -inf for one not to be used.
        size: height and width of the images, at which the boxes are cut. One without area then is not used.
        nms: overlap above which a box suppresses those of lower score.
        across: whether it does so in the other levels too.
    """
    if across:
        boxes_BN4, scores_BN = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
        scores_BN, order_BN = scores_BN.sort(dim=1, descending=True, stable=True)
        levels = [(boxes_BN4.gather(1, order_BN[..., None].expand(-1, -1, 4)), scores_BN)]
    kept, values = [], []
    for boxes_BN4, scores_BN in levels:
        boxes_BN4 = clipped(boxes_BN4, size)
        there_BN = (boxes_BN4[..., 2:] > boxes_BN4[..., :2]).all(-1) & (scores_BN > -torch.inf)
        kept.append(boxes_BN4)
        values.append(scores_BN.masked_fill(~survivors(boxes_BN4, there_BN, nms), -torch.inf))
    boxes_BN4, scores_BN = torch.cat(kept, 1), torch.cat(values, 1)
    scores_Br, best_Br = scores_BN.topk(min(rois, scores_BN.shape[1]), 1)
    boxes_Br4 = boxes_BN4.gather(1, best_Br[..., None].expand(-1, -1, 4))
    boxes_Br4 = boxes_Br4.masked_fill((scores_Br == -torch.inf)[..., None], 0.0)
    return F.pad(boxes_Br4, (0, 0, 0, rois - boxes_Br4.shape[1])).flatten(0, 1)


class Proposals(nn.Module):
    """What makes regions of the maps of a pyramid: the best boxes of each level, then the best of these."""

    def __init__(self, strides: tuple[float, ...], rois: int, per_level: int, nms: float, across: bool) -> None:
        """`strides` are the levels' pixels in pixels of the input, in the order of the maps."""
        super().__init__()
        self.strides = tuple(strides)
        self.rois = rois
        self.per_level = per_level
        self.nms = nms
        self.across = across

    def best(self, x_BCHW: torch.Tensor, stride: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The level's boxes of highest score, B n 4, and their scores, B n."""
        raise NotImplementedError

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        levels = [self.best(exact(x), stride) for x, stride in zip(maps, self.strides, strict=True)]
        return proposed(levels, image_size(maps, self.strides), self.rois, self.nms, self.across)


class Propose(Proposals):
    """Regions from the maps of a region proposal network: for each level B A*5 H W -> B*rois 4.

    A level's first A channels are the logits of the anchors, the others their deltas, four for each anchor in turn
    (dx, dy, dw, dh). Anchors have their middle in the middle of a pixel and are, for each scale in turn, one of each
    ratio: of height over width, with the area of a square of `scale` pixels' side. Faster R-CNN and FPN papers.
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
    ) -> None:
        super().__init__(strides, rois, per_level, nms, across)
        self.sides = [(scale / ratio**0.5, scale * ratio**0.5) for scale in scales for ratio in ratios]
        self.stds = tuple(stds)

    def best(self, x_BCHW: torch.Tensor, stride: float) -> tuple[torch.Tensor, torch.Tensor]:
        kinds = len(self.sides)
        logits_BN = x_BCHW[:, :kinds].permute(0, 2, 3, 1).flatten(1)
        deltas_BN4 = x_BCHW[:, kinds:].permute(0, 2, 3, 1).reshape(len(x_BCHW), -1, 4)
        scores_Bn, best_Bn = logits_BN.topk(min(self.per_level, logits_BN.shape[1]), 1)
        deltas_Bn4 = deltas_BN4.gather(1, best_Bn[..., None].expand(-1, -1, 4))
        centre_Bn2 = cell_centres(best_Bn // kinds, x_BCHW.shape[3], stride, x_BCHW)
        half_Bn2 = x_BCHW.new_tensor(self.sides)[best_Bn % kinds] * (stride / 2)
        anchors_Bn4 = torch.cat([centre_Bn2 - half_Bn2, centre_Bn2 + half_Bn2], -1)
        return decoded(anchors_Bn4, deltas_Bn4, self.stds), scores_Bn


class GuidedPropose(Proposals):
    """Regions from the maps of guided anchoring: for each level B 8 H W -> B*rois 4.

    A level's channels are the logit that an object's middle is here; dw, dh, which stretch a square of `scale` pixels'
    side to this pixel's only anchor; the logit of the anchor; and its deltas dx, dy, dw, dh. In evaluation only pixels
    whose probability of an object's middle is at least `threshold` have an anchor; in training all have one. Guided
    Anchoring paper.
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
    ) -> None:
        super().__init__(strides, rois, per_level, nms, across)
        self.scale = scale
        self.threshold = threshold
        self.shape_stds = tuple(shape_stds)
        self.stds = tuple(stds)

    def best(self, x_BCHW: torch.Tensor, stride: float) -> tuple[torch.Tensor, torch.Tensor]:
        x_B8N = x_BCHW.flatten(2)
        scores_BN = x_B8N[:, 3]
        if not self.training:
            scores_BN = scores_BN.masked_fill(x_B8N[:, 0].sigmoid() < self.threshold, -torch.inf)
        scores_Bn, best_Bn = scores_BN.topk(min(self.per_level, scores_BN.shape[1]), 1)
        x_Bn8 = x_B8N.gather(2, best_Bn[:, None].expand(-1, 8, -1)).transpose(1, 2)
        centre_Bn2 = cell_centres(best_Bn, x_BCHW.shape[3], stride, x_BCHW)
        half = self.scale * stride / 2
        squares_Bn4 = torch.cat([centre_Bn2 - half, centre_Bn2 + half], -1)
        anchors_Bn4 = decoded(squares_Bn4, F.pad(x_Bn8[..., 1:3], (2, 0)), (1.0, 1.0, *self.shape_stds))
        return decoded(anchors_Bn4, x_Bn8[..., 4:], self.stds), scores_Bn


# --- regions ----------------------------------------------------------------------------------------------------------


class RoiAlign(nn.Module):
    """Features of regions: a pyramid of maps B C H W, finest first, and boxes B*N 4 -> B*N C size size.

    A box of area a reads map number floor(log2(sqrt(a) / finest)), counted from 0 and held to those there are. It is
    divided into size x size bins, and a bin is the mean of sampling x sampling points, evenly spread, each read between
    the middles of the four pixels around it. Up to one pixel beyond the border the border's value is read, farther out
    zero. Boxes get no gradient. Mask R-CNN paper (RoIAlign) and FPN paper (levels).
    """

    def __init__(self, strides: tuple[float, ...], size: int = 7, sampling: int = 2, finest: float = 56.0) -> None:
        """`strides` are the maps' pixels in pixels of the input."""
        super().__init__()
        self.strides = tuple(strides)
        self.size = size
        self.sampling = sampling
        self.finest = finest

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        maps, boxes_N4 = inputs[:-1], exact(inputs[-1])
        level_N = self.levels(boxes_N4)
        image_N = torch.arange(len(boxes_N4), device=boxes_N4.device) // max(len(boxes_N4) // len(maps[0]), 1)
        starts = [0]  # of each level in the table of all pixels
        for x_BCHW in maps[:-1]:
            starts.append(starts[-1] + x_BCHW[:, 0].numel())
        heights, widths = [x.shape[2] for x in maps], [x.shape[3] for x in maps]
        start_N, height_N, width_N = torch.tensor([starts, heights, widths], device=level_N.device)[:, level_N]
        boxes_N4 = boxes_N4 / boxes_N4.new_tensor(self.strides)[level_N, None]
        row_NSq, down_NSq = self.read(boxes_N4[:, 1], boxes_N4[:, 3], height_N)
        column_NSq, right_NSq = self.read(boxes_N4[:, 0], boxes_N4[:, 2], width_N)
        row_NSq = (start_N + image_N * height_N * width_N)[:, None, None] + row_NSq * width_N[:, None, None]
        pixel_NSSqq = row_NSq[:, :, None, :, None] + column_NSq[:, None, :, None, :]
        share_NSSqq = down_NSq[:, :, None, :, None] * right_NSq[:, None, :, None, :]
        table_PC = torch.cat([x.permute(0, 2, 3, 1).flatten(0, 2) for x in maps])
        bins_RC = F.embedding_bag(
            pixel_NSSqq.flatten(3).flatten(0, 2),
            table_PC,
            mode="sum",
            per_sample_weights=share_NSSqq.flatten(3).flatten(0, 2).to(table_PC.dtype),
        )
        return bins_RC.view(len(boxes_N4), self.size, self.size, -1).permute(0, 3, 1, 2)

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
        at_NSp = start_N[:, None, None] + (end_N - start_N)[:, None, None] * steps_Sp - 0.5
        last_N11 = (pixels_N - 1)[:, None, None]
        inside_NSp = (at_NSp >= -1) & (at_NSp <= last_N11 + 1)
        at_NSp = torch.minimum(torch.where(inside_NSp, at_NSp, 0.0).clamp(min=0), last_N11.to(at_NSp))
        before_NSp = at_NSp.floor()
        after = at_NSp - before_NSp
        share_NSq = torch.cat([1 - after, after], 2) * inside_NSp.repeat(1, 1, 2) / self.sampling
        before_NSp = before_NSp.long()
        return torch.cat([before_NSp, torch.minimum(before_NSp + 1, last_N11)], 2), share_NSq


class Refine(nn.Module):
    """Boxes B*N 4 moved and scaled by deltas B*N 4, without gradient; any maps before the two tell where to cut.

    Cascade R-CNN paper: the boxes of the next stage.
    """

    def __init__(self, stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2), strides: tuple[float, ...] = ()) -> None:
        """`strides` are the maps' pixels in pixels of the input."""
        super().__init__()
        self.stds = tuple(stds)
        self.strides = tuple(strides)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        maps, boxes_N4 = inputs[:-2], exact(inputs[-2])
        boxes_N4 = decoded(boxes_N4, exact(inputs[-1]), self.stds)
        return clipped(boxes_N4, image_size(maps, self.strides)) if maps else boxes_N4


# --- shapes -----------------------------------------------------------------------------------------------------------


class DenseDetections(nn.Module):
    """The predictions of all levels in one list: for each level B A*each H W -> B*M each, with M the sum of H*W*A.

    A level's channels are `each` values for each anchor in turn. In the list an image's levels follow one another, in
    them the pixels row by row, and in these the anchors.
    """

    def __init__(self, each: int) -> None:
        super().__init__()
        self.each = each

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        rows = [x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.each) for x in maps]
        return torch.cat(rows, 1).flatten(0, 1)


class Flatten(nn.Module):
    """A map as a vector, channel by channel and in it row by row: B C H W -> B C*H*W."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW.flatten(1)


class Detach(nn.Module):
    """The input, which gets no gradient through here."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach()


# --- deformable convolution -------------------------------------------------------------------------------------------


class DeformConv(nn.Module):
    """A convolution that reads each input pixel under its kernel at an offset of its own: features B C H W and offsets
    B G*2*k*k H' W' -> B C' H' W', with H' = ceil(H / stride).

    The G offset groups share out the features' channels in order. A group has, for each place under the kernel row by
    row, how far down and how far right of it to read, in pixels; between pixels values are bilinear, outside zero.
    Deformable Convolutional Networks paper.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        offset_groups: int = 1,
        act: str = "none",
        bias: bool = False,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias)  # holds the weights
        self.offset_groups = offset_groups
        self.act = activation(act, inplace=True)

    def forward(self, x_BCHW: torch.Tensor, offsets_BOPQ: torch.Tensor) -> torch.Tensor:
        conv, (height, width), size = self.conv, x_BCHW.shape[2:], offsets_BOPQ.shape[2:]
        precise = torch.promote_types(x_BCHW.dtype, torch.float32)
        kernel = conv.kernel_size[0]
        groups = self.offset_groups
        offsets_BGkk2PQ = offsets_BOPQ.to(precise).reshape(len(x_BCHW), groups, kernel, kernel, 2, *size)
        steps_k = torch.arange(kernel, device=x_BCHW.device, dtype=precise) * conv.dilation[0] - int(conv.padding[0])
        starts_P, starts_Q = (
            torch.arange(n, device=x_BCHW.device, dtype=precise) * stride
            for n, stride in zip(size, conv.stride, strict=True)
        )
        down = offsets_BGkk2PQ[:, :, :, :, 0] + (steps_k[:, None, None, None] + starts_P[:, None])
        right = offsets_BGkk2PQ[:, :, :, :, 1] + (steps_k[:, None, None] + starts_Q)
        grid = torch.stack([(2 * right + 1) / width - 1, (2 * down + 1) / height - 1], -1)
        grid_NRQ2 = grid.flatten(0, 1).flatten(1, 3)
        x_NcHW = x_BCHW.to(precise).reshape(len(x_BCHW) * groups, -1, height, width)
        read_NcRQ = F.grid_sample(x_NcHW, grid_NRQ2, align_corners=False).to(x_BCHW.dtype)
        columns_BgIR = read_NcRQ.reshape(len(x_BCHW), conv.groups, -1, size[0] * size[1])
        weight_goI = conv.weight.reshape(conv.groups, -1, columns_BgIR.shape[2])
        y_BCPQ = (weight_goI @ columns_BgIR).reshape(len(x_BCHW), -1, *size)
        if conv.bias is not None:
            y_BCPQ = y_BCPQ + conv.bias[:, None, None]
        return self.act(y_BCPQ)
