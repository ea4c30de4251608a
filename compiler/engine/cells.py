"""Cells: classes of values of one decision that no factor tells apart, each with its exact size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nasdsl.compiler.decision import Decision
from nasdsl.compiler.engine.limits import TooWide, spend
from nasdsl.compiler.values.expr import Value
from nasdsl.compiler.values.plain import ABSENT, FAULT
from nasdsl.compiler.values.tree import Apply, Expr, Has, Kept, Remembering, Slot, value_at

MOST_PATTERNS = 40_000  # of one subset or order
MOST_BITS = 1 << 32  # of the sizes of all cells of one decision
WIDE = 64  # units of which expressions are evaluated for all widths at once
FEW = 16  # binomial coefficients that are worked out one by one


@dataclass(frozen=True)
class Patterns:
    """Values of a subset or an order, described by the part that factors mention.

    Subset: `mentioned` items, and for each pattern those of them that are in. Order: `mentioned` positions, `kinds[i]`
    of each item (items of one kind look alike to all factors), and for each pattern the kinds at these positions.
    """

    mentioned: tuple[int, ...]
    kinds: tuple[int, ...]
    patterns: tuple[tuple[int, ...], ...]


@dataclass
class Cell:
    """Values of one decision that no factor tells apart.

    Attributes:
        value: one of them, the best where there is a cost; ABSENT in the cell of absence. Of units those that are kept
            may be a range.
        members: options of a choice, intervals (first, last) of kept counts of units, or Patterns.
        cost: of the best value.
        size: how many values, or what tells.
    """

    value: Any
    members: Any
    cost: Any = 0
    size: int | Callable[[], int] = 1

    @property
    def whole(self) -> Any:
        """The value as architectures have it."""
        return tuple(self.value) if isinstance(self.value, range) else self.value

    @property
    def count(self) -> int:
        """How many values. Of wide units that takes long to say, and few ask."""
        if not isinstance(self.size, int):
            self.size = self.size()
        return self.size


def _mentioned(values: Iterable[Value], kind: type[Expr]) -> list[Any]:
    found: dict[Expr, None] = {}
    stack = list(values)
    seen: set[int] = set()
    while stack:
        value = stack.pop()
        if isinstance(value, kind):
            found.setdefault(value)
        elif isinstance(value, Expr) and id(value) not in seen:
            seen.add(id(value))
            stack.extend(value.children())
    return list(found)


def _units_intervals(n: int, atoms: Iterable[Value]) -> Iterator[tuple[int, int]]:
    """Intervals of kept counts on which all atoms are constant; single counts where their form does not tell."""
    cuts = {0}
    for atom in atoms:
        bound = None
        if isinstance(atom, Apply) and atom.function in ("lt", "le", "eq") and len(atom.args) == 2:
            a, b = atom.args
            bound = b if isinstance(a, Kept) else a if isinstance(b, Kept) else None
        if not isinstance(bound, int):
            yield from ((k, k) for k in range(n + 1))
            return
        cuts |= {k for k in (bound, bound + 1) if 0 < k <= n}
    firsts = sorted(cuts)
    yield from zip(firsts, [first - 1 for first in firsts[1:]] + [n], strict=True)


def _slope(term: Value) -> Any:
    """The factor a of a term a * kept, or None for a term of another form."""
    if isinstance(term, Kept):
        return 1
    if isinstance(term, Apply) and term.function == "mul" and len(term.args) == 2 and isinstance(term.args[1], Kept):
        return None if isinstance(term.args[0], Expr) else term.args[0]
    return None


def completions(remaining: Mapping[Any, int], kinds: Mapping[Any, int], pattern: Sequence[int]) -> int:
    """In how many orders of words (each `remaining` times) the next positions show the kinds of `pattern`."""
    free = sum(remaining.values()) - len(pattern)
    total = math.factorial(free)
    left: dict[int, int] = {}
    for word, times in remaining.items():
        left[kinds[word]] = left.get(kinds[word], 0) + times
    for kind in pattern:
        total *= left.get(kind, 0)
        if not total:
            return 0
        left[kind] -= 1
    for times in remaining.values():
        total //= math.factorial(times)
    return total


def words_of(decision: Decision, kinds: Sequence[int]) -> tuple[dict[Any, int], dict[Any, int], dict[Any, list[int]]]:
    """Of an order: how often each different item stands in it, its kind, and its indices."""
    times: dict[Any, int] = {}
    kind: dict[Any, int] = {}
    indices: dict[Any, list[int]] = {}
    for i, item in enumerate(decision.items):
        times[item] = times.get(item, 0) + 1
        kind.setdefault(item, kinds[i] if kinds else 0)
        indices.setdefault(item, []).append(i)
    return times, kind, indices


def first_order(decision: Decision, members: Patterns, pattern: tuple[int, ...]) -> tuple[int, ...]:
    """An order that shows the pattern."""
    at: dict[int, int] = {}
    left = list(range(decision.n))
    for position, kind in zip(members.mentioned, pattern, strict=True):
        at[position] = next(i for i in left if members.kinds[i] == kind)
        left.remove(at[position])
    return tuple(at[p] if p in at else left.pop(0) for p in range(decision.n))


def first_subset(decision: Decision, members: Patterns, pattern: tuple[int, ...]) -> tuple[int, ...]:
    """A subset that contains of the mentioned items those of the pattern."""
    others = [i for i in range(decision.n) if i not in members.mentioned]
    return tuple(sorted((*pattern, *others[: decision.size - len(pattern)])))


def _subset_patterns(decision: Decision, mentioned: tuple[int, ...]) -> list[tuple[tuple[int, ...], int]]:
    others = decision.n - len(mentioned)
    sizes = range(max(0, decision.size - others), min(decision.size, len(mentioned)) + 1)
    width = sum(math.comb(len(mentioned), j) for j in sizes)
    if width > MOST_PATTERNS:
        raise TooWide(f"the subset `{decision.path}`", width, MOST_PATTERNS, (decision.path,))
    return [(p, math.comb(others, decision.size - j)) for j in sizes for p in itertools.combinations(mentioned, j)]


def _order_patterns(
    decision: Decision, kinds: tuple[int, ...], mentioned: tuple[int, ...]
) -> list[tuple[tuple[int, ...], int]]:
    times, kind, _ = words_of(decision, kinds)
    left: dict[int, int] = {}
    for word, number in times.items():
        left[kind[word]] = left.get(kind[word], 0) + number
    found: list[tuple[int, ...]] = [()]
    for _ in mentioned:
        found = [(*p, k) for p in found for k in left if p.count(k) < left[k]]
        if len(found) > MOST_PATTERNS:
            bound = math.perm(decision.n, len(mentioned))
            raise TooWide(f"the order `{decision.path}`", bound, MOST_PATTERNS, (decision.path,))
    return [(p, completions(times, kind, p)) for p in found]


def _candidates(
    decision: Decision, atoms: Sequence[Value], costs: Sequence[Value], whole: Patterns
) -> Iterator[tuple[Any, Any, int]]:
    """(value, member, how many values it stands for), fine enough for atoms and costs to be constant on each."""
    if decision.kind == "choice":
        yield from ((option, option, 1) for option in range(decision.n))
    elif decision.kind == "units":
        if costs and not all(_slope(term) is not None for term in costs):
            intervals: Iterable[tuple[int, int]] = ((k, k) for k in range(decision.n + 1))
        else:
            intervals = _units_intervals(decision.n, atoms)
        for first, last in intervals:
            yield range(first), (first, last), 0  # counted when the cell is complete
            if costs and last > first:  # a linear cost is extreme at an end
                yield range(last), None, 0
    elif decision.kind == "subset":
        for pattern, number in _subset_patterns(decision, whole.mentioned):
            yield first_subset(decision, whole, pattern), pattern, number
    else:
        for pattern, number in _order_patterns(decision, whole.kinds, whole.mentioned):
            yield first_order(decision, whole, pattern), pattern, number


def _template(decision: Decision, expressions: Sequence[Value]) -> Patterns:
    """What the expressions mention of a subset or an order, without any pattern yet."""
    if decision.kind not in ("subset", "order"):
        return Patterns((), (), ())
    if decision.kind == "subset":
        return Patterns(tuple(sorted({leaf.item for leaf in _mentioned(expressions, Has)})), (), ())
    slots = _mentioned(expressions, Slot)
    looks = [tuple(leaf.values[i] for leaf in slots) for i in range(decision.n)]
    return Patterns(tuple(sorted({leaf.position for leaf in slots})), tuple(looks.index(look) for look in looks), ())


def cells_of(
    decision: Decision,
    atoms: Sequence[Value],
    costs: Sequence[Value] = (),
    better: Callable[[Any, Any], Any] | None = None,
) -> tuple[list[Cell], list[list[Any]]]:
    """The cells of a decision, that of absence last where it can be absent, and the value of each atom in each cell."""
    found: dict[tuple[Any, ...], Cell] = {}
    whole = _template(decision, (*atoms, *costs))
    read = _reader(decision, atoms, costs)
    for value, member, count in _candidates(decision, atoms, costs, whole):
        key, cost = read(value)
        cell = found.get(key)
        if cell is None:
            cell = found[key] = Cell(value, [], cost, 0)
        elif better is not None and _improves(cost, cell.cost, better):
            cell.value, cell.cost = value, cost
        cell.size = cell.count + count
        if member is not None:
            cell.members.append(member)
    out = list(found.values())
    if decision.kind == "units":
        _count_units(decision, out)
    elif decision.kind in ("subset", "order"):
        for cell in out:
            cell.members = Patterns(whole.mentioned, whole.kinds, tuple(cell.members))
    table = [list(column) for column in zip(*found, strict=True)] if atoms else []
    if decision.present is not True:
        out.append(Cell(ABSENT, ()))
        for column, atom in zip(table, atoms, strict=True):
            column.append(value_at(atom, {}))
        out[-1].cost = _cost_of(costs, {})
    return out, table


def _reader(
    decision: Decision, atoms: Sequence[Value], costs: Sequence[Value]
) -> Callable[[Any], tuple[tuple[Any, ...], Any]]:
    """Of a value of a decision what each atom comes to, and the cost."""
    if decision.kind == "units" and decision.n >= WIDE:
        from nasdsl.compiler.engine.widths import at_widths  # brings numpy, which few checks need

        spend(decision.n // 8)
        columns = at_widths(decision.n, (*atoms, *costs))
        own, charged = columns[: len(atoms)], columns[len(atoms) :]
        return lambda kept: (tuple([c[len(kept)] for c in own]), _sum([c[len(kept)] for c in charged]))

    def read(value: Any) -> tuple[tuple[Any, ...], Any]:
        here = Remembering({decision.path: value})
        return tuple([value_at(atom, here) for atom in atoms]), _cost_of(costs, here)

    return read


def _improves(cost: Any, known: Any, better: Callable[[Any, Any], Any]) -> bool:
    return cost is not FAULT and (known is FAULT or bool(better(cost, known) == cost != known))


def _cost_of(costs: Sequence[Value], here: Mapping[str, Any]) -> Any:
    return _sum([value_at(term, here) for term in costs])


def _sum(values: Sequence[Any]) -> Any:
    total: Any = 0
    for value in values:
        if value is FAULT:
            return FAULT
        if value is not ABSENT:
            total = total + value
    return total


def ends_of_cells(
    decision: Decision,
    asked: Sequence[Value],
    charged: Sequence[Value],
    costs: Sequence[Value],
    end: Callable[[Iterable[int]], int],
) -> tuple[list[Cell], list[list[Any]]]:
    """The cells by the atoms of requirements alone, each represented by an end: units by their least or greatest width,
    a choice by its first or last option."""
    cells, table = cells_of(decision, asked)
    values: list[dict[str, Any]] = []
    for cell in cells:
        if cell.value is not ABSENT and decision.kind == "units":
            cell.value = range(end(k for interval in cell.members for k in interval))
        elif cell.value is not ABSENT:
            cell.value = end(cell.members)
        values.append({} if cell.value is ABSENT else {decision.path: cell.value})
        cell.cost = _cost_of(costs, values[-1])
    return cells, table + [[value_at(atom, here) for here in values] for atom in charged]


def _count_units(decision: Decision, cells: list[Cell]) -> None:
    """Sizes of the cells, worked out together when the first is asked for."""
    sizes: list[int] = []

    def size(number: int) -> int:
        if not sizes:
            sizes.extend(_sizes(decision, cells))
        return sizes[number]

    for number, cell in enumerate(cells):
        cell.size = partial(size, number)


def _sizes(decision: Decision, cells: list[Cell]) -> list[int]:
    """How many subsets of n units each cell has; that of the widest one is what the others leave of 2^n.

    Raises:
        TooWide: the numbers alone would take too much.
    """
    n = decision.n
    spend(n * min(len(cells), n) >> 16)
    if n * len(cells) > MOST_BITS:
        raise TooWide(f"`{decision.path}` of {n:,} units", n * len(cells), MOST_BITS, (decision.path,))
    widths = [sum(last - first + 1 for first, last in cell.members) for cell in cells]
    widest = widths.index(max(widths))
    sizes = [0] * len(cells)
    if sum(widths) - widths[widest] < FEW:
        for number, cell in enumerate(cells):
            if number != widest:
                sizes[number] = sum(math.comb(n, k) for first, last in cell.members for k in range(first, last + 1))
    else:
        of = {
            k: number
            for number, cell in enumerate(cells)
            for first, last in cell.members
            for k in range(first, last + 1)
        }
        choose = 1
        for k in range(n + 1):  # each from the one before: from nothing, a number takes as long as all of them so
            sizes[of[k]] += choose
            choose = choose * (n - k) // (k + 1)
        sizes[widest] = 0
    sizes[widest] = (1 << n) - sum(sizes)
    return sizes


def structure(value: Value) -> Any:
    """The structure of an expression over one decision, whatever the decision is called."""
    if isinstance(value, Apply):
        return (value.function, *map(structure, value.args))
    if isinstance(value, Expr):
        return (type(value).__name__, *[getattr(value, name) for name in value.__match_args__ if name != "path"])
    return (type(value).__name__, value)
