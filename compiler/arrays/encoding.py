"""Architectures as rows of an integer matrix, and back; the values of a decision's cells as blocks of columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.architecture import Architecture, canonical, index_of, value_to_json, wrong
from nasdsl.compiler.decision import Decision
from nasdsl.compiler.diagnostics import ArgumentError, suggest
from nasdsl.compiler.engine.cells import Cell, Patterns
from nasdsl.compiler.values.plain import ABSENT as NO_VALUE

ABSENT = -1
"""What stands in all columns of an absent decision."""

Matrix: TypeAlias = NDArray[np.signedinteger[Any]]
"""Architectures [n, width], or the columns of one decision [n, columns]."""


class Encoding:
    """The columns of a matrix whose rows are architectures.

    In the order of the decisions: a choice has one column with its option's index; units have a column of 0 or 1 for
    each unit; a subset has its sorted item indices; an order has the item index at each position, equal items by rising
    index. A decision with nothing to say (a subset of no items) has one column of 0, so that it can be absent.

    Attributes:
        columns: of each decision, by path.
        width: the number of all columns.
        dtype: the smallest of int8, int16 and int32 that holds every index.
    """

    def __init__(self, decisions: Mapping[str, Decision]):
        self.decisions = decisions
        self.columns: dict[str, slice] = {}
        start = 0
        for path, decision in self.decisions.items():
            self.columns[path] = slice(start, start + columns_of(decision))
            start += columns_of(decision)
        self.width = start
        highest = max((_highest(decision) for decision in self.decisions.values()), default=0)
        types: tuple[type[np.signedinteger[Any]], ...] = (np.int8, np.int16, np.int32)
        self.dtype = np.dtype(next(t for t in types if highest <= np.iinfo(t).max))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of all columns: a path, or a path and the unit, place or position: `body.op`, `body.hidden[3]`."""
        return tuple(
            path if decision.kind == "choice" else f"{path}[{i}]"
            for path, decision in self.decisions.items()
            for i in range(columns_of(decision))
        )

    def check(self, matrix: Matrix) -> None:
        """Whether an array has the form of a matrix of architectures.

        Raises:
            ArgumentError: its entries are no integers, or it is not [n, width].
        """
        if matrix.ndim != 2 or matrix.shape[1] != self.width or not np.issubdtype(matrix.dtype, np.signedinteger):
            raise ArgumentError(
                f"architectures of this space are rows of {self.width} signed integers, "
                f"not an array {list(matrix.shape)} of {matrix.dtype}"
            )

    def encode(self, architectures: Iterable[Architecture | Mapping[str, Any]]) -> Matrix:
        """One row for each architecture, or assignment of indices; decisions without a value are absent.

        Raises:
            ArchitectureError: a path that no decision has, or a value outside its domain.
        """
        rows = [row.indices if isinstance(row, Architecture) else row for row in architectures]
        for path in {path for row in rows for path in row}:
            self._known(path)
        matrix = np.full((len(rows), self.width), ABSENT, self.dtype)
        for path, decision in self.decisions.items():
            self._fill(matrix, decision, [row.get(path, NO_VALUE) for row in rows])
        return matrix

    def _known(self, path: str) -> None:
        if path not in self.decisions:
            help = suggest(path, self.decisions)
            raise wrong("unknown-decision", path, f"the space has no decision `{path}`", help)

    def _fill(self, matrix: Matrix, decision: Decision, values: Sequence[Any]) -> None:
        block = matrix[:, self.columns[decision.path]]
        for row, value in enumerate(values):
            if value is NO_VALUE:
                continue
            value = canonical(decision, value)
            if decision.kind == "units":
                block[row] = 0
                block[row, list(value)] = 1
            else:
                block[row] = value if value != () else 0

    def decode(self, matrix: Matrix) -> list[Architecture]:
        """The architecture of each row.

        Raises:
            ArchitectureError: columns of a decision that are no value of it.
            ArgumentError: not a matrix of this encoding.
        """
        self.check(matrix)
        columns = [self._values(matrix, decision) for decision in self.decisions.values()]
        paths = tuple(self.decisions)
        rows = zip(*columns, strict=True) if columns else iter([()] * len(matrix))
        return [
            Architecture(self.decisions, tuple((p, v) for p, v in zip(paths, row, strict=True) if v is not NO_VALUE))
            for row in rows
        ]

    def _values(self, matrix: Matrix, decision: Decision) -> list[Any]:
        block = matrix[:, self.columns[decision.path]]
        gone = absent(block)
        outside = ~(gone | within(decision, block))
        if outside.any():
            row = int(outside.argmax())
            shown = ", ".join(map(str, block[row, :8])) + (", ..." if block.shape[1] > 8 else "")
            raise wrong("bad-row", decision.path, f"row {row}: {shown} is no value of `{decision.path}`")
        out: list[Any]
        if decision.kind == "choice":
            out = block[:, 0].tolist()
        elif decision.kind == "units":
            out = [tuple(np.flatnonzero(row).tolist()) if decision.n else () for row in block]
        elif is_empty(decision):
            out = [()] * len(block)
        else:
            out = list(map(tuple, block.tolist()))
        return [NO_VALUE if missing else value for missing, value in zip(gone.tolist(), out, strict=True)]

    def to_table(self, matrix: Matrix) -> dict[str, list[Any]]:
        """A table with a column for each decision, by path: items as `Architecture.to_json` writes them, None where
        the decision is absent.

        Raises:
            ArchitectureError, ArgumentError: as `decode`.
        """
        self.check(matrix)
        table: dict[str, list[Any]] = {}
        for path, decision in self.decisions.items():
            values = self._values(matrix, decision)
            words = {value: value_to_json(decision, value) for value in set(values) - {NO_VALUE}}
            cells = map(words.get, values)
            table[path] = [list(word) if isinstance(word, list) else word for word in cells]
        return table

    def from_table(self, table: Mapping[str, Sequence[Any]]) -> Matrix:
        """What `to_table` wrote, in any order of columns.

        Raises:
            ArchitectureError: a decision has no column, a column no decision, or an item its decision does not have.
            ArgumentError: columns of different length.
        """
        for path in table:
            self._known(path)
        for path in self.decisions:
            if path not in table:
                help = "where it is absent write None"
                raise wrong("missing-decision", path, f"the table has no column `{path}`", help)
        lengths = {len(column) for column in table.values()}
        if len(lengths) > 1:
            raise ArgumentError(f"the columns of the table have different lengths: {sorted(lengths)}")
        matrix = np.full((next(iter(lengths), 0), self.width), ABSENT, self.dtype)
        for path, decision in self.decisions.items():
            words = table[path]
            if decision.kind == "choice" and {type(word) for word in words} <= {int, str, type(None)}:
                index = {w: ABSENT if w is None else index_of(decision, w) for w in set(words)}
                matrix[:, self.columns[path].start] = [index[word] for word in words]
            else:
                read = [NO_VALUE if word is None else index_of(decision, word) for word in words]
                self._fill(matrix, decision, read)
        return matrix


def columns_of(decision: Decision) -> int:
    """How many columns a decision has."""
    own = {"choice": 1, "subset": decision.size}.get(decision.kind, decision.n)
    return max(1, own)


def is_empty(decision: Decision) -> bool:
    """Whether the one column of the decision only says that it is there."""
    return decision.kind != "choice" and (decision.size if decision.kind == "subset" else decision.n) == 0


def _highest(decision: Decision) -> int:
    return 1 if decision.kind == "units" else decision.n - 1


def absent(block: Matrix) -> NDArray[np.bool_]:
    """[n]: rows in which a decision is absent, by its columns."""
    return (block == ABSENT).all(axis=1)


def within(decision: Decision, block: Matrix) -> NDArray[np.bool_]:
    """[n]: rows whose columns hold a value of the decision, in its one form."""
    if is_empty(decision):
        return block[:, 0] == 0
    unsigned = block.view(f"u{block.itemsize}")  # in which -1 is the largest of all
    inside: NDArray[np.bool_] = unsigned.max(axis=1) <= _highest(decision)
    if decision.kind == "subset":
        inside &= (block[:, 1:] > block[:, :-1]).all(axis=1)
    elif decision.kind == "order":
        inside &= _are_orders(decision, block) & (tidy(decision, block) == block).all(axis=1)
    return inside


def tidy(decision: Decision, block: Matrix) -> Matrix:
    """Values in their one form: subsets sorted, equal items of an order by rising index. What is no value stays."""
    if decision.kind == "subset":
        return np.sort(block, axis=1)
    if decision.kind != "order":
        return block
    first = [decision.items.index(item) for item in decision.items]
    if first == list(range(decision.n)):
        return block
    orders = _are_orders(decision, block)
    word = np.asarray(first, np.intp)[block[orders].astype(np.intp)]
    places = np.argsort(word, axis=1, kind="stable")  # of each word in turn, its positions from left to right
    rising = np.asarray(sorted(range(decision.n), key=lambda i: (first[i], i)), block.dtype)
    settled = np.empty(word.shape, block.dtype)
    np.put_along_axis(settled, places, np.broadcast_to(rising, word.shape), axis=1)
    out = block.copy()
    out[orders] = settled
    return out


def _are_orders(decision: Decision, block: Matrix) -> NDArray[np.bool_]:
    return np.logical_and.reduce(np.sort(block, axis=1) == np.arange(decision.n), axis=1)


# --- values inside cells ----------------------------------------------------------------------------------------------


def draw_inside(decision: Decision, cell: Cell, n: int, rng: np.random.Generator) -> Matrix:
    """`n` independent values [n, columns] inside a cell of the engine, each of its values equally likely.

    Shares are exact to 2^-64, however many values there are. The same generator (PCG64) gives the same on all machines.
    """
    return Inside(decision, [cell]).draw(np.zeros(n, np.intp), rng)


def locate(decision: Decision, cells: Sequence[Cell], block: Matrix) -> NDArray[np.int32]:
    """[n]: the number of the cell that holds the value of each row [n, columns]; -1 where none does."""
    return Inside(decision, cells).locate(block)


class Inside:
    """Draws inside the cells of one decision, and finds the cells of values: for many calls on the same cells.

    Each cell is a list of members: options, sizes of a set of units, patterns of a subset or an order.
    """

    def __init__(self, decision: Decision, cells: Sequence[Cell]):
        self.decision = decision
        self.dtype = Encoding({decision.path: decision}).dtype
        self.absent = next((number for number, cell in enumerate(cells) if cell.value is NO_VALUE), -1)
        here = [(number, cell) for number, cell in enumerate(cells) if number != self.absent]
        patterns = [cell.members for _, cell in here if isinstance(cell.members, Patterns)]
        self.mentioned, self.kinds = (patterns[0].mentioned, patterns[0].kinds) if patterns else ((), ())
        if any((p.mentioned, p.kinds) != (self.mentioned, self.kinds) for p in patterns):
            raise ArgumentError(f"the cells of `{decision.path}` do not belong together")
        members = {number: _members(cell) for number, cell in here}
        self._every = {number for number, sizes in members.items() if sizes == list(range(decision.n + 1))}
        self._members = [member for own in members.values() for member in own]
        self._cell_of = np.asarray([number for number, own in members.items() for _ in own], np.int32)
        self._first = dict(zip(members, accumulate(map(len, members.values()), initial=0), strict=False))
        self._bounds: dict[int, NDArray[np.uint64]] = {}
        self._own = members

    # drawing

    def draw(self, numbers: NDArray[np.integer[Any]], rng: np.random.Generator) -> Matrix:
        """For each row the number of a cell; a uniform value of that cell [n, columns], -1 in that of absence.

        Raises:
            ArgumentError: there is no such cell, or it is empty.
        """
        out = np.full((len(numbers), columns_of(self.decision)), ABSENT, self.dtype)
        units = self.decision.kind == "units" and not is_empty(self.decision)
        sizes = np.empty(len(numbers), np.intp)
        for number in np.unique(numbers).tolist():
            if number == self.absent:
                continue
            if not self._own.get(number):
                raise ArgumentError(f"`{self.decision.path}` has no value in cell {number}")
            rows = np.flatnonzero(numbers == number)
            if units:
                sizes[rows] = self._sizes(number, len(rows), rng)
                continue
            for part in self._parts(rows):
                out[part] = self._values(number, len(part), rng)
        if units:  # those of all cells at once
            for part in self._parts(np.flatnonzero(numbers != self.absent)):
                out[part] = _random_sets(self.decision.n, sizes[part], rng)
        return out

    def _parts(self, rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Rows in parts that bound the work space."""
        return np.array_split(rows, max(1, len(rows) * self.decision.n >> 22))

    def _sizes(self, number: int, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Of sets of units in a cell; ANY for a cell of all sets."""
        if number in self._every:
            return np.full(n, ANY)
        return np.asarray(self._members, np.intp)[self._first[number] + self._pick(number, n, rng)]

    def _values(self, number: int, n: int, rng: np.random.Generator) -> Matrix:
        decision = self.decision
        if is_empty(decision):
            return np.zeros((n, 1), self.dtype)
        picked = self._first[number] + self._pick(number, n, rng)
        if decision.kind == "choice":
            return np.asarray(self._members, self.dtype)[picked, None]
        if decision.kind == "subset":
            return self._subsets(picked, rng)
        return self._orders(picked, rng)

    def _pick(self, number: int, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Members of a cell at random, in proportion to how many values each stands for."""
        if self.decision.kind == "choice":
            return rng.integers(0, len(self._own[number]), n).astype(np.intp)
        if number not in self._bounds:
            sums = list(accumulate(map(self._share, self._own[number])))
            self._bounds[number] = np.asarray([(s << 64) // sums[-1] for s in sums[:-1]], np.uint64)
        return np.searchsorted(self._bounds[number], rng.integers(0, 1 << 64, n, np.uint64), side="right")

    def _share(self, member: Any) -> int:
        decision = self.decision
        if decision.kind == "units":
            return math.comb(decision.n, member)
        if decision.kind == "subset":
            return math.comb(decision.n - len(self.mentioned), decision.size - len(member))
        left: dict[int, int] = {}  # all orders of labelled items: as many for each order of words
        for kind in self.kinds:
            left[kind] = left.get(kind, 0) + 1
        ways = math.factorial(decision.n - len(member))
        for kind in member:
            ways *= left.get(kind, 0)
            left[kind] = left.get(kind, 0) - 1
        return ways

    def _subsets(self, picked: NDArray[np.intp], rng: np.random.Generator) -> Matrix:
        decision = self.decision
        others = [i for i in range(decision.n) if i not in self.mentioned]
        taken = np.zeros((len(picked), decision.n), np.bool_)
        taken[:, list(self.mentioned)] = self._table[picked]
        missing = decision.size - np.count_nonzero(taken, axis=1)
        taken[:, others] = _random_sets(len(others), missing, rng)
        return np.nonzero(taken)[1].reshape(len(picked), decision.size).astype(self.dtype)

    def _orders(self, picked: NDArray[np.intp], rng: np.random.Generator) -> Matrix:
        """Each mentioned position takes the next of its kind from a shuffled pack; what is left over is shuffled on."""
        n, decision = len(picked), self.decision
        shuffled = np.argsort(_random_keys(n, decision.n, rng), axis=1)
        pack = np.take_along_axis(shuffled, np.argsort(np.asarray(self.kinds)[shuffled], axis=1, kind="stable"), axis=1)
        slots = self._slots[picked]
        out = np.empty((n, decision.n), np.intp)
        rest = [position for position in range(decision.n) if position not in self.mentioned]
        out[:, list(self.mentioned)] = np.take_along_axis(pack, slots, axis=1)
        np.put_along_axis(pack, slots, -1, axis=1)
        left = pack[pack >= 0].reshape(n, len(rest))
        out[:, rest] = np.take_along_axis(left, np.argsort(_random_keys(n, len(rest), rng), axis=1), axis=1)
        return tidy(decision, out.astype(self.dtype))

    @cached_property
    def _table(self) -> NDArray[np.intp]:
        """Patterns as rows: of a subset which mentioned items are in, of an order the kinds."""
        patterns = self._members
        if self.decision.kind == "subset":
            patterns = [[int(item in pattern) for item in self.mentioned] for pattern in patterns]
        return np.asarray(patterns, np.intp).reshape(len(patterns), len(self.mentioned))

    @cached_property
    def _slots(self) -> NDArray[np.intp]:
        """Of an order: where in a pack sorted by kind each mentioned position finds its item, pattern by pattern."""
        pack = sorted(self.kinds)
        slots = [
            [pack.index(kind) + pattern[:place].count(kind) for place, kind in enumerate(pattern)]
            for pattern in self._members
        ]
        return np.asarray(slots, np.intp).reshape(len(slots), len(self.mentioned))

    # finding

    def locate(self, block: Matrix) -> NDArray[np.int32]:
        """[n]: the number of the cell that holds the value of each row; -1 where none does."""
        decision = self.decision
        gone, inside = absent(block), within(decision, block)
        found = np.full(len(block), -1, np.int32)
        if self._members:
            if decision.kind == "choice":
                found[inside] = self._by_number(decision.n, block[inside, 0])
            elif decision.kind == "units":
                kept = np.count_nonzero(block[inside], axis=1)
                found[inside] = self._by_number(decision.n + 1, kept)
            else:
                found[inside] = self._by_pattern(block[inside])
        found[gone] = self.absent
        return found

    def _by_number(self, size: int, values: NDArray[Any]) -> NDArray[np.int32]:
        cell = np.full(size, -1, np.int32)
        cell[np.asarray(self._members, np.intp)] = self._cell_of
        return cell[values]

    def _by_pattern(self, block: Matrix) -> NDArray[np.int32]:
        if self.decision.kind == "subset" and not is_empty(self.decision):
            taken = np.zeros((len(block), self.decision.n), np.bool_)
            np.put_along_axis(taken, block.astype(np.intp), True, axis=1)
            shown = taken[:, list(self.mentioned)].astype(np.intp)
        elif self.kinds:
            shown = np.asarray(self.kinds, np.intp)[block[:, list(self.mentioned)].astype(np.intp)]
        else:
            shown = np.zeros((len(block), len(self.mentioned)), np.intp)
        row = _matching(self._table, shown)
        return np.where(row >= 0, self._cell_of[row], np.int32(-1))


def _members(cell: Cell) -> list[Any]:
    if isinstance(cell.members, Patterns):
        return list(cell.members.patterns)
    return [
        member
        for part in cell.members
        for member in (range(part[0], part[1] + 1) if isinstance(part, tuple) else (part,))
    ]


def _random_keys(n: int, width: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[n, width] random numbers, all different in a row: in rising order they make a random permutation."""
    bits = max(1, width - 1).bit_length()
    return rng.integers(0, 1 << (63 - bits), (n, width), np.int64) << bits | np.arange(width)


ANY = -1
"""The size of a set that may have any."""
PICKS = 8


def _random_sets(width: int, sizes: NDArray[np.integer[Any]], rng: np.random.Generator) -> NDArray[np.bool_]:
    """[n, width]: in each row `sizes` of the entries are true (or ANY number), each such set equally likely.

    Fair coins make a set of any size; members picked at random then go or come until it has the wanted one. No entry is
    treated unlike another, so all sets of a size stay equally likely. A size that is far from half is cut out of a
    random order instead.
    """
    if not width:
        return np.zeros((len(sizes), 0), np.bool_)
    coins = rng.integers(0, 256, (len(sizes), -(-width // 8)), np.uint8)
    taken = np.unpackbits(coins, axis=1, count=width).view(np.bool_)
    missing = np.where(sizes == ANY, 0, sizes - np.count_nonzero(taken, axis=1))
    far = np.flatnonzero(np.abs(missing) > width // 4)
    if len(far):
        keys = _random_keys(len(far), width, rng)
        last = np.maximum(sizes[far] - 1, 0)[:, None].astype(np.intp)
        taken[far] = (keys <= np.take_along_axis(np.sort(keys, axis=1), last, axis=1)) & (sizes[far] > 0)[:, None]
        missing[far] = 0
    flat = taken.reshape(-1)
    rows = np.flatnonzero(missing)
    first, comes, left = rows * width, missing[rows] > 0, np.abs(missing[rows])
    while len(first):
        for place in rng.integers(0, width, (PICKS, len(first)), np.int32):
            at = first + place
            changes = (flat[at] != comes) & (left > 0)
            flat[at[changes]] = comes[changes]
            left -= changes
        going_on = left > 0
        first, comes, left = first[going_on], comes[going_on], left[going_on]
    return taken


def _matching(patterns: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """[n]: for each row the number of the pattern (all different) that it equals, -1 where there is none."""
    known, found = np.zeros(len(patterns), np.intp), np.zeros(len(rows), np.intp)
    missing = np.zeros(len(rows), np.bool_)
    for column in range(patterns.shape[1]):  # numbers of what was seen so far, so that codes never grow large
        radix = int(max(patterns[:, column].max(), rows[:, column].max(initial=0))) + 1
        codes, known = np.unique(known * radix + patterns[:, column], return_inverse=True)
        wanted = found * radix + rows[:, column]
        found = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        missing |= codes[found] != wanted
    number = np.empty(len(patterns), np.intp)
    number[known] = np.arange(len(patterns))
    return np.where(missing, -1, number[found])
