"""Every space that ships is sound: it checks, counts, costs, builds, runs, and is written as `nasdsl fmt` would.

A few random networks of each are checked against torch here; NASDSL_NETWORKS=500 checks so many.
"""

from __future__ import annotations

import math
import os

import pytest
import torch

from nasdsl import spaces
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.count import count
from nasdsl.compiler.engine.limits import TooWide
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.largest import largest_values
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.population import extremes_of
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.unparse import unparse
from nasdsl.files import names_in
from nasdsl.runtime.recipes import with_recipe
from nasdsl.runtime.settings import read_settings
from nasdsl.runtime.strategies import STRATEGIES
from tests import shipped
from tests.networks import size_of, supernet_of, tensors_of, torch_macs
from tests.shipped import space

NETWORKS = int(os.environ.get("NASDSL_NETWORKS", "2"))
HEAVY = 3e7 if NETWORKS < 10 else math.inf
"""Supernets of more parameters are not built in a short run; the spaces' own tests take networks out of them."""
TANGLED = {"regnet", "anynet_c", "anynet_e", "spinenet", "spinenet_proxy", "spinenet_small"}
"""Searchable spaces that are too tangled for exact costs; to find that out takes long, so the first alone is asked."""
LARGE = {"hrnas", "hrnas_code", "spinenet", "efficientdet", "autodeeplab", "hitdetector"}
"""Whose networks take long to run; small variants and tests of their own have their operators, too."""
REGIONS = 8
"""Of a detector's proposals: the heads work on each."""


def defined(file: str) -> list[str]:
    """The spaces that a file defines itself."""
    return names_in(read(spaces.path(file)))


EVERY = [
    pytest.param(file, name, marks=pytest.mark.long if file == "spinenet" != name else ())  # seconds each to elaborate
    for file in spaces.names()
    for name in defined(file)
]
FIRST = [(file, defined(file)[0]) for file in spaces.names()]


def small(file: str, name: str) -> Graph:
    """The space at an input, or two to choose from, that runs in no time, and with few regions."""
    made = space(file, name)
    x = made.graph.input.shape
    changes = []
    if not isinstance(x.height, int):
        changes.append(f"input oneof({x.channels} x 64 x 64, {x.channels} x 96 x 128)")
    elif x.height > 64 and x.width > 64:
        changes.append(f"input {x.channels} x 64 x 64")
    if "rois" in made.params:
        changes.append(f"rois: {REGIONS}")
    if not changes:
        return made.graph
    return shipped.graph(file, name, ", ".join(changes))


def test_names_are_the_files() -> None:
    assert "tiny" in spaces.names()
    assert list(spaces.names()) == sorted(spaces.names())
    for name in spaces.names():
        assert spaces.path(name).is_file()
        assert spaces.read(name) == spaces.path(name).read_text(encoding="utf-8")
    for other in ("nothing", "../spaces/tiny", ""):
        with pytest.raises(KeyError):
            spaces.path(other)


@pytest.mark.parametrize("file", spaces.names())
def test_the_layout_is_canonical(file: str) -> None:
    text = spaces.read(file)
    assert unparse(parse(Source(text, file))) == text


@pytest.mark.parametrize("file", spaces.names())
def test_the_first_space_goes_by_the_name_of_its_file(file: str) -> None:
    assert defined(file)[0] == file


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_it_checks(file: str, name: str) -> None:
    made = space(file, name)
    assert made.name == name
    assert not made.warnings
    assert bool(made.graph.decisions) == (name == file or not made.pins.keys() >= made.graph.decisions.keys())


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_settings_of_its_search_are_understood(file: str, name: str) -> None:
    section = space(file, name).sections.get("search")
    if section is None:
        return
    entries = dict(section.entries)
    assert section.name in STRATEGIES
    if "train" in entries:
        entries["train"] = with_recipe(entries["train"])
    read_settings(STRATEGIES[section.name].settings, entries, section.spans, section.name)


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_it_counts(file: str, name: str) -> None:
    graph = space(file, name).graph
    assert (count(graph).total > 1) == bool(graph.decisions)


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_its_extremes_are_attained(file: str, name: str) -> None:
    graph = space(file, name).graph
    if name in TANGLED:
        if name == min(TANGLED):
            with pytest.raises(TooWide):
                extremes_of(graph)
        return
    for measure, (low, high) in extremes_of(graph).items():
        assert low.proven and high.proven
        assert 0 < low.cost <= high.cost
        assert (low.cost < high.cost) == bool(graph.decisions)
        for end in (low, high):
            assert cost_of(graph, end.architecture.indices)[measure] == end.cost


@pytest.mark.parametrize(("file", "name"), EVERY)
def test_a_random_architecture_goes_out_and_comes_back(file: str, name: str) -> None:
    graph = space(file, name).graph
    numbering = Numbering(graph)
    (found,) = numbering.draws(1, seed=1)
    assert not found.violations(graph)
    assert numbering.unrank(numbering.rank(found)) == found
    assert Architecture.of(graph, found.to_json()) == found
    pinned = pin(graph, found.indices)
    assert not pinned.decisions
    assert cost_of(pinned, {}) == cost_of(graph, found.indices)


@pytest.mark.parametrize(("file", "name"), FIRST)
def test_a_random_architecture_written_as_text_is_the_same(file: str, name: str) -> None:
    graph = space(file, name).graph
    (found,) = Numbering(graph).draws(1, seed=2)
    pins = "\n".join(f"  {path}: {graph.decisions[path].describe(value)}" for path, value in found.indices.items())
    text = f'use "{file}.space"\nspace written = {name} with {{\n{pins}\n}}\n'
    made = elaborate(Source(text, "written", spaces.path(file).parent / "written.space")).graph
    assert not made.decisions
    assert made.nodes == pin(graph, found.indices).nodes


@pytest.mark.parametrize(
    ("file", "name"), [pytest.param(*one, marks=pytest.mark.long if one[0] in LARGE else ()) for one in FIRST]
)
def test_networks_are_what_was_predicted(file: str, name: str) -> None:
    """Shape, parameters and MACs of random architectures are those that torch counts on the network taken out of the
    supernet, which computes what the supernet does."""
    graph = small(file, name)
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in Supernet(graph).parameters())
    supernet = unsettled(supernet_of(graph)) if weights < HEAVY else None
    for found in Numbering(graph).draws(NETWORKS, seed=3):
        pinned = pin(graph, found.indices)
        network = supernet_of(pinned) if supernet is None else supernet.extract(found)
        x = pinned.input.shape
        image = torch.rand(1, x.channels, x.height, x.width, generator=torch.Generator().manual_seed(1))
        macs, out = torch_macs(network, image)
        assert cost_of(graph, found.indices) == {
            "macs": macs,
            "params": sum(parameter.numel() for parameter in network.parameters()),
        }
        y = pinned.nodes[pinned.outputs[0]].shape
        size = (y.channels,) if y.height is None else (y.channels, y.height, y.width)
        assert size_of(out) == (y.items, *size)
        if supernet is not None:
            supernet.activate(found)
            with torch.no_grad():
                whole = supernet(image)
            for one, other in zip(tensors_of(whole), tensors_of(out), strict=True):
                assert (one - other).abs().max() <= 1e-5 * max(1.0, other.abs().max().item())


def unsettled(network: Supernet) -> Supernet:
    """Norms as they are after training, so that a wrong slice shows, and scales that keep deep networks in range."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            if tensor.dim() == 1 and tensor.dtype == torch.float32:
                tensor.uniform_(0.7, 1.3, generator=generator)
                if name.endswith(("bias", "running_mean")):
                    tensor.sub_(1)
    return network


def test_tiny_is_small_and_learns() -> None:
    """A few steps on a batch of noise with labels: enough to see that gradients reach everything."""
    graph = space("tiny", "tiny").graph
    assert len(spaces.read("tiny").splitlines()) <= 20
    assert cost_of(graph, largest_values(graph))["macs"] < 2e6
    torch.manual_seed(0)
    network = Supernet(graph)
    image, label = torch.randn(20, 1, 16, 16), torch.arange(20) % 10
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(image), label)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
