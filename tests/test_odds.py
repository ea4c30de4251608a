"""Spaces under a probability for each value of each decision: small ones by hand, those that ship by draws."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, milp

from nasdsl.compiler import odds as module
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.arrays.evaluator import Evaluator
from nasdsl.compiler.cost import cost_of
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import ArgumentError, CompileError
from nasdsl.compiler.engine.limits import Infeasible, TooWide
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.odds import Odds
from nasdsl.compiler.pipeline import elaborate
from nasdsl.compiler.population import Population
from nasdsl.compiler.relaxable import MOST_VALUES, is_relaxable, unrelaxable
from nasdsl.compiler.sample import Numbering
from nasdsl.compiler.source import Source
from nasdsl.compiler.values.expr import Value
from tests import shipped
from tests.enumeration import cost_of as cost_by_hand
from tests.enumeration import enumerate_all, generator, measured, space
from tests.odds import ByHand

thorough = settings(
    max_examples=int(os.environ.get("NASDSL_EXAMPLES", "15")), deadline=None, suppress_health_check=list(HealthCheck)
)

PROGRAMS = {
    "nested choices": """
        network {
          conv(oneof(4, 8))
          oneof(a: conv(oneof(4, 8), kernel: oneof(1, 3)), b: identity(), c: residual { conv(in, kernel: oneof(3, 5)) })
          classify(2)
        }
    """,
    "a searched depth": """
        network {
          repeat oneof(0, 1, 2, 3) { conv(8, kernel: oneof(1, 3)) -> oneof(relu(), conv(4)) }
          classify(2)
        }
        require macs <= 40K
    """,
    "connections": """
        operator cell() {
          x: relu()
          a: conv(4)
          b: conv(4, kernel: oneof(1, 3))
          c: sum(from: manyof(2, [x, a, b]))
          d: oneof(a: conv(4, kernel: oneof(1, 3, 5)), b: identity())
        }
        network { conv(4) -> cell() -> cell() -> classify(2) }
        require macs >= 30K
        require params <= 700
    """,
    "requirements": """
        let widths = manyof(2, [4, 8, 12, 16])
        let k = oneof(1, 3, 5)
        network { conv(widths[0], kernel: k) -> conv(widths[1], kernel: oneof(1, 3)) -> classify(2) }
        require k <= 3 or widths[0] == 4
        require flops in 20K..300K
    """,
    "nothing to decide": "network { conv(4) -> classify(2) }",
    "one value each": "network { conv(oneof(4)) -> repeat oneof(1) { conv(manyof(1, [4])[0]) } -> classify(2) }",
}


BUDGETS = {
    "a searched depth": {"macs": (0, 40_000)},
    "connections": {"macs": (30_000, 10**9), "params": (0, 700)},
    "requirements": {"flops": (20_000, 300_000)},
}
"""What the programs say of costs, once more."""


def small(name: str) -> Graph:
    text = f"space s {{\n input 3 x 8 x 8\n {PROGRAMS[name]}\n}}\n"
    return elaborate(Source(text), "s").graph


def listed(graph: Graph) -> list[Architecture]:
    numbering = Numbering(graph)
    return [numbering.unrank(number) for number in range(numbering.total)]


def by_hand(name: str, graph: Graph) -> ByHand:
    everything = [architecture.indices for architecture in listed(graph)]
    costs = [cost_of(graph, one, names=("macs", "params", "flops")) for one in everything]
    budgets = BUDGETS.get(name, {}).items()
    inside = [all(low <= cost[measure] <= high for measure, (low, high) in budgets) for cost in costs]
    assert any(inside) and all(inside) is not bool(budgets), "a budget that cuts nothing tests nothing"
    return ByHand(graph, everything, {name: [cost[name] for cost in costs] for name in costs[0]}, inside)


def some_log_p(odds: Odds, seed: int = 0, spread: float = 1.0) -> dict[str, torch.Tensor]:
    rng = generator(seed)
    return {
        path: torch.log_softmax(torch.from_numpy(spread * rng.normal(size=len(own))), 0)
        for path, own in odds.values.items()
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_small_programs_agree_with_enumeration(name: str) -> None:
    graph = small(name)
    by_hand(name, graph).check(Odds(graph, ("macs", "params")), 0)


@thorough
@given(measured(kinds=("choice", "choice", "subset")), st.integers(0, 1 << 30))
def test_random_spaces_agree_with_enumeration(made: tuple[Graph, dict[str, Value]], seed: int) -> None:
    graph, costs = made
    everything = enumerate_all(graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "totals", lambda graph, names: {name: costs[name] for name in names})
        if not everything:
            with pytest.raises(Infeasible):
                Odds(graph)
            return
        odds = Odds(graph)
    told = {name: [cost_by_hand(cost, one) for one in everything] for name, cost in costs.items()}
    ByHand(graph, everything, told).check(odds, seed)


@pytest.mark.parametrize("name", ["nested choices", "connections", "requirements"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    odds = Odds(small(name), ("macs", "params"))
    leaves = [own.requires_grad_() for own in some_log_p(odds).values()]

    def told(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        log_p = dict(zip(odds.values, given, strict=True))
        return odds.expected(log_p) / 1e4, odds.log_partition(log_p), *odds.marginals(log_p).values()

    assert torch.autograd.gradcheck(told, leaves)


def test_a_probability_of_nought_has_a_gradient_of_nought() -> None:
    odds = Odds(small("nested choices"))
    logits = {path: torch.randn(len(own), requires_grad=True) for path, own in odds.values.items()}
    cut = {path: own.masked_fill(torch.arange(len(own)) == 0, -torch.inf) for path, own in logits.items()}
    odds.expected({path: torch.log_softmax(own, 0) for path, own in cut.items()}).sum().backward()
    for own in logits.values():
        assert own.grad is not None and own.grad.isfinite().all() and own.grad[0] == 0


# --- Spaces that ship -------------------------------------------------------------------------------------------------

SHIPPED = [
    ("nasbench201", ""),
    ("darts", ""),
    ("autofpn", ""),
    ("autofpn", "autofpn_neck"),
    ("autofpn", "autofpn_head"),
    ("hitdetector", ""),
    ("hitdetector", "screened"),
    ("ofa_mobilenetv3", ""),
    ("smnas_modules", ""),
    ("smnas_small", ""),
    ("smnas_structure", ""),
    ("trionet", ""),
    ("trionet_small", ""),
]
QUICK = [("autofpn", ""), ("ofa_mobilenetv3", ""), ("smnas_small", ""), ("trionet", "")]
DRAWS = int(os.environ.get("NASDSL_DRAWS", "0"))


@pytest.mark.parametrize(("file", "name"), SHIPPED if DRAWS else QUICK)
def test_means_are_those_of_draws(file: str, name: str) -> None:
    """Within three standard errors, the costs of the draws told by the evaluator."""
    graph = shipped.graph(file, name)
    odds = Odds(graph)
    log_p = some_log_p(odds, 3)
    n = DRAWS or 5000
    rows = odds.draw(n, log_p, generator(5))
    costs = Evaluator(graph).costs(rows, ("macs", "params")).astype(np.float64)
    errors = costs.std(axis=0, ddof=1) / np.sqrt(n)
    assert (np.abs(costs.mean(axis=0) - odds.expected(log_p).numpy()) <= 3 * errors).all()


def test_the_likeliest_is_that_of_integer_programming() -> None:
    """Of Hit-Detector, whose costs are sums over its decisions one by one."""
    graph = shipped.graph("hitdetector", "screened")
    odds, names = Odds(graph), ("macs", "params")
    encoding, evaluator = odds.diagram.encoding, Evaluator(graph)
    owner = [path for path, own in odds.values.items() for _ in own]
    values = [value for own in odds.values.values() for value in own]
    first = dict.fromkeys(odds.values, 0)
    rows = encoding.encode([first, *({**first, path: v} for path, v in zip(owner, values, strict=True))])
    costs = evaluator.costs(rows, names).astype(np.float64)
    start, added = costs[0], costs[1:] - costs[0]
    least, greatest = (np.array([f(name)[0] for name in names]) for f in (odds.diagram.least, odds.diagram.greatest))
    scale = greatest - least
    one_each = (np.array(owner) == np.array(list(odds.values))[:, None]).astype(float)
    for seed, shares in enumerate([(0.05, 1), (0.3, 0.5), (0.8, 0.35), (0.2, 0.2)]):
        log_p = some_log_p(odds, seed)
        high = least + np.array(shares) * scale
        solved = milp(
            -torch.cat(list(log_p.values())).numpy(),
            integrality=np.ones(len(owner)),
            bounds=(0, 1),
            constraints=[
                LinearConstraint(one_each, 1, 1),
                LinearConstraint(added.T / scale[:, None], -np.inf, (high - start) / scale),
            ],
            options={"mip_rel_gap": 0},
        )
        ((found, score),) = odds.likeliest(log_p, 1, {name: (None, end) for name, end in zip(names, high, strict=True)})
        assert (evaluator.costs(encoding.encode([found]), names)[0] <= high).all()
        assert score == pytest.approx(-solved.fun, abs=1e-6)


def test_even_odds_have_the_mean_of_all_architectures() -> None:
    """As the histogram knows it, where no decision hangs on another."""
    graph = shipped.graph("autofpn")
    odds, population = Odds(graph), Population(graph)
    even = {path: torch.zeros(len(own), dtype=torch.float64) for path, own in odds.values.items()}
    means = [population.spread(name).mean for name in ("macs", "params")]
    assert odds.expected(even).tolist() == pytest.approx(means, rel=1e-12)
    assert float(odds.log_partition(even)) == pytest.approx(np.log(float(population.total)), rel=1e-12)
    assert odds.likeliest(even, 1, {"macs": (None, means[0])})[0][1] == pytest.approx(-np.log(float(population.total)))


# --- What is refused --------------------------------------------------------------------------------------------------


def test_what_cannot_be_relaxed_is_told_once_for_all_copies() -> None:
    graph = shipped.graph("hrnas_small")
    told = unrelaxable(graph)
    assert {one.code for one in told} == {"unrelaxable"}
    assert len(told) == len({d.declaration for d in graph.decisions.values()}) < len(graph.decisions)
    with pytest.raises(CompileError, match="cannot be relaxed: it is search units"):
        Odds(graph)


def test_subsets_may_have_so_many_values() -> None:
    few = Decision("few", "subset", tuple(range(14)), size=5)
    many = Decision("many", "subset", tuple(range(16)), size=8)
    order = Decision("order", "order", ("a", "b"))
    assert few.cardinality() <= MOST_VALUES < many.cardinality()
    assert [is_relaxable(decision) for decision in (few, many, order)] == [True, False, False]
    told = unrelaxable(space([few, many, order]))
    assert [one.message for one in told] == [
        "`many` cannot be relaxed: it is a subset of 12,870 values, more than the 4,096 that can have probabilities",
        "`order` cannot be relaxed: it is an order, and each order would need a probability of its own",
    ]


def test_a_tangled_space_is_too_wide() -> None:
    with pytest.raises(TooWide):
        Odds(shipped.graph("nasbench_mr"))


def test_probabilities_are_checked() -> None:
    odds = Odds(small("nested choices"))
    log_p = some_log_p(odds)
    path = next(iter(log_p))
    for wrong, message in [
        ({path: log_p[path][:1]}, "has 2 values, and not \\[1\\]"),
        ({path: log_p[path] * torch.nan}, f"of a probability of `{path}` is not a number"),
        ({path: log_p[path] + torch.inf}, f"of a probability of `{path}` is not a number"),
        ({"stem": log_p[path]}, "no decision `stem`"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            odds.expected({**log_p, **wrong})
    with pytest.raises(ArgumentError, match="has no probabilities"):
        odds.marginals({path: log_p[path]})
    with pytest.raises(ArgumentError, match="no measure"):
        odds.expected(log_p, ("memory",))
    with pytest.raises(ArgumentError, match="the likeliest 0"):
        odds.likeliest(log_p, 0)
    with pytest.raises(Infeasible, match="the cheapest has"):
        odds.likeliest(log_p, 1, {"macs": (None, 1)})


def test_multiples_of_measures_are_known_with_them() -> None:
    odds = Odds(small("connections"), ("flops",))
    log_p = {path: own.float() for path, own in some_log_p(odds).items()}
    flops, macs = odds.expected(log_p, ("flops", "macs"))
    assert flops == 2 * macs and flops.dtype == torch.float32
    assert odds.expected(log_p).tolist() == [flops]
    ((best, _),) = odds.likeliest(log_p)
    inside = {"flops": (None, 2 * cost_of(odds.graph, best.indices)["macs"])}
    assert odds.likeliest(log_p, 1, inside)[0][0] == best
