"""Shrinking: what a unit costs, how the penalty drives it, and that a cut leaves everything consistent.

Costs are written down here a second time, as the formulas of the HR-NAS paper and code. Surgery is checked with tagged
tensors: every entry is a number of its own, so one that stands in the wrong place is seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of, total_cost
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.extremes import least, structural
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.layers.transformer import LightTransformer, position_map
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet, key_of
from nasdsl.compiler.values.tree import evaluate, holds
from nasdsl.runtime.data import DataSplits
from nasdsl.runtime.data.datasets import ClassificationSet
from nasdsl.runtime.data.images import Cached
from nasdsl.runtime.optim import averaged
from nasdsl.runtime.penalty import Group, Penalty, groups_of, units_left
from nasdsl.runtime.settings import Train
from nasdsl.runtime.strategies.shrink import Shrink, Shrinker
from nasdsl.runtime.tasks import Classification
from nasdsl.runtime.trainer import Trainer
from tests import shipped

LOSS = {"weight_decay": 1e-5, "weight_decay_form": "loss"}

BLOCK = """
space small {
  param shortcut = true
  param attention = true
  param dropout = 0.0
  input 1 x 14 x 10
  operator searching(out, stride = 1) {
    mixconv(out, stride, hidden: { 3: units(2 * in), 5: units(in + 1), 7: units(in) })
      + (transformer(out, stride, tokens: units(4), size: 4, dropout: dropout) if attention else none)
      + (skip(out, stride) if shortcut else none)
  }
  network {
    stem: conv(4, kernel: 3, stride: 2)
    a: searching(4)
    b: searching(8, stride: 2)
    classify(classes: 3)
  }
}
"""


@cache
def graph(**defines: str) -> Graph:
    return elaborate(Source(BLOCK), None, defines).graph


def supernet(seed: int = 0, **defines: str) -> Supernet:
    torch.manual_seed(seed)
    network = Supernet(graph(**defines))
    with torch.no_grad():
        for name, tensor in averaged(network).items():  # every norm does something, and every unit something else
            if tensor.dim() == 1:
                tensor.copy_(torch.rand(tensor.shape) + (0.5 if name.endswith(("weight", "var")) else -0.5))
    return network


def images(n: int = 8) -> torch.Tensor:
    return torch.randn(n, 1, 14, 10, generator=torch.Generator().manual_seed(1))


def data(train: int = 24, val: int = 12) -> DataSplits:
    def split(n: int, seed: int) -> ClassificationSet:
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 256, (n, 1, 14, 10), dtype=torch.uint8, generator=generator)
        return ClassificationSet(Cached.of(pixels), torch.randint(0, 3, (n,), generator=generator))

    return DataSplits(split(train, 0), split(val, 1), "classification", ("x", "y", "z"), 1, (14, 10), "noise")


def trainer(network: Supernet, **settings: Any) -> Trainer:
    given = {"batch": 8, "epochs": 4, "recalibrate": 2, "optimiser": {"lr": 1e-2}, **LOSS, "ema": {}, **settings}
    splits = data()
    fabric = Fabric(accelerator="cpu", devices=1)
    return Trainer(network, Classification.from_data(splits), splits, Train.model_validate(given), fabric)


def shrinker(network: Supernet, train: Mapping[str, Any] | None = None, **settings: Any) -> Shrinker:
    given = Shrink.model_validate({"every": 1, "warmup": 0, **settings})
    return Shrinker(trainer(network, **(train or {})), given)


def of_kind(network: Supernet, kind: str) -> list[Group]:
    return [group for group in groups_of(network) if group.kind == kind]


def scales(network: Supernet, group: Group) -> torch.Tensor:
    return dict(network.named_parameters())[group.parameter].detach()[group.start : group.end]


# --- What units there are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "blocks", "keeping"), [("segmentation", 61, 44), ("classification", 67, 48)])
def test_every_block_has_three_groups_of_channels(task: str, blocks: int, keeping: int) -> None:
    with torch.device("meta"):
        network = Supernet(shipped.graph("hrnas_code", task=task))
    channels, tokens = of_kind(network, "channel"), of_kind(network, "token")
    assert len(channels) == 3 * blocks
    assert len(tokens) in (44, keeping)
    by_block: dict[str, list[Group]] = {}
    for group in channels:
        by_block.setdefault(group.parameter, []).append(group)
    assert len(by_block) == blocks
    parameters = dict(network.named_parameters())
    for name, groups in by_block.items():
        assert [group.label for group in groups] == ["3", "5", "7"]
        assert [g.start for g in groups] == [0, groups[0].end, groups[1].end]  # side by side, nothing between
        assert groups[2].end == len(parameters[name])
    assert units_left(network)[0] == sum(len(group.kept) for group in channels + tokens)


# --- What a unit costs ------------------------------------------------------------------------------------------------


def test_exact_costs_are_differences_of_the_cost_model() -> None:
    network = supernet()
    penalty = Penalty(network, "exact", False, 1e-3)
    total = total_cost(network.graph).macs
    whole = largest_values(network.graph)
    assert {group.kind for group in penalty.groups} == {"channel", "token"}
    for group in penalty.groups:
        costs = [evaluate(total, {**whole, group.path: tuple(range(n))}) for n in range(len(group.kept) + 1)]
        for n in range(1, len(costs)):
            assert penalty.cost(group, n) == costs[n] - costs[n - 1], group.path


def dimensions(graph: Graph, group: Group) -> tuple[int, int, int, int]:
    """Channels in and out, pixels in and out, of a small network's block."""
    return (4, 4, 7 * 5, 7 * 5) if graph.nodes[group.node].name.startswith("a") else (4, 8, 7 * 5, 4 * 3)


def test_exact_costs_in_closed_form() -> None:
    penalty = Penalty(supernet(), "exact", False, 1e-3)
    for group in penalty.groups:
        c, out, pixels, less = dimensions(penalty.network.graph, group)
        if group.kind == "channel":
            assert penalty.cost(group, 3) == c * pixels + (int(group.label) ** 2 + out) * less
            continue
        e = 16  # both layers: four projections and two feed-forward matrices of E x E, two products of attention
        for n in range(1, 5):
            want = (c + 2) * e + out * e + 2 * 6 * e * e + 4 * e * (2 * n - 1)
            assert penalty.cost(group, n) == want


def test_costs_in_the_form_of_the_code() -> None:
    penalty = Penalty(supernet(), "code", False, 1e-3)
    for group in penalty.groups:
        first = group.node.startswith("a")
        c, out = 4, 4 if first else 8
        pixels, less = 112 * 112, 112 * 112 if first else 56 * 56
        if group.kind == "channel":
            assert penalty.cost(group, 3) == c * pixels + (int(group.label) ** 2 + out) * less
            continue
        e = 16
        for n in range(5):
            want = e * (c + 2) + e * out + 4 * e * e + 4 + 2 * e * (n * n - max(n - 1, 0) ** 2)
            assert penalty.cost(group, n) == want


def test_costs_in_the_form_of_the_paper() -> None:
    penalty = Penalty(supernet(), "paper", False, 1e-3)
    for group in penalty.groups:
        pixels = 35 if group.node.startswith("a") else 12
        if group.kind == "channel":
            assert penalty.cost(group, 3) == int(group.label) ** 2 * pixels
            continue

        def total(n: int) -> int:  # s = 4, d = 16: attention and a feed-forward network four times as wide, twice
            return 2 * (4 * n * 16 * 16 + 2 * n * n * 16 + 8 * n * 4**4)

        for n in range(1, 5):
            assert penalty.cost(group, n) == total(n) - total(n - 1)
        assert penalty.cost(group, 0) == penalty.cost(group, 1) > 0


def test_a_tokens_cost_falls_with_the_tokens_alive() -> None:
    for form in ("exact", "code", "paper"):
        penalty = Penalty(supernet(), form, True, 1e-3)
        group = next(g for g in penalty.groups if g.kind == "token")
        costs = [penalty.cost(group, n) for n in range(1, 5)]
        assert costs == sorted(set(costs))
        steps = [b - a for a, b in pairwise(costs)]
        assert len(set(steps)) == 1 and steps[0] > 0


@pytest.mark.parametrize("form", ["exact", "code", "paper", "uniform"])
def test_the_mean_delta_of_channels_is_one_without_tokens(form: str) -> None:
    network = supernet(attention="false")
    penalty = Penalty(network, form, True, 1e-3)
    deltas = [penalty.cost(g, len(g.kept)) * penalty.scale for g in penalty.groups for _ in g.kept]
    assert sum(deltas) / len(deltas) == pytest.approx(1, rel=1e-6)
    if form != "uniform":
        assert max(deltas) > 1.05 > 0.95 > min(deltas)


def test_the_codes_normaliser_takes_a_tokens_share_of_the_whole() -> None:
    penalty = Penalty(supernet(), "code", True, 1e-3)
    total, units = 0.0, 0
    for group in penalty.groups:
        units += len(group.kept)
        if group.kind == "channel":
            total += len(group.kept) * penalty.cost(group, 1)
        else:  # MACs of n0 tokens, divided by n0
            out, e, n = 4 if group.node.startswith("a") else 8, 16, 4
            total += n * (e * 6 + e * out + 4 * e * e + 4 + 2 * e * n)
    assert penalty.scale == pytest.approx((units + 1e-5) / total)


def test_costs_of_channels_do_not_change_when_others_go() -> None:
    network = supernet()
    penalty = Penalty(network, "exact", True, 1e-3)
    before = {group.path: penalty.cost(group, 1) * penalty.scale for group in penalty.groups}
    paths = [group.path for group in penalty.groups]
    network.shrink({paths[0]: (1, 3), paths[3]: (), paths[4]: (0, 2, 4)})
    penalty.refresh(network)
    for group in penalty.groups:
        if group.kind == "channel":
            assert penalty.cost(group, 1) * penalty.scale == before[group.path]


# --- The penalty ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("form", ["exact", "code", "uniform"])
def test_the_gradient_is_autograds(form: str, cut: bool) -> None:
    network = supernet()
    penalty = Penalty(network, form, True, 1e-3)
    groups = groups_of(network)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for i, group in enumerate(groups):
            parameters[group.parameter][group.start] *= -1 if i % 2 else 0  # some negative, some zero
    if cut:
        network.shrink({groups[0].path: (0, 2, 5), groups[2].path: (), groups[3].path: (1, 2)})
        penalty.refresh(network)
        groups, parameters = groups_of(network), dict(network.named_parameters())
    for p in parameters.values():
        p.grad = torch.zeros_like(p)
    penalty.add_gradient(0.3)
    have = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    loss = torch.zeros(())
    for group in groups:
        scale = parameters[group.parameter][group.start : group.end]
        alive = len(scale) if group.kind == "channel" else int((scale > 1e-3).sum())
        loss = loss + 0.3 * (penalty.cost(group, alive) * penalty.scale * scale.abs()).sum()
    assert penalty.value() == pytest.approx(float(loss.detach()) / 0.3, rel=1e-5)
    network.zero_grad()
    loss.backward()
    for name, p in parameters.items():
        torch.testing.assert_close(have[name], torch.zeros_like(p) if p.grad is None else p.grad)


def test_negative_tokens_do_not_count_as_alive() -> None:
    network = supernet()
    penalty = Penalty(network, "exact", False, 1e-3)
    group = next(g for g in penalty.groups if g.kind == "token")
    row = dict(network.named_parameters())[group.parameter]
    with torch.no_grad():
        row.copy_(torch.tensor([0.5, -0.5, 5e-4, 2e-3]))
    row.grad = torch.zeros_like(row)
    penalty.add_gradient(1.0)
    torch.testing.assert_close(row.grad, penalty.cost(group, 2) * torch.tensor([1.0, -1.0, 1.0, 1.0]))


def test_lambda_waits_and_rises() -> None:
    one = shrinker(supernet(), {"epochs": 12}, penalty={"macs": 0.4}, free=2, warmup=6)
    per_epoch = one.trainer.steps_per_epoch
    have = []
    for epoch in (0, 1.9, 2, 3, 4, 6, 11):
        one.trainer.step = round(epoch * per_epoch)
        have.append(one.weight())
    assert have == pytest.approx([0, 0, 0, 0.1, 0.2, 0.4, 0.4], abs=0.01)
    one = shrinker(supernet(), penalty={"macs": 0.4}, free=1, warmup=0)
    for step, want in ((0, 0), (per_epoch, 0.4)):
        one.trainer.step = step
        assert one.weight() == want


def test_lambda_is_zero_once_the_target_is_met() -> None:
    one = shrinker(supernet(), target={"macs": 1.0}, penalty={"macs": 0.4})
    assert one.reached() and one.weight() == 0 and one.remove() is None
    one = shrinker(supernet(), target={"macs": 0.9}, penalty={"macs": 0.4})
    assert not one.reached() and one.weight() == 0.4


def test_a_target_is_not_taken_for_met_after_a_cut_that_keeps_the_sum_of_what_was_cut() -> None:
    one = shrinker(supernet(), target={"macs": 0.9})
    a, b = [group.path for group in one.penalty.groups][:2]
    one.trainer.shrink({a: (0, 1, 2, 3, 4)})
    first = one.reached()
    one.trainer.shrink({a: (0, 1, 2), b: (0, 1)})
    assert one.reached() == (one.now()["macs"] <= (one.target or 0)) and isinstance(first, bool)


# --- What a cut does to the network -----------------------------------------------------------------------------------


def silenced(network: Supernet, path: str, units: tuple[int, ...]) -> tuple[int, ...]:
    """Sets the scales of units to zero, not their shifts; what stays."""
    group = next(g for g in groups_of(network) if g.path == path)
    with torch.no_grad():
        scales(network, group)[list(units)] = 0
    return tuple(u for u in group.kept if u not in units)


@pytest.mark.parametrize("shortcut", ["true", "false"])
def test_training_is_unchanged_by_cutting_channels_without_scale(shortcut: str) -> None:
    network = supernet(shortcut=shortcut)
    kept = {
        group.path: silenced(network, group.path, (0, 2, 3) if group.label != "5" else tuple(range(len(group.kept))))
        for group in of_kind(network, "channel")
    }
    network.train()
    before = network(images())
    network.shrink(kept)
    torch.testing.assert_close(network(images()), before, rtol=1e-4, atol=1e-5)


def test_evaluation_is_unchanged_once_the_constant_is_out_of_the_running_mean() -> None:
    network = supernet()
    (path,) = [g.path for g in of_kind(network, "channel") if g.node.startswith("a") and g.label == "5"]
    group = next(g for g in groups_of(network) if g.path == path)
    kept = silenced(network, path, (0, 1, 3))
    layer: Any = network.layers[key_of(network.graph.nodes[group.node].weight)]
    gone = [group.start + u for u in (0, 1, 3)]
    constant = layer.project.weight[:, gone, 0, 0] @ torch.relu(layer.hidden_norm.bias[gone])
    network.eval()
    before = network(images())
    network.shrink({path: kept})
    assert float((network(images()) - before).detach().abs().max()) > 1e-3
    layer = network.layers[key_of(network.graph.nodes[group.node].weight)]
    layer.project_norm.running_mean -= constant.detach()
    torch.testing.assert_close(network(images()), before, rtol=1e-4, atol=1e-5)


def test_recalibration_takes_the_constant_out_too() -> None:
    network = supernet()
    kept = {g.path: silenced(network, g.path, (0, 1)) for g in of_kind(network, "channel")}
    one = trainer(network, ema=None)
    network.eval()
    one.recalibrate(3)
    before = network(images())
    one.shrink(kept)
    one.recalibrate(3)
    torch.testing.assert_close(network(images()), before, rtol=1e-3, atol=1e-4)


def transformed(layer: LightTransformer, x: torch.Tensor, kept: tuple[int, ...]) -> torch.Tensor:
    """The lightweight transformer with some of its tokens, from its formulas; norms with their running statistics."""
    rows = list(kept)
    size = layer.size

    def normed(x: torch.Tensor, norm: nn.BatchNorm2d, rows: list[int]) -> torch.Tensor:
        assert norm.running_mean is not None and norm.running_var is not None
        mean, var, gamma, beta = (
            t[rows, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        return (x - mean) / (var + norm.eps).sqrt() * gamma + beta

    def attended(one: Any, residual: torch.Tensor, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        wq, wk, wv = one.attention.project_in.chunk(3)
        weights = ((query @ wq.T) @ (memory @ wk.T).transpose(-1, -2) / math.sqrt(size * size)).softmax(-1)
        z = residual + (weights @ (memory @ wv.T)) @ one.attention.project_out.weight.T
        z = F.layer_norm(z, z.shape[-1:], one.attention_norm.weight, one.attention_norm.bias)
        z = z + torch.relu(z @ one.widen.weight.T) @ one.narrow.weight.T
        return F.layer_norm(z, z.shape[-1:], one.feed_norm.weight, one.feed_norm.bias)

    small = F.interpolate(x, (size, size), mode="bilinear", align_corners=False)
    small = torch.cat([small, position_map(size, size, "centred").expand(len(x), -1, -1, -1)], 1)
    tokens = torch.einsum("bchw,nc->bnhw", small, layer.project.weight[rows, :, 0, 0])
    tokens = normed(tokens, layer.token_norm, rows).flatten(2)
    tokens = attended(layer.encoder, tokens, tokens, tokens)
    assert layer.queries is not None
    tokens = attended(layer.decoder, tokens, layer.queries[rows], tokens).unflatten(2, (size, size))
    y = torch.einsum("bnhw,cn->bchw", tokens, layer.unproject.weight[:, rows, 0, 0])
    y = normed(y, layer.output_norm, list(range(y.shape[1])))
    return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)


@pytest.mark.parametrize("kept", [(0, 1, 2, 3), (1, 3), (2,)])
def test_cut_tokens_leave_what_a_reference_computes_with_the_others(kept: tuple[int, ...]) -> None:
    network = supernet().eval()
    group = next(g for g in of_kind(network, "token") if g.node.startswith("a"))
    key = key_of(network.graph.nodes[group.node].weight)
    x = torch.randn(3, 4, 7, 5)
    layer: Any = network.layers[key]
    want = transformed(layer, x, kept)
    network.shrink({group.path: kept})
    torch.testing.assert_close(network.layers[key](x), want, rtol=1e-4, atol=1e-5)


def block(network: Supernet, name: str) -> list[str]:
    return [node for node in network.settings if node.startswith(f"{name}.")]


def test_a_block_can_empty_to_its_shortcut() -> None:
    network = supernet().eval()
    kept: dict[str, tuple[int, ...]] = {g.path: () for g in groups_of(network) if g.node.startswith("a")}
    surgery = network.shrink(kept)
    assert [network.graph.nodes[node].op for node in block(network, "a")] == ["skip"]
    assert any("mixconv" in name for name in surgery.removed) and any("transformer" in name for name in surgery.removed)
    seen: list[torch.Tensor] = []
    stem: Any = network.layers["stem"]
    stem.register_forward_hook(lambda module, args, out: seen.append(out))
    node = next(node for node in block(network, "b") if network.graph.nodes[node].op == "mixconv")
    mixconv: Any = network.layers[key_of(network.graph.nodes[node].weight)]
    mixconv.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    network(images())
    assert torch.equal(seen[0], seen[1])  # what follows reads what the stem gives


def test_a_transformer_without_tokens_vanishes() -> None:
    network = supernet()
    before = sum(p.numel() for p in network.parameters())
    macs = cost_of(network.graph, largest_values(network.graph))
    group = next(g for g in of_kind(network, "token") if g.node.startswith("b"))
    layer: Any = network.layers[key_of(network.graph.nodes[group.node].weight)]
    gone = sum(p.numel() for p in layer.parameters())
    network.shrink({group.path: ()})
    assert sum(p.numel() for p in network.parameters()) == before - gone
    now = cost_of(network.graph, {**largest_values(network.graph), **network.kept})
    assert macs["params"] - now["params"] == gone and now["macs"] < macs["macs"]
    assert network(images()).shape == (8, 3)


def test_a_block_without_a_shortcut_keeps_its_strongest_unit() -> None:
    one = shrinker(supernet(shortcut="false"), threshold=100.0)
    groups = one.penalty.groups
    with torch.no_grad():
        for values in (dict(one.trainer.network.named_parameters()), one.trainer.average.values):  # type: ignore[union-attr]
            for group in groups:
                values[group.parameter][group.start : group.end] = 0.25
            values[groups[1].parameter][groups[1].start + 2] = 0.75
    assert one.remove() is not None
    left = {path: units for path, units in one.trainer.network.kept.items() if units}
    assert left[groups[1].path] == (2,)
    assert len(left) == 2 and units_left(one.trainer.network)[0] == 2
    values = {**largest_values(one.graph), **one.trainer.network.kept}
    assert all(holds(r.condition, values) for r in structural(one.graph))
    assert one.trainer.network(images()).shape == (8, 3)


def test_nothing_is_cut_that_is_strong_in_either_view() -> None:
    one = shrinker(supernet(), {"epochs": 4}, threshold=0.3)
    group = one.penalty.groups[0]
    values = one.trainer.average.values  # type: ignore[union-attr]
    parameters = dict(one.trainer.network.named_parameters())
    with torch.no_grad():
        for one_value, tensor in ((parameters, [0.1, 0.1, 0.9, -0.9]), (values, [0.1, 0.9, 0.1, 0.1])):
            one_value[group.parameter][group.start : group.start + 4] = torch.tensor(tensor)
    assert one.remove() is not None
    assert one.trainer.network.kept[group.path] == (1, 2, 3, 4, 5, 6, 7)  # weak in both: only the first
    one.trainer.step = one.trainer.steps
    assert one.remove() is not None
    assert one.trainer.network.kept[group.path] == (1, 4, 5, 6, 7)  # at the end the average alone decides


def test_too_little_to_save_is_left() -> None:
    one = shrinker(supernet(), threshold=0.3, least=1e9)
    group = one.penalty.groups[0]
    with torch.no_grad():
        for values in (dict(one.trainer.network.named_parameters()), one.trainer.average.values):  # type: ignore[union-attr]
            values[group.parameter][group.start] = 0.0
    assert one.remove() is None
    one.trainer.step = one.trainer.steps
    assert one.remove() is not None


@pytest.mark.parametrize(("form", "macs"), [("exact", 595), ("paper", 9 * 7 * 5), ("code", 17 * 112 * 112)])
def test_the_least_step_is_counted_as_the_setting_says(form: str, macs: int) -> None:
    """One dead channel of kernel 3 between 4 channels and 4, at half of 14 x 10, and for the code at half of 224 x 224:
    k^2 h w, and c H W + (k^2 + c') H' W'. At the space's own input 4 + 4 + 9 at each of 35 pixels."""
    assert form != "exact" or macs == (4 + 4 + 9) * 7 * 5
    for least_macs, removed in ((macs, True), (macs + 1, False)):
        one = shrinker(supernet(), threshold=0.3, least=least_macs, least_form=form)
        group = one.penalty.groups[0]
        with torch.no_grad():
            for values in (dict(one.trainer.network.named_parameters()), one.trainer.average.values):  # type: ignore[union-attr]
                values[group.parameter][group.start] = 0.0
        assert (one.remove() is not None) is removed


# --- What a cut does to optimiser and averages ------------------------------------------------------------------------

OPTIMISERS = {
    "adamw": ("exp_avg", "exp_avg_sq"),
    "adam": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg", "momentum_buffer"),
    "sgd": ("momentum_buffer",),
}


def tag(tensor: torch.Tensor, start: int) -> int:
    with torch.no_grad():
        tensor.copy_(torch.arange(start, start + tensor.numel(), dtype=torch.float64).view(tensor.shape))
    return start + tensor.numel()


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("channels_last", [True, False])
def test_moments_and_averages_are_cut_like_their_parameters(name: str, channels_last: bool) -> None:
    network = supernet()
    settings = {"optimiser": {"name": name, "lr": 1e-3, "momentum": 0.9}, "channels_last": channels_last}
    one = trainer(network, **settings)
    one.fit(2)
    moments = OPTIMISERS[name]
    counter = 0
    for parameter in network.parameters():
        counter = tag(parameter, counter)
    offsets: dict[str, dict[str, torch.Tensor]] = {}
    for label, key in enumerate(moments, 1):  # each moment is its parameter's tags, moved
        for parameter in network.parameters():
            one.optimiser.state[parameter][key].copy_(parameter.detach() + label * 100_000)
    assert one.average is not None
    for tensor_name, tensor in averaged(network).items():
        if tensor_name.endswith(("running_mean", "running_var")):
            counter = tag(tensor, counter)
        one.average.values[tensor_name].copy_(tensor.detach() + 1_000_000)
    del offsets
    assert counter < 100_000  # so every number is exact, and no two are alike
    whole = {n: t.detach().clone() for n, t in averaged(network).items()}

    groups = groups_of(network)
    by_node: dict[tuple[str, str], str] = {(g.node[0], g.label or "token"): g.path for g in groups}
    one.shrink({by_node["a", "3"]: (1, 2, 6), by_node["a", "5"]: (), by_node["a", "token"]: (0, 3)})
    one.shrink({by_node["a", "3"]: (1, 6), by_node["b", "7"]: (2,), by_node["b", "token"]: ()})

    kept_a = torch.tensor([1, 6, 13, 14, 15, 16])  # two of 8 units of kernel 3, none of 5, all four of 7
    kept_b = torch.tensor([*range(13), 15])
    want: dict[str, torch.Tensor] = {}
    for tensor_name, tensor in whole.items():
        if "mixconv" in tensor_name:
            kept = kept_a if tensor_name.startswith("layers.a") else kept_b
            if ".expand.weight" in tensor_name or "expand_norm" in tensor_name or "hidden_norm" in tensor_name:
                tensor = tensor[kept]
            elif "project.weight" in tensor_name:
                tensor = tensor[:, kept]
            elif "depthwise.3" in tensor_name and tensor_name.startswith("layers.a"):
                tensor = tensor[[1, 6]]
            elif "depthwise.5" in tensor_name and tensor_name.startswith("layers.a"):
                continue
            elif "depthwise.7" in tensor_name and tensor_name.startswith("layers.b"):
                tensor = tensor[[2]]
        elif "transformer" in tensor_name:
            if tensor_name.startswith("layers.b"):
                continue
            if ".project.weight" in tensor_name or "token_norm" in tensor_name or "queries" in tensor_name:
                tensor = tensor[[0, 3]]
            elif "unproject.weight" in tensor_name:
                tensor = tensor[:, [0, 3]]
        want[tensor_name] = tensor
    now = averaged(network)
    assert set(now) == set(want) == set(one.average.values)
    for tensor_name, tensor in want.items():
        assert torch.equal(now[tensor_name], tensor), tensor_name
        assert torch.equal(one.average.values[tensor_name], tensor + 1_000_000), tensor_name
    parameters = dict(network.named_parameters())
    held = [p for group in one.optimiser.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in parameters.values()} and len(held) == len(parameters)
    assert set(one.optimiser.state) == set(held)
    for tensor_name, parameter in parameters.items():
        state = one.optimiser.state[parameter]
        for label, key in enumerate(moments, 1):
            assert torch.equal(state[key], want[tensor_name] + label * 100_000), (tensor_name, key)
        if name.startswith("adam"):
            assert float(state["step"]) == 2
    decays = {id(p): g["weight_decay"] for g in one.optimiser.param_groups for p in g["params"]}
    assert all(decays[id(p)] == 0 for p in held)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_training_goes_on_after_a_cut_as_if_the_network_had_been_small(name: str) -> None:
    """One that starts with the cut state and moments takes the same steps."""
    network = supernet(seed=3)
    settings = {"optimiser": {"name": name, "lr": 1e-3}, "weight_decay": 1e-2}
    one = trainer(network, **settings)
    one.fit(3)
    paths = [g.path for g in groups_of(network)]
    one.shrink({paths[0]: (0, 2, 3), paths[3]: (1,), paths[5]: ()})
    other = trainer(supernet(seed=4), **settings)
    other.load(one.state())
    for each in (one, other):
        each.fit(6)
    for (n, p), (m, q) in zip(network.named_parameters(), other.network.named_parameters(), strict=True):
        assert n == m and torch.equal(p, q)


def cut(network: Supernet) -> dict[str, tuple[int, ...]]:
    """About half of the units gone, one group emptied."""
    groups = groups_of(network)
    return {g.path: tuple(u for u in g.kept if u % 2) if i != 1 else () for i, g in enumerate(groups)}


@pytest.mark.parametrize("training", [True, False])
def test_a_shrunk_network_computes_what_a_freshly_built_one_does(training: bool) -> None:
    network = supernet().train(training)
    large = network.extract(Architecture.at(network.graph, {**largest_values(network.graph), **cut(network)}))
    network.shrink(cut(network))
    fresh = network.extract(Architecture.at(network.graph, {**largest_values(network.graph), **network.kept}))
    assert not fresh.graph.decisions
    for other in (fresh, large):
        assert [p.shape for p in other.parameters()] == [p.shape for p in network.parameters()]
        other.train(training)
        network.zero_grad()
        # Each starts with the same statistics, so they may be compared after a step in training, too.
        have, want = network(images()), other(images())
        torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-6)
        have.square().sum().backward()
        want.square().sum().backward()
        for (name, p), (_, q) in zip(network.named_parameters(), other.named_parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_a_cut_makes_network_optimiser_and_averages_smaller() -> None:
    network = supernet()
    one = trainer(network)
    one.fit(2)

    def held() -> int:
        assert one.average is not None
        tensors = [*network.state_dict().values(), *one.average.values.values()]
        for state in one.optimiser.state.values():
            tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
        return sum(t.untyped_storage().nbytes() for t in tensors)

    before, params = held(), sum(p.numel() for p in network.parameters())
    one.shrink(cut(network))
    now = sum(p.numel() for p in network.parameters())
    assert now == cost_of(network.graph, {**largest_values(network.graph), **network.kept})["params"] < 0.9 * params
    assert held() / before == pytest.approx(now / params, rel=0.05)


def test_a_cut_makes_steps_faster() -> None:
    text = """space wide { input 8 x 48 x 48
      network { residual { mixconv(8, hidden: { 3: units(256), 5: units(256) }) } -> classify(classes: 3) } }"""
    network = Supernet(elaborate(Source(text)).graph)
    x = torch.randn(4, 8, 48, 48)

    def seconds() -> float:
        times = []
        for _ in range(4):
            start = time.process_time()
            network(x).sum().backward()
            times.append(time.process_time() - start)
        return min(times)

    before = seconds()
    network.shrink({g.path: g.kept[:16] for g in groups_of(network)})
    assert seconds() < 0.4 * before  # a sixteenth of the channels are left


# --- Targets ----------------------------------------------------------------------------------------------------------


def shrunk(one: Shrinker) -> dict[str, float]:
    """Removes on schedule without a step of training: scales are what they are at first."""
    while one.trainer.step < one.trainer.steps:
        one.trainer.step += one.interval()
        one.remove()
    return one.now()


@pytest.mark.parametrize("measure", ["macs", "flops", "params"])
@pytest.mark.parametrize("share", [0.8, 0.5, 0.3])
@pytest.mark.parametrize("shortcut", ["true", "false"])
def test_a_target_is_met_from_below_and_nearly(measure: str, share: float, shortcut: str) -> None:
    """Up to the cost of one unit; for parameters without transformers, whose last token takes half of all with it."""
    attention = "false" if measure == "params" else "true"
    one = shrinker(supernet(shortcut=shortcut, attention=attention), target={measure: share})
    end = shrunk(one)
    limit = share * one.start[measure]
    assert one.target == pytest.approx(limit)
    unit = max(one.penalty.cost(g, 1) for g in one.penalty.groups) * {"macs": 1, "flops": 2, "params": 0}[measure]
    assert 0.95 * limit - max(unit, 80) <= end[measure] <= limit
    assert one.reached()
    absolute = shrinker(supernet(shortcut=shortcut, attention=attention), target={measure: float(int(limit))})
    assert shrunk(absolute)[measure] == end[measure]


def test_what_one_great_removal_made_room_for_stays() -> None:
    """The last token of a transformer takes many parameters; the channels that were marked before it fit again."""
    network = supernet()
    for group in groups_of(network):
        scales(network, group).fill_(0.5 if group.kind == "channel" else 0.6)
    whole = cost_of(network.graph, largest_values(network.graph))["params"]
    one = shrinker(network, target={"params": 0.45}, every=4)
    end = shrunk(one)
    tokens = sum(len(g.kept) for g in groups_of(network) if g.kind == "token")
    channels = sum(len(g.kept) for g in groups_of(network) if g.kind == "channel")
    assert end["params"] <= 0.45 * whole and tokens < 8 and channels > 20


def test_a_target_within_five_percent_where_units_are_small() -> None:
    text = """space fine { input 3 x 16 x 16
      operator searching(out) { mixconv(out, hidden: { 3: units(64), 5: units(64), 7: units(64) }) + skip(out) }
      network { conv(8, kernel: 3) -> repeat 3 { searching(8) } -> classify(classes: 3) } }"""
    network = Supernet(elaborate(Source(text)).graph)
    one = Shrinker(trainer(network), Shrink.model_validate({"target": {"macs": 0.3}, "every": 1}))
    end = shrunk(one)
    assert 0.95 * (one.target or 0) <= end["macs"] <= (one.target or 0)


@pytest.mark.parametrize("until", [0.25, 0.6, 1.0])
@pytest.mark.parametrize("every", [0.5, 1.0, 3.0, 50.0])
def test_a_target_is_met_whatever_the_interval(every: float, until: float) -> None:
    one = shrinker(supernet(), target={"macs": 0.4}, every=every, until=until)
    while one.trainer.step < one.trainer.steps:
        one.trainer.step = min((one.trainer.step // one.interval() + 1) * one.interval(), one.trainer.steps)
        one.remove()
    assert one.reached()


@pytest.mark.parametrize("measure", ["macs", "params"])
@pytest.mark.parametrize("shortcut", ["true", "false"])
def test_the_least_target_is_met_and_less_is_refused(measure: str, shortcut: str) -> None:
    """Whichever units are strong: without shortcuts the removals must leave the cheapest support, not any."""
    macs = total_cost(graph(shortcut=shortcut))
    value, _ = least(graph(shortcut=shortcut), macs.macs if measure == "macs" else macs.params)
    for seed in range(5):
        one = shrinker(supernet(seed, shortcut=shortcut), target={measure: float(value)})
        assert shrunk(one)[measure] == value
    with pytest.raises(CompileError) as caught:
        shrinker(supernet(shortcut=shortcut), target={measure: value - 1.0})
    (found,) = caught.value.diagnostics
    assert found.code == "budget-too-small" and f"{value:,}" in found.help


def test_ranking_by_scale_per_cost_takes_the_costly_first() -> None:
    ends = {}
    for rank in ("scale", "scale_per_cost"):
        network = supernet()
        for group in groups_of(network):
            scales(network, group).fill_(0.5)
        one = shrinker(network, target={"macs": 0.6}, rank=rank)
        shrunk(one)
        ends[rank] = units_left(one.trainer.network)[0]
    assert ends["scale_per_cost"] > ends["scale"]
