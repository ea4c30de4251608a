"""Screening: scores, what is removed and when, what is written, kills, and mistakes."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdsl.compiler.diagnostics import CompileError
from nasdsl.compiler.elaborate.settings import read_values
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.source import Source
from nasdsl.compiler.write import pinned
from nasdsl.runtime import loop
from nasdsl.runtime.problem import Narrowing
from nasdsl.runtime.search import Options, search
from nasdsl.runtime.strategies.screen import Screening, groups_of
from tests.test_search import Stop

pytestmark = pytest.mark.usefixtures("bars")

SPACE = """
space long {
  input 1 x 12 x 12
  operator first(out) = oneof([for k in [1, 3, 5], g in [1, 2]: conv(out, kernel: k, groups: g)])
  operator second(out) = oneof(conv(out), conv(out, kernel: 3), conv(out, kernel: 5), identity())
  network {
    conv(8, kernel: 3, stride: 2)
    body: repeat 2 { first(8) }
    tail: second(8)
    conv(oneof(4, 8))
    classify(classes: 3)
  }
  search gradient {
    choices: { optimiser: { name: adam, lr: 0.02 } }
    screen: { keep: 3, weight: 0.1 }
    train: { epochs: 2, batch: 8, optimiser: { lr: 0.005 }, augment: flip, recalibrate: 1 }
  }
}
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    file = tmp_path / "small.space"
    file.write_text(SPACE)
    return file


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Screening]:
    """Each screening that has come to its end."""
    found: list[Screening] = []
    plain = Screening.remove

    def seen(self: Screening, share: float) -> None:
        plain(self, share)
        if share == 1.0:
            found.append(self)

    monkeypatch.setattr(Screening, "remove", seen)
    return found


def run(space: Path, name: str = "found", watch: Any = None, **settings: str) -> Narrowing:
    """A screening into `name`.space and the folder `name`; settings are text by dotted name."""
    overrides = read_values({key.replace("__", "."): value for key, value in settings.items()})
    options = Options(run=space.parent / name, accelerator="cpu", overrides=overrides)
    found = search(read(space), space.parent / f"{name}.space", options, runtime="screen", watch=watch).result
    assert isinstance(found, Narrowing)
    return found


def test_what_stays_is_what_scores_most(space: Path, ended: list[Screening]) -> None:
    run(space)
    (screening,) = ended
    found = elaborate(read(space.parent / "found.space"))
    assert {path: d.n for path, d in found.graph.decisions.items()} == {
        "body[0].first": 3,
        "body[1].first": 3,
        "tail": 3,
        "conv[1].out": 2,
    }
    text = (space.parent / "found.space").read_text()
    assert text.count("first: oneof(") == 1 and text.count("tail: oneof(") == 1
    for group, scores, left in zip(screening.groups, screening.scores, screening.left, strict=True):
        for path in group.paths:
            kept = tuple(label for label, stays in zip(group.labels, left.tolist(), strict=True) if stays)
            assert found.graph.decisions[path].labels == kept
        sizes = [math.sqrt(sum(float(score) ** 2 for score in column)) for column in scores.detach().T]
        assert all(not stays or size > 0 for stays, size in zip(left.tolist(), sizes, strict=True))
    rows = [json.loads(line) for line in (space.parent / "found" / "choices.jsonl").read_text().splitlines()]
    alive = [{label for label, score in row["scores"]["first"].items() if score} for row in rows]
    assert all(later <= earlier for earlier, later in pairwise(alive)) and len(alive[0]) < 6


def test_the_term_is_the_sum_of_the_sizes_of_options(space: Path, ended: list[Screening]) -> None:
    run(space, train__epochs="0.2")
    (screening,) = ended
    with torch.no_grad():
        for number, scores in enumerate(screening.scores):
            scores.copy_(torch.arange(1.0, 1 + scores.numel()).view_as(scores))
            screening.left[number] = torch.tensor([True, *[False] * (scores.shape[1] - 2), True])
    wanted = 0.0
    for scores in screening.scores:
        for option in (0, scores.shape[1] - 1):
            wanted += math.sqrt(sum(float(place[option]) ** 2 for place in scores.detach()))
    screening.optimiser.zero_grad(set_to_none=True)
    term = screening.paid()
    assert float(term.detach()) == pytest.approx(0.1 * wanted)
    term.backward()
    for scores in screening.scores:
        assert scores.grad is not None and not scores.grad[:, 1:-1].any() and scores.grad[:, [0, -1]].all()


def test_of_parts_that_are_not_screened_one_option_is_drawn(space: Path, ended: list[Screening]) -> None:
    run(space, screen__parts="body", train__epochs="0.5")
    (screening,) = ended
    assert [group.name for group in screening.groups] == ["first"]
    for turn in (0, 1):
        weights = screening._weights(turn)
        assert sorted(weights["tail"].tolist()) == [0, 0, 0, 1] and sorted(weights["conv[1].out"].tolist()) == [
            0,
            1,
        ]
    assert elaborate(read(space.parent / "found.space")).graph.decisions["tail"].n == 4


def test_a_screening_that_was_stopped_ends_as_the_unbroken_one(
    space: Path, ended: list[Screening], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)  # after every step
    run(space, "unbroken")
    for at in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            run(space, "broken", watch=Stop(at))
    run(space, "broken")
    unbroken, broken = ended
    assert all(torch.equal(a, b) for a, b in zip(unbroken.scores, broken.scores, strict=True))
    texts = [(space.parent / f"{name}.space").read_text().replace(name, "it") for name in ("unbroken", "broken")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"screen__parts": "bod"}, "no decision lies under `bod`"),
        ({"screen__keep": "6"}, "no choice has more than 6 options"),
        ({"screen__parts": "tail", "screen__keep": "4"}, "no choice under `tail` has more than 4 options"),
    ],
)
def test_nothing_to_screen(space: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(CompileError) as caught:
        run(space, **settings)
    assert message in str(caught.value) and not (space.parent / "found").exists()


def test_groups_are_declarations() -> None:
    graph = elaborate(Source(SPACE)).graph
    assert [(group.name, len(group.paths), len(group.labels)) for group in groups_of(graph, (), 3)] == [
        ("first", 2, 6),
        ("tail", 1, 4),
    ]


def test_lists_that_differ_are_written_place_by_place() -> None:
    space = elaborate(Source(SPACE))
    text = pinned(space, {}, "less", "long.space", "", {"body[0].first": (0, 2), "body[1].first": (1, 3)})
    assert "first: oneof(conv(kernel: 1, groups: 1), conv(kernel: 3, groups: 1))" in text
    assert "first: oneof(conv(kernel: 1, groups: 2), conv(kernel: 3, groups: 2))" in text
    same = pinned(space, {}, "less", "long.space", "", {"body[0].first": (0, 2), "body[1].first": (0, 2)})
    assert "\n  first: oneof(conv(kernel: 1, groups: 1), conv(kernel: 3, groups: 1))\n" in same
