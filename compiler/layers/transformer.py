"""The lightweight transformer of the HR-NAS paper: tokens are channels, their features the pixels of a small map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.compiler.layers.recording import is_open, recorded
from nasdsl.compiler.layers.resample import resized


def position_map(height: int, width: int, kind: str) -> torch.Tensor:
    """Two channels (2 H W) that tell where a pixel is.

    `centred`: column, then row, each with mean 0 and variance 1. `unit`: row, then column, each from 0 to below 1.
    """
    grid_2HW = torch.empty(2, height, width)
    if grid_2HW.is_meta:  # arithmetic there makes torch import its compiler, which takes seconds
        return grid_2HW
    rows = torch.arange(height, dtype=torch.float32)
    columns = torch.arange(width, dtype=torch.float32)
    if kind == "unit":
        row, column = rows / height, columns / width
    else:  # (n * n - 1) / 12 is the variance of 0 .. n - 1; a single row or column has none
        row = (rows - (height - 1) / 2) / (max(height * height - 1, 1) / 12) ** 0.5
        column = (columns - (width - 1) / 2) / (max(width * width - 1, 1) / 12) ** 0.5
    row_HW, column_HW = row[:, None].expand(height, width), column[None, :].expand(height, width)
    return torch.stack([row_HW, column_HW] if kind == "unit" else [column_HW, row_HW])


class Attention(nn.Module):
    """Attention with one head and no biases. Written out, so that every count of operations sees its two products."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.project_in = nn.Parameter(torch.empty(3 * width, width))
        nn.init.xavier_uniform_(self.project_in)
        self.project_out = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: torch.Tensor, memory_BME: torch.Tensor) -> torch.Tensor:
        """`query` is N E (the same for the whole batch) or B N E; the answer is B N E."""
        width = query.shape[-1]
        if query is memory_BME:
            q, k_BME, v_BME = F.linear(query, self.project_in).chunk(3, -1)
        else:
            q = F.linear(query, self.project_in[:width])
            k_BME, v_BME = F.linear(memory_BME, self.project_in[width:]).chunk(2, -1)
        weights_BNM = self.dropout((q * width**-0.5 @ k_BME.transpose(1, 2)).softmax(-1))
        return self.project_out(weights_BNM @ v_BME)


class AttentionLayer(nn.Module):
    """Attention and a feed-forward network, each added and then normalised."""

    def __init__(self, width: int, hidden: int, bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(width, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden, bias)
        self.narrow = nn.Linear(hidden, width, bias)
        self.feed_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, residual: torch.Tensor, query: torch.Tensor, memory_BME: torch.Tensor) -> torch.Tensor:
        """B N E, from a residual and a query that are N E or B N E."""
        z_BNE = self.attention_norm(residual + self.dropout(self.attention(query, memory_BME)))
        fed_BNE = self.narrow(self.dropout(torch.relu(self.widen(z_BNE))))
        return self.feed_norm(z_BNE + self.dropout(fed_BNE))


class LightTransformer(nn.Module):
    """Projects the input to `tokens` maps of `size` x `size` pixels, mixes them by attention, and projects back.

    There is no identity inside. The scale of `token_norm` holds the importance factors. The output has
    ceil(size / stride) pixels, so it agrees with a strided convolution for odd sizes too. HR-NAS paper, lightweight
    transformer.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        tokens: int,
        stride: int = 1,
        size: int = 8,
        widen: int = 1,
        position: str = "centred",
        project: str = "after",
        bias: bool = False,
        decoder: bool = True,
        decoder_residual: str = "encoder",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        width = size * size
        self.stride = stride
        self.size = size
        self.position = position
        self.project_first = project == "before"
        self.residual_from_query = decoder_residual == "query"
        self.project = nn.Conv2d(inputs + (0 if position == "none" else 2), tokens, 1, bias=False)
        self.token_norm = nn.BatchNorm2d(tokens)
        self.encoder = AttentionLayer(width, widen * width, bias, dropout)
        self.decoder = AttentionLayer(width, widen * width, bias, dropout) if decoder else None
        self.queries = nn.Parameter(torch.empty(tokens, width)) if decoder else None
        if self.queries is not None:
            nn.init.xavier_uniform_(self.queries)
        self.unproject = nn.Conv2d(tokens, outputs, 1, bias=False)
        self.output_norm = nn.BatchNorm2d(outputs)
        self.other_grid: torch.Tensor | None = None  # of the size that was last seen
        self.grid: torch.Tensor | None
        self.register_buffer(
            "grid", None if position == "none" else position_map(size, size, position), persistent=False
        )

    def located(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """`x` with two more channels that hold the position: B C+2 H W."""
        if self.grid is None:
            return x_BCHW
        size, grid_2HW, other_2HW = x_BCHW.shape[2:], self.grid, self.other_grid
        if is_open(*size):
            grid_2HW = position_map(size[0], size[1], self.position).to(x_BCHW.device)
        elif grid_2HW.shape[1:] != size:
            if other_2HW is None or other_2HW.shape[1:] != size or other_2HW.device != x_BCHW.device:
                other_2HW = position_map(size[0], size[1], self.position).to(x_BCHW.device)
                if not recorded(x_BCHW):
                    self.other_grid = other_2HW
            grid_2HW = other_2HW
        return torch.cat([x_BCHW, grid_2HW.to(x_BCHW.dtype).expand(x_BCHW.shape[0], -1, -1, -1)], 1)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        small = (self.size, self.size)
        if self.project_first:
            x_BNss = resized(self.token_norm(self.project(self.located(x_BCHW))), small)
        else:
            x_BNss = self.token_norm(self.project(self.located(resized(x_BCHW, small))))
        tokens_BNE = x_BNss.flatten(2)
        tokens_BNE = self.encoder(tokens_BNE, tokens_BNE, tokens_BNE)
        if self.decoder is not None and self.queries is not None:
            residual = self.queries if self.residual_from_query else tokens_BNE
            tokens_BNE = self.decoder(residual, self.queries, tokens_BNE)
        y_BCss = self.output_norm(self.unproject(tokens_BNE.unflatten(2, small)))
        return resized(y_BCss, (-(-x_BCHW.shape[2] // self.stride), -(-x_BCHW.shape[3] // self.stride)))
