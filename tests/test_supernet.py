"""The supernet: one set of weights for every architecture, and a network taken out of it computes the same."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Mapping
from functools import cache

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasdsl import spaces
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.parse import read
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from tests.networks import largest

UNITS = """
space units {
  input 3 x 19 x 14
  network {
    stem: conv(8, kernel: 3, stride: 2)
    residual { mix: mixconv(8, hidden: { 3: units(6), 5: units(5) }) }
    residual { see: transformer(8, tokens: units(4), size: 4) }
    classify(classes: 3)
  }
}
"""

CHOICES = """
space choices {
  input 3 x 19 x 14
  let wide = oneof(8, 12, 16)
  operator body(out) {
    oneof(
      plain: conv(out, kernel: oneof(3, 5))
      mixed: mixconv(out, hidden: { 3: units(6), 5: oneof(4, 8) })
      same: identity()
    )
    repeat oneof(0..2) { residual { conv(out, kernel: oneof(1, 3), act: none) } }
  }
  network {
    stem: conv(wide, kernel: 3, stride: 2)
    body(wide)
    (se(1/4) if wide > 8 else identity())
    segment(classes: 4)
  }
}
"""

NORMS = """
space norms {
  input 3 x 19 x 14
  let wide = oneof(8, 12, 16)
  defaults { norm: group, norm_groups: oneof(2, 4), standardise: true }
  network {
    stem: conv(wide, kernel: 3, stride: 2)
    residual { mix: mixconv(wide, hidden: { 3: units(6) }) }
    repeat oneof(1, 2) { basic(wide, kernel: oneof(3, 5)) }
    conv(wide, kernel: 3, norm: oneof(none, group), standardise: oneof(true, false), order: [norm, act, conv])
    depthwise(kernel: oneof(3, 5)) -> norm() -> norm(frozen) -> norm(oneof(batch, none))
    conv(wide, norm: frozen, standardise: false) + skip(wide)
    segment(classes: 4)
  }
}
"""

TEXTS = {"units": UNITS, "choices": CHOICES, "norms": NORMS}


@cache
def graph_of(name: str) -> Graph:
    """Of a text above, or of a space that ships."""
    text = TEXTS.get(name)
    return elaborate(read(spaces.path(name)) if text is None else Source(text, name)).graph


NAMES = ("units", "choices", "norms", "tiny", "hrnas_small")


def image_for(graph: Graph, batch: int = 2) -> torch.Tensor:
    x = graph.input.shape
    return torch.randn(batch, x.channels, x.height, x.width)


def unsettled(network: Supernet) -> Supernet:
    """Norms as they are after training, so that a wrong slice shows."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            if tensor.dim() == 1 and tensor.dtype == torch.float32:
                tensor.uniform_(0.5, 1.5, generator=generator)
                if name.endswith(("bias", "running_mean")):
                    tensor.sub_(1)
    return network


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def check_same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def some(graph: Graph, **kept: tuple[int, ...]) -> Architecture:
    """The largest architecture with other units in those decisions whose path ends in a word."""
    return Architecture.of(
        graph,
        {
            path: next((units for word, units in kept.items() if word in path), value)
            for path, value in largest(graph).items()
        },
    )


# --- The contract -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_network_taken_out_computes_the_same(name: str) -> None:
    graph = graph_of(name)
    supernet = unsettled(Supernet(graph)).eval()
    image = image_for(graph)
    different = set()
    with torch.no_grad():
        for values in (largest(graph), *sample(graph, 6 if name == "hrnas_small" else 20, seed=1)):
            supernet.activate(values)
            whole, alone = supernet(image), supernet.extract(values)(image)
            assert (whole - alone).abs().max() < 1e-5
            different.add(whole.sum().item())
    assert len(different) > 5


@pytest.mark.parametrize("name", NAMES)
def test_a_network_taken_out_learns_the_same(name: str) -> None:
    """In training mode the outputs, the statistics and the gradients agree too; dropout is left out."""
    graph = graph_of(name)
    supernet = unsettled(Supernet(graph))
    for module in supernet.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    (values,) = sample(graph, 1, seed=2)
    network = supernet.extract(values)
    assert supernet.training
    assert network.training
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    supernet.activate(values)
    image = image_for(graph, batch=4)
    whole, alone = supernet(image), network(image)
    assert (whole - alone).abs().max() < 1e-4
    check_close(state(supernet.extract(values)), state(network))


def check_close(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_costs_are_what_torch_counts(name: str) -> None:
    graph = graph_of(name)
    for values in (largest(graph), *sample(graph, 3, seed=3)):
        network = Supernet(pin(graph, values.indices)).eval()
        with FlopCounterMode(display=False) as counter:
            network(image_for(graph, batch=1))
        counted = {"macs": counter.get_total_flops() // 2, "params": sum(p.numel() for p in network.parameters())}
        assert counted == cost_of(graph, values.indices)


@pytest.mark.parametrize("size", [(31, 27), (8, 8), (40, 33)])
def test_any_input_size_runs(size: tuple[int, int]) -> None:
    graph = graph_of("hrnas_small")
    supernet = unsettled(Supernet(graph)).eval()
    (values,) = sample(graph, 1, seed=4)
    supernet.activate(values)
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        assert (supernet(image) - supernet.extract()(image)).abs().max() < 1e-5


def test_formats_and_precisions() -> None:
    graph = graph_of("hrnas_small")
    supernet = unsettled(Supernet(graph)).eval()
    supernet.activate(sample(graph, 1, seed=5)[0])
    image = image_for(graph)
    with torch.no_grad():
        expected = supernet(image)
        supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = supernet(image.to(memory_format=torch.channels_last))
        assert (expected - last).abs().max() < 1e-4
        assert supernet.double()(image.double()).dtype == torch.float64
        low = supernet.to(torch.bfloat16)(image.to(torch.bfloat16))
    assert low.dtype == torch.bfloat16
    assert low.isfinite().all()


# --- Sharing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_activating_another_architecture_and_back_changes_nothing(name: str) -> None:
    graph = graph_of(name)
    supernet = unsettled(Supernet(graph)).eval()
    one, other = sample(graph, 2, seed=6)
    supernet.activate(one)
    before, image = state(supernet), image_for(graph)
    with torch.no_grad():
        expected = supernet(image)
        supernet.activate(other)
        supernet(image)
        supernet.activate(one)
        assert torch.equal(supernet(image), expected)
    check_same(before, state(supernet))


def test_two_architectures_share_their_weights() -> None:
    graph = graph_of("units")
    supernet = unsettled(Supernet(graph)).eval()
    everything = largest(graph)
    narrow = some(graph, hidden=(0, 2))
    weight = supernet.get_parameter("layers.mix.expand.weight")
    image = image_for(graph)
    outputs = []
    for values in (everything, narrow):
        supernet.activate(values)
        with torch.no_grad():
            outputs.append(supernet(image))
    with torch.no_grad():
        weight[2] += 1.0  # kernel 3, channel 2: both have it
    for values, before in zip((everything, narrow), outputs, strict=True):
        supernet.activate(values)
        with torch.no_grad():
            assert (supernet(image) - before).abs().max() > 1e-4


def test_a_step_of_one_architecture_moves_no_weight_of_another() -> None:
    graph = graph_of("units")
    supernet = unsettled(Supernet(graph))
    supernet.activate(some(graph, hidden=(1, 3), tokens=(0, 3)))
    supernet(image_for(graph)).square().sum().backward()
    grads = {name: p.grad for name, p in supernet.named_parameters()}
    expand = grads["layers.mix.expand.weight"]
    tokens = grads["layers.see.project.weight"]
    assert expand is not None
    assert tokens is not None
    kept = [1, 3, 6 + 1, 6 + 3]
    gone = [i for i in range(11) if i not in kept]
    assert expand[gone].abs().max() == 0
    assert all(expand[i].abs().max() > 0 for i in kept)
    assert tokens[[1, 2]].abs().max() == 0
    assert all(tokens[i].abs().max() > 0 for i in (0, 3))


def test_an_operator_that_is_not_active_gets_no_gradient() -> None:
    graph = graph_of("units")
    supernet = Supernet(graph)
    supernet.activate(some(graph, hidden=()))
    supernet(image_for(graph)).sum().backward()
    assert all(p.grad is None for name, p in supernet.named_parameters() if "mix" in name)
    assert all(p.grad is not None for name, p in supernet.named_parameters() if "see" in name)


def test_statistics_of_a_part_go_back_to_the_whole() -> None:
    graph = graph_of("units")
    supernet = unsettled(Supernet(graph))
    supernet.activate(some(graph, hidden=(0, 4)))
    norm = supernet.get_submodule("layers.mix.hidden_norm")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    means, variances = norm.running_mean.clone(), norm.running_var.clone()
    for _ in range(3):
        supernet(image_for(graph))
    kept = [0, 4, 6 + 0, 6 + 4]
    gone = [i for i in range(11) if i not in kept]
    for before, after in ((means, norm.running_mean), (variances, norm.running_var)):
        assert torch.equal(before[gone], after[gone])
        assert all(before[i] != after[i] for i in kept)
    assert norm.num_batches_tracked == 3


def test_statistics_are_left_alone_in_evaluation() -> None:
    graph = graph_of("hrnas_small")
    supernet = unsettled(Supernet(graph)).eval()
    supernet.activate(sample(graph, 1, seed=7)[0])
    before = state(supernet)
    supernet(image_for(graph))
    check_same(before, state(supernet))


def test_norms_that_are_set_by_hand_are_followed() -> None:
    """As recalibration does: the network in evaluation, its norms in training and averaging over all batches."""
    graph = graph_of("units")
    supernet = unsettled(Supernet(graph)).eval()
    supernet.activate(some(graph, hidden=(0, 4)))

    def renew(network: Supernet) -> None:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
                module.train()

    network = supernet.extract()
    renew(supernet)
    renew(network)
    with torch.no_grad():
        for image in (image_for(graph, batch=4), image_for(graph, batch=4)):
            supernet(image)
            network(image)
    means = supernet.get_buffer("layers.mix.hidden_norm.running_mean")
    assert means[[0, 4]].abs().min() > 0
    check_close(state(supernet.extract()), state(network))


# --- As a module ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_that_of_the_largest_network(name: str) -> None:
    graph = graph_of(name)
    supernet, other = Supernet(graph), Supernet(graph)
    supernet.activate(sample(graph, 1, seed=8)[0])
    assert state(supernet).keys() == state(other).keys()
    other.load_state_dict(supernet.state_dict())
    check_same(state(supernet), state(other))


def test_taking_out_copies_the_weights() -> None:
    graph = graph_of("units")
    supernet = Supernet(graph)
    before = state(supernet)
    network = supernet.extract(largest(graph))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    check_same(before, state(supernet))


def test_a_network_taken_out_has_the_mode_and_type_of_the_supernet() -> None:
    graph = graph_of("units")
    supernet = Supernet(graph).to(torch.float64)
    for training in (True, False):
        network = supernet.train(training).extract()
        assert all(module.training == training for module in network.modules())
        assert all(p.dtype == torch.float64 and p.requires_grad for p in network.parameters())


def test_a_copy_is_independent() -> None:
    """As an average of weights or a search's snapshot makes it, in the middle of training."""
    graph = graph_of("units")
    supernet = unsettled(Supernet(graph))
    supernet.activate(some(graph, hidden=(1, 3), tokens=(0, 3)))
    image = image_for(graph)
    supernet(image).sum().backward()
    twin = copy.deepcopy(supernet).eval()
    supernet.eval()
    with torch.no_grad():
        expected = supernet(image)
        assert torch.equal(twin(image), expected)
        for parameter in supernet.parameters():
            parameter.zero_()
        assert torch.equal(twin(image), expected)
        for parameter in twin.parameters():
            parameter.zero_()
        assert twin(image).abs().max() == 0


def test_a_supernet_can_be_sent_to_another_process() -> None:
    graph = graph_of("units")
    supernet = unsettled(Supernet(graph)).eval()
    supernet.activate(sample(graph, 1, seed=10)[0])
    twin = pickle.loads(pickle.dumps(supernet))
    image = image_for(graph)
    with torch.no_grad():
        assert torch.equal(twin(image), supernet(image))


def test_the_largest_has_every_unit_and_the_greatest_of_every_number() -> None:
    graph = graph_of("choices")
    values = largest_values(graph)
    assert graph.decisions["wide"].items[values["wide"]] == 16
    supernet = Supernet(graph)
    assert supernet(image_for(graph)).shape == (2, 4, 10, 7)


# --- Units taken away for good ----------------------------------------------------------------------------------------


def test_shrinking_keeps_what_the_kept_units_compute() -> None:
    graph = graph_of("hrnas_small")
    supernet = unsettled(Supernet(graph)).eval()
    rng = random.Random(9)
    kept = {
        path: tuple(sorted(rng.sample(range(d.n), rng.choice((0, d.n // 2, d.n - 1)))))
        for path, d in graph.decisions.items()
    }
    image = image_for(graph)
    with torch.no_grad():
        supernet.activate(kept)
        expected = supernet(image)
        before = state(supernet)
        surgery = supernet.shrink(kept)
        assert (supernet(image) - expected).abs().max() < 1e-5
    after = state(supernet)
    assert set(before) - set(after) == set(surgery.removed)
    assert sum(p.numel() for p in supernet.parameters()) == cost_of(graph, kept)["params"]
