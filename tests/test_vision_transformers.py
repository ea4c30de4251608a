"""AutoFormer, Swin and ConvNeXt: published totals, counts in closed form, and plain networks of torch's own modules.

The plain networks are written here from the papers, and take the weights of what the spaces make.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nasdsl.cli import main
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.count import count
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.layers.self_attention import GlobalAttention, WindowAttention
from nasdsl.compiler.pin import pin
from nasdsl.compiler.supernet import Supernet
from tests import shipped
from tests.networks import check_extraction, check_predictions, largest

PUBLISHED = {
    # parameters as the authors' code and torchvision have them; MACs in billions as the papers print them
    ("autoformer", "deit_tiny"): (5_717_416, 1.3),
    ("autoformer", "deit_small"): (22_050_664, 4.6),
    ("autoformer", "vit_b16"): (86_567_656, 17.6),
    ("autoformer", "vit_b32"): (88_224_232, 4.4),
    ("autoformer", "vit_l16"): (304_326_632, 61.6),
    ("convnext", "convnext_t"): (28_589_128, 4.5),
    ("convnext", "convnext_s"): (50_223_688, 8.7),
    ("convnext", "convnext_b"): (88_591_464, 15.4),
    ("convnext", "convnext_l"): (197_767_336, 34.4),
    ("swin", "swin_t"): (28_288_354, 4.5),
    ("swin", "swin_s"): (49_606_258, 8.7),
    ("swin", "swin_b"): (87_768_224, 15.4),
}


@pytest.mark.parametrize(("file", "name"), PUBLISHED)
def test_published_totals(file: str, name: str) -> None:
    params, macs = PUBLISHED[file, name]
    graph = shipped.graph(file, name)
    assert not graph.decisions
    cost = cost_of(graph, {})
    assert cost["params"] == params
    assert round(cost["macs"] / 1e9, 1) == macs


@pytest.mark.parametrize(("name", "params", "macs"), [("t", 5.7, 1.3), ("s", 22.9, 5.1), ("b", 54, 11)])
def test_what_autoformer_found(name: str, params: float, macs: float) -> None:
    """The paper prints few digits, and counts the products with vectors in another way."""
    graph = shipped.graph("autoformer", f"autoformer_{name}")
    assert not graph.decisions
    cost = cost_of(graph, {})
    assert cost["params"] / 1e6 == pytest.approx(params, rel=0.03)
    assert cost["macs"] / 1e9 == pytest.approx(macs, rel=0.05)


# --- counts -----------------------------------------------------------------------------------------------------------

TABLE = {
    # width, heads, ratio, depth of the paper's table: least, greatest, step
    "autoformer": ((192, 240, 24), (3, 4, 1), (3.5, 4, 0.5), (12, 14, 1)),
    "autoformer_supernet_s": ((320, 448, 64), (5, 7, 1), (3, 4, 0.5), (12, 14, 1)),
    "autoformer_supernet_b": ((528, 624, 48), (8, 10, 1), (3, 4, 0.5), (14, 16, 1)),
}


def values(least: float, greatest: float, step: float) -> list[float]:
    return [least + i * step for i in range(round((greatest - least) / step) + 1)]


@pytest.mark.parametrize("name", TABLE)
def test_autoformer_counts_by_its_table(name: str) -> None:
    widths, heads, ratios, depths = (values(*row) for row in TABLE[name])
    graph = shipped.graph("autoformer", name)
    assert count(graph).total == len(widths) * sum((len(heads) * len(ratios)) ** int(depth) for depth in depths)
    offered = {path.rpartition(".")[2]: list(decision.items) for path, decision in graph.decisions.items()}
    assert offered == {"width": widths, "heads": heads, "ratio": ratios, "depth": depths}


def test_convnext_and_swin_count_by_their_choices() -> None:
    stages = [sum(9**depth for depth in depths) for depths in ([2, 3], [2, 3], range(5, 10), [2, 3])]
    assert count(shipped.graph("convnext")).total == 3**4 * stages[0] * stages[1] * stages[2] * stages[3]
    wide, narrow = 2 * 2 * 3, 2 * 3
    assert count(shipped.graph("swin")).total == 2 * wide**2 * wide**2 * (wide**4 + wide**6) * narrow**2


def vit_params(width: int, heads: Sequence[int], ratios: Sequence[float]) -> int:
    """Of AutoFormer on 224 x 224 pixels, by hand."""
    total = (3 * 16**2 + 1) * width + width + 197 * width
    for n, ratio in zip(heads, ratios, strict=True):
        inner, hidden = 64 * n, int(ratio * width)
        total += 4 * width  # norms
        total += 3 * (width + 1) * inner + (inner + 1) * width + 4 * 30 * 64
        total += (width + 1) * hidden + (hidden + 1) * width
    return total + 2 * width + (width + 1) * 1000


def test_parameters_of_autoformer_by_hand() -> None:
    graph = shipped.graph("autoformer")
    heads, ratios = [3, 4] * 6, [4, 3.5, 3.5] * 4
    wanted: dict[str, Any] = {"width": 216, "encoder.depth": 12}
    for i, (n, ratio) in enumerate(zip(heads, ratios, strict=True)):
        wanted |= {f"encoder[{i}].vit_block.heads": n, f"encoder[{i}].vit_block.ratio": ratio}
    found = Architecture.at(graph, {path: graph.decisions[path].items.index(value) for path, value in wanted.items()})
    assert cost_of(graph, found.indices)["params"] == vit_params(216, heads, ratios)


# --- plain networks ---------------------------------------------------------------------------------------------------


def network_of(graph: Graph) -> Supernet:
    """With weights that no part of which is 0 or 1."""
    torch.manual_seed(0)
    network = Supernet(graph).double().eval()
    with torch.no_grad():
        for p in network.parameters():
            if p.dim() == 1:
                p.uniform_(-1, 1)
    return network


def layers_of(network: Supernet, ending: str) -> list[nn.Module]:
    return [layer for name, layer in network.layers.items() if name.endswith(ending)]


def test_a_vit_is_the_encoder_of_torch() -> None:
    changes = (
        "input 3 x 16 x 24, patch: 8, widths: [12], depths: [2], head_counts: [3], dim: 4, ratios: [4], classes: 5"
    )
    network = network_of(shipped.graph("autoformer", "deit_tiny", changes))
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(12, 3, 48, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True),
        2,
        nn.LayerNorm(12, 1e-6),
        enable_nested_tensor=False,
    ).double()
    parameters = iter([p for p in network.parameters() if p.requires_grad])
    stem, stem_bias, token, embedding = (next(parameters) for _ in range(4))
    with torch.no_grad():
        for layer in encoder.layers:
            assert isinstance(layer, nn.TransformerEncoderLayer)
            for p in (layer.norm1.weight, layer.norm1.bias):
                p.copy_(next(parameters))
            pairs = [(next(parameters), next(parameters)) for _ in range(3)]
            layer.self_attn.in_proj_weight.copy_(torch.cat([weight for weight, _ in pairs]))
            layer.self_attn.in_proj_bias.copy_(torch.cat([bias for _, bias in pairs]))
            for p in (*layer.self_attn.out_proj.parameters(), layer.norm2.weight, layer.norm2.bias):
                p.copy_(next(parameters))
            for part in (layer.linear1, layer.linear2):
                part.weight.copy_(next(parameters).flatten(1))
                part.bias.copy_(next(parameters))
        assert encoder.norm is not None
        for p in encoder.norm.parameters():
            p.copy_(next(parameters))
    head, head_bias = parameters
    x = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    patches = (
        torch.stack([x[:, :, i : i + 8, j : j + 8].flatten(1) for i in (0, 8) for j in (0, 8, 16)], 1)
        @ stem.flatten(1).T
    )
    tokens = torch.cat([token.expand(2, 1, -1), patches + stem_bias], 1) + embedding[..., 0].T
    expected = encoder.eval()(tokens)[:, 0] @ head.T + head_bias
    torch.testing.assert_close(network(x), expected)


class PlainConvNext(nn.Module):
    """With channels last, as the authors' code has its blocks."""

    def __init__(self, weights: Sequence[torch.Tensor], depths: Sequence[int]) -> None:
        super().__init__()
        self.weights, self.depths = iter(weights), depths

    def normed(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], next(self.weights), next(self.weights), 1e-6)

    def linear(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, next(self.weights).flatten(1), next(self.weights))

    def convolved(self, x: torch.Tensor, **how: Any) -> torch.Tensor:
        y = nn.functional.conv2d(x.permute(0, 3, 1, 2), next(self.weights), next(self.weights), **how)
        return y.permute(0, 2, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.normed(self.convolved(x.permute(0, 2, 3, 1), stride=4))
        for stage, depth in enumerate(self.depths):
            if stage:
                x = self.convolved(self.normed(x), stride=2)
            for _ in range(depth):
                y = self.convolved(x, padding=3, groups=x.shape[-1])
                y = self.linear(nn.functional.gelu(self.linear(self.normed(y))))
                x = x + next(self.weights) * y
        return self.linear(self.normed(x.mean((1, 2))))


def test_a_convnext_is_a_plain_one() -> None:
    changes = "input 3 x 32 x 64, widths: [[4], [6], [8], [10]], depths: [[1], [2], [1], [1]], classes: 5"
    network = network_of(shipped.graph("convnext", "convnext_t", changes))
    plain = PlainConvNext(list(network.parameters()), [1, 2, 1, 1])
    x = torch.randn(2, 3, 32, 64, dtype=torch.float64)
    torch.testing.assert_close(network(x), plain(x))
    assert not list(plain.weights)


class PlainSwin(nn.Module):
    """With rolled maps and masks of -100, as the authors' code has them; windows of 2 x 2."""

    def __init__(self, weights: Sequence[torch.Tensor], pairs: Sequence[int]) -> None:
        super().__init__()
        self.weights, self.pairs = iter(weights), pairs

    def normed(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], next(self.weights), next(self.weights), 1e-5)

    def linear(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, next(self.weights).flatten(1), next(self.weights))

    @staticmethod
    def windows(x: torch.Tensor) -> torch.Tensor:
        batch, height, width, channels = x.shape
        x = x.view(batch, height // 2, 2, width // 2, 2, channels)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, channels)

    def attended(self, x: torch.Tensor, shift: int) -> torch.Tensor:
        batch, height, width, channels = x.shape
        heads = channels // 32
        part = torch.zeros(1, height, width, 1, dtype=x.dtype)
        for i, rows in enumerate((slice(0, -2), slice(-2, -shift), slice(-shift, None)) if shift else ()):
            for j, columns in enumerate((slice(0, -2), slice(-2, -shift), slice(-shift, None))):
                part[:, rows, columns] = 3 * i + j
        parts = self.windows(part)[..., 0]
        mask = torch.where(parts[:, :, None] != parts[:, None], -100.0, 0.0).to(x.dtype)
        bias = next(self.weights)
        offsets = [[bias[:, i // 2 - j // 2 + 1, i % 2 - j % 2 + 1] for j in range(4)] for i in range(4)]
        added = torch.stack([torch.stack(row, 1) for row in offsets], 1)  # heads, query, key
        y = self.windows(torch.roll(x, (-shift, -shift), (1, 2)))
        q, k, v = (self.linear(y).view(-1, 4, heads, 32).transpose(1, 2) for _ in range(3))
        logits = q @ k.mT / 32**0.5 + added + mask.repeat(batch, 1, 1)[:, None]
        y = self.linear((logits.softmax(3) @ v).transpose(1, 2).reshape(-1, 4, channels))
        y = y.view(batch, height // 2, width // 2, 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
        return torch.roll(y.reshape(x.shape), (shift, shift), (1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.conv2d(x, next(self.weights), next(self.weights), stride=4).permute(0, 2, 3, 1)
        x = self.normed(x)
        for stage, pairs in enumerate(self.pairs):
            if stage:
                four = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
                x = self.normed(torch.cat(four, 3)) @ next(self.weights).T
            for shift in (0, 1) * pairs:
                x = x + self.attended(self.normed(x), shift if x.shape[1] > 2 else 0)
                x = x + self.linear(nn.functional.gelu(self.linear(self.normed(x))))
        return self.linear(self.normed(x).mean((1, 2)))


def test_a_swin_is_a_plain_one() -> None:
    changes = "input 3 x 64 x 64, widths: [32], pairs: [[1], [1], [2], [1]], windows: [[2], [2], [2], [2]], classes: 5"
    network = network_of(shipped.graph("swin", "swin_t", changes))
    plain = PlainSwin(list(network.parameters()), [1, 1, 2, 1])
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(network(x), plain(x))
    assert not list(plain.weights)


def test_swin_shifts_every_second_block() -> None:
    with torch.device("meta"):
        network = Supernet(shipped.graph("swin", "swin_t"))
    attentions = [m for m in network.modules() if isinstance(m, WindowAttention)]
    assert [m.shift for m in attentions] == [0, 3] * 6
    assert [m.heads for m in attentions] == [3] * 2 + [6] * 2 + [12] * 6 + [24] * 2
    assert {m.window for m in attentions} == {(7, 7)}


def test_branches_are_left_out_the_more_often_the_deeper_they_are() -> None:
    """From 0 in the first block to `drop` in the last one, evenly over the blocks."""
    for file, name, blocks, each, drop in (
        ("autoformer", "autoformer", 14, 2, 0.1),
        ("convnext", "convnext_t", 18, 1, 0.1),
        ("swin", "swin_t", 12, 2, 0.2),
    ):
        graph = shipped.graph(file, name)
        graph = pin(graph, largest(graph).indices)
        found = [float(node.attrs["p"]) for node in graph.nodes.values() if node.op == "drop_path"]
        assert found == pytest.approx([drop * i / (blocks - 1) for i in range(blocks) for _ in range(each)])


# --- networks of the searchable spaces --------------------------------------------------------------------------------

SMALL = {
    "autoformer": "input 3 x 32 x 48, patch: 16, height: 2, widths: [24, 36], depths: [1, 2], head_counts: [1, 2]",
    "swin": "input 3 x 40 x 48, widths: [64, 96], pairs: [[1], [1], [1], [1]], windows: [[3, 4], [3, 4], [2], [2]]",
    "convnext": "input 3 x 40 x 48, widths: [[8, 12], [16], [20, 24], [32]], depths: [[1, 2], [1], [1], [1]]",
}


def ends(graph: Graph) -> list[Architecture]:
    """The largest architecture, and that in which each choice is its first."""
    first: dict[str, Any] = {}
    for path, decision in graph.decisions.items():
        if decision.present is True or path in Architecture.at(graph, largest(graph).indices):
            first[path] = 0
    kept = {path: 0 for path in first if "[1]" not in path}
    return [largest(graph), Architecture.at(graph, kept)]


@pytest.mark.parametrize("file", SMALL)
def test_networks_are_what_was_predicted(file: str) -> None:
    graph = shipped.graph(file, file, SMALL[file])
    for found in ends(graph):
        check_predictions(graph, found)
    check_extraction(graph, *ends(graph))


def test_a_picture_names_widths_that_follow_from_the_input(tmp_path: Path) -> None:
    assert main(["draw", "swin", "--space", "swin_t", "-o", str(tmp_path / "swin.dot")]) == 0
    made = (tmp_path / "swin.dot").read_text(encoding="utf-8")
    assert "None" not in made and "768" in made


def test_relative_positions_are_in_every_block_of_autoformer() -> None:
    graph = shipped.graph("autoformer", "autoformer_t")
    with torch.device("meta"):
        network = Supernet(graph)
    found = [m for m in network.modules() if isinstance(m, GlobalAttention)]
    assert len(found) == 13
    assert {(m.position, m.prefix, m.reach, m.grid) for m in found} == {("vectors", 1, 14, (14, 14))}
