"""A Gaussian process over points whose distances are known in several ways.

Its kernel is the powered exponential of all ways together: exp(-(sum of d^2 / l^2)^p), d the distance in one way and l
its length scale. With p = 1 each changed decision takes away a share of the covariance, whatever the others are, which
suits pairs that go well together; with p = 1/2 (Matern 1/2) it is rougher. It knows interactions, since decisions are
multiplied and not added. The mean is that of what was observed, the variance that of greatest likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

Floats: TypeAlias = NDArray[np.float64]

LENGTHS = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, math.inf)
POWERS = (0.5, 0.75, 1.0)
NOISES = (1e-3, 1e-2, 0.05, 0.2, 0.5)
ROUNDS = 2


@dataclass(frozen=True)
class Scales:
    """
    Attributes:
        lengths: of each way; infinite where it says nothing.
        power: p, at most 1.
        noise: its variance as a share of the process's.
    """

    lengths: tuple[float, ...]
    power: float = 0.5
    noise: float = 0.05


def kernel(squared: Sequence[Floats], scales: Scales) -> Floats:
    """[n, m] correlations.

    Args:
        squared: [n, m] of each way the squared distances.
    """
    total = np.zeros_like(squared[0])
    for apart, length in zip(squared, scales.lengths, strict=True):
        if length < math.inf:
            total += apart * length**-2
    if scales.power == 0.5:
        np.sqrt(total, out=total)
    elif scales.power != 1:
        np.power(total, scales.power, out=total)
    np.negative(total, out=total)
    return np.exp(total, out=total)


class Process:
    """The process given observations.

    Args:
        squared: [n, n] of each way the squared distances of the observed points.
        values: [n].

    Attributes:
        likelihood: the logarithm of the marginal likelihood, but for a constant that depends on n alone.
        variance: of the process without its noise.
    """

    def __init__(self, squared: Sequence[Floats], values: Floats, scales: Scales):
        self.scales = scales
        self.mean = float(values.mean())
        covariance = kernel(squared, scales)
        covariance.flat[:: len(values) + 1] += scales.noise
        self._lower = cholesky(covariance, lower=True, check_finite=False, overwrite_a=True)
        self._whitened = solve_triangular(self._lower, values - self.mean, lower=True, check_finite=False)
        self.variance = float(self._whitened @ self._whitened) / len(values)
        determinant = float(np.log(np.diag(self._lower)).sum())
        self.likelihood = -0.5 * len(values) * math.log(max(self.variance, 1e-300)) - determinant

    def at(self, squared: Sequence[Floats]) -> tuple[Floats, Floats]:
        """[m] means and standard deviations of the values, without noise, at other points.

        Args:
            squared: [n, m] of each way the squared distances from the observed points.
        """
        across = kernel(squared, self.scales)
        whitened = solve_triangular(self._lower, across, lower=True, check_finite=False, overwrite_b=True)
        left = np.maximum(1 - np.einsum("nm,nm->m", whitened, whitened), 0)
        return self.mean + self._whitened @ whitened, np.sqrt(self.variance * left)


def fitted(squared: Sequence[Floats], values: Floats) -> Scales:
    """The scales of greatest likelihood on a grid, one after the other."""
    best = Scales((1.6,) * len(squared))
    greatest = Process(squared, values, best).likelihood
    for _ in range(ROUNDS):
        before = best
        for number in range(len(squared) + 2):
            for other in _others(best, number):
                likelihood = Process(squared, values, other).likelihood
                if likelihood > greatest:
                    best, greatest = other, likelihood
        if best == before:
            break
    return best


def _others(scales: Scales, number: int) -> list[Scales]:
    """All that differ in one length, or behind these in the power or in the noise."""
    if number == len(scales.lengths) + 1:
        return [replace(scales, power=power) for power in POWERS if power != scales.power]
    if number == len(scales.lengths):
        return [replace(scales, noise=noise) for noise in NOISES if noise != scales.noise]
    head, old, tail = scales.lengths[:number], scales.lengths[number], scales.lengths[number + 1 :]
    return [replace(scales, lengths=(*head, length, *tail)) for length in LENGTHS if length != old]
