"""Layers of a diagram: arcs between the states before and after a few decisions, and how layers are joined."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """Whole numbers of any size, as an array: `mantissa` x 2^`exponent`, and exactly modulo 2^64.

    Mantissas lie in [0.5, 1), with zero as 0 x 2^0; their relative error is that of float64.
    """

    mantissa: Floats
    exponent: Ints
    residue: NDArray[np.uint64]

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Weights:
        listed = list(numbers)
        if max(listed, default=0) < 1 << 63:
            whole = np.array(listed, np.int64)
            mantissa, exponent = np.frexp(whole.astype(np.float64))
            return cls(mantissa, exponent.astype(np.int64), whole.astype(np.uint64))
        split = [_frexp(number) for number in listed]
        return cls(
            np.array([mantissa for mantissa, _ in split], np.float64),
            np.array([exponent for _, exponent in split], np.int64),
            np.array([number & _WORD for number in listed], np.uint64),
        )

    @classmethod
    def ones(cls, n: int) -> Weights:
        return cls(np.full(n, 0.5), np.ones(n, np.int64), np.ones(n, np.uint64))

    def __getitem__(self, at: Any) -> Weights:
        return Weights(self.mantissa[at], self.exponent[at], self.residue[at])

    def __mul__(self, other: Weights) -> Weights:
        mantissa, carry = np.frexp(self.mantissa * other.mantissa)
        return Weights(mantissa, self.exponent + other.exponent + carry, self.residue * other.residue)

    def over(self, other: Weights) -> Floats:
        """The quotients as floats; 0 where they are too small for one."""
        exponent = np.clip(self.exponent - other.exponent, -2000, 2000)
        quotient: Floats = np.ldexp(self.mantissa / other.mantissa, exponent)
        return quotient

    @property
    def log2(self) -> Floats:
        """Binary logarithms; minus infinity for zero."""
        with np.errstate(divide="ignore"):
            logarithm: Floats = np.log2(self.mantissa) + self.exponent
        return logarithm

    @property
    def alike(self) -> bool:
        """Whether all are equal."""
        return bool((self.mantissa == self.mantissa[:1]).all() and (self.exponent == self.exponent[:1]).all())


_WORD = (1 << 64) - 1


def _frexp(number: int) -> tuple[float, int]:
    shift = max(0, number.bit_length() - 64)
    mantissa, exponent = math.frexp(number >> shift)
    return mantissa, exponent + shift


@dataclass(frozen=True)
class Layer:
    """Arcs over some decisions. An architecture takes one arc of each layer, each from the state the last one led to.

    Attributes:
        decisions: their numbers in the network.
        cells: [arcs, decisions] number of the cell that each decision takes.
        source: [arcs] state before, ascending.
        target: [arcs] state after.
        costs: [arcs, measures] what the arc adds to each cost.
        weights: [arcs] how many joint values the cells stand for.
        before, after: how many states there are.
    """

    decisions: tuple[int, ...]
    cells: NDArray[np.int32]
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    costs: Ints
    weights: Weights
    before: int
    after: int

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def start(self) -> Ints:
        """[before + 1] the first arc out of each state."""
        return np.searchsorted(self.source, np.arange(self.before + 1)).astype(np.int64)

    def __getitem__(self, at: Any) -> Layer:
        """Some of the arcs, in ascending order."""
        arcs = (self.cells[at], self.source[at], self.target[at], self.costs[at], self.weights[at])
        return Layer(self.decisions, *arcs, self.before, self.after)


@dataclass(frozen=True)
class Layering:
    """Layers from a single state to a single state, and `behind` each state, boundary by boundary, the number of ways
    to complete an architecture."""

    layers: list[Layer]
    behind: list[Weights]

    def shares(self, number: int) -> Floats:
        """Of the architectures behind a state, the part behind each arc of layer `number` that leaves it."""
        layer = self.layers[number]
        behind = layer.weights * self.behind[number + 1][layer.target]
        return behind.over(self.behind[number][layer.source])


def moments(layers: Sequence[Layer], shares: Sequence[Floats], costs: Sequence[Ints]) -> tuple[float, float]:
    """Mean and standard deviation of a sum of costs [arcs], where `shares` [arcs] of what lies behind a state take
    each arc that leaves it."""
    mean: NDArray[Any] = np.zeros(1)
    variance: NDArray[Any] = np.zeros(1)
    for layer, share, cost in zip(reversed(layers), reversed(shares), reversed(costs), strict=True):
        total = cost + mean[layer.target]
        mean = np.bincount(layer.source, share * total, layer.before)
        around = (total - mean[layer.source]) ** 2 + variance[layer.target]
        variance = np.bincount(layer.source, share * around, layer.before)
    return float(mean[0]), math.sqrt(float(variance[0]))


def spread(first: NDArray[Any], count: NDArray[Any]) -> tuple[Ints, Ints]:
    """Ranges one after the other: for each of their entries the number of its range, and the entry.

    Range i goes from first[i] to first[i] + count[i] - 1.
    """
    row = np.repeat(np.arange(len(count)), count)
    ends = np.cumsum(count)
    entry = np.arange(len(row)) - np.repeat(ends - count - first, count)
    return row, entry


def join(layers: Sequence[Layer]) -> Layer:
    """One layer whose arcs are the ways through several consecutive ones."""
    whole = layers[0]
    for layer in layers[1:]:
        first = layer.start[whole.target]
        way, arc = spread(first, layer.start[whole.target + 1] - first)
        whole = Layer(
            whole.decisions + layer.decisions,
            np.concatenate((whole.cells[way], layer.cells[arc]), axis=1),
            whole.source[way],
            layer.target[arc],
            whole.costs[way] + layer.costs[arc],
            whole.weights[way] * layer.weights[arc],
            whole.before,
            layer.after,
        )
    return whole


def segments(
    layers: Sequence[Layer], limit: int, price: Callable[[float], float], alone: Collection[int] = ()
) -> list[range]:
    """Consecutive layers to be joined, at the least total price, which hangs on the number of arcs of a joined layer.

    No joined layer has more arcs than the limit, unless it is a single one, and none holds one of those `alone`.
    """
    best: list[tuple[float, int]] = [(0.0, 0)] + [(math.inf, 0)] * len(layers)
    for first in range(len(layers)):
        ways: Floats = np.ones(layers[first].before)
        for last in range(first, len(layers)):
            layer = layers[last]
            arcs = ways[layer.source]
            number = float(arcs.sum())
            if last > first and (number > limit or first in alone or last in alone):
                break
            total = best[first][0] + price(number)
            if total < best[last + 1][0]:
                best[last + 1] = (total, first)
            ways = np.bincount(layer.target, arcs, layer.after).astype(np.float64)
    out: list[range] = []
    end = len(layers)
    while end:
        out.append(range(best[end][1], end))
        end = best[end][1]
    return out[::-1]
