"""Mixtures: sums of tensors, each times a weight that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F


class _Mixture(torch.autograd.Function):
    """Inputs and their weights (numbers), in turn. Nothing is kept but the inputs: the products would be as large."""

    @staticmethod
    def forward(ctx: Any, *inputs: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*inputs)
        out = inputs[0] * inputs[1]
        for x, weight in zip(inputs[2::2], inputs[3::2], strict=True):
            out.addcmul_(x, weight.to(x.dtype))
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad
        found: list[torch.Tensor | None] = []
        for i in range(0, len(inputs), 2):
            x, weight = inputs[i], inputs[i + 1]
            found.append(grad * weight.to(grad.dtype) if needed[i] else None)
            found.append((grad * x).sum(dtype=weight.dtype) if needed[i + 1] else None)
        return tuple(found)


def mixed(inputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of tensors (B C ...), each times its weight (a tensor of one number). Where channels are missing at the
    end, they are zeros."""
    most = max(x.shape[1] for x in inputs)
    whole = [x if x.shape[1] == most else F.pad(x, (0, 0) * (x.dim() - 2) + (0, most - x.shape[1])) for x in inputs]
    pairs = [tensor for pair in zip(whole, weights, strict=True) for tensor in pair]
    return _Mixture.apply(*pairs)  # type: ignore[no-untyped-call]


class _Passed(torch.autograd.Function):
    """The input itself, with the gradient that a weight of 1 would get."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.dtype = weight.dtype
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        (x,) = ctx.saved_tensors
        return grad, (grad * x).sum(dtype=ctx.dtype) if ctx.needs_input_grad[1] else None


def passed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A tensor times a weight whose value is 1: nothing is computed but, in the backward pass, the weight's
    gradient."""
    return _Passed.apply(x, weight) if weight.requires_grad else x  # type: ignore[no-untyped-call]
