"""When two rows are equal: the same values, or the same function.

**Functions.** A fingerprint is the hash of the expression that the network computes, up to what holds for all weights:
`identity()` and everything else that passes its input on is not there, a choice is what it chooses, terms of a sum have
no order and no brackets, zeros vanish from it, an operator that keeps zeros makes zeros of them, and average pooling or
resizing of a sum is the sum over its terms (operators declare this as `Identities`). Layers count by kind, operator and
settings, not by place: two layers of one kind are free to learn the same, also where the network reads one layer twice.
Only layers that share weights count by these.

**The figures of NAS-Bench-201.** Its 15,625 cells compute 5,269 functions, and 4,660 if a batch norm's shift does not
count, so that zeros stay zeros through convolution and norm, as the benchmark has it. Its own figure of 6,466 is that
of different strings, which keep apart what is equal in three ways. A zero stays in its sum: `0 + x` is not `x`, and a
sum of zeros is no zero for the operator behind it. A sum that is passed on is spliced into the next with its terms
together, ordered by text as a whole: `(a + d) + b` reads `a+d+b`, but `a + (b + d)` reads `a+b+d`. And pooling a sum
is not the sum of what was pooled. Each of the 4,660 classes is a union of classes of strings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler import ops
from nasdsl.compiler.arrays.columns import Column, constant
from nasdsl.compiler.arrays.encoding import Encoding, Matrix
from nasdsl.compiler.arrays.vector import ROWS, Program
from nasdsl.compiler.cost import node_cost
from nasdsl.compiler.decision import FixedUnits, Units, count_of
from nasdsl.compiler.graph import Graph, Node, Shape
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.tree import Expr

Hash: TypeAlias = NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_CELLS = 1 << 22  # work space of one chunk of rows


def _mix(x: Hash) -> Hash:
    """A bijection of 64 bits that leaves no pattern (the finaliser of SplitMix64); 0 does not stay 0."""
    x = x + np.uint64(_GOLDEN)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def _join(first: Hash, second: Hash) -> Hash:
    """A hash of an ordered pair."""
    return _mix(first * np.uint64(_GOLDEN) + second)


@lru_cache(1 << 14)
def _text(text: str) -> Hash:
    """The hash of a text, for all rows [1]."""
    return np.asarray([int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")], np.uint64)


def hashes(matrix: Matrix) -> Hash:
    """[n]: a hash of each row [n, width] that is the same on every machine and for every integer type."""
    n, width = matrix.shape
    factors = _mix(np.arange(width, dtype=np.uint64)) | np.uint64(1)
    out = np.empty(n, np.uint64)
    step = max(1, _CELLS // max(1, width))
    for start in range(0, n, step):
        out[start : start + step] = matrix[start : start + step].astype(np.uint64) @ factors
    return _mix(out + np.uint64(width))


def unique(matrix: Matrix) -> tuple[Matrix, NDArray[np.intp], NDArray[np.intp]]:
    """The different rows in the order in which they first occur.

    Returns:
        The rows, the number of the first row that equals each, and for each row of the matrix the number of its equal.
    """
    _, first, inverse = np.unique(hashes(matrix), return_index=True, return_inverse=True)
    if not all(
        np.array_equal(matrix[first[inverse[start : start + ROWS]]], matrix[start : start + ROWS])
        for start in range(0, len(matrix), ROWS)
    ):  # different rows of one hash
        _, first, inverse = np.unique(matrix, axis=0, return_index=True, return_inverse=True)
        inverse = inverse.ravel()
    order = np.argsort(first)
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return matrix[first[order]], first[order], number[inverse]


def fingerprints(graph: Graph, matrix: Matrix, shift: bool = True) -> Hash:
    """[n]: equal for architectures that compute the same function. For many calls make one `Fingerprints`."""
    return Fingerprints(graph, shift)(matrix)


class Fingerprints:
    """Hashes of the functions that the architectures of a graph compute; see the module.

    Args:
        shift: whether the learned shift of a batch norm counts, which makes something of zeros. Without it fewer
            functions are different; NAS-Bench-201 counts this way.
    """

    def __init__(self, graph: Graph, shift: bool = True):
        self.graph, self.shift = graph, shift
        self.encoding = Encoding(graph.decisions)
        self._number: dict[Any, int] = {}
        self._values: list[Value] = []
        shared = Counter(node.weight for node in graph.operators())
        self._plans = [_NodePlan(self, node, shared[node.weight] > 1) for node in graph.nodes.values()]
        self._program = Program(self._values, self.encoding)

    def ask(self, value: Value) -> int:
        """The number of a value among those that are computed for every row."""
        key = (type(value), value)
        if key not in self._number:
            self._number[key] = len(self._values)
            self._values.append(value)
        return self._number[key]

    def __call__(self, matrix: Matrix) -> Hash:
        """[n]: a fingerprint of each row of a matrix [n, width].

        Raises:
            ArgumentError: as `Program`.
        """
        self.encoding.check(matrix)
        out = np.empty(len(matrix), np.uint64)
        step = max(64, min(ROWS, _CELLS // (len(self._plans) + len(self._values) + 1)))
        for start in range(0, len(matrix), step):
            chunk = matrix[start : start + step]
            out[start : start + step] = self._chunk(_Rows(self._program(chunk)))
        return out

    def _chunk(self, rows: _Rows) -> Hash:
        tensors: dict[str, Hash] = {}
        left = Counter(edge.source for node in self.graph.nodes.values() for edge in node.inputs)
        left.update(self.graph.outputs)
        for name, plan in zip(self.graph.nodes, self._plans, strict=True):
            tensors[name] = plan.tensor(rows, tensors)
            for edge in self.graph.nodes[name].inputs:
                left[edge.source] -= 1
                if not left[edge.source]:
                    del tensors[edge.source]
        whole = _text("network")
        for name in self.graph.outputs:
            whole = _read(whole, tensors[name])
        return whole


class _Rows:
    """The values that nodes ask for, as hashes or truth values of every row."""

    def __init__(self, values: list[Column]):
        self._values = values
        self._hashes: dict[int, Hash] = {}

    def hash(self, number: int) -> Hash:
        if number not in self._hashes:
            self._hashes[number] = _hash_of(self._values[number])
        return self._hashes[number]

    def met(self, number: int) -> NDArray[np.bool_]:
        one = self._values[number]
        return one.truth() if one.state is None else one.truth() & (one.state == 0)


def _hash_of(one: Column) -> Hash:
    """A hash of each value; equal numbers have equal ones, however they are held."""
    values = np.atleast_1d(one.values)
    if one.kind == "item":
        found = [_text(repr(i)) if constant(i).kind == "item" else _hash_of(constant(i)) for i in one.items]
        out = np.concatenate(found)[values]
    elif one.kind == "float":
        out = _join(_text("float"), (values + 0.0).view(np.uint64))  # -0.0 is 0.0
    elif values.dtype == object or one.scale >= 1 << 63:
        plain = [Fraction(v, one.scale) for v in values.tolist()]
        small = [abs(v.numerator) < 1 << 63 and v.denominator < 1 << 63 for v in plain]
        parts = [_hash_of(constant(v)) if fits else _text(str(v)) for v, fits in zip(plain, small, strict=True)]
        out = np.concatenate(parts)
    else:
        common = np.gcd(values.astype(np.int64), one.scale)
        above, below = (values // common).astype(np.uint64), (one.scale // common).astype(np.uint64)
        out = _mix(np.where(below == 1, above, _join(above, below)))
    return out if one.state is None else np.where(np.atleast_1d(one.state) == 0, out, np.uint64(0))


@lru_cache(1 << 14)
def _named(name: str, kind: str, value: Value) -> Hash:
    """Of a value that is the same in all rows. `kind` tells `True` from 1."""
    return _join(_text(name), _hash_of(constant(value)))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Value]]:
    """The plain or single values that an attribute consists of. Of units it counts how many are kept."""
    if isinstance(value, Units | FixedUnits):
        yield f"{name} units", count_of(value)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}", part)
    elif isinstance(value, tuple | list):
        yield f"{name} length", len(value)
        for i, part in enumerate(value):
            yield from _leaves(f"{name}.{i}", part)
    else:
        yield name, value


class _Sum:
    """A hash of named values without order: those that are the same in all rows are added up beforehand."""

    def __init__(self, owner: Fingerprints, base: Hash):
        self.owner, self.fixed = owner, base
        self.open: list[tuple[Hash, int]] = []

    def add(self, name: str, value: Value) -> None:
        if isinstance(value, Expr) and value.decisions:
            self.open.append((_text(name), self.owner.ask(value)))
        else:
            self.fixed = self.fixed + _named(name, type(value).__name__, value)

    def of(self, rows: _Rows) -> Hash:
        total = self.fixed
        for name, number in self.open:
            total = total + _join(name, rows.hash(number))
        return total


class _Condition:
    """A condition in every row."""

    def __init__(self, owner: Fingerprints, value: Value):
        self.number = owner.ask(value) if isinstance(value, Expr) else None
        self.plain = np.asarray([value if self.number is None else False], np.bool_)

    @property
    def never(self) -> bool:
        return self.number is None and not self.plain[0]

    def of(self, rows: _Rows) -> NDArray[np.bool_]:
        return self.plain if self.number is None else np.atleast_1d(rows.met(self.number))


class _NodePlan:
    """How the tensor of a node follows from those it reads.

    A tensor is a pair of 64-bit numbers [2, n]: the sum of the hashes of its terms. So zeros are 0, the order and the
    brackets of a sum are gone, and a sum of one term is this term. A linear operator multiplies by a random matrix of
    its own, modulo 2^64; being invertible, it loses nothing, and two of them do not commute.
    """

    def __init__(self, owner: Fingerprints, node: Node, shared: bool):
        graph = owner.graph
        self.node = node
        self.sources = [edge.source for edge in node.inputs]
        self.used = [_Condition(owner, edge.when) for edge in node.inputs]
        shapes = [graph.nodes[edge.source].shape for edge in node.inputs]
        operator = None if node.kind in ("input", "select", "output") else ops.find(node.op)
        self.identities = None if operator is None else operator.identities
        if self.identities is None:
            return
        self.shapes = [_shape_sum(owner, shape) for shape in shapes]
        self.sizes = [_size_sum(owner, shape) for shape in shapes]
        self.resizes = any((s.height, s.width) != (shapes[0].height, shapes[0].width) for s in shapes)
        self.settings = _Sum(owner, _text(node.op))
        for name, value in node.attrs.items():
            for leaf, part in _leaves(name, value):
                self.settings.add(leaf, part)
        if shared and node_cost(graph, node).params != 0:
            self.settings.add("weights", node.weight)
        self.passes = _Condition(owner, self.identities.passes(shapes, node.shape, node.attrs))
        self.keeps_zero = _Condition(owner, self.identities.keeps_zero(node.attrs, owner.shift))

    def tensor(self, rows: _Rows, tensors: Mapping[str, Hash]) -> Hash:
        if self.node.kind == "input":
            return _pair(_text("input"))
        inputs = [tensors[source] for source in self.sources]
        used = [condition.of(rows) for condition in self.used]
        if self.identities is None:  # a selection, or the end
            return _total(used, inputs)
        if self.identities.zero:
            return np.zeros((2, 1), np.uint64)
        if self.identities.commutes:
            total = _total(used, self._resized(rows, used, inputs) if self.resizes else inputs)
            if self.node.op == "sum":
                return total
            number = np.asarray(sum(u.astype(np.uint64) for u in used), np.uint64)
            return np.where(number == 1, total, _linear(_join(self.settings.of(rows), number), total))
        out = _mix(self.settings.of(rows))
        if self.identities.linear:
            out = _linear(_join(out, self.shapes[0].of(rows)), inputs[0])
        else:
            nothing = np.ones(1, np.bool_)
            for u, tensor, shape in zip(used, inputs, self.shapes, strict=True):
                out = np.where(u, _read(_join(out, shape.of(rows)), tensor), out)
                nothing = nothing & (_is_zero(tensor) | ~u)
            out = _pair(out)
            if not self.keeps_zero.never:
                out = np.where(self.keeps_zero.of(rows) & nothing, np.uint64(0), out)
        if not self.passes.never:
            out = np.where(self.passes.of(rows), inputs[0], out)
        return out

    def _resized(self, rows: _Rows, used: list[NDArray[np.bool_]], inputs: list[Hash]) -> list[Hash]:
        """The terms at the size of the first that is used."""
        sizes = [size.of(rows) for size in self.sizes]
        target = sizes[-1]
        for u, size in zip(reversed(used), reversed(sizes), strict=True):
            target = np.where(u, size, target)
        return [
            np.where(size == target, tensor, _linear(_join(_join(_text("resize"), size), target), tensor))
            for size, tensor in zip(sizes, inputs, strict=True)
        ]


def _pair(x: Hash) -> Hash:
    """A term [2, n] from a hash."""
    return np.stack([_mix(x), _mix(~x)])


def _read(first: Hash, tensor: Hash) -> Hash:
    """A hash of an operator and a tensor that it reads, in order."""
    return _join(_join(first, tensor[0]), tensor[1])


def _is_zero(tensor: Hash) -> NDArray[np.bool_]:
    return (tensor[0] | tensor[1]) == 0


def _linear(operator: Hash, tensor: Hash) -> Hash:
    """A matrix of odd determinant, which the operator's hash makes, times a tensor."""
    one = np.uint64(1)
    a, b, c, d = (_mix(operator + np.uint64(i)) for i in range(4))
    return np.stack([(a | one) * tensor[0] + (b & ~one) * tensor[1], c * tensor[0] + (d | one) * tensor[1]])


def _total(used: list[NDArray[np.bool_]], inputs: list[Hash]) -> Hash:
    total = np.zeros((2, 1), np.uint64)
    for u, tensor in zip(used, inputs, strict=True):
        total = total + np.where(u, tensor, np.uint64(0))
    return total


def _size_sum(owner: Fingerprints, shape: Shape) -> _Sum:
    size = _Sum(owner, _text("size"))
    size.add("height", shape.height)
    size.add("width", shape.width)
    return size


def _shape_sum(owner: Fingerprints, shape: Shape) -> _Sum:
    whole = _size_sum(owner, shape)
    whole.add("channels", count_of(shape.channels))
    whole.add("items", shape.items)
    return whole
