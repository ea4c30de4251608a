"""Heads in the middle of a network: their loss by hand, searches, and all else as if they were not there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nasdsl.compiler import measures
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.arrays.encoding import Encoding
from nasdsl.compiler.arrays.identity import fingerprints
from nasdsl.compiler.cost import cost_of, node_term
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.evaluated import evaluated
from nasdsl.compiler.layers.auxiliary import Sided
from nasdsl.compiler.measured import measured
from nasdsl.compiler.parse import read
from nasdsl.compiler.pin import pin
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.relaxed import Relaxed
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.compiler.structure import structure
from nasdsl.compiler.supernet import Supernet
from nasdsl.compiler.write import expanded
from nasdsl.runtime.checkpoint import load_weights
from nasdsl.runtime.data.layouts import KeypointLayout
from nasdsl.runtime.export import batch_to_compare, export_python
from nasdsl.runtime.fit import train
from nasdsl.runtime.latency import profile
from nasdsl.runtime.penalty import Penalty
from nasdsl.runtime.search import Options
from nasdsl.runtime.strategies.sample import OneShot, distillation
from nasdsl.runtime.tasks import Classification, Keypoints, Segmentation, loss_of
from nasdsl.runtime.tasks.heatmaps import encode
from tests.test_relaxed import at
from tests.test_search import run

SIDE = "auxiliary(weight: 0.4) { conv(oneof(4, 6), kernel: 3) -> classify(classes) }"
SPACE = """
space small {
  input 1 x 12 x 12
  param classes = 3
  network {
    stem: conv(8, kernel: 3, stride: 2)
    SIDE
    stage: repeat oneof(1, 2) { conv(8, kernel: oneof(1, 3)) }
    classify(classes)
  }
  search sample { candidates: 2, follow: [], train: TRAIN }
  train { epochs: 1, batch: 16, recalibrate: 0 }
}
""".replace("TRAIN", "{ epochs: 1, batch: 16, recalibrate: 1, ema: { decay: 0.9 } }")


def made(text: str = SPACE, side: str = SIDE, name: str | None = None) -> Space:
    return elaborate(Source(text.replace("SIDE", side)), name)


def network_in(body: str, size: str = "1 x 12 x 12", pins: dict[str, Any] | None = None) -> Supernet:
    space = elaborate(Source(f"space s {{ input {size}\n network {{\n{body}\n}} }}"))
    torch.manual_seed(0)
    return Supernet(pin(space.graph, pins or {}))


def taken(network: Supernet, other: Supernet, renamed: dict[str, str] | None = None) -> Supernet:
    """A network with the weights that another has under the same names, or others."""
    state, names = other.state_dict(), renamed or {}

    def source(name: str) -> str:
        start, key, rest = name.split(".", 2)
        return f"{start}.{names.get(key, key)}.{rest}"

    network.load_state_dict({name: state[source(name)] for name in network.state_dict()})
    return network


def gradients(network: Supernet) -> dict[str, Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def everything(space: Space) -> list[Architecture]:
    numbering = Numbering(space.graph)
    return [numbering.unrank(number) for number in range(numbering.total)]


def images(*size: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(3))


# --- The loss ---------------------------------------------------------------------------------------------------------


def test_the_loss_of_a_side_is_added_times_its_weight() -> None:
    """Against two plain networks with the same weights: the network without its side, and the way to the side's end."""
    start, side, rest = "a: conv(6, kernel: 3, stride: 2)", "b: conv(4)\n c: classify(3)", "d: conv(5)\n e: classify(3)"
    whole = network_in(f"{start}\n auxiliary(weight: 0.4) {{ {side} }}\n {rest}").train()
    main = taken(network_in(f"{start}\n {rest}"), whole).train()
    beside = taken(network_in(f"{start}\n {side}"), whole, {"b": "auxiliary/b", "c": "auxiliary/c"}).train()
    x, labels = images(6, 1, 12, 12), torch.arange(6) % 3
    outputs = whole(x)
    assert isinstance(outputs, Sided) and [side.weight for side in outputs.sides] == [0.4]
    loss = loss_of(Classification(3), outputs, labels)
    expected = F.cross_entropy(main(x), labels) + 0.4 * F.cross_entropy(beside(x), labels)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    shared = {"layers.a.conv.weight", "layers.a.norm.weight", "layers.a.norm.bias"}
    own, others = gradients(main), gradients(beside)
    assert own.keys() & others.keys() == shared
    for name, grad in gradients(whole).items():
        name = name.replace("auxiliary/", "")
        torch.testing.assert_close(grad, sum(found[name] for found in (own, others) if name in found))
    plain = main(x)
    assert loss_of(Classification(3), plain, labels) == F.cross_entropy(plain, labels)


def test_several_sides_and_one_inside_another() -> None:
    inner = "auxiliary(weight: 1/2) { classify(3) }\n conv(4)\n classify(3)"
    network = network_in(
        f"conv(4)\n auxiliary(weight: 1) {{ {inner} }}\n auxiliary(classify(3), weight: 2)\n classify(3)"
    )
    outputs = network.train()(images(3, 1, 12, 12))
    assert [side.weight for side in outputs.sides] == [0.5, 1, 2]
    labels = torch.tensor([0, 1, 2])
    parts = [F.cross_entropy(side.output, labels) for side in outputs.sides]
    expected = F.cross_entropy(outputs.output, labels) + parts[0] / 2 + parts[1] + 2 * parts[2]
    torch.testing.assert_close(loss_of(Classification(3), outputs, labels), expected)
    assert isinstance(network.eval()(images(2, 1, 12, 12)), Tensor)


def test_a_side_need_not_lie_on_the_way_to_the_output() -> None:
    """What comes in may be read by its label."""
    beside = (
        "a: conv(oneof(4, 6)), auxiliary(weight: 0.4) { conv(5) -> classify(3) }, a -> classify(3), x: identity(), "
    )
    spaces = [
        elaborate(Source(f"space s {{ input 1 x 12 x 12\n network {{ {steps} }} }}"))
        for steps in (f"{beside} x", f"{beside} auxiliary(classify(3), weight: 2), x")
    ]
    for number, space in enumerate(spaces, 1):
        assert not space.warnings
        network, labels = Relaxed(space.graph).train(), torch.tensor([0, 1])
        even = {path: torch.tensor([0.5, 0.5], requires_grad=True) for path in network.gates.values}
        for weights in (None, even):
            network.relax(weights)
            outputs = network(images(2, 1, 12, 12))
            assert len(outputs.sides) == number
            assert loss_of(Classification(3), outputs, labels) > F.cross_entropy(outputs.output, labels)
        one = pin(space.graph, dict.fromkeys(even, 0))
        again = elaborate(Source(expanded(replace(space, graph=one))))
        assert structure(again.graph).whole == structure(one).whole
        assert len(structure(one).heads) == number + 1
        assert cost_of(again.graph, {}) == cost_of(one, {})


def test_maps_of_sides_may_be_smaller_than_those_of_the_network() -> None:
    """Deep supervision: each side is compared as a head of its size would be."""
    body = "conv(4)\n auxiliary(weight: 0.4) { conv(4, stride: 2) -> %s }\n %s"
    outputs = network_in(body % ("segment(3)", "segment(3)")).train()(images(2, 1, 12, 12))
    masks = torch.randint(3, (2, 12, 12), generator=torch.Generator().manual_seed(0))
    large = F.interpolate(outputs.sides[0].output, size=(12, 12), mode="bilinear", align_corners=False)
    assert outputs.sides[0].output.shape == (2, 3, 6, 6)
    expected = F.cross_entropy(outputs.output, masks) + 0.4 * F.cross_entropy(large, masks)
    torch.testing.assert_close(loss_of(Segmentation(3), outputs, masks), expected)

    outputs = network_in(body % ("keypoints(3)", "keypoints(3)")).train()(images(2, 1, 12, 12))
    task = Keypoints(KeypointLayout.of(("nose", "left_eye", "right_eye")))
    targets = {"joints": images(2, 3, 3).abs() * 4, "size": torch.full((2, 2), 12)}
    expected = torch.zeros(())
    for weight, found in ((1, outputs.output), (0.4, outputs.sides[0].output)):
        maps, there = encode(targets["joints"], targets["size"], tuple(found.shape[-2:]), task.sigma)
        expected = expected + weight * 0.5 * (there[..., None, None] * (found - maps)).square().mean()
    torch.testing.assert_close(loss_of(task, outputs, targets), expected)


# --- As if they were not there ----------------------------------------------------------------------------------------


def test_evaluation_and_costs_are_those_of_the_network_without_it(tmp_path: Path) -> None:
    space, plain = made(), made(side="")
    whole, alone = both = Supernet(space.graph).eval(), Supernet(plain.graph).eval()
    taken(alone, whole)
    architectures = everything(space)
    for one in architectures:
        left = {path: index for path, index in one.indices.items() if path in plain.graph.decisions}
        whole.activate(one)
        alone.activate(one.at(plain.graph, left))
        x = images(2, 1, 12, 12)
        assert torch.equal(whole(x), alone(x))
        names = [name for name in measures.known() if measures.find(name).read is None]
        pinned = pin(space.graph, one.indices)
        costs = cost_of(plain.graph, left, names=names)
        assert cost_of(space.graph, one.indices, names=names) == costs == cost_of(pinned, {}, names=names)
    assert len(architectures) == 2 * (2 + 4)  # choices of a side are decisions like others
    tables = [profile(one, tmp_path / f"{number}.json", 1, 1, note=lambda _: None) for number, one in enumerate(both)]
    assert tables[0].operators.keys() == tables[1].operators.keys()
    timed = measured(space, {"latency": tmp_path / "1.json"})  # the table of the network without a side
    one = architectures[0]
    assert cost_of(timed.graph, one.indices, names=["latency"])["latency"] > 0


def test_evaluation_runs_nothing_of_a_side_and_keeps_no_map_for_it() -> None:
    body = "conv(4)\n auxiliary(weight: 1) { s: conv(4) -> classify(3) }\n classify(3)"
    network = network_in(body).eval()
    ran: list[str] = []
    for name, layer in network.layers.items():
        layer.register_forward_hook(lambda *told, name=name: ran.append(name))
    network(images(2, 1, 12, 12))
    assert ran == ["conv", "classify"]
    network.train()(images(2, 1, 12, 12))
    assert ran[2:] == ["conv", "auxiliary/s/conv", "auxiliary/s/classify", "auxiliary", "classify"]


def test_what_a_choice_of_a_side_changes_is_no_other_function() -> None:
    graph = made().graph
    rows = Encoding(graph.decisions).encode(everything(made()))
    assert len(set(fingerprints(graph, rows).tolist())) == len(rows) // 2


def test_what_only_a_side_has_read_is_unused() -> None:
    text = """
    space s {
      input 1 x 8 x 8
      fusion join { same: conv(4), merge: sum() }
      operator cell() {
        a: conv(4)
        b: conv(4, kernel: 3)
        SIDE
        fuse(join, from: [a], also: unused)
      }
      network { cell() -> classify(3) }
    }
    """
    side = "auxiliary(weight: 1) { auxiliary(classify(3), weight: 1) -> concat(a, b) -> classify(3) }"
    plain, whole, read = (made(text, one).graph for one in ("", side, f"c: {side} -> conv(4)"))
    assert cost_of(plain, {}) == cost_of(whole, {})
    sums = [[len(node.inputs) for node in graph.nodes.values() if node.op == "sum"] for graph in (plain, whole, read)]
    assert sums == [[2], [2], [2]]  # `b`, or what was made of it behind the side


def test_labels_of_a_side_are_not_listed_outside() -> None:
    text = """
    space s {
      input 1 x 8 x 8
      operator cell(part) {
        a: conv(4)
        SIDE
        concat(from: WORD) -> conv(oneof(4, 8))
      }
      network { cell(part: { x: conv(4), classify(3) }) -> classify(3) }
    }
    """
    side = "auxiliary(weight: 1) { b: conv(4), auxiliary(part, weight: 1), c: conv(4), concat(from: earlier) }"
    for word in ("earlier", "unused"):
        plain, whole = (made(text.replace("WORD", word), one).graph for one in ("", side))
        assert cost_of(plain, {"cell.conv.out": 1}) == cost_of(whole, {"cell.conv.out": 1})
        (joined,) = (node for node in whole.nodes.values() if node.op == "concat")
        assert joined.aside and len(joined.inputs) == 3  # `a`, `b` and `c`; outside `a` alone is left


def test_steps_of_a_side_may_lead_nowhere() -> None:
    ends = "a: conv(4), s: conv(4), t: a -> conv(8), auxiliary(weight: 2) { u: conv(4), classify(3) }, a -> classify(3)"
    space = elaborate(
        Source(
            f"space s {{ input 1 x 12 x 12\n network {{ conv(4), auxiliary(weight: 1) {{ {ends} }}, classify(3) }} }}"
        )
    )
    again = elaborate(Source(expanded(space)))
    one, two = structure(space.graph), structure(again.graph)
    assert (one.whole, one.body, len(one.layers)) == (two.whole, two.body, len(two.layers))
    assert [node.aside for node in again.graph.operators()].count(True) == 7
    outputs = Supernet(space.graph).train()(images(2, 1, 12, 12))
    assert [side.weight for side in outputs.sides] == [2, 1]


def test_nothing_of_a_side_is_decided_where_nothing_comes_in() -> None:
    side = "auxiliary(weight: 1) { a -> conv(oneof(4, 8)) -> classify(3) }"
    for before, size in (("none", 1), ("oneof(none, conv(4))", 1 + 2)):
        steps = f"a: conv(4), {{ {before} -> {side} }} + conv(4), classify(3)"
        assert len(everything(elaborate(Source(f"space s {{ input 1 x 8 x 8\n network {{ {steps} }} }}")))) == size


def test_what_a_side_makes_is_not_previous_outside() -> None:
    text = """
    space s {
      input 1 x 8 x 8
      operator block() {
        let width = previous(width, else: 4) + oneof(2, 4)
        conv(width)
      }
      network { block(), SIDE block(), classify(3) }
      require sum(block.width) <= 16
    }
    """
    plain, whole = (made(text, one) for one in ("", "auxiliary(weight: 1) { block(), block(), classify(3) },"))
    assert [len(everything(space)) for space in (plain, whole)] == [2, 8]  # 6 and 8 or 10
    for one in everything(whole):
        left = {path: index for path, index in one.indices.items() if not path.startswith("auxiliary")}
        assert cost_of(whole.graph, one.indices) == cost_of(plain.graph, left)


def test_exports_are_without_it(tmp_path: Path) -> None:
    text = made().source.text
    one = elaborate(
        Source(text + "\nspace one = small with { auxiliary.conv.out: 6, stage: { depth: 1, conv.kernel: 3 } }"), "one"
    )
    torch.manual_seed(0)
    network = Supernet(one.graph).eval()
    graph = evaluated(one.graph)
    alone = taken(Supernet(graph), network).eval()
    assert all("auxiliary" not in name for name in alone.state_dict())
    written = []
    for number, given in enumerate((network, alone)):
        file = tmp_path / f"{number}" / "net.py"
        file.parent.mkdir()
        export_python(given, file, space=one)
        written.append((file.read_text(), load_weights(file.with_suffix(".py.safetensors"))[0]))
    assert written[0][0] == written[1][0] and "uxiliary" not in written[0][0]
    assert written[0][1].keys() == written[1][1].keys()
    assert isinstance(batch_to_compare(network), Tensor)
    batch = torch.export.Dim("batch", min=2, max=64)
    traced = torch.export.export(network, (images(2, 1, 12, 12),), dynamic_shapes={"x": {0: batch}})
    x = images(5, 1, 12, 12)
    torch.testing.assert_close(traced.module()(x), alone(x))


# --- Searches ---------------------------------------------------------------------------------------------------------


def in_file(tmp_path: Path, text: str = SPACE) -> Path:
    file = tmp_path / "small.space"
    file.write_text(text.replace("SIDE", SIDE))
    return file


@pytest.mark.usefixtures("bars")
def test_a_search_trains_sides_and_a_training_goes_on_with_them(tmp_path: Path) -> None:
    file = in_file(tmp_path)
    run(file, settings={"rule": "sandwich", "distil__temperature": "1"}, runtime="sample")
    found = tmp_path / "found.space"
    weights = load_weights(found.with_suffix(".safetensors"))[0]
    assert any(name.startswith("layers.auxiliary/classify") for name in weights)
    assert any("auxiliary" in decision for decision in elaborate(read(found)).pins)
    options = Options(run=tmp_path / "more", accelerator="cpu")
    result = train(
        read(found), tmp_path / "more.safetensors", options, None, {}, inherit=found.with_suffix(".safetensors")
    )
    after = result.network.state_dict()
    moved = [name for name in weights if "auxiliary" in name and not torch.equal(weights[name], after[name])]
    assert any("classify" in name for name in moved)
    assert cost_of(result.network.graph, {})["params"] < sum(p.numel() for p in result.network.parameters())


def test_only_the_main_output_is_distilled() -> None:
    shot = OneShot.__new__(OneShot)
    task = Classification(3)
    shot.trainer = type("Trainer", (), {"task": task})()
    network = network_in("conv(4)\n auxiliary(classify(3), weight: 0.4)\n classify(3)").train()
    outputs, labels, teacher = network(images(4, 1, 12, 12)), torch.tensor([0, 1, 2, 0]), torch.randn(4, 3)
    for weight in (1.0, 0.7):
        distil = type("Distil", (), {"temperature": 2.0, "weight": weight})
        shot.settings = type("Settings", (), {"distil": distil})()
        soft = distillation(outputs.output, teacher, 2.0)
        expected = weight * soft + (1 - weight) * F.cross_entropy(outputs.output, labels)
        expected = expected + 0.4 * F.cross_entropy(outputs.sides[0].output, labels)
        torch.testing.assert_close(shot._loss(outputs, labels, teacher), expected)


@pytest.mark.usefixtures("bars")
@pytest.mark.parametrize("rule", ["softmax", "gumbel"])
def test_a_search_by_gradient_decides_sides_too(tmp_path: Path, rule: str) -> None:
    section = "search gradient { rule: RULE, train: { epochs: 1, batch: 16, recalibrate: 0 } }".replace("RULE", rule)
    file = in_file(tmp_path, SPACE.replace("search sample", "search sample_").replace("oneof(1, 2)", "2"))
    lines = [section if line.lstrip().startswith("search") else line for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines))
    result = run(file)
    assert "auxiliary.conv.out" in result.architecture
    rows = [json.loads(line) for line in (tmp_path / "found" / "history.jsonl").read_text().splitlines()]
    assert len(rows) == 1


def test_a_mixture_computes_sides_as_an_architecture_does() -> None:
    text = SPACE.replace("oneof(1, 2)", "2")
    network = Relaxed(made(text).graph).train()
    x, labels = images(4, 1, 12, 12), torch.tensor([0, 1, 2, 0])
    for one in everything(made(text)):
        torch.manual_seed(0)
        network.activate(one)
        plain = network(x)
        network.relax(at(network, one))
        mixed = network(x)
        torch.testing.assert_close(mixed.output, plain.output)
        torch.testing.assert_close(mixed.sides[0].output, plain.sides[0].output)
    even = {p: torch.full((len(v),), 1 / len(v), requires_grad=True) for p, v in network.gates.values.items()}
    network.relax(even)
    loss_of(Classification(3), network(x), labels).backward()
    assert all(weights.grad is not None and bool(weights.grad.any()) for weights in even.values())
    network.eval()
    assert isinstance(network(x), Tensor)


def test_a_mixture_with_and_without_a_side_is_refused() -> None:
    text = SPACE.replace("SIDE", "oneof(identity(), auxiliary(classify(classes), weight: 1))")
    network = Relaxed(made(text).graph)
    even = {path: torch.full((len(v),), 1 / len(v)) for path, v in network.gates.values.items()}
    with pytest.raises(CompileError, match=r"takes part in the loss at `oneof\.auxiliary`"):
        network.relax(even)
    for one in everything(made(text)):
        network.relax(at(network, one))
        outputs = network.train()(images(2, 1, 12, 12))
        assert isinstance(outputs, Sided) == ("auxiliary" in str(one["oneof"]))


def test_search_units_of_a_side_cost_nothing() -> None:
    body = "conv(8)\n auxiliary(weight: 1) { mixconv(8, hidden: { 3: units(4) }) -> classify(3) }\n"
    network = network_in(f"{body} mixconv(8, hidden: {{ 3: units(4) }})\n classify(3)")
    for form in ("exact", "paper", "code", "uniform"):
        penalty = Penalty(network, form, True, 0.0)
        costs = {group.node: penalty.cost(group, 4) for group in penalty.groups}
        assert [cost > 0 for cost in costs.values()] == [False, True]


# --- Texts and files --------------------------------------------------------------------------------------------------


def test_an_architecture_is_written_out_with_its_sides(tmp_path: Path) -> None:
    inner = "a: conv(4)\n auxiliary(weight: 1/3) { classify(3) }\n b: conv(4)\n a + b\n classify(3)"
    text = f"""space s {{ input 1 x 12 x 12
      network {{
        conv(4)
        auxiliary(weight: 0.4) {{ {inner} }}
        residual {{ conv(4) -> auxiliary(classify(3), weight: 2) -> conv(4) }}
        classify(3)
      }}
    }}"""
    space = elaborate(Source(text))
    again = elaborate(Source(expanded(space)))
    one, two = structure(space.graph), structure(again.graph)
    assert (one.whole, one.body, len(one.layers)) == (two.whole, two.body, len(two.layers))
    assert [node.aside for node in space.graph.operators()].count(True) == 6
    assert [node.aside for node in again.graph.operators()].count(True) == 6
    assert cost_of(space.graph, {}) == cost_of(again.graph, {})
    assert all(node_term(space.graph, node, "macs") == 0 for node in space.graph.operators() if node.aside)


def test_a_fresh_head_is_fresh_in_sides_too(tmp_path: Path) -> None:
    steps = "conv(4) -> auxiliary(classify(N), weight: W) -> conv(4) -> classify(N)"
    text = f"space s {{ input 1 x 12 x 12\n network {{ {steps} }} }}"
    space = elaborate(Source(text.replace("N", "3").replace("W", "0.4")))
    other = elaborate(Source(text.replace("N", "7").replace("W", "0.3")))
    one, two = structure(space.graph), structure(other.graph)
    assert one.body == two.body and one.whole != two.whole and one.heads == ("classify", "auxiliary.classify")
    assert one.whole == structure(elaborate(Source(text.replace("N", "3").replace("W", "0.3"))).graph).whole


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("auxiliary { classify(3) }", "needs the weight of its loss"),
        ("auxiliary(weight: 0) { classify(3) }", "a number above 0"),
        ("auxiliary(weight: oneof(1, 2)) { classify(3) }", "must not depend on a decision"),
        ("auxiliary(weight: 1)", "needs a body"),
        ("auxiliary(weight: 1) {}", "makes nothing"),
        ("auxiliary(conv(4), weight: 1) { classify(3) }", "takes an operator or a body"),
        ("x: conv(4), auxiliary(weight: 1) { branches(x, x) -> parallel { conv(4) } }", "ends in 2 branches"),
        ("auxiliary(weight: 1, share: a) { classify(3) }", "has no parameter `share`"),
        ("x: conv(4), branches(x, x) -> auxiliary(weight: 1) { classify(3) }", "several branches come in"),
        ("a: auxiliary(weight: 1) { b: conv(1), b -> classify(3) }, a + b", "but read outside"),
    ],
)
def test_wrong_uses_are_told(steps: str, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        network_in(f"{steps}, classify(3)")


def test_its_weight_may_stand_in_defaults() -> None:
    text = "space s { input 1 x 8 x 8\n defaults { weight: 0.3 }\n network { auxiliary { classify(3) }, classify(3) } }"
    outputs = Supernet(elaborate(Source(text)).graph).train()(images(2, 1, 8, 8))
    assert outputs.sides[0].weight == 0.3


def test_a_side_cannot_end_in_nothing_for_some_choices() -> None:
    steps = "conv(4)\n auxiliary(weight: 1) { oneof(none, conv(4)) -> classify(3) }\n classify(3)"
    space = elaborate(Source(f"space s {{ input 1 x 8 x 8\n network {{ {steps} }} }}"))
    assert [warning.code for warning in space.warnings] == ["never-taken"]
    assert len(everything(space)) == 1


def test_a_detector_cannot_have_one() -> None:
    text = """
    space s {
      input 3 x 64 x 64
      detector {
        backbone: conv(8, kernel: 3, stride: 8) -> auxiliary(weight: 1) { classify(3) }
        head: retina(3)
      }
    }
    """
    with pytest.raises(CompileError, match="a detector cannot have an `auxiliary`"):
        elaborate(Source(text))


@pytest.mark.usefixtures("bars")
@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("auxiliary(weight: 1) { classify(5) }", "an `auxiliary` of the network gives 5"),
        (
            "auxiliary(weight: 1) { global_pool() -> linear(3) }",
            "ends in `linear`, which is no head for classification",
        ),
        (
            "auxiliary(weight: 1) { oneof(classify(3), segment(3)) }",
            "some alternatives give a feature map and some a vector",
        ),
        ("auxiliary(weight: 1) { oneof(a: classify(3), b: { global_pool() -> linear(3) }) }", "ends in `linear`"),
    ],
)
def test_sides_end_in_heads_for_the_data(tmp_path: Path, side: str, message: str) -> None:
    file = tmp_path / "s.space"
    file.write_text(SPACE.replace("SIDE", side))
    with pytest.raises(CompileError, match=message):
        run(file, runtime="sample")
