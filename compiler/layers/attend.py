"""Attention of each pixel to others of its map, a part of the map after the other, so that all stays in the cache.

A pattern says who attends to whom and computes the products that go with it; `attend` runs it over images and heads and
derives it, keeping queries, keys and values alone: the weights are made again for the backward pass.

Shapes: B images, n heads with D channels (E of the values), maps of H x W pixels, K offsets or pixels attended to. A
pattern works on N = b * h parts, which are h heads of b images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch

from nasdsl.compiler.layers.recording import recorded

# How many scores a part of the work has at most, unless one head of one image has more: what the cache of a processor
# likes; on another device so many that the number of calls does not count.
NEARBY = 1 << 20
DEVICE = 1 << 26
# Products of queries with keys, for each pixel and head, from which on matrices are faster than sums of shifted maps.
MATRICES = 550
# How many times as large as a window a map may be for products of all pixels with all.
WHOLE = 2
BLOCK = 8


class Pattern(ABC):
    """Which pixels attend to which on maps of one size. `scores` is how many scores a head of an image has.

    Queries (and gradients of the output) come as `near`, keys and values as `far`, both from b h D H W. Scores are of a
    shape of the pattern's own; the axis that says to what is attended is `axis`.
    """

    scores: int
    axis: int = -1

    @abstractmethod
    def near(self, x: torch.Tensor) -> torch.Tensor:
        """What attends, in the pattern's order."""

    @abstractmethod
    def far(self, x: torch.Tensor) -> torch.Tensor:
        """What is attended to, in the pattern's order."""

    @abstractmethod
    def back(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """The inverse of `near`: b h D H W."""

    @abstractmethod
    def product(self, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        """The scores near_o . far_p of all pairs that attend."""

    @abstractmethod
    def collect(self, scores: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        """For each o the sum over p of score_op * far_p, as `near` is."""

    @abstractmethod
    def spread(self, scores: torch.Tensor, near: torch.Tensor, heads: int) -> torch.Tensor:
        """For each p the sum over o of score_op * near_o: b h D H W."""

    @abstractmethod
    def locate(self, near: torch.Tensor, r_hKD: torch.Tensor) -> torch.Tensor:
        """The scores near_o . r_(p - o)."""

    @abstractmethod
    def located(self, scores: torch.Tensor, near: torch.Tensor, r_hKD: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The gradients of `locate`'s two arguments, by its scores'."""

    @abstractmethod
    def masked(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits, -inf where a pair leads beyond the border."""

    def weights(self, near: torch.Tensor, far: torch.Tensor, r_hKD: torch.Tensor | None) -> torch.Tensor:
        """How much each takes of what it attends to; the sum over `axis` is 1. In float32 at least."""
        logits = self.product(near, far)
        if r_hKD is not None:
            logits += self.locate(near, r_hKD)
        exact = torch.promote_types(logits.dtype, torch.float32)
        return torch.softmax(self.masked(logits), self.axis, dtype=exact)


def inside(size: int, window: int, device: torch.device) -> torch.Tensor:
    """Of each pixel along one axis and each offset of a window, whether it leads to a pixel: L K."""
    place_LK = torch.arange(size, device=device)[:, None] + torch.arange(window, device=device) - window // 2
    return (place_LK >= 0) & (place_LK < size)


class Shifts(Pattern):
    """Windows by sums over shifted maps, an offset after the other; fast where heads have few channels.

    Scores: N K H W.
    """

    axis = 1

    def __init__(self, height: int, width: int, window: int, device: torch.device) -> None:
        self.window, self.size = window, (height, width)
        self.scores = window**2 * height * width
        rows_HK, columns_WK = (inside(size, window, device) for size in self.size)
        self.mask_KHW = ~(rows_HK.T[:, None, :, None] & columns_WK.T[None, :, None, :]).flatten(0, 1)

    def near(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(0, 1).contiguous()

    def far(self, x: torch.Tensor) -> torch.Tensor:
        margin, (height, width) = self.window // 2, self.size
        out = x.new_zeros(*x.shape[:3], height + 2 * margin, width + 2 * margin)
        out[..., margin : margin + height, margin : margin + width] = x
        return out.flatten(0, 1)

    def back(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        return x.view(-1, heads, *x.shape[1:])

    def shifted(self, far: torch.Tensor) -> Iterator[torch.Tensor]:
        """Views of a padded map for the offsets, row by row: at each pixel, what stands there from it."""
        height, width = self.size
        for row in range(self.window):
            for column in range(self.window):
                yield far[..., row : row + height, column : column + width]

    def product(self, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        return torch.stack([(near * part).sum(1) for part in self.shifted(far)], 1)

    def collect(self, scores: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        out = scores.new_zeros(*far.shape[:2], *self.size)
        for score, part in zip(scores.unbind(1), self.shifted(far), strict=True):
            out.addcmul_(score[:, None], part)
        return out

    def spread(self, scores: torch.Tensor, near: torch.Tensor, heads: int) -> torch.Tensor:
        margin, (height, width) = self.window // 2, self.size
        out = near.new_zeros(*near.shape[:2], height + 2 * margin, width + 2 * margin)
        for score, part in zip(scores.unbind(1), self.shifted(out), strict=True):
            part.addcmul_(score[:, None], near)
        return self.back(out[..., margin : margin + height, margin : margin + width], heads)

    def locate(self, near: torch.Tensor, r_hKD: torch.Tensor) -> torch.Tensor:
        scores = r_hKD @ torch.unflatten(near.flatten(2), 0, (-1, r_hKD.shape[0]))
        return torch.unflatten(scores.flatten(0, 1), 2, self.size)

    def located(self, scores: torch.Tensor, near: torch.Tensor, r_hKD: torch.Tensor) -> tuple[torch.Tensor, ...]:
        by_head, near_bhDP = (torch.unflatten(x.flatten(2), 0, (-1, len(r_hKD))) for x in (scores, near))
        return (r_hKD.mT @ by_head).reshape(near.shape), (by_head @ near_bhDP.mT).sum(0)

    def masked(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.masked_fill(self.mask_KHW, float("-inf"))


class Blocks(Pattern):
    """Windows by products of matrices: each block of pixels with all that its windows reach, of which the scores of
    pairs within a window are taken out.

    Scores: N * blocks, pixels of a block, K.
    """

    def __init__(self, height: int, width: int, window: int, device: torch.device) -> None:
        self.window, self.size = window, (height, width)
        self.blocks = -(-height // BLOCK), -(-width // BLOCK)
        self.block = -(-height // self.blocks[0]), -(-width // self.blocks[1])
        self.reach = self.block[0] + window - 1, self.block[1] + window - 1
        self.pixels, self.reached = self.block[0] * self.block[1], self.reach[0] * self.reach[1]
        self.number = self.blocks[0] * self.blocks[1]
        self.scores = self.number * self.pixels * self.reached
        (rows, columns), (down, across) = self.block, self.blocks
        allowed = []
        for size, block, blocks in zip(self.size, self.block, self.blocks, strict=True):
            allowed.append(torch.ones(block * blocks, window, dtype=torch.bool, device=device))
            allowed[-1][:size] = inside(size, window, device)  # pixels that only fill a block attend to anything
        rows_HK, columns_WK = allowed
        within = rows_HK.view(down, 1, rows, 1, window, 1) & columns_WK.view(1, across, 1, columns, 1, window)
        self.mask_BPK = ~within.reshape(self.number, self.pixels, window**2)

    def places(self, device: torch.device) -> torch.Tensor:
        """Where the window of each pixel of a block lies in what the block reaches: P K."""
        (rows, columns), reach, window = self.block, self.reach[1], self.window
        row_R, column_C, step_w = (torch.arange(n, device=device) for n in (rows, columns, window))
        down_PW = (row_R[:, None, None] + step_w).expand(rows, columns, window).flatten(0, 1) * reach
        right_PW = (column_C[:, None] + step_w).expand(rows, columns, window).flatten(0, 1)
        return (down_PW[:, :, None] + right_PW[:, None]).flatten(1)

    def padded(self, x: torch.Tensor, margin: int) -> torch.Tensor:
        """A map with its channels last, and with zeros around it and to fill the last blocks: N H' W' D."""
        height, width = (n * size + 2 * margin for n, size in zip(self.blocks, self.block, strict=True))
        out = x.new_zeros(*x.shape[:2], height, width, x.shape[2])
        out[:, :, margin : margin + self.size[0], margin : margin + self.size[1]] = x.permute(0, 1, 3, 4, 2)
        return out.flatten(0, 1)

    def near(self, x: torch.Tensor) -> torch.Tensor:
        (down, across), (rows, columns) = self.blocks, self.block
        blocks = self.padded(x, 0).view(-1, down, rows, across, columns, x.shape[2])
        return blocks.transpose(2, 3).reshape(-1, self.pixels, x.shape[2])

    def far(self, x: torch.Tensor) -> torch.Tensor:
        padded = self.padded(x, self.window // 2)
        blocks = padded.unfold(1, self.reach[0], self.block[0]).unfold(2, self.reach[1], self.block[1])
        return blocks.permute(0, 1, 2, 4, 5, 3).reshape(-1, self.reached, x.shape[2])

    def back(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        (down, across), (rows, columns) = self.blocks, self.block
        blocks = x.view(-1, down, across, rows, columns, x.shape[2]).transpose(2, 3)
        whole = blocks.reshape(-1, heads, down * rows, across * columns, x.shape[2])
        return whole[:, :, : self.size[0], : self.size[1]].permute(0, 1, 4, 2, 3)

    def windows(self, scores: torch.Tensor) -> torch.Tensor:
        """A view of the scores of a block's pixels with all they reach, of those in the window: rows and columns of the
        block, rows and columns of the window."""
        (rows, columns), reach, window = self.block, self.reach[1], self.window
        strides = (scores.stride(0), columns * self.reached + reach, self.reached + 1, reach, 1)
        return scores.as_strided((scores.shape[0], rows, columns, window, window), strides)

    def product(self, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        scores = torch.bmm(near, far.mT)
        if recorded(near):
            places_PK = self.places(near.device)
            return scores.gather(2, places_PK.expand(scores.shape[0], *places_PK.shape))
        return self.windows(scores).reshape(-1, self.pixels, self.window**2)

    def matrices(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores with zeros for the pairs that are not in a window."""
        out = scores.new_zeros(scores.shape[0], self.pixels, self.reached)
        if recorded(scores):  # strides are no matter of what runs it elsewhere
            return out.scatter(2, self.places(scores.device).expand(scores.shape), scores)
        windows = self.windows(out)
        windows.copy_(scores.view(windows.shape))
        return out

    def collect(self, scores: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        return torch.bmm(self.matrices(scores), far)

    def spread(self, scores: torch.Tensor, near: torch.Tensor, heads: int) -> torch.Tensor:
        margin, (down, across), (rows, columns) = self.window // 2, self.blocks, self.block
        parts = torch.bmm(self.matrices(scores).mT, near).view(-1, down, across, *self.reach, near.shape[2])
        wide = parts.new_zeros(len(parts), down, self.reach[0], across * columns + 2 * margin, near.shape[2])
        for i in range(across):
            wide[..., i * columns : i * columns + self.reach[1], :] += parts[:, :, i]
        out = parts.new_zeros(len(parts), down * rows + 2 * margin, *wide.shape[3:])
        for i in range(down):
            out[:, i * rows : i * rows + self.reach[0]] += wide[:, i]
        out = out[:, margin : margin + self.size[0], margin : margin + self.size[1]]
        return torch.unflatten(out, 0, (-1, heads)).permute(0, 1, 4, 2, 3)

    def locate(self, near: torch.Tensor, r_hKD: torch.Tensor) -> torch.Tensor:
        scores = near.view(-1, r_hKD.shape[0], self.number * self.pixels, near.shape[2]) @ r_hKD.mT
        return scores.view(-1, self.pixels, self.window**2)

    def located(self, scores: torch.Tensor, near: torch.Tensor, r_hKD: torch.Tensor) -> tuple[torch.Tensor, ...]:
        by_head, near_bhPD = (x.view(-1, len(r_hKD), self.number * self.pixels, x.shape[2]) for x in (scores, near))
        return (by_head @ r_hKD).view(near.shape), (by_head.mT @ near_bhPD).sum(0)

    def masked(self, logits: torch.Tensor) -> torch.Tensor:
        parts = logits.view(-1, *self.mask_BPK.shape)
        return parts.masked_fill(self.mask_BPK, float("-inf")).view(logits.shape)


class Together(Pattern):
    """Pixels that all attend to one another, by products of matrices: groups, pixels, channels."""

    def far(self, x: torch.Tensor) -> torch.Tensor:
        return self.near(x)

    def product(self, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        return torch.bmm(near, far.mT)

    def collect(self, scores: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        return torch.bmm(scores, far)

    def spread(self, scores: torch.Tensor, near: torch.Tensor, heads: int) -> torch.Tensor:
        return self.back(torch.bmm(scores.mT, near), heads)


class Whole(Together):
    """Windows by products of all pixels with all, of which those beyond a window are left out; for maps that are not
    much larger than a window.

    Scores: N P P, with P = H * W pixels.
    """

    def __init__(self, height: int, width: int, window: int, device: torch.device) -> None:
        self.size, self.offsets = (height, width), window**2
        self.scores = (height * width) ** 2
        place_P = torch.arange(height * width, device=device)
        steps = [at - at[:, None] + window // 2 for at in (place_P // width, place_P % width)]
        near_PP = torch.stack([(step >= 0) & (step < window) for step in steps]).all(0)
        self.mask_PP = ~near_PP
        self.offset_PP = (steps[0] * window + steps[1]).where(near_PP, self.offsets)

    def near(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(3).transpose(2, 3).flatten(0, 1)

    def back(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        return x.view(-1, heads, *self.size, x.shape[2]).permute(0, 1, 4, 2, 3)

    def locate(self, near: torch.Tensor, r_hKD: torch.Tensor) -> torch.Tensor:
        by_offset = torch.unflatten(near, 0, (-1, r_hKD.shape[0])) @ r_hKD.mT
        found_PP = self.offset_PP.clamp(max=self.offsets - 1)  # what is beyond a window is masked
        return by_offset.gather(3, found_PP.expand(*by_offset.shape[:2], *found_PP.shape)).flatten(0, 1)

    def located(self, scores: torch.Tensor, near: torch.Tensor, r_hKD: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scores_bhPP, near_bhPD = (torch.unflatten(x, 0, (-1, len(r_hKD))) for x in (scores, near))
        # A pixel meets each offset once; what is beyond the window falls into a last column.
        wide = scores.new_zeros(*scores_bhPP.shape[:3], self.offsets + 1)
        by_offset = wide.scatter_(3, self.offset_PP.expand_as(scores_bhPP), scores_bhPP)[..., : self.offsets]
        return (by_offset @ r_hKD).flatten(0, 1), (by_offset.mT @ near_bhPD).sum(0)

    def masked(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.masked_fill(self.mask_PP, float("-inf"))


class Lines(Together):
    """Whole columns, or whole rows. Scores: N * M lines, L pixels, L pixels; there are 2 * L - 1 offsets."""

    def __init__(self, height: int, width: int, vertical: bool, device: torch.device) -> None:
        self.vertical = vertical
        self.lines, self.length = (width, height) if vertical else (height, width)
        self.scores = 2 * self.lines * self.length**2  # once as they are, once by the place of what attends
        place_L = torch.arange(self.length, device=device)
        self.offset_LL = place_L - place_L[:, None] + self.length - 1

    def near(self, x: torch.Tensor) -> torch.Tensor:
        order = (0, 1, 4, 3, 2) if self.vertical else (0, 1, 3, 4, 2)
        return x.permute(order).reshape(-1, self.length, x.shape[2])

    def back(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        whole = x.view(-1, heads, self.lines, self.length, x.shape[2])
        return whole.permute((0, 1, 4, 3, 2) if self.vertical else (0, 1, 4, 2, 3))

    def by_place(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """All that has the same place in its line together, as it meets the same vectors: h * L, b * M, any."""
        whole = x.view(-1, heads, self.lines, self.length, x.shape[2])
        return whole.permute(1, 3, 0, 2, 4).reshape(heads * self.length, -1, x.shape[2])

    def by_line(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """The inverse of `by_place`."""
        whole = x.view(heads, self.length, -1, self.lines, x.shape[2])
        return whole.permute(2, 0, 3, 1, 4).reshape(-1, self.length, x.shape[2])

    def locate(self, near: torch.Tensor, r_hKD: torch.Tensor) -> torch.Tensor:
        vectors = r_hKD[:, self.offset_LL].flatten(0, 1)
        return self.by_line(torch.bmm(self.by_place(near, r_hKD.shape[0]), vectors.mT), r_hKD.shape[0])

    def located(self, scores: torch.Tensor, near: torch.Tensor, r_hKD: torch.Tensor) -> tuple[torch.Tensor, ...]:
        heads = len(r_hKD)
        by_place = self.by_place(scores, heads)
        by_query = torch.bmm(by_place, r_hKD[:, self.offset_LL].flatten(0, 1))
        by_vector = torch.unflatten(torch.bmm(by_place.mT, self.by_place(near, heads)), 0, (heads, -1))
        by_both = by_vector.new_zeros(heads, self.length, 2 * self.length - 1, near.shape[2])
        strides = (by_both.stride(0), by_both.stride(1) - by_both.stride(2), *by_both.stride()[2:])
        by_both.as_strided(by_vector.shape, strides, (self.length - 1) * near.shape[2]).copy_(by_vector)
        return self.by_line(by_query, heads), by_both.sum(1)

    def masked(self, logits: torch.Tensor) -> torch.Tensor:
        return logits


def windows(q_BnDHW: torch.Tensor, window: int) -> Pattern:
    """The pattern for square windows around each pixel that is the faster for heads of that width; in a recording the
    one of few steps."""
    channels, height, width = q_BnDHW.shape[2:]
    if height * width <= WHOLE * window**2:
        return Whole(height, width, window, q_BnDHW.device)
    wide = channels * window**2 >= MATRICES or q_BnDHW.device.type != "cpu" or recorded(q_BnDHW)
    matrices = window > 1 and wide
    return (Blocks if matrices else Shifts)(height, width, window, q_BnDHW.device)


# --- Parts of the work ------------------------------------------------------------------------------------------------


def parts(x_BnDHW: torch.Tensor, pattern: Pattern) -> Iterator[tuple[slice, slice]]:
    """Images and heads to be worked on together."""
    images, heads = x_BnDHW.shape[:2]
    together = max(1, (NEARBY if x_BnDHW.device.type == "cpu" else DEVICE) // pattern.scores)
    some_heads, some_images = min(heads, together), max(1, together // heads)
    for image in range(0, images, some_images):
        for head in range(0, heads, some_heads):
            yield slice(image, image + some_images), slice(head, head + some_heads)


def attended(
    q_BnDHW: torch.Tensor,
    k_BnDHW: torch.Tensor,
    v_BnEHW: torch.Tensor,
    r_nKD: torch.Tensor | None,
    pattern: Pattern,
) -> torch.Tensor:
    """What each pixel takes of the values: B n E H W, in memory as the values are."""
    y_BnEHW = torch.empty_like(v_BnEHW)
    for part in parts(q_BnDHW, pattern):
        r_hKD = None if r_nKD is None else r_nKD[part[1]]
        y_BnEHW[part] = at_once(q_BnDHW[part], k_BnDHW[part], v_BnEHW[part], r_hKD, pattern)
    return y_BnEHW


def at_once(
    q_BhDHW: torch.Tensor,
    k_BhDHW: torch.Tensor,
    v_BhEHW: torch.Tensor,
    r_hKD: torch.Tensor | None,
    pattern: Pattern,
) -> torch.Tensor:
    """`attended` for all images and heads together: B h E H W."""
    near = pattern.near(q_BhDHW)
    weights = pattern.weights(near, pattern.far(k_BhDHW), r_hKD)
    return pattern.back(pattern.collect(weights.to(near.dtype), pattern.far(v_BhEHW)), q_BhDHW.shape[1])


class Attend(torch.autograd.Function):
    """`attended`, and its derivatives of the first order by hand. Those have derivatives as other operations do."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> torch.Tensor:
        q_BnDHW, k_BnDHW, v_BnEHW, r_nKD, ctx.pattern = args
        ctx.save_for_backward(q_BnDHW, k_BnDHW, v_BnEHW, r_nKD)
        return attended(q_BnDHW, k_BnDHW, v_BnEHW, r_nKD, ctx.pattern)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dy_BnEHW,) = grads
        q_BnDHW, k_BnDHW, v_BnEHW, r_nKD = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        dq_BnDHW, dk_BnDHW, dv_BnEHW = (torch.empty_like(x) for x in (q_BnDHW, k_BnDHW, v_BnEHW))
        dr_nKD = None if r_nKD is None else torch.zeros_like(r_nKD, memory_format=torch.contiguous_format)
        for part in parts(q_BnDHW, pattern):
            query, dy = pattern.near(q_BnDHW[part]), pattern.near(dy_BnEHW[part])
            key, heads = pattern.far(k_BnDHW[part]), q_BnDHW[part].shape[1]
            r_hKD = None if r_nKD is None else r_nKD[part[1]]
            weights = pattern.weights(query, key, r_hKD)
            dv_BnEHW[part] = pattern.spread(weights.to(query.dtype), dy, heads)
            by_weight = weights * pattern.product(dy, pattern.far(v_BnEHW[part]))
            whole = by_weight.sum(pattern.axis, keepdim=True)
            scores = torch.addcmul(by_weight, weights, whole, value=-1).to(query.dtype)
            dk_BnDHW[part] = pattern.spread(scores, query, heads)
            dq = pattern.collect(scores, key)
            if r_hKD is not None and dr_nKD is not None:
                more, dr_hKD = pattern.located(scores, query, r_hKD)
                dq += more
                dr_nKD[part[1]] += dr_hKD
            dq_BnDHW[part] = pattern.back(dq, heads)
        return dq_BnDHW, dk_BnDHW, dv_BnEHW, dr_nKD, None


def attend(
    q_BnDHW: torch.Tensor, k_BnDHW: torch.Tensor, v_BnEHW: torch.Tensor, r_nKD: torch.Tensor | None, pattern: Pattern
) -> torch.Tensor:
    """Attention: y_o = sum over p of softmax_p(q_o k_p + q_o r_(p - o)) v_p, p being what the pattern lets o see.

    Args:
        r_nKD: a vector for each offset and head, or none at all.

    Returns:
        B n E H W, in the memory layout of the values. In half precision the weights are made in float32 and rounded.
        A recording has all images and heads at once, as how many images there are is left open.
    """
    kind = q_BnDHW.device.type
    is_plain = q_BnDHW.is_meta or not torch.is_autocast_enabled(kind)
    exactly = nullcontext() if is_plain else torch.autocast(kind, enabled=False)
    with exactly:
        r = None if r_nKD is None else r_nKD.to(q_BnDHW.dtype)
        given = (q_BnDHW, k_BnDHW, v_BnEHW, r, pattern)
        if recorded(q_BnDHW):
            return at_once(*given)
        if torch.is_grad_enabled() and any(x.requires_grad for x in given[:4] if isinstance(x, torch.Tensor)):
            result: torch.Tensor = Attend.apply(*given)  # type: ignore[no-untyped-call]
            return result
        return attended(*given)
