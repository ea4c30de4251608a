"""Phases of one-shot training: what is drawn from when on."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.runtime.phases import Phase, Phased
from nasdsl.runtime.problem import Result
from nasdsl.runtime.sampling import Rule, Sampler
from tests.test_search import run

SPACE = """
space elastic {
  input 1 x 12 x 12
  operator block() { residual { conv(8, kernel: oneof(1, 3, 5)), conv(8) } }
  network {
    conv(8)
    stage: repeat oneof(1..3) { block() }
    mix: conv(oneof(4, 8))
    classify(3)
  }
  search sample {
    rule: uniform
    phases: [
      { epochs: 1, open: [kernel] }
      { epochs: 1, open: [kernel, "stage.depth"] }
      { epochs: 1, open: [kernel, depth, mix] }
    ]
    hold_back: 12
    candidates: 2
    train: { epochs: 3, batch: 8, recalibrate: 0 }
  }
}
"""


def test_what_is_not_open_yet_is_at_its_greatest() -> None:
    graph = elaborate(Source(SPACE)).graph
    opened = ((), ("kernel",), ("stage.depth", "kernel"), ("stage", "mix"))
    phased = Phased(graph, Rule(name="uniform"), [Phase(epochs=10, open=words) for words in opened], 10)
    found = []
    for start in (0, 100, 200, 300):
        drawn = [phased.architectures(0, step)[0].architecture for step in range(start, start + 100)]
        found.append([one.to_json() for one in drawn])
    kernels, depths, widths = (
        [{value for one in part for path, value in one.items() if path.endswith(word)} for part in found]
        for word in ("kernel", "depth", "out")
    )
    assert kernels == [{5}, {1, 3, 5}, {1, 3, 5}, {1, 3, 5}]
    assert depths == [{3}, {3}, {1, 2, 3}, {1, 2, 3}]
    assert widths == [{8}, {8}, {8}, {4, 8}]
    everything = Sampler(graph, Rule(name="uniform"))  # the last one lasts: it is as without phases
    assert [one.architecture for one in phased.architectures(0, 999)] == [
        one.architecture for one in everything.architectures(0, 999)
    ]


def test_a_word_that_no_decision_has_is_told() -> None:
    graph = elaborate(Source(SPACE)).graph
    with pytest.raises(CompileError, match="no decision is called `kernl`"):
        Phased(graph, Rule(name="uniform"), [Phase(epochs=1, open=("kernl",))], 10)


@pytest.mark.usefixtures("bars")
def test_a_search_in_phases(tmp_path: Path) -> None:
    file = tmp_path / "elastic.space"
    file.write_text(SPACE)
    assert isinstance(run(file), Result)
    with pytest.raises(CompileError, match="the last of the phases begins when the training has ended"):
        run(file, "again", settings={"train__epochs": "2"})
