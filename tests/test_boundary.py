"""What a user says of an architecture is read once, by one reader, wherever it is said."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nasdsl
from nasdsl.cli import main
from nasdsl.compiler.architecture import Architecture, ArchitectureError, Values
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.sample import Numbering

KINDS = """
space kinds {
  input 3 x 8 x 8

  operator small(out) { conv(out, kernel: oneof(1, 3)) }

  network {
    let ratio = oneof(1/2, 1)
    let twice = oneof(true, false)
    let word = oneof("left", "right")
    let wide = oneof(0, 1, 2)
    require not (twice and wide == 2)
    stem: conv(round(8 * ratio), stride: 2 if twice else 1)
    body: repeat oneof(1..3) { small(8) }
    let order = permute([4, 8, 8])
    for out in order { conv(out) }
    a: conv(8), b: conv(8, kernel: 3), c: conv(8, kernel: 5)
    sum(from: manyof(2, [a, b, c]))
    mix: mixconv(6, hidden: { 3: units(6) })
    conv(4 + wide, kernel: 1 if word == "left" else 3)
    classify(classes: 3)
  }
}
"""

DEEP = """
space deep {
  input 3 x 8 x 8
  network {
    stage: repeat oneof(2, 3, 5) { conv(8, kernel: oneof(3, 5, 7)) }
    classify(classes: 3)
  }
}
"""


@cache
def space_of(name: str) -> Any:
    folder = Path(tempfile.mkdtemp())
    path = folder / f"{name}.space"
    path.write_text({"kinds": KINDS, "deep": DEEP}[name])
    return nasdsl.load(path)


@cache
def supernet_of(name: str) -> Any:
    return nasdsl.supernet(space_of(name))


@cache
def population_of(name: str) -> Any:
    return nasdsl.population(space_of(name))


@cache
def numbering_of(name: str) -> Numbering:
    return Numbering(space_of(name).graph)


def saved(name: str, values: Any) -> None:
    """A file that is whole, or none."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.space"
        try:
            nasdsl.save(space_of(name), values, out)
        except ArchitectureError:
            assert not out.exists()
            raise
        assert not nasdsl.load(out).graph.decisions


def activated(name: str, values: Any) -> None:
    """A network that runs another architecture, or the one before."""
    supernet = supernet_of(name)
    before, steps = supernet.active, supernet.steps
    try:
        supernet.activate(values)
    except ArchitectureError:
        assert supernet.active == before and supernet.steps == steps
        raise
    assert supernet.active == Architecture.of(supernet.graph, values)


CALLS: dict[str, Callable[[str, Any], object]] = {
    "Architecture.of": lambda name, values: nasdsl.Architecture.of(space_of(name), values),
    "Population.encode": lambda name, values: population_of(name).encode([values]),
    "Population.rank": lambda name, values: population_of(name).rank(values),
    "Supernet.activate": activated,
    "Supernet.extract": lambda name, values: supernet_of(name).extract(values),
    "cost": lambda name, values: nasdsl.cost(space_of(name), values),
    "pin": lambda name, values: nasdsl.pin(space_of(name), values),
    "save": saved,
}
"""Every public function that takes an architecture."""
PARTIAL = {"pin"}
"""Those that leave open what is not said."""


def public() -> Iterator[tuple[str, Any]]:
    for name in nasdsl.__all__:
        value = getattr(nasdsl, name)
        if inspect.isclass(value):
            for inner, method in vars(value).items():
                method = getattr(method, "__func__", method)
                if not inner.startswith("_") and inspect.isfunction(method) and method.__module__.startswith("nasdsl"):
                    yield f"{name}.{inner}", method
        elif inspect.isfunction(value):
            yield name, value


def test_no_public_function_that_takes_an_architecture_is_forgotten() -> None:
    taking = {
        name
        for name, function in public()
        if any("Values" in str(one.annotation) for one in inspect.signature(function).parameters.values())
    }
    assert taking == set(CALLS)
    loose = {
        f"{name}: {one.name}"
        for name, function in public()
        for one in inspect.signature(function).parameters.values()
        if "Architecture" in str(one.annotation) or "Mapping[str, Any]" in str(one.annotation)
    }
    given = {"search: data"}  # a function that is given architectures, and takes none from the user
    records = {one for one in loose if one.partition(": ")[2] in ("settings", "train", "table", "facts")}
    own = {"Architecture.at: indices", "Architecture.written: values"}
    assert loose - given - records == own, "the compiler's own forms; all else takes `Values`"


# --- Damage -----------------------------------------------------------------------------------------------------------

Damage = tuple[Any, str]
"""Values, and the code of the diagnostic that they deserve."""


def other_kind(draw: Any, value: Any) -> tuple[Any, str]:
    """A value that cannot be one of this decision, whatever its items."""
    if isinstance(value, list):
        return draw(st.sampled_from([(None, "not-a-list"), (7, "not-a-list"), ({"a": 1}, "not-a-list")]))
    never = [None, [value], {"a": value}, float("nan"), b"x", object()]
    return draw(st.sampled_from(never)), "unknown-option"


@st.composite
def damages(draw: Any) -> tuple[str, Any, str, bool]:
    """A space, damaged values of an architecture, the code, and whether something is only missing."""
    name = draw(st.sampled_from(["kinds", "deep"]))
    numbering = numbering_of(name)
    whole = numbering.unrank(draw(st.integers(0, numbering.total - 1)))
    values: dict[str, Any] = dict(whole)
    path = draw(st.sampled_from(list(values)))
    decision = space_of(name).graph.decisions[path]
    how = draw(st.sampled_from(["unknown", "missing", "range", "kind", "index", "count", "twice", "indices"]))
    if how == "unknown":
        values[draw(st.sampled_from([path + "s", path[:-1], path.upper() + ".x", "", 3]))] = values[path]
        return name, values, "unknown-decision", False
    if how == "missing":
        del values[path]
        return name, values, "missing-decision", True
    if how == "kind":
        values[path], code = other_kind(draw, values[path])
        return name, values, code, False
    if how == "indices":  # all of the compiler's own form
        wrong = [p for p, x in whole.indices.items() if decision_kind(name, p) != "units" and not fits(name, p, x)]
        return name, dict(whole.indices), "unknown-option" if wrong else "", False
    if decision.kind == "choice":
        beyond = [item for item in (-1, 4, 9, "nothing", 0.3) if item not in decision.words]
        indices = [i for i in range(decision.n) if not fits(name, path, i)]
        values[path] = draw(st.sampled_from(indices if how == "index" and indices else beyond))
        return name, values, "unknown-option", False
    items = list(values[path])
    if decision.kind == "units":
        more = draw(st.sampled_from([-1, decision.n, "a", 0.5, True]))
        values[path] = [*items, more]
        code = "no-such-item"
        if how == "twice" and items:
            values[path], code = [*items, items[0]], "duplicate"
        return name, values, code, False
    if how == "count":
        values[path] = items[1:]
        return name, values, {"subset": "wrong-count", "order": "bad-order"}[decision.kind], False
    if how == "twice":
        values[path] = [*items, *items]
        return name, values, {"subset": "duplicate", "order": "bad-order"}[decision.kind], False
    values[path] = [*items[1:], draw(st.sampled_from(["nothing", 77, None, True]))]
    return name, values, "unknown-option", False


def decision_kind(name: str, path: str) -> str:
    kind: str = space_of(name).graph.decisions[path].kind
    return kind


def fits(name: str, path: str, index: Any) -> bool:
    """Whether an index, or a tuple of them, is a value of the decision too."""
    words = space_of(name).graph.decisions[path].words
    indices = index if isinstance(index, tuple) else (index,)
    return all(any(type(word) is int and word == i for word in words) for i in indices)


@settings(max_examples=150, deadline=None)
@given(damages())
def test_every_function_refuses_what_is_no_architecture(damaged: tuple[str, Any, str, bool]) -> None:
    name, values, code, missing = damaged
    if not code:
        return
    for function, call in CALLS.items():
        if missing and function in PARTIAL:
            continue
        with pytest.raises(ArchitectureError) as caught:
            call(name, values)
        assert code in {one.code for one in caught.value.diagnostics}, function
        assert str(caught.value) and all(one.message for one in caught.value.diagnostics)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["kinds", "deep"]), st.data())
def test_every_function_takes_values_and_json_and_architectures_alike(name: str, data: st.DataObject) -> None:
    numbering, graph = numbering_of(name), space_of(name).graph
    number = data.draw(st.integers(0, numbering.total - 1))
    whole = numbering.unrank(number)
    forms: list[Values] = [
        whole,
        dict(whole),
        json.loads(json.dumps(dict(whole))),
        json.loads(json.dumps(whole.to_json())),
    ]
    expected = cost_of(graph, whole.indices)
    supernet, image = supernet_of(name).eval(), torch.randn(1, 3, 8, 8)
    outputs = []
    for values in forms:
        assert Architecture.of(graph, values) == whole
        assert nasdsl.cost(space_of(name), values) == expected == nasdsl.cost(nasdsl.pin(space_of(name), values))
        assert population_of(name).rank(values) == number and population_of(name).unrank(number) == whole
        rows = population_of(name).encode([values])
        assert population_of(name).decode(rows) == [whole]
        assert population_of(name).costs(rows).tolist() == [[expected["macs"], expected["params"]]]
        supernet.activate(values)
        with torch.no_grad():
            outputs += [supernet(image), supernet.extract(values)(image)]
    assert all(torch.allclose(one, outputs[0], atol=1e-5) for one in outputs)
    saved(name, forms[-1])


def test_what_breaks_a_requirement_is_refused_by_all() -> None:
    values = dict(numbering_of("kinds").unrank(0)) | {"twice": True, "wide": 2}
    for function, call in CALLS.items():
        with pytest.raises(ArchitectureError, match="not \\(twice and wide == 2\\)") as caught:
            call("kinds", values)
        assert [one.code for one in caught.value.diagnostics] == ["requirement-broken"], function


@pytest.mark.parametrize("values", [None, 5, "body.depth", ["body.depth"], [("body.depth", 2)], torch.zeros(2)])
def test_what_is_no_mapping_is_refused_by_all(values: Any) -> None:
    for function, call in CALLS.items():
        if values is None and function in ("save", "Supernet.extract", "cost"):
            continue  # where nothing is said
        with pytest.raises(ArchitectureError):
            call("kinds", values)
    with pytest.raises(ArchitectureError, match="decisions have no value"):
        nasdsl.cost(space_of("kinds"))


def test_rows_that_are_no_architectures_are_refused() -> None:
    population = population_of("kinds")
    rows = population.draw(20, seed=1)
    assert population.encode(population.decode(rows)).tolist() == rows.tolist()
    for column in range(rows.shape[1]):
        for value in (-1, 100):
            damaged = rows.copy()
            damaged[7, column] = value if damaged[7, column] != value else 0
            for act in (population.decode, population.costs):
                with pytest.raises(ArchitectureError):
                    act(damaged)
    with pytest.raises(ValueError, match="signed integers"):
        population.decode(rows.astype(float))


# --- Smaller spaces ---------------------------------------------------------------------------------------------------


def test_an_architecture_of_the_whole_space_is_none_of_a_smaller_one() -> None:
    space = space_of("deep")
    smaller = nasdsl.pin(space, {"stage.depth": 3})
    whole = Architecture.of(space, {"stage.depth": 2, "stage[0].conv.kernel": 3, "stage[1].conv.kernel": 7})
    assert nasdsl.count(smaller).total == 27
    for call in (
        lambda: nasdsl.cost(smaller, whole),
        lambda: nasdsl.supernet(smaller).activate(whole),
        lambda: nasdsl.population(smaller).rank(whole),
        lambda: nasdsl.pin(smaller, whole),
    ):
        with pytest.raises(ArchitectureError, match=r"no decision `stage\.depth`"):
            call()
    inner = nasdsl.sample(smaller)[0]
    assert nasdsl.cost(smaller, inner) == nasdsl.cost(space, {**inner, "stage.depth": 3})


def test_an_architecture_of_another_space_is_read_by_its_values() -> None:
    other = nasdsl.loads(DEEP.replace("oneof(2, 3, 5)", "oneof(3, 2)").replace("oneof(3, 5, 7)", "oneof(7, 5)"))
    space = space_of("deep")
    for one in nasdsl.sample(other, 10):
        assert Architecture.of(space, one) == one
        assert nasdsl.cost(space, one) == nasdsl.cost(other, one)
    with pytest.raises(ArchitectureError, match="not an option"):
        nasdsl.cost(other, {"stage.depth": 5})


def test_a_space_made_smaller_in_python_is_written_as_such(tmp_path: Path) -> None:
    space = space_of("deep")
    smaller = nasdsl.pin(nasdsl.pin(space, {"stage.depth": 3}), {"stage[1].conv.kernel": 7})
    nasdsl.save(smaller, None, tmp_path / "smaller.space")
    read = nasdsl.load(tmp_path / "smaller.space")
    assert list(read.graph.decisions) == list(smaller.graph.decisions)
    assert nasdsl.count(read).total == nasdsl.count(smaller).total == 9
    assert len({space.digest(), smaller.digest(), nasdsl.pin(space, {"stage.depth": 3}).digest()}) == 3
    (one,) = nasdsl.sample(smaller)
    nasdsl.save(smaller, one, tmp_path / "found.space")
    assert nasdsl.cost(nasdsl.load(tmp_path / "found.space")) == nasdsl.cost(smaller, one)


def test_what_is_pinned_on_the_command_line_is_what_python_pins(tmp_path: Path) -> None:
    """Each in its own words: a file has `1/2` and `[0..3]`."""
    space = space_of("kinds")
    for number, one in enumerate(nasdsl.sample(space, 5, seed=2)):
        told = [f"{path}={one.decisions[path].describe(index)}" for path, index in one.indices.items()]
        files = [tmp_path / f"{number}_{way}.space" for way in ("shell", "python")]
        assert main(["pin", str(space.source.path), *told, "-o", str(files[0])]) == 0
        nasdsl.save(space, dict(one), files[1], name="pinned")
        assert files[0].read_text() == files[1].read_text()


def test_units_that_were_removed_do_not_come_back() -> None:
    supernet = nasdsl.supernet(nasdsl.pin(space_of("kinds"), {"wide": 0}))
    whole = supernet.active
    (path,) = [p for p, d in supernet.graph.decisions.items() if d.kind == "units"]
    supernet.shrink({path: [1, 2, 4]})
    supernet.activate({**whole, path: "1..2"})
    with pytest.raises(ArchitectureError, match=r"were removed from this supernet: 0, 3\nhelp: left are 1, 2, 4"):
        supernet.activate({**whole, path: [0, 1, 3]})
    with pytest.raises(ArchitectureError, match="removed"):
        supernet.extract(whole)
    with pytest.raises(ArchitectureError, match="removed"):
        supernet.shrink({path: [0, 1]})
    damages: list[tuple[dict[str, Any], str]] = [
        ({"nothing": [1]}, "unknown-decision"),
        ({"word": "left"}, "no-units"),
        ({path: [9]}, "no-such-item"),
    ]
    for damaged, code in damages:
        with pytest.raises(ArchitectureError) as caught:
            supernet.shrink(damaged)
        assert [one.code for one in caught.value.diagnostics] == [code]
    assert supernet.active[path] == [1, 2]


# --- What is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hrnas", "trionet", "nasbench201"])
def test_short_forms_fit_a_screen(name: str) -> None:
    space = nasdsl.load(name)
    (one,) = nasdsl.sample(space)
    for shown in (space, one, nasdsl.count(space), nasdsl.population(space)):
        assert len(repr(shown)) < 500, type(shown)
        assert len(str(shown)) < 500, type(shown)
    assert f"{len(space.graph.decisions):,} decisions" in repr(space)


def test_the_short_form_of_a_supernet_is_one_line() -> None:
    assert repr(supernet_of("deep")).startswith("Supernet(") and "\n" not in repr(supernet_of("deep"))


def html_of(value: Any) -> str:
    shown: str = value._repr_html_()
    return shown


def test_a_notebook_shows_the_summary_the_picture_and_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = html_of(space_of("kinds"))
    assert "decisions" in shown and shown.count("<svg") == 1
    monkeypatch.setenv("PATH", "")
    without = html_of(space_of("kinds"))
    assert "decisions" in without and "<svg" not in without
    one = html_of(nasdsl.sample(space_of("kinds"))[0])
    assert "body.depth" in one and one.count("<tr>") > 5
    many = html_of(nasdsl.sample(nasdsl.load("hrnas"))[0])
    assert "and 196 more" in many and len(many) < 20_000


def test_counts_populations_and_graphs_show_what_they_know() -> None:
    space = nasdsl.load("hrnas_small")
    shown = html_of(nasdsl.count(space))
    assert "architectures" in shown and "<th>decisions</th>" in shown and len(shown) < 20_000
    population = html_of(nasdsl.population(nasdsl.load("tiny"), ["macs", "params", "memory"]))
    assert population.count("<svg") == 3 and "<td>MACs</td>" in population and "three quarters" in population
    graph = nasdsl.load("tiny").graph
    assert repr(graph) == "Graph(16 layers, 24 nodes, 12 decisions)" and html_of(graph).count("<svg") == 1
