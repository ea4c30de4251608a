"""Mixtures: sums of tensors, each times a weight that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


def _inner(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The sum of products of entries, without writing the products out where that can be avoided."""
    if a.dtype == b.dtype == dtype and a.is_contiguous() and b.is_contiguous():
        return torch.dot(a.view(-1), b.view(-1))
    return (a * b).sum(dtype=dtype)


class _Mixture(torch.autograd.Function):
    """n inputs and their n weights, numbers or None for 1. Nothing is kept but the inputs that have a weight: the
    products would be as large."""

    @staticmethod
    def forward(ctx: Any, *given: torch.Tensor | None) -> torch.Tensor:
        n = len(given) // 2
        xs, weights = [x for x in given[:n] if x is not None], given[n:]
        ctx.save_for_backward(*(x if w is not None else None for x, w in zip(xs, weights, strict=True)), *weights)
        ctx.dtypes = [x.dtype for x in xs]
        dtype = reduce(torch.promote_types, ctx.dtypes)
        out: torch.Tensor | None = None
        for x, weight in zip(xs, weights, strict=True):
            x = x.to(dtype)
            if out is None:
                out = x.clone() if weight is None else x * weight.to(dtype)
            elif weight is None:
                out += x
            else:
                out.addcmul_(x, weight.to(dtype))
        assert out is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved, needed, n = ctx.saved_tensors, ctx.needs_input_grad, len(ctx.dtypes)
        xs, weights = saved[:n], saved[n:]
        of_inputs = [
            None if not needs else (grad if weight is None else grad * weight.to(grad.dtype)).to(dtype)
            for needs, weight, dtype in zip(needed, weights, ctx.dtypes, strict=False)
        ]
        of_weights = [
            _inner(grad, x, weight.dtype) if needs else None
            for needs, x, weight in zip(needed[n:], xs, weights, strict=True)
        ]
        return *of_inputs, *of_weights


def fitted(x: torch.Tensor, width: int) -> torch.Tensor:
    """So many channels of B C ...: those that are missing at the end are zeros, and those that no choice here asks for
    are left out."""
    if x.shape[1] == width:
        return x
    return x[:, :width] if x.shape[1] > width else F.pad(x, (0, 0) * (x.dim() - 2) + (0, width - x.shape[1]))


def mixed(inputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """The sum of tensors (B C ...), each times its weight: a tensor of one number, or None for 1. Where channels are
    missing at the end, they are zeros. The type is that which holds all inputs."""
    most = max(x.shape[1] for x in inputs)
    return _Mixture.apply(*[fitted(x, most) for x in inputs], *weights)  # type: ignore[no-untyped-call]


class _Passed(torch.autograd.Function):
    """The input itself, with the gradient that a weight of 1 would get."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.dtype = weight.dtype
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        (x,) = ctx.saved_tensors
        return grad, _inner(grad, x, ctx.dtype) if ctx.needs_input_grad[1] else None


def passed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A tensor times a weight whose value is 1: nothing is computed but, in the backward pass, the weight's
    gradient."""
    return _Passed.apply(x, weight) if weight.requires_grad else x  # type: ignore[no-untyped-call]
