"""Convolutions, and what goes with them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.compiler.layers.activation import activation
from nasdsl.compiler.layers.norm import normalisation
from nasdsl.compiler.layers.recording import recorded


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose filters are used with mean 0 and standard deviation 1: (w - mean) / (deviation + 1e-5), each
    over all weights of a filter. Weight Standardization paper (Qiao et al., 2019).
    """

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        variance_O111, mean_O111 = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        # Held above zero, where the root has no gradient.
        deviation_O111 = variance_O111.clamp(min=torch.finfo(variance_O111.dtype).tiny).sqrt()
        return self._conv_forward(x_BCHW, (self.weight - mean_O111) / (deviation_O111 + 1e-5), self.bias)


def missing(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Pixels of padding before and behind an axis, so that the last of ceil(size / stride) windows is full: as few as
    that takes, of an odd number one more behind (`same` padding)."""
    total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return total // 2, total - total // 2


class Conv(nn.Module):
    """Convolution, norm and activation in a given order; the output has ceil(size / stride) pixels.

    An axis along which the kernel is odd is padded alike on both sides, dilation * (kernel - 1) / 2 zeros whatever its
    size. One along which it is even gets as many zeros as the last window needs, of an odd number one more behind: at
    stride 1 a kernel of 2 reads a pixel and the next one, and one whose side is the stride cuts a map into patches.

    A vector (B C) is taken as a map of one pixel, and comes out as a vector.

    Args:
        kernel: its side, or height and width.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: str = "batch",
        act: str = "relu",
        bias: bool = False,
        order: tuple[str, ...] = ("conv", "norm", "act"),
        norm_groups: int = 32,
        standardise: bool = False,
        scale_init: float = 1.0,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        rows, columns = (dilation * (side - 1) // 2 if side % 2 else 0 for side in sides)
        convolution = StandardisedConv2d if standardise else nn.Conv2d
        self.conv = convolution(inputs, outputs, sides, stride, (rows, columns), dilation, groups, bias)
        self.even = tuple(side % 2 == 0 for side in sides)
        width = outputs if order.index("conv") < order.index("norm") else inputs
        self.norm = normalisation(norm, width, norm_groups, eps, momentum, scale_init)
        # What comes in belongs to somebody else, so only an activation behind the convolution may overwrite its input.
        self.act = activation(act, inplace=order.index("conv") < order.index("act"))
        self.order = tuple(order)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        vector = x.dim() == 2
        if vector:
            x = x[:, :, None, None]
        for step in self.order:
            x = getattr(self, step)(self.padded(x) if step == "conv" and any(self.even) else x)
        return x.flatten(1) if vector else x

    def padded(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """With the zeros that an even side needs."""
        rows, columns = (
            missing(size, side, stride, dilation) if even else (0, 0)
            for size, side, stride, dilation, even in zip(
                x_BCHW.shape[2:], self.conv.kernel_size, self.conv.stride, self.conv.dilation, self.even, strict=True
            )
        )
        return F.pad(x_BCHW, (*columns, *rows)) if any((*columns, *rows)) else x_BCHW


class TransformedConv(Conv):
    """A convolution that holds smaller kernels, too: each is made of the middle of the next larger one by a matrix that
    all filters share, and which is the identity at first. Once-for-All paper, kernel transformation matrices.

    Args:
        sizes: of all kernels, the largest first, which is the module's own.
    """

    def __init__(self, sizes: tuple[int, ...], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.sizes = tuple(sizes)
        for small in self.sizes[1:]:
            self.register_parameter(f"to_{small}", nn.Parameter(torch.eye(small * small)))

    def made(self, name: str, weight_OIKK: torch.Tensor, side: int) -> torch.Tensor:
        """A smaller kernel: the filters O I K K of the largest size, from size to size down to O I side side."""
        for large, small in zip(self.sizes, self.sizes[1:], strict=False):
            if weight_OIKK.shape[2] == side:
                break
            start = (large - 1) // 2 - (small - 1) // 2
            part = slice(start, start + small)
            middle_OIN = weight_OIKK[:, :, part, part].flatten(2)
            weight_OIKK = F.linear(middle_OIN, self.get_parameter(f"to_{small}")).view(
                *middle_OIN.shape[:2], small, small
            )
        return weight_OIKK


def conv_of_sizes(sizes: tuple[int, ...] = (), **arguments: Any) -> Conv:
    """The module of one kernel, or of several that are made of each other."""
    return TransformedConv(sizes, **arguments) if sizes else Conv(**arguments)


def depthwise_gradient(
    grad_BCHW: torch.Tensor, x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor, stride: int, padding: int, of_weight: bool
) -> torch.Tensor:
    """The gradient of a depthwise convolution by its input, or by its weight."""
    strides, pads, mask = [stride, stride], [padding, padding], [not of_weight, of_weight, False]
    by_x, by_weight, _ = torch.ops.aten.convolution_backward(
        grad_BCHW, x_BCHW, weight_C1KK, None, strides, pads, [1, 1], False, [0, 0], len(weight_C1KK), mask
    )
    return by_weight if of_weight else by_x


class DepthwiseFunction(torch.autograd.Function):
    """A depthwise convolution with an odd square kernel whose weight gradient is computed three columns at a time.

    On a CPU, where channels come first, the strips together take less than half of the time of the whole kernel. Where
    a map is smaller than the kernel it is the padding, written out, that makes the difference in any layout.
    """

    @staticmethod
    def forward(x_BCHW: torch.Tensor, weight_C1KK: torch.Tensor, stride: int) -> torch.Tensor:
        return F.conv2d(x_BCHW, weight_C1KK, None, stride, weight_C1KK.shape[2] // 2, groups=len(weight_C1KK))

    @staticmethod
    def setup_context(
        ctx: torch.autograd.function.FunctionCtx, inputs: tuple[torch.Tensor, torch.Tensor, int], output: torch.Tensor
    ) -> None:
        x_BCHW, weight_C1KK, ctx.stride = inputs  # type: ignore[attr-defined]
        ctx.save_for_backward(x_BCHW, weight_C1KK)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, grad_BCHW: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x_BCHW, weight_C1KK = ctx.saved_tensors  # type: ignore[attr-defined]
        stride, kernel = ctx.stride, weight_C1KK.shape[2]  # type: ignore[attr-defined]
        by_x, by_weight = None, None
        if ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
            by_x = depthwise_gradient(grad_BCHW, x_BCHW, weight_C1KK, stride, kernel // 2, False)
        if ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            pad, channels = kernel // 2, len(weight_C1KK)
            below, right = (  # so that every row and column that the convolution reads is there
                stride * (n - 1) + kernel - pad - size
                for n, size in zip(grad_BCHW.shape[2:], x_BCHW.shape[2:], strict=True)
            )
            strips, like_C1K3 = [], weight_C1KK.new_empty((channels, 1, kernel, 3))
            for first in range(0, kernel, 3):
                start = min(first, kernel - 3)  # the last strip of 5 or 7 columns overlaps the one before
                strip_BCHW = F.pad(x_BCHW, (pad - start, right - (kernel - 3 - start), pad, below))
                strip = depthwise_gradient(grad_BCHW, strip_BCHW, like_C1K3, stride, 0, True)
                strips.append(strip[..., first - start :])
            by_weight = torch.cat(strips, 3)
        return by_x, by_weight, None


class Depthwise(nn.Conv2d):
    """A depthwise convolution with an odd kernel and no bias; the output has ceil(size / stride) pixels."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def in_strips(self, x_BCHW: torch.Tensor) -> bool:
        """Whether the gradient of the weight is computed in strips: in training on a CPU, where it is faster."""
        kernel = self.kernel_size[0]
        if not (kernel in (3, 5, 7) and self.weight.requires_grad and torch.is_grad_enabled()):
            return False
        if recorded(x_BCHW):
            return False
        if x_BCHW.device.type != "cpu" or x_BCHW.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return False
        if min(x_BCHW.shape[2:]) < kernel:
            return x_BCHW.numel() >= 2**13
        if x_BCHW.is_contiguous(memory_format=torch.channels_last):
            return False
        return kernel > 3 and self.stride[0] == 1 and x_BCHW.numel() >= 2**16

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if not self.in_strips(x_BCHW):
            return super().forward(x_BCHW)
        y_BCHW: torch.Tensor = DepthwiseFunction.apply(x_BCHW, self.weight, self.stride[0])  # type: ignore[no-untyped-call]
        return y_BCHW


class Shortcut(nn.Module):
    """The input unchanged, or a grouped 1x1 convolution without norm where stride or width change.

    HR-NAS paper, searching block.

    Args:
        groups: of the convolution; 0 for the input unchanged.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Identity()
        if groups:
            self.conv = nn.Conv2d(inputs, outputs, 1, stride, groups=groups, bias=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.conv(x_BCHW)


class SqueezeExcite(nn.Module):
    """Scales every channel by a gate that sees the mean of all channels."""

    def __init__(self, channels: int, hidden: int, act: str = "relu", gate: str = "sigmoid") -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.act = activation(act, inplace=True)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.gate = activation(gate)

    def gates(self, mean_BC11: torch.Tensor) -> torch.Tensor:
        """From channel means to channel factors, both B C 1 1."""
        return self.gate(self.expand(self.act(self.reduce(mean_BC11))))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW * self.gates(x_BCHW.mean((2, 3), keepdim=True))
