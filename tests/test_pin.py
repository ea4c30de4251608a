"""Pins: paths and values can be typed as they are printed; what `pin` writes is the smaller space, what `diff` says is
what differs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from nasdsl import spaces
from nasdsl.cli import main
from nasdsl.compiler import syntax
from nasdsl.compiler.architecture import canonical
from nasdsl.compiler.bind.base import Declared
from nasdsl.compiler.bind.binder import Binder
from nasdsl.compiler.cost import totals
from nasdsl.compiler.count import count
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.elaborate.frame import Builder, Frame, Scope
from nasdsl.compiler.elaborate.pins import resolve_pins
from nasdsl.compiler.elaborate.vocabulary import VOCABULARY
from nasdsl.compiler.parse import parse, read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.source import Source
from tests import shipped
from tests.test_language import CASES

TEXT = """\
space small {
  param classes = 10

  input 3 x 16 x 16

  operator block(out) {
    let op = oneof(wide, deep)
    match op { wide: conv(out, kernel: oneof(3, 5)), deep: repeat oneof(1..3) { conv(out, kernel: 3) } }
  }

  network {
    stage: repeat oneof(1..2) { block(8) }
    classify(classes)
  }
}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.space"
    path.write_text(TEXT)
    return path


def test_a_number_names_the_architecture_of_that_rank(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbering = Numbering(elaborate(read(file)).graph)
    assert numbering.total == 5 + 25
    for number in (0, 7, numbering.total - 1):
        out = file.parent / f"n{number}.space"
        assert main(["pin", str(file), "--number", str(number), "-o", str(out), "--name", "mine"]) == 0
        made = elaborate(read(out))
        assert made.name == "mine"
        assert not made.graph.decisions
        assert numbering.rank(numbering.unrank(number)) == number
        assert dict(numbering.unrank(number).indices) == dict(made.pins)
    assert main(["pin", str(file), "--number", "30"]) == 2
    assert "30" in capsys.readouterr().err


def test_values_and_fewer_alternatives(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = file.parent / "half.space"
    pins = ["stage.depth=2", "stage[0].block.op=oneof(wide)", "stage[1].block.wide.kernel=5"]
    assert main(["pin", str(file), *pins, "-D", "classes=3", "-o", str(out)]) == 0
    made = elaborate(read(out))
    assert made.params["classes"] == 3
    assert "stage.depth" not in made.graph.decisions
    capsys.readouterr()
    assert main(["count", str(out), "--digits"]) == 0
    assert capsys.readouterr().out.strip() == str(2 * (1 + 3))  # the kernel of the first; wide with 5, or deep
    again = file.parent / "less.space"
    assert main(["pin", str(out), "stage[0].block.wide.kernel=3", "-o", str(again)]) == 0
    capsys.readouterr()
    assert main(["count", str(again), "--digits"]) == 0
    assert capsys.readouterr().out.strip() == "4"


def test_parameters_are_pinned_like_decisions(file: Path) -> None:
    out = file.parent / "fewer.space"
    assert main(["pin", str(file), "classes=3", "stage.depth=2", "-o", str(out)]) == 0
    made = elaborate(read(out))
    assert made.params["classes"] == 3 and "stage.depth" not in made.graph.decisions


STAGES = """\
space first {
  input oneof(3 x 8 x 8, 3 x 16 x 16)
  let kind = oneof(plain, wide)
  network {
    body: repeat oneof(1, 2) { conv(8 if kind == plain else 16) }
    side: conv(oneof(4, 8))
    classify(classes)
  }
  param classes = 5
}

space second {
  input 3 x 32 x 32
  network { repeat depth { conv(oneof(8, 16), kernel: 3) }, classify(classes) }
  param kind in [wide, plain]
  param depth = 3
  param classes = 10
  param rest = 7
}

space third { input 3 x 8 x 8, network { conv(oneof(4, 8)), classify(2) }, param other = 1 }

space twice {
  input 3 x 8 x 8
  network { a: repeat oneof(1, 2) { conv(4) }, b: repeat oneof(1, 2) { conv(4) }, classify(2) }
}

space one = first with { input 3 x 16 x 16, kind: plain, body.depth: 2, side.out: 4 }
space two = twice with { a.depth: 1, b.depth: 2 }
"""


def test_what_another_architecture_decides_is_taken_over_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its input, decisions by the last name of their paths, and parameters; what is given goes before."""
    file, out = tmp_path / "stages.space", tmp_path / "next.space"
    file.write_text(STAGES)
    command = ["pin", str(file), "--space", "second", "--from", f"{file}:one", "-o", str(out)]
    assert main(command) == 0
    made = elaborate(read(out))
    assert made.base == "second"
    shape = made.graph.input.shape
    assert (shape.channels, shape.height, shape.width) == (3, 16, 16)
    assert {name: str(value) for name, value in made.params.items()} == {
        "kind": "plain",
        "depth": "2",
        "classes": "5",
        "rest": "7",
    }
    assert len(made.graph.decisions) == 2  # one for each of the two copies
    told = capsys.readouterr().err
    assert "taken over: input 3 x 16 x 16, kind: plain, depth: 2, classes: 5\n" in told
    assert "without a parameter of that name: out\n" in told
    given = [*command[:2], "depth=1", "conv.out=8", *command[2:], "-D", "classes=4"]
    assert main(given) == 0
    made = elaborate(read(out))
    assert (made.params["depth"], made.params["classes"]) == (1, 4) and not made.graph.decisions
    assert "depth" not in capsys.readouterr().err


PARTS = """
space both {
  input 3 x 16 x 16
  network {
    neck: repeat oneof(1..3) { op: oneof(conv(8), identity()) }
    body: oneof(conv(8), conv(16))
    global_pool()
    classify(10)
  }
  param open = true
}
space neck_only = both with { body: conv(out: 8) }
space found = neck_only with { neck.depth: 2, neck[0].op: identity, neck[1].op: conv }
"""


def test_decisions_of_the_same_path_are_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So a part that was searched by itself stays while another is searched."""
    file, out = tmp_path / "parts.space", tmp_path / "next.space"
    file.write_text(PARTS)
    assert (
        main(["pin", str(file), "body=conv(out: 16)", "--space", "both", "--from", f"{file}:found", "-o", str(out)])
        == 0
    )
    made = elaborate(read(out))
    assert not made.graph.decisions and made.pins["body"] == 1 and made.pins["neck.depth"] == 1
    assert "3 decisions of the same path" in capsys.readouterr().err
    command = ["pin", str(file), "--space", "both", "--from", f"{file}:found", "-o", str(out)]
    file.write_text(
        file.read_text().replace("space neck_only = both with { body: conv(out: 8) }", "space neck_only = both with {}")
    )
    assert main(command) == 0
    assert list(elaborate(read(out)).graph.decisions) == ["body"]


@pytest.mark.parametrize(
    ("space", "other", "said"),
    [
        ("third", "one", "decides nothing that is a parameter or a decision of `third`"),
        ("second", "two", "several values for `depth`: `a.depth` is 1, `b.depth` is 2; say depth=VALUE"),
    ],
)
def test_what_cannot_be_taken_over(
    space: str, other: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "stages.space"
    file.write_text(STAGES.replace("3 x 32 x 32", "3 x 8 x 8").replace("3 x 16 x 16, kind", "3 x 8 x 8, kind"))
    assert main(["pin", str(file), "--space", space, "--from", f"{file}:{other}"]) == 2
    told = capsys.readouterr()
    assert said in told.err and told.out == ""


@pytest.mark.parametrize(
    ("pins", "code", "said"),
    [
        (["stage.depth"], 2, "PLACE=VALUE"),
        ([], 2, "PLACE=VALUE"),
        (["stage.depth=7"], 1, "7"),
        (["stage.width=7"], 1, "stage.width"),
        (["--number", "x"], 2, "x"),
        (["stage.depth=2", "--name", "a b"], 2, "a b"),
    ],
)
def test_what_cannot_be_pinned(
    file: Path, pins: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pin", str(file), *pins]) == code
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_what_differs_is_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, pins in (("a", ["stage.depth=1"]), ("b", ["stage.depth=2", "stage[0].block.op=deep"])):
        assert main(["pin", str(file), *pins, "-o", str(file.parent / f"{name}.space"), "--name", name]) == 0
    capsys.readouterr()
    a, b = (str(file.parent / f"{name}.space") for name in "ab")
    assert main(["diff", a, b, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["figures"]["architectures"] == ["5", "15"]
    assert told["decisions"]["stage.depth"] == ["1", "2"]
    assert told["decisions"]["stage[0].block.op"] == ["oneof(wide, deep)", "deep"]
    assert "stage[0].block.deep.depth" not in told["decisions"]  # open in both alike
    assert main(["diff", a, f"{a}:a"]) == 0
    assert "no decision differs" in capsys.readouterr().out
    assert main(["diff", a, f"{file}:nothing"]) == 1


# --- Paths as they are printed ----------------------------------------------------------------------------------------


def some_values(decision: Decision) -> list[Any]:
    """The first, the last and one more value of a decision."""
    if decision.kind == "choice":
        return sorted({0, decision.n // 2, decision.n - 1})
    if decision.kind == "units":
        return [(), (0,), tuple(range(decision.n))]
    return list(itertools.islice(decision.values(), 3))


@pytest.mark.parametrize("name", [*spaces.names(), *(f"case: {name}" for name in CASES)])
def test_a_path_as_printed_pins_its_decision_to_a_value_as_printed(name: str) -> None:
    """Of each decision some values, all in one `with`; each sets that decision and no other."""
    is_case = name.startswith("case: ")
    graph = CASES[name[6:]].graph if is_case else shipped.graph(name)
    values = {path: some_values(decision) for path, decision in graph.decisions.items()}
    frame, binder = Frame(Builder(), Scope()), Binder(VOCABULARY, Declared())
    for turn in range(3):
        wanted = {path: found[turn % len(found)] for path, found in values.items()}
        lines = [f"  {path}: {graph.decisions[path].describe(value)}\n" for path, value in wanted.items()]
        (changed,) = parse(Source(f"space a = b with {{\n{''.join(lines)}}}\n")).items
        assert isinstance(changed, syntax.Derived)
        pins = [change for change in changed.changes if isinstance(change, syntax.Pin)]
        for pin in pins:
            ((path, value),) = resolve_pins([pin], graph, frame, binder)[0].items()
            assert canonical(graph.decisions[path], value) == canonical(graph.decisions[path], wanted.pop(path))
        assert not wanted


@pytest.mark.parametrize(
    "place",
    [
        "s1.repeat.depth: 2",
        "s1: { repeat.depth: 2 }",
        "s1: { repeat: { depth: 2 } }",
        "s1.repeat: { depth: 2 }",
    ],
)
def test_a_step_of_a_path_may_be_a_keyword(place: str) -> None:
    text = f"""
    space stages {{
      input 3 x 32 x 32
      operator stage(out) {{ repeat oneof(1, 2, 3) {{ conv(out, kernel: 3) }} }}
      network {{ s1: stage(8), s2: stage(16), classify(10) }}
    }}
    space deep = stages with {{ {place} }}
    """
    space = elaborate(Source(text), "deep")
    assert space.pins == {"s1.repeat.depth": 1}
    assert list(space.graph.decisions) == ["s2.repeat.depth"]


def test_the_command_line_takes_keywords_as_steps(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("space s { input 3 x 8 x 8, network { repeat oneof(1, 2) { conv(8) }, classify(10) } }")
    assert main(["pin", str(file), "repeat.depth=2"]) == 0
    assert "  repeat.depth: 2\n" in capsys.readouterr().out


def test_no_unit_is_kept_in_any_copy() -> None:
    text = """
        space s {
          input 3 x 8 x 8
          network {
            repeat 2 { residual { mixconv(in, hidden: { 3: units(2) }) } }
            classify(2)
          }
        }
        space t = s with { repeat.mixconv.hidden[3]: [] }
    """
    assert Numbering(elaborate(Source(text), "t").graph).total == 1


@pytest.mark.parametrize("place", ["else: a", "else.depth: 2", "else: { depth: 2 }"])
def test_what_stands_under_else_goes_by_it(place: str) -> None:
    body = "oneof(a: conv(4), b: conv(8))" if place == "else: a" else "repeat oneof(1, 2) { conv(4) }"
    text = f"""
        space s {{
          input 3 x 8 x 8
          network {{ match oneof(1, 2) {{ else: {body} }}, classify(2) }}
        }}
        space t = s with {{ {place} }}
    """
    assert Numbering(elaborate(Source(text), "t").graph).total == 2


def test_search_units_are_narrowed_for_a_second_search() -> None:
    """The first of them stay open; the network is that of a space which has no more from the start."""

    def text(units: int, more: str = "") -> str:
        network = f"b: mixconv(8, hidden: {{ 3: units({units}) }}), classify(3)"
        wide = f"space wide {{ input 3 x 8 x 8\n network {{ {network} }} }}\n"
        return f"{wide}space less = wide with {{ {more} }}\n"

    narrow = elaborate(Source(text(12, "b.hidden[3]: units(4)")), "less").graph
    small = elaborate(Source(text(4))).graph
    assert count(narrow).total == count(small).total == 2**4 - 1
    assert totals(narrow, ("macs", "params")) == totals(small, ("macs", "params"))
    for wrong in ("units(13)", "units(0)", "units(1, 2)", "units([0..3])"):
        with pytest.raises(CompileError, match="is narrowed to a number of its 12 units"):
            elaborate(Source(text(12, f"b.hidden[3]: {wrong}")), "less")
