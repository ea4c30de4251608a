"""The relaxed supernet: at one architecture what the activated one computes, between them what a plain mixture does.

To relax more random programs, set NASDSL_EXAMPLES.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import nasdsl
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.diagnostics import ArgumentError, CompileError
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.layers.mixture import mixed, passed
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.relaxed import Relaxed
from nasdsl.compiler.sample import sample
from nasdsl.compiler.source import Source
from nasdsl.compiler.supernet import SUM, adds_up, key_of
from tests import shipped
from tests.networks import image_for, targets_for, tensors_of, unsettle
from tests.oracle.generate import program
from tests.test_gates import conditional

PROGRAMS = int(os.environ.get("NASDSL_EXAMPLES", "40"))


def loads(body: str, shape: str = "3 x 8 x 8") -> Graph:
    return nasdsl.loads(f"space made {{\n  input {shape}\n{body}\n}}\n").graph


def relaxed(graph: Graph, double: bool = False) -> Relaxed:
    torch.manual_seed(0)
    network = Relaxed(graph)
    unsettle(network)
    return network.double() if double else network


def at(network: Relaxed, architecture: Architecture, elsewhere: float = 0.0) -> dict[str, torch.Tensor]:
    """All weight on one architecture; of decisions that it does not have, on their first value."""
    like = next(network.parameters())
    weights = {}
    for path, values in network.gates.values.items():
        own = architecture.indices.get(path, values[0])
        weights[path] = like.new_tensor([1.0 if value == own else elsewhere for value in values])
    return weights


def close(found: Any, expected: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    for one, other in zip(tensors_of(found), tensors_of(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


def check_vertices(graph: Graph, x: torch.Tensor, n: int = 3, open_too: bool = True) -> None:
    """One path, and all options of which the others weigh next to nothing, against what is activated."""
    network = relaxed(graph).eval()
    for one in sample(graph, n, seed=1):
        network.activate(one)
        with torch.no_grad():
            expected = network(x)
            network.relax(at(network, one))
            close(network(x), expected, 0, 0)
            if open_too:
                network.relax(at(network, one, elsewhere=1e-30))
                close(network(x), expected)
            network.relax(None)
            close(network(x), expected, 0, 0)


# --- At one architecture ----------------------------------------------------------------------------------------------

SHIPPED = {
    "nasbench201": ("nasbench201", "nasbench201", "cells: 1", 32),
    "darts": ("darts", "darts", "width: 4", 32),
    "ofa_mobilenetv3": ("ofa_mobilenetv3", "ofa_mobilenetv3", "", 64),
    "trionet_small": ("trionet_small", "trionet_small", "", 32),
    "autofpn_small": ("autofpn_small", "autofpn_small", "", None),
    "hitdetector_small": ("hitdetector_small", "hitdetector_small", "", None),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_space_that_ships_relaxed_at_an_architecture_is_that_architecture(name: str) -> None:
    file, space, changes, size = SHIPPED[name]
    graph = shipped.graph(file, space, changes)
    shape = graph.input.shape
    height, width = (size, size) if size else (int(shape.height), int(shape.width))
    x = torch.randn(1, int(shape.channels), height, width, generator=torch.Generator().manual_seed(0))
    check_vertices(graph, x, 2)


MADE = {
    "choices of choices": """
        network {
          conv(4)
          oneof(
            a: conv(4)
            b: { conv(8) -> oneof(c: conv(4, kernel: 3), d: skip(4), e: oneof(f: conv(4), g: conv(4, kernel: 5))) }
            none
          ) + identity()
          classify(2)
        }
    """,
    "edges that may be absent, chosen by subsets": """
        fusion edges { same: oneof(c: conv(8, order: [act, conv, norm]), avg: avg_pool(3), none), merge: sum() }
        operator nodes() {
          n0: identity()
          n1: conv(8)
          n2: fuse(edges, from: manyof(1, earlier))
          n3: fuse(edges, from: manyof(2, earlier))
        }
        network { conv(8) -> nodes() + identity() -> classify(2) }
    """,
    "an operator used twice decides once": """
        operator block() = oneof(a: conv(8, kernel: oneof(1, 3)), b: depthwise(kernel: oneof(3, 5)), c: identity())
        network {
          conv(8)
          let b = block()
          b -> b -> b
          classify(2)
        }
    """,
    "depth": """
        network {
          conv(8)
          repeat oneof(1..3) { residual { conv(oneof(4, 8), kernel: oneof(1, 3)) -> conv(8, act: none) } }
          repeat oneof(0..2) { oneof(a: conv(8), none) + identity() }
          classify(2)
        }
    """,
    "widths, kernels and squeeze-excite": """
        network {
          conv(oneof(4, 8), kernel: oneof(1, 3, 5))
          let e = oneof(2, 3)
          conv(8 * e) -> depthwise(kernel: oneof(3, 5, 7), act: swish) -> se(ratio: oneof(1/4, 1/2)) -> conv(8)
          conv(oneof(4, 8), norm: none) -> norm() -> relu() -> max_pool(3)
          global_pool() -> linear(oneof(4, 6)) -> linear(2, act: none)
        }
    """,
    "a norm in front": """
        network {
          conv(oneof(4, 8))
          conv(oneof(4, 8), order: [norm, act, conv]) -> depthwise(order: [norm, act, conv])
          conv(oneof(4, 8), kernel: 3, order: [norm, conv, act])
          classify(2)
        }
    """,
    "functions of which zero is not zero": """
        network {
          conv(oneof(4, 8), act: sigmoid) -> sigmoid() -> conv(oneof(4, 8), order: [act, conv, norm], act: sigmoid)
          conv(4, act: oneof(relu, sigmoid, swish)) -> h_sigmoid()
          classify(2)
        }
    """,
    "concat behind widths": """
        network {
          conv(8)
          concat(conv(oneof(4, 8)), conv(oneof(2, 4)), identity())
          conv(8, kernel: 3)
          concat(oneof(a: conv(4), b: identity()), conv(oneof(2, 4)))
          classify(2)
        }
    """,
    "group norm, groups, standardised filters": """
        network {
          conv(oneof(8, 16), norm: group, norm_groups: 4)
          conv(16, groups: oneof(1, 2, 4), kernel: 3)
          conv(oneof(8, 16), standardise: true)
          conv(16, norm: oneof(none, batch))
          let w = oneof(8, 16)
          conv(w) -> conv(16, groups: w, kernel: 3) -> conv(w, groups: w)
          classify(2)
        }
    """,
    "attention": """
        network {
          conv(16)
          oneof(a: axial_attention(16, heads: 2), b: conv(16, kernel: 3))
          local_attention(oneof(8, 16), window: oneof(3, 5), heads: 4)
          classify(2)
        }
    """,
    "pooling and maps of two sizes": """
        network {
          conv(8)
          avg_pool(oneof(2, 3)) + conv(8)
          max_pool(oneof(1, 3, 5))
          concat(
            oneof(a: identity(), b: conv(8, kernel: 3))
            { conv(8, stride: 2) -> oneof(c: conv(8), d: identity()) }
          )
          dropout(oneof(0, 1/2))
          classify(2, dropout: 1/4)
        }
    """,
    "widths that are tied by a requirement": """
        network {
          let a = oneof(4, 8)
          let b = oneof(4, 8)
          require a == b
          conv(8)
          conv(a) + conv(b, kernel: 3)
          conv(8)
          classify(2)
        }
    """,
    "skips between widths": """
        network {
          conv(oneof(4, 12, 16)) -> skip(8) -> conv(oneof(8, 16)) -> skip(16) -> mean()
          flatten() -> linear(oneof(4, 8)) -> linear(2)
        }
    """,
}


@pytest.mark.parametrize("name", MADE)
def test_a_program_relaxed_at_an_architecture_is_that_architecture(name: str) -> None:
    graph = loads(MADE[name])
    check_vertices(graph, image_for(graph, 2), 8)


def test_random_programs_relaxed_at_an_architecture_are_that_architecture() -> None:
    """As many as asked for of those that can be relaxed, and most of these with all options open."""
    rng, done, mixtures, seed = Random(0), 0, 0, 0
    while done < PROGRAMS:
        seed += 1
        text = program(Random(seed))
        try:
            graph = elaborate(Source(text), "s").graph
            network = relaxed(graph).eval()
        except (nasdsl.CompileError, nasdsl.NasdslError):
            continue
        if not graph.decisions:
            continue
        done += 1
        try:
            one = sample(graph, 1, seed=rng.randrange(1000))[0]
        except nasdsl.NasdslError:
            continue
        x = image_for(pin(graph, one.indices), 2)
        with torch.no_grad():
            network.activate(one)
            expected = network(x)
            network.relax(at(network, one))
            close(network(x), expected, 0, 0)
            try:
                network.relax(at(network, one, elsewhere=1e-30))
            except CompileError as problem:
                assert problem.diagnostics[0].code == "unrelaxable", text
                continue
            mixtures += 1
            try:
                close(network(x), expected, 1e-4, 1e-5)
            except (AssertionError, RuntimeError, KeyError) as problem:
                raise AssertionError(f"seed {seed}: {problem}\n{text}\n{one.to_json()}") from problem
    assert mixtures > PROGRAMS / 3


# --- Between architectures --------------------------------------------------------------------------------------------


def random_logits(network: Relaxed, seed: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        path: torch.randn(len(values), generator=generator, dtype=torch.float64).requires_grad_()
        for path, values in network.gates.values.items()
    }


def layers_of(network: Relaxed, *names: str) -> list[Any]:
    return [network.layers[name] for name in names]


def plain_mixture(network: Relaxed, p: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Node by node: selections and sums are sums of products, with gates by enumeration. No parameter is chosen."""
    graph = network.graph
    made: dict[str, torch.Tensor] = {}
    for node in graph.nodes.values():
        inputs = [made[edge.source] for edge in node.inputs]
        if node.kind == "input":
            made[node.name] = x
        elif node.kind == "output":
            return inputs[0]
        elif adds_up(node):
            gates = [conditional(graph, p, edge.when, node.reached) for edge in node.inputs]
            made[node.name] = sum(gate * one for gate, one in zip(gates, inputs, strict=True))  # type: ignore[assignment]
        else:
            made[node.name] = network.layers[key_of(node.weight)](*inputs)
    raise AssertionError


MIXTURES = {
    "choices of choices": MADE["choices of choices"],
    "edges that may be absent, one cell used twice": """
        fusion edges { same: oneof(c: conv(8, order: [act, conv, norm]), avg: avg_pool(3), none), merge: sum() }
        operator nodes() {
          n0: identity()
          n1: conv(8)
          n2: fuse(edges, from: manyof(1, earlier))
        }
        network {
          conv(8)
          let cell = nodes()
          { cell + identity() } -> { cell + identity() }
          classify(2)
        }
    """,
    "depth": """
        network {
          conv(4)
          repeat oneof(1..3) { residual { conv(4, kernel: 3) } }
          repeat oneof(0..2) { oneof(a: conv(4), none) + identity() }
          classify(2)
        }
    """,
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_and_its_gradients_are_those_of_plain_sums(name: str, training: bool) -> None:
    graph = loads(MIXTURES[name])
    network = relaxed(graph, double=True).train(training)
    x = image_for(graph, 3).double()
    logits = random_logits(network)
    found = []
    for plain in (False, True):
        p = {path: one.softmax(0) for path, one in logits.items()}
        network.relax(p)
        made = plain_mixture(network, p, x) if plain else network(x)
        loss = (made * torch.arange(1.0, made.numel() + 1).view_as(made)).square().sum()
        wanted = [*logits.values(), *network.parameters()]
        found.append((made, *torch.autograd.grad(loss, wanted, materialize_grads=True)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)
    assert all(grad.any() for grad in found[0][1 : 1 + len(logits)])


def test_widths_and_kernels_are_masks_of_one_weight() -> None:
    """FBNetV2 paper: outputs times a mixture of masks; Single-Path NAS paper: the inner kernel, and the outer ring."""
    graph = loads(
        "network { conv(oneof(4, 8), kernel: oneof(1, 3)) -> depthwise(kernel: oneof(3, 5), act: swish) -> conv(6)"
        " -> se(hidden: oneof(2, 4)) -> global_pool() -> linear(2, act: none) }"
    )
    network = relaxed(graph, double=True).eval()
    x = image_for(graph, 3).double()
    logits = random_logits(network)
    p = {path: one.softmax(0) for path, one in logits.items()}
    network.relax(p)
    found = network(x)
    first, deep, last, se, head = layers_of(network, "conv[0]", "depthwise", "conv[1]", "se", "linear")

    def ring(sizes: tuple[int, int], shares: torch.Tensor) -> torch.Tensor:
        inner = F.pad(torch.ones(sizes[0], sizes[0], dtype=torch.float64), [(sizes[1] - sizes[0]) // 2] * 4)
        return shares[0] * inner + shares[1]

    def normed(z: torch.Tensor, norm: Any, mask: torch.Tensor | float) -> torch.Tensor:
        scaled = (z - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
        return scaled * (norm.weight * mask)[:, None, None] + (norm.bias * mask)[:, None, None]

    width = torch.tensor([1.0] * 4 + [0.0] * 4, dtype=torch.float64) * p["conv[0].out"][0] + p["conv[0].out"][1]
    z = F.conv2d(x, first.conv.weight * width[:, None, None, None] * ring((1, 3), p["conv[0].kernel"]), padding=1)
    z = normed(z, first.norm, width).relu()
    weight = deep.conv.weight * width[:, None, None, None] * ring((3, 5), p["depthwise.kernel"])
    z = F.silu(normed(F.conv2d(z, weight, padding=2, groups=8), deep.norm, width))
    z = normed(F.conv2d(z, last.conv.weight), last.norm, 1.0).relu()
    hidden = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64) * p["se.hidden"][0] + p["se.hidden"][1]
    h = F.conv2d(z.mean((2, 3), keepdim=True), se.reduce.weight * hidden[:, None, None, None], se.reduce.bias * hidden)
    z = z * F.conv2d(h.relu(), se.expand.weight * hidden[None, :, None, None], se.expand.bias).sigmoid()
    expected = head.linear(z.mean((2, 3)))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    wanted = [*logits.values(), *network.parameters()]
    ours, theirs = (torch.autograd.grad(one.square().sum(), wanted, retain_graph=True) for one in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_other_operators_are_sums_over_their_settings() -> None:
    graph = loads(
        "network { conv(8) -> max_pool(oneof(1, 3)) -> conv(8, norm: group, norm_groups: oneof(2, 4)) -> "
        "conv(4, act: oneof(relu, sigmoid)) -> classify(2) }"
    )
    network = relaxed(graph, double=True).eval()
    x = image_for(graph, 3).double()
    p = {path: one.softmax(0) for path, one in random_logits(network).items()}
    network.relax(p)
    pool, groups, act = p.values()
    first, second, third, head = layers_of(network, "conv[0]", "conv[1]", "conv[2]", "classify")
    z = first(x)
    z = second.conv(pool[0] * z + pool[1] * F.max_pool2d(z, 3, 1, 1))
    norm = second.norm
    normed = [F.group_norm(z, n, norm.weight, norm.bias, norm.eps).relu() for n in (2, 4)]
    z = third.norm(third.conv(groups[0] * normed[0] + groups[1] * normed[1]))
    z = act[0] * z.relu() + act[1] * z.sigmoid()
    torch.testing.assert_close(network(x), head(z), rtol=1e-9, atol=1e-10)


def test_a_mixture_has_the_gradients_of_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(2, n, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True) for n in (4, 2, 4))
    v, w = (torch.randn((), generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    padded = torch.cat([b, torch.zeros(2, 2, 3, 3, dtype=torch.float64)], 1)
    torch.testing.assert_close(mixed([a, b, c], [v, w, None]), v * a + w * padded + c)
    torch.testing.assert_close(mixed([c, b], [None, w]), c + w * padded)
    assert torch.autograd.gradcheck(lambda *given: mixed(given[:3], [*given[3:], None]), (a, b, c, v, w))
    assert torch.autograd.gradcheck(lambda a, v: mixed([a.transpose(2, 3), a], [v, v]), (a, v))
    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    assert torch.equal(passed(a, one), a)
    out = torch.autograd.grad((passed(a, one) * c).sum(), (a, one))
    torch.testing.assert_close(out, (c, (a * c).sum()))


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_a_mixture_of_precisions_has_the_higher_one(dtypes: tuple[torch.dtype, ...]) -> None:
    xs = [torch.randn(2, 3, 4, 4).to(dtype).requires_grad_() for dtype in dtypes]
    weights = torch.tensor([0.25, 0.75], requires_grad=True)
    out = mixed(xs, weights.unbind())
    assert out.dtype == torch.float32
    out.sum().backward()
    assert [x.grad.dtype for x in xs if x.grad is not None] == list(dtypes)
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, torch.stack([x.float().sum() for x in xs]), rtol=1e-3, atol=1e-3)


# --- One path at a time -----------------------------------------------------------------------------------------------


def test_one_path_gives_gates_their_gradients_and_runs_nothing_else() -> None:
    graph = loads("""
        network {
          conv(4)
          oneof(a: conv(4), b: conv(4, kernel: 3), c: oneof(d: conv(4, kernel: 5), e: avg_pool(3)))
          oneof(f: conv(4), none) + oneof(g: conv(4, kernel: 3), h: avg_pool(3))
          conv(4, kernel: oneof(1, 3))
          classify(2)
        }
    """)
    network = relaxed(graph, double=True).eval()
    x = image_for(graph, 2).double()
    calls: list[str] = []
    outputs: dict[str, torch.Tensor] = {}

    def seen(name: str, output: torch.Tensor) -> None:
        calls.append(name)
        outputs[name] = output

    for name, layer in network.layers.items():
        if name != SUM:
            layer.register_forward_hook(lambda module, inputs, output, name=name: seen(name, output))
    checked = 0
    for architecture in sample(graph, 6, seed=2):
        network.activate(architecture)
        calls.clear()
        expected = network(x)
        activated = list(calls)
        p = {path: one.requires_grad_() for path, one in at(network, architecture).items()}
        network.relax(p)
        calls.clear()
        outputs.clear()
        found = network(x)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert calls == activated
        loss = found.square().sum()
        found_grads = torch.autograd.grad(loss, list(p.values()), retain_graph=True, materialize_grads=True)
        grads = dict(zip(p, found_grads, strict=True))
        for path, value in architecture.indices.items():
            place = network.gates.values[path].index(value)
            others = torch.cat([grads[path][:place], grads[path][place + 1 :]])
            assert not others.any(), "an option that is not run has no gradient"
            start = f"{path}.{architecture.to_json()[path]}".replace(".", "/")
            for name in [name for name in outputs if name.startswith(start)]:
                (by_output,) = torch.autograd.grad(loss, outputs[name], retain_graph=True)
                torch.testing.assert_close(grads[path][place], (by_output * outputs[name]).sum())
                checked += 1
    assert checked > 10


def test_one_path_without_gradients_is_the_architecture_alone() -> None:
    graph = shipped.graph("hitdetector_small")
    network = relaxed(graph)
    (one,) = sample(graph, 1, seed=0)
    network.activate(one)
    steps = len(network.steps)
    network.relax(at(network, one))
    assert len(network.steps) == steps
    network.relax(None)
    assert network.active == one


# --- Detectors in training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "is_open"), [("autofpn_small", True), ("hitdetector_small", False)])
def test_losses_of_a_detector_are_those_of_the_architecture(name: str, is_open: bool) -> None:
    graph = shipped.graph(name)
    network = relaxed(graph).train()
    x, targets = image_for(graph, 2), targets_for(graph)
    (one,) = sample(graph, 1, seed=4)
    state = {key: value.clone() for key, value in network.state_dict().items()}

    def losses(weights: dict[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
        network.load_state_dict(state)
        torch.manual_seed(5)
        if weights is None:
            network.activate(one)
        else:
            network.relax(weights)
        assert network.reads_scene
        made: dict[str, torch.Tensor] = network(x, targets)
        return made

    expected = losses(None)
    assert len(expected) >= 4
    for weights, tolerance in ((at(network, one), 0.0), (at(network, one, elsewhere=1e-30), 1e-4))[: 1 + is_open]:
        found = losses({path: weight.requires_grad_() for path, weight in weights.items()})
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=tolerance, atol=tolerance)
        grads = torch.autograd.grad(sum(found.values()), list(weights.values()), allow_unused=True)  # type: ignore[arg-type]
        assert sum(grad is not None and bool(grad.any()) for grad in grads) > len(one.indices) / 2


# --- What cannot be a mixture -----------------------------------------------------------------------------------------

REFUSED = {
    "which of its inputs are there": (
        "conv(4) -> concat(conv(4), oneof(a: conv(4), none)) -> conv(4) -> classify(2)",
        "`concat` cannot be a mixture: it decides which of its inputs are there at `concat`",
        "oneof(a: conv(4), none)",
    ),
    "the size of a map": (
        "conv(4, stride: oneof(1, 2)) -> classify(2)",
        "`conv.stride` cannot be a mixture: it decides the size of what it gives at `conv`",
        "oneof(1, 2)",
    ),
    "too many together": (
        "conv(4) -> concat(" + ", ".join("conv(oneof(1..9))" for _ in range(4)) + ") -> conv(4) -> classify(2)",
        "`concat.out` cannot be a mixture: it decides with 3 others how `concat` is run",
        "oneof(1..9)",
    ),
    "search units": (
        "mixconv(8, hidden: { 3: units(8) }) -> classify(2)",
        "`mixconv.hidden[3]` cannot be relaxed: it is search units, "
        "and each set of them would need a probability of its own",
        "units(8)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_a_mixture_is_told_with_what_to_do(what: str) -> None:
    body, message, where = REFUSED[what]
    graph = loads(f"network {{ {body} }}")
    with pytest.raises(CompileError) as refused:
        network = Relaxed(graph)
        network.relax({path: torch.ones(len(values)) for path, values in network.gates.values.items()})
    (told,) = refused.value.diagnostics
    assert (told.code, told.message) == ("unrelaxable", message)
    assert told.span is not None and told.span.text == where
    assert "pin it with `with { ... }`" in told.help and "another search" in told.help
    if "relaxed" not in message:
        assert "one path at a time" in told.help
        for one in sample(graph, 3, seed=0):
            network.relax(at(network, one))
            network(image_for(graph, 2))


def test_weights_that_mean_nothing_are_told() -> None:
    graph = loads("network { conv(4) -> oneof(a: conv(4), b: oneof(c: conv(4), d: conv(4))) -> classify(2) }")
    network = Relaxed(graph)
    good = at(network, sample(graph, 1, seed=0)[0])
    for path, wrong, message in (
        ("oneof", None, "`oneof` has no weights"),
        ("oneof", torch.ones(3), r"`oneof` has 2 values, and not \[3\] weights"),
        ("oneof.b", torch.zeros(2), r"no value of `oneof.b` counts"),
    ):
        weights = {**good, path: wrong} if wrong is not None else {"oneof.b": good["oneof.b"]}
        with pytest.raises(ArgumentError, match=message):
            network.relax(weights)
