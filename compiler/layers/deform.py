"""Deformable convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.compiler.layers.activation import activation


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
        conv, size = self.conv, offsets_BOPQ.shape[2:]
        batch, _, height, width = x_BCHW.shape
        precise = torch.promote_types(x_BCHW.dtype, torch.float32)
        kernel = conv.kernel_size[0]
        groups = self.offset_groups
        offsets_BGkk2PQ = offsets_BOPQ.to(precise).reshape(batch, groups, kernel, kernel, 2, *size)
        steps_k = torch.arange(kernel, device=x_BCHW.device, dtype=precise) * conv.dilation[0] - int(conv.padding[0])
        starts_P, starts_Q = (
            torch.arange(n, device=x_BCHW.device, dtype=precise) * stride
            for n, stride in zip(size, conv.stride, strict=True)
        )
        down = offsets_BGkk2PQ[:, :, :, :, 0] + (steps_k[:, None, None, None] + starts_P[:, None])
        right = offsets_BGkk2PQ[:, :, :, :, 1] + (steps_k[:, None, None] + starts_Q)
        grid = torch.stack([(2 * right + 1) / width - 1, (2 * down + 1) / height - 1], -1)
        grid_NRQ2 = grid.flatten(0, 1).flatten(1, 3)
        x_NcHW = x_BCHW.to(precise).reshape(batch * groups, -1, height, width)
        read_NcRQ = F.grid_sample(x_NcHW, grid_NRQ2, align_corners=False).to(x_BCHW.dtype)
        columns_BgIR = read_NcRQ.reshape(batch, conv.groups, -1, size[0] * size[1])
        weight_goI = conv.weight.reshape(conv.groups, -1, columns_BgIR.shape[2])
        y_BCPQ = (weight_goI @ columns_BgIR).reshape(batch, -1, *size)
        if conv.bias is not None:
            y_BCPQ = y_BCPQ + conv.bias[:, None, None]
        return self.act(y_BCPQ)
