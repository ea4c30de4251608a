"""HR-NAS's supernet as one writes it by hand from the paper, in plain torch: the rival of the compiled one.

Nothing of the language stands here. The block is in its natural form: one 1x1 convolution expands, its output is split,
a depthwise convolution runs on each part, the parts are concatenated and one 1x1 convolution projects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Layout:
    """What tells one HR-NAS supernet from another.

    Attributes:
        finest: stride of the first branch; each further one has half the size and is twice as wide as the one before.
        blocks: of each branch in a stage.
        stages: branches of each stage after the first.
        expand: channels of each kernel size, in multiples of the block's input.
        enter: whether an exchange stands before the first stage.
        everywhere: whether every block has a transformer, or only those that keep the shape.
        paper: whether the transformer projects before it resizes, knows its position from 0 to 1, has biases and adds
            to its queries, or has the form of the official code.
        joint: width of a block between the joined branches and the last layer, or 0 for none.
        dense: whether every pixel is classified, or the image.
    """

    classes: int
    stem: int
    entry: int
    base: int
    finest: int
    blocks: Sequence[int]
    stages: Sequence[int]
    expand: int
    tokens: int
    widen: int
    shortcut: bool
    momentum: float
    enter: bool = False
    everywhere: bool = True
    paper: bool = True
    joint: int = 0
    dense: bool = False
    eps: float = 1e-3


class ConvNorm(nn.Sequential):
    """3x3 convolution, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, layout: Layout):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs, layout.eps, layout.momentum),
            nn.ReLU(inplace=True),
        )


class MixConv(nn.Module):
    """Expand, mix kernel sizes depthwise, project."""

    def __init__(self, inputs: int, outputs: int, stride: int, layout: Layout):
        super().__init__()
        part = layout.expand * inputs
        self.expand = nn.Conv2d(inputs, 3 * part, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(3 * part, layout.eps, layout.momentum)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(part, part, k, stride, k // 2, groups=part, bias=False) for k in (3, 5, 7)
        )
        self.norm2 = nn.BatchNorm2d(3 * part, layout.eps, layout.momentum)
        self.relu = nn.ReLU(inplace=True)
        self.project = nn.Conv2d(3 * part, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs, layout.eps, layout.momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm1(self.expand(x)))
        x = torch.cat([conv(part) for conv, part in zip(self.depthwise, x.chunk(3, 1), strict=True)], 1)
        x = self.relu(self.norm2(x))
        return self.norm3(self.project(x))


class AttentionLayer(nn.Module):
    """Post-norm attention and feed-forward network over B N E; one head, no biases in the attention."""

    def __init__(self, width: int, layout: Layout, dropout: float = 0.1):
        super().__init__()
        hidden = layout.widen * width
        self.qkv = nn.Parameter(torch.empty(3 * width, width))
        nn.init.xavier_uniform_(self.qkv)
        self.out = nn.Linear(width, width, bias=False)
        self.norm1 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden, bias=layout.paper)
        self.fc2 = nn.Linear(hidden, width, bias=layout.paper)
        self.norm2 = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, residual: torch.Tensor, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        wq, wk, wv = self.qkv.chunk(3)
        q, k, v = F.linear(query, wq), F.linear(memory, wk), F.linear(memory, wv)
        attention = self.drop((q @ k.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1))
        x = self.norm1(residual + self.drop(self.out(attention @ v)))
        return self.norm2(x + self.drop(self.fc2(self.drop(F.relu(self.fc1(x))))))


class LightTransformer(nn.Module):
    """Channels projected to a few tokens of 8 x 8 pixels, an encoder and a decoder layer, and back."""

    def __init__(self, inputs: int, outputs: int, stride: int, layout: Layout):
        super().__init__()
        self.stride, self.paper = stride, layout.paper
        self.project = nn.Conv2d(inputs + 2, layout.tokens, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(layout.tokens)
        self.encoder = AttentionLayer(64, layout)
        self.decoder = AttentionLayer(64, layout)
        self.queries = nn.Parameter(torch.empty(layout.tokens, 64))
        nn.init.xavier_uniform_(self.queries)
        self.unproject = nn.Conv2d(layout.tokens, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.positions: dict[tuple[int, ...], torch.Tensor] = {}

    def with_position(self, x: torch.Tensor) -> torch.Tensor:
        """`x` and two channels that say where a pixel is; the map of each size is made once."""
        size = tuple(x.shape[2:])
        if size not in self.positions:
            row, column = torch.meshgrid(*(torch.arange(n, dtype=x.dtype) for n in size), indexing="ij")
            if self.paper:
                pair = torch.stack([row / size[0], column / size[1]])
            else:
                pair = torch.stack([(m - m.mean()) / m.std(correction=0) for m in (column, row)])
            self.positions[size] = pair.to(x.device)
        return torch.cat([x, self.positions[size].expand(len(x), -1, -1, -1)], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        if self.paper:
            x = self.norm1(self.project(self.with_position(x)))
            if (height, width) != (8, 8):
                x = F.interpolate(x, (8, 8), mode="bilinear", align_corners=False)
        else:
            if (height, width) != (8, 8):
                x = F.interpolate(x, (8, 8), mode="bilinear", align_corners=False)
            x = self.norm1(self.project(self.with_position(x)))
        tokens = x.flatten(2)
        tokens = self.encoder(tokens, tokens, tokens)
        tokens = self.decoder(self.queries if self.paper else tokens, self.queries, tokens)
        x = self.norm2(self.unproject(tokens.unflatten(2, (8, 8))))
        size = (-(-height // self.stride), -(-width // self.stride))
        return x if size == (8, 8) else F.interpolate(x, size, mode="bilinear", align_corners=False)


class Block(nn.Module):
    """A searching block: mixed convolution, transformer and shortcut, added up."""

    def __init__(self, inputs: int, outputs: int, stride: int, layout: Layout):
        super().__init__()
        self.keeps = stride == 1 and inputs == outputs
        self.mixconv = MixConv(inputs, outputs, stride, layout)
        attended = layout.everywhere or self.keeps
        self.transformer = LightTransformer(inputs, outputs, stride, layout) if attended else None
        self.shortcut: nn.Module | None = None
        if layout.shortcut:
            groups = gcd(inputs, outputs)
            conv = nn.Conv2d(inputs, outputs, 1, stride, groups=groups, bias=False)
            self.shortcut = nn.Identity() if self.keeps else conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mixconv(x)
        if self.transformer is not None:
            y = y + self.transformer(x)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return y


class Fusion(nn.Module):
    """Every branch reads itself and its neighbours; perhaps one coarser branch is added."""

    def __init__(self, before: Sequence[int], after: Sequence[int], layout: Layout):
        super().__init__()
        self.outputs = len(after)
        self.paths = nn.ModuleDict()
        for i, width in enumerate(after[: len(before)]):
            for j in range(max(i - 1, 0), min(i + 2, len(before))):
                self.paths[f"{j}{i}"] = Block(before[j], width, 2 if j < i else 1, layout)
        self.new = Block(after[len(before) - 1], after[-1], 2, layout) if len(after) > len(before) else None

    def forward(self, xs: list[torch.Tensor]) -> list[torch.Tensor]:
        ys = []
        for i in range(len(xs)):
            y: torch.Tensor | None = None
            for j in range(max(i - 1, 0), min(i + 2, len(xs))):
                x = self.paths[f"{j}{i}"](xs[j])
                if j > i:
                    x = F.interpolate(x, scale_factor=2, mode="nearest")
                if y is not None and x.shape != y.shape:
                    x = F.interpolate(x, y.shape[2:], mode="bilinear", align_corners=False)
                y = x if y is None else y + x
            assert y is not None
            ys.append(F.relu(y))
        if self.new is not None:
            ys.append(self.new(ys[-1]))
        return ys


class Parallel(nn.Module):
    """Each branch by itself: a chain of blocks that keep the shape."""

    def __init__(self, widths: Sequence[tuple[int, int]], blocks: Sequence[int], layout: Layout):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(Block(inputs if i == 0 else width, width, 1, layout) for i in range(n)))
            for (inputs, width), n in zip(widths, blocks, strict=False)
        )

    def forward(self, xs: list[torch.Tensor]) -> list[torch.Tensor]:
        return [branch(x) for branch, x in zip(self.branches, xs, strict=True)]


class HRNAS(nn.Module):
    """The whole supernet: B 3 H W to B classes, or to B classes H/finest W/finest where every pixel is classified."""

    def __init__(self, layout: Layout):
        super().__init__()
        self.layout = layout
        self.stem = nn.Sequential(
            ConvNorm(3, layout.stem, 2, layout), ConvNorm(layout.stem, layout.stem, layout.finest // 2, layout)
        )
        stages: list[nn.Module] = []
        widths = [layout.stem]
        if layout.enter:
            stages.append(Fusion(widths, [layout.entry], layout))
            widths = [layout.entry]
        stages.append(Parallel([(widths[0], layout.entry)], [1], layout))
        widths = [layout.entry]
        for n in layout.stages:
            after = [layout.base * 2**i for i in range(n)]
            stages += [
                Fusion(widths, after, layout),
                Parallel([(w, w) for w in after], layout.blocks, layout),
            ]
            widths = after
        self.stages = nn.ModuleList(stages)
        total = sum(widths)
        self.joint = Block(total, layout.joint, 1, layout) if layout.joint else None
        total = layout.joint or total
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Conv2d(total, layout.classes, 1) if layout.dense else nn.Linear(total, layout.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        xs = [self.stem(x)]
        for stage in self.stages:
            xs = stage(xs)
        size = xs[0].shape[2:]
        x = torch.cat([xs[0], *(F.interpolate(x, size, mode="bilinear", align_corners=False) for x in xs[1:])], 1)
        if self.joint is not None:
            x = self.joint(x)
        return self.classifier(x if self.layout.dense else self.dropout(x.mean((2, 3))))


def named_parts(network: HRNAS) -> Iterator[tuple[str, nn.Module]]:
    """Modules with weights by the names that they have in the compiled supernet of the same layout."""
    layout = network.layout
    strides = [layout.finest * 2**i for i in range(len(layout.blocks))]

    def parts(name: str, block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        assert isinstance(block, Block)
        yield f"{name}.searching.mixconv", block.mixconv
        if block.transformer is not None:
            yield f"{name}.searching.transformer", block.transformer
        if isinstance(block.shortcut, nn.Conv2d):
            yield f"{name}.searching.skip", block.shortcut

    for i, conv in enumerate(network.stem):
        yield f"stem.conv[{i}]", conv
    number = -1
    for i, stage in enumerate(network.stages):
        first = i <= layout.enter
        scope = "start" if first else f"stage[{number if isinstance(stage, Parallel) else number + 1}]"
        if isinstance(stage, Fusion):
            number += not first
            for path, block in stage.paths.items():
                source, target = (strides[int(digit)] for digit in path)
                yield from parts(f"{scope}.exchange[1/{source} -> 1/{target}]", block)
            if stage.new is not None:
                yield from parts(
                    f"{scope}.exchange[1/{strides[stage.outputs - 2]} -> 1/{strides[stage.outputs - 1]}]", stage.new
                )
        elif isinstance(stage, Parallel):
            for stride, branch in zip(strides, stage.branches, strict=False):
                for j, block in enumerate(branch):  # type: ignore[arg-type]
                    within = "" if first else f".repeat[{j}]"
                    yield from parts(f"{scope}.parallel[1/{stride}]{within}", block)
    if network.joint is not None:
        yield from parts("head.joined", network.joint)
    yield f"head.{'segment' if layout.dense else 'classify'}", network.classifier


def copy_weights(layers: Mapping[str, nn.Module], network: HRNAS) -> None:
    """Gives the hand-written network the weights and statistics of a compiled one's layers, all of them.

    Args:
        layers: of the compiled supernet, by the names of its nodes.

    Raises:
        ValueError: the two do not have the same parts in the same shapes.
    """
    used = set()
    for name, mine in named_parts(network):
        theirs, wanted = layers[name].state_dict(), mine.state_dict()
        if [v.shape for v in theirs.values()] != [v.shape for v in wanted.values()]:
            raise ValueError(f"`{name}` has other weights here")
        mine.load_state_dict(dict(zip(wanted, theirs.values(), strict=True)))
        used.add(name)
    left = {name for name, layer in layers.items() if name not in used and layer.state_dict()}
    if left:
        raise ValueError(f"no counterpart for {sorted(left)}")
