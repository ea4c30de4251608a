"""Architectures under a probability for each value of each decision, one by one: what `Odds` is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.engine.lattice import Window
from nasdsl.compiler.engine.limits import Infeasible
from nasdsl.compiler.graph import Graph
from nasdsl.compiler.odds import Odds
from tests.enumeration import generator

FEW = 40
"""Architectures that are all put in order."""


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


class ByHand:
    """A table of all architectures that meet the requirements but budgets; sums are torch's own, and so are gradients.

    Args:
        everything: of each architecture the indices of its present decisions.
        costs: by measure, of each architecture.
        inside: of each architecture, whether it is inside the budgets.
    """

    def __init__(
        self,
        graph: Graph,
        everything: Sequence[Mapping[str, Any]],
        costs: Mapping[str, Sequence[float]],
        inside: Sequence[bool] | None = None,
    ):
        self.names = list(costs)
        self.values = {path: list(decision.values()) for path, decision in graph.decisions.items()}
        self.rows = [frozenset(one.items()) for one in everything]
        self.costs = torch.tensor([costs[name] for name in costs], dtype=torch.float64).T.reshape(-1, len(costs))
        self.inside = np.array([True] * len(self.rows) if inside is None else inside, np.bool_)
        number = {path: {value: i for i, value in enumerate(own)} for path, own in self.values.items()}
        # [architectures, decisions] places in all values one after the other, each decision's absence as its last.
        self.at = torch.zeros(len(self.rows), len(self.values), dtype=torch.long)
        first = 0
        for place, (path, own) in enumerate(self.values.items()):
            self.at[:, place] = torch.tensor(
                [first + (number[path][one[path]] if path in one else len(own)) for one in everything]
            )
            first += len(own) + 1

    def scores(self, log_p: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """[architectures]: the logarithms of the products of probabilities."""
        parts = [torch.cat((log_p[path], torch.zeros(1, dtype=torch.float64))) for path in self.values]
        if not parts:
            return torch.zeros(len(self.rows), dtype=torch.float64)
        return torch.cat(parts)[self.at].sum(1)

    def marginals(self, p: torch.Tensor) -> dict[str, torch.Tensor]:
        found, first = {}, 0
        for place, (path, own) in enumerate(self.values.items()):
            size = len(own) + 1
            found[path] = torch.zeros(size, dtype=torch.float64).index_add(0, self.at[:, place] - first, p)
            first += size
        return found

    def check(self, odds: Odds, seed: int) -> None:
        """Compares everything for probabilities of several kinds.

        Raises:
            AssertionError: with what differs.
        """
        assert odds.values == {path: tuple(own) for path, own in self.values.items()}
        rng = np.random.Generator(np.random.PCG64(seed))
        for kind in ("even", "any", "ties", "zeros"):
            log_p = self.log_p(kind, rng)
            if not self.rows or not (self.scores(log_p).max() > -np.inf):
                self.check_nothing(odds, log_p)
                continue
            self.check_sums(odds, log_p, rng)
            self.check_likeliest(odds, log_p, rng)
            self.check_draws(odds, log_p, seed)

    def log_p(self, kind: str, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        found = {}
        for path, own in self.values.items():
            x = torch.from_numpy(rng.normal(size=len(own)) * rng.choice((0.1, 1, 5)))
            if kind == "even":
                x = torch.log_softmax(0 * x, 0)
            elif kind == "ties":  # sums of these are exact
                x = torch.from_numpy(rng.integers(-2, 1, len(own)).astype(np.float64))
            elif kind == "zeros":
                x[torch.from_numpy(rng.random(len(own)) < 0.3)] = -torch.inf
            found[path] = x.requires_grad_()
        return found

    def check_nothing(self, odds: Odds, log_p: Mapping[str, torch.Tensor]) -> None:
        assert odds.log_partition(log_p) == -torch.inf
        for ask in (odds.expected, odds.marginals, odds.likeliest):
            with pytest.raises(ArgumentError, match="probability above 0"):
                ask(log_p)
        with pytest.raises(ArgumentError, match="probability above 0"):
            odds.draw(1, log_p, generator(0))

    def check_sums(self, odds: Odds, log_p: Mapping[str, torch.Tensor], rng: np.random.Generator) -> None:
        """Means, log Z, marginals and the gradients of all of them."""
        scores = self.scores(log_p)
        p = torch.softmax(scores, 0)
        wanted = [p @ self.costs, torch.logsumexp(scores, 0)[None], *self.marginals(p).values()]
        found = [odds.expected(log_p, self.names), odds.log_partition(log_p)[None], *odds.marginals(log_p).values()]
        for one, other in zip(found, wanted, strict=True):
            close(one, other)
        if not self.values:
            return
        factors = [torch.from_numpy(rng.normal(size=one.shape)) for one in wanted]
        leaves = list(log_p.values())
        slopes = [
            torch.autograd.grad(
                torch.stack([(f * one).sum() for f, one in zip(factors, ones, strict=True)]).sum(),
                leaves,
                materialize_grads=True,
            )
            for ones in (found, wanted)
        ]
        scale = 1 + float(self.costs.abs().max()) * sum(float(f.abs().max()) for f in factors)
        for one, other in zip(*slopes, strict=True):
            assert one.isfinite().all()
            close(one / scale, other / scale)

    def check_likeliest(self, odds: Odds, log_p: Mapping[str, torch.Tensor], rng: np.random.Generator) -> None:
        scores = self.scores(log_p).detach()
        log_of = dict(zip(self.rows, (scores - torch.logsumexp(scores, 0)).tolist(), strict=True))
        for window in (None, self.window(rng), self.window(rng)):
            inside = self.inside & self.within(window or {})
            best = sorted((log_of[self.rows[i]] for i in np.flatnonzero(inside)), reverse=True)
            best = [score for score in best if score > -np.inf]
            allowed = {self.rows[i] for i in np.flatnonzero(inside)}
            if not best:
                with pytest.raises(Infeasible):
                    odds.likeliest(log_p, 1, window)
                continue
            for k in (1, 3, len(best) + 1) if len(best) <= FEW else (1, 3):
                found = odds.likeliest(log_p, k, window)
                rows = [frozenset(architecture.indices.items()) for architecture, _ in found]
                assert len(set(rows)) == len(rows) == min(k, len(best)), f"{len(rows)} of {k} in {window}"
                assert allowed.issuperset(rows), f"outside {window}"
                told = [score for _, score in found]
                np.testing.assert_allclose(told, best[:k], rtol=1e-9, atol=1e-9, err_msg=f"{k} in {window}")
                np.testing.assert_allclose(told, [log_of[row] for row in rows], rtol=1e-9, atol=1e-9)
            assert odds.likeliest(log_p, 3, window) == odds.likeliest(log_p, 3, window)

    def window(self, rng: np.random.Generator) -> Window:
        """Bounds near the costs of some architecture, on some measures."""
        middle = self.costs[int(rng.integers(len(self.rows)))].tolist()
        window: dict[str, tuple[float | None, float | None]] = {}
        for number, name in enumerate(self.names):
            spread = float(self.costs[:, number].std(correction=0))
            kind = int(rng.integers(4))
            away = float(rng.choice((-0.2, 0, 0, 0.3, 1))) * spread
            if kind < 3:
                window[name] = (middle[number] - away if kind else None, middle[number] + away if kind != 1 else None)
        return window

    def within(self, window: Window) -> np.ndarray:
        inside = np.ones(len(self.rows), np.bool_)
        for name, (low, high) in window.items():
            cost = self.costs[:, self.names.index(name)].numpy()
            inside &= (cost >= (-np.inf if low is None else low)) & (cost <= (np.inf if high is None else high))
        return inside

    def check_draws(self, odds: Odds, log_p: Mapping[str, torch.Tensor], seed: int, n: int = 2000) -> None:
        """Of each architecture as many as its probability says, within six standard deviations and three."""
        p = torch.softmax(self.scores(log_p).detach(), 0).numpy()
        rows = odds.diagram.encoding.decode(odds.draw(n, log_p, generator(seed)))
        place = {row: i for i, row in enumerate(self.rows)}
        seen = np.bincount([place[frozenset(one.indices.items())] for one in rows], minlength=len(p))
        assert not seen[p == 0].any()
        away = np.abs(seen - n * p)
        assert (away <= 6 * np.sqrt(n * p * (1 - p)) + 3).all(), f"{away.max()} of {n}"
