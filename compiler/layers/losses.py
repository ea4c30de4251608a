"""Losses of detectors. All are sums over what they are given, in float32 at least."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from nasdsl.compiler.layers.boxes import TINY, areas, precise


class _Focal(torch.autograd.Function):
    """The sum of the losses. Its gradient is made with it: one tensor is kept for it, where autograd would keep
    several, each as large as all logits of a dense head."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, ones: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
        sign = ones.to(logits.dtype).mul_(2).sub_(1)
        signed = logits * sign
        right = F.logsigmoid(signed)
        wrong = right - signed  # logarithms, so that no power of zero has a gradient
        missed = (gamma * wrong).exp_()
        missed *= torch.where(ones, missed.new_tensor(alpha), missed.new_tensor(1 - alpha))
        slope = missed * (gamma * right.exp() * right - wrong.exp_())
        ctx.save_for_backward(slope.mul_(sign))
        return -(missed * right).sum()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return gradient * ctx.saved_tensors[0], None, None, None


def focal(logits: torch.Tensor, ones: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    """Cross-entropy of logits with 1 where `ones` is true, else with 0, each entry times (1 - probability of what is
    right)^gamma, and times alpha for a 1, 1 - alpha for a 0. Focal Loss paper."""
    loss: torch.Tensor = _Focal.apply(precise(logits), ones, alpha, gamma)  # type: ignore[no-untyped-call]
    return loss


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
