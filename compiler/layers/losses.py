"""Losses of detectors. All are sums over what they are given, in float32 at least."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from nasdsl.compiler.layers.boxes import TINY, areas, precise


def focal(logits: torch.Tensor, targets: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    """Cross-entropy of logits with 0 and 1, each entry times (1 - probability of what is right)^gamma, and times alpha
    for a 1, 1 - alpha for a 0. Focal Loss paper."""
    logits, ones = precise(logits), targets > 0
    right = F.logsigmoid(torch.where(ones, logits, -logits))
    wrong = F.logsigmoid(torch.where(ones, -logits, logits))  # logarithms, so that no power of zero has a gradient
    loss = -(gamma * wrong).exp() * right
    return torch.where(ones, alpha * loss, (1 - alpha) * loss).sum()


def smooth(values: torch.Tensor, targets: torch.Tensor, beta: float) -> torch.Tensor:
    """|d|, but d^2 / (2 beta) for |d| < beta, less beta / 2 beyond: Fast R-CNN paper; with beta 0 plain |d|."""
    values = precise(values)
    return F.smooth_l1_loss(values, targets.to(values), reduction="sum", beta=beta)


def generalised(boxes_N4: torch.Tensor, wanted_N4: torch.Tensor) -> torch.Tensor:
    """1 - generalised intersection over union: what the smallest box around both has beyond their union counts, too.

    GIoU paper.
    """
    boxes_N4 = precise(boxes_N4)
    wanted_N4 = wanted_N4.to(boxes_N4)
    starts, ends = (boxes_N4[:, :2], wanted_N4[:, :2]), (boxes_N4[:, 2:], wanted_N4[:, 2:])
    common = (torch.minimum(*ends) - torch.maximum(*starts)).clamp(min=0).prod(1)
    union = areas(boxes_N4) + areas(wanted_N4) - common
    around = (torch.maximum(*ends) - torch.minimum(*starts)).prod(1)
    return (1 - common / union.clamp(min=TINY) + (around - union) / around.clamp(min=TINY)).sum()


def bounded(boxes_N4: torch.Tensor, wanted_N4: torch.Tensor, beta: float = 0.2) -> torch.Tensor:
    """How far, in middle and sides, boxes are from those wanted, each as one less the overlap that is left were the
    rest equal, smoothed as in `smooth`: the bounded IoU loss that guided anchoring learns its shapes by.

    Bounded IoU Loss paper.
    """
    boxes_N4 = precise(boxes_N4)
    wanted_N4 = wanted_N4.to(boxes_N4)
    size, aim = boxes_N4[:, 2:] - boxes_N4[:, :2], wanted_N4[:, 2:] - wanted_N4[:, :2]
    apart = ((boxes_N4[:, :2] + boxes_N4[:, 2:] - wanted_N4[:, :2] - wanted_N4[:, 2:]) / 2).abs()
    middle = 1 - ((aim - 2 * apart) / (aim + 2 * apart).clamp(min=TINY)).clamp(min=0)
    ratio = size / aim.clamp(min=TINY)
    sides = 1 - torch.minimum(ratio, 1 / ratio.clamp(min=TINY))
    off = torch.cat([middle, sides], 1)
    return F.smooth_l1_loss(off, torch.zeros_like(off), reduction="sum", beta=beta)
