"""Search with a Gaussian process: the process against scikit-learn's, distances by hand, searches on known worth."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

import nasdsl
from nasdsl.compiler.architecture import Architecture
from nasdsl.compiler.sample import Numbering
from nasdsl.runtime.evolution import surrogate
from nasdsl.runtime.evolution.candidates import Candidates
from nasdsl.runtime.evolution.features import Features, squared
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.objectives import EvaluationError, Objectives
from nasdsl.runtime.evolution.process import LENGTHS, NOISES, Process, Scales, fitted
from nasdsl.runtime.evolution.samplers import find_method
from nasdsl.runtime.evolution.trial import Memory, Proposal, Trial
from nasdsl.runtime.strategies.evolve import Evolve, Rates

SPACE = """
space mixed {
  input 1 x 8 x 8
  operator body() = oneof(
    plain: conv(4, kernel: 3)
    deep: { conv(4, kernel: oneof(1, 3, 5)) -> conv(4) }
    none: identity()
  )
  let order = permute([4, 8, 12])
  network {
    stem: conv(4)
    body() -> body() -> body() -> body()
    mixconv(8, hidden: { 3: units(4) })
    for out in order { conv(out) }
    a: conv(8), b: conv(8, kernel: 1), c: conv(8, kernel: 5)
    sum(from: manyof(2, [a, b, c]))
    classify(classes: 3)
  }
}
"""


@pytest.fixture(scope="module")
def mixed() -> Any:
    return nasdsl.loads(SPACE)


# --- The process ------------------------------------------------------------------------------------------------------


def _points(seed: int, n: int, columns: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, width)) for width in columns]


@given(st.integers(0, 1000), st.sampled_from(LENGTHS[1:-1]), st.sampled_from(LENGTHS[1:-1]), st.sampled_from(NOISES))
@runs(max_examples=25, deadline=None)
def test_the_process_is_that_of_scikit_learn(seed: int, first: float, second: float, noise: float) -> None:
    known, others = _points(seed, 20, (3, 2)), _points(seed + 1, 7, (3, 2))
    values = known[0][:, 0] * known[1][:, 1] + np.sin(known[0][:, 2]) + 5
    process = Process(squared(known, known), values, Scales((first, second), noise))
    mean, deviation = process.at(squared(known, others))

    scaled, wanted = (np.hstack((part[0] / first, part[1] / second)) for part in (known, others))
    matern = ConstantKernel(process.variance, "fixed") * Matern(1.0, "fixed", nu=0.5)
    white = WhiteKernel(process.variance * noise, "fixed")
    theirs = GaussianProcessRegressor(matern + white, alpha=0, optimizer=None).fit(scaled, values - values.mean())
    expected, spread = theirs.predict(wanted, return_std=True)
    assert mean == pytest.approx(expected + values.mean(), abs=1e-8)
    assert deviation == pytest.approx(np.sqrt(spread**2 - process.variance * noise), abs=1e-6)
    n = len(values)
    constant = -0.5 * n * (1 + np.log(2 * np.pi))  # the variance is that of greatest likelihood
    assert process.likelihood + constant == pytest.approx(theirs.log_marginal_likelihood_value_)
    for factor in (0.9, 1.1):
        worse = ConstantKernel(process.variance * factor, "fixed") * Matern(1.0, "fixed", nu=0.5)
        white = WhiteKernel(process.variance * factor * noise, "fixed")
        less = GaussianProcessRegressor(worse + white, alpha=0, optimizer=None).fit(scaled, values - values.mean())
        assert less.log_marginal_likelihood_value_ < theirs.log_marginal_likelihood_value_


def test_what_says_nothing_has_no_part_and_noise_is_found() -> None:
    known = _points(0, 120, (2, 3))
    clean = np.sin(known[0][:, 0]) + known[0][:, 1]
    found = fitted(squared(known, known), clean)
    assert found.lengths[0] < found.lengths[1] and found.noise == NOISES[0]
    noisy = clean + 2 * np.random.default_rng(1).standard_normal(120)
    assert fitted(squared(known, known), noisy).noise == NOISES[-1]


# --- Distances --------------------------------------------------------------------------------------------------------


def _by_hand(space: Any, a: Architecture, b: Architecture) -> float:
    """The squared distance of two architectures as the documentation has it, unscaled."""
    total = 0.0
    for path, decision in space.graph.decisions.items():
        one, other = (x.get(path) for x in (a, b))
        if one is None and other is None:
            continue
        sides = []
        for value in (one, other):
            if value is None:
                sides.append(np.zeros(decision.n + 1))
                continue
            here = np.zeros(decision.n + 1)
            here[-1] = np.sqrt(0.5) * (decision.present is not True)
            if decision.kind == "units":
                here[0] = len(value) * np.sqrt(2 / decision.n)
            elif decision.kind == "subset":
                here[list(value)] = np.sqrt(0.5 / decision.size)
            elif decision.kind == "order":
                here[list(value)] = np.arange(decision.n) / (decision.n - 1) * np.sqrt(6 / decision.n)
            elif decision.ordered:
                here[0] = sorted(decision.items).index(decision.items[value]) / (decision.n - 1)
            else:
                here[value] = np.sqrt(0.5)
            sides.append(here)
        total += float(((sides[0] - sides[1]) ** 2).sum())
    return total


def test_distances_are_those_by_hand_and_one_on_average(mixed: Any) -> None:
    candidates = Candidates(mixed.graph)
    features = Features(candidates)
    assert features.names == ("decisions", "alike")
    rows = candidates.some(400, np.random.default_rng(0))
    points = features(rows)
    for apart in squared(points, points):
        assert apart.mean() == pytest.approx(1, rel=0.15)
    architectures = candidates.encoding.decode(rows[:12])
    (own, _) = squared([x[:12] for x in points], [x[:12] for x in points])
    expected = np.asarray([[_by_hand(mixed, a, b) for b in architectures] for a in architectures])
    ratio = own[expected > 0] / expected[expected > 0]
    assert ratio == pytest.approx(ratio[0]) and (own[expected == 0] < 1e-9).all()


def test_copies_of_a_decision_are_interchangeable_in_one_of_the_ways() -> None:
    space = nasdsl.load("nasbench201")
    candidates = Candidates(space.graph, functions=False)
    features = Features(candidates)
    rows = np.asarray([[0, 1, 2, 3, 4, 3], [3, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 4]], candidates.encoding.dtype)
    decisions, alike = squared(features(rows), features(rows))
    assert alike[0, 1] == pytest.approx(0, abs=1e-12) and alike[0, 2] > 0.01
    assert decisions[0, 1] == pytest.approx(6 * decisions[0, 2])


def test_many_columns_are_projected_and_distances_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    space = nasdsl.load("trionet")
    candidates = Candidates(space.graph, functions=False)
    rows = candidates.some(30, np.random.default_rng(0))
    exact = Features(candidates)(rows)
    monkeypatch.setattr("nasdsl.runtime.evolution.features.MOST_COLUMNS", 300)
    near = Features(candidates)(rows)
    assert exact[0].shape[1] > 300 == near[0].shape[1]
    pairs = np.triu_indices(30, 1)
    ratio = squared(near, near)[0][pairs] / squared(exact, exact)[0][pairs]
    assert 0.7 < ratio.min() and ratio.max() < 1.4


# --- Promise ----------------------------------------------------------------------------------------------------------


@given(st.floats(-2, 2), st.floats(0.01, 3), st.floats(-2, 2))
@runs(max_examples=30, deadline=None)
def test_expected_improvement_is_its_integral(mean: float, deviation: float, best: float) -> None:
    grid = np.linspace(-9, 9, 20_001)
    weight = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi) * (grid[1] - grid[0])
    expected = float((np.maximum(best - (mean + deviation * grid), 0) * weight).sum())
    (found,) = (
        surrogate._improvement(
            np.asarray(
                [
                    mean,
                ]
            ),
            np.asarray([deviation]),
            best,
        )
        if expected > 1e-6
        else (0,)
    )
    assert found == pytest.approx(expected, abs=1e-5)


def test_scalar_improvement_prefers_what_dominates() -> None:
    values = np.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    mean = np.asarray([[0.5, 0.5], [0.2, 0.2], [-0.5, -0.5]])
    for seed in range(20):
        found = surrogate._scalar_improvement(mean, np.zeros_like(mean), values, np.random.default_rng(seed))
        assert found[0] <= found[1] < found[2]


def test_quantiles_go_up_with_what_they_stand_for() -> None:
    losses = np.asarray([3.0, 1.0, 1.0, 100.0])
    values = surrogate._quantiles(losses)
    assert values[1] == values[2] < values[0] < values[3]
    wanted = np.asarray([-5.0, 0.0, 1.0, 2.0, 3.0, 50.0, 100.0, 200.0])
    found = surrogate._quantiles_of(wanted, losses, values)
    assert (np.diff(found) > 0).all()
    assert found[[2, 4, 6]] == pytest.approx(values[[1, 0, 3]])
    constant = surrogate._quantiles_of(wanted, np.ones(4), np.zeros(4))
    assert (np.diff(constant) > 0).all() and constant[2] == 0


def test_the_trials_learnt_from_are_the_best_and_the_latest() -> None:
    losses = np.random.default_rng(0).standard_normal((2000, 1))
    used = surrogate._learnt_from(losses)
    assert len(used) == len(set(used.tolist())) == surrogate.MOST
    best = set(np.argsort(losses[:, 0])[: surrogate.MOST // 2].tolist())
    assert best <= set(used.tolist())
    assert min(set(used.tolist()) - best) > 2000 - surrogate.MOST
    assert surrogate._learnt_from(losses[:99]).tolist() == list(range(99))


# --- Searches ---------------------------------------------------------------------------------------------------------


class Pairs:
    """Worth by pairs of decisions that go well together, the same tables for every seed; some cannot be evaluated."""

    def __init__(self, space: Any, broken: float = 0.0):
        self.space, self.broken = space, broken
        self.asked: list[Architecture] = []

    def evaluate(self, architecture: Architecture, seed: int) -> dict[str, float]:
        self.asked.append(architecture)
        worth = self.worth(architecture)
        if np.random.default_rng(abs(hash(round(worth, 9)))).random() < self.broken:
            raise EvaluationError("out of luck")
        return {"worth": worth, "other": -worth + len(architecture), "same": 1.0}

    def worth(self, architecture: Architecture) -> float:
        total = 0.0
        values = [(list(self.space.graph.decisions).index(path), value) for path, value in architecture.items()]
        for (i, one), (j, other) in itertools.combinations(values, 2):
            left, right = (len(v) if isinstance(v, tuple) else v for v in (one, other))
            total += np.sin(7 * i + 3 * left) * np.cos(5 * j + 2 * right)
        return total


def searched(
    space: Any,
    method: str = "surrogate",
    trials: int = 40,
    seed: int = 0,
    directions: dict[str, bool] | None = None,
    ledger: Any = None,
    broken: float = 0.0,
    pool: Any = None,
    **settings: Any,
) -> tuple[list[Trial], Pairs]:
    made = Evolve.model_validate({"method": method, "trials": trials, **settings})
    candidates = Candidates(space.graph, made.window, False, pool)
    evaluator = Pairs(space, broken)
    search = Search(
        candidates,
        evaluator,
        Objectives(directions or {"worth": True}),
        find_method(method),
        Rates(made),
        ledger or Memory(),
        trials,
        seed,
        1000,
    )
    return search.run(), evaluator


def test_it_finds_what_random_search_does_not(mixed: Any) -> None:
    measure = Pairs(mixed)
    numbering = Numbering(mixed.graph)
    rng = np.random.default_rng(0)
    sample = np.sort([measure.worth(numbering.unrank(int(i))) for i in rng.integers(numbering.total, size=3000)])
    shares = []
    for seed in range(3):
        trials, _ = searched(mixed, trials=60, seed=seed)
        best = max(trial.objectives[0] for trial in trials)
        shares.append(1 - np.searchsorted(sample, best) / len(sample))
    assert np.mean(shares) < 1 / 600  # the best of 60 uniform draws is among the best 1/61 on average


def test_the_best_cell_of_a_table_is_found_where_pairs_matter() -> None:
    space = nasdsl.load("nasbench201")
    rows = Candidates(space.graph, functions=False).some(600, np.random.default_rng(3))
    measure = Pairs(space)
    worths = [measure.worth(one) for one in Candidates(space.graph, functions=False).encoding.decode(rows)]
    found = [max(t.objectives[0] for t in searched(space, trials=90, seed=seed, pool=rows)[0]) for seed in range(3)]
    assert np.mean([worth > np.mean(found) - 1e-9 for worth in worths]) <= 2 / len(worths)


@pytest.mark.parametrize("directions", [{"worth": True}, {"worth": True, "macs": False, "other": True}])
def test_a_search_goes_on_as_if_it_had_not_been_interrupted(mixed: Any, directions: dict[str, bool]) -> None:
    unbroken, _ = searched(mixed, trials=36, directions=directions)
    ledger = Memory()
    for trials in (7, 23, 36):  # each time with a method that has seen nothing yet
        resumed, _ = searched(mixed, trials=trials, directions=directions, ledger=ledger)
    assert [trial.proposal for trial in resumed] == [trial.proposal for trial in unbroken]


@pytest.mark.parametrize(
    "directions",
    [
        {"worth": True, "macs": False},
        {"worth": True, "other": True, "params": False, "flops": True},
        {"same": True},
        {"same": False, "worth": True},
        {"params": False},
        {"macs": True, "params": True},
    ],
)
def test_budgets_hold_and_nothing_repeats_whatever_the_objectives(mixed: Any, directions: dict[str, bool]) -> None:
    costs = Candidates(mixed.graph).population
    most = int(np.median(costs.costs(costs.draw(200, 0), ["macs"])))
    trials, evaluator = searched(mixed, trials=30, directions=directions, budget=[{"macs": most}])
    assert len(set(evaluator.asked)) == len(trials) == 30
    assert all(nasdsl.cost(mixed, one)["macs"] <= most for one in evaluator.asked)


def test_a_cost_is_minimised_as_one_that_is_known(mixed: Any) -> None:
    """Without a model: the first proposal after the draws is the cheapest of a thousand candidates."""
    trials, _ = searched(mixed, trials=14, directions={"macs": False})
    costs = Candidates(mixed.graph).population
    cheap = np.quantile(costs.costs(costs.draw(2000, 1), ["macs"]), 0.01)
    assert all(trial.objectives[0] <= cheap for trial in trials[10:])


def test_failed_trials_are_not_learnt_from_and_not_tried_again(mixed: Any) -> None:
    trials, evaluator = searched(mixed, trials=40, broken=0.3)
    assert len(trials) == 40 < len(evaluator.asked) == len(set(evaluator.asked))


def test_workers_look_in_different_places(mixed: Any) -> None:
    """What is pending lowers the promise near it: the model believes that it is as good as expected, and no better."""
    trials, _ = searched(mixed, trials=30)
    candidates = Candidates(mixed.graph, None, False)
    rows: dict[int, Any] = {}
    objectives = Objectives({"worth": True})
    losses = objectives.losses([trial.objectives for trial in trials])
    pending: list[Trial] = []
    chosen = []
    history = surrogate.History(trials, losses, objectives, pending, set(), 30, rows, set(), candidates)
    history.seen = {trial.proposal.function for trial in trials}
    for number in range(4):
        idea = surrogate.Surrogate()(history, Rates(Evolve()), np.random.default_rng(5))  # the same chance for all
        assert idea is not None
        proposal: Proposal = candidates.proposal(idea.row, 0, (), {})
        chosen.append(idea.row)
        known = surrogate._Known(history)
        before = surrogate._promise(known, history, idea.row[None], np.random.default_rng(0))
        pending.append(replace(trials[0], index=100 + number, number=0, proposal=proposal, state="running"))
        history.seen.add(proposal.function)
        after = surrogate._promise(surrogate._Known(history), history, idea.row[None], np.random.default_rng(0))
        assert after[0] < before[0]
    assert len({row.tobytes() for row in chosen}) == 4


def test_thousands_of_columns_and_a_space_too_wide_for_its_window() -> None:
    space = nasdsl.load("hrnas_small")
    trials, _ = searched(space, trials=14, directions={"worth": True, "macs": False})
    assert len({trial.proposal.key for trial in trials}) == 14
