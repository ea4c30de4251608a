"""Self-attention of a feature map over windows, or over columns and then rows. TrioNet paper, operators."""

from __future__ import annotations

import torch
from torch import nn

from nasdsl.compiler.layers.attend import Lines, attend, windows
from nasdsl.compiler.layers.resample import Pool


class RelativeAttention(nn.Module):
    """Queries, keys and values of a map, and a vector for each relative offset; no biases, no 1/sqrt(d).

    The channels of queries, keys, values and the output stand head by head: of n heads with d channels each, head h has
    h * d to h * d + d - 1. Where they are `interleaved` it has h, h + n, h + 2 * n and so on.

    The logits are not divided by sqrt(d), d being the query channels of a head. Instead the first weights are that much
    smaller: uniform, queries and keys with variance 1 / (inputs * sqrt(d)), offsets with variance 1 / sqrt(d), values
    with variance 1 / inputs. Where the input has variance 1, so has each of the two products in a logit.

    Args:
        inputs: channels of the input.
        query, value: channels of queries (and as many keys), and of values, over all heads.
        heads: into how many parts these are divided; attention works in each by itself.
        offsets: how many offsets there are along each axis.
        position: whether all heads have one vector for an offset (`shared`), each its own (`per_head`), or there are no
            such vectors and position does not count (`none`).
        interleaved: whether the heads take turns.

    A module of which smaller ones take their weights may have channels that its heads do not divide; it cannot run.
    """

    def __init__(
        self,
        inputs: int,
        query: int,
        value: int,
        heads: int,
        offsets: tuple[int, ...],
        position: str = "shared",
        interleaved: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.interleaved = interleaved
        self.tables = heads if position == "per_head" else 1
        self.query = nn.Conv2d(inputs, query, 1, bias=False)
        self.key = nn.Conv2d(inputs, query, 1, bias=False)
        self.value = nn.Conv2d(inputs, value, 1, bias=False)
        width = -(-query // heads)
        for conv, variance in ((self.query, width**-0.5), (self.key, width**-0.5), (self.value, 1.0)):
            bound = (3 * variance / inputs) ** 0.5
            nn.init.uniform_(conv.weight, -bound, bound)
        self.offsets: nn.Parameter | None = None
        if position != "none":
            self.offsets = nn.Parameter(torch.empty(query if position == "per_head" else width, *offsets))
            bound = (3 * width**-0.5) ** 0.5
            nn.init.uniform_(self.offsets, -bound, bound)

    def apart(self, x: torch.Tensor, axis: int, heads: int) -> torch.Tensor:
        """The axis of channels as two: heads, and channels of each."""
        if self.interleaved:
            return torch.unflatten(x, axis, (-1, heads)).transpose(axis, axis + 1)
        return torch.unflatten(x, axis, (heads, -1))

    def vectors(self, offsets_DK: torch.Tensor) -> torch.Tensor:
        """A vector for each offset and head: n K D."""
        return self.apart(offsets_DK, 0, self.tables).mT.expand(self.heads, -1, -1)

    def split(self, x_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys (B n D H W) and values (B n E H W) of n heads."""
        q_BnDHW, k_BnDHW, v_BnEHW = (
            self.apart(project(x_BCHW), 1, self.heads) for project in (self.query, self.key, self.value)
        )
        return q_BnDHW, k_BnDHW, v_BnEHW

    def join(self, y_BnEHW: torch.Tensor) -> torch.Tensor:
        """The output's channels in their order: B C H W."""
        return (y_BnEHW.transpose(1, 2) if self.interleaved else y_BnEHW).flatten(1, 2)


class LocalAttention(RelativeAttention):
    """Each pixel attends to the window around it: y_o = sum over p of softmax_p(q_o k_p + q_o r_(p - o)) v_p.

    What a window has beyond the border of the map takes no part in the softmax. The output, at the input's resolution,
    is averaged over `stride` x `stride` pixels and has ceil(size / stride) of them. Keys and values are read where they
    stand, once for each offset: the largest tensor is the weights, window^2 for each head and pixel.

    TrioNet paper, local self-attention.
    """

    def __init__(
        self,
        inputs: int,
        query: int,
        value: int,
        heads: int,
        window: int = 7,
        stride: int = 1,
        position: str = "shared",
        interleaved: bool = False,
    ) -> None:
        super().__init__(inputs, query, value, heads, (window, window), position, interleaved)
        self.window = window
        self.pool = Pool("avg", stride, stride)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        q_BnDHW, k_BnDHW, v_BnEHW = self.split(x_BCHW)
        r_nKD = None if self.offsets is None else self.vectors(self.offsets.flatten(1))
        y_BnEHW = attend(q_BnDHW, k_BnDHW, v_BnEHW, r_nKD, windows(q_BnDHW, self.window))
        return self.pool(self.join(y_BnEHW))


class AxisAttention(RelativeAttention):
    """Each pixel attends to its whole column (`height`) or row (`width`).

    There are vectors for the offsets up to span - 1 either way; a farther one has that of the farthest. So a map that
    is smaller than `span` uses the middle of the vectors, and one that is larger runs too.
    """

    def __init__(
        self,
        inputs: int,
        query: int,
        value: int,
        heads: int,
        span: int,
        axis: str,
        position: str = "shared",
        interleaved: bool = False,
    ) -> None:
        super().__init__(inputs, query, value, heads, (2 * span - 1,), position, interleaved)
        self.span = span
        self.vertical = axis == "height"

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        height, width = x_BCHW.shape[2:]
        r_nKD = None
        if self.offsets is not None:
            farthest = (height if self.vertical else width) - 1
            offset_K = torch.arange(-farthest, farthest + 1, device=x_BCHW.device).clamp(1 - self.span, self.span - 1)
            r_nKD = self.vectors(self.offsets[:, offset_K + self.span - 1])
        return self.join(attend(*self.split(x_BCHW), r_nKD, Lines(height, width, self.vertical, x_BCHW.device)))


class AxialAttention(nn.Module):
    """Attention along the columns, then along the rows, with nothing in between; then an average over
    `stride` x `stride` pixels, which leaves ceil(size / stride) of them.

    The first part makes `value` channels of the input's, the second as many of those. `height` and `width` are the size
    of map that there are offset vectors for; any other runs too. TrioNet paper, axial self-attention.
    """

    def __init__(
        self,
        inputs: int,
        query: int,
        value: int,
        heads: int,
        height: int,
        width: int,
        stride: int = 1,
        position: str = "shared",
        interleaved: bool = False,
    ) -> None:
        super().__init__()
        self.height = AxisAttention(inputs, query, value, heads, height, "height", position, interleaved)
        self.width = AxisAttention(value, query, value, heads, width, "width", position, interleaved)
        self.pool = Pool("avg", stride, stride)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.pool(self.width(self.height(x_BCHW)))
