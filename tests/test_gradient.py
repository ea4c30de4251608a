"""The search by gradient: rules, turns, prices, budgets, kills, several processes, and mistakes in settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.diagnostics import CompileError, NasdslError
from nasdsl.compiler.odds import Odds
from nasdsl.compiler.parse import read
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.population import Population
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.source import Source
from nasdsl.compiler.space import Space
from nasdsl.runtime import loop
from nasdsl.runtime.choices import Choices, Learning, Rule
from nasdsl.runtime.fit import evaluate_space
from nasdsl.runtime.search import Options
from nasdsl.runtime.strategies.gradient import Gradient, GradientSearch, Paid
from tests.forks import Forks
from tests.test_search import Stop, assert_same_results, run, small_data

pytestmark = pytest.mark.usefixtures("bars")

ROOT = Path(__file__).resolve().parents[1]

SPACE = """
space small {
  input 1 x 12 x 12
  operator block() = oneof(
    none
    plain: conv(8, act: none)
    deep: { conv(oneof(8, 16), kernel: oneof(1, 3)) -> conv(8, act: none) }
  )
  network {
    stem: conv(8, kernel: 3, stride: 2)
    stage: repeat 2 { identity() + block() }
    relu()
    classify(classes: 3)
  }
  search gradient {
    choices: { optimiser: { name: adam, lr: 0.05, betas: [0.5, 0.999] } }
    train: { epochs: 2, batch: 8, optimiser: { lr: 0.005 }, augment: flip, recalibrate: 1 }
  }
}
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    file = tmp_path / "small.space"
    file.write_text(SPACE)
    return file


Logits = dict[str, torch.Tensor]


@pytest.fixture
def logits(monkeypatch: pytest.MonkeyPatch) -> list[Logits]:
    """Of each search that comes to its end, the logits that it decodes."""
    found: list[Logits] = []
    plain = GradientSearch._result

    def seen(self: GradientSearch, problem: Any, search: Any) -> Any:
        found.append({path: one.detach().clone() for path, one in search.choices.logits.items()})
        return plain(self, problem, search)

    monkeypatch.setattr(GradientSearch, "_result", seen)
    return found


def made() -> Space:
    return elaborate(Source(SPACE))


def rows_of(space: Path, name: str = "found") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (space.parent / name / "history.jsonl").read_text().splitlines()]


# --- What a search gives ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["softmax", "gumbel", "pair", "{ name: softmax, noise: 0.1 }"])
def test_every_rule_ends_in_a_network_that_is_the_likeliest(space: Path, rule: str, logits: list[Logits]) -> None:
    result = run(space, settings={"rule": rule})
    found = elaborate(read(space.parent / "found.space"))
    assert not found.graph.decisions
    assert cost_of(found.graph, {}) == {key: int(result.costs[key]) for key in ("macs", "params")}
    again = evaluate_space(elaborate(read(space.parent / "found.space")), Options(accelerator="cpu"), None, 8)
    assert again["top1"] == result.metrics["top1"]
    rows = rows_of(space)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert 0 < rows[-1]["entropy"] < 1 and rows[-1]["entropy"] == pytest.approx(entropy(logits[0]))
    numbering = Numbering(made().graph)
    best = max(likelihood(numbering.unrank(i), logits[0]) for i in range(numbering.total))
    assert likelihood(result.architecture, logits[0]) == pytest.approx(best)


def likelihood(one: Architecture, logits: Mapping[str, torch.Tensor]) -> float:
    return sum(float(logits[path].log_softmax(0)[index]) for path, index in one.indices.items())


def entropy(logits: Mapping[str, torch.Tensor]) -> float:
    shares = [
        float(torch.distributions.Categorical(logits=one).entropy()) / math.log(len(one)) for one in logits.values()
    ]
    return sum(shares) / len(shares)


def test_choices_learn_after_a_while_and_every_so_often(
    space: Path, logits: list[Logits], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    plain = torch.optim.Adam.step

    def counted(self: torch.optim.Adam) -> Any:
        if type(self) is torch.optim.Adam:  # that of the weights, AdamW, is a child of it
            steps.append(len(self.param_groups[0]["params"]))
        return plain(self)

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    run(space, "never", settings={"choices__after": "2 epochs"})
    assert not steps and not any(one.any() for one in logits[0].values())
    run(space, "late", settings={"choices__after": "1 epochs", "choices__every": "2"})
    n = len(small_data().train) // 2 // 8  # steps of an epoch
    assert len(steps) == -(-n // 2) and all(one.any() for one in logits[1].values())


def test_a_budget_holds_where_the_likeliest_options_break_it(space: Path, logits: list[Logits]) -> None:
    space.write_text(SPACE.replace("    none\n", "").replace("plain: conv(8", "plain: conv(8, kernel: 5"))
    free = run(space, "free", settings={"train__epochs": "1"})
    limit = int(free.costs["macs"]) - 1
    held = run(space, "held", settings={"train__epochs": "1", "budget": f"macs <= {limit}", "candidates": "3"})
    assert held.costs["macs"] <= limit
    for path, one in logits[0].items():
        assert torch.equal(one, logits[1][path]), "a budget changes nothing of the training"


def test_requirements_hold(space: Path) -> None:
    text = SPACE.replace(
        "relu()\n",
        "relu()\n    let a = oneof(4, 8)\n    let b = oneof(4, 8)\n    require a != b\n"
        "    conv(a) -> conv(b) -> conv(8)\n",
    )
    space.write_text(text)
    for rule in ("softmax", "gumbel", "pair"):
        one = run(space, rule, settings={"rule": rule, "train__epochs": "0.5"}).architecture.to_json()
        assert one["a"] != one["b"]


# --- Costs that are paid for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_the_expected_cost_comes_to_its_target(share: float) -> None:
    """Where a loss without noise asks for large networks, the less the larger they are."""
    graph = elaborate(Source(SPACE.replace("repeat 2", "repeat 1"))).graph
    odds, choices = Odds(graph, ("macs",)), Choices(graph)
    settings = Gradient.model_validate({"cost": {"target": {"macs": share}, "rate": 0.05}})
    assert settings.cost is not None
    paid = Paid(settings.cost, odds, {path: one.detach() for path, one in choices.log_probabilities().items()})
    greatest = Population(graph).extreme("macs", greatest=True).cost
    optimiser = torch.optim.SGD(choices.parameters(), 2.0)
    for _ in range(250):
        optimiser.zero_grad()
        log_p = choices.log_probabilities()
        (paid(log_p) - (odds.expected(log_p, ("macs",))[0] / greatest).sqrt()).backward()
        optimiser.step()
    expected = float(odds.expected(choices.log_probabilities(), ("macs",)).detach())
    assert expected == pytest.approx(share * greatest, rel=0.05)


def test_a_price_makes_networks_cheaper(space: Path) -> None:
    found = {}
    for weight in ("0", "100"):
        run(space, f"at{weight}", settings={"cost__of": "[macs, params]", "cost__weight": weight, "train__epochs": "4"})
        found[weight] = rows_of(space, f"at{weight}")[-1]["expected macs"]
    assert found["100"] < 0.7 * found["0"]


# --- Kills and processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["softmax", "gumbel"])
def test_a_search_that_was_stopped_ends_as_the_unbroken_one(
    space: Path, rule: str, logits: list[Logits], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)  # after every step
    settings = {"rule": rule, "cost": "{ target: macs <= 0.3 }", "train__ema__decay": "0.9", "choices__every": "2"}
    run(space, "unbroken", settings=settings)
    for at in (1, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            run(space, "broken", settings=settings, watch=Stop(at))
    run(space, "broken", settings=settings)
    assert_same_results(space, "unbroken", "broken")
    assert rows_of(space, "unbroken") == rows_of(space, "broken")
    unbroken, broken = logits
    for path, one in unbroken.items():
        assert torch.equal(one, broken[path])
    assert any(one.any() for one in unbroken.values())


RANKS = """
import json, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import torch
torch.set_num_threads(1)
from tests import test_gradient as t
from nasdsl.runtime import search as searching
from nasdsl.runtime.search import leave

searching.open_data = t.small_data
out = Path(sys.argv[2])
plain = t.GradientSearch._result

def seen(self, problem, search):
    facts = {
        "logits": {path: one.tolist() for path, one in search.choices.logits.items()},
        "weights": [float(p.detach().double().sum()) for p in search.network.parameters()],
    }
    rank, world = problem.fabric.global_rank, problem.fabric.world_size
    (out.parent / f"{world}.{rank}.json").write_text(json.dumps(facts))
    return plain(self, problem, search)

t.GradientSearch._result = seen
searching.search(t.read(out.parent / "small.space"), out, t.Options(run=out.parent / "run", accelerator="cpu"))
leave(0)
"""


@pytest.mark.slow
def test_two_processes_make_the_same_choices(space: Path, forks: Forks) -> None:
    folder = space.parent
    space.write_text(
        SPACE.replace("epochs: 2", "epochs: 1").replace("search gradient {", "search gradient {\n    rule: gumbel")
    )
    script = folder / "ranks.py"
    script.write_text(RANKS)
    done = forks.script(script, str(Path(__file__).parent), str(folder / "found.space"), ranks=2)
    assert done.code == 0, done.said
    first, second = (json.loads((folder / f"2.{rank}.json").read_text()) for rank in (0, 1))
    assert first == second and any(any(one) for one in first["logits"].values())
    assert not elaborate(read(folder / "found.space")).graph.decisions


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("rule", "darts", "`rule.name` should be"),
        ("rule", "{ name: gumbel, noise: 0.1 }", "has `noise`, which is of `softmax`"),
        ("rule", "{ name: gumbel, temperature: [1, 0] }", "should be two numbers above 0"),
        ("choices.optimiser", "{ name: adamw, lr: 0.1 }", "should be `adam` or `sgd`, with an `lr`"),
        ("choices.every", "0", "`choices.every` should be greater than 0"),
        ("split", "1", "`split` should be less than 1"),
        ("cost", "{ weight: 1 }", "needs the measures that are paid for"),
        ("cost", "{ target: { macs: 0.5, params: 0.5 } }", "on one measure"),
        ("cost.of", "[watts]", "names no measure"),
        ("budget", "macs <= 0", "limits costs"),
        ("budget", "macs", "limits costs"),
        ("budget", "[macs <= 1K, params]", "limits costs"),
        ("budget", "3", "limits costs"),
        ("cost.target", "macs", "limits costs"),
        ("cost", "3", "should be a record, `{ name: value }`"),
        ("choices.optimiser", "adamw", "should be `adam` or `sgd`"),
        ("candidates", "0", "`candidates` should be greater than 0"),
    ],
)
def test_mistakes_in_settings_are_told_where_they_stand(space: Path, setting: str, value: str, message: str) -> None:
    for where in ("file", "command line"):
        if where == "file":
            outer, _, inner = setting.partition(".")
            entry = f"{outer}: {{ {inner}: {value} }}" if inner else f"{outer}: {value}"
            own = [line for line in SPACE.splitlines(keepends=True) if line.startswith(f"    {outer}:")]
            text = SPACE.replace(own[0], "") if own else SPACE
            space.write_text(text.replace("search gradient {\n", f"search gradient {{\n    {entry}\n"))
            settings = {}
        else:
            space.write_text(SPACE)
            settings = {setting.replace(".", "__"): value}
        with pytest.raises(NasdslError) as refused:
            run(space, settings=settings)
        assert message in str(refused.value), str(refused.value)
        if isinstance(refused.value, CompileError) and where == "file":
            assert refused.value.diagnostics[0].span is not None
    assert not (space.parent / "found.space").exists() and not (space.parent / "found").exists()


def test_a_budget_that_nothing_meets_is_told_before_the_training(space: Path) -> None:
    for budget in ("macs <= 10", "[macs <= 10, params <= 1M]"):
        with pytest.raises(NasdslError, match="no architecture has macs of at most 10: the cheapest has"):
            run(space, settings={"budget": budget})
    assert not (space.parent / "found").exists()


def test_spaces_that_cannot_be_relaxed_are_told(space: Path) -> None:
    space.write_text(SPACE.replace("kernel: 3, stride: 2)", "kernel: 3, stride: oneof(1, 2))"))
    with pytest.raises(CompileError, match=r"`stem\.stride` cannot be a mixture"):
        run(space)
    assert not (space.parent / "found").exists(), "before anything is written"
    run(space, settings={"rule": "gumbel", "train__epochs": "0.5"})


def test_choices_keep_the_papers_optimiser_where_nothing_else_is_said() -> None:
    """Betas are Adam's alone, and each entry that is given goes before."""
    given: list[Any] = [{}, "adam", {"lr": 0.1}, {"name": "adam", "betas": [0.8, 0.9]}]
    found = [Learning.model_validate({"optimiser": one} if one else {}).optimiser for one in given]
    assert [(one.name, one.lr, one.betas) for one in found] == [
        ("adam", 3e-4, (0.5, 0.999)),
        ("adam", 3e-4, (0.5, 0.999)),
        ("adam", 0.1, (0.5, 0.999)),
        ("adam", 3e-4, (0.8, 0.9)),
    ]
    assert Learning.model_validate({"optimiser": {"name": "sgd", "lr": 0.1}}).optimiser.betas == (0.9, 0.999)


def test_without_weights_of_its_own_a_rule_is_what_it_is_called() -> None:
    for text, name in (("gumbel", "gumbel"), ({"name": "pair"}, "pair")):
        assert Gradient.model_validate({"rule": text}).rule.name == name
    assert Rule(name="gumbel", temperature=(5.0, 0.1)).temperature_at(0.5) == pytest.approx(2.55)
