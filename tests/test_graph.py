"""A space's graph as networkx has it: what stands in it, and that other programs can read it."""

from __future__ import annotations

import io
import json
import re
from itertools import product
from typing import Any

import networkx as nx
import pytest

import nasdsl
from nasdsl import cli
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.values import expr
from nasdsl.compiler.values.tree import Among, Case, Has, Kept, Slot
from nasdsl.compiler.wording import LONGEST, wording
from tests import shipped

TEXT = """
space small {
  input 3 x 16 x 16
  let op = oneof(conv, pool)
  operator block(out) { conv(out, kernel: oneof(3, 5)) -> match op { conv: conv(out), pool: max_pool(3) } }
  network {
    let depth = oneof(1..2)
    repeat depth { block(oneof(4, 6)) }
    a: conv(8)
    b: oneof(conv: conv(8, kernel: 3), none: zero())
    a + b
    classify(5)
  }
}
"""


@pytest.fixture(scope="module")
def space() -> Any:
    return nasdsl.loads(TEXT)


def architectures(space: Any) -> list[dict[str, Any]]:
    decisions = space.graph.decisions
    everything = product(*(range(d.n) for d in decisions.values()))
    return [dict(zip(decisions, chosen, strict=True)) for chosen in everything]


def test_a_node_for_each_tensor_and_an_edge_for_each_input(space: Any) -> None:
    graph = nasdsl.graph(space)
    assert isinstance(graph, nx.MultiDiGraph)
    assert list(graph) == list(space.graph.nodes)
    assert nx.is_directed_acyclic_graph(graph)
    for node in space.graph.nodes.values():
        found = {(source, number) for source, _, number in graph.in_edges(node.name, keys=True)}
        assert found == {(edge.source, place) for place, edge in zip(node.places, node.inputs, strict=True)}
    assert all(number == data["input"] for *_, number, data in graph.edges(keys=True, data=True))


def test_attributes_of_nodes_edges_and_graph(space: Any) -> None:
    graph = nasdsl.graph(space)
    first = graph.nodes["repeat[0].block.conv"]
    assert (first["kind"], first["operator"], first["inside"]) == ("operator", "conv", "block")
    assert (first["label"], first["present"], first["scale"]) == ("repeat[0].block.conv", "true", "1")
    width, kernel = json.loads(first["decisions"])
    assert first["shape"] == f"{width} x 16 x 16"
    assert json.loads(first["parameters"])["kernel"] == kernel
    assert (first["height"], first["channels_least"], first["channels_most"]) == (16, 4, 6)
    assert (first["macs_least"], first["macs_most"]) == (256 * 3 * 9 * 4, 256 * 3 * 25 * 6)
    assert graph.nodes["repeat[1].block.conv.1"]["present"] == "depth == 2 and op == conv"
    assert graph.nodes["a"]["channels"] == 8
    assert graph.nodes["classify"]["shape"] == "5"
    assert "height" not in graph.nodes["classify"]
    assert graph.graph["name"] == "small"
    assert graph.graph["input"] == "3 x 16 x 16"
    decisions = json.loads(graph.graph["decisions"])
    assert decisions["op"] == {"kind": "choice", "options": ["conv", "pool"], "present": "true"}
    assert decisions["depth"]["options"] == ["1", "2"]
    whens = {data["when"] for *_, data in graph.in_edges("repeat.exit", data=True)}
    assert whens == {"depth == 1", "depth == 2"}


def test_numbers_and_conditions_hold_for_each_architecture(space: Any) -> None:
    """What the whole graph says of a node, against the graph of each architecture."""
    graph = nasdsl.graph(space)
    met: dict[str, set[int]] = {}
    names = {"true": True, "conv": "conv", "pool": "pool", "none": "none"}
    for values in architectures(space):
        known = {path: space.graph.decisions[path].words[value] for path, value in values.items()}
        pinned = nasdsl.graph(nasdsl.pin(space, {k: v for k, v in known.items() if _there(space, k, known)}))
        assert json.loads(pinned.graph["decisions"]) == {}
        for name, data in graph.nodes(data=True):
            if data["kind"] != "operator":
                continue
            text = re.sub(r"(?<!\w)(op|depth|b)(?!\w)", r"known['\1']", data["present"])
            assert eval(text, {**names, "known": known}) == (name in pinned), name
            if name in pinned:
                here = pinned.nodes[name]
                met.setdefault(name, set()).add(here["macs"])
                for number in ("channels", "macs", "params"):
                    least, most = (data.get(f"{number}_{end}", data.get(number)) for end in ("least", "most"))
                    assert least <= here[number] <= most
    for name, found in met.items():  # settings are independent here, so that the ends are reached
        data = graph.nodes[name]
        assert {data.get("macs_least", data.get("macs")), data.get("macs_most", data.get("macs"))} <= found, name


def _there(space: Any, path: str, known: dict[str, Any]) -> bool:
    return not path.startswith("repeat[") or int(path[7]) < known["depth"]


@pytest.mark.parametrize("file", ["tiny", "hrnas_small", "mlp", "darts"])
def test_graphml_and_node_link_hold_the_graph(file: str) -> None:
    graph = nasdsl.graph(shipped.space(file))
    stream = io.BytesIO()
    nx.write_graphml(graph, stream)
    stream.seek(0)
    again = nx.read_graphml(stream, force_multigraph=True)
    linked = nx.node_link_graph(json.loads(json.dumps(nx.node_link_data(graph, edges="edges"))), edges="edges")
    for other in (again, linked):
        assert dict(other.nodes(data=True)) == dict(graph.nodes(data=True))
        edges = sorted((*edge[:2], edge[2]["input"], edge[2]["when"]) for edge in other.edges(data=True))
        assert edges == sorted((*edge[:2], edge[2]["input"], edge[2]["when"]) for edge in graph.edges(data=True))
        assert other.graph["decisions"] == graph.graph["decisions"]


def test_the_command_writes_graphs(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.space").write_text(TEXT, encoding="utf-8")
    file = str(tmp_path / "small.space")
    for name in ("small.graphml", "small.json"):
        assert cli.main(["draw", file, "-o", str(tmp_path / name)]) == 0
    graph = nasdsl.graph(nasdsl.load(file))
    assert set(nx.read_graphml(tmp_path / "small.graphml", force_multigraph=True)) == set(graph)
    data = json.loads((tmp_path / "small.json").read_text(encoding="utf-8"))
    assert [node["id"] for node in data["nodes"]] == list(graph)
    assert data["directed"] is data["multigraph"] is True
    capsys.readouterr()
    assert cli.main(["draw", file, "-o", str(tmp_path / "other.json"), "--open", "op"]) == 1
    assert "has every node of the graph" in capsys.readouterr().err
    assert not (tmp_path / "other.json").exists()


# --- Words ------------------------------------------------------------------------------------------------------------

DECISIONS = {
    "d": Decision("d", "choice", (1, 2, 3), ("1", "2", "3")),
    "from": Decision("from", "subset", ("a", "b"), ("a", "b"), size=1),
    "o": Decision("o", "order", (4, 5, 6), ("4", "5", "6")),
    "u": Decision("u", "units", range(8)),
}
D = Case("d", (1, 2, 3))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (Among("d", 3, frozenset((1,))), "d == 2"),
        (Among("d", 3, frozenset((0, 2))), "d in [1, 3]"),
        (Has("from", 1), "b in from"),
        (Kept("u", 8), "len(u)"),
        (D, "d"),
        (Case("d", (8, 16, 24)), "match d { 1: 8, 2: 16, 3: 24 }"),
        (Slot("o", 2, (4, 5, 6)), "o[2]"),
        (expr.multiply(expr.add(D, Kept("u", 8)), 2), None),
        (expr.both(Has("from", 0), expr.either(Has("from", 1), Among("d", 3, frozenset((0,))))), None),
        (expr.negate(Has("from", 0)), "not (a in from)"),
    ],
)
def test_values_in_words(value: Any, text: str | None) -> None:
    found = wording(value, DECISIONS)
    if text is not None:
        assert found.replace("not a in from", "not (a in from)") == text
    else:
        assert "(" in found
        assert found.count("(") == found.count(")")


def test_brackets_stand_where_the_meaning_needs_them() -> None:
    """Against Python, whose operators bind alike."""
    u = Kept("u", 8)
    for value in (expr.multiply(expr.add(u, 3), u), expr.add(expr.multiply(u, 3), u), expr.less(expr.add(u, 1), 5)):
        for n in range(4):
            plain = eval(wording(value, DECISIONS), {"u": range(n), "len": len})
            assert plain == value.evaluate({"u": tuple(range(n))})


def test_what_is_very_long_names_decisions() -> None:
    value: Any = Kept("u", 8)
    for n in range(2000):  # deep, and each mentions the one before twice
        value = expr.add(expr.multiply(value, value), n)
    found = wording(value, DECISIONS)
    assert "what u decide" in found
    assert len(found) <= 2 * LONGEST
