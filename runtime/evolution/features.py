"""Architectures as points: how far two of them lie apart, seen in several ways.

- What is chosen where. Of a choice a column for each option, or one number where the options are numbers; of a subset a
  column for each item; of an order the place of each item; of units how many are kept (which ones, no search of some
  hundred evaluations could learn); and whether it is there, where it may be absent. Decisions that one place in the
  source made are copies of each other and one way of seeing, so that what matters can be told from what does not.
- The same summed over all copies: how often each option was chosen, wherever. It learns from all copies at once, and is
  short where there are hundreds of them.

Each way is scaled so that two random architectures are apart by 1 on average (their squared distance), so that the
same length scales suit every space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.arrays.encoding import ABSENT, columns_of, is_empty
from nasdsl.compiler.decision import Decision
from nasdsl.runtime.evolution.candidates import Candidates, Row, Rows

Points: TypeAlias = list[NDArray[np.float64]]
"""[n, columns] of each way of seeing."""
Floats: TypeAlias = NDArray[np.float64]

WAYS = 6  # of seeing decisions, beside that of their copies: each has a length scale that is to be learnt
REFERENCE = 128  # random architectures that set the scales
MOST_COLUMNS = 1024  # of one way; more are projected at random, which keeps distances (Johnson and Lindenstrauss 1984)


class Features:
    """Of the architectures that a search may propose. Always the same for the same space and budgets.

    Attributes:
        ways: how many ways of seeing there are; those in which no two architectures differ are left out.
    """

    def __init__(self, candidates: Candidates):
        self.candidates = candidates
        encoding = candidates.encoding
        self._parts = [
            (decision, encoding.columns[path])
            for path, decision in encoding.decisions.items()
            if decision.cardinality() > 1 or decision.present is not True
        ]
        self._groups = _alike([decision for decision, _ in self._parts])
        rng = np.random.Generator(np.random.PCG64(0))
        raw = self._raw(candidates.some(REFERENCE, rng))
        # The mean squared distance between two of them is twice the sum of the variances.
        apart = [2 * float(block.var(axis=0).sum()) for block in raw]
        self._kept = [number for number, value in enumerate(apart) if value > 1e-12]
        self._scales = [apart[number] ** -0.5 for number in self._kept]
        self._turns = {
            number: rng.standard_normal((raw[number].shape[1], MOST_COLUMNS)) / np.sqrt(MOST_COLUMNS)
            for number in self._kept
            if raw[number].shape[1] > MOST_COLUMNS
        }
        self.ways = len(self._kept)

    def __call__(self, rows: Rows) -> Points:
        """
        Args:
            rows: [n, width] of the candidates' encoding.
        """
        raw = self._raw(rows)
        kept = [raw[number] @ self._turns[number] if number in self._turns else raw[number] for number in self._kept]
        return [block * scale for block, scale in zip(kept, self._scales, strict=True)]

    def _raw(self, rows: Rows) -> Points:
        """[n, columns] of each way, unscaled."""
        blocks = [_columns(decision, rows[:, columns]) for decision, columns in self._parts]
        out = [_beside([blocks[i] for i in group], len(rows)) for group in _bundled(self._groups)]
        if len(self._groups) < len(blocks):
            sums = [np.sum([blocks[i] for i in group], axis=0) / np.sqrt(len(group)) for group in self._groups]
            out.append(_beside(sums, len(rows)))
        return out


def squared(a: Points, b: Points) -> list[Floats]:
    """[n, m] of each way the squared distances between points."""
    return [
        np.maximum((x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2 * (x @ y.T), 0) for x, y in zip(a, b, strict=True)
    ]


def _beside(blocks: Sequence[Floats], n: int) -> Floats:
    return np.concatenate([np.zeros((n, 0)), *blocks], axis=1)


def _alike(decisions: Sequence[Decision]) -> list[list[int]]:
    """The numbers of the decisions that are copies of each other."""
    groups: dict[Any, list[int]] = {}
    for i, decision in enumerate(decisions):
        key = (
            decision.declaration or decision.path,
            decision.kind,
            tuple(decision.items),
            decision.size,
            decision.present is True,
        )
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def _bundled(groups: Sequence[list[int]]) -> list[list[int]]:
    """At most `WAYS` groups: the greatest, and one of all the others."""
    ranked = sorted(groups, key=len, reverse=True)
    if len(ranked) <= WAYS:
        return ranked
    return [*ranked[: WAYS - 1], sorted(i for group in ranked[WAYS - 1 :] for i in group)]


def _columns(decision: Decision, block: Rows) -> Floats:
    """[n, columns] of one decision; two different options are apart by about 1."""
    here = block[:, 0] != ABSENT
    found = _present(decision, block) * here[:, None]
    if decision.present is True:
        return found
    return np.concatenate((found, here[:, None] * np.sqrt(0.5)), axis=1)


def _present(decision: Decision, block: Rows) -> Floats:
    """[n, columns] where it is there; else anything."""
    n = decision.n
    if is_empty(decision):
        return np.zeros((len(block), 0))
    if decision.kind == "units":
        return (block == 1).sum(axis=1, keepdims=True) * np.sqrt(2 / n)
    if decision.kind == "order":
        places = np.argsort(block, axis=1, kind="stable")  # of each item
        return places / max(1, n - 1) * np.sqrt(6 / n)
    if decision.kind == "choice" and decision.ordered:
        levels = sorted(set(decision.items))
        values = np.asarray([levels.index(item) for item in decision.items]) / max(1, len(levels) - 1)
        return values[np.maximum(block, 0)]
    one_hot = np.zeros((len(block), n))
    for column in range(columns_of(decision)):
        chosen: Row = block[:, column]
        one_hot[np.arange(len(block)), np.maximum(chosen, 0)] = 1
    return one_hot * np.sqrt(0.5 / columns_of(decision))
