"""Search with a Gaussian process: the process against scikit-learn's, distances by hand, searches on known worth."""

from __future__ import annotations

import itertools
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
from nasdsl.runtime.evolution.features import WAYS, Features, squared
from nasdsl.runtime.evolution.loop import Search
from nasdsl.runtime.evolution.methods import History
from nasdsl.runtime.evolution.objectives import EvaluationError, Objectives
from nasdsl.runtime.evolution.process import LENGTHS, NOISES, POWERS, Process, Scales, fitted
from nasdsl.runtime.evolution.trial import Memory, Trial
from nasdsl.runtime.strategies.evolve import Evolve

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
    process = Process(squared(known, known), values, Scales((first, second), 0.5, noise))
    mean, deviation = process.at(squared(known, others))

    scaled, wanted = (np.hstack((part[0] / first, part[1] / second)) for part in (known, others))
    matern = ConstantKernel(process.variance, "fixed") * Matern(1.0, "fixed", nu=0.5)
    white = WhiteKernel(process.variance * noise, "fixed")
    theirs = GaussianProcessRegressor(matern + white, alpha=0, optimizer=None).fit(scaled, values - values.mean())
    expected, spread = theirs.predict(wanted, return_std=True)
    assert mean == pytest.approx(expected + values.mean(), abs=1e-6)
    assert deviation == pytest.approx(np.sqrt(spread**2 - process.variance * noise), abs=1e-6)
    n = len(values)
    constant = -0.5 * n * (1 + np.log(2 * np.pi))  # the variance is that of greatest likelihood
    assert process.likelihood + constant == pytest.approx(theirs.log_marginal_likelihood_value_)
    for factor in (0.9, 1.1):
        worse = ConstantKernel(process.variance * factor, "fixed") * Matern(1.0, "fixed", nu=0.5)
        white = WhiteKernel(process.variance * factor * noise, "fixed")
        less = GaussianProcessRegressor(worse + white, alpha=0, optimizer=None).fit(scaled, values - values.mean())
        assert less.log_marginal_likelihood_value_ < theirs.log_marginal_likelihood_value_


@given(st.integers(0, 1000), st.sampled_from(POWERS), st.sampled_from(LENGTHS), st.sampled_from(NOISES))
@runs(max_examples=25, deadline=None)
def test_the_process_is_the_conditional_of_a_joint_normal(seed: int, power: float, first: float, noise: float) -> None:
    """With the covariances written out one by one, and the inverse of their matrix."""
    points = _points(seed, 15, (2, 3))
    values = points[0][:12, 0] - points[1][:12, 2]

    def covariance(i: int, j: int) -> float:
        apart = [float(((block[i] - block[j]) ** 2).sum()) for block in points]
        return float(np.exp(-((apart[0] / first**2 + apart[1] / 1.6**2) ** power)))

    whole = np.asarray([[covariance(i, j) for j in range(15)] for i in range(15)])
    inverse = np.linalg.inv(whole[:12, :12] + noise * np.eye(12))
    centred = values - values.mean()
    variance = centred @ inverse @ centred / 12
    rest = whole[12:, 12:] - whole[12:, :12] @ inverse @ whole[:12, 12:]
    own, others = [block[:12] for block in points], [block[12:] for block in points]
    process = Process(squared(own, own), values, Scales((first, 1.6), power, noise))
    mean, deviation = process.at(squared(own, others))
    assert process.variance == pytest.approx(variance)
    assert mean == pytest.approx(values.mean() + whole[12:, :12] @ inverse @ centred, abs=1e-7)
    assert deviation == pytest.approx(np.sqrt(np.maximum(variance * np.diag(rest), 0)), abs=1e-6)


def test_what_says_nothing_has_no_part_and_noise_is_found() -> None:
    known = _points(0, 120, (2, 3))
    clean = np.sin(known[0][:, 0]) + known[0][:, 1]
    found = fitted(squared(known, known), clean)
    assert found.lengths[0] < found.lengths[1] and found.noise == NOISES[0]
    noisy = clean + 2 * np.random.default_rng(1).standard_normal(120)
    assert fitted(squared(known, known), noisy).noise == NOISES[-1]


# --- Distances --------------------------------------------------------------------------------------------------------


def _by_hand(space: Any, paths: list[str], a: Architecture, b: Architecture) -> float:
    """The squared distance of two architectures in some decisions as the documentation has it, unscaled."""
    total = 0.0
    for path in paths:
        decision = space.graph.decisions[path]
        one, other = (x.indices.get(path) for x in (a, b))
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
    kinds: dict[str, list[str]] = {}
    for path, decision in mixed.graph.decisions.items():
        kinds.setdefault(decision.declaration, []).append(path)
    groups = sorted(kinds.values(), key=len, reverse=True)
    assert features.ways == len(groups) + 1 == 6
    rows = candidates.some(400, np.random.default_rng(0))
    points = features(rows)
    for apart in squared(points, points):
        assert apart.mean() == pytest.approx(1, rel=0.15)
    architectures = candidates.encoding.decode(rows[:12])
    for own, group in zip(squared([x[:12] for x in points], [x[:12] for x in points]), groups, strict=False):
        expected = np.asarray([[_by_hand(mixed, group, a, b) for b in architectures] for a in architectures])
        ratio = own[expected > 0] / expected[expected > 0]
        assert len(ratio) and ratio == pytest.approx(ratio[0]) and (own[expected == 0] < 1e-9).all()


def test_copies_of_a_decision_are_interchangeable_in_one_of_the_ways() -> None:
    space = nasdsl.load("nasbench201")
    candidates = Candidates(space.graph, functions=False)
    features = Features(candidates)
    rows = np.asarray([[0, 1, 2, 3, 4, 3], [3, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 4]], candidates.encoding.dtype)
    decisions, alike = squared(features(rows), features(rows))
    assert alike[0, 1] == pytest.approx(0, abs=1e-12) and alike[0, 2] > 0.01
    assert decisions[0, 1] == pytest.approx(6 * decisions[0, 2])


def test_many_columns_are_projected_and_distances_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    space = nasdsl.load("hitdetector")
    candidates = Candidates(space.graph, functions=False)
    rows = candidates.some(30, np.random.default_rng(0))
    exact = Features(candidates)(rows)
    monkeypatch.setattr("nasdsl.runtime.evolution.features.MOST_COLUMNS", 300)
    near = Features(candidates)(rows)
    wide = [number for number, block in enumerate(exact) if block.shape[1] > 300]
    assert wide and all(near[number].shape[1] == 300 for number in wide)
    pairs = np.triu_indices(30, 1)
    for number in wide:
        ratio = squared(near, near)[number][pairs] / squared(exact, exact)[number][pairs]
        assert ratio.min() > 0.6 and ratio.max() < 1.5


def test_decisions_of_many_kinds_share_a_way() -> None:
    space = nasdsl.load("trionet")
    candidates = Candidates(space.graph, functions=False)
    features = Features(candidates)
    assert len({decision.declaration for decision in space.graph.decisions.values()}) > WAYS == features.ways - 1


# --- Promise ----------------------------------------------------------------------------------------------------------


@given(st.floats(-2, 2), st.floats(0.01, 3), st.floats(-2, 2))
@runs(max_examples=30, deadline=None)
def test_expected_improvement_is_its_integral(mean: float, deviation: float, best: float) -> None:
    grid = np.linspace(-9, 9, 20_001)
    weight = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi) * (grid[1] - grid[0])
    expected = float((np.maximum(best - (mean + deviation * grid), 0) * weight).sum())
    (found,), (bound,) = surrogate._improvement(np.asarray([mean]), np.asarray([deviation]), best)
    assert found == pytest.approx(expected, abs=1e-5) and bound == mean - deviation


def test_what_is_known_already_is_no_news() -> None:
    found = surrogate._news(np.asarray([0.0, 0.1, 1.0, 100.0]), 0.01)
    assert found[0] == 0 and found[3] == pytest.approx(1, abs=0.01) and (np.diff(found) > 0).all()
    assert surrogate._news(np.zeros(2), 0.0).tolist() == [1, 1]


def test_scalar_improvement_prefers_what_dominates() -> None:
    values = np.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    mean = np.asarray([[0.5, 0.5], [0.2, 0.2], [-0.5, -0.5]])
    for seed in range(20):
        found, bound = surrogate._scalar_improvement(mean, np.zeros_like(mean), values, np.random.default_rng(seed))
        assert found[0] <= found[1] < found[2] and bound[0] > bound[1] > bound[2]


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
        values = [(list(self.space.graph.decisions).index(path), value) for path, value in architecture.indices.items()]
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
        made.proposer(),
        ledger or Memory(),
        trials,
        seed,
        1000,
    )
    return search.run(), evaluator


def test_it_finds_what_random_search_does_not(mixed: Any) -> None:
    """The best of 80 uniform draws is on average among the best 1/81."""
    measure, numbering = Pairs(mixed), Numbering(mixed.graph)
    some = np.random.default_rng(0).integers(numbering.total, size=4000)
    sample = np.sort([measure.worth(numbering.unrank(int(i))) for i in some])
    shares = []
    for seed in range(3):
        trials, _ = searched(mixed, trials=80, seed=seed)
        best = max(trial.objectives[0] for trial in trials)
        shares.append(1 - np.searchsorted(sample, best) / len(sample))
    assert np.mean(shares) < 1 / 2 / 81


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
    trials, evaluator = searched(mixed, trials=25, broken=0.3)
    assert len(trials) == 25 < len(evaluator.asked) == len(set(evaluator.asked))


def test_workers_look_in_different_places(mixed: Any) -> None:
    """What is pending is believed to be as good as expected, and not uncertain any more: proposals with the very same
    random numbers, not told what has been seen, go elsewhere."""
    trials, _ = searched(mixed, trials=30)
    candidates, objectives = Candidates(mixed.graph, None, False), Objectives({"worth": True})
    losses = objectives.losses([trial.objectives for trial in trials])
    seen = {trial.proposal.function for trial in trials}
    pending: list[Trial] = []
    chosen = []
    for number in range(4):
        history = History(trials, losses, objectives, pending, seen, 30, {}, set(), candidates)
        idea = surrogate.Surrogate().propose(history, np.random.default_rng(5))
        assert idea is not None
        chosen.append(idea.row.tobytes())
        proposal = candidates.proposal(idea.row, 0, (), {})
        pending.append(Trial(100 + number, number, proposal, "running"))
    assert len(set(chosen)) == 4


def test_a_believed_value_moves_no_mean_and_leaves_less_to_learn() -> None:
    own, pending, others = (_points(seed, n, (2,)) for seed, n in ((0, 20), (1, 3), (2, 9)))
    values = np.sin(own[0][:, 0]) + own[0][:, 1]
    scales = Scales((1.6,), 1.0, 0.001)
    (alone, first), (both, second) = (surrogate._process(scales, own, values, p) for p in (None, pending))
    assert alone.at(squared(first, pending))[0] == pytest.approx(both.at(squared(second, pending))[0], abs=0.02)
    assert (both.at(squared(second, pending))[1] <= np.sqrt(both.variance * scales.noise)).all()
    assert (both.at(squared(second, others))[1] <= 1.05 * alone.at(squared(first, others))[1]).all()


def test_a_thousand_columns_of_units_are_searched() -> None:
    space = nasdsl.load("hrnas_small")
    trials, _ = searched(space, trials=14, directions={"worth": True, "macs": False})
    assert len({trial.proposal.key for trial in trials}) == 14
