"""Layers that change the spatial size and have no weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.compiler.layers.recording import always, is_open


def resized(x_BCHW: torch.Tensor, size: tuple[int, int], mode: str = "bilinear") -> torch.Tensor:
    """`x` at another spatial size; corners are not aligned. The same size is returned as it is."""
    height, width = x_BCHW.shape[2:]
    if not is_open(height, width, *size):
        if height == size[0] and width == size[1]:
            return x_BCHW
    elif always(height == size[0]) and always(width == size[1]):
        return x_BCHW
    return F.interpolate(x_BCHW, size, mode=mode, align_corners=False if mode == "bilinear" else None)


class Resize(nn.Module):
    """Resizes by `numerator / denominator`, rounded up as a strided convolution rounds."""

    def __init__(self, numerator: int, denominator: int = 1, mode: str = "bilinear") -> None:
        super().__init__()
        self.numerator = numerator
        self.denominator = denominator
        self.mode = mode

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        height, width = (-(-n * self.numerator // self.denominator) for n in x_BCHW.shape[2:])
        return resized(x_BCHW, (height, width), self.mode)


class Pool(nn.Module):
    """Maximum or average over windows; the output has ceil(size / stride) pixels, and padding never counts.

    Args:
        kernel: the side of a window, or height and width.
    """

    def __init__(self, kind: str, kernel: int | tuple[int, int], stride: int) -> None:
        super().__init__()
        self.kind = kind
        self.kernel = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        self.stride = stride
        # Centred as in a convolution where no pixel is left out; else padded only as far as the last window needs.
        self.centred = tuple(bool(side % 2) and side >= 2 * stride - 1 for side in self.kernel)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if self.kernel == (1, 1) and self.stride == 1:
            return x_BCHW
        if all(self.centred):
            padding = (self.kernel[0] // 2, self.kernel[1] // 2)
            if self.kind == "max":
                return F.max_pool2d(x_BCHW, self.kernel, self.stride, padding)
            return F.avg_pool2d(x_BCHW, self.kernel, self.stride, padding, count_include_pad=False)
        pads: list[int] = []
        for axis in (1, 0):
            side, size = self.kernel[axis], x_BCHW.shape[2 + axis]
            least = max(0, (-(-size // self.stride) - 1) * self.stride + side - size)
            pads += [side // 2] * 2 if self.centred[axis] else [least // 2, least - least // 2]
        if self.kind == "max":
            return F.max_pool2d(
                F.pad(x_BCHW, pads, value=float("-inf")) if any(pads) else x_BCHW, self.kernel, self.stride
            )
        if not any(pads):
            return F.avg_pool2d(x_BCHW, self.kernel, self.stride)
        inside = F.avg_pool2d(F.pad(torch.ones_like(x_BCHW[:1, :1]), pads), self.kernel, self.stride)
        return F.avg_pool2d(F.pad(x_BCHW, pads), self.kernel, self.stride) / inside


class GlobalPool(nn.Module):
    """The mean over all pixels: B C H W -> B C."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return x_BCHW.mean((2, 3))


class AdaptivePool(nn.Module):
    """The mean over the parts of a grid of `bins` x `bins`: B C H W -> B C bins bins. PSPNet paper, pyramid pooling."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(x_BCHW, self.bins)


class ResizeLike(nn.Module):
    """The first input at the size of the second: a map resized, a vector spread over all pixels."""

    def __init__(self, mode: str = "bilinear") -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: torch.Tensor, like_BCHW: torch.Tensor) -> torch.Tensor:
        if x.dim() == 2:
            return x[:, :, None, None].expand(-1, -1, like_BCHW.shape[2], like_BCHW.shape[3])
        return resized(x, (like_BCHW.shape[2], like_BCHW.shape[3]), self.mode)


class Zero(nn.Module):
    """Zeros with ceil(size / stride) pixels."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride])
