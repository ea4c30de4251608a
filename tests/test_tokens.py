"""Operators on tokens, windows and residual branches: against torch's own modules, and slow loops over pixels."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasdsl.compiler.graph import Graph, Shape
from nasdsl.compiler.layers.branch import DropPath, LayerNorm, LayerScale
from nasdsl.compiler.layers.self_attention import GlobalAttention, HeadsAttention, WindowAttention
from nasdsl.compiler.layers.tokens import (
    ClassToken,
    FirstToken,
    MergePatches,
    Patches,
    PatchTokens,
    PositionEmbedding,
    ToMap,
    ToTokens,
)
from nasdsl.compiler.ops import CATALOGUE
from nasdsl.compiler.ops.operator import ShapeProblem
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.runtime.optim import decayed
from nasdsl.testing.operators import attrs_of, build
from tests.networks import check_extraction, check_predictions, largest
from tests.test_ops import S, shared
from tests.test_relaxed import check_vertices

MAP = Shape(12, 5, 7, Fraction(1, 4))
TOKENS = Shape(12, 17, 1, Fraction(1, 4))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def doubles(*size: int) -> torch.Tensor:
    return torch.randn(*size, dtype=torch.float64, requires_grad=True)


def same_with_gradients(one: torch.Tensor, other: torch.Tensor, *of: torch.Tensor) -> None:
    """Two results and the gradients of what they were made from."""
    torch.testing.assert_close(one, other)
    weights = torch.randn_like(one)
    gradients = (torch.autograd.grad((y * weights).sum(), of) for y in (one, other))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


def places(x: torch.Tensor) -> torch.Tensor:
    """B H*W C, place by place."""
    return torch.stack([x[:, :, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])], 1)


def as_map(y: torch.Tensor, height: int, width: int) -> torch.Tensor:
    rows = [torch.stack([y[:, i * width + j] for j in range(width)], 2) for i in range(height)]
    return torch.stack(rows, 2)


# --- residual branches ------------------------------------------------------------------------------------------------


def test_layer_norm_is_that_of_torch_at_each_place() -> None:
    ours, theirs = LayerNorm(6, 1e-3).double(), nn.LayerNorm(6, 1e-3).double()
    with torch.no_grad():
        ours.norm.weight.uniform_(0.5, 1.5)
        ours.norm.bias.uniform_(-1, 1)
    theirs.load_state_dict(ours.norm.state_dict())
    x = doubles(2, 6, 3, 5)
    same_with_gradients(ours(x), as_map(theirs(places(x)), 3, 5), x)
    v = doubles(4, 6)
    same_with_gradients(ours(v), theirs(v), v)


def test_layer_scale_multiplies_channels() -> None:
    layer = LayerScale(6, 0.25).double()
    assert layer.scale.tolist() == [0.25] * 6
    with torch.no_grad():
        layer.scale.uniform_(0.5, 1.5)
    for x in (doubles(2, 6, 3, 5), doubles(4, 6)):
        expected = torch.stack([x[:, c] * layer.scale[c] for c in range(6)], 1)
        same_with_gradients(layer(x), expected, x, layer.scale)


@pytest.mark.parametrize("shape", [(400, 6, 2, 3), (400, 6)])
def test_drop_path_leaves_out_whole_images(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    made = DropPath(0.25)(x)
    dropped = (made.flatten(1) == 0).all(1)
    assert 60 < dropped.sum() < 140
    torch.testing.assert_close(made[~dropped], x[~dropped] / 0.75)
    assert DropPath(0.25).eval()(x) is x and DropPath(0.0)(x) is x
    assert not DropPath(1.0)(x).any()


# --- patches and tokens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 12), (7, 10), (3, 1)])
def test_patches_are_linear_layers_on_squares(size: tuple[int, int]) -> None:
    layer = Patches(3, 5, 4).double()
    x = doubles(2, 3, *size)
    whole = torch.zeros(2, 3, -(-size[0] // 4) * 4, -(-size[1] // 4) * 4, dtype=torch.float64)
    whole[:, :, : size[0], : size[1]] = x
    rows, columns = whole.shape[2] // 4, whole.shape[3] // 4
    squares = [
        F.linear(
            whole[:, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].flatten(1), layer.conv.weight.flatten(1), layer.conv.bias
        )
        for i in range(rows)
        for j in range(columns)
    ]
    same_with_gradients(layer(x), as_map(torch.stack(squares, 1), rows, columns), x, layer.conv.weight)


def test_merged_patches_have_the_order_of_swin() -> None:
    layer = MergePatches(3, 5, eps=1e-3).double()
    with torch.no_grad():
        layer.norm.weight.uniform_(0.5, 1.5)
        layer.norm.bias.uniform_(-1, 1)
    x = doubles(2, 3, 4, 5)
    whole = torch.cat([x, torch.zeros(2, 3, 4, 1).double()], 3)
    squares = []
    for i, j in itertools.product(range(0, 4, 2), range(0, 6, 2)):
        four = [whole[:, :, i, j], whole[:, :, i + 1, j], whole[:, :, i, j + 1], whole[:, :, i + 1, j + 1]]
        normed = F.layer_norm(torch.cat(four, 1), (12,), layer.norm.weight, layer.norm.bias, 1e-3)
        squares.append(normed @ layer.reduce.weight.T)
    assert layer.reduce.bias is None
    same_with_gradients(layer(x), as_map(torch.stack(squares, 1), 2, 3), x, layer.reduce.weight)


def test_maps_become_tokens_row_by_row_and_come_back() -> None:
    x = torch.randn(2, 6, 3, 5)
    tokens = ToTokens()(x)
    assert torch.equal(tokens[..., 0].mT, places(x))
    assert tokens.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(ToMap(3, 5)(tokens), x)
    larger = torch.randn(2, 6, 6, 10)
    assert torch.equal(ToMap(3, 5)(ToTokens()(larger)), larger)
    for wrong in (torch.randn(1, 6, 12, 1), torch.randn(1, 6, 16, 1)):
        with pytest.raises(ValueError, match="tokens are no map in the proportions of 3 x 5"):
            ToMap(3, 5)(wrong)


def test_tokens_in_front() -> None:
    layer = ClassToken(6, 2)
    x = torch.randn(3, 6, 5, 1)
    made = layer(x)
    assert made.shape == (3, 6, 7, 1) and torch.equal(PatchTokens(2)(made), x)
    for image in made:
        assert torch.equal(image[:, :2, 0].T, layer.token)
    assert torch.equal(FirstToken()(made), layer.token[0].expand(3, 6))


def test_positions_are_interpolated_as_in_vit() -> None:
    x = torch.zeros(2, 6, 4, 5)
    layer = PositionEmbedding(6, 4, 5)
    assert torch.equal(layer(x)[1], layer.embedding)
    wider = F.interpolate(layer.embedding[None], (8, 7), mode="bicubic", align_corners=False)
    torch.testing.assert_close(layer(torch.zeros(1, 6, 8, 7)), wider)
    tokens = PositionEmbedding(6, 2 + 9, 1, prefix=2, grid=(3, 3))
    made = tokens(torch.zeros(1, 6, 2 + 25, 1))
    assert torch.equal(made[0, :, :2, 0], tokens.embedding[:, :2, 0])
    square = tokens.embedding[None, :, 2:, 0].reshape(1, 6, 3, 3)
    wanted = F.interpolate(square, (5, 5), mode="bicubic", align_corners=False)
    torch.testing.assert_close(made[..., 2:, 0].reshape(1, 6, 5, 5), wanted)
    with pytest.raises(ValueError, match="24 tokens are no map in the proportions of 3 x 3"):
        tokens(torch.zeros(1, 6, 26, 1))
    with pytest.raises(ValueError, match="there are positions for 11 x 1 places, and here are 12 x 1"):
        PositionEmbedding(6, 11, 1)(torch.zeros(1, 6, 12, 1))


# --- attention of all with all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(17, 1), (3, 5)])
def test_global_attention_is_that_of_torch(size: tuple[int, int], bias: bool) -> None:
    ours = GlobalAttention(12, 12, 3, 4, qkv_bias=bias, bias=bias).double()
    theirs = nn.MultiheadAttention(12, 3, bias=bias, batch_first=True).double()
    parts = [ours.query, ours.key, ours.value]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.out_proj.weight.copy_(ours.project.weight)
        if bias:
            theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            theirs.out_proj.bias.copy_(ours.project.bias)
    x = doubles(2, 12, *size)

    def expected() -> torch.Tensor:
        rows = places(x)
        return as_map(theirs(rows, rows, rows, need_weights=False)[0], *size)

    same_with_gradients(ours(x), expected(), x)
    ours(x).square().sum().backward()
    expected().square().sum().backward()
    assert theirs.in_proj_weight.grad is not None and theirs.out_proj.weight.grad is not None
    for part, theirs_part in zip(parts, theirs.in_proj_weight.grad.chunk(3), strict=True):
        torch.testing.assert_close(part.weight.grad, theirs_part)
    torch.testing.assert_close(ours.project.weight.grad, theirs.out_proj.weight.grad)


def heads_of(layer: HeadsAttention, x: torch.Tensor) -> list[list[torch.Tensor]]:
    """Queries, keys and values, each head by head: B N D."""
    rows = places(x)
    made = [F.linear(rows, part.weight, part.bias) for part in (layer.query, layer.key, layer.value)]
    return [list(part.chunk(layer.heads, 2)) for part in made]


def slow(layer: HeadsAttention, x: torch.Tensor, logit: Any, more: Any = None) -> torch.Tensor:
    """Attention pair by pair. `logit` gives what is added to a pair's product, or None where the first place does not
    attend to the second; `more` what is added to the second's value."""
    height, width = x.shape[2:]
    out = []
    for head, (q, k, v) in enumerate(zip(*heads_of(layer, x), strict=True)):
        rows = []
        for i in range(q.shape[1]):
            pairs = [(j, logit(head, q[:, i], i, j)) for j in range(q.shape[1])]
            seen = [(j, added) for j, added in pairs if added is not None]
            logits = torch.stack(
                [(q[:, i] * k[:, j]).sum(1) * q.shape[2] ** -0.5 + added for j, added in seen], 1
            ).softmax(1)
            values = [v[:, j] if more is None else v[:, j] + more(i, j) for j, _ in seen]
            rows.append(sum(logits[:, n, None] * value for n, value in enumerate(values)))
        out.append(torch.stack(rows, 1))
    return as_map(F.linear(torch.cat(out, 2), layer.project.weight, layer.project.bias), height, width)


def test_heads_may_have_any_width() -> None:
    layer = GlobalAttention(6, 7, 2, 5).double()
    x = doubles(2, 6, 2, 3)
    same_with_gradients(layer(x), slow(layer, x, lambda head, q, i, j: 0), x, layer.query.weight, layer.project.weight)


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("grid", [(2, 3), (3, 3), (1, 2)], ids=str)
def test_biases_of_global_attention(grid: tuple[int, int], prefix: int) -> None:
    """On tokens of a map of 2 x 3, with biases for the grid; a farther offset has that of the farthest."""
    if 2 * grid[1] != 3 * grid[0]:  # the tokens could not be told apart: take the map
        if prefix:
            return
        x, at = doubles(2, 6, 2, 3), (2, 3)
    else:
        x, at = doubles(2, 6, prefix + 6, 1), (2, 3)
    layer = GlobalAttention(6, 6, 2, 3, position="bias", grid=grid, prefix=prefix).double()
    nn.init.normal_(layer.position_bias)

    def logit(head: int, q: torch.Tensor, i: int, j: int) -> torch.Tensor:
        if i < prefix or j < prefix:
            kind = 2 if i < prefix and j < prefix else 0 if i < prefix else 1
            return layer.prefix_bias[head, kind]
        (a, b), (c, d) = divmod(i - prefix, at[1]), divmod(j - prefix, at[1])
        down = max(1 - grid[0], min(grid[0] - 1, a - c))
        right = max(1 - grid[1], min(grid[1] - 1, b - d))
        return layer.position_bias[head, down + grid[0] - 1, right + grid[1] - 1]

    of = [x, layer.position_bias, *([layer.prefix_bias] if prefix else [])]
    same_with_gradients(layer(x), slow(layer, x, logit), *of)


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("reach", [1, 2, 14])
def test_vectors_of_global_attention_are_those_of_autoformer(reach: int, prefix: int) -> None:
    """Written out with a vector for each pair: the sum of one for the rows and one for the columns; all pairs with the
    class token have the first of each."""
    layer = GlobalAttention(6, 6, 2, 3, position="vectors", grid=(3, 3), prefix=prefix, reach=reach).double()
    assert layer.key_rows.shape == (2 * reach + 1 + prefix, 3)
    for name in ("key_rows", "key_columns", "value_rows", "value_columns"):
        nn.init.normal_(getattr(layer, name))
    x = doubles(2, 6, prefix + 9, 1)

    def between(i: int, j: int, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        if i < prefix or j < prefix:
            return rows[0] + columns[0]
        (a, b), (c, d) = divmod(i - prefix, 3), divmod(j - prefix, 3)
        down, right = (max(-reach, min(reach, n)) + reach + prefix for n in (c - a, d - b))
        return rows[down] + columns[right]

    def logit(head: int, q: torch.Tensor, i: int, j: int) -> torch.Tensor:
        return (q * between(i, j, layer.key_rows, layer.key_columns)).sum(1) * 3**-0.5

    def more(i: int, j: int) -> torch.Tensor:
        return between(i, j, layer.value_rows, layer.value_columns)

    same_with_gradients(layer(x), slow(layer, x, logit, more), x, layer.key_rows, layer.value_columns)


# --- windows ----------------------------------------------------------------------------------------------------------

WINDOWS = [
    ((4, 6), (2, 2), 0),
    ((4, 6), (2, 2), 1),
    ((6, 6), (3, 3), 1),
    ((5, 4), (3, 3), 0),  # windows reach beyond the map
    ((5, 4), (3, 3), 2),  # and one has nothing of it
    ((2, 5), (2, 3), 1),  # along one axis a window is the whole map
    ((2, 2), (3, 3), 1),
]


@pytest.mark.parametrize("position", [True, False])
@pytest.mark.parametrize(("size", "window", "shift"), WINDOWS)
def test_windows_are_those_of_swin(size: tuple[int, int], window: tuple[int, int], shift: int, position: bool) -> None:
    """A window is what lies between lines that are `window` apart, the first of them at the shift."""
    layer = WindowAttention(6, 5, 2, 4, window=window, shift=shift, position=position).double()
    if layer.position_bias is not None:
        nn.init.normal_(layer.position_bias)

    def windows_of(place: int) -> tuple[int, ...]:
        moves = (shift if side > part else 0 for side, part in zip(size, window, strict=True))
        return tuple((n - move) // w for n, move, w in zip(divmod(place, size[1]), moves, window, strict=True))

    def logit(head: int, q: torch.Tensor, i: int, j: int) -> Any:
        if windows_of(i) != windows_of(j):
            return None
        if layer.position_bias is None:
            return 0
        (a, b), (c, d) = divmod(i, size[1]), divmod(j, size[1])
        return layer.position_bias[head, a - c + window[0] - 1, b - d + window[1] - 1]

    x = doubles(2, 6, *size)
    of = [x, layer.key.weight, layer.value.bias]
    if layer.position_bias is not None:
        of.append(layer.position_bias)
    same_with_gradients(layer(x), slow(layer, x, logit), *of)


def test_nothing_is_lost_where_windows_reach_far_beyond() -> None:
    layer = WindowAttention(6, 6, 2, 3, window=(5, 5), shift=4)
    x = torch.randn(1, 6, 6, 7, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


# --- sharing ----------------------------------------------------------------------------------------------------------


def heads_first(full: torch.Tensor, heads: int, many: int, few: int, small: int) -> torch.Tensor:
    """Of rows head by head, the first `few` heads with the first `small` rows of each."""
    return full.unflatten(0, (heads, many))[:few, :small].flatten(0, 1)


@pytest.mark.parametrize("name", ["global_attention", "window_attention"])
def test_attention_shares_the_first_heads_and_the_first_channels_of_each(name: str) -> None:
    more = {"position": S("bias")} if name == "global_attention" else {}
    full, small = shared(
        name,
        (MAP, MAP.with_channels(8)),
        {"heads": 4, "dim": 5, "out": 11, **more},
        {"heads": 3, "dim": 2, "out": 7, **more},
    )
    for part in ("query", "key", "value"):
        mine, theirs = small.get_submodule(part), full.get_submodule(part)
        assert torch.equal(mine.weight, heads_first(theirs.weight[:, :8], 4, 5, 3, 2))
        assert torch.equal(mine.bias, heads_first(theirs.bias, 4, 5, 3, 2))
    assert torch.equal(small.project.weight, heads_first(full.project.weight[:7].T, 4, 5, 3, 2).T)
    assert torch.equal(small.position_bias, full.position_bias[:3])


def test_attention_on_a_smaller_map_shares_the_middle_of_the_positions() -> None:
    little = Shape(12, 3, 5, Fraction(1, 8))
    given = {"heads": 2, "position": S("bias")}
    full, small = shared("global_attention", (MAP, little), given, given)
    assert torch.equal(small.position_bias, full.position_bias[:, 2:7, 2:11])
    full, small = shared("window_attention", (MAP, MAP), {"heads": 2, "window": 6}, {"heads": 2, "window": 3})
    assert full.position_bias.shape == (2, 9, 11)  # the map is five pixels high
    assert torch.equal(small.position_bias, full.position_bias[:, 2:7, 3:8])


def test_vectors_share_the_nearest() -> None:
    given = {"heads": 2, "dim": 4, "position": S("vectors"), "prefix": 1}
    full, small = shared("global_attention", (TOKENS, TOKENS), {**given, "reach": 3}, {**given, "reach": 1, "dim": 2})
    for name in ("key_rows", "key_columns", "value_rows", "value_columns"):
        mine, whole = small.get_parameter(name), full.get_parameter(name)
        assert torch.equal(mine, whole[[0, 3, 4, 5], :2])


def test_fewer_heads_are_wider_where_they_divide_the_channels() -> None:
    """The largest setting holds the most heads, as wide as any: no architecture is that large."""
    text = """
        space s {
          input 3 x 8 x 8
          network {
            patches(oneof(12, 24), size: 4)
            global_attention(oneof(2, 3, 4))
            classify(2)
          }
        }
    """
    graph = elaborate(Source(text)).graph
    assert Supernet(graph).layers.get_submodule("global_attention").get_parameter("query.weight").shape == (48, 24)
    check_extraction(graph, *(Numbering(graph).unrank(i) for i in range(6)))


def test_merged_patches_share_the_first_channels_of_each_pixel() -> None:
    full, small = shared("merge_patches", (MAP, MAP.with_channels(8)), {}, {})
    columns = [part * 12 + i for part in range(4) for i in range(8)]
    assert torch.equal(small.reduce.weight, full.reduce.weight[:16, columns])
    assert torch.equal(small.norm.bias, full.norm.bias[columns])


def test_smaller_patches_are_the_middle_of_larger_ones() -> None:
    full, small = shared("patches", (MAP, MAP.with_channels(8)), {"out": 9, "size": 5}, {"out": 4, "size": 2})
    assert torch.equal(small.conv.weight, full.conv.weight[:4, :8, 1:3, 1:3])


def test_positions_of_fewer_places_are_the_middle() -> None:
    little = Shape(8, 3, 4, Fraction(1, 8))
    full, small = shared("position_embedding", (MAP, little), {}, {})
    assert torch.equal(small.embedding, full.embedding[:8, 1:4, 1:5])
    full, small = shared("position_embedding", (TOKENS, Shape(8, 5, 1, 1)), {"prefix": 1}, {"prefix": 1})
    square = full.embedding[:8, 1:, 0].reshape(8, 4, 4)[:, 1:3, 1:3].reshape(8, 4)
    assert torch.equal(small.embedding[..., 0], torch.cat([full.embedding[:8, :1, 0], square], 1))


def test_branches_and_tokens_share_the_first_channels() -> None:
    little = MAP.with_channels(8)
    for name in ("layer_norm", "layer_scale"):
        full, small = shared(name, (MAP, little), {}, {})
        for mine, whole in zip(small.parameters(), full.parameters(), strict=True):
            assert torch.equal(mine, whole[:8])
    full, small = shared("class_token", (TOKENS, TOKENS.with_channels(8)), {"count": 3}, {"count": 2})
    assert torch.equal(small.token, full.token[:2, :8])


ZEROS = [
    ("global_attention", {"heads": 4, "dim": 3, "position": "bias"}, {"heads": 2, "dim": 3, "position": "bias"}),
    ("global_attention", {"heads": 4, "dim": 3, "position": "vectors"}, {"heads": 2, "dim": 3, "position": "vectors"}),
    ("window_attention", {"heads": 4, "dim": 3, "window": 3}, {"heads": 2, "dim": 3, "window": 3}),
    ("patches", {"out": 9, "size": 2}, {"out": 5, "size": 2}),
    ("layer_scale", {}, {}),
    ("position_embedding", {}, {}),
]


@pytest.mark.parametrize(("name", "large", "little"), ZEROS)
def test_zeros_in_place_of_weights_are_a_smaller_setting(name: str, large: Any, little: Any) -> None:
    op = CATALOGUE[name]
    shapes = (MAP, MAP.with_channels(8))
    given = [{k: S(v) if isinstance(v, str) else v for k, v in one.items()} for one in (large, little)]
    attrs = [attrs_of(op, one) for one in given]
    larger, smaller = (op.arguments((x,), op.shape((x,), a), a) for x, a in zip(shapes, attrs, strict=True))
    assert op.zeros(larger, smaller)
    full, small = shared(name, shapes, given[0], given[1])
    places_in = op.shares(attrs[0], attrs[1], shapes[:1], shapes[1:])
    with torch.no_grad():
        for key, tensor in full.named_parameters():
            kept = torch.ones_like(tensor)
            for axis, entries in enumerate(places_in.get(key, ())):
                if entries is not None:
                    line = torch.zeros(tensor.shape[axis])
                    line[
                        slice(None) if entries is None else list(entries) if isinstance(entries, tuple) else entries
                    ] = 1
                    kept *= line.view(-1, *[1] * (tensor.dim() - axis - 1))
            tensor.mul_(kept)
    x = torch.randn(2, 8, 5, 7)
    whole, part = full(F.pad(x, (0, 0, 0, 0, 0, 4))), small(x)
    torch.testing.assert_close(whole[:, : part.shape[1]], part)
    assert not whole[:, part.shape[1] :].any()


# --- in spaces --------------------------------------------------------------------------------------------------------

SPACES = {
    "tokens": """
        patches(oneof(8, 12), size: oneof(4, 8))
        position_embedding()
        to_tokens() -> class_token(oneof(1, 2))
        repeat oneof(1..2) {
          residual {
            layer_norm() -> global_attention(oneof(2, 3), dim: oneof(3, 4))
            layer_scale(1/10) -> drop_path(1/5)
          }
          residual { layer_norm() -> mlp(oneof(2, 3)) }
        }
        oneof(first_token(), patch_tokens() -> global_pool())
        layer_norm()
        classify(5)
    """,
    "positions": """
        conv(oneof(6, 8), kernel: 3, stride: 4)
        to_tokens() -> class_token()
        position_embedding(prefix: 1)
        oneof(
          a: global_attention(2, position: bias, prefix: 1)
          b: global_attention(oneof(2, 3), dim: 4, position: vectors, prefix: 1, reach: oneof(1, 3))
        )
        patch_tokens() -> to_map()
        window_attention(2, window: oneof(2, 3), shift: oneof(0, 1), dim: oneof(2, 4), out: oneof(4, 6))
        merge_patches()
        classify(5)
    """,
}


def graph_of(body: str, shape: str = "3 x 16 x 16") -> Graph:
    return elaborate(Source(f"space s {{\n  input {shape}\n  network {{\n{body}\n  }}\n}}\n")).graph


@pytest.mark.parametrize("name", SPACES)
def test_architectures_are_what_was_predicted_and_what_the_supernet_computes(name: str) -> None:
    graph = graph_of(SPACES[name])
    drawn = list(Numbering(graph).draws(4, seed=1))
    for found in drawn[:3]:
        check_predictions(graph, found)
    check_extraction(graph, largest(graph), *drawn)
    supernet = Supernet(graph).train()
    for found in drawn:
        supernet.activate(found)
        supernet(torch.randn(2, 3, 16, 16)).square().sum().backward()


@pytest.mark.parametrize("name", SPACES)
def test_images_of_another_size_run_through(name: str) -> None:
    graph = graph_of(SPACES[name])
    supernet = Supernet(graph).eval()
    for found in Numbering(graph).draws(4, seed=2):
        supernet.activate(found)
        for size in (16, 32, 64):
            y = supernet(torch.randn(2, 3, size, size))
            assert y.shape == (2, 5) and y.isfinite().all()
            y.sum().backward()


@pytest.mark.parametrize("name", SPACES)
def test_mixtures_at_an_architecture_are_that_architecture(name: str) -> None:
    """Of what does not decide how large a map is."""
    text = SPACES[name].replace("size: oneof(4, 8)", "size: 4").replace("class_token(oneof(1, 2))", "class_token()")
    check_vertices(graph_of(text), torch.randn(1, 3, 16, 16), 1)


def test_the_size_of_the_image_may_be_chosen() -> None:
    graph = elaborate(
        Source(
            """
            space s {
              input oneof(3 x 16 x 16, 3 x 24 x 32)
              network {
                patches(6, size: 4)
                position_embedding()
                window_attention(2, window: 3, shift: 1)
                global_attention(2, position: bias)
                to_tokens() -> class_token() -> global_attention(3) -> first_token()
                classify(5)
              }
            }
            """
        )
    ).graph
    for i in range(2):
        check_predictions(graph, Numbering(graph).unrank(i))
    check_extraction(graph, *(Numbering(graph).unrank(i) for i in range(2)))


def test_class_tokens_and_positions_do_not_decay() -> None:
    graph = graph_of(SPACES["positions"])
    names = [name for name, p in Supernet(graph).named_parameters() if p.dim() > 1 and not decayed(name, p)]
    assert {name.rpartition(".")[2] for name in names} == {"token", "embedding", "position_bias", "prefix_bias"}


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[str, Shape, dict[str, Any], str, str]] = [
    ("patches", Shape(8, None, None, 1), {"out": 8}, "", "patches reads a feature map"),
    ("class_token", MAP, {}, "", "class_token reads tokens, but here it gets a feature map"),
    ("first_token", MAP, {}, "", "first_token reads tokens"),
    ("patch_tokens", TOKENS, {"skip": 17}, "skip", "leaves no token"),
    ("to_map", MAP, {}, "", "to_map reads tokens"),
    ("to_map", TOKENS, {}, "height", "17 tokens are no square map"),
    ("to_map", TOKENS, {"height": 3}, "height", "17 tokens are no map of 3 rows"),
    ("position_embedding", MAP, {"prefix": 1}, "prefix", "a map has no prefix"),
    ("position_embedding", TOKENS, {"prefix": 17}, "prefix", "the prefix leaves no token"),
    ("global_attention", TOKENS, {"heads": 5}, "heads", "5 heads do not divide the 12 channels of the input"),
    ("global_attention", TOKENS, {"heads": 3, "position": S("bias")}, "height", "17 tokens are no square map"),
    (
        "global_attention",
        TOKENS,
        {"heads": 3, "position": S("bias"), "prefix": 2},
        "height",
        "15 tokens behind the first 2 are no square map",
    ),
    ("window_attention", MAP, {"heads": 5}, "heads", "5 heads do not divide"),
    ("window_attention", MAP, {"heads": 3, "window": 4, "shift": 4}, "shift", "less than the window"),
    ("window_attention", Shape(8, None, None, 1), {"heads": 2}, "", "window_attention reads a feature map"),
]


@pytest.mark.parametrize(("name", "x", "given_attrs", "param", "message"), MISTAKES)
def test_mistakes_are_said_in_words(name: str, x: Shape, given_attrs: dict[str, Any], param: str, message: str) -> None:
    op = CATALOGUE[name]
    attrs = attrs_of(op, given_attrs)
    with pytest.raises(ShapeProblem, match=re.escape(message)) as caught:
        op.shape((x,), attrs)
        for condition, problem in op.must((x,), attrs):
            if condition is False:
                raise problem
    assert caught.value.param == param


def test_a_position_cannot_be_chosen() -> None:
    text = "to_tokens() -> global_attention(2, position: oneof(none, bias)) -> classify(2)"
    with pytest.raises(Exception, match="position cannot be chosen"):
        graph_of(f"conv(4) -> {text}")


# --- memory format and precision --------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["none", "bias", "vectors"])
def test_half_precision_trains(position: str) -> None:
    op = CATALOGUE["global_attention"]
    attrs = attrs_of(op, {"heads": 3, "position": S(position)})
    exact = build(op, (MAP,), attrs)
    x = torch.randn(2, 12, 5, 7)
    half = build(op, (MAP,), attrs)
    half.load_state_dict(exact.state_dict())
    half.to(torch.bfloat16)
    y = half(x.to(torch.bfloat16))
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact(x), rtol=0.1, atol=0.05)
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in half.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        exact(x).float().square().sum().backward()
    windows = WindowAttention(12, 12, 3, 4, window=(3, 3), shift=1).to(torch.bfloat16)
    assert windows(x.to(torch.bfloat16)).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        WindowAttention(12, 12, 3, 4, window=(3, 3), shift=1)(x).float().sum().backward()
