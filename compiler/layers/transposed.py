"""Transposed convolution."""

from __future__ import annotations

import torch
from torch import nn

from nasdsl.compiler.layers.activation import activation
from nasdsl.compiler.layers.norm import normalisation


class TransposedConv(nn.Module):
    """Transposed convolution, norm and activation: B C H W -> B C' H * stride W * stride.

    Each input pixel is spread over the pixels under the kernel, whose side is at least the stride. What lies beyond
    the border is cut off, of an odd number of pixels one more before: side 3 at stride 2 is torch's with padding 1 and
    output padding 1, side 4 that with padding 1.

    Args:
        kernel: its side, or height and width.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 2,
        stride: int = 2,
        groups: int = 1,
        norm: str = "batch",
        act: str = "relu",
        bias: bool = False,
        norm_groups: int = 32,
        scale_init: float = 1.0,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        # At stride 1 torch has no output padding: what is too much before is cut off behind the convolution.
        self.cut = tuple((side - stride) % 2 if stride == 1 else 0 for side in sides)
        behind = tuple((side - stride) % 2 - cut for side, cut in zip(sides, self.cut, strict=True))
        padding = tuple((side - stride + more) // 2 for side, more in zip(sides, behind, strict=True))
        self.conv = nn.ConvTranspose2d(inputs, outputs, sides, stride, padding, behind, groups, bias)  # type: ignore[arg-type]
        self.norm = normalisation(norm, outputs, norm_groups, eps, momentum, scale_init)
        self.act = activation(act, inplace=True)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = self.conv(x_BCHW)
        if any(self.cut):
            y_BCHW = y_BCHW[:, :, self.cut[0] :, self.cut[1] :]
        return self.act(self.norm(y_BCHW))
