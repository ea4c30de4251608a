"""Detectors of one stage: every anchor of every level says what is there."""

from __future__ import annotations

import math

import torch
from torch import nn

from nasdsl.compiler.layers.boxes import (
    NEITHER,
    Anchors,
    as_list,
    clipped,
    decoded,
    encoded,
    highest,
    image_size,
    matched,
    precise,
)
from nasdsl.compiler.layers.losses import focal, generalised, smooth
from nasdsl.compiler.layers.regions import strongest
from nasdsl.compiler.layers.scene import Scene


class DetectDense(nn.Module):
    """The detections of a head without regions, RetinaNet's: `strongest` of the anchors of all levels.

    Inputs are the maps of the logits of all levels, B A*C H W, then the maps of their deltas, B A*4 H W; channels are
    C, or 4, values for each of A anchors in turn. A logit of 0 is a probability of `prior`, so that at the beginning
    background is not taken for objects everywhere. The anchors of a level are those of `anchor_sides`. Of each level
    the `per_level` best scores enter the suppression. Focal Loss paper.

    While a detector learns it adds `classes`, focal losses of all logits of anchors that are for an object or
    background, and `boxes` of the deltas of those for an object, times `box_weight`. Both are sums over an image,
    divided by its anchors for an object (at least 1), and then the mean over the images. An anchor is for the object
    that it overlaps by `above`, or, so that no object goes without, that no anchor overlaps more.
    """

    reads_scene = True

    def __init__(
        self,
        strides: tuple[float, ...],
        classes: int,
        scales: tuple[float, ...] = (4.0, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)),
        ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
        sizes: tuple[float, ...] = (),
        offset: float = 0.5,
        rounded: bool = False,
        stds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0),
        above: float = 0.5,
        below: float = 0.4,
        alpha: float = 0.25,
        gamma: float = 2.0,
        box_loss: str = "smooth",
        beta: float = 0.0,
        box_weight: float = 1.0,
        per_level: int = 1000,
        least: float = 0.05,
        nms: float = 0.5,
        most: int = 100,
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.classes = classes
        self.anchors = Anchors(self.strides, scales, ratios, sizes, offset, rounded)
        self.stds = tuple(stds)
        self.above = above
        self.below = below
        self.alpha = alpha
        self.gamma = gamma
        self.box_loss = box_loss
        self.beta = beta
        self.box_weight = box_weight
        self.per_level = per_level
        self.least = least
        self.nms = nms
        self.most = most
        self.shift = math.log(prior / (1 - prior))

    def forward(self, *maps: torch.Tensor, scene: Scene | None = None) -> dict[str, torch.Tensor]:
        levels = len(maps) // 2
        logits = [precise(as_list(x, self.classes)) + self.shift for x in maps[:levels]]
        deltas = [as_list(x, 4) for x in maps[levels:]]
        if scene is not None and scene.learns:
            self.learn(
                scene, torch.cat(logits, 1), torch.cat(deltas, 1), self.anchors.all(maps[:levels], logits[0].dtype)
            )
            return {}
        boxes, scores, labels = [], [], []
        for level, (logits_BNC, deltas_BN4) in enumerate(zip(logits, deltas, strict=True)):
            logits_Bn, best_Bn = highest(logits_BNC.flatten(1), self.per_level)
            row_Bn = best_Bn // self.classes
            deltas_Bn4 = precise(deltas_BN4).gather(1, row_Bn[..., None].expand(-1, -1, 4))
            anchors_Bn4 = self.anchors.at(row_Bn, maps[level].shape[3], level, deltas_Bn4.dtype)
            boxes.append(decoded(anchors_Bn4, deltas_Bn4, self.stds))
            scores.append(logits_Bn.sigmoid())
            labels.append(best_Bn % self.classes)
        sizes = image_size(maps[:levels], self.strides) if scene is None else scene.sizes_B2[:, None]
        boxes_BN4 = clipped(torch.cat(boxes, 1), sizes)
        scores_BN, labels_BN = torch.cat(scores, 1), torch.cat(labels, 1)
        return strongest(boxes_BN4, scores_BN, labels_BN, self.least, self.nms, self.most, self.classes)

    def learn(self, scene: Scene, logits_BNC: torch.Tensor, deltas_BN4: torch.Tensor, anchors_N4: torch.Tensor) -> None:
        """Adds the losses."""
        classes, boxes = [], []
        for image, (logits_NC, deltas_N4) in enumerate(zip(logits_BNC, deltas_BN4, strict=True)):
            truth = scene.truths[image]
            match_N = matched(anchors_N4, truth.boxes_M4, truth.crowds_K4, self.above, self.below, rescue=True)
            objects_P, counts_K = (match_N >= 0).nonzero()[:, 0], (match_N != NEITHER).nonzero()[:, 0]
            match_P = match_N[objects_P]
            ones_NC = torch.zeros_like(logits_NC, dtype=torch.bool)
            ones_NC[objects_P, truth.labels_M[match_P]] = True
            number = max(len(objects_P), 1)
            classes.append(focal(logits_NC[counts_K], ones_NC[counts_K], self.alpha, self.gamma) / number)
            anchors_P4, wanted_P4 = anchors_N4[objects_P], truth.boxes_M4[match_P].to(anchors_N4)
            if self.box_loss == "giou":
                off = generalised(decoded(anchors_P4, precise(deltas_N4[objects_P]), self.stds), wanted_P4)
            else:
                off = smooth(deltas_N4[objects_P], encoded(anchors_P4, wanted_P4, self.stds), self.beta)
            boxes.append(self.box_weight * off / number)
        scene.lose("classes", torch.stack(classes).mean())
        scene.lose("boxes", torch.stack(boxes).mean())
