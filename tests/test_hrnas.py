"""HR-NAS: the space against the paper's and the official code's block lists and closed forms, and against torch.

What the tests expect is written down here a second time, as tables and formulas, and never read from the space. To
check more than a few random networks of each variant against torch, set NASDSL_NETWORKS (the figure was 200 once).
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from nasdsl import spaces
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of, node_cost, total_cost
from nasdsl.compiler.graph import Graph, Node
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.values.tree import decisions_of, evaluate
from tests import shipped

NETWORKS = int(os.environ.get("NASDSL_NETWORKS", "1"))

FORMS = ("hrnas", "hrnas_code")
SIZES = {
    "segmentation": (3, 512, 1024),
    "classification": (3, 224, 224),
    "keypoints": (3, 256, 192),
    "detection3d": (64, 496, 432),
}
OUTPUTS = {"segmentation": 19, "classification": 1000, "keypoints": 17, "detection3d": 2 * (1 + 7 + 2)}
TASKS = tuple(SIZES)
SITES = ("all", "keeping", "none")
VARIANTS = [(form, task, sites) for form in FORMS for task in TASKS for sites in SITES]
PUBLISHED = {("hrnas", "all"), ("hrnas_code", "keeping")}


def space(form: str, task: str = "segmentation", sites: str = "", change: str = "") -> Space:
    """One of the two forms for a task, perhaps with other transformers or a further change, as text."""
    return shipped.space(form, changes=change, task=task, **({"attention": sites} if sites else {}))


def of_op(graph: Graph, op: str) -> list[Node]:
    return [node for node in graph.nodes.values() if node.op == op]


# --- What is expected -------------------------------------------------------------------------------------------------

WIDTHS = (18, 36, 72, 144)
DEPTHS = (2, 2, 3, 4)
# Paths of each exchange as (from, to); the last path of those that add a branch starts at the new output beside it.
EXCHANGES: dict[int, list[tuple[int, int]]] = {
    1: [(0, 0)],
    2: [(0, 0), (0, 1)],
    3: [(0, 0), (1, 0), (0, 1), (1, 1), (1, 2)],
    4: [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (1, 2), (2, 2), (2, 3)],
    5: [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (2, 3), (3, 3)],
}
BRANCHES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 4}


@dataclass(frozen=True)
class Block:
    """A searching block: widths, stride, and pixels of what comes in."""

    inputs: int
    outputs: int
    stride: int
    height: int
    width: int

    @property
    def keeps(self) -> bool:
        return self.stride == 1 and self.inputs == self.outputs

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def pixels_out(self) -> int:
        return -(-self.height // self.stride) * -(-self.width // self.stride)


def half(n: int, times: int) -> int:
    for _ in range(times):
        n = (n + 1) // 2
    return n


def expected_blocks(form: str, task: str, height: int, width: int) -> list[Block]:
    """Every searching block in the order of the network."""
    entry = 18 if form == "hrnas" else 24
    blocks: list[Block] = []

    def block(inputs: int, outputs: int, at: int, stride: int = 1) -> None:
        blocks.append(Block(inputs, outputs, stride, half(height, 2 + at), half(width, 2 + at)))

    before = [24]
    for number in range(1, 6):
        after = [entry] if number == 1 else list(WIDTHS[: BRANCHES[number]])
        if number > 1 or form == "hrnas_code":
            for source, target in EXCHANGES[number]:
                made_new = target >= len(before)
                block((after if made_new else before)[source], after[target], source, 2 if target > source else 1)
            before = after
        for branch in range(BRANCHES[number]):
            for place in range(1 if number == 1 else DEPTHS[branch]):
                block(before[branch] if place == 0 else after[branch], after[branch], branch)
        before = after
    if form == "hrnas_code" and task == "classification":
        wide = (36, 72, 144, 320)
        for branch in range(4):
            block(WIDTHS[branch], wide[branch], branch)
        for branch in range(3):
            block(wide[branch], wide[branch + 1], branch, 2)
    elif form == "hrnas_code":
        block(sum(WIDTHS), 90, 0)
    return blocks


def mixconv_cost(b: Block, kept: Mapping[int, int]) -> tuple[int, int]:
    """MACs and parameters of the mixed convolution, from the kept channels of each kernel size."""
    channels = sum(kept.values())
    filters = sum(k * k * n for k, n in kept.items())
    if not channels:
        return 0, 0
    macs = b.inputs * channels * b.pixels + (filters + b.outputs * channels) * b.pixels_out
    return macs, channels * (b.inputs + b.outputs + 4) + filters + 2 * b.outputs


def transformer_cost(b: Block, n: int, form: str) -> tuple[int, int]:
    """MACs and parameters of the transformer with n tokens."""
    if not n:
        return 0, 0
    e = 64
    shared = n * (b.inputs + 2) + 2 * n + n * e + n * b.outputs + 2 * b.outputs
    if form == "hrnas_code":
        return n * e * (b.inputs + 2) + n * e * b.outputs + 12 * n * e * e + 4 * n * n * e, shared + 12 * e * e + 8 * e
    # The paper projects at full size, and its feed-forward layers are four times as wide and have biases.
    macs = n * b.pixels * (b.inputs + 2) + n * e * b.outputs + 2 * (4 * n * e * e + 8 * n * e * e + 2 * n * n * e)
    return macs, shared + 2 * (4 * e * e + 8 * e * e + 4 * e + e + 4 * e)


def skip_cost(b: Block) -> tuple[int, int]:
    if b.keeps:
        return 0, 0
    weights = b.inputs // gcd(b.inputs, b.outputs) * b.outputs
    return weights * b.pixels_out, weights


def fixed_cost(form: str, task: str, height: int, width: int) -> tuple[int, int]:
    """MACs and parameters of the stem and of what follows the last block."""
    channels = SIZES[task][0]
    first, second = half(height, 1) * half(width, 1), half(height, 2) * half(width, 2)
    macs = 9 * channels * 24 * first + 9 * 24 * 24 * second
    params = 9 * channels * 24 + 48 + 9 * 24 * 24 + 48
    outputs, inputs = OUTPUTS[task], 270 if form == "hrnas" else 90
    if task != "classification":
        return macs + inputs * outputs * second, params + (inputs + 1) * outputs
    if form == "hrnas":
        return macs + 270 * 1000, params + 271 * 1000
    pixels = half(height, 5) * half(width, 5)
    return macs + 320 * 1600 * pixels + 1600 * 1000, params + 320 * 1600 + 3200 + 1601 * 1000


def has_transformer(b: Block, sites: str) -> bool:
    return sites == "all" or (sites == "keeping" and b.keeps)


# --- Random networks --------------------------------------------------------------------------------------------------


def random_values(graph: Graph, rng: random.Random) -> Architecture:
    """Units by their number first: full and empty groups are common, where uniform networks have half of everything."""
    kept: dict[str, tuple[int, ...]] = {}
    for path, decision in graph.decisions.items():
        assert decision.kind == "units"
        size = rng.choice((0, rng.randint(0, decision.n), rng.randint(0, decision.n), decision.n))
        kept[path] = tuple(sorted(rng.sample(range(decision.n), size)))
    for requirement in graph.requirements:  # of blocks without a shortcut: one unit at least
        if not evaluate(requirement.condition, kept):
            path = rng.choice(sorted(decisions_of(requirement.condition)))
            kept[path] = (rng.randrange(graph.decisions[path].n),)
    found = Architecture.at(graph, kept)
    assert not found.violations(graph)
    return found


# --- The network's plan -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("form", FORMS)
def test_every_block_is_where_the_tables_say(form: str, task: str) -> None:
    graph = space(form, task).graph
    assert (graph.input.shape.channels, graph.input.shape.height, graph.input.shape.width) == SIZES[task]
    expected = expected_blocks(form, task, *SIZES[task][1:])
    found = []
    for node in of_op(graph, "mixconv"):
        source = graph.nodes[node.inputs[0].source].shape
        found.append(
            Block(source.channels, node.shape.channels, node.attrs["stride"], int(source.height), int(source.width))
        )
        assert dict(node.attrs["hidden"]).keys() == {3, 5, 7}
        assert all(width.n == 4 * source.channels for width in node.attrs["hidden"].values())
    assert found == expected


def test_the_code_has_60_blocks_before_the_head() -> None:
    for task, total in (("segmentation", 61), ("keypoints", 61), ("classification", 67)):
        graph = space("hrnas_code", task).graph
        nodes = of_op(graph, "mixconv")
        assert len(nodes) == total
        before = [node for node in nodes if not node.name.startswith("head")]
        assert len(before) == 60
        assert sum("parallel" in node.name for node in before) == 34
        assert sum("exchange" in node.name for node in before) == 26
        keeping = [
            node
            for node in before
            if node.attrs["stride"] == 1 and graph.nodes[node.inputs[0].source].shape.channels == node.shape.channels
        ]
        assert len(keeping) == 44


def test_the_paper_has_no_exchange_before_its_first_stage_and_no_blocks_in_its_heads() -> None:
    for task in TASKS:
        assert len(of_op(space("hrnas", task).graph, "mixconv")) == 59


@pytest.mark.parametrize("form", FORMS)
def test_blocks_of_each_exchange_and_stage(form: str) -> None:
    names = [node.name for node in of_op(space(form).graph, "mixconv")]
    exchange = [sum(name.startswith(f"stage[{i}].exchange[") for name in names) for i in range(4)]
    parallel = [sum(name.startswith(f"stage[{i}].parallel[") for name in names) for i in range(4)]
    assert exchange == [2, 5, 8, 10]
    assert parallel == [4, 7, 11, 11]
    assert sum(name.startswith("start.") for name in names) == (2 if form == "hrnas_code" else 1)


def test_terms_of_the_last_exchange() -> None:
    graph = space("hrnas_code").graph
    terms = {}
    for node in graph.nodes.values():
        if node.op == "relu" and node.name.startswith("stage[3].exchange"):
            merged = graph.nodes[node.inputs[0].source]
            assert merged.op == "sum"
            terms[node.shape.scale.denominator] = [edge.source.split("exchange[")[1] for edge in merged.inputs]
    assert {scale: len(parts) for scale, parts in terms.items()} == {4: 2, 8: 3, 16: 3, 32: 2}
    assert [part.split(" ->")[0] for part in terms[8]] == ["1/4", "1/8", "1/16"]  # finer, same, coarser


def test_a_new_branch_starts_at_the_output_beside_it_and_has_no_activation() -> None:
    graph = space("hrnas_code").graph
    for stage, scale in ((0, 8), (1, 16), (2, 32)):
        new = graph.nodes[f"stage[{stage}].exchange[1/{scale // 2} -> 1/{scale}].searching.mixconv"]
        assert new.inputs[0].source == f"stage[{stage}].exchange[1/{scale // 2}].relu"
        reader = graph.nodes[f"stage[{stage}].parallel[1/{scale}].repeat[0].searching.mixconv"]
        assert reader.inputs[0].source == f"stage[{stage}].exchange[1/{scale // 2} -> 1/{scale}].searching.sum"


def test_a_coarser_branch_is_upsampled_behind_its_block() -> None:
    graph = space("hrnas_code").graph
    ups = of_op(graph, "upsample")
    assert len(ups) == 1 + 2 + 3
    for node in ups:
        assert str(node.attrs["mode"]) == "nearest"
        assert "searching" in node.inputs[0].source


@pytest.mark.parametrize(("form", "task", "sites"), VARIANTS)
def test_which_blocks_have_a_transformer(form: str, task: str, sites: str) -> None:
    blocks = expected_blocks(form, task, *SIZES[task][1:])
    nodes = of_op(space(form, task, sites).graph, "transformer")
    assert len(nodes) == sum(has_transformer(b, sites) for b in blocks)
    assert all(node.attrs["tokens"].n == (8 if form == "hrnas" else 64) for node in nodes)


def test_norms_follow_the_task() -> None:
    for task in TASKS:
        for op in ("conv", "mixconv"):
            for node in of_op(space("hrnas", task).graph, op):
                expected = (1e-5, 0.1) if task == "keypoints" else (1e-3, 0.01)
                assert (float(node.attrs["eps"]), float(node.attrs["momentum"])) == expected


def test_settings_of_the_search() -> None:
    def settings(form: str, name: str) -> Mapping[str, Any]:
        return shipped.space(form, name).sections["search"].entries

    paper = {"hrnas": 1.6e-4, "hrnas_ade20k": 1.6e-4, "hrnas_imagenet": 1.8e-4, "hrnas_coco": 1e-6}
    for name, weight in paper.items():
        entries = settings("hrnas", name)
        assert entries["penalty"] == {"macs": weight}
        assert (entries["threshold"], entries["every"], entries["warmup"]) == (0.001, 5, 0)
    code = {"": (1.4e-4, 10), "_ade20k": (1.4e-4, 25), "_imagenet": (1.8e-4, 5), "_coco": (1e-6, 30)}
    for name, (weight, every) in code.items():
        entries = settings("hrnas_code", f"hrnas_code{name}")
        assert entries["penalty"] == {"macs": weight}
        assert (entries["threshold"], entries["every"], entries["warmup"]) == (0.001, every, {"epochs": 25})


def test_without_a_shortcut_each_block_keeps_a_unit() -> None:
    graph = space("hrnas").graph
    assert len(graph.requirements) == 59
    assert {r.origin for r in graph.requirements} == {"live"}
    assert not space("hrnas_code").graph.requirements


# --- Closed forms -----------------------------------------------------------------------------------------------------


def check_closed_forms(
    form: str, task: str, sites: str, size: tuple[int, int], graph: Graph, rng: random.Random
) -> None:
    """Every block of the graph and the whole, for the full network and a random one."""
    blocks = expected_blocks(form, task, *size)
    for values in (largest_values(graph), random_values(graph, rng).indices):
        macs, params = fixed_cost(form, task, *size)
        for b, node in zip(blocks, of_op(graph, "mixconv"), strict=True):
            near = node.name.removesuffix("mixconv")
            kept = {k: len(values[f"{node.name}.hidden[{k}]"]) for k in (3, 5, 7)}
            expected = {"mixconv": mixconv_cost(b, kept)}
            if has_transformer(b, sites):
                expected["transformer"] = transformer_cost(b, len(values[f"{near}transformer.tokens"]), form)
            if form == "hrnas_code":
                expected["skip"] = skip_cost(b)
            for part, cost in expected.items():
                found = node_cost(graph, graph.nodes[near + part])
                assert (evaluate(found.macs, values), evaluate(found.params, values)) == cost, near + part
                macs, params = macs + cost[0], params + cost[1]
        assert cost_of(graph, values) == {"macs": macs, "params": params}


@pytest.mark.parametrize(("form", "task", "sites"), VARIANTS)
def test_costs_are_the_closed_forms(form: str, task: str, sites: str) -> None:
    check_closed_forms(form, task, sites, SIZES[task][1:], space(form, task, sites).graph, random.Random(1))


@pytest.mark.parametrize("size", [(31, 27), (60, 52), (513, 1025)])
@pytest.mark.parametrize("form", FORMS)
def test_costs_are_the_closed_forms_at_odd_sizes(form: str, size: tuple[int, int]) -> None:
    graph = space(form, "segmentation", "all", f"input 3 x {size[0]} x {size[1]}").graph
    check_closed_forms(form, "segmentation", "all", size, graph, random.Random(2))


def test_full_block_of_the_code() -> None:
    """Numbers of one block, worked out by hand: 18 channels at 128 x 256, all units kept."""
    b = Block(18, 18, 1, 128, 256)
    assert mixconv_cost(b, {3: 72, 5: 72, 7: 72}) == (
        18 * 216 * 32768 + (332 * 18 + 18 * 216) * 32768,
        216 * 40 + 5976 + 36,
    )
    assert transformer_cost(b, 64, "hrnas_code") == (4096 * 38 + 4_194_304, 64 * 104 + 49_664 + 36)


# --- Against torch ----------------------------------------------------------------------------------------------------

aten = torch.ops.aten


def _widest(a: torch.Tensor, b: Any = None, *_: Any) -> torch.Tensor:
    return b if isinstance(b, torch.Tensor) and b.dim() > a.dim() else a


def _empty(*sizes: int) -> torch.Tensor:
    return torch.empty(sizes, device="meta")


def _normed(x: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return x, x, x


def _convolved(
    x: torch.Tensor, w: torch.Tensor, _: Any, stride: list[int], padding: list[int], *__: Any
) -> torch.Tensor:
    size = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(x.shape[2:], w.shape[2:], stride, padding, strict=True)]
    return _empty(x.shape[0], w.shape[0], *size)


def _resized(x: torch.Tensor, size: list[int], *_: Any) -> torch.Tensor:
    return _empty(*x.shape[:2], *size)


SHAPES: dict[Any, Any] = {
    aten.relu: _widest,
    aten.relu_: _widest,
    aten.add: _widest,
    aten.mul: _widest,
    aten.div: _widest,
    aten._softmax: _widest,
    aten.native_batch_norm: _normed,
    aten.native_layer_norm: _normed,
    aten.convolution: _convolved,
    aten.addmm: lambda b, x, w: _empty(x.shape[0], w.shape[1]),
    aten.mm: lambda x, w: _empty(x.shape[0], w.shape[1]),
    aten.bmm: lambda x, y: _empty(x.shape[0], x.shape[1], y.shape[2]),
    aten.upsample_nearest2d: _resized,
    aten.upsample_bilinear2d: _resized,
}


class Meter(TorchDispatchMode):
    """Counts what FlopCounterMode counts, by the same formulas, for networks without data.

    Torch's own shape rules of the commonest operations take a hundred times as long as these, which is most of the
    time of a count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, kwargs = func._overloadpacket, kwargs or {}
        out = SHAPES[packet](*args) if packet in SHAPES and not kwargs else func(*args, **kwargs)
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=out)
        return out


@contextlib.contextmanager
def no_data() -> Iterator[None]:
    """Modules made here have shapes only."""
    names = ("kaiming_uniform_", "xavier_uniform_", "uniform_", "constant_", "ones_", "zeros_")
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor))
        stack.enter_context(torch.device("meta"))
        yield


def torch_counts(graph: Graph) -> dict[str, int]:
    """MACs and parameters as torch sees them, of the network or supernet of a graph at its declared size."""
    x = graph.input.shape
    with no_data():
        network = Supernet(graph).eval()
        image = torch.empty(1, x.channels, x.height, x.width)
    with torch.no_grad(), Meter() as meter:
        network(image)
    return {"macs": meter.flops // 2, "params": sum(p.numel() for p in network.parameters())}


@pytest.mark.parametrize("form", FORMS)
def test_the_meter_counts_what_torch_counts(form: str) -> None:
    graph = space(form, "segmentation", "all", "input 3 x 96 x 80, stages: [2, 3]").graph
    pinned = pin(graph, random_values(graph, random.Random(3)).indices)
    network = Supernet(pinned).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 96, 80))
    expected = {"macs": counter.get_total_flops() // 2, "params": sum(p.numel() for p in network.parameters())}
    assert torch_counts(pinned) == expected


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("form", "task", "sites"), VARIANTS)
def test_costs_are_what_torch_counts(form: str, task: str, sites: str) -> None:
    graph = space(form, task, sites).graph
    cost = total_cost(graph)
    published = (form, sites) in PUBLISHED
    if published:
        assert torch_counts(graph) == cost_of(graph, largest_values(graph))
    rng = random.Random(f"{form} {task} {sites}")
    for _ in range(NETWORKS if published else -(-NETWORKS // 10)):
        values = random_values(graph, rng)
        predicted = {
            "macs": evaluate(cost.macs, values.indices),
            "params": evaluate(cost.params, values.indices),
        }
        assert torch_counts(pin(graph, values.indices)) == predicted


# --- Supernet and network ---------------------------------------------------------------------------------------------


def unsettle(network: torch.nn.Module) -> None:
    """Norms as they are after training, so that a wrong slice shows."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
                for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                    if tensor.dtype == torch.float32:
                        low, high = (-0.2, 0.2) if name in ("bias", "running_mean") else (0.7, 1.3)
                        tensor.uniform_(low, high, generator=generator)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    assert a.isfinite().all()
    return float((a - b).abs().max() / a.abs().max().clamp(min=1))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("form", FORMS)
def test_a_network_taken_out_computes_what_the_supernet_does(form: str, task: str) -> None:
    graph = space(form, task).graph
    supernet = Supernet(graph).eval()
    unsettle(supernet)
    rng = random.Random(5)
    sizes = [(62, 54), (31, 27)] if task == "detection3d" else [(64, 64), (31, 27)]  # the former: 496 x 432, reduced
    with torch.no_grad():
        for _ in range(max(1, NETWORKS // 20)):
            values = random_values(graph, rng)
            supernet.activate(values)
            network = supernet.extract()
            for size in sizes:
                image = torch.randn(2, SIZES[task][0], *size)
                whole, alone = supernet(image), network(image)
                assert difference(whole, alone) < 1e-5
                if task == "classification":
                    assert alone.shape == (2, 1000)
                else:
                    assert alone.shape == (2, OUTPUTS[task], half(size[0], 2), half(size[1], 2))


@pytest.mark.parametrize("form", FORMS)
def test_memory_format_and_precision(form: str) -> None:
    graph = space(form, "segmentation").graph
    network = Supernet(pin(graph, random_values(graph, random.Random(6)).indices)).eval()
    unsettle(network)
    image = torch.randn(1, 3, 48, 40)
    with torch.no_grad():
        expected = network(image)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = network(image.to(memory_format=torch.channels_last))
        assert difference(expected, last) < 1e-4
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert network(image).float().isfinite().all()
        half_precision = network.to(torch.bfloat16)(image.to(torch.bfloat16))
    assert half_precision.dtype == torch.bfloat16
    assert half_precision.isfinite().all()


# --- Out to text and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_an_architecture_written_as_text_has_the_same_tensors(form: str) -> None:
    graph = space(form, "classification").graph
    values = random_values(graph, random.Random(8))
    pins = "\n".join(f"  {path}: {graph.decisions[path].describe(value)}" for path, value in values.indices.items())
    text = f'use "{form}.space"\nspace found = {form} with {{\n  task: classification\n{pins}\n}}\n'
    found = elaborate(Source(text, "found", spaces.path(form).parent / "found.space")).graph
    assert not found.decisions
    assert not found.requirements
    direct = pin(graph, values.indices)
    assert list(found.nodes) == list(direct.nodes)
    with no_data():
        one, other = Supernet(found).state_dict(), Supernet(direct).state_dict()
    assert {name: t.shape for name, t in one.items()} == {name: t.shape for name, t in other.items()}


def test_a_block_may_lose_every_unit() -> None:
    graph = space("hrnas_code").graph
    nothing: dict[str, Any] = dict.fromkeys(graph.decisions, ())
    pinned = pin(graph, nothing)
    assert not of_op(pinned, "mixconv")
    assert not of_op(pinned, "transformer")
    network = Supernet(pinned).eval()
    assert network(torch.randn(1, 3, 64, 64)).shape == (1, 19, 16, 16)
    assert torch_counts(pinned) == cost_of(graph, nothing)
