"""Expressions over decisions, evaluated for all rows of a matrix together, exactly as `tree.evaluate` does one by one.

**Digits.** An expression reads a decision through few small numbers: which option, how many units are kept, whether an
item is in, what stands at a position. A largest subexpression whose digits have few joint values is tabulated once, and
then costs a row one look-up, at the mixed-radix number of its digits; what is left above (the sum of a network's costs,
a running width) is arithmetic on whole arrays. Summands are brought together in such tables, so that a sum over a
network takes few look-ups.

**No value.** Rows may have none: a decision is absent, or a function outside its domain. Columns say which, and `and`,
`or` and `if` treat these rows as the scalar code does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nasdsl.compiler.arrays import columns
from nasdsl.compiler.arrays.columns import UNCLEAR, Column, State
from nasdsl.compiler.arrays.encoding import ABSENT, Encoding, Matrix, is_empty
from nasdsl.compiler.diagnostics import ArgumentError
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.function import FUNCTIONS
from nasdsl.compiler.values.plain import ABSENT as NO_VALUE
from nasdsl.compiler.values.tree import Apply, Expr, Has, Slot, value_at

LARGEST = 1 << 16  # entries of a table
SHARED = 1 << 12  # entries of a table that brings summands over different decisions together
ENTRIES = 1 << 22  # of all tables of a program
ROWS = 1 << 13  # of a chunk
CELLS = 1 << 24  # of a chunk of a wide matrix

Digit: TypeAlias = tuple[str, int]
"""A decision's path, and an item of a subset or a position of an order (0 for a choice or units). Digit 0: absent."""


def evaluate_rows(value: Value, encoding: Encoding, matrix: Matrix) -> Column:
    """The value of an expression in every row: `tree.evaluate` of each architecture.

    Raises:
        ArgumentError: a decision or an entry that the encoding does not have.
    """
    most = max(64, min(LARGEST, len(matrix)))  # no larger table than the work it saves
    return Program([value], encoding, most)(matrix)[0]


class Program:
    """Values over decisions, compiled once for many matrices.

    Args:
        values: numbers, conditions, symbols, tuples or records of these, over decisions of the encoding.
        largest: the most entries of one table.

    Raises:
        ArgumentError: a value over a decision that the encoding does not have.
    """

    def __init__(self, values: Sequence[Value], encoding: Encoding, largest: int = LARGEST):
        self.encoding = encoding
        self.values = tuple(values)
        self._digits: dict[Value, frozenset[Digit]] = {}
        self._sizes: dict[Digit, int] = {}
        while True:  # tables shrink until all of them together are small
            plan = _Plan(self, largest)
            plan.outputs = [plan.step(value) for value in self.values]
            plan.uses.update(plan.outputs)
            if plan.entries <= ENTRIES or largest <= 16:
                break
            largest //= 4
        plan.tabulate()
        self._plan = plan
        self.rows = max(1, min(ROWS, CELLS // max(1, encoding.width)))

    def __call__(self, matrix: Matrix) -> list[Column]:
        """Each value in every row of a matrix [n, width].

        Raises:
            ArgumentError: entries outside the domain of their decision, or not a matrix of the encoding.
        """
        self.encoding.check(matrix)
        parts = [
            [(one, len(chunk)) for one in self._run(chunk)]
            for chunk in (matrix[start : start + self.rows] for start in range(0, len(matrix), self.rows))
        ] or [[(one, 0) for one in self._run(matrix)]]
        return [columns.joined(column) for column in zip(*parts, strict=True)]

    def _run(self, chunk: Matrix) -> list[Column]:
        run = _Run(self._plan, chunk)
        out = [run.value(step) for step in self._plan.outputs]
        return [self._settled(value, one, chunk) for value, one in zip(self.values, out, strict=True)]

    def _settled(self, value: Value, one: Column, chunk: Matrix) -> Column:
        """Rows in which something is absent and something else a fault: the scalar code tells which comes first."""
        if one.state is None or not (one.state == UNCLEAR).any():
            return one
        one = one.spread(len(chunk))
        assert one.state is not None
        rows = np.flatnonzero(one.state == UNCLEAR)
        state = one.state.copy()
        for row in rows.tolist():
            here = value_at(value, assignment(self.encoding, chunk[row]))
            state[row] = columns.MISSING if here is NO_VALUE else columns.FAULTY
        return replace(one, state=state)

    # what expressions read

    def digits(self, value: Value) -> frozenset[Digit]:
        """What an expression reads of the decisions."""
        if not isinstance(value, Expr):
            return frozenset().union(*map(self.digits, parts)) if (parts := _inside(value)) else frozenset()
        found = self._digits.get(value)
        if found is None:
            if isinstance(value, Apply):
                found = frozenset().union(*map(self.digits, value.args))
            else:
                found = frozenset((path, _part(value)) for path in value.decisions)
                for path, _ in found:
                    if path not in self.encoding.decisions:
                        raise ArgumentError(f"a value hangs on `{path}`, which is no decision of the space")
            self._digits[value] = found
        return found

    def size(self, digit: Digit) -> int:
        """How many values a digit has."""
        known = self._sizes.get(digit)
        if known is None:
            decision = self.encoding.decisions[digit[0]]
            known = {"units": decision.n + 2, "subset": 3}.get(decision.kind, decision.n + 1)
            self._sizes[digit] = known
        return known


def _part(leaf: Expr) -> int:
    return leaf.item if isinstance(leaf, Has) else leaf.position if isinstance(leaf, Slot) else 0


def _inside(value: Value) -> tuple[Value, ...]:
    """What a tuple or record holds."""
    return value if isinstance(value, tuple) else tuple(value.values()) if isinstance(value, dict) else ()


def _reading(encoding: Encoding, digit: Digit, number: int) -> dict[str, Any]:
    """An assignment that reads like a decision with this digit."""
    if number == 0:
        return {}
    path, part = digit
    kind = encoding.decisions[path].kind
    if kind == "units":
        return {path: range(number - 1)}
    if kind == "subset":
        return {path: (part,) if number == 2 else ()}
    return {path: {part: number - 1} if kind == "order" else number - 1}


def assignment(encoding: Encoding, row: Matrix) -> dict[str, Any]:
    """One row as the scalar code takes it."""
    values: dict[str, Any] = {}
    for path, decision in encoding.decisions.items():
        own = row[encoding.columns[path]].tolist()
        if own[0] == ABSENT:
            continue
        if decision.kind == "choice":
            values[path] = own[0]
        elif decision.kind == "units":
            values[path] = tuple(i for i, kept in enumerate(own[: decision.n]) if kept)
        else:
            values[path] = tuple(own[: decision.size if decision.kind == "subset" else decision.n])
    return values


class _Step:
    """One line of a program: a constant, a look-up in a table over digits, or a function of other steps."""

    __slots__ = ("args", "function", "result", "scope", "value")

    def __init__(self, value: Value, scope: tuple[Digit, ...], function: Any, args: tuple[int, ...]):
        self.value, self.scope, self.function, self.args = value, scope, function, args
        self.result: Column | None = None  # of a constant, or the table


class _Plan:
    """The steps of a program."""

    def __init__(self, program: Program, largest: int):
        self.program, self.largest = program, largest
        self.steps: list[_Step] = []
        self.outputs: list[int] = []
        self._known: dict[Any, int] = {}
        self._width: dict[frozenset[Digit], int] = {}
        self.entries = 0
        self.uses: Counter[int] = Counter()

    def width(self, digits: frozenset[Digit]) -> int:
        """How many joint values some digits have."""
        known = self._width.get(digits)
        if known is None:
            known = self._width[digits] = math.prod(map(self.program.size, digits))
        return known

    def step(self, value: Value) -> int:
        """The number of the step that computes a value."""
        key = (type(value), value) if isinstance(value, Expr) else id(value)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._new(value)
        return known

    def _new(self, value: Value) -> int:
        digits = self.program.digits(value)
        if not digits:
            return self._append(_Step(value, (), None, ()))
        if self.width(digits) <= self.largest or not (isinstance(value, Apply) or _inside(value)):
            return self._table(value, digits)
        if not isinstance(value, Apply):
            return self._append(_Step(value, (), _gatherer(value), tuple(map(self.step, _inside(value)))))
        args: Sequence[Value] = value.args
        if FUNCTIONS[value.function].associative and len(args) > 2:
            return self._append(_Step(value, (), value.function, tuple(self._bundled(value.function, args))))
        return self._append(_Step(value, (), value.function, tuple(map(self.step, args))))

    def _append(self, step: _Step) -> int:
        self.steps.append(step)
        return len(self.steps) - 1

    def _table(self, value: Value, digits: frozenset[Digit]) -> int:
        self.entries += self.width(digits)
        return self._append(_Step(value, tuple(sorted(digits)), None, ()))

    def _bundled(self, function: str, args: Sequence[Value]) -> Iterator[int]:
        """Arguments over decisions of the same table taken together."""
        small = [arg for arg in args if self.width(self.program.digits(arg)) <= self.largest]
        homes = self._place({self.program.digits(arg) for arg in small})
        groups: dict[frozenset[Digit], list[Value]] = {}
        for arg in small:
            groups.setdefault(homes[self.program.digits(arg)], []).append(arg)
        for home, group in groups.items():
            yield self._table(Apply(function, tuple(group)) if len(group) > 1 else group[0], home)
        for arg in args:
            if self.width(self.program.digits(arg)) > self.largest:
                yield self.step(arg)

    def _place(self, scopes: set[frozenset[Digit]]) -> dict[frozenset[Digit], frozenset[Digit]]:
        """A table's digits for each set of digits, few tables for all."""
        homes: list[frozenset[Digit]] = []
        widths: list[int] = []
        of: dict[frozenset[Digit], int] = {}
        for scope in sorted(scopes, key=lambda s: (-self.width(s), sorted(s))):
            best, least = -1, min(SHARED, self.largest) + 1
            own = self.width(scope)
            for number, (home, width) in enumerate(zip(homes, widths, strict=True)):
                if scope <= home:
                    best, least = number, width
                    break
                if max(own, width) < least and (own * width < least or not scope.isdisjoint(home)):
                    union = width * self.width(scope - home)
                    if union < least:
                        best, least = number, union
            if best < 0:
                best, least = len(homes), own
                homes.append(scope)
                widths.append(own)
            homes[best] |= scope
            widths[best] = least
            of[scope] = best
        return {scope: homes[number] for scope, number in of.items()}

    def tabulate(self) -> None:
        """Computes constants and tables, each as a program of its own over all combinations of its digits."""
        tables: dict[tuple[Digit, ...], _Grid] = {}
        states: dict[tuple[tuple[Digit, ...], bytes], State] = {}
        for step in self.steps:
            self.uses.update(step.args)
            if step.function is not None:
                continue
            if not step.scope:
                step.result = columns.constant(value_at(step.value, {}))
                continue
            grid = tables.get(step.scope)
            if grid is None:
                grid = tables[step.scope] = _Grid(self.program, step.scope)
            table = _trimmed(grid.value(step.value).spread(grid.size))
            if table.state is not None:  # one for all tables that have the same
                table = replace(table, state=states.setdefault((step.scope, table.state.tobytes()), table.state))
            step.result = table
        used = sorted({digit for step in self.steps for digit in step.scope})
        encoding = self.program.encoding
        self._plain = [digit for digit in used if encoding.decisions[digit[0]].kind in ("choice", "order")]
        self._others = [digit for digit in used if digit not in set(self._plain)]
        self._columns = np.asarray([encoding.columns[path].start + part for path, part in self._plain], np.intp)
        self._tops = np.asarray([self.program.size(digit) - 1 for digit in self._plain], np.int64)

    def read(self, chunk: Matrix) -> dict[Digit, NDArray[np.signedinteger[Any]]]:
        """The digits of every row.

        Raises:
            ArgumentError: an entry that is no value of its decision.
        """
        dtype = _digit_type(int(self._tops.max(initial=1)) + 1)
        plain = np.empty((len(self._columns), len(chunk)), dtype)
        np.add(chunk.take(self._columns, axis=1).T, 1, out=plain, casting="same_kind", dtype=dtype)
        digits = dict(zip(self._plain, plain, strict=True))
        if len(chunk):
            wrong = (plain.min(axis=1) < 0) | (plain.max(axis=1) > self._tops)
            if wrong.any():
                path, _ = self._plain[int(wrong.argmax())]
                raise ArgumentError(f"the matrix has entries that are no value of `{path}`")
        encoding = self.program.encoding
        for digit in self._others:
            path, part = digit
            columns = encoding.columns[path]
            block = chunk[:, columns]
            if encoding.decisions[path].kind == "units":
                own = kept(block) + 1
                if len(own) and own.max() >= self.program.size(digit):
                    raise ArgumentError(f"the matrix has entries that are no value of `{path}`")
            else:
                own = (block == part).any(axis=1) + np.int32(1)
                if is_empty(encoding.decisions[path]):
                    own[:] = 1
            own[block[:, 0] == ABSENT] = 0
            digits[digit] = own
        return digits


def _gatherer(value: Value) -> Any:
    if isinstance(value, tuple):
        return lambda *parts: parts
    keys = tuple(value)
    return lambda *parts: dict(zip(keys, parts, strict=True))


def _trimmed(table: Column) -> Column:
    """Arrays of their own, with the bounds and the scale that occur, without a state where all entries have a value."""
    state = table.state if table.state is not None and table.state.any() else None
    values = np.array(table.values)
    low, high = table.low, table.high
    scale = table.scale
    if table.kind == "number":
        if scale != 1:
            common = math.gcd(scale, int(np.gcd.reduce(values)))
            if values.any():  # zeros have common divisors beyond 64 bits
                values = values // common
            scale //= common
        low, high = int(values.min()), int(values.max())
    return replace(
        table, values=values, scale=scale, low=low, high=high, state=None if state is None else np.array(state)
    )


def _applied(function: Any, args: Sequence[Column]) -> Column:
    return columns.apply(function, args) if isinstance(function, str) else columns.by_cases(function, args)


class _Grid:
    """All combinations of some digits, one row each."""

    def __init__(self, program: Program, scope: tuple[Digit, ...]):
        self.program = program
        sizes = [program.size(digit) for digit in scope]
        self.size = math.prod(sizes)
        self._numbers = dict(zip(scope, (axis.ravel() for axis in np.indices(sizes)), strict=True))
        self._known: dict[Any, Column] = {}

    def value(self, value: Value) -> Column:
        key = (type(value), value) if isinstance(value, Expr) else id(value)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._new(value)
        return known

    def _new(self, value: Value) -> Column:
        digits = self.program.digits(value)
        if not digits:
            return columns.constant(value_at(value, {}))
        if isinstance(value, Apply):
            return _applied(value.function, [self.value(arg) for arg in value.args])
        if not isinstance(value, Expr):
            return _applied(_gatherer(value), [self.value(part) for part in _inside(value)])
        (digit,) = digits
        numbers = range(self.program.size(digit))
        readings = [value_at(value, _reading(self.program.encoding, digit, number)) for number in numbers]
        return columns.column(readings).take(self._numbers[digit])


class _Run:
    """A program at work on one chunk of rows."""

    def __init__(self, plan: _Plan, chunk: Matrix):
        self.plan, self.chunk = plan, chunk
        self._digits = plan.read(chunk)
        self._codes: dict[tuple[Digit, ...], NDArray[np.intp]] = {}
        self._states: dict[int, State | None] = {}
        self._done: dict[int, Column] = {}
        self._uses = plan.uses.copy()

    def value(self, number: int) -> Column:
        known = self._done.get(number)
        if known is None:
            step = self.plan.steps[number]
            if step.function is not None:
                known = _applied(step.function, [self.value(arg) for arg in step.args])
            else:
                assert step.result is not None
                known = self._look_up(step.result, step.scope) if step.scope else step.result
            if self._uses[number] > 1:
                self._done[number] = known
        self._uses[number] -= 1
        if self._uses[number] == 0:
            self._done.pop(number, None)
        return known

    def _look_up(self, table: Column, scope: tuple[Digit, ...]) -> Column:
        codes = self.codes(scope)
        state: State | None = None
        if table.state is not None:  # mostly one for several tables, and nothing is missing
            key = id(table.state)
            if key not in self._states:
                state = table.state.take(codes, mode="clip")
                self._states[key] = state if state.any() else None
            state = self._states[key]
        return replace(table, values=table.values.take(codes, mode="clip"), state=state)

    def codes(self, scope: tuple[Digit, ...]) -> NDArray[np.intp]:
        """The mixed-radix number of some digits in every row."""
        known = self._codes.get(scope)
        if known is None:
            code = self._digits[scope[0]].astype(_digit_type(self.plan.width(frozenset(scope))))
            for digit in scope[1:]:
                code *= self.plan.program.size(digit)
                code += self._digits[digit]
            known = self._codes[scope] = code.astype(np.intp)
        return known


def _digit_type(size: int) -> type[np.signedinteger[Any]]:
    """The quickest type that counts so far."""
    return np.int16 if size < 1 << 15 else np.int32 if size < 1 << 31 else np.int64


def kept(block: Matrix) -> NDArray[np.int32]:
    """[n]: how many units are kept, of columns [n, units] of 0 and 1."""
    return np.add.reduce(block, axis=1, dtype=np.int32)  # twice as fast as with 64 bits
