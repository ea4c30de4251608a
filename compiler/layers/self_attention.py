"""Multi-head self-attention of all places of a map, or of tokens; of all with all, or within windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.compiler.layers.recording import recorded
from nasdsl.compiler.layers.tokens import grid_of, rows_of


def offsets_between(rows: int, columns: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all places of a map, row by row, how many rows and columns the second one is behind the first: P P each."""
    row_P = torch.arange(rows, device=device)[:, None].expand(rows, columns).flatten()
    column_P = torch.arange(columns, device=device).expand(rows, columns).flatten()
    return row_P - row_P[:, None], column_P - column_P[:, None]


class HeadsAttention(nn.Module):
    """Queries, keys and values of `heads` heads with `dim` channels each, and the linear layer behind them.

    Their channels stand head by head: head h has h * dim to h * dim + dim - 1. Logits are divided by sqrt(dim).
    Attention paper (Vaswani et al., 2017).
    """

    def __init__(self, inputs: int, outputs: int, heads: int, dim: int, qkv_bias: bool = True, bias: bool = True):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(inputs, heads * dim, qkv_bias)
        self.key = nn.Linear(inputs, heads * dim, qkv_bias)
        self.value = nn.Linear(inputs, heads * dim, qkv_bias)
        self.project = nn.Linear(heads * dim, outputs, bias)


class GlobalAttention(HeadsAttention):
    """Each place of a map, or each token, attends to all: B C H W -> B C' H W. ViT paper.

    How two places lie to each other counts in one of three ways. `none`: not at all. `bias`: each head has a learned
    number for each offset, which is added to the logit (BEiT paper). `vectors`: there are learned vectors for rows and
    for columns that lie apart so far, up to `reach` either way; the sum of the two meets the query in the logit, and
    that of two others is added to the value. All heads have the same (AutoFormer paper and code).

    The first `prefix` tokens have no place: with `bias` each head has three numbers for pairs that they begin, that
    they end, and among themselves; with `vectors` there is one vector more of each kind for all such pairs.

    Args:
        dim: channels of a head.
        grid: rows and columns of the map; of tokens, of the map that they are without the prefix. On another size
            offsets that are farther than any on it have what the farthest has.

    Raises:
        ValueError: tokens that are no map in the proportions of the grid.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        heads: int,
        dim: int,
        qkv_bias: bool = True,
        bias: bool = True,
        position: str = "none",
        grid: tuple[int, int] = (1, 1),
        prefix: int = 0,
        reach: int = 14,
    ) -> None:
        super().__init__(inputs, outputs, heads, dim, qkv_bias, bias)
        self.position = position
        self.grid = tuple(grid)
        self.prefix = prefix
        self.reach = reach
        if position == "bias":
            self.position_bias = nn.Parameter(torch.empty(heads, 2 * grid[0] - 1, 2 * grid[1] - 1))
            nn.init.normal_(self.position_bias, std=0.02)
            if prefix:
                self.prefix_bias = nn.Parameter(torch.empty(heads, 3))
                nn.init.normal_(self.prefix_bias, std=0.02)
        if position == "vectors":
            size = (2 * reach + 1 + min(prefix, 1), dim)
            self.key_rows, self.key_columns = nn.Parameter(torch.empty(size)), nn.Parameter(torch.empty(size))
            self.value_rows, self.value_columns = nn.Parameter(torch.empty(size)), nn.Parameter(torch.empty(size))
            for vectors in (self.key_rows, self.key_columns, self.value_rows, self.value_columns):
                nn.init.normal_(vectors, std=0.02)

    def grid_here(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of a map, or of tokens without the prefix."""
        return (height, width) if width > 1 else grid_of(height - self.prefix, *self.grid)

    def biases(self, height: int, width: int) -> torch.Tensor:
        """What is added to the logits: heads N N."""
        (rows, columns), (tall, wide) = self.grid_here(height, width), self.grid
        down_PP, right_PP = offsets_between(rows, columns, self.position_bias.device)
        index_PP = (-down_PP).clamp(1 - tall, tall - 1) + tall - 1
        index_PP = index_PP * (2 * wide - 1) + (-right_PP).clamp(1 - wide, wide - 1) + wide - 1
        biases_hK = self.position_bias.flatten(1)
        if not self.prefix:
            return biases_hK[:, index_PP]
        first, last = self.prefix, biases_hK.shape[1]
        index_NN = F.pad(index_PP, (first, 0, first, 0), value=last)  # of pairs that a token of the prefix begins
        index_NN[first:, :first] = last + 1
        index_NN[:first, :first] = last + 2
        return torch.cat([biases_hK, self.prefix_bias], 1)[:, index_NN]

    def vectors_between(self, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Which vector of the rows, and which of the columns, is for a pair: N N each."""
        first, reach = self.prefix, self.reach
        down_NN, right_NN = (
            F.pad(apart_PP.clamp(-reach, reach) + reach + min(first, 1), (first, 0, first, 0))
            for apart_PP in offsets_between(*self.grid_here(height, width), self.key_rows.device)
        )
        return down_NN, right_NN

    def with_vectors(
        self, q_BhND: torch.Tensor, k_BhND: torch.Tensor, v_BhND: torch.Tensor, height: int, width: int
    ) -> torch.Tensor:
        """Attention in which pairs have vectors. The product of a query with the vector of a pair is looked up among
        those with all vectors; weights are summed up by vectors before these are multiplied."""
        logits_BhNN = q_BhND @ k_BhND.mT
        down_NN, right_NN = self.vectors_between(height, width)
        for index_NN, vectors_KD in ((down_NN, self.key_rows), (right_NN, self.key_columns)):
            index_BhNN = index_NN.expand(logits_BhNN.shape)
            logits_BhNN = logits_BhNN + (q_BhND @ vectors_KD.mT).gather(3, index_BhNN)
        exact = torch.promote_types(logits_BhNN.dtype, torch.float32)
        weights_BhNN = (logits_BhNN * q_BhND.shape[3] ** -0.5).softmax(3, dtype=exact).to(v_BhND.dtype)
        y_BhND = weights_BhNN @ v_BhND
        for index_NN, vectors_KD in ((down_NN, self.value_rows), (right_NN, self.value_columns)):
            sums_BhNK = weights_BhNN.new_zeros((*weights_BhNN.shape[:3], vectors_KD.shape[0]))
            sums_BhNK = sums_BhNK.scatter_add(3, index_NN.expand(weights_BhNN.shape), weights_BhNN)
            y_BhND = y_BhND + sums_BhNK @ vectors_KD
        return y_BhND

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        height, width = x_BCHW.shape[2:]
        x_BNC = rows_of(x_BCHW)
        q_BhND, k_BhND, v_BhND = (
            torch.unflatten(part(x_BNC), 2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        if self.position == "vectors":
            y_BhND = self.with_vectors(q_BhND, k_BhND, v_BhND, height, width)
        else:
            biases_hNN = self.biases(height, width).to(q_BhND.dtype) if self.position == "bias" else None
            y_BhND = F.scaled_dot_product_attention(q_BhND, k_BhND, v_BhND, biases_hNN)
        y_BNC = self.project(y_BhND.transpose(1, 2).flatten(2))
        return torch.unflatten(y_BNC, 1, (height, width)).permute(0, 3, 1, 2)


class WindowAttention(HeadsAttention):
    """Each pixel attends to all of its window; windows divide the map: B C H W -> B C' H W. Swin paper.

    With a shift, windows begin so many pixels down and right, and what is left over at the borders are smaller windows.
    Along an axis where one window is the whole map, none is shifted. Where windows do not divide the map, those at its
    end reach beyond, and to what is there nobody attends. With `position` each head has a learned number for each
    offset, which is added to the logit.

    Args:
        dim: channels of a head.
        window: height and width of the windows; on a smaller map they are as large as it is.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        heads: int,
        dim: int,
        qkv_bias: bool = True,
        bias: bool = True,
        window: tuple[int, int] = (7, 7),
        shift: int = 0,
        position: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, heads, dim, qkv_bias, bias)
        self.window = tuple(window)
        self.shift = shift
        self.position_bias: nn.Parameter | None = None
        if position:
            self.position_bias = nn.Parameter(torch.empty(heads, 2 * window[0] - 1, 2 * window[1] - 1))
            nn.init.normal_(self.position_bias, std=0.02)

    def biases(self, tall: int, wide: int) -> torch.Tensor | None:
        """What is added to the logits of a window: heads L L."""
        if self.position_bias is None:
            return None
        (highest, widest), (down_LL, right_LL) = self.window, offsets_between(tall, wide, self.position_bias.device)
        return self.position_bias[:, highest - 1 - down_LL, widest - 1 - right_LL]

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        height, width = x_BCHW.shape[2:]
        tall, wide = min(self.window[0], height), min(self.window[1], width)
        rows, columns = -(-height // tall), -(-width // wide)
        moves = self.shift if rows > 1 else 0, self.shift if columns > 1 else 0
        beyond = rows * tall > height or columns * wide > width

        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        q, k, v = (
            windows_of(torch.unflatten(part(x_BHWC), 3, (self.heads, -1)), (tall, wide), moves)
            for part in (self.query, self.key, self.value)
        )
        added = self.biases(tall, wide)
        if beyond or any(moves):
            apart_W1LL = apart((height, width), (tall, wide), moves, x_BCHW.device)[:, None]
            added = q.new_zeros(1, 1) if added is None else added
            added = added.masked_fill(apart_W1LL, float("-inf"))
        y = in_windows(q, k, v, None if added is None else added.to(q.dtype))
        parts = torch.unflatten(torch.unflatten(y, 3, (tall, wide)), 1, (rows, columns))
        y_BHWC = parts.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4).flatten(1, 2)
        if any(moves):
            y_BHWC = y_BHWC.roll(moves, (1, 2))
        y_BHWC = self.project(y_BHWC[:, :height, :width])
        return y_BHWC.permute(0, 3, 1, 2)


def in_windows(
    q_BWhLD: torch.Tensor, k_BWhLD: torch.Tensor, v_BWhLD: torch.Tensor, added: torch.Tensor | None
) -> torch.Tensor:
    """Attention within windows, with what is added to the logits. A recording has it written out, as kernels elsewhere
    take no fifth axis."""
    if not recorded(q_BWhLD):
        return F.scaled_dot_product_attention(q_BWhLD, k_BWhLD, v_BWhLD, added)
    logits_BWhLL = q_BWhLD * q_BWhLD.shape[4] ** -0.5 @ k_BWhLD.mT
    if added is not None:
        logits_BWhLL = logits_BWhLL + added
    exact = torch.promote_types(q_BWhLD.dtype, torch.float32)
    return logits_BWhLL.softmax(4, dtype=exact).to(v_BWhLD.dtype) @ v_BWhLD


def windows_of(x_BHWhD: torch.Tensor, window: tuple[int, int], moves: tuple[int, int]) -> torch.Tensor:
    """The windows of a map that is filled up with zeros and rolled by `moves`: B windows h L D."""
    below, right = (-side % part for side, part in zip(x_BHWhD.shape[1:3], window, strict=True))
    if below or right:
        x_BHWhD = F.pad(x_BHWhD, (0, 0, 0, 0, 0, right, 0, below))
    if any(moves):
        x_BHWhD = x_BHWhD.roll((-moves[0], -moves[1]), (1, 2))
    parts = torch.unflatten(torch.unflatten(x_BHWhD, 2, (-1, window[1])), 1, (-1, window[0]))
    return parts.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5).flatten(1, 2)


def apart(size: tuple[int, int], window: tuple[int, int], moves: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Of each window of a map that was rolled by `moves` which pixels may not attend to which: windows L L.

    They may not where the roll has brought them together, and where the second one lies beyond the border and the
    first does not. What lies beyond may attend to what lies beyond, so that none attends to nothing.
    """
    wrapped, beyond = [], []
    for length, side, move in zip(size, window, moves, strict=True):
        whole = -(-length // side) * side
        place = torch.arange(whole, device=device) + move
        wrapped.append(place >= whole)
        beyond.append(place % whole >= length)
    part_HW = 2 * wrapped[0][:, None].long() + wrapped[1].long()
    beyond_HW = beyond[0][:, None] | beyond[1]
    part_WL, beyond_WL = (
        x.view(-1, window[0], x.shape[1] // window[1], window[1]).transpose(1, 2).reshape(-1, window[0] * window[1])
        for x in (part_HW, beyond_HW)
    )
    return (part_WL[:, :, None] != part_WL[:, None]) | (beyond_WL[:, None] & ~beyond_WL[:, :, None])
